//! The messages of a chat, read from its log: the newest version of each that is still retained.

use std::collections::HashMap;

use serde::Deserialize;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Event, EventId, From, Hub, LogError, PageLimit, Verdict};

use crate::keys::{Channel, kind};
use crate::objects::{Message, data, parse_time};

/// Bytes of the messages that are answered at a time; of a chat with more, the newest. A busy hour
/// of two people has less than one.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// How often a reading begins anew that the end of the retention overtakes.
const RESTARTS_MAX: usize = 3;

/// One version of a message, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) event: EventId,
    pub(crate) id: String,
    created: String,
    /// Milliseconds since 1970.
    pub(crate) updated_ms: u64,
    /// The whole message as JSON, with `chatId`.
    pub(crate) data: Bytes,
}

impl Version {
    /// Of an event of a channel, if it is a message.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            id: String,
            created: String,
            updated: String,
        }
        if &*event.kind != kind::MESSAGE {
            return None;
        }
        let head: Head = serde_json::from_slice(&event.data).ok()?;
        Some(Self {
            event: event.id,
            id: head.id,
            updated_ms: parse_time(&head.updated).unwrap_or(event.id.ms()),
            created: head.created,
            data: event.data.clone(),
        })
    }

    pub(crate) fn message(&self) -> Option<Message> {
        Message::parse(&self.data)
    }
}

/// What a channel's log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    /// The newest version of each, by the time of the first.
    pub(crate) newest: Vec<Version>,
    /// The end of the log: where a stream goes on.
    pub(crate) end: EventId,
}

impl Messages {
    /// What is answered to whoever asks for all messages.
    pub(crate) fn answer(&self) -> String {
        let all = list(self.newest.iter().map(|one| &*one.data));
        data("cs_get_messages_by_chat_id", &all)
    }
}

/// A JSON list of JSON texts.
pub(crate) fn list<T: AsRef<[u8]>>(texts: impl Iterator<Item = T>) -> String {
    let mut all = String::from("[");
    for (index, text) in texts.enumerate() {
        if index > 0 {
            all.push(',');
        }
        all.push_str(&String::from_utf8_lossy(text.as_ref()));
    }
    all.push(']');
    all
}

/// Every retained message of a channel.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn of_chat(hub: &Hub, channel: &Channel) -> Result<Messages, LogError> {
    let (versions, end) = versions(hub, channel).await?;
    Ok(newest(versions, end))
}

/// Every retained version of one message, oldest first.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn find(hub: &Hub, channel: &Channel, id: &str) -> Result<Vec<Version>, LogError> {
    let (mut versions, _) = versions(hub, channel).await?;
    versions.retain(|one| one.id == id);
    Ok(versions)
}

/// All versions, oldest first, and the end of the log.
async fn versions(hub: &Hub, channel: &Channel) -> Result<(Vec<Version>, EventId), LogError> {
    let topic = channel.topic();
    let (mut versions, mut bytes, mut from) = (Vec::<Version>::new(), 0, From::Oldest);
    let mut restarts = 0;
    loop {
        let page = hub.read(&topic, from, PageLimit::default()).await?;
        if page.verdict != Verdict::Ok {
            // The place expired between two pages: from the beginning.
            restarts += 1;
            if restarts > RESTARTS_MAX {
                return Err(LogError::Unavailable("it goes while it is read".into()));
            }
            (versions, bytes, from) = (Vec::new(), 0, From::Oldest);
            continue;
        }
        for printed in &page.events {
            if let Some(version) = Version::of(printed.event()) {
                bytes += version.data.len();
                versions.push(version);
            }
        }
        let mut surplus = 0;
        while bytes > BYTES_MAX && surplus < versions.len() {
            bytes -= versions[surplus].data.len();
            surplus += 1;
        }
        versions.drain(..surplus);
        if page.at_end {
            return Ok((versions, page.next));
        }
        from = From::After(page.next);
    }
}

fn newest(versions: Vec<Version>, end: EventId) -> Messages {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut newest: Vec<Version> = Vec::new();
    for version in versions {
        match places.get(&version.id) {
            Some(at) => newest[*at] = version,
            None => {
                places.insert(version.id.clone(), newest.len());
                newest.push(version);
            }
        }
    }
    // A version whose first one is gone stands where that stood; times of one form sort as text.
    newest.sort_by(|a, b| a.created.cmp(&b.created));
    Messages { newest, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(seq: u16, id: &str, created: &str, event: &str) -> Version {
        let data = json!({"id": id, "created": created, "updated": created, "event": event});
        let event = Event {
            id: EventId::new(1_700_000_000_000, seq).expect("in range"),
            prev: tidings_adapter::Prev::Unknown,
            topic: Channel::chat_list().topic(),
            kind: kind::MESSAGE.into(),
            data: data.to_string().into(),
            attributes: None,
        };
        Version::of(&event).expect("a message")
    }

    #[test]
    fn the_newest_versions_stand_in_the_order_of_the_first() {
        let all = vec![
            version(1, "b", "2023-01-18T12:56:52.895+00:00", "ask-permission"),
            version(2, "c", "2023-01-18T12:56:53.895+00:00", ""),
            version(
                3,
                "b",
                "2023-01-18T12:56:52.895+00:00",
                "ask-permission-accepted",
            ),
            version(4, "a", "2023-01-18T12:56:51.895+00:00", ""),
        ];
        let found = newest(all, EventId::ORIGIN);
        let ids: Vec<(&str, u16)> = found
            .newest
            .iter()
            .map(|one| (one.id.as_str(), one.event.seq()))
            .collect();
        assert_eq!(ids, [("a", 4), ("b", 3), ("c", 2)]);
        let answer = found.answer();
        assert!(answer.contains(r#"_id":[{"#) && answer.contains("accepted"));
        let nothing = newest(Vec::new(), EventId::ORIGIN).answer();
        assert!(nothing.contains(r#""cs_get_messages_by_chat_id":[]"#));
    }
}
