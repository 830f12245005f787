//! Channels: what changes together with a channel's events, decided in the order of its log.
//!
//! Who hears an event is decided by where it stands: a member hears what lies between the event
//! that made him one and the event that ended it. So a post writes its message, its author's mark
//! and the channel's count, and nothing per member.

mod ask;
mod client;
mod life;
mod messages;
mod roster;
mod unread;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidings_adapter::{Attributes, Decision, Draft, RecordKey, RecordKind, State, Trigger};

use crate::answer::{Refusal, done, refused, to_json};
use crate::ingest::{Drafted, drafted};
use crate::keys;
use crate::objects::Profile;
use crate::runs::Runs;

pub(crate) use ask::{Ask, command};
pub(crate) use messages::New;
pub(crate) use roster::ENROL_MAX;

/// A channel's own record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Channel {
    /// The Channel object without what is derived.
    pub(crate) fields: Map<String, Value>,
    /// Made by this; stands at the event that opens it.
    pub(crate) nonce: String,
    #[serde(default)]
    pub(crate) state: Standing,
    /// How many members stand on each page of the roster.
    #[serde(default)]
    pub(crate) pages: Vec<usize>,
}

/// Where in its life a channel is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Its first members are being written.
    #[default]
    Making,
    Open,
    /// Removed; its members are being told.
    Removed,
}

/// What every post counts up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    /// The number of the last message that counts as unread.
    #[serde(default)]
    pub(crate) last: u64,
    /// Those that were deleted.
    #[serde(default)]
    pub(crate) deleted: Runs,
    /// The last message of any kind; 0: none.
    #[serde(default)]
    pub(crate) latest: u64,
    /// Seconds since 1970.
    #[serde(default)]
    pub(crate) active: u64,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) profile: Profile,
    /// Stands at the event that made him one.
    pub(crate) nonce: String,
    pub(crate) page: usize,
    /// Everything up to here is read, or was before he came.
    #[serde(default)]
    pub(crate) mark: u64,
    /// What is read beyond it, and what he wrote himself.
    #[serde(default)]
    pub(crate) read: Runs,
    #[serde(default)]
    pub(crate) online: bool,
    /// Of his presence, as far as it is known here.
    #[serde(default)]
    pub(crate) version: u64,
    #[serde(default)]
    pub(crate) active: u64,
}

/// Somebody who becomes a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) profile: Profile,
    pub(crate) online: bool,
    pub(crate) version: u64,
    pub(crate) active: u64,
}

/// What the whole dialect goes by here.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    pub(crate) typing: Duration,
    /// How long messages can be read, edited and reacted to.
    pub(crate) messages: Duration,
    /// How long an operation's result is remembered.
    pub(crate) remembered: Duration,
}

/// Why a decision ends early.
enum Stop {
    Load(Vec<RecordKey>),
    Refuse(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// One decision under way.
struct Desk<'a> {
    rules: &'a Channels,
    state: State<'a>,
    id: u64,
    now_ms: u64,
}

impl<'a> Desk<'a> {
    /// The decision is made again when all of these are there.
    fn need(&self, keys: impl IntoIterator<Item = RecordKey>) -> Result<(), Stop> {
        let missing: Vec<_> = keys
            .into_iter()
            .filter(|key| self.state.get(key).is_none())
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Stop::Load(missing))
        }
    }

    fn bytes(&self, key: &RecordKey) -> Result<Option<&'a [u8]>, Stop> {
        match self.state.get(key) {
            Some(document) => Ok(document.map(|bytes| &bytes[..])),
            None => Err(Stop::Load(vec![key.clone()])),
        }
    }

    fn get<T: DeserializeOwned>(&self, key: &RecordKey) -> Result<Option<T>, Stop> {
        let bytes = self.bytes(key)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()))
    }

    fn has(&self, key: &RecordKey) -> Result<bool, Stop> {
        Ok(self.bytes(key)?.is_some())
    }

    /// The channel, when it is open.
    fn channel(&self) -> Result<Channel, Stop> {
        let channel: Option<Channel> = self.get(&keys::channel(self.id))?;
        let open = channel.filter(|channel| channel.state == Standing::Open);
        Ok(open.ok_or(Refusal::NoChannel)?)
    }

    fn count(&self) -> Result<Count, Stop> {
        Ok(self.get(&keys::count(self.id))?.unwrap_or_default())
    }

    fn member(&self, user: u64) -> Result<Member, Stop> {
        let member = self.get(&keys::member(self.id, user))?;
        Ok(member.ok_or(Refusal::NotMember)?)
    }

    /// An event of this channel; the subject says whose span begins or ends, or who is left out.
    fn draft(&self, event: &str, payload: &Value, subject: Option<String>) -> Draft {
        let mut draft = Draft::new(keys::channel_topic(self.id), event, to_json(payload));
        draft.attributes = subject.map(|subject| {
            Box::new(Attributes {
                subject: Some(subject.into()),
                ..Attributes::default()
            })
        });
        draft
    }

    /// Tells the backend what a client's command did.
    fn out(&self, decision: &mut Decision, kind: &str, mut data: Value) {
        data["kind"] = kind.into();
        data["channel_id"] = self.id.into();
        data["ts"] = (self.now_ms / 1000).into();
        let draft = Draft::new(
            keys::topic(keys::OUT),
            format!("airsend.{kind}"),
            to_json(&data),
        );
        decision.publish_elsewhere(draft);
    }

    fn put(&self, decision: &mut Decision, key: RecordKey, document: &impl Serialize) {
        decision.put(key, to_json(document), None);
    }
}

