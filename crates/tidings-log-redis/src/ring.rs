//! The places that a tail has handed out, so that it can say how far a log that lost its end still
//! agrees with them.

use std::collections::VecDeque;

use tidings_core::EventId;

/// Ids per partition: what an asynchronous replica may be behind is less than a second of traffic.
const PLACES: usize = 4096;

/// The newest ids handed out in one partition, rising.
#[derive(Debug, Default)]
pub(crate) struct Ring(VecDeque<EventId>);

impl Ring {
    /// Starts from a place that the log had when it was asked.
    pub(crate) fn starting(place: EventId) -> Self {
        let mut ring = Self::default();
        if place != EventId::ORIGIN {
            ring.push(place);
        }
        ring
    }

    pub(crate) fn push(&mut self, id: EventId) {
        if self.0.len() == PLACES {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }

    /// Forgets everything after a place.
    pub(crate) fn rewind(&mut self, common: EventId) {
        let keep = self.0.partition_point(|id| *id <= common);
        self.0.truncate(keep);
    }

    pub(crate) fn search(&self) -> Search {
        Search {
            low: 0,
            high: self.0.len(),
        }
    }

    /// The place a search asks about; `None` when it is over.
    pub(crate) fn asked(&self, search: &Search) -> Option<EventId> {
        (search.low < search.high).then(|| self.0[search.middle()])
    }

    /// What a search found: the last shared place, if there is one.
    pub(crate) fn found(&self, search: &Search) -> Option<EventId> {
        search
            .low
            .checked_sub(1)
            .and_then(|last| self.0.get(last))
            .copied()
    }
}

/// A binary search for the last shared place; what is shared is a prefix, because a log loses only
/// its end.
#[derive(Debug)]
pub(crate) struct Search {
    low: usize,
    high: usize,
}

impl Search {
    fn middle(&self) -> usize {
        usize::midpoint(self.low, self.high)
    }

    /// The answer to what [`Ring::asked`] asked.
    pub(crate) fn answer(&mut self, shared: bool) {
        if shared {
            self.low = self.middle() + 1;
        } else {
            self.high = self.middle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EventId {
        EventId::new(ms, 0).expect("in range")
    }

    fn common(ring: &Ring, last_shared: u64) -> (Option<EventId>, usize) {
        let (mut search, mut asked) = (ring.search(), 0);
        while let Some(place) = ring.asked(&search) {
            asked += 1;
            search.answer(place <= id(last_shared));
        }
        (ring.found(&search), asked)
    }

    #[test]
    fn the_last_shared_place_is_found_in_few_steps() {
        let mut ring = Ring::starting(id(10));
        for ms in 11..=110 {
            ring.push(id(ms));
        }
        for last in [10, 11, 50, 109, 110, 500] {
            let (found, asked) = common(&ring, last);
            assert_eq!(found, Some(id(last.min(110))));
            assert!(asked <= 7, "{asked}");
        }
        assert_eq!(common(&ring, 9).0, None);
        assert_eq!(common(&Ring::starting(EventId::ORIGIN), 9).0, None);
    }

    #[test]
    fn the_ring_is_bounded_and_rewinds() {
        let mut ring = Ring::default();
        for ms in 0..2 * PLACES as u64 {
            ring.push(id(ms + 1));
        }
        assert_eq!(ring.0.len(), PLACES);
        ring.rewind(id(PLACES as u64 + 5));
        assert_eq!(ring.0.back(), Some(&id(PLACES as u64 + 5)));
        ring.rewind(id(1));
        assert!(ring.0.is_empty());
    }
}
