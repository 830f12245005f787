//! The context's text form, and what is shown of events on their way.

use parking_lot::Mutex;
use tidings_core::{At, Cursor, Partitions, Placed, Prev, Printed, TopicSet};

use super::*;
use crate::delivered::Delivered;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn contexts_are_parsed_as_the_recommendation_has_it() {
    let context = TraceContext::parse(PARENT, Some("a=1")).expect("well formed");
    assert_eq!(context.to_string(), PARENT);
    assert_eq!(context.state.as_deref(), Some("a=1"));
    assert!(context.is_sampled());
    let table = [
        (PARENT.replace("-01", "-00"), Some(false)),
        (PARENT.replace("-01", "-09"), Some(true)),
        // A later version may say more behind a dash; version 00 may not.
        (format!("01{}-more", &PARENT[2..]), Some(true)),
        (format!("{PARENT}-more"), None),
        (format!("01{}more", &PARENT[2..]), None),
        (PARENT.replacen("00-", "ff-", 1), None),
        (PARENT.to_uppercase(), None),
        (PARENT.replace('-', "_"), None),
        (PARENT[..54].to_owned(), None),
        (format!("00-{:032x}-{:016x}-01", 0, 1), None),
        (format!("00-{:032x}-{:016x}-01", 1, 0), None),
        (format!("00-+{:031x}-{:016x}-01", 1, 1), None),
        ("é".repeat(40), None),
        (String::new(), None),
    ];
    for (text, sampled) in table {
        let parsed = TraceContext::parse(&text, None);
        assert_eq!(parsed.map(|one| one.is_sampled()), sampled, "{text}");
    }
    let long = "x".repeat(STATE_BYTES_MAX + 1);
    let context = TraceContext::parse(PARENT, Some(&long)).expect("well formed");
    assert_eq!(context.state, None, "what is too long is not passed on");
}

/// Remembers each span that was opened: its step and its parent.
#[derive(Debug, Default)]
struct Notebook {
    opened: Mutex<Vec<(Step, Option<u64>)>>,
}

struct Line(TraceContext);

impl Span for Line {
    fn context(&self) -> TraceContext {
        self.0.clone()
    }
    fn text(&mut self, _: &'static str, _: &str) {}
    fn number(&mut self, _: &'static str, _: i64) {}
    fn failed(&mut self, _: &str) {}
}

impl Observer for Notebook {
    fn open(
        &self,
        step: Step,
        parent: Option<&TraceContext>,
        began: SystemTime,
    ) -> Option<Box<dyn Span>> {
        assert!(began <= SystemTime::now());
        let mut opened = self.opened.lock();
        opened.push((step, parent.map(|one| one.span_id)));
        let mut context = parent?.clone();
        context.span_id = opened.len() as u64;
        Some(Box::new(Line(context)))
    }
}

fn attributes(parent: Option<&str>) -> Option<Box<Attributes>> {
    parent.map(|parent| {
        Box::new(Attributes {
            trace_parent: Some(parent.into()),
            ..Attributes::default()
        })
    })
}

fn event(ms: u64, parent: Option<&str>) -> Event {
    Event {
        id: EventId::new(ms, 0).expect("in range"),
        prev: Prev::Unknown,
        topic: Topic::parse("demo/a").expect("valid"),
        kind: "k".into(),
        data: "1".into(),
        attributes: attributes(parent),
    }
}

fn batch(events: &[Event]) -> Batch {
    let topic = Topic::parse("demo/a").expect("valid");
    let partition = Partitions::DEFAULT.of(topic.as_str());
    let set = Arc::new(TopicSet::one(Placed { partition, topic }));
    let cursor = Cursor::everywhere(&set, EventId::ORIGIN);
    let printed =
        |event: &Event| Arc::new(Delivered::new(event.clone())) as Arc<dyn Printed + 'static>;
    Batch {
        events: events.iter().map(printed).collect(),
        before: At { set, cursor },
    }
}

#[test]
fn only_sampled_events_are_shown_and_each_to_a_few_readers_only() {
    let traces = Traces::default();
    let notebook = Arc::new(Notebook::default());
    let unsampled = PARENT.replace("-01", "-00");
    let events = [
        event(1, None),
        event(2, Some(&unsampled)),
        event(3, Some(PARENT)),
        event(
            4,
            Some("garbage that is long enough to have a flag in its place 1"),
        ),
        // From the future of this clock: its span still does not end before it begins.
        event((1 << 41) - 1, Some(PARENT)),
    ];
    traces.tailed(&events, 0);
    assert!(traces.seen.read().events.is_empty(), "nobody observes yet");
    traces.observe(notebook.clone());
    traces.delivered(&batch(&events), "x");
    assert!(
        notebook.opened.lock().is_empty(),
        "what was not tailed is history"
    );
    traces.tailed(&events, 0);
    let given = Some(0xb7ad_6b71_6920_3331);
    assert_eq!(
        *notebook.opened.lock(),
        [(Step::Tail, given), (Step::Tail, given)]
    );
    for _ in 0..3 * DELIVERIES_SHOWN {
        traces.delivered(&batch(&events), "x");
    }
    let opened = notebook.opened.lock();
    let of = |tail: u64| {
        let wanted = (Step::Deliver, Some(tail));
        opened.iter().filter(|one| **one == wanted).count()
    };
    assert_eq!([of(1), of(2)], [DELIVERIES_SHOWN as usize; 2]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let traces = Traces::default();
    traces.observe(Arc::new(Notebook::default()));
    for ms in 0..2 * EVENTS_REMEMBERED as u64 {
        traces.tailed(&[event(ms, Some(PARENT))], 0);
    }
    let seen = traces.seen.read();
    assert_eq!(seen.events.len(), EVENTS_REMEMBERED);
    assert_eq!(seen.oldest_first.len(), EVENTS_REMEMBERED);
}

#[test]
fn an_append_is_shown_once_for_each_trace_in_it() {
    let traces = Traces::default();
    let notebook = Arc::new(Notebook::default());
    traces.observe(notebook.clone());
    let other = |n: u64| format!("00-{:032x}-{n:016x}-01", 7);
    let mut parents: Vec<Option<String>> = vec![None, Some(PARENT.into()), Some(PARENT.into())];
    parents.extend((1..30).map(|n| Some(other(n))));
    let draft = |parent: &Option<String>| Draft {
        attributes: attributes(parent.as_deref()),
        ..Draft::new(Topic::parse("demo/a").expect("valid"), "k", "1")
    };
    let drafts: Vec<Draft> = parents.iter().map(draft).collect();
    assert_eq!(traces.appending(&drafts).len(), CONTEXTS_PER_APPEND);
    assert_eq!(traces.appending(&drafts[..3]).len(), 1);
    assert_eq!(traces.appending(&drafts[..1]).len(), 0);
}
