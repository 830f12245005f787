//! Traces: what an instance shows of an event's way, through a port of two small traits.
//!
//! The engine knows no exporter and no sampler; whoever observes a hub ([`Hub::observe`]) does. The
//! event itself carries its trace context (W3C Trace Context, CloudEvents distributed tracing
//! extension), so the spans of all instances that see it join one trace: `append` where it was
//! published, `tail` on every instance, `deliver` for the first readers of each. An event that is not
//! sampled costs one look at its attributes, and nothing at all while nobody observes.
//!
//! [`Hub::observe`]: crate::Hub::observe

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use tidings_core::{Attributes, Batch, Draft, Event, EventId, Topic};

/// Deliveries shown of one event and instance. Ten thousand readers would make ten thousand spans
/// that all say the same; eight show whether some wait longer than others.
pub const DELIVERIES_SHOWN: u32 = 8;

/// Sampled events whose deliveries can be shown, per instance: the newest ones. What is delivered
/// later is history, and its trace has ended.
const EVENTS_REMEMBERED: usize = 4096;

/// Contexts of which an append is shown, when it stores drafts of several: each costs a span.
const CONTEXTS_PER_APPEND: usize = 8;

/// Bytes of a `tracestate` that are passed on (W3C Trace Context §3.3.1.5 asks for 512 at least).
const STATE_BYTES_MAX: usize = 512;

/// Takes the spans of an instance. Must not wait: it is called where events pass.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// Opens a span that began at a time; `None` when it is not sampled. Without a parent it is the
    /// first of a trace. It ends when it is dropped.
    fn open(
        &self,
        step: Step,
        parent: Option<&TraceContext>,
        began: SystemTime,
    ) -> Option<Box<dyn Span>>;
}

/// An open span.
pub trait Span: Send {
    /// Its place in the trace, for its children.
    fn context(&self) -> TraceContext;
    /// Notes a text.
    fn text(&mut self, key: &'static str, value: &str);
    /// Notes a number.
    fn number(&mut self, key: &'static str, value: i64);
    /// Notes that what it shows has failed.
    fn failed(&mut self, why: &str);
}

/// The steps of an event's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A request to publish, from its head to its answer.
    Publish,
    /// The log's part of it.
    Append,
    /// From when it was stored to when it stood in an instance's window.
    Tail,
    /// From then to when a connection was handed it.
    Deliver,
}

impl Step {
    /// The span's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Append => "append",
            Self::Tail => "tail",
            Self::Deliver => "deliver",
        }
    }
}

/// A place in a trace (W3C Trace Context §3.2). Prints as a `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The span; never zero.
    pub span_id: u64,
    /// Bit 0: sampled.
    pub flags: u8,
    /// The `tracestate`, passed on as it came.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// Parses a `traceparent` of any version that looks like version 00 (§3.2.4, §4.3).
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let hex = |range: std::ops::Range<usize>| {
            let text = parent.get(range)?;
            let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            text.bytes().all(lower).then_some(text)
        };
        let dashes = [2, 35, 52].map(|at| parent.as_bytes().get(at));
        let version = hex(0..2)?;
        let ended = match parent.as_bytes().get(55) {
            None => true,
            Some(next) => version != "00" && *next == b'-',
        };
        if dashes != [Some(&b'-'); 3] || version == "ff" || !ended {
            return None;
        }
        let context = Self {
            trace_id: u128::from_str_radix(hex(3..35)?, 16).ok()?,
            span_id: u64::from_str_radix(hex(36..52)?, 16).ok()?,
            flags: u8::from_str_radix(hex(53..55)?, 16).ok()?,
            state: state
                .filter(|state| !state.is_empty() && state.len() <= STATE_BYTES_MAX)
                .map(Arc::from),
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// The context that attributes carry.
    #[must_use]
    pub fn of(attributes: Option<&Attributes>) -> Option<Self> {
        let attributes = attributes?;
        Self::parse(
            attributes.trace_parent.as_deref()?,
            attributes.trace_state.as_deref(),
        )
    }

    /// Whether whoever began the trace wants it kept.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
            ..
        } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

/// Whether attributes carry a sampled context. Wrong only where the context is malformed, which
/// parsing then finds.
fn is_sampled(attributes: Option<&Attributes>) -> bool {
    let Some(attributes) = attributes else {
        return false;
    };
    let Some(parent) = &attributes.trace_parent else {
        return false;
    };
    parent
        .as_bytes()
        .get(54)
        .is_some_and(|flag| b"13579bdf".contains(flag))
}

/// A hub's side of the port.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    observer: OnceLock<Arc<dyn Observer>>,
    seen: RwLock<Seen>,
}

