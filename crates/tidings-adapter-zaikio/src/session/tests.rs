//! Transcripts: one text file for each rule of the contract, in `tests/transcripts`.
//!
//! Commands to records are decided here and now, by the kinds that decide them in a hub, so that a
//! transcript shows what a client sees of them.

mod ordering;

use std::collections::HashMap;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Command as RecordCommand, Decided, RecordKey, RecordKind, Session, State, Trigger,
};
use tidings_testkit::transcript;

use super::*;
use crate::consumer::Consumers;
use crate::epoch::Epochs;
use crate::fuzz::{fuzz_frame, session};

/// Records, and the kinds that change them.
#[derive(Default)]
struct Shelf(HashMap<RecordKey, Bytes>);

impl Shelf {
    fn decide(&mut self, command: &RecordCommand, now_ms: u64) -> Decided {
        let consumers = Consumers {
            lifetime: Duration::from_secs(3600),
        };
        let kinds: [&dyn RecordKind; 2] = [&consumers, &Epochs];
        let kind = kinds.into_iter().find(|kind| *kind.name() == *command.kind);
        let load = |key: &RecordKey| (key.clone(), self.0.get(key).cloned());
        let records: Vec<_> = command.records.iter().map(load).collect();
        let trigger = Trigger::Command(&command.body);
        let decision = kind
            .expect("a kind of ours")
            .decide(&State::new(&records), trigger, now_ms);
        for put in decision.puts {
            self.0.insert(put.key, put.document);
        }
        Decided {
            answer: decision.answer,
            appended: Vec::new(),
        }
    }
}

/// A session whose commands to records are answered at once.
struct Answered {
    session: Connection,
    shelf: Shelf,
}

impl Session for Answered {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        let mut said = Actions::default();
        self.session.handle(now, input, &mut said);
        loop {
            let mut commands = Vec::new();
            for action in said.drain() {
                match action {
                    Action::Commit { tag, command } => commands.push((tag, command)),
                    other => actions.push(other),
                }
            }
            if commands.is_empty() {
                return;
            }
            for (tag, command) in commands {
                let decided = self.shelf.decide(&command, now.unix_ms);
                let result = Ok(&decided);
                self.session
                    .handle(now, Input::Committed { tag, result }, &mut said);
            }
        }
    }
}

fn check(name: &str, session: Connection) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    let answered = Answered {
        session,
        shelf: Shelf::default(),
    };
    transcript::check(format!("{folder}/{name}.txt"), answered);
}

fn refused(refused: Refused) -> Connection {
    let settings = session(Mode::Base).settings;
    Connection::new(Err(refused), Mode::Base, settings, None)
}

#[test]
fn what_is_said_before_and_after_the_welcome() {
    check("welcome", session(Mode::Base));
    check("refused", refused(Refused::Unauthorized));
    check("refused-expired", refused(Refused::Expired));
    check("refused-try-again", refused(Refused::TryAgain));
    check("token-expires", session(Mode::Base));
    check("draining", session(Mode::Base));
    check("too-slow", session(Mode::Base));
    check("ping", session(Mode::Base));
}

#[test]
fn subscriptions() {
    check("subscribe", session(Mode::Base));
    check("subscribe-twice", session(Mode::Base));
    check("subscribe-rejected", session(Mode::Base));
    check("unsubscribe", session(Mode::Base));
    check("identifier-kept", session(Mode::Base));
    check("two-identifiers", session(Mode::Base));
    check("leniency", session(Mode::Base));
    check("place-lost", session(Mode::Base));
}

#[test]
fn rewinds() {
    check("extended", session(Mode::Extended));
    check("history-since", session(Mode::Extended));
    check("history-with-subscribe", session(Mode::Extended));
    check("history-position", session(Mode::Extended));
    check("history-rejected", session(Mode::Extended));
    check("history-while-live", session(Mode::Extended));
    check("rewind-action", session(Mode::Base));
    check("rewind-after-event", session(Mode::Base));
}

#[test]
fn acks() {
    check("ack-ids", session(Mode::Base));
    check("ack-owed", session(Mode::Extended));
    check("ack-up-to", session(Mode::Extended));
    check("ack-unknown", session(Mode::Base));
    check("ack-action", session(Mode::Base));
    check("redelivery", session(Mode::Extended));
}

