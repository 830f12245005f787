//! The body of the fuzz target: bytes, as frames and inputs, to a session.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_adapter::{
    Action, Actions, Decided, Input, Now, Partition, Received, Session as _, Topic,
};

use crate::options::{AirsendOptions, SessionSettings, Settings};
use crate::session::{Connection, Origin, Placing};
use crate::token::{Grant, Tokens, finger_print};
use crate::user::View;

const NOW: u64 = 1_767_225_600;
const SECRET: &str = "the secret of the fuzz target: 32 bytes and more";

/// Feeds lines of bytes to an authenticated session as frames, and looks whether what it sends is
/// JSON and how it closes.
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
    let auth = serde_json::json!({"command": "ws_auth", "auth_token": token, "ack": true, "resume": {"last_event_id": String::from_utf8_lossy(bytes)}});
    session.handle(
        now,
        Input::Frame(Received::Text(&auth.to_string())),
        &mut actions,
    );
    for line in bytes.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let received = match line.first() {
            Some(0) => Received::Binary(line),
            Some(1) => Received::Pong(line),
            _ => Received::Text(&text),
        };
        session.handle(now, Input::Frame(received), &mut actions);
        now.uptime += Duration::from_millis(u64::from(line.first().copied().unwrap_or_default()));
        for _ in 0..8 {
            let asked: Vec<Action> = actions.drain().collect();
            if asked.is_empty() {
                break;
            }
            for action in asked {
                answer(&mut session, now, action, &mut actions);
            }
        }
    }
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
            let view = View {
                user: 1,
                changes: 0,
                forgotten: 0,
                spans: Vec::new(),
            };
            let decided = Decided {
                answer: serde_json::json!({ "done": view }).to_string().into(),
                appended: Vec::new(),
            };
            let result = Ok(&decided);
            session.handle(now, Input::Committed { tag, result }, actions);
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
    }
}
