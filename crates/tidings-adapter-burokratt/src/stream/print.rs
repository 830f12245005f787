//! Frames: what events and control words look like on the wire (contract sections 1.3 and 4).
//!
//! An event's frame is printed once for each of a closed set of variants and shared by all streams.
//! Whatever a message says, its frame has one `id` line and one `data` line: JSON has no raw line
//! feed but between its tokens, and there it becomes a blank. U+2028 is no line end to an event
//! stream and stays.

use std::fmt::Write as _;

use serde::Deserialize;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Event, Variant};

use crate::keys::kind;
use crate::objects;

/// A comment for a silent stream: neither an id nor data (4.5).
pub(crate) const HEARTBEAT: &str = ": hb\n\n";

/// The session is over; the client's reconnect is refused (1.7).
pub(crate) const SESSION_EXPIRED: &str =
    "event: session_expired\ndata: {\"type\":\"session_expired\"}\n\n";

/// How long the client is to wait before it reconnects: 20 % more or less by `share`, a number in
/// `0..1` of this connection's own, so that they do not all come back at once (4.2).
pub(crate) fn retry(ms: u64, share: f64) -> String {
    let jittered = ms as f64 * (0.8 + 0.4 * share.clamp(0.0, 1.0));
    format!("retry: {}\n\n", jittered.round())
}

/// The replay is over (4.3). A stream of states alone has no cursor.
pub(crate) fn ready(cursor: Option<&str>, resumed: bool, replayed: u64) -> String {
    let mut frame = String::from("event: ready\n");
    if let Some(cursor) = cursor {
        // Infallible: a string takes all that is written to it.
        let _ = writeln!(frame, "id: {cursor}");
    }
    let data = serde_json::json!({"cursor": cursor, "resumed": resumed, "replayed": replayed});
    let _ = write!(frame, "data: {data}\n\n");
    frame
}

/// Why a client's place is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Something after it is not retained any more.
    Expired,
    /// The log has no such place.
    Unknown,
    /// It is not one.
    Invalid,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

/// What is known of a gap; texts are escaped as JSON, whoever sent them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap<'a> {
    pub(crate) reason: Reason,
    /// As the client sent it; none when the loss was the log's, under a client that was there.
    pub(crate) last_event_id: Option<&'a str>,
    /// The first entry that is still retained.
    pub(crate) oldest: Option<&'a str>,
    pub(crate) newest: &'a str,
    /// Of a stream over several channels: which.
    pub(crate) channel: Option<&'a str>,
}

impl Gap<'_> {
    /// The frame; never with an id (4.4).
    pub(crate) fn print(&self) -> String {
        let mut data = serde_json::json!({
            "type": "gap",
            "reason": self.reason.as_str(),
            "lastEventId": self.last_event_id,
            "oldest": self.oldest,
            "newest": self.newest,
        });
        if let Some(channel) = self.channel {
            data["channelId"] = channel.into();
        }
        format!("event: gap\ndata: {data}\n\n")
    }
}

/// What stands around the JSON of a bare data line.
pub(crate) const BARE: Around = ("data: ", "\n\n");

/// What stands around a whole answer in the envelope of `/ruuter/sse/…`.
pub(crate) const RUUTER: Around = (
    "data: {\"headers\":{},\"body\":",
    ",\"statusCode\":\"OK\",\"statusCodeValue\":200}\n\n",
);

/// What opens and closes a frame, from its data line on.
pub(crate) type Around = (&'static str, &'static str);

/// The envelope around one entry of a log: 2023 clients want an array under one key.
macro_rules! envelope {
    ($code:literal) => {
        (
            concat!(
                "data: {\"headers\":{},\"body\":{\"data\":{\"",
                $code,
                "\":["
            ),
            "]},\"error\":null},\"statusCode\":\"OK\",\"statusCodeValue\":200}\n\n",
        )
    };
}

/// `/ruuter/sse/queue/<id>`.
pub(crate) const RUUTER_QUEUE: Around = envelope!("queue");

