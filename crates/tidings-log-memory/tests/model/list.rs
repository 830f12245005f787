//! The log as a list: every event ever stored, and each answer worked out by looking at all of
//! them.

use tidings_core::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use tidings_core::{
    Appended, Draft, Event, EventId, Filled, From, Head, Outcome, Page, PageLimit, Partition,
    Partitions, Placed, Prev, Topic, Verdict,
};

use crate::model::history::{Near, Pick, Start};

pub(crate) const RETENTION_MS: u64 = 1000;
const HEADS_MS: u64 = 24 * RETENTION_MS;

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) now_ms: u64,
    pub(crate) born_ms: u64,
    partitions: Vec<Part>,
}

#[derive(Debug, Default)]
struct Part {
    /// In the order of their ids; what was lost is not here.
    events: Vec<Event>,
    /// Every id that was ever given out, lost ones too.
    ids: Vec<EventId>,
    keys: Vec<(String, EventId, u64)>,
}

impl List {
    pub(crate) fn new(partitions: Partitions, now_ms: u64) -> Self {
        Self {
            now_ms,
            born_ms: now_ms,
            partitions: partitions.all().map(|_| Part::default()).collect(),
        }
    }

    fn floor_ms(&self) -> u64 {
        self.now_ms.saturating_sub(RETENTION_MS)
    }

    pub(crate) fn last(&self, partition: Partition) -> EventId {
        let events = &self.partitions[partition.index()].events;
        events.last().map_or(EventId::ORIGIN, |e| e.id)
    }

    /// The events that are served.
    pub(crate) fn retained(&self, partition: Partition) -> impl Iterator<Item = &Event> {
        let floor_ms = self.floor_ms();
        let events = &self.partitions[partition.index()].events;
        events.iter().filter(move |e| e.id.ms() >= floor_ms)
    }

    /// The last event that is not served any more.
    pub(crate) fn gone(&self, partition: Partition) -> EventId {
        let events = &self.partitions[partition.index()].events;
        let gone = events.iter().filter(|e| e.id.ms() < self.floor_ms());
        gone.last().map_or(EventId::ORIGIN, |e| e.id)
    }

    fn of<'a>(&'a self, topic: &'a Placed) -> impl Iterator<Item = &'a Event> {
        self.retained(topic.partition)
            .filter(|e| e.topic == topic.topic)
    }

    fn head(&self, partition: Partition, topic: &Topic) -> Option<EventId> {
        let events = &self.partitions[partition.index()].events;
        let head = events.iter().rfind(|e| e.topic == *topic)?.id;
        (head.ms() + HEADS_MS >= self.now_ms).then_some(head)
    }

    fn none_since(&self) -> EventId {
        if self.now_ms - self.born_ms <= HEADS_MS {
            EventId::ORIGIN
        } else {
            EventId::before_ms(self.now_ms - HEADS_MS)
        }
    }

    /// Checks an append and keeps what it stored.
    pub(crate) fn appended(
        &mut self,
        partition: Partition,
        drafts: Vec<Draft>,
        appended: &[Appended],
    ) {
        assert_eq!(appended.len(), drafts.len());
        for (draft, appended) in drafts.into_iter().zip(appended) {
            let now_ms = self.now_ms;
            let key = draft.dedup.as_ref().map(|d| d.key.to_string());
            let keys = &self.partitions[partition.index()].keys;
            let alive = |(known, _, end_ms): &&(String, EventId, u64)| {
                key.as_ref() == Some(known) && now_ms < *end_ms
            };
            if let Some((_, first, _)) = keys.iter().find(alive) {
                assert_eq!(
                    (appended.outcome, appended.id),
                    (Outcome::Duplicate, *first)
                );
                continue;
            }
            assert_eq!(appended.outcome, Outcome::New);
            let last = self.last(partition);
            assert!(appended.id > last, "{} after {last}", appended.id);
            let ms = appended.id.ms();
            assert!(ms == now_ms.max(last.ms()) || ms == last.ms() + 1);
            self.store(partition, draft, appended.id);
        }
    }

    /// Keeps what an append stored, without a clock to check it by.
    pub(crate) fn remember(
        &mut self,
        partition: Partition,
        drafts: Vec<Draft>,
        appended: &[Appended],
    ) {
        for (draft, appended) in drafts.into_iter().zip(appended) {
            if appended.outcome == Outcome::New {
                assert!(appended.id > self.last(partition));
                self.store(partition, draft, appended.id);
            }
        }
    }

    fn store(&mut self, partition: Partition, draft: Draft, id: EventId) {
        let prev = match self.head(partition, &draft.topic) {
            Some(head) => Prev::Event(head),
            None => Prev::NoneSince(self.none_since()),
        };
        let now_ms = self.now_ms;
        let part = &mut self.partitions[partition.index()];
        if let Some(dedup) = &draft.dedup {
            let end_ms = now_ms.saturating_add(dedup.lifetime_ms);
            part.keys.push((dedup.key.to_string(), id, end_ms));
        }
        part.ids.push(id);
        part.events.push(Event {
            id,
            prev,
            topic: draft.topic,
            kind: draft.kind,
            data: draft.data,
            attributes: draft.attributes,
        });
    }

    pub(crate) fn judge(&self, topic: &Placed, place: EventId) -> Verdict {
        let head = self.head(topic.partition, &topic.topic);
        let last = self.last(topic.partition);
        if self.retained(topic.partition).any(|e| e.id == place)
            || head == Some(place)
            || last == place
        {
            return Verdict::Ok;
        }
        if place > last {
            return Verdict::Ahead;
        }
        let first = self.retained(topic.partition).next();
        if place.ms() >= self.floor_ms() && first.is_some_and(|e| e.id < place) {
            return Verdict::Diverged;
        }
        let ok = match (self.of(topic).next(), head) {
            (Some(oldest), _) => oldest.prev.reaches(place),
            (None, Some(head)) => head <= place,
            (None, None) => self.none_since() <= place,
        };
        if ok { Verdict::Ok } else { Verdict::Expired }
    }

