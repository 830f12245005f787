//! Names: topics, placement keys, records. In one place, with an example of each.
//!
//! What changes together is placed together: everything of a channel by `airsend/channel/<id>`,
//! everything of a user by `airsend/user/<id>`.

use std::sync::Arc;

use tidings_adapter::{RecordKey, Topic};

/// The root of all topics here.
pub(crate) const ROOT: &str = "airsend";

/// The kind of records of a user's partition.
pub(crate) const USER: &str = "airsend.user";
/// The kind of records of a channel's partition.
pub(crate) const CHANNEL: &str = "airsend.channel";
/// The kind of records that only lead elsewhere.
pub(crate) const INDEX: &str = "airsend.index";

/// `airsend/channel/11010000`: topic and placement key.
pub(crate) fn channel_key(channel: u64) -> String {
    format!("{ROOT}/channel/{channel}")
}

/// `airsend/user/91010000`: topic and placement key.
pub(crate) fn user_key(user: u64) -> String {
    format!("{ROOT}/user/{user}")
}

/// What happened by clients' commands, for the backend.
pub(crate) const OUT: &str = "airsend/out";

pub(crate) fn topic(key: &str) -> Topic {
    Topic::parse(key).expect("words, numbers and slashes make a topic")
}

pub(crate) fn channel_topic(channel: u64) -> Topic {
    topic(&channel_key(channel))
}

pub(crate) fn user_topic(user: u64) -> Topic {
    topic(&user_key(user))
}

/// The channel of a topic, if it is one's.
pub(crate) fn channel_of(topic: &Topic) -> Option<u64> {
    let id = topic.as_str().strip_prefix("airsend/channel/")?;
    id.parse().ok()
}

fn key(kind: &'static str, id: impl Into<Arc<str>>) -> RecordKey {
    RecordKey::new(kind, id)
}

/// Who a user is and where he is a member.
pub(crate) fn user(user: u64) -> RecordKey {
    key(USER, format!("u/{user}"))
}

/// A user's connections and presence.
pub(crate) fn presence(user: u64) -> RecordKey {
    key(USER, format!("p/{user}"))
}

/// That a user has connections on an instance: owned by its incarnation.
pub(crate) fn here(user: u64, incarnation: &str) -> RecordKey {
    key(USER, format!("h/{user}/{incarnation}"))
}

/// A channel's own fields.
pub(crate) fn channel(channel: u64) -> RecordKey {
    key(CHANNEL, format!("c/{channel}"))
}

/// What every post counts up.
pub(crate) fn count(channel: u64) -> RecordKey {
    key(CHANNEL, format!("n/{channel}"))
}

/// A member: when he came, what he has read.
pub(crate) fn member(channel: u64, user: u64) -> RecordKey {
    key(CHANNEL, format!("m/{channel}/{user}"))
}

/// A page of the roster.
pub(crate) fn page(channel: u64, page: usize) -> RecordKey {
    key(CHANNEL, format!("r/{channel}/{page}"))
}

/// A message without its body.
pub(crate) fn message(channel: u64, message: u64) -> RecordKey {
    key(CHANNEL, format!("g/{channel}/{message}"))
}

/// A piece of a message's body.
pub(crate) fn body(channel: u64, message: u64, piece: usize) -> RecordKey {
    key(CHANNEL, format!("b/{channel}/{message}/{piece}"))
}

/// Which message has a sequence number.
pub(crate) fn place(channel: u64, seq: u64) -> RecordKey {
    key(CHANNEL, format!("s/{channel}/{seq}"))
}

/// That a user has a receipt at a message.
pub(crate) fn receipt(channel: u64, message: u64, user: u64) -> RecordKey {
    key(CHANNEL, format!("e/{channel}/{message}/{user}"))
}

/// That a user was typing a moment ago.
pub(crate) fn typing(channel: u64, user: u64) -> RecordKey {
    key(CHANNEL, format!("t/{channel}/{user}"))
}

/// What an operation with an idempotency key came to, beside what it changed.
pub(crate) fn channel_op(channel: u64, op: &str) -> RecordKey {
    key(CHANNEL, format!("o/{channel}/{op}"))
}

/// The same of an operation on a user.
pub(crate) fn user_op(user: u64, op: &str) -> RecordKey {
    key(USER, format!("o/{user}/{op}"))
}

/// The placement key of an index entry: its own.
pub(crate) fn index_key(id: &str) -> String {
    format!("{ROOT}/index/{id}")
}

/// In which channel a message is.
pub(crate) fn message_index(message: u64) -> String {
    format!("message/{message}")
}

/// Who logs in under an address.
pub(crate) fn login_index(address: &str) -> String {
    format!("login/{}", address.to_lowercase())
}

/// What an idempotency key was used for.
pub(crate) fn idempotency_index(key: &str) -> String {
    format!("once/{key}")
}

pub(crate) fn index(id: &str) -> RecordKey {
    key(INDEX, id)
}
