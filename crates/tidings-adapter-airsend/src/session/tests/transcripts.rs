//! Transcripts: one text file for each rule of the contract's §1.3 to §1.7, in `tests/transcripts`.
//!
//! Commands to records are decided here and now, by the kinds that decide them in a hub, and what
//! they send elsewhere arrives at once: so a transcript shows what a client sees of them. User 1 is
//! a member of channel 11. In frames `$TOKEN` and the like stand for tokens, so that a file can be
//! read.

use tidings_adapter::{Action, Actions, EventId, Input, Now, Received, Session};
use tidings_testkit::transcript;

use crate::channel::{self, Ask as ChannelAsk, New, Seat};
use crate::cursor::Cursor;
use crate::fuzz::{self, connection};
use crate::keys;
use crate::objects::{Body, Profile};
use crate::presence::Presence;
use crate::session::Connection;
use crate::shelf::{NOW_MS, Shelf};
use crate::user::{self, Ask as UserAsk};

/// A session whose commands to records are answered at once.
struct Answered {
    session: Connection,
    shelf: Shelf,
}

impl Session for Answered {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        let mut said = Actions::default();
        self.shelf.now_ms = now.unix_ms;
        match input {
            Input::Frame(Received::Text(text)) => {
                let text = with_tokens(text);
                let input = Input::Frame(Received::Text(&text));
                self.session.handle(now, input, &mut said);
            }
            input => self.session.handle(now, input, &mut said),
        }
        let mut closed = false;
        loop {
            let mut commands = Vec::new();
            for action in said.drain() {
                match action {
                    Action::Commit { tag, command } => commands.push((tag, command)),
                    other => {
                        closed |= matches!(other, Action::Close(_));
                        actions.push(other);
                    }
                }
            }
            if commands.is_empty() {
                break;
            }
            for (tag, command) in commands {
                let decision = self.shelf.told(&command).expect("no draft's key");
                self.shelf.relay();
                let decided = tidings_adapter::Decided {
                    answer: decision.answer,
                    appended: Vec::new(),
                };
                let result = Ok(&decided);
                self.session
                    .handle(now, Input::Committed { tag, result }, &mut said);
            }
        }
        if closed {
            // Whoever is closed is not there any more.
            let left = Presence::of(self.shelf.records.get(&keys::presence(1)));
            assert!(left.connections.iter().all(|one| one.id != "c"), "{left:?}");
        }
    }
}

/// Tokens of the fuzz target's secret: user, finger print, and how long they are good.
const TOKENS: [(&str, u64, u8, u64); 5] = [
    ("$TOKEN", 1, 1, 600),
    ("$REFRESH", 1, 2, 1_200),
    ("$OTHER", 2, 3, 600),
    ("$EXPIRED", 1, 4, 0),
    ("$NOBODY", 99, 5, 600),
];

fn with_tokens(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, user, print, seconds) in TOKENS {
        let token = fuzz::token(user, print, seconds).expect("signed");
        text = text.replace(name, &token);
    }
    let at = EventId::new(NOW_MS, 0).expect("in range");
    for (name, user, changes) in [("$CURSOR", 1, 1), ("$FUTURE", 1, 5), ("$STRANGER", 2, 1)] {
        let cursor = Cursor {
            user,
            changes,
            own: at,
            places: vec![(0, at)],
            exceptions: Vec::new(),
        };
        text = text.replace(name, &cursor.print(&fuzz::seal()));
    }
    text
}

fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    let profile = |id: u64| Profile {
        id,
        email: format!("u{id}@example.com"),
        display_name: format!("User {id}"),
        has_avatar: false,
        version: 1,
    };
    for id in 1..=2 {
        let Profile {
            email,
            display_name,
            ..
        } = profile(id);
        let upsert = UserAsk::Upsert {
            email,
            display_name,
            has_avatar: None,
            password: None,
            op: None,
        };
        shelf.ask(&user::command(id, &upsert));
    }
    let seat = |id| Seat {
        profile: profile(id),
        online: false,
        version: 0,
        active: 0,
    };
    let nonce = "n".to_owned();
    let new = New {
        id: 100,
        author: 2,
        bot: None,
        kind: 1,
        body: Body {
            content: "hello".into(),
            attachments: Vec::new(),
            parent_message: Vec::new(),
        },
        created: None,
    };
    for ask in [
        ChannelAsk::Create {
            fields: Default::default(),
            nonce: nonce.clone(),
            op: None,
        },
        ChannelAsk::Enrol {
            nonce: nonce.clone(),
            seats: vec![seat(1), seat(2)],
        },
        ChannelAsk::Open { nonce, op: None },
        ChannelAsk::Post { new, op: None },
    ] {
        shelf.ask(&channel::command(11, &ask));
    }
    let point = crate::index::Ask::point(11, std::time::Duration::from_secs(3600));
    shelf.ask(&crate::index::command(&keys::message_index(100), &point));
    shelf.relay();
    shelf
}

fn check(name: &str) {
    check_with(name, |_| ());
}

fn check_with(name: &str, change: impl FnOnce(&mut crate::options::SessionSettings)) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    let answered = Answered {
        session: connection(change).expect("good settings"),
        shelf: shelf(),
    };
    transcript::check(format!("{folder}/{name}.txt"), answered);
}

