//! The body of the fuzz target: bytes, as frames and inputs, to a session.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::{
    Action, Actions, EventId, From, Input, Now, Received, Session as _, TimerId,
};

use crate::apps::App;
use crate::event::Subject;
use crate::options::SessionSettings;
use crate::session::{Connection, Mode};
use crate::token::Grant;

/// Feeds bytes to a session, and looks whether what it sends is JSON. The first byte chooses the
/// protocol; then lines are frames, and what the session asks for is answered as the first byte of
/// each line says.
///
/// # Panics
/// When the session does, or sends what is not JSON; that is what it is for.
pub fn fuzz_frame(bytes: &[u8]) {
    let (mode, rest) = match bytes.split_first() {
        Some((first, rest)) if first % 2 == 1 => (Mode::Extended, rest),
        Some((_, rest)) => (Mode::Base, rest),
        None => return,
    };
    let mut session = session(mode);
    let mut actions = Actions::default();
    let mut now = Now {
        uptime: Duration::ZERO,
        unix_ms: 1_767_225_600_000,
    };
    session.handle(now, Input::Opened, &mut actions);
    for line in rest.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let received = match line.first() {
            Some(0) => Received::Binary(line),
            _ => Received::Text(&text),
        };
        session.handle(now, Input::Frame(received), &mut actions);
        now.uptime += Duration::from_millis(u64::from(line.first().copied().unwrap_or_default()));
        let asked: Vec<Action> = actions.drain().collect();
        for action in asked {
            answer(&mut session, now, action, &mut actions);
        }
    }
}

/// A session of an app that may receive two names.
pub(crate) fn session(mode: Mode) -> Connection {
    let subject = "Org/837ebb91-2d4b-4818-a19b-04fea7be8cde";
    let grant = Grant {
        app: Arc::new(App {
            name: "my_app".into(),
            password: None,
            provides: Default::default(),
            subscriptions: ["shop.sold".into(), "shop.returned".into()].into(),
            subjects: None,
        }),
        organisation: Subject::parse(subject).expect("an organisation"),
        expires_unix_ms: Some(1_767_229_200_000),
    };
    let settings = SessionSettings {
        ack_wait: Duration::from_secs(30),
        ack_wait_max: Duration::from_secs(600),
        check_expiry: true,
    };
    Connection::new(Ok(grant), mode, settings, Some("e1".into()))
}

fn answer(session: &mut Connection, now: Now, action: Action, actions: &mut Actions) {
    match action {
        Action::Send(frame) | Action::SendFirst(frame) => {
            let text = [frame.head, frame.body, frame.tail].concat();
            let json: Result<serde_json::Value, _> = serde_json::from_slice(&text);
            assert!(json.is_ok_and(|json| json.is_object()), "{text:?}");
        }
        Action::SetTimer {
            timer: TimerId(id),
            after,
        } if id > 1 => {
            let later = Now {
                uptime: now.uptime + after,
                ..now
            };
            session.handle(later, Input::Timer(TimerId(id)), actions);
        }
        Action::Fetch { sub, from, .. } => {
            let verdict = match from {
                From::After(id) if id > EventId::ORIGIN => tidings_adapter::Verdict::Expired,
                _ => tidings_adapter::Verdict::Ok,
            };
            session.handle(now, Input::Fetched { sub, verdict }, actions);
        }
        Action::Commit { tag, .. } => {
            let decided = tidings_adapter::Decided {
                answer: "{}".into(),
                appended: Vec::new(),
            };
            session.handle(
                now,
                Input::Committed {
                    tag,
                    result: Ok(&decided),
                },
                actions,
            );
        }
        _ => {}
    }
}
