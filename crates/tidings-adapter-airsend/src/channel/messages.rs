//! Messages: posted, edited, deleted by the backend; and events that only pass through.
//!
//! A message's record has what changes, its body stands in pieces beside it: the longest that may be
//! posted does not fit into one record, and a reaction does not write it again.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_adapter::Decision;

use super::{Desk, Member, Stop};
use crate::answer::{Refusal, done, to_json};
use crate::keys;
use crate::objects::{Body, Message};
use crate::unread_kinds;

/// Bytes of one piece of a body; records have 64 KiB.
const PIECE_BYTES: usize = 60 * 1024;

/// Pieces of a body: what may be posted has 256 KiB, and JSON may write it longer.
const PIECES_MAX: usize = 8;

/// Bytes of a message's own record, which reactions make longer.
const MESSAGE_BYTES_MAX: usize = 60 * 1024;

/// A message to be posted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct New {
    pub(crate) id: u64,
    pub(crate) author: u64,
    /// Of a bot; a member has his own.
    pub(crate) bot: Option<String>,
    pub(crate) kind: u64,
    pub(crate) body: Body,
    /// Seconds since 1970, when the backend says so.
    pub(crate) created: Option<u64>,
}

impl Desk<'_> {
    pub(super) fn post(&self, new: New) -> Result<Decision, Stop> {
        self.channel()?;
        self.need([
            keys::count(self.id),
            keys::member(self.id, new.author),
            keys::message(self.id, new.id),
        ])?;
        let author: Option<Member> = match new.bot {
            Some(_) => None,
            None => Some(self.member(new.author)?),
        };
        if self.has(&keys::message(self.id, new.id))? {
            return Err(Refusal::Exists.into());
        }
        let mut decision = Decision::default();
        let mut count = self.count()?;
        let counts = unread_kinds(new.kind);
        count.last += u64::from(counts);
        (count.latest, count.active) = (new.id, self.now_ms / 1000);
        let seq = if counts { count.last } else { 0 };
        let name = author
            .as_ref()
            .map(|author| author.profile.display_name.clone());
        let mut message = Message {
            id: new.id,
            author: new.author,
            display_name: name.or(new.bot).unwrap_or_default(),
            kind: new.kind,
            edited: false,
            created: new.created.unwrap_or(self.now_ms / 1000),
            seq,
            pieces: 0,
            emoticons: Vec::new(),
            receipts: Vec::new(),
            read_count: 0,
        };
        self.put_body(&mut decision, &mut message, &new.body)?;
        self.put_message(&mut decision, &message)?;
        if let Some(mut author) = author
            && counts
        {
            author.settle(&count);
            author.read.add(seq);
            self.put(&mut decision, keys::member(self.id, new.author), &author);
        }
        if counts {
            let place = keys::place(self.id, seq);
            decision.put(place, to_json(&new.id), Some(self.rules.messages));
        }
        self.put(&mut decision, keys::count(self.id), &count);
        let payload = json!({ "message": message.wire(self.id, &new.body) });
        decision.publish(self.draft("chat.postMessage", &payload, None));
        done(&mut decision, json!({ "message_id": new.id }));
        Ok(decision)
    }

    pub(super) fn edit(
        &self,
        id: u64,
        content: Option<Value>,
        attachments: Option<Vec<Value>>,
    ) -> Result<Decision, Stop> {
        self.channel()?;
        let (mut message, mut body) = self.message(id)?;
        let mut decision = Decision::default();
        if let Some(content) = content {
            body.content = content;
            message.edited = true;
        }
        // A preview is no edit.
        body.attachments = attachments.unwrap_or(body.attachments);
        self.put_body(&mut decision, &mut message, &body)?;
        self.changed(&mut decision, &message, &body)?;
        Ok(decision)
    }

    pub(super) fn delete(&self, id: u64) -> Result<Decision, Stop> {
        self.channel()?;
        let mut count = self.count()?;
        let message: Option<Message> = self.get(&keys::message(self.id, id))?;
        let message = message.ok_or(Refusal::NoMessage)?;
        let mut decision = Decision::default();
        decision.remove(keys::message(self.id, id));
        for piece in 0..message.pieces {
            decision.remove(keys::body(self.id, id, piece));
        }
        if message.seq > 0 {
            count.deleted.add(message.seq);
            count.deleted.forget_to(count.floor());
            decision.remove(keys::place(self.id, message.seq));
        }
        if count.latest == id {
            count.latest = 0;
        }
        self.put(&mut decision, keys::count(self.id), &count);
        let payload = json!({ "message_id": id, "channel_id": self.id });
        decision.publish(self.draft("chat.deleteMessage", &payload, None));
        Ok(decision)
    }

    /// An event without state here: actions, locks, whatever else a backend has.
    pub(super) fn tell(
        &self,
        event: &str,
        payload: &Value,
        result: Value,
        except: Option<u64>,
        retained: bool,
        actor: Option<u64>,
    ) -> Result<Decision, Stop> {
        self.channel()?;
        if let Some(actor) = actor {
            self.member(actor)?;
        }
        let mut decision = Decision::default();
        let except = except.map(|user| format!("except:{user}"));
        if retained {
            decision.publish(self.draft(event, payload, except));
        } else {
            self.flash(&mut decision, event, payload, except);
        }
        done(&mut decision, result);
        Ok(decision)
    }

    /// A message with its body.
    pub(super) fn message(&self, id: u64) -> Result<(Message, Body), Stop> {
        let message: Option<Message> = self.get(&keys::message(self.id, id))?;
        let message = message.ok_or(Refusal::NoMessage)?;
        self.need((0..message.pieces).map(|piece| keys::body(self.id, id, piece)))?;
        let mut text = Vec::new();
        for piece in 0..message.pieces {
            let part = self.bytes(&keys::body(self.id, id, piece))?;
            text.extend_from_slice(part.ok_or(Refusal::NoMessage)?);
        }
        let body = serde_json::from_slice(&text).map_err(|_| Refusal::NoMessage)?;
        Ok((message, body))
    }

    /// Writes a message and tells everybody what it is now.
    pub(super) fn changed(
        &self,
        decision: &mut Decision,
        message: &Message,
        body: &Body,
    ) -> Result<(), Stop> {
        self.put_message(decision, message)?;
        let payload = json!({ "message": message.wire(self.id, body) });
        decision.publish(self.draft("chat.updateMessage", &payload, None));
        Ok(())
    }

    fn put_message(&self, decision: &mut Decision, message: &Message) -> Result<(), Stop> {
        let text = to_json(message);
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(Refusal::Full.into());
        }
        let key = keys::message(self.id, message.id);
        decision.put(key, text, Some(self.rules.messages));
        Ok(())
    }

    fn put_body(
        &self,
        decision: &mut Decision,
        message: &mut Message,
        body: &Body,
    ) -> Result<(), Stop> {
        let text = to_json(body);
        let before = message.pieces;
        message.pieces = text.len().div_ceil(PIECE_BYTES);
        if message.pieces > PIECES_MAX {
            return Err(Refusal::Full.into());
        }
        for (piece, part) in text.chunks(PIECE_BYTES).enumerate() {
            let key = keys::body(self.id, message.id, piece);
            decision.put(key, part.to_vec(), Some(self.rules.messages));
        }
        for piece in message.pieces..before {
            decision.remove(keys::body(self.id, message.id, piece));
        }
        Ok(())
    }
}
