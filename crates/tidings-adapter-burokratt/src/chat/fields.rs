//! What a message and an owner change about a chat's fields.

use super::{Owner, Record};
use crate::objects::{Chat, Message, print_time};

/// Bytes of the last message within a chat, as JSON: a list of a thousand chats stays small.
const LAST_MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of its event.
const EVENT_BYTES_MAX: usize = 256;

/// Events that "last message" leaves out.
const SILENT: [&str; 4] = [
    "rating",
    "requested-chat-forward",
    "requested-chat-forward-accepted",
    "requested-chat-forward-rejected",
];

impl Record {
    /// What a message changes about its chat by having been said.
    pub(super) fn heard(&mut self, message: &Message, at_ms: u64) {
        self.last_ms = at_ms;
        let chat = &mut self.chat;
        chat.updated = print_time(at_ms);
        if SILENT.contains(&message.event.as_str()) {
            return;
        }
        if !message.content.is_empty() {
            chat.last_message = cut(&message.content, LAST_MESSAGE_BYTES_MAX).to_owned();
        }
        chat.last_message_timestamp = chat.updated.clone();
        chat.last_message_event = cut(&message.event, EVENT_BYTES_MAX).to_owned();
        chat.event = chat.last_message_event.clone();
    }
}

pub(super) fn set(field: &mut String, value: Option<String>) {
    if let Some(value) = value {
        *field = value;
    }
}

pub(super) fn own(chat: &mut Chat, owner: Owner) {
    set(&mut chat.customer_support_id, owner.id);
    set(&mut chat.customer_support_display_name, owner.name);
    set(&mut chat.csa_title, owner.title);
    let forwarded = [
        (&mut chat.forwarded_by_user, owner.forwarded_by_user),
        (&mut chat.forwarded_from_csa, owner.forwarded_from_csa),
        (&mut chat.forwarded_to_csa, owner.forwarded_to_csa),
    ];
    for (field, value) in forwarded {
        if value.is_some() {
            *field = value;
        }
    }
}

/// The beginning of a text that is no longer than this as JSON.
fn cut(text: &str, max: usize) -> &str {
    let mut size = 0;
    for (at, letter) in text.char_indices() {
        size += match letter {
            '"' | '\\' => 2,
            letter if letter.is_control() => 6,
            letter => letter.len_utf8(),
        };
        if size > max {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello", 4), "hell");
        assert_eq!(cut("ääää", 5), "ää");
        assert_eq!(cut("a\"b", 3), "a\"");
        assert_eq!(cut("\0\0", 11), "\0");
        assert_eq!(cut("", 0), "");
    }
}
