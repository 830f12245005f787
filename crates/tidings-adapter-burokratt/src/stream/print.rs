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
mod tests;