    pub(crate) fn heads(&self, topics: &[Placed]) -> Vec<Head> {
        let head = |topic: &Placed| Head {
            topic: self.head(topic.partition, &topic.topic),
            partition: self.last(topic.partition),
        };
        topics.iter().map(head).collect()
    }

    pub(crate) fn check_page(&self, topic: &Placed, from: From, limit: PageLimit, page: &Page) {
        let head = self.head(topic.partition, &topic.topic);
        assert_eq!(page.head, head);
        let (verdict, after) = match from {
            From::Oldest => (Verdict::Ok, EventId::ORIGIN),
            From::Newest => (Verdict::Ok, self.last(topic.partition)),
            From::After(place) => (self.judge(topic, place), place),
            From::Since(ms) => (Verdict::Ok, EventId::before_ms(ms)),
        };
        assert_eq!(page.verdict, verdict, "{from:?} in {topic:?}");
        if !verdict.is_ok() {
            assert_eq!(page.events, []);
            return;
        }
        let rest: Vec<&Event> = self.of(topic).filter(|e| e.id > after).collect();
        let expected = first_page(rest.iter().copied(), limit);
        assert_eq!(page.events.iter().collect::<Vec<_>>(), expected);
        assert_eq!(page.at_end, expected.len() == rest.len());
        match page.events.last() {
            Some(last) => assert_eq!(page.next, last.id),
            None => {
                assert!(self.of(topic).all(|e| e.id <= page.next) || from_ahead(from, page));
                assert_eq!(self.judge(topic, page.next), Verdict::Ok);
            }
        }
    }

    pub(crate) fn check_fill(&self, partition: Partition, limit: PageLimit, filled: &Filled) {
        let mut newest_first: Vec<&Event> = self.retained(partition).collect();
        newest_first.reverse();
        let unclamped = first_of(newest_first.iter().copied(), limit);
        let served: Vec<&Event> = filled.events.iter().rev().collect();
        assert_eq!(served, unclamped);
        assert_eq!(filled.level, self.last(partition));
        let inside = self.retained(partition).filter(|e| e.id > filled.start);
        assert!(inside.eq(filled.events.iter()), "{filled:?}");
        assert!(filled.start >= self.gone(partition));
    }

    /// What is called `ok` brings everything that was ever stored after it, from the first on.
    pub(crate) fn check_sound(&self, topic: &Placed, place: EventId, page: &Page) {
        let events = &self.partitions[topic.partition.index()].events;
        let after = events
            .iter()
            .filter(|e| e.topic == topic.topic && e.id > place)
            .map(|e| e.id);
        let ever: Vec<EventId> = after.collect();
        let read: Vec<EventId> = page.events.iter().map(|e| e.id).collect();
        assert!(
            ever.starts_with(&read),
            "{read:?} after {place} of {ever:?}"
        );
        assert_eq!(page.at_end, read.len() == ever.len(), "after {place}");
    }

    pub(crate) fn lose(&mut self, partition: Partition, after: EventId) {
        let part = &mut self.partitions[partition.index()];
        part.events.retain(|e| e.id <= after);
        part.keys.retain(|(_, id, _)| *id <= after);
    }

    pub(crate) fn place(&self, partition: Partition, pick: Pick) -> EventId {
        let ids = &self.partitions[partition.index()].ids;
        let id = match ids.len() {
            0 => EventId::ORIGIN,
            n => ids[pick.which.index(n)],
        };
        match pick.near {
            Near::There => id,
            Near::Next => id.next(),
            Near::BeforeMs => EventId::before_ms(id.ms()),
            Near::Origin => EventId::ORIGIN,
            Near::FarAhead => EventId::before_ms(id.ms() + 10_000_000),
        }
    }

    /// The place of a retained event, or the origin.
    pub(crate) fn retained_place(&self, partition: Partition, pick: Pick) -> EventId {
        let retained: Vec<&Event> = self.retained(partition).collect();
        match (retained.len(), pick.near) {
            (0, _) | (_, Near::Origin) => EventId::ORIGIN,
            (n, _) => retained[pick.which.index(n)].id,
        }
    }

    pub(crate) fn from(&self, partition: Partition, start: Start) -> From {
        match start {
            Start::Oldest => From::Oldest,
            Start::Newest => From::Newest,
            Start::After(pick) => From::After(self.place(partition, pick)),
            Start::Since(pick, ms) => {
                let ms = self.place(partition, pick).ms().saturating_add_signed(ms);
                From::Since(ms)
            }
        }
    }
}

/// A time to come: what there is lies before it.
fn from_ahead(from: From, page: &Page) -> bool {
    matches!(from, From::Since(ms) if page.next.ms() < ms)
}

fn first_page<'a>(events: impl Iterator<Item = &'a Event>, limit: PageLimit) -> Vec<&'a Event> {
    let clamped = PageLimit {
        events: limit.events.min(PAGE_EVENTS_MAX),
        bytes: limit.bytes.min(PAGE_BYTES_MAX),
    };
    first_of(events, clamped)
}

fn first_of<'a>(events: impl Iterator<Item = &'a Event>, limit: PageLimit) -> Vec<&'a Event> {
    let mut bytes = 0;
    let within = |(n, event): &(usize, &'a Event)| {
        bytes += event.data.len();
        *n == 0 || (*n < limit.events && bytes <= limit.bytes)
    };
    let taken = events.enumerate().take_while(within);
    taken.map(|(_, event)| event).collect()
}
