//! Conversations: the native sessions, given any inputs in any order, say nothing that their clients
//! could misread.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{
    Action, Actions, At, Batch, Cursor, Draft, Event, EventId, Input, Now, Partitions, Placed,
    Prev, Printed, Received, Session, SubId, TimerId, Topic, TopicSet, Verdict, ViewRefusal,
    WatchId,
};
use tidings_engine::delivered::Delivered;
use tidings_server::fuzz::{self, Kind};

use crate::stream::{Object, dispatched, text};

/// The first byte picks the session, each further one an input. An event takes a line for its kind
/// and one for its data behind it.
pub fn session(input: &[u8]) {
    let [kind, script @ ..] = input else {
        return;
    };
    let (kind, topics) = match kind % 4 {
        0 => (Kind::Poll, &["fuzz/a"][..]),
        1 => (Kind::Tail, &["fuzz/a"][..]),
        2 => (Kind::Events, &["fuzz/a"][..]),
        _ => (Kind::Events, &["fuzz/a", "fuzz/b"][..]),
    };
    let topics: Vec<Topic> = topics
        .iter()
        .map(|topic| Topic::parse(topic).expect("valid"))
        .collect();
    let Some(session) = fuzz::session(kind, &topics) else {
        return;
    };
    Talk::new(session, &topics).perform(kind, script);
}

/// A session, and what it was given and has said.
struct Talk {
    session: Box<dyn Session>,
    at: At,
    given: Vec<Event>,
    said: Vec<u8>,
    ended: bool,
    now: Now,
}

impl Talk {
    fn new(session: Box<dyn Session>, topics: &[Topic]) -> Self {
        let placed = topics.iter().map(|topic| Placed {
            partition: Partitions::DEFAULT.of(topic.as_str()),
            topic: topic.clone(),
        });
        let set = TopicSet::new(placed.collect()).expect("neither empty nor too many");
        Self {
            session,
            at: At {
                cursor: Cursor::everywhere(&set, EventId::ORIGIN),
                set: Arc::new(set),
            },
            given: Vec::new(),
            said: Vec::new(),
            ended: false,
            now: Now {
                uptime: Duration::ZERO,
                unix_ms: 1_732_161_600_000,
            },
        }
    }

    fn perform(mut self, kind: Kind, script: &[u8]) {
        self.give(Input::Opened);
        let mut rest = script;
        while let [word, after @ ..] = rest {
            rest = after;
            let at = self.at.clone();
            let sub = SubId(u32::from(word / 16 % 2));
            match word % 16 {
                0 | 1 => self.give(Input::Subscribed { sub, at: &at }),
                2 => self.give(Input::CaughtUp { sub, at: &at }),
                3 => self.give(Input::Timer(TimerId(0))),
                4 => self.give(Input::Timer(TimerId(1))),
                5 => self.give(Input::Draining),
                6 => self.verdict(sub, Verdict::Expired),
                7 => self.verdict(sub, Verdict::Diverged),
                8 => self.give(Input::Unwatched {
                    watch: WatchId(0),
                    refusal: ViewRefusal::Unknown,
                }),
                9 => self.give(Input::Closed),
                10 => {
                    let (line, after) = crate::first_line(rest);
                    rest = after;
                    match std::str::from_utf8(line) {
                        Ok(text) => self.give(Input::Frame(Received::Text(text))),
                        Err(_) => self.give(Input::Frame(Received::Binary(line))),
                    }
                }
                _ => {
                    let (name, after) = crate::first_line(rest);
                    let (data, after) = crate::first_line(after);
                    rest = after;
                    self.event(usize::from(word / 16), name, data);
                }
            }
        }
        match kind {
            Kind::Poll => self.check_poll(),
            Kind::Tail => self.check_tail(),
            Kind::Events => self.check_events(),
        }
    }

