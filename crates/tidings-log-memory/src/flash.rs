//! Flash events of one partition: for the tails that follow it now, and nobody else.
//!
//! They stand in a short queue under numbers of their own, where every tail has a place that starts
//! at the end. What nobody has taken within seconds is dropped.

use std::collections::VecDeque;

use tidings_core::{Event, EventId};

/// Flash events held at most: what a tail that lags may miss is older than these.
const KEPT: usize = 1000;

/// Milliseconds after which a flash event is worth nothing: tails take theirs within a few.
const KEPT_MS: u64 = 5_000;

#[derive(Debug, Default)]
pub(crate) struct FlashQueue {
    /// The number of the first one.
    base: u64,
    events: VecDeque<Event>,
}

impl FlashQueue {
    /// Where a tail that starts now begins.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.events.len() as u64
    }

    /// Puts one at the end, and returns the bytes of what it pushed out.
    pub(crate) fn push(&mut self, mut event: Event, now_ms: u64) -> usize {
        // Ids tell flash events of one millisecond apart as long as they are less than 4,096.
        // The remainder is below SEQ_END, a u16.
        let seq = (self.end() % u64::from(EventId::SEQ_END)) as u16;
        event.id = EventId::new(now_ms, seq).unwrap_or(EventId::ORIGIN);
        self.events.push_back(event);
        if self.events.len() > KEPT {
            self.pop()
        } else {
            0
        }
    }

    /// Drops what is too old, and returns the bytes that it held.
    pub(crate) fn purge(&mut self, now_ms: u64) -> usize {
        let mut freed = 0;
        while self
            .events
            .front()
            .is_some_and(|first| first.id.ms() + KEPT_MS < now_ms)
        {
            freed += self.pop();
        }
        freed
    }

    fn pop(&mut self) -> usize {
        self.base += 1;
        self.events.pop_front().map_or(0, |event| event.weight())
    }

    /// Everything from a number on that is still there.
    pub(crate) fn since(&self, number: u64) -> Vec<Event> {
        // Below the length of `events`, which fits.
        let skipped = number.saturating_sub(self.base) as usize;
        self.events.iter().skip(skipped).cloned().collect()
    }
}
