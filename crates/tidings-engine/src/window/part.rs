//! One partition of the window: its events, its topics, whom they wake, what was taken back.

use std::collections::{HashMap, VecDeque, vec_deque};
use std::iter::Take;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidings_core::{Event, EventId, Filled, Printed as _, Topic};

use crate::delivered::Delivered;
use crate::limits::{FLASH_KEPT, FLASH_KEPT_BYTES, REWINDS_REMEMBERED};
use crate::wake::Wake;

/// One partition's window.
#[derive(Debug, Default)]
pub(crate) struct Part {
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
    flash: Flash,
}

/// Flash events for who is level: a short queue under numbers of its own.
#[derive(Debug, Default)]
struct Flash {
    /// The number of the first one.
    base: u64,
    events: VecDeque<(Instant, Arc<Delivered>)>,
    bytes: usize,
}

impl Flash {
    fn pop_front(&mut self) {
        if let Some((_, gone)) = self.events.pop_front() {
            self.base += 1;
            self.bytes -= gone.weight();
        }
    }
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
pub(super) struct Wakes(Mutex<HashMap<u64, Arc<Wake>>>);

impl Wakes {
    pub(super) fn ring(&self) {
        for wake in self.0.lock().values() {
            wake.ring();
        }
    }
}

/// What the window has for a topic after a place.
#[derive(Debug)]
pub(crate) enum Look<'a> {
    /// Everything after the place, up to the partition's level: these events (maybe none).
    Complete(Take<vec_deque::Iter<'a, Arc<Delivered>>>),
    /// Something after the place is no longer here: ask the log.
    Behind,
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.wakes.is_none()
    }

    /// Where the events after a place begin. Nearly everybody who asks is a few events behind the
    /// end, and those are in the processor's cache; what a search touches is not.
    fn after(&self, place: EventId) -> usize {
        const NEAR: usize = 4;
        let reached = |delivered: &&Arc<Delivered>| delivered.event().id <= place;
        let mut newest = self.events.iter().rev().take(NEAR);
        match newest.position(|delivered| reached(&delivered)) {
            Some(behind) => self.events.len() - behind,
            None => self.events.partition_point(|delivered| reached(&delivered)),
        }
    }
}

impl Part {
    /// Takes the partition's newest part; what it had is gone already.
    pub(super) fn fill(&mut self, filled: Filled) {
        self.start = filled.start;
        self.level = filled.level;
        self.filled = true;
        for event in filled.events {
            self.push(event);
        }
        self.ring_all();
    }

    /// Takes new events, and answers with whom they concern.
    pub(super) fn extend(&mut self, events: Vec<Event>) -> Vec<Arc<Wakes>> {
        let mut concerned: Vec<Topic> = Vec::new();
        for event in events {
            if event.id <= self.level {
                continue;
            }
            self.level = event.id;
            if !concerned.contains(&event.topic) {
                concerned.push(event.topic.clone());
            }
            self.push(event);
        }
        let wakes = |topic: &Topic| self.topics.get(topic).and_then(|entry| entry.wakes.clone());
        concerned.iter().filter_map(wakes).collect()
    }

    /// Takes flash events, and answers with whom they concern. Those of topics that nobody here has
    /// subscribed to are not kept.
    pub(super) fn flash(&mut self, events: Vec<Event>, now: Instant) -> Vec<Arc<Wakes>> {
        let mut concerned: Vec<Arc<Wakes>> = Vec::new();
        for event in events {
            let entry = self.topics.get(&event.topic);
            let Some(wakes) = entry.and_then(|entry| entry.wakes.as_ref()) else {
                continue;
            };
            if !concerned.iter().any(|one| Arc::ptr_eq(one, wakes)) {
                concerned.push(wakes.clone());
            }
            let delivered = Arc::new(Delivered::new(event));
            self.flash.bytes += delivered.weight();
            self.flash.events.push_back((now, delivered));
            while self.flash.events.len() > FLASH_KEPT || self.flash.bytes > FLASH_KEPT_BYTES {
                self.flash.pop_front();
            }
        }
        concerned
    }

    /// The number that the next flash event will have.
    pub(crate) fn flash_end(&self) -> u64 {
        self.flash.base + self.flash.events.len() as u64
    }

    /// Flash events from a number on that are still there.
    pub(crate) fn flash_since(&self, number: u64) -> impl Iterator<Item = &Arc<Delivered>> {
        // Below the length of the queue, which fits.
        let skipped = number.saturating_sub(self.flash.base) as usize;
        self.flash.events.iter().skip(skipped).map(|(_, one)| one)
    }

    /// Whether any flash event is older than it may be.
    pub(super) fn flash_is_stale(&self, now: Instant, most: Duration) -> bool {
        let oldest = self.flash.events.front();
        oldest.is_some_and(|(since, _)| now.duration_since(*since) > most)
    }

