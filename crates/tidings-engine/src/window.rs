//! The window: the newest part of every partition, held in memory and shared by all connections.
//!
//! Of each partition it holds every event in `(start, level]`. It is bounded in bytes over all
//! partitions, and nothing in it is older than the retention. Per topic it knows the events it
//! holds, the last id it ever saw (while somebody is subscribed), and whom to wake.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use tidings_core::{Event, EventId, Filled, Partition, Partitions, Placed, Printed as _, Topic};

use crate::delivered::Delivered;
use crate::limits::REWINDS_REMEMBERED;
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

/// One partition's window.
#[derive(Debug, Default)]
pub struct Part {
    /// Everything after this place, up to `level`, is here.
    start: EventId,
    /// The last id that the tail has seen.
    level: EventId,
    /// The last id that this instance has answered a publish with, as an integer: who subscribes
    /// to what is new after that answer does not get it, though the tail may not have seen it yet.
    acknowledged: AtomicU64,
    /// Whether it was filled at all; until then nobody is served from it.
    filled: bool,
    /// Counts the times that what was handed out was taken back.
    generation: u64,
    rewinds: VecDeque<Rewind>,
    events: VecDeque<Arc<Delivered>>,
    topics: HashMap<Topic, Entry>,
    bytes: usize,
}

/// The log lost what stood after `common`.
#[derive(Debug, Clone, Copy)]
struct Rewind {
    generation: u64,
    common: EventId,
}

/// One topic in a partition's window.
#[derive(Debug, Default)]
struct Entry {
    events: VecDeque<Arc<Delivered>>,
    /// The topic's last id as far as the tail knows; what lies between it and the window's events
    /// was evicted.
    last: EventId,
    /// Whom to wake; `None` when nobody is subscribed.
    wakes: Option<Arc<Wakes>>,
}

/// Connections to wake for one topic, by the number they were given. Behind a lock of its own, so
/// that ringing thousands of them does not keep the partition locked.
#[derive(Debug, Default)]
struct Wakes(Mutex<HashMap<u64, Arc<Wake>>>);

impl Wakes {
    fn ring(&self) {
        for wake in self.0.lock().values() {
            wake.ring();
        }
    }
}