impl RecordKind for Channels {
    fn name(&self) -> &'static str {
        keys::CHANNEL
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let Trigger::Command(body) = trigger else {
            return Decision::default();
        };
        let id = state
            .first()
            .and_then(|(key, _)| key.id.get(2..)?.parse().ok());
        let (Some(id), Some((ask, mark))) = (id, Drafted::<Ask>::open(body)) else {
            return refused(Refusal::Invalid);
        };
        let decision = self.judge(id, state, ask, now_ms);
        match mark {
            Some(mark) => drafted(&mark, decision),
            None => decision,
        }
    }
}

impl Channels {
    fn judge(&self, id: u64, state: &State<'_>, ask: Ask, now_ms: u64) -> Decision {
        let desk = Desk {
            rules: self,
            state: *state,
            id,
            now_ms,
        };
        let op = ask.op();
        let known = op.as_ref().map(|op| desk.bytes(&keys::channel_op(id, op)));
        // To be made is not yet to be open: the operation's result is what opening it says.
        let remembered = op.filter(|_| !matches!(ask, Ask::Create { .. }));
        let decided = match known {
            Some(Err(stop)) => Err(stop),
            Some(Ok(Some(answer))) => return Decision::answer(answer.to_vec()),
            Some(Ok(None)) | None => desk.decide(ask),
        };
        match decided {
            Ok(mut decision) => {
                if decision.answer.is_empty() {
                    done(&mut decision, Value::Object(Map::new()));
                }
                if let Some(op) = remembered {
                    let answer = decision.answer.clone();
                    decision.put(keys::channel_op(id, &op), answer, Some(self.remembered));
                }
                decision
            }
            Err(Stop::Load(loads)) => Decision {
                loads,
                ..Decision::default()
            },
            Err(Stop::Refuse(refusal)) => refused(refusal),
        }
    }
}

impl Desk<'_> {
    fn decide(&self, ask: Ask) -> Result<Decision, Stop> {
        match ask {
            Ask::Create { fields, nonce, .. } => self.create(fields, nonce),
            Ask::Enrol { nonce, seats } => self.enrol(&nonce, seats),
            Ask::Open { nonce, .. } => self.open(&nonce),
            Ask::Update { set, .. } => self.update(set),
            Ask::End { .. } => self.end(),
            Ask::Sweep { page } => self.sweep(page),
            Ask::Add { seat, nonce, .. } => self.add(seat, nonce),
            Ask::Remove { user, nonce, by } => self.remove(user, &nonce, by),
            Ask::Profile { profile, told } => self.profile(profile, told),
            Ask::Presence {
                user,
                online,
                version,
                active,
            } => self.presence(user, online, version, active),
            Ask::Post { new, .. } => self.post(new),
            Ask::Edit {
                message,
                content,
                attachments,
                ..
            } => self.edit(message, content, attachments),
            Ask::Delete { message, .. } => self.delete(message),
            Ask::Tell {
                event,
                payload,
                result,
                except,
                retained,
                actor,
                ..
            } => self.tell(&event, &payload, result, except, retained, actor),
            Ask::Read { user, message } => self.read(user, message),
            Ask::ReadAll { user } => self.read_all(user),
            Ask::React {
                user,
                message,
                emoji,
            } => self.react(user, message, emoji),
            Ask::Unreact {
                user,
                message,
                emoji,
            } => self.unreact(user, message, &emoji),
            Ask::Typing { user } => self.typing(user),
            Ask::Unread { user, channels } => self.unread(user, &channels),
        }
    }
}

#[cfg(test)]
mod tests;
