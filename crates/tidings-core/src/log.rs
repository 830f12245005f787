//! The port behind which the logs stand: append, read, judge, fill, tail.
//!
//! Every promise here is a case in the exam of `tidings-testkit`; the memory log is the reference.
//! Calls name the partition, because an append is atomic within one and means nothing across two.
//! Futures are boxed so that a deployment chooses its log at start.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::draft::Draft;
use crate::event::Event;
use crate::id::EventId;
use crate::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use crate::placement::{Partition, Partitions, Placed};
use crate::record::Records;
use crate::verdict::Verdict;

/// A boxed future, as the port returns them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The caller's clock: wall time is an argument of every log.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;
}

/// A log of events in P partitions, kept for the retention (one hour).
pub trait EventLog: fmt::Debug + Send + Sync + 'static {
    /// P, as it was stored when the log was first used.
    fn partitions(&self) -> Partitions;

    /// How long an event is retained.
    fn retention(&self) -> Duration;

    /// Appends drafts to one partition: all of them or none, in their order, answered when stored.
    ///
    /// A draft whose dedup key is known is not stored again; its first id is answered. Whatever
    /// becomes of the connection, one call stores each draft at most once. At most
    /// [`DRAFTS_PER_APPEND_MAX`](crate::limits::DRAFTS_PER_APPEND_MAX) drafts.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] and [`LogError::Full`]: nothing was stored.
    /// [`LogError::FateUnknown`]: stored or not, nobody can tell.
    fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>>;

    /// Hands drafts of one partition to every tail that follows it at this moment, in their order, as
    /// [`TailStep::Flash`]: live only. They are not retained, no read or fill brings them, and a tail
    /// that starts or comes back later never has them. At most once, and never tried again; dedup
    /// keys are not looked at. At most
    /// [`DRAFTS_PER_APPEND_MAX`](crate::limits::DRAFTS_PER_APPEND_MAX) drafts of
    /// [`FLASH_BYTES_MAX`](crate::limits::FLASH_BYTES_MAX).
    ///
    /// # Errors
    /// [`LogError::Unavailable`] and [`LogError::Full`]: nobody has them.
    /// [`LogError::FateUnknown`]: the tails may have them. [`LogError::Refused`]: they break a bound.
    fn flash(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<(), LogError>>;

    /// Reads one topic, oldest first, with the verdict on the place it starts from.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>>;

    /// Verdicts on places, many in as few round trips as possible; answers in the order asked.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>>;

    /// The heads of topics, so that a read after a write anywhere knows how far to wait; answers
    /// in the order asked.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>>;

    /// The newest part of a partition, to fill a window before tailing from its end.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>>;

    /// Follows every partition from a place (one for each, in order). Never ends, never gives up:
    /// what goes wrong is a [`TailStep`], not an error.
    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail>;

    /// Drops what is older than the retention from one partition. Called once a second by every
    /// instance; reads do not depend on it, the log's own memory does.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>>;

    /// The log's own clock, milliseconds since 1970: the one that ids are made from.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>>;

    /// How safe events are that were appended, beyond being stored: waits until they are as safe as
    /// wanted, `patience` long, and answers what was reached. Any answer is about all of `events`
    /// together, at the place where the log has them now: one that a failover lost makes it
    /// [`Settled::STORED`]. Never an error, because the events are stored, whatever becomes of this.
    ///
    /// A log that cannot know answers [`Settled::STORED`], as this default does.
    fn settle(
        &self,
        events: Vec<(Partition, EventId)>,
        want: Durability,
        patience: Duration,
    ) -> BoxFuture<'_, Settled> {
        let _ = (events, want, patience);
        Box::pin(std::future::ready(Settled::STORED))
    }

    /// The records that change together with this log's events (LOG.md §6).
    fn records(&self) -> &dyn Records;
}

/// What became of one draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its event's id; of a duplicate, the first one's.
    pub id: EventId,
    /// Whether it was stored by this call.
    pub outcome: Outcome,
}

/// Three ways in which a draft is "there" (LOG.md §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Stored now.
    New,
    /// Stored by an earlier try of this same call.
    Retried,
    /// Stored before, by another call with the same dedup key.
    Duplicate,
}

/// What an event is safe from. The two beyond [`Durability::Stored`] do not include each other, so
/// there is no order among them: a replica's memory outlives the primary and not a power cut, the
/// primary's disk outlives the power cut and not the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The log has it: what every acknowledged append is.
    Stored,
    /// As many replicas as are configured have it as well: safe from the loss of the primary.
    Replicated,
    /// The primary has it on its disk: safe from a crash, or a power cut, of all servers.
    Fsynced,
}

impl Durability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stored, Self::Replicated, Self::Fsynced];

    /// Its name, on the wire and in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Replicated => "replicated",
            Self::Fsynced => "fsynced",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// What events that are stored are known to be beyond that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// See [`Durability::Replicated`].
    pub replicated: bool,
    /// See [`Durability::Fsynced`].
    pub fsynced: bool,
}

impl Settled {
    /// Nothing is known beyond that.
    pub const STORED: Self = Self {
        replicated: false,
        fsynced: false,
    };
    /// Everything is; the neutral one of [`Settled::and`].
    pub const EVERYTHING: Self = Self {
        replicated: true,
        fsynced: true,
    };

