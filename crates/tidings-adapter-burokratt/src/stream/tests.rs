//! Transcripts: one text file for each rule of the contract, in `tests/transcripts`.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Action, Actions, At, Attributes, Batch, Call, CallAnswer, CallError, Cursor, Event, EventId,
    Input, Now, Partition, Placed, Prev, Printed, Session, SubId, TimerId, Topic, TopicSet,
    Variant,
};
use tidings_testkit::transcript;

use super::log::{LogStream, Progress, Since};
use super::pace::{Guard, Pace};
use super::place::Came;
use super::print;
use super::several::{self, Entries, Several, Value};
use super::state::StateStream;
use crate::auth::Standing;
use crate::keys::Channel;

fn check(name: &str, session: impl Session) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    transcript::check(format!("{folder}/{name}.txt"), session);
}

fn pace() -> Pace {
    Pace {
        retry: Duration::from_secs(3),
        share: 0.5,
        heartbeat: Duration::from_secs(15),
        ended_grace: Duration::from_secs(5),
    }
}

fn log(came: Option<&str>) -> LogStream {
    LogStream {
        topic: Topic::parse("burokratt/channel/c").expect("valid"),
        frames: print::NEW_MESSAGES,
        refetch: None,
        came: Came::of(came.map(str::as_bytes), None),
        since: None,
        ended: false,
        pace: pace(),
        guard: None,
        progress: Progress::default(),
    }
}

fn notifications(came: Option<&str>) -> LogStream {
    LogStream {
        frames: print::NOTIFICATIONS,
        refetch: Some("data: {\"type\":\"message\",\"messageId\":\"\"}\n\n".to_owned()),
        ..log(came)
    }
}

const PLACE: &str = "1767225600000-0000";

#[test]
fn a_channel_from_now_on() {
    check("log-fresh", log(None));
    check("log-notifications", notifications(None));
    check("log-heartbeat", log(None));
    check("log-leaving", log(None));
}

#[test]
fn a_channel_since_a_time() {
    let since = LogStream {
        since: Some(Since {
            ms: 1_767_225_600_000,
            end: EventId::new(1_767_225_600_002, 0).expect("in range"),
        }),
        ..log(None)
    };
    check("log-since", since);
}

#[test]
fn a_channel_from_a_place() {
    check("log-resumed", log(Some(PLACE)));
    check("log-resumed-at-the-end", log(Some(PLACE)));
}

#[test]
fn a_place_that_is_lost() {
    check("log-expired", notifications(Some(PLACE)));
    check("log-expired-and-empty", log(Some(PLACE)));
    check("log-unknown", log(Some("9999999999999-0")));
    check("log-invalid", log(Some("id: 1\nevent: \"x\"")));
    check("log-lost-while-there", log(None));
}

#[test]
fn a_chat_that_is_over() {
    let ended = |came| LogStream {
        ended: true,
        ..log(came)
    };
    check("ended-nothing-left", ended(Some(PLACE)));
    check("ended-beyond", ended(Some("9999999999999-0")));
    check("ended-ahead", ended(Some(PLACE)));
    check("ended-entries-left", ended(Some(PLACE)));
    check("ended-expired", ended(Some(PLACE)));
    check("ended-fresh", ended(None));
    check("ended-late", ended(Some(PLACE)));
}

fn state(around: print::Around) -> StateStream {
    StateStream {
        view: "burokratt.chat",
        key: "c".into(),
        around,
        pace: pace(),
        guard: None,
        sent: None,
    }
}

#[test]
fn a_value() {
    check("state-bare", state(print::BARE));
    check("state-ruuter", state(print::RUUTER));
    check("state-queue-ruuter", state(print::RUUTER_QUEUE));
    check("state-too-many", state(print::BARE));
}

fn several(topics: &[&str], came: Option<&str>) -> Several {
    let channel = |name: &&str| Topic::parse(&format!("burokratt/channel/{name}")).expect("valid");
    let chat = Channel::parse("a").expect("valid");
    Several {
        topics: topics.iter().map(channel).collect(),
        entries: Entries {
            message: print::SEVERAL_MESSAGE,
            chat_list: print::SEVERAL_CHAT_LIST,
        },
        came: came.map(str::to_owned),
        values: vec![
            Value::order(&chat, "burokratt.order", print::BARE),
            Value::named("health", "burokratt.health", "", print::BARE),
        ],
        pace: pace(),
        guard: None,
        progress: several::Progress::default(),
    }
}

#[test]
fn several_channels_and_values() {
    check("several-fresh", several(&["a", "chat-list"], None));
    check("several-values-alone", several(&[], None));
    check("several-resumed", several(&["a", "b"], Some("cursor")));
    check("several-one-lost", several(&["a", "b"], Some("cursor")));
    check(
        "several-lost-and-empty",
        several(&["a", "b"], Some("cursor")),
    );
    check("several-invalid", several(&["a", "b"], Some("no cursor")));
    check("several-lost-while-there", several(&["a", "b"], None));
}

