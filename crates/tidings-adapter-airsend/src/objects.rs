//! The objects of the wire: users, messages, channels, and how times and ids are written.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

/// `YYYY-MM-DD HH:MM:SS` in UTC.
pub(crate) fn on(seconds: u64) -> String {
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(TIME).unwrap_or_default()
}

/// Seconds since 1970 of such a text.
pub(crate) fn seconds_of(text: &str) -> Option<u64> {
    let at = time::PrimitiveDateTime::parse(text, TIME).ok()?;
    u64::try_from(at.assume_utc().unix_timestamp()).ok()
}

/// The largest id: one signed 64-bit integer.
const ID_MAX: u64 = i64::MAX as u64;

/// An id: an integer or an ASCII decimal string, 1 … 2^63-1.
pub(crate) fn id(value: &Value) -> Option<u64> {
    let id = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().ok()?
        }
        _ => return None,
    };
    (1..=ID_MAX).contains(&id).then_some(id)
}

/// Who a user is, as channels keep a copy of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) id: u64,
    #[serde(rename = "e")]
    pub(crate) email: String,
    #[serde(rename = "d")]
    pub(crate) display_name: String,
    #[serde(rename = "a", default)]
    pub(crate) has_avatar: bool,
    /// Rises with every change: an older copy never replaces a newer one.
    #[serde(rename = "v", default)]
    pub(crate) version: u64,
}

impl Profile {
    /// The User object.
    pub(crate) fn wire(&self, online: bool, active: u64) -> Value {
        json!({
            "id": self.id,
            "email": self.email,
            "display_name": self.display_name,
            "last_active_on": on(active),
            "online_status": online,
            "last_active_on_ts": active,
            "has_avatar": self.has_avatar,
        })
    }
}

/// A reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emoticon {
    pub(crate) uid: u64,
    pub(crate) dn: String,
    pub(crate) ev: String,
}

/// That somebody has read a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    #[serde(rename = "u")]
    pub(crate) user: u64,
    #[serde(rename = "d")]
    pub(crate) display_name: String,
    #[serde(rename = "t")]
    pub(crate) at: u64,
}

/// A message without its body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) author: u64,
    pub(crate) display_name: String,
    pub(crate) kind: u64,
    #[serde(default)]
    pub(crate) edited: bool,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Its number among the messages that count as unread; 0 when it does not.
    #[serde(default)]
    pub(crate) seq: u64,
    /// Pieces of its body.
    pub(crate) pieces: usize,
    #[serde(default)]
    pub(crate) emoticons: Vec<Emoticon>,
    /// The latest receipts.
    #[serde(default)]
    pub(crate) receipts: Vec<Receipt>,
    /// All of them.
    #[serde(default)]
    pub(crate) read_count: u64,
}

/// What of a message may be long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) content: Value,
    #[serde(default)]
    pub(crate) attachments: Vec<Value>,
    #[serde(default)]
    pub(crate) parent_message: Vec<Value>,
}

impl Body {
    /// How long it is, printed.
    pub(crate) fn bytes(&self) -> usize {
        crate::answer::to_json(self).len()
    }
}

impl Message {
    /// The Message object.
    pub(crate) fn wire(&self, channel: u64, body: &Body) -> Value {
        let receipts = self.receipts.iter().map(|one| {
            json!({"user_id": one.user, "display_name": one.display_name, "read_on": on(one.at)})
        });
        let mut wire = json!({
            "id": self.id,
            "user_id": self.author,
            "channel_id": channel,
            "display_name": self.display_name,
            "attachments": body.attachments,
            "message_type": self.kind,
            "is_edited": self.edited,
            "parent_message": body.parent_message,
            "emoticons": self.emoticons,
            "created_on": on(self.created),
            "created_on_ts": self.created,
            "content": body.content,
            "read_user_count": self.read_count.to_string(),
            "read_users": receipts.collect::<Vec<_>>(),
        });
        // Older clients look for one name, newer ones for the other.
        if body.content.is_string() {
            wire["content_text"] = body.content.clone();
        }
        wire
    }
}

/// The fields of a channel that the backend may set, with what holds when it does not.
pub(crate) fn channel_defaults(channel: u64, now: u64) -> Map<String, Value> {
    let defaults = json!({
        "id": channel,
        "channel_name": "",
        "channel_email": "",
        "channel_status": 100,
        "created_on": on(now),
        "created_on_ts": now,
        "created_by": 0,
        "channel_roots": [],
        "total_fs_count": 0,
        "total_file_count": 0,
        "total_folder_count": 0,
        "total_fs_size": 0,
    });
    match defaults {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_seeds_own() {
        assert_eq!(on(1_571_330_672), "2019-10-17 16:44:32");
        assert_eq!(seconds_of("2019-11-07 03:42:34"), Some(1_573_098_154));
        assert_eq!(seconds_of("yesterday"), None);
    }

    #[test]
    fn ids() {
        for (text, expected) in [
            ("1", Some(1)),
            ("\"11010000\"", Some(11_010_000)),
            ("\"007\"", Some(7)),
            ("9223372036854775807", Some(ID_MAX)),
            ("9223372036854775808", None),
            ("0", None),
            ("-1", None),
            ("1.0", None),
            ("1.5", None),
            ("true", None),
            ("null", None),
            ("[1]", None),
            ("\"12x\"", None),
            ("\"\"", None),
            ("\" 1\"", None),
            ("\"+1\"", None),
        ] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(id(&value), expected, "{text}");
        }
    }
}
