//! The record kind that `docs/writing-an-adapter.md` shows, at work.

use std::sync::Arc;

use tidings_adapter::*;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};

struct Counter;

fn topic(name: &str) -> Topic {
    Topic::parse(&format!("guide/{name}")).expect("valid")
}

fn number(text: &[u8]) -> u64 {
    String::from_utf8_lossy(text).parse().unwrap_or(0)
}

impl RecordKind for Counter {
    fn name(&self) -> &'static str {
        "guide.counter"
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let Some((counter, document)) = state.first() else {
            return Decision::answer("which counter?");
        };
        let count: u64 = document.map_or(0, |text| number(text));
        let mut decision = Decision::default();
        match trigger {
            Trigger::Command(_) => {
                let count = (count + 1).to_string();
                decision.put(counter.clone(), count.clone(), None);
                // Stored together with the record, or not at all.
                decision.publish(Draft::new(topic(&counter.id), "counted", count.clone()));
                // Counting stops a minute after the last time; a new deadline replaces the old one.
                decision.set_deadline(counter.clone(), "quiet", now_ms + 60_000);
                decision.answer = count.into();
            }
            Trigger::Deadline { .. } => {
                decision.remove(counter.clone());
                // Another partition: through the outbox, at least once, known there by its name.
                decision.publish_elsewhere(Draft::new(topic("all"), "ended", count.to_string()));
            }
            // No counter has an owner.
            Trigger::OwnerLost { .. } => {}
        }
        decision
    }
}

fn count(name: &str) -> Command {
    Command {
        kind: "guide.counter".into(),
        placement_key: topic(name).as_str().into(),
        records: vec![RecordKey::new("guide.counter", name)],
        body: bytes::Bytes::new(),
    }
}

#[test]
fn a_decision_is_a_row_of_a_table() {
    let counter = RecordKey::new("guide.counter", "a");
    let records = [(counter.clone(), Some("4".into()))];
    let decision = Counter.decide(&State::new(&records), Trigger::Command(b""), 1_000);
    assert_eq!(&decision.answer[..], b"5");
    assert_eq!(decision.deadlines[0].at_ms, Some(61_000));
    let quiet = Trigger::Deadline {
        name: "quiet",
        at_ms: 61_000,
    };
    let decision = Counter.decide(&State::new(&records), quiet, 61_000);
    assert_eq!(decision.removes, [counter]);
    assert_eq!(decision.outbox.len(), 1);
}

#[tokio::test]
async fn the_hub_commits_what_was_decided() {
    let clock = Arc::new(SystemClock);
    let log = Arc::new(MemoryLog::new(MemoryOptions::default(), clock.clone(), 7));
    let options = HubOptions {
        rules: Rules {
            kinds: vec![Arc::new(Counter)],
            ..Rules::default()
        },
        ..HubOptions::default()
    };
    let hub = Hub::start(log, options, clock, &prometheus::Registry::new()).expect("a fresh one");
    for expected in ["1", "2", "3"] {
        let decided = hub.command(count("a")).await.expect("decided");
        assert_eq!(&decided.answer[..], expected.as_bytes());
    }
    let page = hub
        .read(&topic("a"), From::Oldest, PageLimit::default())
        .await
        .expect("read");
    let counted: Vec<u64> = page
        .events
        .iter()
        .map(|one| number(&one.event().data))
        .collect();
    assert_eq!(counted, [1, 2, 3]);
}