    /// Drops flash events that are older than they may be.
    pub(super) fn drop_stale_flash(&mut self, now: Instant, most: Duration) {
        while self.flash_is_stale(now, most) {
            self.flash.pop_front();
        }
    }

    fn push(&mut self, event: Event) {
        let (topic, id) = (event.topic.clone(), event.id);
        let delivered = Arc::new(Delivered::new(event));
        self.bytes += delivered.weight();
        self.events.push_back(delivered.clone());
        let entry = self.topics.entry(topic).or_default();
        entry.last = id;
        entry.events.push_back(delivered);
    }

    /// Gives up the oldest event; false when there is none.
    pub(super) fn pop_front(&mut self) -> bool {
        let Some(gone) = self.events.pop_front() else {
            return false;
        };
        let event = gone.event();
        self.start = event.id;
        self.bytes -= gone.weight();
        if let Some(entry) = self.topics.get_mut(&event.topic) {
            entry.events.pop_front();
            if entry.is_idle() {
                self.topics.remove(&event.topic);
            }
        }
        true
    }

    /// Drops everything after `common` and remembers that it was taken back.
    pub(super) fn rewind(&mut self, common: EventId) {
        self.generation += 1;
        self.rewinds.push_back(Rewind {
            generation: self.generation,
            common,
        });
        if self.rewinds.len() > REWINDS_REMEMBERED {
            self.rewinds.pop_front();
        }
        while self
            .events
            .back()
            .is_some_and(|last| last.event().id > common)
        {
            self.bytes -= self.events.pop_back().map_or(0, |gone| gone.weight());
        }
        for entry in self.topics.values_mut() {
            while entry
                .events
                .back()
                .is_some_and(|last| last.event().id > common)
            {
                entry.events.pop_back();
            }
            entry.last = entry.last.min(common);
        }
        self.start = self.start.min(common);
        self.level = common;
        self.acknowledged
            .store(common.as_integer(), Ordering::Relaxed);
        self.ring_all();
    }

    /// Goes on at `to`, without what lay before it.
    pub(super) fn skip(&mut self, to: EventId) {
        while self.pop_front() {}
        self.start = to;
        self.level = to;
        for entry in self.topics.values_mut() {
            // A subscriber behind `to` must not believe that it is level.
            entry.last = entry.last.max(to);
        }
        self.ring_all();
    }

    pub(super) fn register(&mut self, topic: &Topic, number: u64, wake: &Arc<Wake>) {
        // Whatever the topic had up to the window's start is not known here.
        let unknown = Entry {
            last: self.start,
            ..Entry::default()
        };
        let entry = self.topics.entry(topic.clone()).or_insert(unknown);
        entry
            .wakes
            .get_or_insert_default()
            .0
            .lock()
            .insert(number, wake.clone());
    }

    pub(super) fn unregister(&mut self, topic: &Topic, number: u64) {
        let Some(entry) = self.topics.get_mut(topic) else {
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
            self.topics.remove(topic);
        }
    }

    /// Notes that a publish was answered with this id.
    pub(super) fn acknowledge(&self, id: EventId) {
        self.acknowledged
            .fetch_max(id.as_integer(), Ordering::Relaxed);
    }

    /// Bytes and events held.
    pub(super) fn weight(&self) -> (usize, usize) {
        (self.bytes, self.events.len())
    }

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
    /// or its very start. Not for what was received before `floor_ms`: that has expired, though it
    /// may still be here, and only the log knows what was missed since.
    /// At the last id that the tail has seen nothing was missed, however old it is: a poll on a quiet
    /// partition reads no log.
    pub(crate) fn vouches_for(&self, place: EventId, floor_ms: u64) -> bool {
        if place == self.level {
            return self.filled;
        }
        if place == EventId::ORIGIN {
            return self.filled && self.start == place;
        }
        let found = || {
            self.events
                .binary_search_by_key(&place, |delivered| delivered.event().id)
        };
        self.filled && place.ms() >= floor_ms && (place == self.start || found().is_ok())
    }

    /// What there is of a topic after a place that is known to be good, at most `max` events. More
    /// than `max` are cut off: the events then are complete up to the last one only. What was
    /// received before `floor_ms` is not served from here, even before it was dropped.
    pub(crate) fn look(
        &self,
        topic: &Topic,
        place: EventId,
        max: usize,
        floor_ms: u64,
    ) -> Look<'_> {
        let Some(entry) = self.topics.get(topic) else {
            return if place >= self.start || place == self.level {
                Look::Complete(vec_deque::Iter::default().take(0))
            } else {
                Look::Behind
            };
        };
        let from = entry.after(place);
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
        Look::Complete(entry.events.range(from..).take(max))
    }

    pub(super) fn oldest_is_before(&self, floor_ms: u64) -> bool {
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
