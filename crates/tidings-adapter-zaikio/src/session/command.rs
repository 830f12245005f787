//! What a client may say, parsed with Action Cable's leniency: what is not understood is no command.
//!
//! There are no error frames in the protocol, so a frame that is not JSON, or a command that nobody
//! knows, is passed over in silence (recorded on Rails 6.1). Objects are read as maps: of two members
//! with one name the last counts, as in Ruby and JavaScript.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::event::parse_time;

/// A command that is carried out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    Subscribe {
        identifier: Arc<str>,
        history: Option<History>,
    },
    Unsubscribe {
        identifier: Arc<str>,
    },
    History {
        identifier: Arc<str>,
        history: History,
        /// By the command, which is answered also when nothing is subscribed.
        is_command: bool,
    },
    Ack {
        identifier: Arc<str>,
        ack: Ack,
        reply: bool,
        is_command: bool,
    },
}

impl Command {
    pub(crate) fn identifier(&self) -> &Arc<str> {
        match self {
            Self::Subscribe { identifier, .. }
            | Self::Unsubscribe { identifier }
            | Self::History { identifier, .. }
            | Self::Ack { identifier, .. } => identifier,
        }
    }
}

/// What is to be sent again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum History {
    /// By what is there of these, in this order.
    Wanted {
        /// Positions by stream.
        streams: Map<String, Value>,
        /// After the event of this id.
        after: Option<String>,
        /// Received at or after this time, milliseconds since 1970.
        since_ms: Option<u64>,
    },
    Malformed,
}

/// What is acked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ack {
    /// Events, by their ids.
    Ids(Vec<String>),
    /// Everything up to a position, by stream.
    Streams(Map<String, Value>),
    /// Neither; as it was sent, to be sent back.
    Malformed(Value),
}

/// The command in a text frame, if there is one.
pub(crate) fn parse(text: &str) -> Option<Command> {
    let Ok(Value::Object(mut frame)) = serde_json::from_str(text) else {
        return None;
    };
    let command = frame.get("command")?.as_str()?.to_owned();
    let identifier: Arc<str> = frame.get("identifier")?.as_str()?.into();
    Some(match command.as_str() {
        "subscribe" => Command::Subscribe {
            identifier,
            history: present(frame.remove("history")).map(history),
        },
        "unsubscribe" => Command::Unsubscribe { identifier },
        "history" => Command::History {
            identifier,
            history: present(frame.remove("history")).map_or(History::Malformed, history),
            is_command: true,
        },
        "ack" => Command::Ack {
            identifier,
            ack: ack(frame.remove("ack").unwrap_or_default()),
            reply: true,
            is_command: true,
        },
        "message" => action(identifier, frame.remove("data")?)?,
        _ => return None,
    })
}

/// A `perform`: the action and its arguments are in `data`, which is JSON in a string.
fn action(identifier: Arc<str>, data: Value) -> Option<Command> {
    let data = match data {
        Value::String(text) => serde_json::from_str(&text).ok()?,
        other => other,
    };
    let Value::Object(mut data) = data else {
        return None;
    };
    match data.get("action")?.as_str()? {
        "rewind" | "history" => {
            if !data.contains_key("after")
                && let Some(id) = data.remove("id")
            {
                data.insert("after".to_owned(), id);
            }
            Some(Command::History {
                identifier,
                history: history(Value::Object(data)),
                is_command: false,
            })
        }
        "ack" => {
            let reply = data.get("reply") == Some(&Value::Bool(true));
            data.retain(|name, _| matches!(name.as_str(), "id" | "ids" | "streams"));
            Some(Command::Ack {
                identifier,
                ack: ack(Value::Object(data)),
                reply,
                is_command: false,
            })
        }
        _ => None,
    }
}

/// `null` and `false` mean absent: `@anycable/core` really sends `{"since":false}`.
fn present(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !matches!(value, Value::Null | Value::Bool(false)))
}

fn history(value: Value) -> History {
    let Value::Object(mut asked) = value else {
        return History::Malformed;
    };
    let streams = match present(asked.remove("streams")) {
        None => Map::new(),
        Some(Value::Object(streams)) => streams,
        Some(_) => return History::Malformed,
    };
    let after = match present(asked.remove("after")) {
        None => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return History::Malformed,
    };
    let since_ms = match present(asked.remove("since")) {
        None => None,
        Some(since) => match time_ms(&since) {
            Some(ms) => Some(ms),
            None => return History::Malformed,
        },
    };
    History::Wanted {
        streams,
        after,
        since_ms,
    }
}

/// Seconds since 1970; milliseconds, where seconds would be the year 5138; or ISO 8601.
fn time_ms(value: &Value) -> Option<u64> {
    /// Above this a number is in milliseconds.
    const SECONDS_END: f64 = 1e11;
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) => number,
            Err(_) => {
                let ms = parse_time(text)?;
                return Some(u64::try_from(ms).unwrap_or_default());
            }
        },
        _ => return None,
    };
    if !number.is_finite() {
        return None;
    }
    let ms = if number > SECONDS_END {
        number
    } else {
        number * 1000.0
    };
    // Before 1970 is the beginning; the conversion saturates.
    Some(ms.max(0.0) as u64)
}

