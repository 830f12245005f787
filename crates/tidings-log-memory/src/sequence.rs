//! The ids of one partition: the clock's millisecond and a sequence with a random start (LOG.md
//! §2), so that a millisecond that comes twice does not name two events alike.

use tidings_core::{EventId, LogError};

/// Gives out the ids of one partition. They rise, whatever the clock does.
#[derive(Debug)]
pub(crate) struct Sequence {
    last: EventId,
    random: u64,
}

impl Sequence {
    /// Starts are drawn from the lower half, so that every millisecond has room for 2,048 events
    /// before the next one is borrowed.
    const START_END: u64 = EventId::SEQ_END as u64 / 2;

    pub(crate) fn new(seed: u64) -> Self {
        Self {
            last: EventId::ORIGIN,
            random: seed,
        }
    }

    /// The last id given out.
    pub(crate) fn last(&self) -> EventId {
        self.last
    }

    /// Goes back, as a promoted replica does that never saw the rest.
    pub(crate) fn rewind(&mut self, last: EventId) {
        self.last = last;
    }

    /// Whether `count` more ids fit below the end of time as ids print it.
    ///
    /// # Errors
    /// [`LogError::Refused`] when the clock stands beyond [`EventId::MS_MAX`].
    pub(crate) fn room(&self, now_ms: u64, count: usize) -> Result<(), LogError> {
        // Each id advances the millisecond at most once.
        let furthest = now_ms.max(self.last.ms()).saturating_add(count as u64);
        if furthest > EventId::MS_MAX {
            return Err(LogError::Refused(format!(
                "the clock stands at {now_ms} ms, ids end at {} ms",
                EventId::MS_MAX
            )));
        }
        Ok(())
    }

    /// The next id, after [`Sequence::room`] was asked.
    pub(crate) fn next(&mut self, now_ms: u64) -> EventId {
        let rising = (now_ms <= self.last.ms())
            .then(|| EventId::new(self.last.ms(), self.last.seq() + 1))
            .flatten();
        self.last = rising.unwrap_or_else(|| {
            let ms = now_ms.max(self.last.ms() + 1);
            EventId::new(ms, self.start()).expect("room() keeps ms, START_END keeps seq in range")
        });
        self.last
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): all that is asked of it is that two histories of one
    /// millisecond seldom agree.
    pub(crate) fn start(&mut self) -> u16 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Below 2,048.
        ((z ^ (z >> 31)) % Self::START_END) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_whatever_the_clock_does() {
        let mut ids = Sequence::new(1);
        let mut before = EventId::ORIGIN;
        for now in [5, 5, 9, 3, 0, 9, 10].repeat(2000) {
            let id = ids.next(now);
            assert!(id > before, "{id} after {before}");
            before = id;
        }
    }

    #[test]
    fn a_full_millisecond_borrows_the_next() {
        let mut ids = Sequence::new(1);
        let all: Vec<_> = (0..10_000).map(|_| ids.next(7)).collect();
        assert!(all.is_sorted_by(|a, b| a < b));
        assert!(all.iter().all(|id| (7..12).contains(&id.ms())), "{all:?}");
    }

    #[test]
    fn the_end_of_time_is_an_error_and_no_panic() {
        let ids = Sequence::new(1);
        assert!(ids.room(EventId::MS_MAX - 1, 1).is_ok());
        assert!(ids.room(EventId::MS_MAX, 1).is_err());
        assert!(ids.room(u64::MAX, 1).is_err());
    }
}