/// The frames of one path, by what an event is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    /// What stands around their JSON.
    pub(crate) around: Around,
    /// A message of the chat.
    pub(crate) message: Variant,
    /// A payload, verbatim, with its id. `None`: such entries are not for this path.
    pub(crate) payload: Option<Variant>,
    /// A payload that is not retained, without an id.
    pub(crate) flash: Option<Variant>,
}

/// `/sse/get-new-messages` and `/sse/cs-get-new-messages`.
pub(crate) const NEW_MESSAGES: Frames = Frames {
    around: BARE,
    message: Variant {
        name: "burokratt.new",
        print: |event| entry(event, BARE, new_message),
    },
    payload: None,
    flash: None,
};

/// `/ruuter/sse/get-new-messages`.
pub(crate) const RUUTER_NEW_MESSAGES: Frames = Frames {
    around: envelope!("get_new_messages"),
    message: Variant {
        name: "burokratt.ruuter.new",
        print: |event| entry(event, envelope!("get_new_messages"), new_message),
    },
    payload: None,
    flash: None,
};

/// `/ruuter/sse/cs-get-new-messages`.
pub(crate) const RUUTER_CS_NEW_MESSAGES: Frames = Frames {
    around: envelope!("cs_get_new_messages"),
    message: Variant {
        name: "burokratt.ruuter.cs-new",
        print: |event| entry(event, envelope!("cs_get_new_messages"), new_message),
    },
    payload: None,
    flash: None,
};

/// `/sse/notifications/<channel>`.
pub(crate) const NOTIFICATIONS: Frames = Frames {
    around: BARE,
    message: Variant {
        name: "burokratt.note",
        print: |event| entry(event, BARE, nudge),
    },
    payload: Some(Variant {
        name: "burokratt.payload",
        print: |event| entry(event, BARE, verbatim),
    }),
    flash: Some(Variant {
        name: "burokratt.flash",
        print: |event| frame("", event, BARE, verbatim),
    }),
};

/// `/ruuter/sse/notifications/<channel>`.
pub(crate) const RUUTER_NOTIFICATIONS: Frames = Frames {
    around: envelope!("notifications"),
    message: Variant {
        name: "burokratt.ruuter.note",
        print: |event| entry(event, envelope!("notifications"), nudge),
    },
    payload: Some(Variant {
        name: "burokratt.ruuter.payload",
        print: |event| entry(event, envelope!("notifications"), verbatim),
    }),
    flash: Some(Variant {
        name: "burokratt.ruuter.flash",
        print: |event| frame("", event, envelope!("notifications"), verbatim),
    }),
};

/// `/sse/events`: named events, whose compound id stands before them and is the stream's own.
pub(crate) const SEVERAL_MESSAGE: Variant = Variant {
    name: "burokratt.several.message",
    print: |event| frame("event: message\n", event, BARE, verbatim),
};

/// The same, of `chat-list`.
pub(crate) const SEVERAL_CHAT_LIST: Variant = Variant {
    name: "burokratt.several.chat-list",
    print: |event| frame("event: chat-list\n", event, BARE, verbatim),
};

/// `/ruuter/sse/events`.
pub(crate) const RUUTER_SEVERAL_MESSAGE: Variant = Variant {
    name: "burokratt.ruuter.several.message",
    print: |event| frame("event: message\n", event, envelope!("events"), verbatim),
};

/// The same, of `chat-list`.
pub(crate) const RUUTER_SEVERAL_CHAT_LIST: Variant = Variant {
    name: "burokratt.ruuter.several.chat-list",
    print: |event| frame("event: chat-list\n", event, envelope!("events"), verbatim),
};

/// Writes an event's JSON.
type Content = fn(&Event, &mut Vec<u8>);

fn entry(event: &Event, around: Around, content: Content) -> Bytes {
    frame(&format!("id: {}\n", event.id), event, around, content)
}

