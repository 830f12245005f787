//! A clock that moves when it is told to, for logs that take theirs as an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::Clock;

/// A clock in the hand of a test.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Stands at this many milliseconds since 1970.
    #[must_use]
    pub const fn at(unix_ms: u64) -> Self {
        Self(AtomicU64::new(unix_ms))
    }

    /// Moves forward.
    pub fn advance(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Jumps, backwards too, as wall clocks do.
    pub fn set(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::Relaxed);
    }
}

impl Default for ManualClock {
    /// 2024-11-21T08:00:00Z: thirteen digits, like the present.
    fn default() -> Self {
        Self::at(1_732_176_000_000)
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