/// What the window has for a topic after a place.
#[derive(Debug)]
pub(crate) enum Look {
    /// Everything after the place, up to the partition's level: these events (maybe none).
    Complete(Vec<Arc<Delivered>>),
    /// Something after the place is no longer here: ask the log.
    Behind,
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
        part.filled.then_some(part.level)
    }

    /// Whether every partition was filled.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.parts.iter().all(|part| part.read().filled)
    }

    /// Looks at one partition under its read lock.
    pub(crate) fn with<R>(&self, partition: Partition, look: impl FnOnce(&Part) -> R) -> R {
        look(&self.part(partition).read())
    }

    /// Takes a partition's newest part as the log gave it.
    pub fn fill(&self, partition: Partition, filled: Filled) {
        {
            let mut part = self.part(partition).write();
            self.clear(&mut part);
            part.start = filled.start;
            part.level = filled.level;
            part.filled = true;
            for event in filled.events {
                self.push(&mut part, event);
            }
            part.ring_all();
        }
        self.evict();
    }

    /// Takes new events of one partition from the tail and wakes whom they concern.
    pub fn extend(&self, partition: Partition, events: Vec<Event>) {
        let mut rings: Vec<Arc<Wakes>> = Vec::new();
        {
            let mut part = self.part(partition).write();
            let mut seen: Vec<Topic> = Vec::new();
            for event in events {
                if event.id <= part.level {
                    continue;
                }
                part.level = event.id;
                if !seen.contains(&event.topic) {
                    seen.push(event.topic.clone());
                }
                self.push(&mut part, event);
            }
            for topic in &seen {
                if let Some(entry) = part.topics.get(topic) {
                    rings.extend(entry.wakes.clone());
                }
            }
        }
        // Outside the lock: whom we wake looks here at once.
        for wakes in rings {
            wakes.ring();
        }
        self.evict();
    }

    /// The log lost everything after `common`: drops it here, and lets every connection that was
    /// past it find out before it is given anything newer.
    pub fn rewind(&self, partition: Partition, common: EventId) {
        let mut part = self.part(partition).write();
        part.generation += 1;
        let generation = part.generation;
        part.rewinds.push_back(Rewind { generation, common });
        if part.rewinds.len() > REWINDS_REMEMBERED {
            part.rewinds.pop_front();
        }
        while part
            .events
            .back()
            .is_some_and(|last| last.event().id > common)
        {
            if let Some(gone) = part.events.pop_back() {
                self.forget(&mut part, &gone);
            }
        }
        for entry in part.topics.values_mut() {
            while entry
                .events
                .back()
                .is_some_and(|last| last.event().id > common)
            {
                entry.events.pop_back();
            }
            entry.last = entry.last.min(common);
        }
        part.start = part.start.min(common);
        part.level = common;
        part.acknowledged
            .store(common.as_integer(), Ordering::Relaxed);
        part.ring_all();
    }

    /// The tail was away for longer than the retention and goes on at `to`: nothing before it can
    /// be served from here.
    pub fn skip(&self, partition: Partition, to: EventId) {
        let mut part = self.part(partition).write();
        self.clear(&mut part);
        part.start = to;
        part.level = to;
        for entry in part.topics.values_mut() {
            // A subscriber behind `to` must not believe that it is level.
            entry.last = entry.last.max(to);
        }
        part.ring_all();
    }

    /// Notes that a publish was answered with this id.
    pub(crate) fn acknowledge(&self, partition: Partition, id: EventId) {
        let part = self.part(partition).read();
        part.acknowledged
            .fetch_max(id.as_integer(), Ordering::Relaxed);
    }

    /// Drops events received before `floor_ms`.
    pub fn expire(&self, floor_ms: u64) {
        for part in &self.parts {
            if !part.read().oldest_is_before(floor_ms) {
                continue;
            }
            let mut part = part.write();
            while part.oldest_is_before(floor_ms) {
                self.pop_front(&mut part);
            }
        }
    }

    /// Registers a connection for a topic.
    pub(crate) fn register(&self, placed: &Placed, number: u64, wake: &Arc<Wake>) {
        let mut part = self.part(placed.partition).write();
        // Whatever the topic had up to the window's start is not known here.
        let unknown = Entry {
            last: part.start,
            ..Entry::default()
        };
        let entry = part.topics.entry(placed.topic.clone()).or_insert(unknown);
        entry
            .wakes
            .get_or_insert_default()
            .0
            .lock()
            .insert(number, wake.clone());
    }

    /// Undoes [`Window::register`].
    pub(crate) fn unregister(&self, placed: &Placed, number: u64) {
        let mut part = self.part(placed.partition).write();
        let Some(entry) = part.topics.get_mut(&placed.topic) else {
            return;
        };
        let empty = entry.wakes.as_ref().is_some_and(|wakes| {
            let mut wakes = wakes.0.lock();
            wakes.remove(&number);
            wakes.is_empty()
        });
        if empty {
            entry.wakes = None;
        }
        if entry.is_idle() {
            part.topics.remove(&placed.topic);
        }
    }

    fn push(&self, part: &mut Part, event: Event) {
        let topic = event.topic.clone();
        let id = event.id;
        let delivered = Arc::new(Delivered::new(event));
        let weight = delivered.weight();
        part.bytes += weight;
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        self.metrics.window_bytes.add(weight as i64);
        self.metrics.window_events.inc();
        part.events.push_back(delivered.clone());
        let entry = part.topics.entry(topic).or_default();
        entry.last = id;
        entry.events.push_back(delivered);
    }

    /// Keeps to the bound: the heaviest partition gives up its oldest events first, so that a busy
    /// one does not push the quiet ones out.
    fn evict(&self) {
        while self.bytes.load(Ordering::Relaxed) > self.bytes_max {
            let heaviest = self.parts.iter().max_by_key(|part| part.read().bytes);
            let Some(part) = heaviest else { return };
            let mut part = part.write();
            let enough = part
                .bytes
                .saturating_sub(self.bytes_max / self.parts.len() / 8);
            while part.bytes > enough && self.bytes.load(Ordering::Relaxed) > self.bytes_max {
                if !self.pop_front(&mut part) {
                    return;
                }
            }
        }
    }

    fn pop_front(&self, part: &mut Part) -> bool {
        let Some(gone) = part.events.pop_front() else {
            return false;
        };
        let event = gone.event();
        part.start = event.id;
        if let Some(entry) = part.topics.get_mut(&event.topic) {
            entry.events.pop_front();
            if entry.is_idle() {
                part.topics.remove(&event.topic);
            }
        }
        self.forget(part, &gone);
        true
    }

    fn forget(&self, part: &mut Part, gone: &Delivered) {
        let weight = gone.weight();
        part.bytes -= weight;
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        self.metrics.window_bytes.sub(weight as i64);
        self.metrics.window_events.dec();
    }

    fn clear(&self, part: &mut Part) {
        while self.pop_front(part) {}
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.wakes.is_none()
    }
}

