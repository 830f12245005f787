//! The window: the newest part of every partition, held in memory and shared by all connections.
//!
//! Of each partition it holds every event in `(start, level]`. It is bounded in bytes over all
//! partitions, and nothing in it is older than the retention. Per topic it knows the events it
//! holds, the last id it ever saw (while somebody is subscribed), and whom to wake.

mod part;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::RwLock;
use tidings_core::{Event, EventId, Filled, Partition, Partitions, Placed};

pub(crate) use part::{Look, Part};

use crate::limits::FLASH_AGE;
use crate::metrics::Metrics;
use crate::wake::Wake;

/// The windows of all partitions.
#[derive(Debug)]
pub struct Window {
    parts: Vec<RwLock<Part>>,
    /// Over all partitions: the bound is one for the instance.
    bytes: AtomicUsize,
    bytes_max: usize,
    metrics: Metrics,
}

impl Window {
    /// An empty window for P partitions, holding `bytes_max` bytes at most.
    #[must_use]
    pub fn new(partitions: Partitions, bytes_max: usize, metrics: Metrics) -> Self {
        let parts = partitions.all().map(|_| RwLock::default()).collect();
        Self {
            parts,
            bytes: AtomicUsize::new(0),
            bytes_max,
            metrics,
        }
    }

    fn part(&self, partition: Partition) -> &RwLock<Part> {
        &self.parts[partition.index()]
    }

    /// The last id that the tail has seen in a partition; `None` before it was filled.
    #[must_use]
    pub fn level(&self, partition: Partition) -> Option<EventId> {
        let part = self.part(partition).read();
        part.is_filled().then(|| part.level())
    }

    /// Whether every partition was filled.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.parts.iter().all(|part| part.read().is_filled())
    }

    /// Looks at one partition under its read lock.
    pub(crate) fn with<R>(&self, partition: Partition, look: impl FnOnce(&Part) -> R) -> R {
        look(&self.part(partition).read())
    }

    /// Changes one partition under its write lock, and keeps the sum of bytes.
    fn change<R>(&self, partition: Partition, change: impl FnOnce(&mut Part) -> R) -> R {
        let mut part = self.part(partition).write();
        let (bytes, events) = part.weight();
        let result = change(&mut part);
        let (bytes_now, events_now) = part.weight();
        self.bytes
            .fetch_add(bytes_now.wrapping_sub(bytes), Ordering::Relaxed);
        self.metrics
            .window_bytes
            .add(bytes_now as i64 - bytes as i64);
        self.metrics
            .window_events
            .add(events_now as i64 - events as i64);
        result
    }

    /// Takes a partition's newest part as the log gave it.
    pub fn fill(&self, partition: Partition, filled: Filled) {
        self.change(partition, |part| {
            while part.pop_front() {}
            part.fill(filled);
        });
        self.evict();
    }

    /// Takes new events of one partition from the tail and wakes whom they concern.
    pub fn extend(&self, partition: Partition, events: Vec<Event>) {
        let concerned = self.change(partition, |part| part.extend(events));
        // Outside the lock: whom we wake looks here at once.
        for wakes in concerned {
            wakes.ring();
        }
        self.evict();
    }

    /// Takes flash events of one partition: they wake who has subscribed to their topics, and are
    /// there for a moment.
    pub fn flash(&self, partition: Partition, events: Vec<Event>) {
        let concerned = self.part(partition).write().flash(events, Instant::now());
        for wakes in concerned {
            wakes.ring();
        }
    }

    /// The log lost everything after `common`: drops it here, and lets every connection that was
    /// past it find out before it is given anything newer.
    pub fn rewind(&self, partition: Partition, common: EventId) {
        self.change(partition, |part| part.rewind(common));
    }

    /// The tail was away for longer than the retention and goes on at `to`: nothing before it can
    /// be served from here.
    pub fn skip(&self, partition: Partition, to: EventId) {
        self.change(partition, |part| part.skip(to));
    }

    /// Drops events received before `floor_ms`, and flash events that are worth nothing any more.
    pub fn expire(&self, floor_ms: u64) {
        let now = Instant::now();
        for (index, part) in self.parts.iter().enumerate() {
            let stale = part.read().flash_is_stale(now, FLASH_AGE);
            if stale {
                part.write().drop_stale_flash(now, FLASH_AGE);
            }
            if part.read().oldest_is_before(floor_ms) {
                // There are at most `Partitions::MAX` of them, which fits.
                let partition = Partition(index as u16);
                self.change(partition, |part| {
                    while part.oldest_is_before(floor_ms) && part.pop_front() {}
                });
            }
        }
    }

    /// Keeps to the bound: the heaviest partition gives up its oldest events first, so that a busy
    /// one does not push the quiet ones out.
    fn evict(&self) {
        /// How much of its share a partition gives up at once: seldom enough to be cheap.
        const PORTION: usize = 8;
        while self.bytes.load(Ordering::Relaxed) > self.bytes_max {
            let heaviest =
                (0..self.parts.len()).max_by_key(|index| self.parts[*index].read().weight());
            let Some(index) = heaviest else { return };
            let over = self
                .bytes
                .load(Ordering::Relaxed)
                .saturating_sub(self.bytes_max);
            let portion = over.max(self.bytes_max / self.parts.len() / PORTION);
            let given_up = self.change(Partition(index as u16), |part| {
                let enough = part.weight().0.saturating_sub(portion);
                let mut given_up = false;
                while part.weight().0 > enough && part.pop_front() {
                    given_up = true;
                }
                given_up
            });
            if !given_up {
                return;
            }
        }
    }

    /// Notes that a publish was answered with this id.
    pub(crate) fn acknowledge(&self, partition: Partition, id: EventId) {
        self.part(partition).read().acknowledge(id);
    }

    /// Registers a connection for a topic.
    pub(crate) fn register(&self, placed: &Placed, number: u64, wake: &Arc<Wake>) {
        self.part(placed.partition)
            .write()
            .register(&placed.topic, number, wake);
    }

    /// Undoes [`Window::register`].
    pub(crate) fn unregister(&self, placed: &Placed, number: u64) {
        self.part(placed.partition)
            .write()
            .unregister(&placed.topic, number);
    }
}

#[cfg(test)]
pub(crate) mod tests;
