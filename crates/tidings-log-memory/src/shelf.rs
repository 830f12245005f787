//! One partition: its retained events in id order, and for each topic which of them are its own.
//!
//! Events stand in one queue; a topic knows its events by their number since the log was born, so
//! that dropping the oldest moves nothing. Topics without retained events keep their head and wait
//! in a queue of their own, in the order in which their heads will be forgotten.

use std::collections::{HashMap, VecDeque};

use tidings_core::{Event, EventId, Prev, Topic};

use crate::dedup::Keys;
use crate::flash::FlashQueue;
use crate::records::RecordShelf;
use crate::sequence::Sequence;
use crate::shared::Moment;

/// What a topic weighs beside its events: the map's slot, its queue, its place among the quiet.
const TOPIC_FIXED: usize = 192;

#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) ids: Sequence,
    pub(crate) events: VecDeque<Event>,
    /// The number of the first of `events`.
    pub(crate) base: u64,
    /// The last event that was dropped: nothing at or before it is left.
    pub(crate) dropped: EventId,
    pub(crate) topics: HashMap<Topic, TopicState>,
    /// Topics whose last event was dropped, by that event's id. An entry whose topic has spoken
    /// since is stale and skipped.
    pub(crate) quiet: VecDeque<(EventId, Topic)>,
    /// The newest head that was forgotten.
    pub(crate) forgotten: EventId,
    pub(crate) keys: Keys,
    pub(crate) records: RecordShelf,
    pub(crate) flash: FlashQueue,
    /// The place that was left after each injected loss, for the tails.
    pub(crate) losses: Vec<EventId>,
}

#[derive(Debug)]
pub(crate) struct TopicState {
    /// Its last event.
    pub(crate) head: EventId,
    /// The numbers of its events that were not dropped.
    pub(crate) numbers: VecDeque<u64>,
}

impl Shelf {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            ids: Sequence::new(seed),
            events: VecDeque::new(),
            base: 0,
            dropped: EventId::ORIGIN,
            topics: HashMap::new(),
            quiet: VecDeque::new(),
            forgotten: EventId::ORIGIN,
            keys: Keys::default(),
            records: RecordShelf::default(),
            flash: FlashQueue::default(),
            losses: Vec::new(),
        }
    }

    /// The partition's last id.
    pub(crate) fn last(&self) -> EventId {
        self.ids.last()
    }

    /// What a topic adds to the bytes held when its first event comes.
    pub(crate) fn topic_weight(topic: &Topic) -> usize {
        TOPIC_FIXED + topic.as_str().len()
    }

    /// The topic's last event, if it is still remembered.
    pub(crate) fn head(&self, topic: &Topic, moment: Moment) -> Option<EventId> {
        let head = self.topics.get(topic)?.head;
        (head.ms() >= moment.heads_ms).then_some(head)
    }

    /// A place after which a topic without a remembered head has nothing.
    pub(crate) fn none_since(&self, moment: Moment) -> EventId {
        let aged = if moment.young {
            EventId::ORIGIN
        } else {
            EventId::before_ms(moment.heads_ms)
        };
        aged.max(self.forgotten)
    }

    /// Where in `events` the retained ones begin.
    pub(crate) fn first_retained(&self, moment: Moment) -> usize {
        // Nearly always the first or close to it: trimming runs once a second.
        match self.events.front() {
            Some(first) if first.id.ms() < moment.floor_ms => {
                self.events.partition_point(|e| e.id.ms() < moment.floor_ms)
            }
            _ => 0,
        }
    }

    /// The last event that is not served any more, dropped or not: every event after it is.
    pub(crate) fn gone(&self, first_retained: usize) -> EventId {
        match first_retained.checked_sub(1) {
            Some(before) => self.events[before].id,
            None => self.dropped,
        }
    }

    /// Where in `events` the ones after a place begin.
    pub(crate) fn after(&self, place: EventId) -> usize {
        match self.events.back() {
            Some(last) if last.id > place => self.events.partition_point(|e| e.id <= place),
            _ => self.events.len(),
        }
    }

    /// A topic's event by its number.
    pub(crate) fn numbered(&self, number: u64) -> &Event {
        // Below the length of `events`, which fits.
        &self.events[(number - self.base) as usize]
    }

    /// Puts an event at the end; its id and `prev` are given here. Returns the bytes it added.
    pub(crate) fn push(&mut self, mut event: Event, moment: Moment) -> usize {
        let mut added = event.weight();
        let number = self.base + self.events.len() as u64;
        event.prev = match self.head(&event.topic, moment) {
            Some(head) => Prev::Event(head),
            None => Prev::NoneSince(self.none_since(moment)),
        };
        event.id = self.ids.next(moment.now_ms);
        match self.topics.get_mut(&event.topic) {
            Some(state) => {
                state.head = event.id;
                state.numbers.push_back(number);
            }
            None => {
                added += Self::topic_weight(&event.topic);
                let state = TopicState {
                    head: event.id,
                    numbers: VecDeque::from([number]),
                };
                self.topics.insert(event.topic.clone(), state);
            }
        }
        self.events.push_back(event);
        added
    }

    /// Drops at most `most` each of events past the retention, heads, keys and records past their
    /// time.
    /// Returns the bytes they held.
    pub(crate) fn trim(&mut self, moment: Moment, most: usize) -> usize {
        let mut freed = self.keys.purge(moment.now_ms, most);
        freed += self.records.purge(moment.now_ms, most);
        freed += self.flash.purge(moment.now_ms);
        for _ in 0..most {
            match self.events.front() {
                Some(first) if first.id.ms() < moment.floor_ms => freed += self.drop_first(),
                _ => break,
            }
        }
        for _ in 0..most {
            match self.quiet.front() {
                Some((head, _)) if head.ms() < moment.heads_ms => freed += self.forget_head(),
                _ => break,
            }
        }
        freed
    }

    fn drop_first(&mut self) -> usize {
        let Some(event) = self.events.pop_front() else {
            return 0;
        };
        self.base += 1;
        self.dropped = event.id;
        if let Some(state) = self.topics.get_mut(&event.topic) {
            state.numbers.pop_front();
            if state.numbers.is_empty() {
                state.numbers = VecDeque::new();
                self.quiet.push_back((event.id, event.topic.clone()));
            }
        }
        event.weight()
    }

    /// Forgets the oldest head of a quiet topic. Safe at any time: what is then said of such a
    /// topic is only that there was nothing since.
    pub(crate) fn forget_head(&mut self) -> usize {
        let Some((head, topic)) = self.quiet.pop_front() else {
            return 0;
        };
        if self.topics.get(&topic).is_none_or(|s| s.head != head) {
            return 0;
        }
        self.topics.remove(&topic);
        self.forgotten = self.forgotten.max(head);
        Self::topic_weight(&topic)
    }

    /// About what forgetting all heads of quiet topics would free.
    pub(crate) fn quiet_weight(&self) -> usize {
        self.quiet.len() * TOPIC_FIXED
    }

    /// Gives back room that a burst left behind.
    pub(crate) fn shrink(&mut self) {
        /// Growing back from here takes no time.
        const SMALL: usize = 1024;
        if self.events.capacity() > SMALL && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
        }
        if self.topics.capacity() > SMALL && self.topics.len() < self.topics.capacity() / 4 {
            self.topics.shrink_to(self.topics.len() * 2);
        }
    }
}
