//! What clients ask for: to have read, to react, to be seen typing.

use serde_json::{Value, json};
use tidings_adapter::{Attributes, Decision, Draft};

use super::{Desk, Stop};
use crate::answer::{Refusal, done, to_json};
use crate::keys;
use crate::objects::{Emoticon, Receipt};

/// Receipts that stand in a Message object, the latest; `read_user_count` counts all. A message of
/// ten thousand readers would otherwise be sent ten thousand times with up to ten thousand names.
const RECEIPTS_SHOWN: usize = 100;

impl Desk<'_> {
    pub(super) fn read(&self, user: u64, id: u64) -> Result<Decision, Stop> {
        self.channel()?;
        self.need([
            keys::count(self.id),
            keys::member(self.id, user),
            keys::message(self.id, id),
            keys::receipt(self.id, id, user),
        ])?;
        let mut member = self.member(user)?;
        let count = self.count()?;
        let (mut message, body) = self.message(id)?;
        let mut decision = Decision::default();
        let before = member.clone();
        member.settle(&count);
        if message.seq > member.mark {
            member.read.add(message.seq);
        }
        let reading = self.reading(&member, &count)?;
        if member != before {
            self.put(&mut decision, keys::member(self.id, user), &member);
        }
        let receipt = keys::receipt(self.id, id, user);
        if message.author != user && !self.has(&receipt)? {
            let now = self.now_ms / 1000;
            message.receipts.push(Receipt {
                user,
                display_name: member.profile.display_name.clone(),
                at: now,
            });
            let old = message.receipts.len().saturating_sub(RECEIPTS_SHOWN);
            message.receipts.drain(..old);
            message.read_count += 1;
            decision.put(receipt, to_json(&now), Some(self.rules.messages));
            self.changed(&mut decision, &message, &body)?;
            self.out(
                &mut decision,
                "receipt",
                json!({ "user_id": user, "message_id": id }),
            );
        }
        done(&mut decision, reading);
        Ok(decision)
    }

    pub(super) fn read_all(&self, user: u64) -> Result<Decision, Stop> {
        self.channel()?;
        self.need([keys::count(self.id), keys::member(self.id, user)])?;
        let mut member = self.member(user)?;
        let count = self.count()?;
        let mut decision = Decision::default();
        if member.unread(&count).0 > 0 {
            member.mark = count.last;
            member.settle(&count);
            self.put(&mut decision, keys::member(self.id, user), &member);
            self.out(
                &mut decision,
                "all_read",
                json!({ "user_id": user, "message_id": count.latest }),
            );
        }
        done(&mut decision, json!({ "unread": 0, "oldest": 0 }));
        Ok(decision)
    }

    pub(super) fn react(&self, user: u64, id: u64, emoji: String) -> Result<Decision, Stop> {
        self.channel()?;
        self.need([keys::member(self.id, user), keys::message(self.id, id)])?;
        let member = self.member(user)?;
        let (mut message, body) = self.message(id)?;
        let mut decision = Decision::default();
        if message
            .emoticons
            .iter()
            .any(|one| one.uid == user && one.ev == emoji)
        {
            return Ok(decision);
        }
        let name = &member.profile.display_name;
        message.emoticons.push(Emoticon {
            uid: user,
            dn: name.clone(),
            ev: emoji.clone(),
        });
        self.changed(&mut decision, &message, &body)?;
        if message.author != user && message.kind != crate::BOT {
            let alert = json!({
                // Below 2^53, and of the same time as the alert.
                "alert_id": self.now_ms * 4096 + user % 4096,
                "from": [member.profile.wire(member.online, member.active)],
                "message_id": id,
                "alert_text": format!("{name} reacted {emoji} to your message"),
                "channel_id": self.id,
                "is_read": false,
            });
            let topic = keys::user_topic(message.author);
            let mut draft = Draft::new(topic, "alert.notification", to_json(&alert));
            draft.attributes = Some(Box::new(Attributes {
                subject: Some(format!("after:{}", self.id).into()),
                ..Attributes::default()
            }));
            decision.publish_elsewhere(draft);
        }
        let out = json!({ "user_id": user, "message_id": id, "emoji": emoji });
        self.out(&mut decision, "reaction_added", out);
        Ok(decision)
    }

    pub(super) fn unreact(&self, user: u64, id: u64, emoji: &str) -> Result<Decision, Stop> {
        self.channel()?;
        self.need([keys::member(self.id, user), keys::message(self.id, id)])?;
        self.member(user)?;
        let (mut message, body) = self.message(id)?;
        let mut decision = Decision::default();
        let before = message.emoticons.len();
        message
            .emoticons
            .retain(|one| one.uid != user || one.ev != emoji);
        if message.emoticons.len() < before {
            self.changed(&mut decision, &message, &body)?;
            let out = json!({ "user_id": user, "message_id": id, "emoji": emoji });
            self.out(&mut decision, "reaction_removed", out);
        }
        Ok(decision)
    }

    /// At most once in a window for each user and channel, over all of his connections.
    pub(super) fn typing(&self, user: u64) -> Result<Decision, Stop> {
        let throttle = keys::typing(self.id, user);
        self.need([keys::member(self.id, user), throttle.clone()])?;
        self.channel()?;
        let member = self.member(user)?;
        let until: Option<u64> = self.get(&throttle)?;
        if until.is_some_and(|until| self.now_ms < until) {
            return Err(Refusal::Throttled.into());
        }
        let mut decision = Decision::default();
        let window = self.rules.typing;
        let until = self.now_ms + u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        decision.put(throttle, to_json(&until), Some(window));
        let payload = json!({
            "user": member.profile.wire(true, member.active),
            "channel_id": self.id,
        });
        let except = format!("except:{user}");
        self.flash(&mut decision, "chat.userTyping", &payload, Some(except));
        Ok(decision)
    }

    /// An event for those who are there now.
    pub(super) fn flash(
        &self,
        decision: &mut Decision,
        event: &str,
        payload: &Value,
        subject: Option<String>,
    ) {
        decision.flash(self.draft(event, payload, subject));
    }
}