/// The newest sampled events that the tail has brought.
#[derive(Debug, Default)]
struct Seen {
    events: HashMap<(EventId, Topic), Arc<Tailed>>,
    oldest_first: VecDeque<(EventId, Topic)>,
}

#[derive(Debug)]
struct Tailed {
    context: TraceContext,
    at: SystemTime,
    /// Deliveries shown so far.
    shown: AtomicU32,
}

impl Traces {
    /// Sets who observes; only the first one counts.
    pub(crate) fn observe(&self, observer: Arc<dyn Observer>) {
        // A second observer is a mistake of the program that starts the hub, and harmless.
        let _ = self.observer.set(observer);
    }

    pub(crate) fn observer(&self) -> Option<&Arc<dyn Observer>> {
        self.observer.get()
    }

    /// Spans for an append of these drafts, one for each trace among them.
    pub(crate) fn appending(&self, drafts: &[Draft]) -> Vec<Box<dyn Span>> {
        let Some(observer) = self.observer.get() else {
            return Vec::new();
        };
        let mut parents: HashSet<&str> = HashSet::new();
        let mut spans = Vec::new();
        for draft in drafts {
            let attributes = draft.attributes.as_deref();
            if !is_sampled(attributes) || parents.len() == CONTEXTS_PER_APPEND {
                continue;
            }
            let parent = attributes.and_then(|one| one.trace_parent.as_deref());
            if !parents.insert(parent.unwrap_or_default()) {
                continue;
            }
            let Some(context) = TraceContext::of(attributes) else {
                continue;
            };
            let span = observer.open(Step::Append, Some(&context), SystemTime::now());
            spans.extend(span.map(|mut span| {
                span.text("tidings.topic", draft.topic.as_str());
                span.number("tidings.drafts", number(drafts.len()));
                span
            }));
        }
        spans
    }

    /// Shows the sampled ones of events that are about to stand in the window. `skew_ms` is this
    /// instance's clock minus the log's.
    pub(crate) fn tailed(&self, events: &[Event], skew_ms: i64) {
        let Some(observer) = self.observer.get() else {
            return;
        };
        for event in events {
            if is_sampled(event.attributes.as_deref()) {
                self.tail(&**observer, event, skew_ms);
            }
        }
    }

    fn tail(&self, observer: &dyn Observer, event: &Event, skew_ms: i64) {
        let Some(parent) = TraceContext::of(event.attributes.as_deref()) else {
            return;
        };
        let now = SystemTime::now();
        let stored_ms = event.id.ms().saturating_add_signed(skew_ms);
        // No span ends before it begins, whatever the clocks say.
        let stored = (SystemTime::UNIX_EPOCH + Duration::from_millis(stored_ms)).min(now);
        let Some(mut span) = observer.open(Step::Tail, Some(&parent), stored) else {
            return;
        };
        span.text("tidings.topic", event.topic.as_str());
        span.text("tidings.event_id", &event.id.to_string());
        let tailed = Tailed {
            context: span.context(),
            at: now,
            shown: AtomicU32::new(0),
        };
        drop(span);
        let place = (event.id, event.topic.clone());
        let mut seen = self.seen.write();
        if seen.oldest_first.len() == EVENTS_REMEMBERED
            && let Some(oldest) = seen.oldest_first.pop_front()
        {
            seen.events.remove(&oldest);
        }
        seen.events.insert(place.clone(), Arc::new(tailed));
        seen.oldest_first.push_back(place);
    }

    /// Shows the sampled ones of events that were handed to a connection.
    pub(crate) fn delivered(&self, batch: &Batch, adapter: &str) {
        let Some(observer) = self.observer.get() else {
            return;
        };
        for printed in &batch.events {
            let event = printed.event();
            if !is_sampled(event.attributes.as_deref()) {
                continue;
            }
            let place = (event.id, event.topic.clone());
            let Some(tailed) = self.seen.read().events.get(&place).cloned() else {
                continue;
            };
            if tailed.shown.fetch_add(1, Ordering::Relaxed) >= DELIVERIES_SHOWN {
                // Kept from wrapping round, however many readers there are.
                tailed.shown.store(DELIVERIES_SHOWN, Ordering::Relaxed);
                continue;
            }
            if let Some(mut span) = observer.open(Step::Deliver, Some(&tailed.context), tailed.at) {
                span.text("tidings.topic", event.topic.as_str());
                span.text("tidings.event_id", &event.id.to_string());
                span.text("tidings.adapter", adapter);
                span.number("tidings.batch", number(batch.events.len()));
            }
        }
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "trace/tests.rs"]
mod tests;