fn ack(value: Value) -> Ack {
    let Value::Object(ack) = &value else {
        return Ack::Malformed(Value::Object(Map::new()));
    };
    let ids = match (ack.get("ids"), ack.get("id"), ack.get("streams")) {
        (Some(Value::Array(ids)), _, _) => ids.as_slice(),
        (None | Some(Value::Null), Some(id), _) => std::slice::from_ref(id),
        (None | Some(Value::Null), None, Some(Value::Object(streams))) if !streams.is_empty() => {
            return Ack::Streams(streams.clone());
        }
        _ => return Ack::Malformed(value),
    };
    let texts: Option<Vec<String>> = ids
        .iter()
        .map(|id| id.as_str().map(str::to_owned))
        .collect();
    match texts {
        Some(ids) if !ids.is_empty() => Ack::Ids(ids),
        _ => Ack::Malformed(value),
    }
}

/// The position in our stream, if there is one: its epoch, and the offset if it is a number above 0.
pub(crate) fn position(
    streams: &Map<String, Value>,
    ours: &str,
) -> Option<Result<(String, u64), ()>> {
    let (_, position) = streams
        .iter()
        .find(|(stream, _)| stream.eq_ignore_ascii_case(ours))?;
    let epoch = position.get("epoch").and_then(Value::as_str);
    let offset = position.get("offset").and_then(Value::as_u64);
    Some(match (epoch, offset) {
        (Some(epoch), Some(offset)) if offset > 0 => Ok((epoch.to_owned(), offset)),
        _ => Err(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn since(value: Value) -> Option<Option<u64>> {
        match history(json!({ "since": value })) {
            History::Wanted { since_ms, .. } => Some(since_ms),
            History::Malformed => None,
        }
    }

    #[test]
    fn garbage_is_no_command() {
        for text in [
            "",
            "{",
            "[]",
            "3",
            "null",
            "\"subscribe\"",
            "{}",
            r#"{"command":"subscribe"}"#,
            r#"{"command":"subscribe","identifier":null}"#,
            r#"{"command":"subscribe","identifier":3}"#,
            r#"{"command":3,"identifier":"x"}"#,
            r#"{"command":"pong"}"#,
            r#"{"command":"whisper","identifier":"x","data":"{}"}"#,
            r#"{"command":"message","identifier":"x"}"#,
            r#"{"command":"message","identifier":"x","data":"nonsense"}"#,
            r#"{"command":"message","identifier":"x","data":"{}"}"#,
            r#"{"command":"message","identifier":"x","data":"{\"action\":\"dance\"}"}"#,
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
    }

    #[test]
    fn times() {
        assert_eq!(since(json!(1)), Some(Some(1000)));
        assert_eq!(since(json!(1_690_149_886)), Some(Some(1_690_149_886_000)));
        assert_eq!(
            since(json!(1_690_149_886_474_u64)),
            Some(Some(1_690_149_886_474))
        );
        assert_eq!(
            since(json!("2023-07-23T22:04:46.474Z")),
            Some(Some(1_690_149_886_474))
        );
        assert_eq!(since(json!("1690149886")), Some(Some(1_690_149_886_000)));
        assert_eq!(since(json!(-5)), Some(Some(0)));
        assert_eq!(since(json!(1e300)), Some(Some(u64::MAX)));
        assert_eq!(since(json!(false)), Some(None));
        assert_eq!(since(json!(null)), Some(None));
        for bad in [json!(true), json!("yesterday"), json!([]), json!("NaN")] {
            assert_eq!(since(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn acks() {
        assert_eq!(ack(json!({"id":"a"})), Ack::Ids(vec!["a".into()]));
        assert_eq!(
            ack(json!({"ids":["a","b"],"id":"c"})),
            Ack::Ids(vec!["a".into(), "b".into()])
        );
        assert!(matches!(ack(json!({"streams":{"s":{}}})), Ack::Streams(_)));
        for bad in [
            json!({}),
            json!(null),
            json!([]),
            json!({"ids":"a"}),
            json!({"ids":[3]}),
            json!({"ids":[]}),
            json!({"id":3}),
            json!({"streams":[]}),
            json!({"streams":{}}),
        ] {
            assert!(matches!(ack(bad.clone()), Ack::Malformed(_)), "{bad}");
        }
    }

    #[test]
    fn positions() {
        let of = |value: Value| {
            let Value::Object(streams) = value else {
                panic!()
            };
            position(&streams, "Org/a")
        };
        assert_eq!(
            of(json!({"Org/A":{"epoch":"e","offset":4}})),
            Some(Ok(("e".into(), 4)))
        );
        assert_eq!(of(json!({"Org/b":{"epoch":"e","offset":4}})), None);
        for bad in [
            json!({}),
            json!(3),
            json!({"epoch":"e"}),
            json!({"epoch":"e","offset":0}),
            json!({"epoch":"e","offset":-1}),
            json!({"epoch":"e","offset":1.5}),
            json!({"epoch":1,"offset":1}),
        ] {
            assert_eq!(of(json!({ "Org/a": bad })), Some(Err(())));
        }
    }

    #[test]
    fn actions() {
        let parsed = parse(
            r#"{"command":"message","identifier":"I","data":"{\"action\":\"rewind\",\"id\":\"x\"}"}"#,
        );
        let Some(Command::History {
            history: History::Wanted { after, .. },
            is_command: false,
            ..
        }) = parsed
        else {
            panic!("{parsed:?}")
        };
        assert_eq!(after.as_deref(), Some("x"));
        let parsed = parse(
            r#"{"command":"message","identifier":"I","data":{"action":"ack","id":"x","reply":true}}"#,
        );
        assert_eq!(
            parsed,
            Some(Command::Ack {
                identifier: "I".into(),
                ack: Ack::Ids(vec!["x".into()]),
                reply: true,
                is_command: false,
            })
        );
    }
}
