//! The changes of a chat, each as a decision.

use serde_json::Value;
use tidings_adapter::{Attributes, Decision, Dedup, Draft};

use super::fields::{own, set};
use super::{Ask, Change, Chats, Done, Owner, Place, Record, Said, TERMINATE, place_key};
use crate::answer::{NO_CHAT, Refusal};
use crate::keys::{self, Channel, DATA_BYTES_MAX, kind};
use crate::objects::{Chat, Message, Status, derived_id, list_nudge, print_time};
use crate::{message_index, queue};

pub(super) const UNKNOWN: Refusal = NO_CHAT;
pub(super) const ENDED: Refusal = Refusal::Conflict("the chat has ended");
pub(super) const TOO_LARGE: Refusal = Refusal::TooLarge;

/// A record's bytes: the hub takes 64 KiB, and an answer with the chat in it is a little longer.
const DOCUMENT_BYTES_MAX: usize = 60 * 1024;

/// Who takes back a termination, is not terminated for so long, whatever was asked before or since:
/// a page that is loaded anew says so before the old one says that it goes.
const SPARED_MS: u64 = 10_000;

/// What a chat ends with when its page went and did not come back.
const LEFT: &str = "CLIENT_LEFT_FOR_UNKNOWN_REASONS";

/// What is decided about.
pub(super) struct Scene<'a> {
    pub(super) kind: &'a Chats,
    pub(super) channel: Channel,
    pub(super) record: Option<Record>,
    /// Since when it waits.
    pub(super) since_ms: Option<u64>,
    pub(super) now_ms: u64,
}

fn refused(refusal: &Refusal) -> Decision {
    Decision::answer(refusal.words().to_owned())
}

fn done(decision: &mut Decision, at_ms: u64, chat: Option<Chat>) {
    // Texts and numbers.
    decision.answer = serde_json::to_vec(&Done { at_ms, chat })
        .unwrap_or_default()
        .into();
}

