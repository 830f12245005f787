//! The body of the fuzz target: bytes, as frames and inputs, to a session.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Action, Actions, Appended, At, Attributes, Batch, Cursor as Places, Decided, Event, EventId,
    Input, Now, Outcome, Partition, Placed, Prev, Printed, Received, Session as _, SubId, TimerId,
    Topic, TopicSet, Variant, Verdict,
};

use crate::cursor::Seal;
use crate::keys;
use crate::options::{AirsendOptions, SessionSettings, Settings};
use crate::session::{Connection, Origin, Placing};
use crate::token::{Grant, Tokens, finger_print};
use crate::user::{self, Span, View};

/// The channel of which user 1 is a member.
const CHANNEL: u64 = 11;

const NOW: u64 = 1_767_225_600;
const SECRET: &str = "the secret of the fuzz target: 32 bytes and more";

/// Feeds lines of bytes to an authenticated session, and looks whether what it sends is JSON and how
/// it closes. The first byte of a line says what it is: 0 a binary frame, 1 a pong, 2 a notice, 3 an
/// event of a channel with that subject, 4 one that is not retained, 5 a timer, 6 a lost place;
/// anything else is the line of a text frame.
///
/// # Panics
/// When the session does, sends what is not JSON, or closes without a code; that is what it is for.
pub fn fuzz_frame(bytes: &[u8]) {
    let (Some(mut session), Some(token)) = (connection(|_| ()), token(1, 1, 600)) else {
        return;
    };
    let mut actions = Actions::default();
    let mut now = Now {
        uptime: Duration::ZERO,
        unix_ms: NOW * 1000,
    };
    session.handle(now, Input::Opened, &mut actions);
    // What is within a seal is ours, but for what was said by another version.
    let resume = seal().close(bytes.to_vec());
    let auth = serde_json::json!({"command": "ws_auth", "auth_token": token, "ack": true, "resume": {"last_event_id": resume}});
    session.handle(
        now,
        Input::Frame(Received::Text(&auth.to_string())),
        &mut actions,
    );
    settle(&mut session, now, &mut actions);
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let rest = line.get(1..).unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        let subject = String::from_utf8_lossy(rest);
        let at = EventId::new(NOW * 1000 + number, 0).unwrap_or_default();
        let topic = keys::channel_topic(CHANNEL);
        let input = match line.first() {
            Some(0) => Input::Frame(Received::Binary(line)),
            Some(1) => Input::Frame(Received::Pong(line)),
            Some(2) => {
                let event = event(keys::user_topic(1), at, user::NOTICE, rest, "");
                let batch = batch(event);
                let sub = SubId(0);
                session.handle(now, Input::Events { sub, batch: &batch }, &mut actions);
                settle(&mut session, now, &mut actions);
                continue;
            }
            Some(3) => {
                let batch = batch(event(topic, at, "x", b"{}", &subject));
                let sub = SubId(1);
                session.handle(now, Input::Events { sub, batch: &batch }, &mut actions);
                settle(&mut session, now, &mut actions);
                continue;
            }
            Some(4) => {
                let events = [event(topic, at, "x", b"{}", &subject)];
                let (sub, events) = (SubId(1), &events[..]);
                session.handle(now, Input::Flash { sub, events }, &mut actions);
                settle(&mut session, now, &mut actions);
                continue;
            }
            Some(5) => Input::Timer(TimerId(u32::from(
                rest.first().copied().unwrap_or_default(),
            ))),
            Some(6) => {
                let (sub, verdict) = (SubId(1), Verdict::Expired);
                let topic = &topic;
                let lost = Input::Verdict {
                    sub,
                    topic,
                    verdict,
                };
                session.handle(now, lost, &mut actions);
                settle(&mut session, now, &mut actions);
                continue;
            }
            _ => Input::Frame(Received::Text(&text)),
        };
        session.handle(now, input, &mut actions);
        now.uptime += Duration::from_millis(u64::from(line.first().copied().unwrap_or_default()));
        settle(&mut session, now, &mut actions);
    }
}

/// Answers what the session asks for, as long as it asks.
fn settle(session: &mut Connection, now: Now, actions: &mut Actions) {
    for _ in 0..64 {
        let asked: Vec<Action> = actions.drain().collect();
        if asked.is_empty() {
            return;
        }
        for action in asked {
            answer(session, now, action, actions);
        }
    }
}

/// An event, printed each time.
#[derive(Debug)]
struct Plain(Event);

impl Printed for Plain {
    fn event(&self) -> &Event {
        &self.0
    }

    fn printed(&self, variant: Variant) -> Bytes {
        (variant.print)(&self.0)
    }
}