/// What a session does with one input, as its driver would print it.
fn does(session: &mut impl Session, input: Input<'_>) -> Vec<String> {
    let now = Now {
        uptime: Duration::ZERO,
        unix_ms: 1_767_225_600_000,
    };
    let mut actions = Actions::default();
    session.handle(now, input, &mut actions);
    let print = |action| match action {
        Action::Send(frame) => String::from_utf8_lossy(&frame.body).into_owned(),
        Action::SetTimer { timer, after } => format!("timer {} {after:?}", timer.0),
        Action::Call { call, .. } => format!("call {}", call.url),
        Action::Close(close) => format!("close {}", close.reason),
        other => format!("{other:?}"),
    };
    actions.drain().map(print).collect()
}

/// An event that is printed as often as it is asked for.
#[derive(Debug)]
struct Told(Event);

impl Printed for Told {
    fn event(&self) -> &Event {
        &self.0
    }

    fn printed(&self, variant: Variant) -> Bytes {
        (variant.print)(&self.0)
    }
}

fn event(kind: &str, data: &str, subject: Option<&str>) -> Arc<dyn Printed> {
    let attributes = subject.map(|subject| {
        Box::new(Attributes {
            subject: Some(subject.into()),
            ..Attributes::default()
        })
    });
    Arc::new(Told(Event {
        id: EventId::new(1_767_225_600_001, 0).expect("in range"),
        prev: Prev::Unknown,
        topic: Topic::parse("burokratt/channel/c").expect("valid"),
        kind: kind.into(),
        data: data.to_owned().into(),
        attributes,
    }))
}

fn batch(events: Vec<Arc<dyn Printed>>) -> Batch {
    let placed = Placed {
        partition: Partition(0),
        topic: Topic::parse("burokratt/channel/c").expect("valid"),
    };
    let set = Arc::new(TopicSet::one(placed));
    let cursor = Cursor::everywhere(&set, EventId::ORIGIN);
    Batch {
        events,
        before: At { set, cursor },
    }
}

#[test]
fn the_event_that_ends_a_chat_is_told_and_the_stream_ends_after_a_grace() {
    let mut session = log(None);
    does(&mut session, Input::Opened);
    let said = r#"{"id":"a","chatId":"c","event":"client-left"}"#;
    let mut tell = |kind: &str, subject| {
        let batch = batch(vec![event(kind, said, subject)]);
        let input = Input::Events {
            sub: SubId(0),
            batch: &batch,
        };
        does(&mut session, input)
    };
    // What its `event` says means nothing: anybody may write it.
    assert_eq!(tell("message", None).len(), 1);
    assert_eq!(tell("raw", Some("ended")).len(), 0);
    let ended = tell("message", Some("ended"));
    assert_eq!(ended[0], "timer 2 5s");
    assert!(ended[1].contains("client-left"), "{ended:?}");
    let over = does(&mut session, Input::Timer(TimerId(2)));
    assert_eq!(over, ["close the chat is over"]);
}

#[test]
fn previews_are_told_without_an_id_and_to_whom_they_are_for() {
    let nudge = r#"{"type":"preview","messageId":""}"#;
    let events = [event("preview", nudge, None), event("chat", "{}", None)];
    let flash = || Input::Flash {
        sub: SubId(0),
        events: &events,
    };
    let told = does(&mut notifications(None), flash());
    assert_eq!(told, [format!("data: {nudge}\n\n")]);
    assert!(does(&mut log(None), flash()).is_empty());
}

/// A guard whose answers are words.
fn guard() -> Guard {
    Guard {
        question: Call {
            method: "POST".into(),
            url: "http://tim/jwt".into(),
            headers: Vec::new(),
            body: Bytes::new(),
            patience: Duration::from_secs(1),
        },
        judge: Box::new(|answer| match answer {
            Ok(answer) if answer.body.is_empty() => Standing::Over,
            Ok(_) => Standing::Good,
            Err(_) => Standing::Unknown,
        }),
        every: Duration::from_secs(30),
    }
}

#[test]
fn a_session_is_asked_about_until_it_is_over() {
    let mut session = LogStream {
        guard: Some(guard()),
        ..log(None)
    };
    // Earlier by its share of the half.
    assert!(does(&mut session, Input::Opened).contains(&"timer 1 22.5s".to_owned()));
    let asks = Input::Timer(TimerId(1));
    assert_eq!(does(&mut session, asks), ["call http://tim/jwt"]);
    let mut told = |result| does(&mut session, Input::Called { tag: 0, result });
    let good = CallAnswer {
        status: 200,
        body: Bytes::from_static(b"{}"),
    };
    assert_eq!(told(Ok(&good)), ["timer 1 30s"]);
    // Who cannot be asked has not said no.
    let away = CallError::Failed("away".to_owned());
    assert_eq!(told(Err(&away)), ["timer 1 30s"]);
    let empty = CallAnswer {
        body: Bytes::new(),
        ..good
    };
    assert_eq!(
        told(Ok(&empty)),
        [print::SESSION_EXPIRED, "close the session is over"]
    );
}
