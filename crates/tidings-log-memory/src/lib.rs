//! The reference log: one process, nothing on disk, the same promises as the Redis log.
//!
//! It is what `tidings serve` runs on when no Redis is named, what the engine's tests run on, and
//! the shortest complete statement of what a log promises: the exam in `tidings-testkit` was
//! written against it. One short lock per partition; every operation is constant time or a binary
//! search, whatever the log holds.
//!
//! Nothing here ever waits, so every call takes part in tokio's budget: a reader that is never out of
//! events still lets others run.
//!
//! What is absent: nothing here survives the process, and nothing is shared between processes.
//! The only tasks, timers and wake-ups are those of a tail that somebody is polling.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::limits::DRAFTS_PER_APPEND_MAX;
use tidings_core::record::{RELAY_LEASE, check_flash};
use tidings_core::{
    Appended, BoxFuture, Clock, Draft, EventId, EventLog, Filled, From, Head, LogError, Page,
    PageLimit, Partition, Partitions, Placed, Records, Tail, Verdict,
};
use tokio::task::consume_budget;

mod append;
mod clock;
mod dedup;
mod fault;
mod flash;
mod reading;
mod records;
mod sequence;
mod shared;
mod shelf;
mod tail;

pub use clock::SystemClock;
pub use fault::RecordsCopy;

use shared::Shared;
use tail::MemoryTail;

/// What a memory log is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOptions {
    /// P. Default [`Partitions::DEFAULT`].
    pub partitions: Partitions,
    /// How long an event is retained. Default one hour, as everywhere (LOG.md §4).
    pub retention: Duration,
    /// What the log may hold, in bytes as [`Event::weight`](tidings_core::Event::weight) counts
    /// them, with a share for topics, dedup keys, records and outboxes. Beyond it an append is
    /// [`LogError::Full`] until events pass the retention, and so is a commit. Default [`MemoryOptions::MAX_BYTES`].
    pub max_bytes: usize,
    /// A tail that found nothing for this long says [`Level`](tidings_core::TailStep::Level).
    /// Default [`MemoryOptions::LEVEL_EVERY`].
    pub level_every: Duration,
    /// How long a relay holds an outbox without taking a turn. Default [`RELAY_LEASE`].
    pub relay_lease: Duration,
}

impl MemoryOptions {
    /// 256 MiB: half of the smallest machine that hubs are commonly given (512 MiB), the other
    /// half being for windows and connections; an hour of 120 events per second of 256 bytes.
    pub const MAX_BYTES: usize = 256 * 1024 * 1024;

    /// Two seconds: readiness asks for a proof not older than a few, and a wake-up every two
    /// costs nothing that can be measured.
    pub const LEVEL_EVERY: Duration = Duration::from_secs(2);

    /// One hour.
    pub const RETENTION: Duration = Duration::from_secs(60 * 60);
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            partitions: Partitions::DEFAULT,
            retention: Self::RETENTION,
            max_bytes: Self::MAX_BYTES,
            level_every: Self::LEVEL_EVERY,
            relay_lease: RELAY_LEASE,
        }
    }
}

/// The memory log. Clones are handles on the same log.
#[derive(Debug, Clone)]
pub struct MemoryLog(Arc<Shared>);

impl MemoryLog {
    /// An empty log, born now by the clock. The seed decides where the sequence of each
    /// millisecond starts: give two logs that may ever see each other's cursors different ones.
    #[must_use]
    pub fn new(options: MemoryOptions, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self(Arc::new(Shared::new(options, clock, seed)))
    }

    /// What the log holds at the moment, in the bytes that [`MemoryOptions::max_bytes`] bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

fn at_most(drafts: usize) -> Result<(), LogError> {
    if drafts > DRAFTS_PER_APPEND_MAX {
        return Err(LogError::Refused(format!(
            "{drafts} drafts in one append, at most {DRAFTS_PER_APPEND_MAX} are taken"
        )));
    }
    Ok(())
}

impl EventLog for MemoryLog {
    fn partitions(&self) -> Partitions {
        self.0.options.partitions
    }

    fn retention(&self) -> Duration {
        self.0.options.retention
    }

    fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        Box::pin(async move {
            at_most(drafts.len())?;
            consume_budget().await;
            self.0.append(partition, drafts)
        })
    }

    fn flash(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            at_most(drafts.len())?;
            check_flash(&drafts)?;
            consume_budget().await;
            self.0.flash(partition, drafts)
        })
    }

    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        let topic = topic.clone();
        Box::pin(async move {
            consume_budget().await;
            let moment = self.0.moment();
            let shelf = self.0.slot(topic.partition)?.shelf.lock();
            Ok(shelf.read(&topic.topic, from, limit, moment))
        })
    }

    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let moment = self.0.moment();
            let judge = |(topic, place): &(Placed, EventId)| {
                let shelf = self.0.slot(topic.partition)?.shelf.lock();
                Ok(shelf.judge(&topic.topic, *place, moment))
            };
            places.iter().map(judge).collect()
        })
    }

    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let moment = self.0.moment();
            let head = |topic: &Placed| {
                let shelf = self.0.slot(topic.partition)?.shelf.lock();
                Ok(Head {
                    topic: shelf.head(&topic.topic, moment),
                    partition: shelf.last(),
                })
            };
            topics.iter().map(head).collect()
        })
    }

    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let moment = self.0.moment();
            Ok(self.0.slot(partition)?.shelf.lock().fill(limit, moment))
        })
    }

    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail> {
        Box::new(MemoryTail::new(Arc::clone(&self.0), from))
    }

    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move { self.0.trim(partition) })
    }

    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(async move { Ok(self.0.moment().now_ms) })
    }

    fn records(&self) -> &dyn Records {
        self
    }
}