    fn give(&mut self, input: Input<'_>) {
        if self.ended {
            return; // a driver gives nothing more
        }
        let mut actions = Actions::default();
        self.session.handle(self.now, input, &mut actions);
        self.now.uptime += Duration::from_millis(100);
        for action in actions.drain() {
            match action {
                _ if self.ended => {} // nothing follows a close
                Action::Send(frame) | Action::SendFirst(frame) => {
                    for part in [&frame.head, &frame.body, &frame.tail] {
                        self.said.extend_from_slice(part);
                    }
                }
                Action::Close(_) | Action::Refuse(_) => self.ended = true,
                _ => {}
            }
        }
    }

    fn verdict(&mut self, sub: SubId, verdict: Verdict) {
        let topic = self.at.set.topics()[0].topic.clone();
        let topic = &topic;
        self.give(Input::Verdict {
            sub,
            topic,
            verdict,
        });
    }

    /// An event as the hub would have let it in.
    fn event(&mut self, which: usize, kind: &[u8], data: &[u8]) {
        let topic = &self.at.set.topics()[which % self.at.set.topics().len()].topic;
        // A carriage return stands for a line feed, which ends the data here.
        let data = String::from_utf8_lossy(data);
        let draft = Draft::new(
            topic.clone(),
            String::from_utf8_lossy(kind).into_owned(),
            data.into_owned(),
        );
        let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&draft.data)
            .is_ok_and(|raw| raw.get().len() == draft.data.len());
        if self.ended || !is_json || draft.check().is_err() {
            return;
        }
        let event = Event {
            id: EventId::new(1_000 + self.given.len() as u64, 1).expect("in range"),
            prev: Prev::Unknown,
            topic: draft.topic,
            kind: draft.kind,
            data: draft.data,
            attributes: None,
        };
        let batch = Batch {
            events: vec![Arc::new(Delivered::new(event.clone())) as Arc<dyn Printed>],
            before: self.at.clone(),
        };
        self.at = batch.after();
        self.given.push(event);
        let sub = SubId(0);
        self.give(Input::Events { sub, batch: &batch });
    }

    /// Whole events, in the order in which they were given, from the first one on.
    fn is_a_beginning(&self, events: &[Object]) {
        assert!(events.len() <= self.given.len(), "an event is doubled");
        for (printed, given) in events.iter().zip(&self.given) {
            assert_eq!(text(printed, "id"), given.id.to_string());
            assert_eq!(text(printed, "topic"), given.topic.as_str());
        }
    }

    fn check_poll(&self) {
        if !self.said.is_empty() {
            let events: Vec<Object> = serde_json::from_slice(&self.said).expect("one array");
            self.is_a_beginning(&events);
        }
    }

    /// Every data event has its control event behind it.
    fn check_tail(&self) {
        let (mut events, mut data) = (Vec::new(), None::<Vec<Object>>);
        for one in dispatched(&self.said) {
            match &*one.kind {
                "data" => {
                    assert!(data.is_none(), "two data events, no control event");
                    let array = serde_json::from_str(&one.data);
                    data = Some(array.expect("an array"));
                }
                "control" => {
                    let control = serde_json::from_str(&one.data).expect("an object");
                    let next = text(&control, "streamNextOffset");
                    assert!(EventId::parse(&next).is_some(), "{next:?}");
                    events.extend(data.take().into_iter().flatten());
                }
                other => panic!("{other:?} has no meaning in Durable Streams"),
            }
        }
        assert!(data.is_none(), "a data event without its control event");
        self.is_a_beginning(&events);
    }

    /// Every event at once, with the cursor after it.
    fn check_events(&self) {
        let set = &self.at.set;
        let mut events = Vec::new();
        for one in dispatched(&self.said) {
            assert!(
                Cursor::parse(set, &one.id).is_ok() || one.id.is_empty(),
                "{one:?}"
            );
            let data = serde_json::from_str(&one.data).expect("an object");
            match &*one.kind {
                "reset" => assert!(one.data.contains("verdict")),
                _ => events.push(data),
            }
        }
        assert_eq!(events.len(), self.given.len(), "an event is missing");
        self.is_a_beginning(&events);
    }
}
