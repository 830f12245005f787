//! The ordering rules, under every interleaving that is thrown at them.
//!
//! A small hub stands behind the session: a topic that grows, a reader that hands out events in
//! batches whenever it likes, records that answer late. Whatever happens when, a client's identifiers
//! hear every event that they want exactly once, in order, from their confirmation on; a replay ends
//! with everything before its confirmation; and pings go on.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_adapter::{
    At, Batch, Cursor, Event, Partition, Placed, Prev, TopicSet, Variant, Verdict,
};

use super::*;

const NAMES: [&str; 2] = ["shop.sold", "shop.returned"];
const BEGIN_MS: u64 = 1_767_225_600_000;

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

/// What may happen next.
#[derive(Debug, Clone)]
enum Step {
    /// An event of a name is published.
    Publish(usize),
    /// The tail brings what was published.
    Tail,
    /// The reader hands out the next thing, if the socket takes it.
    Turn,
    /// The records answer.
    Answer,
    /// The client says something about one of its identifiers.
    Subscribe(usize),
    Unsubscribe(usize),
    /// History since the beginning.
    History(usize),
    /// It acks the last event that it heard there.
    Ack(usize),
    /// Three seconds pass.
    Ping,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize).prop_map(Step::Publish),
        5 => Just(Step::Tail),
        12 => Just(Step::Turn),
        4 => Just(Step::Answer),
        2 => (0..3_usize).prop_map(Step::Subscribe),
        1 => (0..3_usize).prop_map(Step::Unsubscribe),
        2 => (0..3_usize).prop_map(Step::History),
        2 => (0..3_usize).prop_map(Step::Ack),
        1 => Just(Step::Ping),
    ]
}

/// One subscription or fetch of the reader.
struct Reading {
    sub: SubId,
    place: EventId,
    until: Option<EventId>,
    is_fetch: bool,
    announced: bool,
    level_told: bool,
}

/// A hub, a client, and the session between them.
struct World {
    session: Connection,
    shelf: Shelf,
    now: Now,
    log: Vec<Arc<dyn Printed>>,
    /// What of it this instance knows.
    level: usize,
    readings: VecDeque<Reading>,
    commits: VecDeque<(u32, RecordCommand)>,
    heard: Vec<Value>,
    pings: usize,
}

fn id(number: usize) -> EventId {
    EventId::new(BEGIN_MS + number as u64 + 1, 0).expect("in range")
}