    /// What these and other events are together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            replicated: self.replicated && other.replicated,
            fsynced: self.fsynced && other.fsynced,
        }
    }

    /// The answer to one who wants `want`: that, if it was reached; else the replicas, which are
    /// the next best for one who wants the disk; else [`Durability::Stored`].
    #[must_use]
    pub const fn reached(self, want: Durability) -> Durability {
        match want {
            Durability::Fsynced if self.fsynced => want,
            Durability::Fsynced | Durability::Replicated if self.replicated => {
                Durability::Replicated
            }
            _ => Durability::Stored,
        }
    }
}

/// Where a read or a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The oldest retained event.
    Oldest,
    /// After the newest event: what comes from now on.
    Newest,
    /// After this place, if the verdict on it is `ok`.
    After(EventId),
    /// Everything received at or after this time (milliseconds since 1970, the log's clock) that
    /// is still retained.
    Since(u64),
}

/// How much one read brings at most. A page ends at whichever bound is reached first, but holds
/// at least one event if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Events.
    pub events: usize,
    /// Bytes of data.
    pub bytes: usize,
}

impl Default for PageLimit {
    fn default() -> Self {
        Self {
            events: PAGE_EVENTS_MAX,
            bytes: PAGE_BYTES_MAX,
        }
    }
}

/// One page of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// On the place asked for. Anything but `ok` comes with no events; [`From::Oldest`] brings
    /// what is still there.
    pub verdict: Verdict,
    /// Retained events after the place, oldest first, without a gap.
    pub events: Vec<Event>,
    /// The place to go on from: the last event's id, or a place at which nothing was missed. For
    /// [`From::Newest`] the topic's head, or the partition's last id when the topic has none.
    pub next: EventId,
    /// The topic's last event, if the log remembers one.
    pub head: Option<EventId>,
    /// Whether `next` was the end of the topic when the page was read.
    pub at_end: bool,
}

/// Where a topic ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The topic's last event, if the log remembers one (24 retentions).
    pub topic: Option<EventId>,
    /// The last id of its partition, [`EventId::ORIGIN`] when it never had an event.
    pub partition: EventId,
}

/// The newest part of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Retained events in id order, without a gap, up to `level`.
    pub events: Vec<Event>,
    /// Nothing between this place and the first of `events` is missing from them:
    /// they are everything in `(start, level]`.
    pub start: EventId,
    /// The partition's last id when it was read.
    pub level: EventId,
}

/// A running tail.
pub trait Tail: Send {
    /// The next step. Cancel-safe: a step is either returned or still to come.
    fn next(&mut self) -> BoxFuture<'_, TailStep>;
}

/// What a tail reports. Within a partition, events come in id order and none is left out, unless a
/// step says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailStep {
    /// New events of one partition, at least one.
    Events(Partition, Vec<Event>),
    /// Flash events of one partition, at least one, each once and in the order in which they were
    /// handed in; there is no order between them and other events. `prev` is unknown, and the id is
    /// no place: it tells flash events apart, and when they were handed in. One may be missing,
    /// above all while the tail was down, and nobody is told.
    Flash(Partition, Vec<Event>),
    /// A blocking read came back empty: at this moment there was nothing newer. The path works.
    Level,
    /// The link is down; the tail is trying to get it back.
    Down {
        /// Why, for the log and the readiness answer.
        reason: String,
    },
    /// The link is back and every place was judged `ok`.
    Up,
    /// After a reconnect the tail's own place was not in the log any more, which lost a suffix:
    /// everything after `common` that was handed out is gone. The tail goes on from `common`.
    Rewound {
        /// Where.
        partition: Partition,
        /// The last place that the log still shares with what was handed out.
        common: EventId,
    },
    /// The tail was away for longer than the log retains: it goes on from `to`, and what lay
    /// between was never handed out. Readers find out by the verdict on their own cursors.
    Skipped {
        /// Where.
        partition: Partition,
        /// Where the tail goes on.
        to: EventId,
    },
}

/// What a caller can do about a failing log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log is out of reach; nothing was stored. Try again later.
    #[error("the log is out of reach: {0}")]
    Unavailable(String),
    /// The log has no room (Redis at `maxmemory` with `noeviction`); nothing was stored. It frees
    /// itself as events pass the retention.
    #[error("the log is full: {0}")]
    Full(String),
    /// The answer to an append was lost and asking again failed as well: it may or may not be
    /// stored. Publishing again under the same dedup key is safe.
    #[error("the fate of the append is unknown: {0}")]
    FateUnknown(String),
    /// The log refuses the call as it stands; trying again changes nothing.
    #[error("the log refuses this: {0}")]
    Refused(String),
    /// The log and its settings do not fit together; the text says what to do. Only at start.
    #[error("{0}")]
    Misconfigured(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_is_never_more_than_what_is_known() {
        use Durability::{Fsynced, Replicated, Stored};
        let table = [
            // replicated, fsynced: to who wants stored, replicated, fsynced
            (false, false, [Stored, Stored, Stored]),
            (true, false, [Stored, Replicated, Replicated]),
            (false, true, [Stored, Stored, Fsynced]),
            (true, true, [Stored, Replicated, Fsynced]),
        ];
        for (replicated, fsynced, answers) in table {
            let settled = Settled {
                replicated,
                fsynced,
            };
            for (want, answer) in Durability::ALL.into_iter().zip(answers) {
                assert_eq!(settled.reached(want), answer, "{settled:?} {want:?}");
            }
            assert_eq!(settled.and(Settled::EVERYTHING), settled);
            assert_eq!(settled.and(Settled::STORED), Settled::STORED);
        }
        for one in Durability::ALL {
            assert_eq!(Durability::of(one.as_str()), Some(one));
        }
        assert_eq!(Durability::of("Fsynced"), None);
    }
}
