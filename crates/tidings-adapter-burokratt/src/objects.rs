//! Messages and chats as they are stored and printed: the members and their order are the wire's.
//!
//! Missing texts are `""`, missing `forwarded*` are `null`. A message has the key `chatId`, and
//! `chatid` in `…-new-messages`: the database behind one of the original's queries folds case, that
//! behind the other does not, and clients read both.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

mod times;

pub(crate) use times::{parse_time, print_time};

/// One version of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) chat_id: String,
    pub(crate) content: String,
    /// Verbatim; means nothing to the hub.
    pub(crate) event: String,
    pub(crate) author_id: String,
    pub(crate) author_timestamp: String,
    pub(crate) author_first_name: String,
    pub(crate) author_last_name: String,
    pub(crate) author_role: String,
    pub(crate) forwarded_by_user: Option<String>,
    pub(crate) forwarded_from_csa: Option<String>,
    pub(crate) forwarded_to_csa: Option<String>,
    /// A text, or the number that a client sent.
    pub(crate) rating: Value,
    pub(crate) created: String,
    pub(crate) updated: String,
    /// The rest passes through when it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) buttons: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) options: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preview: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) csa_title: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) original_base_id: Option<Value>,
}

impl Message {
    /// On one line, with `chatId`: as it is stored, and as lists print it.
    pub(crate) fn json(&self) -> String {
        // A struct of texts and JSON values.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A stored one.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    /// It is said at this time; its author's is the same if he told none.
    pub(crate) fn said_at(&mut self, at_ms: u64) {
        self.created = print_time(at_ms);
        self.updated = self.created.clone();
        if self.author_timestamp.is_empty() {
            self.author_timestamp = self.created.clone();
        }
    }

    /// Whether another one, not yet said, has the same words as this.
    pub(crate) fn is_said_again(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.created.clone_from(&self.created);
        other.updated.clone_from(&self.updated);
        if other.author_timestamp.is_empty() {
            other.author_timestamp.clone_from(&self.author_timestamp);
        }
        *self == other
    }
}

/// A stored message as `…-new-messages` prints it: with `chatid` in the place of `chatId`.
pub(crate) fn with_small_chatid(stored: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = br#","chatId":"#;
    let mut text = stored.to_vec();
    // Quotes inside of texts are escaped, so the first one is the member, the second of all.
    let at = text.windows(KEY.len()).position(|window| window == KEY);
    if let Some(letter) = at.and_then(|at| text.get_mut(at + 6)) {
        *letter = b'i';
    }
    text
}

/// A chat as it is printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Chat {
    pub(crate) id: String,
    pub(crate) customer_support_id: String,
    pub(crate) customer_support_display_name: String,
    pub(crate) csa_title: String,
    pub(crate) end_user_id: String,
    pub(crate) end_user_first_name: String,
    pub(crate) end_user_last_name: String,
    pub(crate) end_user_os: String,
    pub(crate) end_user_url: String,
    pub(crate) status: Status,
    pub(crate) created: String,
    pub(crate) updated: String,
    /// `null` while it has not.
    pub(crate) ended: Option<String>,
    /// The last content that was not empty, cut where it is long.
    pub(crate) last_message: String,
    pub(crate) last_message_timestamp: String,
    pub(crate) last_message_event: String,
    /// The same: the 2023 page names it so.
    pub(crate) event: String,
    pub(crate) forwarded_by_user: Option<String>,
    pub(crate) forwarded_from_csa: Option<String>,
    pub(crate) forwarded_to_csa: Option<String>,
}

impl Chat {
    /// On one line.
    pub(crate) fn json(&self) -> String {
        // Texts.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Where in its life a chat is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Status {
    #[default]
    Open,
    Redirected,
    Ended,
}

/// A message id for what nobody but the hub says: the same for the same parts.
pub(crate) fn derived_id(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    // Of the form of a random one, which it is as good as.
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// `{"type":"message","messageId":"…"}`: the nudge of `/sse/notifications/<chat>`, `type` first
/// because older clients read the first value. An empty id asks for a look at everything.
pub(crate) fn message_nudge(id: &str) -> String {
    format!(r#"{{"type":"message","messageId":{}}}"#, Value::from(id))
}

/// `{"type":"preview","messageId":""}`.
pub(crate) const PREVIEW_NUDGE: &str = r#"{"type":"preview","messageId":""}"#;

/// The nudge of `chat-list`. An empty id stands for every chat.
pub(crate) fn list_nudge(chat: &str) -> String {
    format!(
        r#"{{"status":"Chat Status Changed","chatId":{}}}"#,
        Value::from(chat)
    )
}

/// `{"data":{"<key>":<value>},"error":null}`.
pub(crate) fn data(key: &str, value: &str) -> String {
    format!(r#"{{"data":{{"{key}":{value}}},"error":null}}"#)
}

/// `{"response":<value>}`.
pub(crate) fn response(value: &str) -> String {
    format!(r#"{{"response":{value}}}"#)
}

/// `{"durationInSeconds":"…","positionInUnassignedChats":"…"}`: both texts of digits.
pub(crate) fn estimate(seconds: u64, position: u64) -> String {
    format!(r#"{{"durationInSeconds":"{seconds}","positionInUnassignedChats":"{position}"}}"#)
}

/// `{"order":<n>}`.
pub(crate) fn order(position: u64) -> String {
    format!(r#"{{"order":{position}}}"#)
}

#[cfg(test)]
mod tests;