fn identifier(which: usize) -> String {
    match which {
        0 => json!({"channel": "EventChannel", "events": NAMES[0]}),
        1 => json!({"channel": "EventChannel", "events": NAMES.join(",")}),
        _ => json!({"channel": "EventChannel", "events": NAMES.join(","), "ack": true}),
    }
    .to_string()
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            session: session(Mode::Extended),
            shelf: Shelf::default(),
            now: Now {
                uptime: Duration::ZERO,
                unix_ms: BEGIN_MS,
            },
            log: Vec::new(),
            level: 0,
            readings: VecDeque::new(),
            commits: VecDeque::new(),
            heard: Vec::new(),
            pings: 0,
        };
        world.feed(Input::Opened);
        world
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut actions = Actions::default();
        self.session.handle(self.now, input, &mut actions);
        for action in actions.drain() {
            match action {
                Action::Send(frame) | Action::SendFirst(frame) => {
                    let text = [frame.head, frame.body, frame.tail].concat();
                    let frame: Value = serde_json::from_slice(&text).expect("JSON");
                    match frame["type"] == "ping" {
                        true => self.pings += 1,
                        false => self.heard.push(frame),
                    }
                }
                Action::Subscribe { sub, from, .. } => {
                    let Start::From(from) = from else {
                        panic!("a place")
                    };
                    self.begin(sub, from, None, false);
                }
                Action::Fetch {
                    sub, from, until, ..
                } => self.begin(sub, from, until, true),
                Action::Unsubscribe(sub) => self.readings.retain(|one| one.sub != sub),
                Action::Commit { tag, command } => self.commits.push_back((tag, command)),
                Action::SetTimer { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn begin(&mut self, sub: SubId, from: From, until: Option<EventId>, is_fetch: bool) {
        let place = match from {
            From::Newest if self.level == 0 => EventId::ORIGIN,
            From::Newest => id(self.level - 1),
            From::After(place) => place,
            From::Since(ms) => EventId::before_ms(ms),
            From::Oldest => EventId::ORIGIN,
        };
        self.readings.retain(|one| one.sub != sub);
        self.readings.push_back(Reading {
            sub,
            place,
            until,
            is_fetch,
            announced: false,
            level_told: false,
        });
    }

    /// The reader's next delivery: one batch, or what else there is to say, of one subscription.
    fn turn(&mut self) {
        let Some(mut one) = self.readings.pop_front() else {
            return;
        };
        let sub = one.sub;
        let topic = Topic::parse("zaikio/org/837ebb91-2d4b-4818-a19b-04fea7be8cde").expect("valid");
        let set = Arc::new(TopicSet::one(Placed {
            partition: Partition(0),
            topic,
        }));
        let at = |place| At {
            set: set.clone(),
            cursor: Cursor::everywhere(&set, place),
        };
        let known = &self.log[..self.level];
        let next = known.iter().filter(|event| event.event().id > one.place);
        let in_range =
            |event: &&Arc<dyn Printed>| one.until.is_none_or(|until| event.event().id <= until);
        // Batches of two: a replay takes several turns.
        let events: Vec<_> = next.filter(in_range).take(2).cloned().collect();
        if !one.is_fetch && !one.announced {
            one.announced = true;
            let place = one.place;
            self.readings.push_back(one);
            return self.feed(Input::Subscribed {
                sub,
                at: &at(place),
            });
        }
        if let Some(last) = events.last() {
            let before = at(one.place);
            one.place = last.event().id;
            one.level_told = false;
            self.readings.push_back(one);
            let batch = Batch { events, before };
            return self.feed(Input::Events { sub, batch: &batch });
        }
        let level = if self.level == 0 {
            EventId::ORIGIN
        } else {
            id(self.level - 1)
        };
        if one.is_fetch {
            if one.until.is_none_or(|until| until <= level) {
                return self.feed(Input::Fetched {
                    sub,
                    verdict: Verdict::Ok,
                });
            }
            self.readings.push_back(one);
            return;
        }
        let tell = !std::mem::replace(&mut one.level_told, true);
        let place = one.place;
        self.readings.push_back(one);
        if tell {
            self.feed(Input::CaughtUp {
                sub,
                at: &at(place),
            });
        }
    }

    fn say(&mut self, command: &Value) {
        self.feed(Input::Frame(Received::Text(&command.to_string())));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(name) => {
                let number = self.log.len();
                let data = format!(r#"{{"id":"00000000-0000-4000-8000-{number:012}","n":{number}}}"#);
                self.log.push(Arc::new(Plain(Event {
                    id: id(number),
                    prev: Prev::Unknown,
                    topic: Topic::parse("zaikio/org/a").expect("valid"),
                    kind: NAMES[*name].into(),
                    data: data.into(),
                    attributes: None,
                })));
            }
            Step::Tail => self.level = self.log.len(),
            Step::Turn => self.turn(),
            Step::Answer => {
                if let Some((tag, command)) = self.commits.pop_front() {
                    let decided = self.shelf.decide(&command, self.now.unix_ms);
                    self.feed(Input::Committed { tag, result: Ok(&decided) });
                }
            }
            Step::Subscribe(which) => self.say(&json!({"command": "subscribe", "identifier": identifier(*which)})),
            Step::Unsubscribe(which) => self.say(&json!({"command": "unsubscribe", "identifier": identifier(*which)})),
            Step::History(which) => self.say(&json!({"command": "history", "identifier": identifier(*which), "history": {"since": 1}})),
            Step::Ack(which) => {
                let mine = |frame: &&Value| frame["identifier"] == identifier(*which) && frame["message"].is_object();
                let Some(last) = self.heard.iter().rev().find(mine) else { return };
                let ack = json!({"command": "ack", "identifier": identifier(*which), "ack": {"id": last["message"]["id"]}});
                self.say(&ack);
            }
            Step::Ping => {
                let before = self.pings;
                self.now.uptime += Duration::from_secs(3);
                self.feed(Input::Timer(PING));
                assert_eq!(self.pings, before + 1, "a ping waits for nothing");
            }
        }
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        self.step(&Step::Tail);
        for _ in 0..20_000 {
            self.step(&Step::Turn);
            self.step(&Step::Answer);
            let level = self.level.checked_sub(1).map_or(EventId::ORIGIN, id);
            let level = |one: &Reading| !one.is_fetch && one.announced && one.place >= level;
            let idle = self.readings.iter().all(level);
            if idle && self.commits.is_empty() && self.session.job.is_none() {
                return;
            }
        }
        panic!("it does not come to an end: {:?}", self.session.job);
    }
}

/// What an identifier heard, from each of its confirmations on: every event that it wants, once and in
/// order; but for a replay, which is all from the beginning up to the place that it then goes on from.
/// The one that acks is not sent again what was acked.
fn judge(world: &World, which: usize) -> Result<(), TestCaseError> {
    let wanted = |number: &usize| {
        let kind = &world.log[*number].event().kind;
        which > 0 || &**kind == NAMES[0]
    };
    let first = (0..world.log.len()).find(wanted);
    let mut acked: Vec<String> = Vec::new();
    // The last event that was heard in this life, and those that may belong to a replay.
    let (mut last, mut part): (Option<usize>, Vec<usize>) = (None, Vec::new());
    let mut lives = 0;
    let follow = |last: &mut Option<usize>, live: &[usize], acked: &[String]| {
        for number in live {
            prop_assert!(
                last.is_none_or(|last| last < *number),
                "{number} after {last:?}"
            );
            let from = last.map_or(*number, |last| last + 1);
            for missing in (from..*number).filter(wanted) {
                let id = format!("00000000-0000-4000-8000-{missing:012}");
                prop_assert!(
                    which == 2 && acked.contains(&id),
                    "{missing} is missing before {number}"
                );
            }
            *last = Some(*number);
        }
        Ok(())
    };
    for frame in &world.heard {
        for id in frame["ack"]["ids"].as_array().into_iter().flatten() {
            acked.extend(id.as_str().map(str::to_owned));
        }
        if frame["identifier"] != identifier(which) {
            continue;
        }
        if let Some(number) = frame["message"]["n"].as_u64() {
            prop_assert!(lives > 0, "an event before the confirmation");
            part.push(number as usize);
        } else if frame["type"] == "confirm_subscription" {
            follow(&mut last, &part, &acked)?;
            (last, lives) = (None, lives + 1);
            part.clear();
        } else if frame["type"] == "confirm_history" {
            // A replay begins with the first event of all, for the last time in this part.
            let begin = part.iter().rposition(|number| Some(*number) == first);
            let (live, replay) = part.split_at(begin.unwrap_or(part.len()));
            follow(&mut last, live, &acked)?;
            if let Some(head) = replay.last() {
                let all: Vec<usize> = (0..=*head).filter(wanted).collect();
                prop_assert_eq!(replay, &all[..], "a replay has all");
                prop_assert!(
                    last.is_none_or(|last| last <= *head),
                    "{last:?} came before a replay up to {head}"
                );
            }
            prop_assert!(
                last <= replay.last().copied(),
                "what came live is in the replay"
            );
            last = last.max(replay.last().copied());
            part.clear();
        }
    }
    follow(&mut last, &part, &acked)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_gap_no_repetition_in_order(steps in proptest::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        // Who is subscribed at the end has everything up to the last event that it wants.
        for which in 0..3 {
            judge(&world, which)?;
        }
        let subscribed: Vec<String> = world.session.subscriptions.iter().map(|one| one.identifier.to_string()).collect();
        // Events of the stream never go back but in a replay: offsets of one identifier are judged
        // above; what everybody hears live is one run.
        let before = world.heard.len();
        for name in [0, 1] {
            world.step(&Step::Publish(name));
        }
        world.settle();
        let mut last = None;
        for frame in &world.heard[before..] {
            let offset = frame["offset"].as_u64();
            prop_assert!(offset >= last, "commit order on a connection");
            last = offset;
        }
        let expected: usize = (0..3).filter(|which| subscribed.contains(&identifier(*which))).map(|which| 1 + usize::from(which > 0)).sum();
        prop_assert_eq!(world.heard.len() - before, expected, "everybody hears what comes");
    }
}