impl Scene<'_> {
    pub(super) fn decide(self, ask: Ask) -> Decision {
        match ask {
            Ask::Init { chat, said } => self.init(*chat, said),
            Ask::Post { said, change } => self.post(said, change),
            Ask::Replace { message } => self.replace(message),
            Ask::Claim { owner } => self.claim(owner),
            Ask::Enqueue => self.enqueue(),
            Ask::Dequeue => self.dequeue(),
            Ask::Terminate { after_ms } => self.schedule(Some(after_ms)),
            Ask::Spare => self.schedule(None),
        }
    }

    /// The record, if the chat is there and has not ended.
    fn open(&self) -> Result<Record, Refusal> {
        match &self.record {
            None => Err(UNKNOWN),
            Some(record) if record.ended() => Err(ENDED),
            Some(record) => Ok(record.clone()),
        }
    }

    fn init(self, chat: Chat, said: Said) -> Decision {
        if let Some(record) = &self.record {
            // The same command again: its id is as random as a chat's.
            let mut decision = Decision::default();
            done(&mut decision, record.created_ms, Some(record.chat.clone()));
            return decision;
        }
        let mut record = Record {
            created_ms: self.now_ms,
            last_ms: self.now_ms.saturating_sub(1),
            chat: Chat {
                id: self.channel.to_string(),
                status: Status::Open,
                created: print_time(self.now_ms),
                ..chat
            },
            spared_ms: None,
        };
        let mut decision = Decision::default();
        let at_ms = self.say(&mut decision, &mut record, said, false);
        self.wait(&mut decision);
        self.finish(decision, record, at_ms, true)
    }

    fn post(self, said: Said, change: Change) -> Decision {
        let mut record = match self.open() {
            Ok(record) => record,
            Err(refusal) => return refused(&refusal),
        };
        let mut decision = Decision::default();
        let ends = change == Change::End;
        let at_ms = self.say(&mut decision, &mut record, said, ends);
        let leaves = match change {
            Change::Nothing => false,
            Change::Login(id, first, last) => {
                set(&mut record.chat.end_user_id, id);
                set(&mut record.chat.end_user_first_name, first);
                set(&mut record.chat.end_user_last_name, last);
                false
            }
            Change::Redirect(owner) => {
                own(&mut record.chat, owner);
                record.chat.status = Status::Redirected;
                true
            }
            Change::End => {
                record.chat.status = Status::Ended;
                record.chat.ended = Some(print_time(at_ms));
                true
            }
        };
        let moved = leaves && self.since_ms.is_some();
        if moved {
            decision.remove(place_key(&self.channel));
        } else {
            self.still_waits(&mut decision);
        }
        self.finish(decision, record, at_ms, moved)
    }

    fn replace(self, message: Message) -> Decision {
        let mut record = match self.open() {
            Ok(record) => record,
            Err(refusal) => return refused(&refusal),
        };
        let mut decision = Decision::default();
        let at_ms = self.now_ms.max(record.last_ms + 1);
        let message = Message {
            updated: print_time(at_ms),
            ..message
        };
        record.heard(&message, at_ms);
        decision.publish(Draft::new(
            self.channel.topic(),
            kind::MESSAGE,
            message.json(),
        ));
        self.still_waits(&mut decision);
        self.finish(decision, record, at_ms, false)
    }

    fn claim(self, owner: Owner) -> Decision {
        let mut record = match self.open() {
            Ok(record) => record,
            Err(refusal) => return refused(&refusal),
        };
        let mut decision = Decision::default();
        own(&mut record.chat, owner);
        let at_ms = self.now_ms.max(record.last_ms);
        record.chat.updated = print_time(at_ms);
        let changed = Draft::new(self.channel.topic(), kind::CHAT, "{}");
        decision.flash(changed);
        if let Some(since_ms) = self.since_ms {
            decision.remove(place_key(&self.channel));
            let wait_ms = self.now_ms.saturating_sub(since_ms);
            decision.command(queue::waited(wait_ms, self.now_ms));
        }
        let moved = self.since_ms.is_some();
        self.finish(decision, record, at_ms, moved)
    }

    fn enqueue(self) -> Decision {
        let mut decision = Decision::default();
        if self.record.as_ref().is_some_and(Record::ended) {
            return refused(&ENDED);
        }
        if self.since_ms.is_some() {
            self.still_waits(&mut decision);
        } else {
            self.wait(&mut decision);
            decision.flash_elsewhere(changed(keys::QUEUE));
        }
        done(&mut decision, self.now_ms, None);
        decision
    }

    fn dequeue(self) -> Decision {
        let mut decision = Decision::default();
        if self.since_ms.is_some() {
            decision.remove(place_key(&self.channel));
            decision.flash_elsewhere(changed(keys::QUEUE));
        }
        done(&mut decision, self.now_ms, None);
        decision
    }

    /// Sets or takes back the chat's end.
    fn schedule(self, after_ms: Option<u64>) -> Decision {
        let mut record = match self.open() {
            Ok(record) => record,
            Err(ENDED) => {
                // Pages say that they go after the end of their chat, too.
                let mut decision = Decision::default();
                done(&mut decision, self.now_ms, None);
                return decision;
            }
            Err(refusal) => return refused(&refusal),
        };
        let mut decision = Decision::default();
        let key = keys::chat(&self.channel);
        match after_ms {
            Some(after_ms) => {
                let at_ms = self.now_ms.saturating_add(after_ms);
                decision.set_deadline(key, TERMINATE, at_ms);
            }
            None => {
                record.spared_ms = Some(self.now_ms);
                decision.put(key.clone(), record.json(), Some(self.kind.open));
                decision.clear_deadline(key, TERMINATE);
            }
        }
        done(&mut decision, self.now_ms, None);
        decision
    }

    /// The page went and did not come back.
    pub(super) fn terminate(self) -> Decision {
        let Ok(record) = self.open() else {
            return Decision::default();
        };
        let spared = |at: u64| self.now_ms.saturating_sub(at) < SPARED_MS;
        if record.spared_ms.is_some_and(spared) {
            return Decision::default();
        }
        let message = Message {
            // The same however often this is decided.
            id: derived_id(&["terminate", self.channel.as_str(), &self.now_ms.to_string()]),
            chat_id: self.channel.to_string(),
            event: LEFT.to_owned(),
            author_role: "end-user".to_owned(),
            author_timestamp: print_time(self.now_ms),
            rating: Value::from(""),
            ..Message::default()
        };
        let said = Said {
            message,
            unnoted: true,
            ..Said::default()
        };
        self.post(said, Change::End)
    }

    /// The event of a new message, and what the record says of it. Returns its time.
    fn say(&self, decision: &mut Decision, record: &mut Record, said: Said, ends: bool) -> u64 {
        let at_ms = self.now_ms.max(record.last_ms + 1);
        let mut message = said.message;
        message.said_at(at_ms);
        record.heard(&message, at_ms);
        let topic = self.channel.topic();
        let mut draft = Draft::new(topic.clone(), kind::MESSAGE, message.json());
        if said.given {
            draft.dedup = Some(Dedup::by_source(&topic, None, &message.id));
        }
        if ends || said.trace.is_some() {
            draft.attributes = Some(Box::new(Attributes {
                subject: ends.then(|| kind::ENDED.into()),
                trace_parent: said.trace.map(Into::into),
                ..Attributes::default()
            }));
        }
        decision.publish(draft);
        if said.unnoted {
            decision.command(message_index::command(&message.id, &self.channel));
        }
        at_ms
    }

    /// It waits from now on.
    fn wait(&self, decision: &mut Decision) {
        let key = place_key(&self.channel);
        let place = Place {
            since_ms: self.now_ms,
        };
        let document = serde_json::to_vec(&place).unwrap_or_default();
        decision.put(key.clone(), document, Some(self.kind.open));
        decision.index(key, keys::index::WAITING, self.now_ms);
    }

    /// A place lives as long as its chat; a put keeps its rank.
    fn still_waits(&self, decision: &mut Decision) {
        if let Some(since_ms) = self.since_ms {
            let document = serde_json::to_vec(&Place { since_ms }).unwrap_or_default();
            let key = place_key(&self.channel);
            decision.put(key, document, Some(self.kind.open));
        }
    }

    /// Writes the record and tells those who watch lists.
    fn finish(self, mut decision: Decision, record: Record, at_ms: u64, queue: bool) -> Decision {
        let document = record.json();
        let too_long = |draft: &Draft| draft.data.len() > DATA_BYTES_MAX;
        if document.len() > DOCUMENT_BYTES_MAX || decision.drafts.iter().any(too_long) {
            return refused(&TOO_LARGE);
        }
        let key = keys::chat(&self.channel);
        if record.ended() {
            decision.put(key.clone(), document, Some(self.kind.ended));
            decision.unindex(key.clone(), keys::index::ACTIVE);
            decision.clear_deadline(key, TERMINATE);
        } else {
            decision.put(key.clone(), document, Some(self.kind.open));
            decision.index(key, keys::index::ACTIVE, record.created_ms);
        }
        let nudge = list_nudge(self.channel.as_str());
        let list = Channel::chat_list().topic();
        decision.publish_elsewhere(Draft::new(list, kind::NUDGE, nudge));
        decision.flash_elsewhere(changed(keys::ACTIVE));
        if queue {
            decision.flash_elsewhere(changed(keys::QUEUE));
        }
        done(&mut decision, at_ms, Some(record.chat));
        decision
    }
}

/// That something of this name changed.
pub(crate) fn changed(topic: &str) -> Draft {
    Draft::new(keys::topic(topic), kind::CHANGED, "{}")
}