fn frame(head: &str, event: &Event, (open, close): Around, content: Content) -> Bytes {
    let around = head.len() + open.len() + close.len();
    let mut out = Vec::with_capacity(around + event.data.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(open.as_bytes());
    content(event, &mut out);
    out.extend_from_slice(close.as_bytes());
    out.into()
}

/// The event's data on one line.
fn verbatim(event: &Event, out: &mut Vec<u8>) {
    one_line(&event.data, out);
}

/// JSON on one line: a raw line end can only stand between two tokens.
fn one_line(json: &[u8], out: &mut Vec<u8>) {
    let blank = |byte: &u8| match byte {
        b'\n' | b'\r' => b' ',
        other => *other,
    };
    out.extend(json.iter().map(blank));
}

/// A message as `…-new-messages` has it: `chatid` instead of `chatId` (section 0.4).
fn new_message(event: &Event, out: &mut Vec<u8>) {
    one_line(&objects::with_small_chatid(&event.data), out);
}

/// A message as the notification-server tells of it (1.4).
fn nudge(event: &Event, out: &mut Vec<u8>) {
    #[derive(Default, Deserialize)]
    struct Message {
        id: String,
    }
    let message: Message = serde_json::from_slice(&event.data).unwrap_or_default();
    out.extend_from_slice(objects::message_nudge(&message.id).as_bytes());
}

/// Which frame an event has on a path with these; `None` when it has none.
impl Frames {
    pub(crate) fn of(&self, event: &Event) -> Option<Variant> {
        match &*event.kind {
            kind::MESSAGE => Some(self.message),
            kind::RAW | kind::NUDGE => self.payload,
            _ => None,
        }
    }

    pub(crate) fn of_flash(&self, event: &Event) -> Option<Variant> {
        self.flash.filter(|_| &*event.kind == kind::PREVIEW)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tidings_adapter::{EventId, Prev, Topic};

    use super::*;

    fn event(kind: &str, data: String) -> Event {
        Event {
            id: EventId::new(1_767_225_600_000, 7).expect("in range"),
            prev: Prev::Unknown,
            topic: Topic::parse("burokratt/channel/c").expect("valid"),
            kind: kind.into(),
            data: data.into(),
            attributes: None,
        }
    }

    fn print(variant: Variant, event: &Event) -> String {
        String::from_utf8((variant.print)(event).to_vec()).expect("text")
    }

    /// Reads a frame as an event stream's client does: the values of each field.
    fn fields(frame: &str) -> Vec<(String, String)> {
        let lines = frame.strip_suffix("\n\n").expect("it is whole");
        // CR, LF and CR LF end lines, and nothing else (WHATWG HTML §9.2.5).
        lines
            .split(['\n', '\r'])
            .map(|line| {
                let (name, value) = line.split_once(": ").expect("a field");
                (name.to_owned(), value.to_owned())
            })
            .collect()
    }

    #[test]
    fn each_path_has_its_frames() {
        let message = event(
            kind::MESSAGE,
            r#"{"id":"m-1","chatId":"c","content":"hei","rating":1.50}"#.into(),
        );
        let id = "id: 1767225600000-0007\n";
        let table = [
            (
                NEW_MESSAGES.message,
                format!(
                    "{id}data: {}\n\n",
                    r#"{"id":"m-1","chatid":"c","content":"hei","rating":1.50}"#
                ),
            ),
            (
                RUUTER_CS_NEW_MESSAGES.message,
                format!(
                    "{id}data: {}\n\n",
                    r#"{"headers":{},"body":{"data":{"cs_get_new_messages":[{"id":"m-1","chatid":"c","content":"hei","rating":1.50}]},"error":null},"statusCode":"OK","statusCodeValue":200}"#
                ),
            ),
            (
                NOTIFICATIONS.message,
                format!(
                    "{id}data: {}\n\n",
                    r#"{"type":"message","messageId":"m-1"}"#
                ),
            ),
        ];
        for (variant, expected) in table {
            assert_eq!(print(variant, &message), expected);
        }
        let raw = event(kind::RAW, "{\"a\":\r\n [1,\n2]}".into());
        let payload = NOTIFICATIONS.of(&raw).expect("payloads are told");
        assert_eq!(
            print(payload, &raw),
            format!("{id}data: {{\"a\":   [1, 2]}}\n\n")
        );
        assert!(NEW_MESSAGES.of(&raw).is_none());
        let preview = event(kind::PREVIEW, r#"{"type":"preview","messageId":""}"#.into());
        let flash = NOTIFICATIONS.of_flash(&preview).expect("previews are told");
        assert_eq!(
            print(flash, &preview),
            "data: {\"type\":\"preview\",\"messageId\":\"\"}\n\n"
        );
    }

    #[test]
    fn control_words() {
        assert_eq!(retry(3000, 0.0), "retry: 2400\n\n");
        assert_eq!(retry(3000, 1.0), "retry: 3600\n\n");
        assert_eq!(
            fields(&ready(Some("1-1"), true, 3)),
            [
                ("event".to_owned(), "ready".to_owned()),
                ("id".to_owned(), "1-1".to_owned()),
                (
                    "data".to_owned(),
                    r#"{"cursor":"1-1","replayed":3,"resumed":true}"#.to_owned()
                ),
            ]
        );
    }

    #[test]
    fn every_variant_has_its_own_name() {
        let mut names = Vec::new();
        for frames in [
            NEW_MESSAGES,
            RUUTER_NEW_MESSAGES,
            RUUTER_CS_NEW_MESSAGES,
            NOTIFICATIONS,
            RUUTER_NOTIFICATIONS,
        ] {
            names.push(frames.message.name);
            names.extend(
                [frames.payload, frames.flash]
                    .into_iter()
                    .flatten()
                    .map(|one| one.name),
            );
        }
        let several = [
            SEVERAL_MESSAGE,
            SEVERAL_CHAT_LIST,
            RUUTER_SEVERAL_MESSAGE,
            RUUTER_SEVERAL_CHAT_LIST,
        ];
        names.extend(several.map(|one| one.name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    /// Texts that look like the frame around them, in every spelling of a line end.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\n".to_owned()),
            Just("\r".to_owned()),
            Just("\r\n\r\n".to_owned()),
            Just("\u{2028}\u{2029}\u{85}".to_owned()),
            Just("\0".to_owned()),
            Just("data: x".to_owned()),
            Just("id: 9-9\n".to_owned()),
            Just("event: gap".to_owned()),
            Just("\"}]".to_owned()),
            Just("\\n".to_owned()),
            any::<String>(),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_message_says_its_frame_has_one_id_and_one_line_of_data(
            text in texts(), key in texts(), pretty: bool
        ) {
            let said = json!({"id": text, "chatId": text, "content": text, key: text});
            let data = if pretty {
                serde_json::to_string_pretty(&said)
            } else {
                serde_json::to_string(&said)
            };
            let data = data.expect("JSON");
            let all = [NEW_MESSAGES, RUUTER_NEW_MESSAGES, NOTIFICATIONS, RUUTER_NOTIFICATIONS];
            for frames in all {
                for kind in [kind::MESSAGE, kind::RAW] {
                    let event = event(kind, data.clone());
                    let Some(variant) = frames.of(&event) else { continue };
                    let frame = print(variant, &event);
                    let fields = fields(&frame);
                    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                    prop_assert_eq!(names, ["id", "data"]);
                    prop_assert_eq!(&fields[0].1, "1767225600000-0007");
                    let value: Value = serde_json::from_str(&fields[1].1).expect("JSON");
                    if kind == kind::RAW && frames.message.name == NOTIFICATIONS.message.name {
                        prop_assert_eq!(&value, &said);
                    }
                }
            }
        }

        #[test]
        fn whatever_a_client_sends_as_its_place_a_gap_is_one_line_without_an_id(text in texts()) {
            let gap = Gap {
                reason: Reason::Invalid,
                last_event_id: Some(&text),
                oldest: None,
                newest: "0-0",
                channel: Some(&text),
            };
            let frame = gap.print();
            let fields = fields(&frame);
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            prop_assert_eq!(names, ["event", "data"]);
            let value: Value = serde_json::from_str(&fields[1].1).expect("JSON");
            prop_assert_eq!(&value["lastEventId"], &json!(text));
        }
    }
}
