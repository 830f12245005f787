//! What clients send: one JSON object per message.

use serde_json::{Map, Value};

use crate::objects::id;

/// Bytes of an emoji.
const EMOJI_BYTES_MAX: usize = 64;

/// Characters of a `cid` (contract §1.7).
const CID_CHARS_MAX: usize = 64;

/// Not JSON, not an object, or `command` is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a message is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parsed {
    Auth(Auth),
    Ping,
    Command(Command),
    /// A command of ours with a field that cannot be used.
    Invalid,
    /// No command of ours.
    Unknown,
}

/// `ws_auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Auth {
    pub(crate) token: Option<String>,
    /// Whether hello is wanted.
    pub(crate) ack: bool,
    /// The cursor to go on from. One that is no text is no good.
    pub(crate) resume: Option<String>,
}

/// A command that asks for something to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Typing,
    Read,
    ReadAll,
    React,
    Unreact,
}

/// A command with its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Typing { channel: u64 },
    Read { channel: u64, message: u64 },
    ReadAll { channel: u64 },
    React { message: u64, emoji: String },
    Unreact { message: u64, emoji: String },
}

impl Command {
    /// As a client says it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Typing { .. } => "ws_ephemeral_typing",
            Self::Read { .. } => "ws_read_notification",
            Self::ReadAll { .. } => "ws_all_read_notification",
            Self::React { .. } => "ws_add_reaction",
            Self::Unreact { .. } => "ws_remove_reaction",
        }
    }

    /// As it is forwarded.
    pub(crate) fn fields(&self) -> Value {
        match self {
            Self::Typing { channel } | Self::ReadAll { channel } => {
                serde_json::json!({ "channel_id": channel })
            }
            Self::Read { channel, message } => {
                serde_json::json!({ "channel_id": channel, "message_id": message })
            }
            Self::React { message, emoji } | Self::Unreact { message, emoji } => {
                serde_json::json!({ "message_id": message, "emoji_value": emoji })
            }
        }
    }
}

/// A message and its `cid`.
pub(crate) fn parse(text: &str) -> Result<(Parsed, Option<Value>), Malformed> {
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| Malformed)?;
    let command = object
        .get("command")
        .and_then(Value::as_str)
        .ok_or(Malformed)?;
    let cid = object.get("cid").filter(|cid| match cid {
        Value::String(text) => text.chars().count() <= CID_CHARS_MAX,
        other => other.is_number(),
    });
    let name = match command {
        "ws_auth" => return Ok((Parsed::Auth(auth(&object)), cid.cloned())),
        "ws_ping" => return Ok((Parsed::Ping, cid.cloned())),
        "ws_ephemeral_typing" => Name::Typing,
        "ws_read_notification" => Name::Read,
        "ws_all_read_notification" => Name::ReadAll,
        "ws_add_reaction" => Name::React,
        "ws_remove_reaction" => Name::Unreact,
        _ => return Ok((Parsed::Unknown, None)),
    };
    let parsed = fields(name, &object).map_or(Parsed::Invalid, Parsed::Command);
    Ok((parsed, cid.cloned()))
}

fn auth(object: &Map<String, Value>) -> Auth {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let resume = object.get("resume").filter(|resume| !resume.is_null());
    Auth {
        token: object.get("auth_token").and_then(text),
        ack: object.get("ack") == Some(&Value::Bool(true)),
        resume: resume.map(|resume| text(&resume["last_event_id"]).unwrap_or_default()),
    }
}

fn fields(name: Name, object: &Map<String, Value>) -> Option<Command> {
    let channel = || id(object.get("channel_id")?);
    let message = || id(object.get("message_id")?);
    let emoji = || {
        let emoji = object.get("emoji_value")?.as_str()?;
        (1..=EMOJI_BYTES_MAX)
            .contains(&emoji.len())
            .then(|| emoji.to_owned())
    };
    Some(match name {
        Name::Typing => Command::Typing {
            channel: channel()?,
        },
        Name::ReadAll => Command::ReadAll {
            channel: channel()?,
        },
        Name::Read => Command::Read {
            channel: channel()?,
            message: message()?,
        },
        Name::React => Command::React {
            message: message()?,
            emoji: emoji()?,
        },
        Name::Unreact => Command::Unreact {
            message: message()?,
            emoji: emoji()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Parsed, Malformed> {
        parse(text).map(|(parsed, _)| parsed)
    }

    #[test]
    fn malformed() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            "3",
            "\"ws_ping\"",
            "{}",
            r#"{"command":1}"#,
            r#"{"command":null}"#,
            r#"{"command":["ws_ping"]}"#,
            "{'command':'ws_ping'}",
            r#"{"command":"ws_ping",}"#,
            r#"{"command":"ws_ping"} x"#,
            "\u{feff}{\"command\":\"ws_ping\"}",
        ] {
            assert_eq!(parsed(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn commands() {
        let typing = Parsed::Command(Command::Typing { channel: 11 });
        for (text, expected) in [
            (r#"{"command":"ws_ping","x":1}"#, Parsed::Ping),
            (r#"{"command":"WS_PING"}"#, Parsed::Unknown),
            (r#"{"command":""}"#, Parsed::Unknown),
            (
                r#"{"command":"ws_ephemeral_typing","channel_id":11}"#,
                typing.clone(),
            ),
            (
                r#"{"command":"ws_ephemeral_typing","channel_id":"11","user_email":"x"}"#,
                typing,
            ),
            (r#"{"command":"ws_ephemeral_typing"}"#, Parsed::Invalid),
            (
                r#"{"command":"ws_ephemeral_typing","channel_id":1.5}"#,
                Parsed::Invalid,
            ),
            (
                r#"{"command":"ws_read_notification","channel_id":1}"#,
                Parsed::Invalid,
            ),
            (
                r#"{"command":"ws_add_reaction","message_id":1,"emoji_value":""}"#,
                Parsed::Invalid,
            ),
            (
                r#"{"command":"ws_add_reaction","message_id":1,"emoji_value":"U 1F600"}"#,
                Parsed::Command(Command::React {
                    message: 1,
                    emoji: "U 1F600".into(),
                }),
            ),
        ] {
            assert_eq!(parsed(text), Ok(expected), "{text}");
        }
        let long = format!(
            r#"{{"command":"ws_add_reaction","message_id":1,"emoji_value":"{}"}}"#,
            "x".repeat(65)
        );
        assert_eq!(parsed(&long), Ok(Parsed::Invalid));
    }

    #[test]
    fn cids() {
        let cid =
            |cid: &str| parse(&format!(r#"{{"command":"ws_ping","cid":{cid}}}"#)).map(|it| it.1);
        assert_eq!(cid("7"), Ok(Some(7.into())));
        assert_eq!(cid("\"a\""), Ok(Some("a".into())));
        assert_eq!(cid("true"), Ok(None));
        assert_eq!(cid(&format!("{:?}", "x".repeat(65))), Ok(None));
    }
}