impl Part {
    pub(crate) fn is_filled(&self) -> bool {
        self.filled
    }

    pub(crate) fn start(&self) -> EventId {
        self.start
    }

    pub(crate) fn level(&self) -> EventId {
        self.level
    }

    /// After everything that anybody here can know of.
    pub(crate) fn newest(&self) -> EventId {
        let acknowledged = EventId::from_integer(self.acknowledged.load(Ordering::Relaxed));
        self.level.max(acknowledged.unwrap_or_default())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a place that was good in `generation` may have been taken back since.
    pub(crate) fn is_rewound(&self, generation: u64, place: EventId) -> bool {
        if generation == self.generation {
            return false;
        }
        let mut since = self
            .rewinds
            .iter()
            .filter(|rewind| rewind.generation > generation);
        let remembered = self
            .rewinds
            .front()
            .is_some_and(|first| first.generation <= generation + 1);
        !remembered || since.any(|rewind| rewind.common < place)
    }

    /// The last place at or before another one: one of the window's events, or its start. `None`
    /// when that lies before the window.
    pub(crate) fn last_at_or_before(&self, place: EventId) -> Option<EventId> {
        if self.start == EventId::ORIGIN || place >= self.start {
            let after = self
                .events
                .partition_point(|delivered| delivered.event().id <= place);
            let last = after
                .checked_sub(1)
                .and_then(|index| self.events.get(index));
            return Some(last.map_or(self.start, |delivered| delivered.event().id));
        }
        None
    }

    /// Whether the window can vouch for a client's place without the log: it is one of its events,
    /// or its very start.
    pub(crate) fn vouches_for(&self, place: EventId) -> bool {
        let found = self
            .events
            .binary_search_by_key(&place, |delivered| delivered.event().id);
        self.filled && (place == self.start || found.is_ok())
    }

    /// What there is of a topic after a place that is known to be good, at most `max` events. More
    /// than `max` are cut off: the events then are complete up to the last one only. What was
    /// received before `floor_ms` is not served from here, even before it was dropped.
    pub(crate) fn look(&self, topic: &Topic, place: EventId, max: usize, floor_ms: u64) -> Look {
        let Some(entry) = self.topics.get(topic) else {
            return if place >= self.start {
                Look::Complete(Vec::new())
            } else {
                Look::Behind
            };
        };
        let from = entry
            .events
            .partition_point(|delivered| delivered.event().id <= place);
        let chained = || match entry.events.get(from) {
            Some(next) => next.event().prev.reaches(place),
            None => entry.last <= place,
        };
        let next_is_too_old = entry
            .events
            .get(from)
            .is_some_and(|next| next.event().id.ms() < floor_ms);
        if next_is_too_old || (place < self.start && !chained()) {
            return Look::Behind;
        }
        Look::Complete(entry.events.range(from..).take(max).cloned().collect())
    }

    fn oldest_is_before(&self, floor_ms: u64) -> bool {
        self.events
            .front()
            .is_some_and(|oldest| oldest.event().id.ms() < floor_ms)
    }

    fn ring_all(&self) {
        for wakes in self
            .topics
            .values()
            .filter_map(|entry| entry.wakes.as_ref())
        {
            wakes.ring();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
