//! In which chats a message id was used: clients name a message alone when they give it new words.
//!
//! Noted before the message is stored, in a partition of its own: an entry that leads to a chat
//! without the message does no harm, the reverse would hide it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_adapter::{Command, Decision, Hub, LogError, RecordKind, State, Trigger};

use crate::keys::{self, Channel};

/// How long an entry lives: beyond an hour nothing is retained that it could lead to.
const LIFETIME: Duration = Duration::from_secs(2 * 3600);

/// Chats of one id, the newest first. More than one is a client's mistake, or a try that came to
/// nothing; no honest one is crowded out by the others' guessing a random id.
const CHATS_MAX: usize = 4;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Entry(Vec<String>);

/// Notes that a message is (about to be) in a chat.
pub(crate) fn command(message: &str, chat: &Channel) -> Command {
    Command {
        kind: keys::record::MESSAGE.into(),
        placement_key: keys::message_key(message).into(),
        records: vec![keys::message(message)],
        body: chat.as_str().as_bytes().to_vec().into(),
    }
}

/// The chats in which a message may be.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn chats_of(hub: &Hub, message: &str) -> Result<Vec<Channel>, LogError> {
    let place = keys::message_key(message);
    let mut loaded = hub.load(&place, vec![keys::message(message)]).await?;
    let record = loaded.pop().flatten();
    let entry: Entry = record
        .and_then(|record| serde_json::from_slice(&record.document).ok())
        .unwrap_or_default();
    Ok(entry.0.iter().filter_map(|id| Channel::parse(id)).collect())
}

/// Decides notes.
#[derive(Debug)]
pub(crate) struct Notes;

impl RecordKind for Notes {
    fn name(&self) -> &'static str {
        keys::record::MESSAGE
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, _now_ms: u64) -> Decision {
        let (Trigger::Command(chat), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let chat = String::from_utf8_lossy(chat).into_owned();
        let mut entry: Entry = document
            .and_then(|text| serde_json::from_slice(text).ok())
            .unwrap_or_default();
        if entry.0.first() == Some(&chat) {
            return Decision::default();
        }
        entry.0.retain(|one| *one != chat);
        entry.0.insert(0, chat);
        entry.0.truncate(CHATS_MAX);
        let mut decision = Decision::default();
        let document = serde_json::to_vec(&entry).unwrap_or_default();
        decision.put(key.clone(), document, Some(LIFETIME));
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chats_are_kept_newest_first() {
        let key = keys::message("m");
        let decide = |document: Option<&str>, chat: &str| {
            let document = document.map(|text| text.to_owned().into());
            let state = [(key.clone(), document)];
            let decision = Notes.decide(&State::new(&state), Trigger::Command(chat.as_bytes()), 0);
            let put = decision.puts.first()?;
            Some(String::from_utf8_lossy(&put.document).into_owned())
        };
        assert_eq!(decide(None, "a").as_deref(), Some(r#"["a"]"#));
        assert_eq!(decide(Some(r#"["a"]"#), "a"), None);
        assert_eq!(
            decide(Some(r#"["a"]"#), "b").as_deref(),
            Some(r#"["b","a"]"#)
        );
        assert_eq!(
            decide(Some(r#"["a","b","c","d"]"#), "c").as_deref(),
            Some(r#"["c","a","b","d"]"#)
        );
        assert_eq!(
            decide(Some(r#"["a","b","c","d"]"#), "e").as_deref(),
            Some(r#"["e","a","b","c"]"#)
        );
        assert_eq!(decide(Some("garbage"), "a").as_deref(), Some(r#"["a"]"#));
    }
}
