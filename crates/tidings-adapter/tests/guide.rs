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

    fn indexes(&self) -> &'static [&'static str] {
        &["counting"]
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
                // Where it stands among those that count: by the time at which it last did.
                decision.index(counter.clone(), "counting", now_ms);
                // Stored together with the record, or not at all.
                decision.publish(Draft::new(topic(&counter.id), "counted", count.clone()));
                decision.flash_elsewhere(Draft::new(topic("all"), "counting", count.clone()));
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

/// The counters that count, the one that is quiet for the longest first.
struct Counting;

impl View for Counting {
    fn name(&self) -> &'static str {
        "guide.counting"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on(topic("all"))
    }

    fn compute<'a>(
        &'a self,
        hub: &'a Hub,
        _key: &'a str,
        _inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        Box::pin(async move {
            let listed = hub.list("guide.counter", "counting", 100).await?;
            let names: Vec<_> = listed.entries.into_iter().map(|one| one.key.id).collect();
            let frame = format!("data: {}\n\n", names.join(","));
            Ok(ViewValue::new(names, frame))
        })
    }
}

/// Where one of them stands.
struct Place;

impl View for Place {
    fn name(&self) -> &'static str {
        "guide.place"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on_view("guide.counting", "")
    }

    fn compute<'a>(
        &'a self,
        _hub: &'a Hub,
        key: &'a str,
        inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        let names = inputs.first().and_then(|one| one.get::<Vec<Arc<str>>>());
        let place = names.and_then(|names| names.iter().position(|name| **name == *key));
        let frame = format!("data: {place:?}\n\n");
        Box::pin(std::future::ready(Ok(ViewValue::new(place, frame))))
    }
}

/// Tells its client what counts.
struct Watching;

impl Session for Watching {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => actions.watch(WatchId(0), "guide.counting", ""),
            Input::View { value, .. } => actions.send_text(value.printed().clone()),
            Input::Draining => actions.close(1001, "come back"),
            _ => {}
        }
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
            views: vec![Arc::new(Counting), Arc::new(Place)],
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

    let mut place = hub.view("guide.place", "b").expect("it is hosted");
    assert_eq!(
        place.changed().await.expect("a place").get(),
        Some(&None::<usize>)
    );
    hub.command(count("b")).await.expect("decided");
    let soon = std::time::Duration::from_secs(20);
    let moved = tokio::time::timeout(soon, place.changed()).await;
    let moved = moved.expect("in time").expect("a place");
    assert_eq!(moved.get(), Some(&Some(1_usize)));
    let watching = sse::serve(&hub, Watching, DriverLimits::default()).await;
    let mut frames = watching.into_body().into_data_stream();
    let frame = futures_util::StreamExt::next(&mut frames).await;
    assert_eq!(frame.expect("one").expect("no error"), "data: a,b\n\n");
}