#[test]
fn the_handshake() {
    check("silent-success");
    check("hello");
    check("hello-first");
    check("failed-tampered");
    check("failed-expired");
    check("failed-nobody");
    check("failed-missing");
    check("not-authenticated");
    check("deadline");
}

#[test]
fn tokens() {
    check("refresh");
    check("refresh-other-user");
    check("refresh-bad");
    check("expires");
    check("replaced");
    check("revoked");
}

#[test]
fn pings() {
    check("ping");
    check("no-pong");
    check("ws-ping");
}

#[test]
fn what_ends_it() {
    check("malformed");
    check("binary");
    check("unknown");
    check_with("flood", |settings| {
        (settings.burst, settings.refill) = (3, 1);
    });
    check("draining");
    check("too-slow");
    check("too-many-channels");
}

#[test]
fn extensions() {
    check("acks");
    check("resume");
    check("resume-gap");
    check("resume-lost");
    check("resume-stranger");
    check("place-lost");
}

#[test]
fn commands() {
    check("read");
    check_with("forwarded", |settings| settings.forward = true);
    check_with("forwarded-only", |settings| {
        (settings.forward, settings.apply) = (true, false);
    });
}

/// A fenced instance's connections come back elsewhere.
#[test]
fn fenced() {
    for authenticated in [false, true] {
        let mut answered = Answered {
            session: connection(|_| ()).expect("good settings"),
            shelf: shelf(),
        };
        let now = Now {
            uptime: std::time::Duration::ZERO,
            unix_ms: NOW_MS,
        };
        let mut actions = Actions::default();
        answered.handle(now, Input::Opened, &mut actions);
        if authenticated {
            let auth = r#"{"command":"ws_auth","auth_token":"$TOKEN"}"#;
            answered.handle(now, Input::Frame(Received::Text(auth)), &mut actions);
        }
        actions.drain().for_each(drop);
        answered.handle(now, Input::Fenced, &mut actions);
        let said: Vec<Action> = actions.drain().collect();
        assert!(
            matches!(&said[..], [Action::Close(close)] if close.code == 1012),
            "{said:?}"
        );
    }
}

/// Calls to the backend: carried out besides, or waited for instead.
#[test]
fn called() {
    for apply in [true, false] {
        let mut answered = Answered {
            session: connection(|settings| {
                settings.apply = apply;
                settings.forward_to = Some("http://127.0.0.1:1/".into());
            })
            .expect("good settings"),
            shelf: shelf(),
        };
        let now = Now {
            uptime: std::time::Duration::ZERO,
            unix_ms: NOW_MS,
        };
        let mut said = Actions::default();
        let say = |answered: &mut Answered, text: &str, said: &mut Actions| {
            answered.handle(now, Input::Frame(Received::Text(text)), said);
        };
        answered.handle(now, Input::Opened, &mut said);
        say(
            &mut answered,
            r#"{"command":"ws_auth","auth_token":"$TOKEN"}"#,
            &mut said,
        );
        go_live(&mut answered, now, &mut said);
        said.drain().for_each(drop);
        for n in 0..20 {
            let typing =
                format!(r#"{{"command":"ws_all_read_notification","channel_id":11,"cid":{n}}}"#);
            say(&mut answered, &typing, &mut said);
        }
        let mut acked = 0;
        let mut calls = 0;
        let mut under_way = 0;
        for round in 0.. {
            let mut answers = Vec::new();
            for action in said.drain() {
                match action {
                    Action::Call { tag, call } => {
                        assert_eq!((&*call.method, &*call.url), ("POST", "http://127.0.0.1:1/"));
                        let body: serde_json::Value =
                            serde_json::from_slice(&call.body).expect("JSON");
                        assert_eq!(body["user_id"], 1);
                        (calls, under_way) = (calls + 1, under_way + 1);
                        answers.push(tag);
                    }
                    Action::Publish { tag, .. } => answers.push(tag),
                    Action::Send(frame) => {
                        let text = String::from_utf8_lossy(&frame.body).into_owned();
                        acked += usize::from(text.contains("\"ok\":true"));
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(under_way <= if apply { 16 } else { 1 }, "{under_way}");
            if answers.is_empty() {
                break;
            }
            assert!(round < 100);
            for tag in answers {
                if tag == u32::MAX {
                    under_way -= 1;
                    let answer = tidings_adapter::CallAnswer {
                        status: 204,
                        body: Default::default(),
                    };
                    let result = Ok(&answer);
                    answered.handle(now, Input::Called { tag, result }, &mut said);
                } else {
                    let id = tidings_adapter::EventId::new(NOW_MS, 0).expect("in range");
                    let outcome = tidings_adapter::Outcome::New;
                    let result = Ok(tidings_adapter::Appended { id, outcome });
                    answered.handle(now, Input::Published { tag, result }, &mut said);
                }
            }
        }
        assert_eq!((calls, acked), (20, 20), "{apply}");
    }
}

/// Answers subscriptions until the connection is live.
fn go_live(answered: &mut Answered, now: Now, said: &mut Actions) {
    for _ in 0..4 {
        let asked: Vec<Action> = said.drain().collect();
        for action in asked {
            let Action::Subscribe { sub, topics, .. } = action else {
                continue;
            };
            let at = fuzz::stands(topics);
            answered.handle(now, Input::Subscribed { sub, at: &at }, said);
        }
    }
}
