//! Chats: what changes together with a chat's events, decided in the order of its log.
//!
//! One record holds the chat as it is printed; another, in the same partition, its place in the queue.
//! A change writes both, the message that says so, and nudges for those who watch lists, in one
//! commit. What a message's `event` says never changes a chat: the endpoint does.

mod change;
mod fields;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_adapter::{Command, Decision, Hub, LogError, RecordKey, RecordKind, State, Trigger};

use crate::answer::Refusal;
use crate::keys::{self, Channel};
use crate::messages::list;
use crate::objects::{Chat, Message, Status, data};

pub(crate) use change::changed;

use change::Scene;

/// Chats of one list: as many as a listing brings.
const ACTIVE_MAX: usize = 10_000;

/// A chat's record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) chat: Chat,
    /// When it was made, milliseconds since 1970: its rank among the active ones.
    pub(crate) created_ms: u64,
    /// The time of its last event; the next one's is later, so that "strictly later" leaves none out.
    pub(crate) last_ms: u64,
    /// When a page last took back that the chat is to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spared_ms: Option<u64>,
}

impl Record {
    /// A stored one.
    pub(crate) fn parse(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok()
    }

    pub(crate) fn ended(&self) -> bool {
        self.chat.status == Status::Ended
    }

    /// What is answered to whoever asks for the chat.
    pub(crate) fn answer(&self) -> String {
        data("get_chat_by_id", &self.chat.json())
    }

    fn json(&self) -> String {
        // Texts and numbers.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A chat as it is now.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn load(hub: &Hub, channel: &Channel) -> Result<Option<Record>, LogError> {
    let topic = channel.topic();
    let mut loaded = hub.load(topic.as_str(), vec![keys::chat(channel)]).await?;
    let record = loaded.pop().flatten();
    Ok(record.and_then(|record| Record::parse(&record.document)))
}

/// What is answered to whoever asks which chats have not ended: all of them, the oldest first.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn active(hub: &Hub) -> Result<String, LogError> {
    let listed = hub.list(keys::record::CHAT, keys::index::ACTIVE, ACTIVE_MAX);
    let listed = listed.await?;
    if !listed.complete {
        tracing::warn!("more chats are active than are listed");
    }
    let records = listed.entries.iter();
    let records = records.filter_map(|one| Record::parse(&one.record.document));
    let chats = list(records.map(|record| record.chat.json()));
    Ok(data("get_all_active_chats", &chats))
}

/// What is asked of a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// It begins, with its first message.
    Init { chat: Box<Chat>, said: Said },
    /// Somebody says something; perhaps the chat changes with it.
    Post { said: Said, change: Change },
    /// A message gets new words; it is heard again, under its own id.
    Replace { message: Message },
    /// An agent takes it.
    Claim { owner: Owner },
    /// It (or what is no chat at all) waits, if it does not yet.
    Enqueue,
    /// It waits no more.
    Dequeue,
    /// It ends after this time.
    Terminate { after_ms: u64 },
    /// It does not end, after all.
    Spare,
}

/// A message that is new.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Without `created` and `updated`.
    pub(crate) message: Message,
    /// Its id is its author's: said again, it is the same message.
    #[serde(default)]
    pub(crate) given: bool,
    /// Where the message is has not been noted yet.
    #[serde(default)]
    pub(crate) unnoted: bool,
    /// W3C trace context.
    #[serde(default)]
    pub(crate) trace: Option<String>,
}

/// What changes with a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    #[default]
    Nothing,
    End,
    Redirect(Owner),
    /// The end user is known now: id, first and last name.
    Login(Option<String>, Option<String>, Option<String>),
}

/// Whose a chat becomes. What is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) forwarded_by_user: Option<String>,
    pub(crate) forwarded_from_csa: Option<String>,
    pub(crate) forwarded_to_csa: Option<String>,
}

/// What a command came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// `created` (or `updated`) of its message, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// The chat as it is now, if there is one.
    pub(crate) chat: Option<Chat>,
}

impl Done {
    /// A decision's answer: JSON, or the words of a refusal.
    pub(crate) fn parse(answer: &[u8]) -> Result<Self, Refusal> {
        if let Ok(done) = serde_json::from_slice(answer) {
            return Ok(done);
        }
        let words = String::from_utf8_lossy(answer);
        let refusals = [&change::UNKNOWN, &change::ENDED, &change::TOO_LARGE];
        let known = refusals.into_iter().find(|one| one.words() == words);
        known.map_or(Err(Refusal::Away), |one| Err(one.clone()))
    }
}

/// A command to a chat.
pub(crate) fn command(channel: &Channel, ask: &Ask) -> Command {
    Command {
        kind: keys::record::CHAT.into(),
        placement_key: channel.topic().as_str().into(),
        records: vec![keys::chat(channel), keys::waiting(channel)],
        // Texts and JSON values.
        body: serde_json::to_vec(ask).unwrap_or_default().into(),
    }
}

/// How chats decide.
#[derive(Debug, Clone)]
pub(crate) struct Chats {
    /// Of one that has not ended, from its last change on.
    pub(crate) open: Duration,
    /// Of one that has.
    pub(crate) ended: Duration,
}

impl RecordKind for Chats {
    fn name(&self) -> &'static str {
        keys::record::CHAT
    }

    fn indexes(&self) -> &'static [&'static str] {
        &[keys::index::ACTIVE]
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let Some((key, document)) = state.first() else {
            return Decision::default();
        };
        let Some(channel) = Channel::parse(&key.id) else {
            return Decision::default();
        };
        let Some(waiting) = state.get(&keys::waiting(&channel)) else {
            return Decision::load(keys::waiting(&channel));
        };
        let scene = Scene {
            kind: self,
            record: document.and_then(|text| Record::parse(text)),
            since_ms: waiting.map(|text| Place::parse(text).since_ms),
            channel,
            now_ms,
        };
        match trigger {
            Trigger::Command(body) => match serde_json::from_slice(body) {
                Ok(ask) => scene.decide(ask),
                Err(_) => Decision::answer("the command cannot be read"),
            },
            Trigger::Deadline { .. } => scene.terminate(),
            Trigger::OwnerLost { .. } => Decision::default(),
        }
    }
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Since when: its rank.
    pub(crate) since_ms: u64,
}

impl Place {
    fn parse(document: &[u8]) -> Self {
        serde_json::from_slice(document).unwrap_or_default()
    }
}

/// Places in the queue: decided with their chats, so that this decides nothing.
#[derive(Debug)]
pub(crate) struct Places;

impl RecordKind for Places {
    fn name(&self) -> &'static str {
        keys::record::WAITING
    }

    fn indexes(&self) -> &'static [&'static str] {
        &[keys::index::WAITING]
    }

    fn decide(&self, _: &State<'_>, _: Trigger<'_>, _: u64) -> Decision {
        Decision::default()
    }
}

/// The name of the deadline at which a chat ends that a page left.
pub(crate) const TERMINATE: &str = "terminate";

/// What a chat's key and a place's have in common: kinds are hosted together.
pub(crate) fn kinds(open: Duration, ended: Duration) -> Vec<Arc<dyn RecordKind>> {
    vec![Arc::new(Chats { open, ended }), Arc::new(Places)]
}

/// The key under which everything of a channel stands.
fn place_key(channel: &Channel) -> RecordKey {
    keys::waiting(channel)
}

#[cfg(test)]
mod tests;
