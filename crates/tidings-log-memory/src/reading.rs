//! Reading, judging and filling: what the log says of places and what it serves from them
//! (LOG.md §4, §5). Everything is filtered by the floor exactly, so trimming may lag unseen.

use tidings_core::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use tidings_core::{Event, EventId, Filled, From, Page, PageLimit, Topic, Verdict};

use crate::shared::Moment;
use crate::shelf::Shelf;

impl Shelf {
    pub(crate) fn judge(&self, topic: &Topic, place: EventId, moment: Moment) -> Verdict {
        let first = self.first_retained(moment);
        let here = self.after(place);
        if here > first && self.events[here - 1].id == place {
            return Verdict::Ok;
        }
        let head = self.head(topic, moment);
        // At the partition's last id nothing can have been missed, in whatever topic; without this
        // `Newest` would hand out a place that is already expired when a whole partition has been
        // silent for longer than heads are kept.
        if head == Some(place) || place == self.last() {
            return Verdict::Ok;
        }
        if place > self.last() {
            return Verdict::Ahead;
        }
        let below_all = self.events.get(first).is_none_or(|e| place < e.id);
        if place.ms() >= moment.floor_ms && !below_all {
            return Verdict::Diverged;
        }
        let missed_nothing = match self.retained(topic, moment).next() {
            Some(oldest) => oldest.prev.reaches(place),
            None => head.unwrap_or_else(|| self.none_since(moment)) <= place,
        };
        if missed_nothing {
            Verdict::Ok
        } else {
            Verdict::Expired
        }
    }

    pub(crate) fn read(&self, topic: &Topic, from: From, limit: PageLimit, moment: Moment) -> Page {
        let head = self.head(topic, moment);
        let end = head.unwrap_or_else(|| self.last());
        let (verdict, after) = match from {
            From::Oldest => (Verdict::Ok, EventId::ORIGIN),
            From::Newest => (Verdict::Ok, end),
            From::Since(ms) => (Verdict::Ok, EventId::before_ms(ms)),
            From::After(place) => (self.judge(topic, place, moment), place),
        };
        if !verdict.is_ok() {
            return Page {
                verdict,
                events: Vec::new(),
                next: after,
                head,
                at_end: false,
            };
        }
        let bounds = PageLimit {
            events: limit.events.min(PAGE_EVENTS_MAX),
            bytes: limit.bytes.min(PAGE_BYTES_MAX),
        };
        let mut rest = self.retained_after(topic, after, moment).peekable();
        let events = page(&mut rest, bounds);
        let at_end = rest.peek().is_none();
        let next = match (events.last(), from) {
            (Some(last), _) => last.id,
            // Young enough to be judged without the help of heads: it stays as it is.
            (None, From::After(place)) if place.ms() >= moment.floor_ms => place,
            // Nothing of this topic lies between: a reader that keeps asking never grows old.
            (None, From::After(_)) => self.last(),
            (None, _) => end,
        };
        Page {
            verdict,
            events,
            next,
            head,
            at_end,
        }
    }

    pub(crate) fn fill(&self, limit: PageLimit, moment: Moment) -> Filled {
        let first = self.first_retained(moment);
        let newest_first = self.events.range(first..).rev();
        let mut events = page(&mut newest_first.peekable(), limit);
        events.reverse();
        let start = match events.len() {
            0 => self.last(),
            taken => self.gone(self.events.len() - taken),
        };
        Filled {
            events,
            start,
            level: self.last(),
        }
    }

    fn retained(&self, topic: &Topic, moment: Moment) -> impl Iterator<Item = &Event> {
        self.retained_after(topic, EventId::ORIGIN, moment)
    }

    /// The topic's retained events after a place.
    fn retained_after(
        &self,
        topic: &Topic,
        place: EventId,
        moment: Moment,
    ) -> impl Iterator<Item = &Event> {
        let numbers = self.topics.get(topic).map(|state| &state.numbers);
        let unseen = move |number: &u64| {
            let id = self.numbered(*number).id;
            id <= place || id.ms() < moment.floor_ms
        };
        numbers.into_iter().flat_map(move |numbers| {
            let from = numbers.partition_point(unseen);
            numbers.range(from..).map(|number| self.numbered(*number))
        })
    }
}

/// Takes events until the next one would go over a bound, but at least one.
pub(crate) fn page<'a>(
    events: &mut std::iter::Peekable<impl Iterator<Item = &'a Event>>,
    limit: PageLimit,
) -> Vec<Event> {
    let mut taken: Vec<Event> = Vec::new();
    let mut bytes = 0usize;
    while let Some(event) = events.next_if(|event| {
        taken.is_empty()
            || (taken.len() < limit.events && bytes.saturating_add(event.data.len()) <= limit.bytes)
    }) {
        bytes = bytes.saturating_add(event.data.len());
        taken.push(event.clone());
    }
    taken
}