#[test]
fn an_epoch_that_is_not_known_is_asked_for() {
    let mut session = session(Mode::Extended);
    session.epoch = None;
    let now = Now {
        uptime: Duration::ZERO,
        unix_ms: 1_767_225_600_000,
    };
    let mut actions = Actions::default();
    session.handle(now, Input::Opened, &mut actions);
    let subscribe = r#"{"command":"subscribe","identifier":"{\"channel\":\"EventChannel\",\"events\":\"shop.sold\"}"}"#;
    session.handle(now, Input::Frame(Received::Text(subscribe)), &mut actions);
    session.found_head(EventId::ORIGIN);
    session.go_on(now, &mut actions);
    let asked = actions
        .drain()
        .any(|action| matches!(action, Action::Commit { .. }));
    assert!(asked && session.subscriptions.is_empty());
    // The log is away: it is asked again, and then the subscription is confirmed.
    let away = tidings_adapter::CommandError::Contended;
    session.handle(
        now,
        Input::Committed {
            tag: 0,
            result: Err(&away),
        },
        &mut actions,
    );
    session.handle(now, Input::Timer(RETRY), &mut actions);
    assert!(
        actions
            .drain()
            .any(|action| matches!(action, Action::Commit { .. }))
    );
    let decided = Decided {
        answer: "e9".into(),
        appended: Vec::new(),
    };
    session.handle(
        now,
        Input::Committed {
            tag: 0,
            result: Ok(&decided),
        },
        &mut actions,
    );
    assert_eq!(session.subscriptions.len(), 1);
    assert_eq!(session.epoch.as_deref(), Some("e9"));
}

#[test]
fn a_client_that_says_too_much_is_told_so() {
    let mut session = session(Mode::Base);
    let now = Now {
        uptime: Duration::ZERO,
        unix_ms: 1_767_225_600_000,
    };
    let mut actions = Actions::default();
    session.handle(now, Input::Opened, &mut actions);
    for number in 0..=COMMANDS_MAX + 1 {
        let events = json(number);
        session.handle(now, Input::Frame(Received::Text(&events)), &mut actions);
    }
    let closes = actions
        .drain()
        .filter(|action| matches!(action, Action::Close(_)));
    assert_eq!(closes.count(), 1);
    assert!(!session.open);
}

fn json(number: usize) -> String {
    let identifier = format!(r#"{{"channel":"EventChannel","events":"shop.sold","n":{number}}}"#);
    serde_json::json!({ "command": "subscribe", "identifier": identifier }).to_string()
}

#[test]
fn garbage_is_survived() {
    const SEEDS: [&str; 6] = [
        r#"{"command":"subscribe","identifier":"{\"channel\":\"EventChannel\",\"events\":\"shop.sold\",\"ack\":true}"}"#,
        r#"{"command":"history","identifier":"{\"channel\":\"EventChannel\",\"events\":\"shop.sold\",\"ack\":true}","history":{"since":1,"streams":{"Org/837ebb91-2d4b-4818-a19b-04fea7be8cde":{"epoch":"e1","offset":41}}}}"#,
        r#"{"command":"ack","identifier":"{\"channel\":\"EventChannel\",\"events\":\"shop.sold\",\"ack\":true}","ack":{"ids":["bd6b9b7f-5ea2-4015-a07a-e3ba15d083cd"]}}"#,
        r#"{"command":"message","identifier":"{\"channel\":\"EventChannel\",\"events\":\"shop.sold\",\"ack\":true}","data":"{\"action\":\"rewind\",\"after\":\"bd6b9b7f-5ea2-4015-a07a-e3ba15d083cd\"}"}"#,
        r#"{"command":"unsubscribe","identifier":"{\"channel\":\"EventChannel\",\"events\":\"shop.sold\",\"ack\":true}"}"#,
        r#"{"command":"pong"}"#,
    ];
    // A small generator of its own (SplitMix64), so that every run throws the same garbage.
    let mut state = 0x7469_6469_6e67_7321_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % below
    };
    for round in 0..3_000_usize {
        let mut bytes = vec![round as u8];
        for _ in 0..random(8) {
            bytes.extend_from_slice(SEEDS[random(SEEDS.len())].as_bytes());
            bytes.push(b'\n');
        }
        for _ in 0..random(5) {
            let at = random(bytes.len());
            bytes[at] = b"\0\n\"\\{}[]:,x1\xff"[random(13)];
        }
        fuzz_frame(&bytes);
    }
}
