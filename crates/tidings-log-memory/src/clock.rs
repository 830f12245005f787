//! The machine's clock. Core reads none, so whoever runs a log brings one.

use std::time::{SystemTime, UNIX_EPOCH};

use tidings_core::Clock;

/// Wall time as the operating system tells it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        // A machine that believes to be before 1970 has no time to tell: ids then start at 0.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        since_1970.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}
