//! Names: topics, event kinds, placement keys, records. In one place, with an example of each.
//!
//! What changes together is placed together: a chat's record, its place in the queue and its events
//! by `burokratt/channel/<chat id>`; the last waits by `burokratt/queue`; health by
//! `burokratt/health`.

use std::fmt;
use std::sync::Arc;

use tidings_adapter::{RecordKey, Topic};

/// The root of all topics here.
pub(crate) const ROOT: &str = "burokratt";

/// What changed any chat: nudges for lists, retained. The channel is [`CHAT_LIST`].
pub(crate) const CHAT_LIST: &str = "chat-list";

/// Flash: the queue, or what waits are estimated from, may have changed. Also the placement key of
/// [`waits`].
pub(crate) const QUEUE: &str = "burokratt/queue";

/// Flash: the list of active chats may have changed.
pub(crate) const ACTIVE: &str = "burokratt/active";

/// Flash: a component's status or version has changed. Also the placement key of [`health`].
pub(crate) const HEALTH: &str = "burokratt/health";

/// Event kinds.
pub(crate) mod kind {
    /// Of a channel, retained: a message of the chat; data is the whole message with `chatId`. The
    /// one that ended the chat has the attribute `subject` = [`ENDED`].
    pub(crate) const MESSAGE: &str = "message";
    /// Of a channel, retained: a payload of `/bulk-notifications` or `_doc`, verbatim on one line.
    pub(crate) const RAW: &str = "raw";
    /// Of `chat-list`, retained: `{"status":"Chat Status Changed","chatId":"…"}`.
    pub(crate) const NUDGE: &str = "nudge";
    /// Of a channel, flash: somebody types. Data is `{"type":"preview","messageId":""}`.
    pub(crate) const PREVIEW: &str = "preview";
    /// Of a channel, flash: the chat's record changed, and no message says so (a claim). Data `{}`.
    pub(crate) const CHAT: &str = "chat";
    /// Of [`QUEUE`](super::QUEUE), [`ACTIVE`](super::ACTIVE), [`HEALTH`](super::HEALTH), flash:
    /// look again. Data `{}`.
    pub(crate) const CHANGED: &str = "changed";

    /// The attribute `subject` of the message that ended its chat.
    pub(crate) const ENDED: &str = "ended";
}

/// Record kinds.
pub(crate) mod record {
    /// A chat, in its channel's partition.
    pub(crate) const CHAT: &str = "burokratt.chat";
    /// A place in the queue, in its channel's partition.
    pub(crate) const WAITING: &str = "burokratt.waiting";
    /// The last waits.
    pub(crate) const WAITS: &str = "burokratt.waits";
    /// What is known of the components.
    pub(crate) const HEALTH: &str = "burokratt.health";
    /// In which chats a message id was used.
    pub(crate) const MESSAGE: &str = "burokratt.message";
    /// A logout that waits.
    pub(crate) const LOGOUT: &str = "burokratt.logout";
}

/// Indexes.
pub(crate) mod index {
    /// Over [`record::CHAT`](super::record::CHAT): chats that have not ended, by the millisecond of
    /// their making.
    pub(crate) const ACTIVE: &str = "active";
    /// Over [`record::WAITING`](super::record::WAITING), by the millisecond of queueing.
    pub(crate) const WAITING: &str = "waiting";
}

/// Bytes of an event's data: what the hub takes.
pub(crate) const DATA_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a channel's id. Chats have UUIDs; whoever notifies may use his own, and topics and keys
/// have room for this.
const CHANNEL_BYTES_MAX: usize = 128;

/// A channel's id, which is a chat's id or `chat-list` or a notifier's own. Case matters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Channel(Arc<str>);

impl Channel {
    /// One segment of a topic, see [`Topic`]; `None` for what can name no channel.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = text.len() <= CHANNEL_BYTES_MAX && !text.contains('/');
        let good = fits && Topic::parse(&format!("{ROOT}/channel/{text}")).is_ok();
        good.then(|| Self(text.into()))
    }

    /// The channel of nudges.
    pub(crate) fn chat_list() -> Self {
        Self(CHAT_LIST.into())
    }

    pub(crate) fn is_chat_list(&self) -> bool {
        &*self.0 == CHAT_LIST
    }

    /// The channel of a topic, if it is one's.
    pub(crate) fn of_topic(topic: &Topic) -> Option<Self> {
        Self::parse(topic.as_str().strip_prefix("burokratt/channel/")?)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `burokratt/channel/<id>`: topic and placement key.
    pub(crate) fn topic(&self) -> Topic {
        topic(&format!("{ROOT}/channel/{}", self.0))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A topic of this page.
pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("words, checked ids and slashes make a topic")
}

/// The chat of a channel.
pub(crate) fn chat(channel: &Channel) -> RecordKey {
    RecordKey::new(record::CHAT, channel.0.clone())
}

/// Its place in the queue.
pub(crate) fn waiting(channel: &Channel) -> RecordKey {
    RecordKey::new(record::WAITING, channel.0.clone())
}

/// The last waits: one record, placed by [`QUEUE`].
pub(crate) fn waits() -> RecordKey {
    RecordKey::new(record::WAITS, "last")
}

/// The components: one record, placed by [`HEALTH`].
pub(crate) fn health() -> RecordKey {
    RecordKey::new(record::HEALTH, "all")
}

/// In which chats a message id was used; placed by [`message_key`].
pub(crate) fn message(id: &str) -> RecordKey {
    RecordKey::new(record::MESSAGE, id)
}

/// The placement key of [`message`].
pub(crate) fn message_key(id: &str) -> String {
    format!("{ROOT}/message/{id}")
}

/// A logout; the id is a hash of the cookies. Placed by [`logout_key`].
pub(crate) fn logout(id: &str) -> RecordKey {
    RecordKey::new(record::LOGOUT, id)
}

/// The placement key of [`logout`].
pub(crate) fn logout_key(id: &str) -> String {
    format!("{ROOT}/logout/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_fit_name_a_channel_and_its_topic() {
        for good in [
            "8cecdc84-57fb-4f18-845e-5ca0be3d6223",
            "chat-list",
            "1",
            "A:b",
        ] {
            let channel = Channel::parse(good).expect(good);
            assert_eq!(
                channel.topic().as_str(),
                format!("burokratt/channel/{good}")
            );
            assert_eq!(Channel::of_topic(&channel.topic()), Some(channel));
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert_eq!(Channel::parse(bad), None, "{bad:?}");
        }
        assert!(Channel::chat_list().is_chat_list());
        assert_eq!(Channel::of_topic(&topic(QUEUE)), None);
    }
}