fn event(topic: Topic, id: EventId, kind: &str, data: &[u8], subject: &str) -> Arc<dyn Printed> {
    let attributes = Attributes {
        subject: Some(subject.into()),
        ..Attributes::default()
    };
    Arc::new(Plain(Event {
        id,
        prev: Prev::Unknown,
        topic,
        kind: kind.into(),
        data: Bytes::copy_from_slice(data),
        attributes: Some(Box::new(attributes)),
    }))
}

fn batch(event: Arc<dyn Printed>) -> Batch {
    let before = stands(vec![event.event().topic.clone()]);
    let events = vec![event];
    Batch { events, before }
}

/// Everything is at the beginning of the test.
pub(crate) fn stands(topics: Vec<Topic>) -> At {
    let partition = Partition(0);
    let placed = topics.into_iter().map(|topic| Placed { partition, topic });
    let set = TopicSet::new(placed.collect()).expect("a few topics of one partition");
    let at = EventId::new(NOW * 1000, 0).unwrap_or_default();
    At {
        cursor: Places::everywhere(&set, at),
        set: Arc::new(set),
    }
}

/// What this target's cursors are sealed with.
pub(crate) fn seal() -> Seal {
    Seal::new(SECRET.as_bytes())
}

/// A token of this target's secret, good for so many seconds.
pub(crate) fn token(user: u64, print: u8, seconds: u64) -> Option<String> {
    let grant = Grant {
        user,
        finger_print: finger_print([print; 12]),
        expires: NOW + seconds,
        generation: 0,
    };
    let tokens = Tokens::new(SECRET.as_bytes())?;
    tokens.sign_ws(&grant, "A", "::1", "fuzz", NOW)
}

/// A session of this target's secret.
pub(crate) fn connection(change: impl FnOnce(&mut SessionSettings)) -> Option<Connection> {
    let options = AirsendOptions {
        secret: Some(SECRET.to_owned()),
        ..AirsendOptions::default()
    };
    let mut settings = Settings::of(options).ok()?;
    change(&mut settings.session);
    let tokens = Tokens::new(&settings.secret)?;
    let origin = Origin {
        settings: settings.session,
        tokens: Arc::new(tokens),
        placing: Placing(Arc::new(|_: &Topic| Partition(0))),
        connection: "c".to_owned(),
        incarnation: format!("{:032x}", 1),
    };
    Some(Connection::new(origin))
}

fn answer(session: &mut Connection, now: Now, action: Action, actions: &mut Actions) {
    match action {
        Action::Send(frame) if frame.kind == tidings_adapter::FrameKind::Text => {
            let text = [frame.head, frame.body, frame.tail].concat();
            let json: Result<Value, _> = serde_json::from_slice(&text);
            assert!(json.is_ok_and(|json| json["event"].is_string()), "{text:?}");
        }
        Action::Close(close) => assert!(close.code > 1000 && close.code != 1005),
        Action::Commit { tag, .. } => {
            let span = Span {
                channel: CHANNEL,
                joined: 1,
                nonce: "n".to_owned(),
                since_ms: NOW * 1000,
                left: None,
            };
            let view = View {
                user: 1,
                changes: 1,
                forgotten: 0,
                spans: vec![span],
            };
            let decided = Decided {
                answer: serde_json::json!({ "done": view }).to_string().into(),
                appended: Vec::new(),
            };
            let result = Ok(&decided);
            session.handle(now, Input::Committed { tag, result }, actions);
        }
        Action::Subscribe { sub, topics, .. } => {
            let at = &stands(topics);
            session.handle(now, Input::Subscribed { sub, at }, actions);
            session.handle(now, Input::CaughtUp { sub, at }, actions);
        }
        Action::Publish { tag, .. } => {
            let (id, outcome) = (EventId::default(), Outcome::New);
            let result = Ok(Appended { id, outcome });
            session.handle(now, Input::Published { tag, result }, actions);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_frame_panics(lines in prop::collection::vec("(\\PC{0,40}|\\{\"command\":\"ws_[a-z_]{3,22}\",\"channel_id\":[0-9]{1,3}\\})", 0..8)) {
            fuzz_frame(lines.join("\n").as_bytes());
        }
    }

    #[test]
    fn every_command() {
        let text = "{\"command\":\"ws_ping\",\"cid\":1}\n{\"command\":\"ws_ephemeral_typing\",\"channel_id\":1}\n{\"command\":\"ws_add_reaction\",\"message_id\":1,\"emoji_value\":\"x\"}\n{\"command\":\"ws_read_notification\",\"message_id\":1,\"channel_id\":1}\n\u{0}";
        fuzz_frame(text.as_bytes());
        fuzz_frame(b"\x03leave:1:n\n\x02{\"left\":{\"change\":2,\"joined\":1}}\n\x04except:1\n\x05\x01\n\x06");
    }
}
