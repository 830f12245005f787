//! A memory log whose failures, and a clock whose time, are a test's own.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tidings_adapter::Hub;
use tidings_core::{
    Appended, BoxFuture, Clock, Draft, Durability, EventId, EventLog, Filled, From, Head, LogError,
    Page, PageLimit, Partition, Partitions, Placed, Records, Settled, Tail, Verdict,
};
use tidings_log_memory::MemoryLog;

/// A clock that a test moves.
#[derive(Debug)]
pub(crate) struct Hand(AtomicU64);

impl Hand {
    /// At 2024-11-21T04:00:00Z.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1_732_161_600_000))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What an append comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Good,
    Unavailable,
    Full,
    FateUnknown,
    Refused,
    Panics,
    /// Only partition 0 is out of reach.
    HalfAway,
}

/// A memory log with moods.
#[derive(Debug)]
pub(crate) struct MoodyLog {
    log: MemoryLog,
    mood: AtomicU8,
    /// Appends but for the instance's probes, and those.
    pub(crate) appends: AtomicU64,
    pub(crate) probes: AtomicU64,
    /// What is said of events that are to be safe, one answer after the other; then nothing.
    pub(crate) settles: Mutex<VecDeque<Settled>>,
    /// What was wanted of them, and for how many.
    pub(crate) wanted: Mutex<Vec<(Durability, usize)>>,
}

impl MoodyLog {
    pub(crate) fn new(log: MemoryLog) -> Self {
        Self {
            log,
            mood: AtomicU8::new(0),
            appends: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            settles: Mutex::default(),
            wanted: Mutex::default(),
        }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }

    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::Relaxed) == mood as u8
    }
}

impl EventLog for MoodyLog {
    fn partitions(&self) -> Partitions {
        self.log.partitions()
    }

    fn retention(&self) -> Duration {
        self.log.retention()
    }

    fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        let own = drafts.iter().all(|draft| Hub::is_own(&draft.topic));
        let counter = if own { &self.probes } else { &self.appends };
        counter.fetch_add(1, Ordering::Relaxed);
        let why = "redis.internal:6379".to_owned();
        let failure = match () {
            () if self.is(Mood::Unavailable) => LogError::Unavailable(why),
            () if self.is(Mood::HalfAway) && partition.0 == 0 => LogError::Unavailable(why),
            () if self.is(Mood::Full) => LogError::Full(why),
            () if self.is(Mood::FateUnknown) => LogError::FateUnknown(why),
            () if self.is(Mood::Refused) => LogError::Refused(why),
            () if self.is(Mood::Panics) => panic!("this log panics"),
            () => return self.log.append(partition, drafts),
        };
        Box::pin(async move { Err(failure) })
    }

    fn flash(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.flash(partition, drafts)
    }

    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        if self.is(Mood::Unavailable) {
            return Box::pin(async { Err(LogError::Unavailable("redis.internal:6379".into())) });
        }
        self.log.read(topic, from, limit)
    }

    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>> {
        self.log.judge(places)
    }

    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>> {
        if self.is(Mood::Unavailable) {
            return Box::pin(async { Err(LogError::Unavailable("redis.internal:6379".into())) });
        }
        self.log.heads(topics)
    }

    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>> {
        self.log.fill(partition, limit)
    }

    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail> {
        self.log.tail(from)
    }

    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.trim(partition)
    }

    fn settle(
        &self,
        events: Vec<(Partition, EventId)>,
        want: Durability,
        patience: Duration,
    ) -> BoxFuture<'_, Settled> {
        let wanted = (want, events.len());
        self.wanted.lock().expect("no panic").push(wanted);
        match self.settles.lock().expect("no panic").pop_front() {
            Some(settled) => Box::pin(async move { settled }),
            None => self.log.settle(events, want, patience),
        }
    }

    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>> {
        self.log.time_ms()
    }

    fn records(&self) -> &dyn Records {
        self.log.records()
    }
}
