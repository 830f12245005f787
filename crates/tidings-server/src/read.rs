//! Reads: the two ways in which the native API hands out events.
//!
//! [`topic`] answers `GET /v1/topics/<topic>`, the read half of the Durable Streams protocol 1.0:
//! catch-up, long-poll and live, one topic at a time. [`events`] answers `GET /v1/events`, a plain
//! event stream over several topics for `EventSource`. Who may read what was decided before.

mod durable;
mod live;
pub(crate) mod parameters;
mod stream;

use std::borrow::Cow;
use std::time::Duration;

use tidings_adapter::DriverLimits;
use tidings_core::{Now, PageLimit, Topic, Variant, Verdict};

use crate::print;
use crate::problem::{Cause, Problem};

pub use durable::topic;
pub use stream::events;

/// What an operator may set about reads.
#[derive(Debug, Clone)]
pub struct ReadSettings {
    /// How much one page brings.
    pub page: PageLimit,
    /// How long a long-poll waits before it answers 204.
    pub long_poll: Duration,
    /// How often a silent event stream sends a comment.
    pub heartbeat: Duration,
    /// How old a Durable Streams event stream gets before it is ended, so that caches can collapse
    /// its readers (Durable Streams §10.2). Plain `/v1/events` streams have no such age.
    pub durable_age: Duration,
    /// What `EventSource` is told to wait before it reconnects.
    pub retry: Duration,
    /// The drivers' bounds.
    pub driver: DriverLimits,
    /// When the reader's token ends: a stream does not outlive it. Its client comes back, and is
    /// told that it needs another one.
    pub until_unix_ms: Option<u64>,
}

/// Timers are not set for longer: a token may say that it ends in ten thousand years.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long until then.
fn left(until_unix_ms: u64, now: Now) -> Duration {
    Duration::from_millis(until_unix_ms.saturating_sub(now.unix_ms)).min(DAY)
}

impl ReadSettings {
    /// As configured.
    #[must_use]
    pub fn new(config: &crate::config::Config) -> Self {
        let (api, limits) = (&config.api, &config.limits);
        Self {
            page: PageLimit {
                events: limits.page_events.get(),
                bytes: limits.page_bytes.0,
            },
            long_poll: api.long_poll_timeout.0,
            heartbeat: api.heartbeat.0,
            durable_age: api.topic_sse_age.0,
            retry: api.sse_retry.0,
            driver: DriverLimits::default(),
            until_unix_ms: None,
        }
    }

    /// The same for a reader whose token ends at this time.
    #[must_use]
    pub fn until(&self, until_unix_ms: Option<u64>, now: Now) -> Cow<'_, Self> {
        let Some(until) = until_unix_ms else {
            return Cow::Borrowed(self);
        };
        let left = left(until, now);
        Cow::Owned(Self {
            long_poll: self.long_poll.min(left),
            durable_age: self.durable_age.min(left),
            until_unix_ms,
            ..self.clone()
        })
    }
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            page: PageLimit::default(),
            long_poll: Duration::from_secs(30),
            heartbeat: tidings_adapter::sse::HEARTBEAT_EVERY,
            durable_age: Duration::from_secs(60),
            retry: Duration::from_secs(2),
            driver: DriverLimits::default(),
            until_unix_ms: None,
        }
    }
}

/// What a reader gets of each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// The whole event, as a CloudEvents object.
    Event,
    /// The data alone.
    Data,
}

impl View {
    pub(crate) const fn json(self) -> Variant {
        match self {
            Self::Event => print::EVENT_JSON,
            Self::Data => print::DATA_JSON,
        }
    }

    /// A block of an event stream with its `id:` line.
    pub(crate) const fn block(self) -> Variant {
        match self {
            Self::Event => print::EVENT_SSE,
            Self::Data => print::DATA_SSE,
        }
    }

    /// A block without it.
    pub(crate) const fn body(self) -> Variant {
        match self {
            Self::Event => print::EVENT_SSE_BODY,
            Self::Data => print::DATA_SSE_BODY,
        }
    }
}

/// Where a reader whose cursor is lost starts anew: everything that is retained.
pub(crate) fn reload(topic: &Topic) -> String {
    format!("/v1/topics/{topic}?offset=-1")
}

/// The problem for a cursor that is not `ok`; `None` for `ok`.
pub(crate) fn lost(topic: &Topic, verdict: Verdict) -> Option<Problem> {
    let cause = Cause::of_verdict(verdict)?;
    let detail =
        "events may have been missed; reload what is retained from `reload` and go on from there";
    Some(
        Problem::new(cause, detail)
            .with("verdict", verdict.as_str())
            .with("reload", reload(topic)),
    )
}

/// See [`crate::fuzz::session`].
#[cfg(feature = "fuzzing")]
pub(crate) fn session(
    kind: crate::fuzz::Kind,
    topics: &[Topic],
) -> Option<Box<dyn tidings_core::Session>> {
    use crate::fuzz::Kind;
    use tidings_core::{EventId, From, Start};

    let settings = ReadSettings::default();
    let collapse = durable::Collapse {
        unix_ms: 0,
        client: None,
    };
    let (topic, view, origin) = (topics.first()?.clone(), View::Event, EventId::ORIGIN);
    Some(match kind {
        Kind::Poll => Box::new(live::Poll::new(topic, origin, view, &settings, collapse)),
        Kind::Tail => {
            let from = From::Oldest;
            Box::new(live::Tail::new(
                topic, from, origin, view, &settings, collapse,
            ))
        }
        Kind::Events => Box::new(stream::Stream {
            topics: topics.to_vec(),
            several: topics.len() > 1,
            start: Start::From(From::Oldest),
            view,
            heartbeat: settings.heartbeat,
            retry: settings.retry,
            until_unix_ms: None,
        }),
    })
}
