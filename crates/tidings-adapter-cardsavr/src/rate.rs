//! Limits: so many of something in each window of time, by name, counted by this instance.
//!
//! A limit that needed the log would cost more than what it keeps off. All names share one window, so
//! that all counts are forgotten at once and memory is bounded by what one window can bring.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

/// Names counted in one window; more share one count, which fills sooner.
const NAMES_MAX: usize = 100_000;

/// Counts by name.
#[derive(Debug)]
pub(crate) struct Meter {
    window_ms: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    window: u64,
    by_name: HashMap<String, u32>,
}

impl Meter {
    /// In windows of this length.
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1),
            counts: Mutex::default(),
        }
    }

    /// How many were counted in this window.
    pub(crate) fn count_of(&self, name: &str, now_ms: u64) -> u32 {
        let counts = self.counts.lock();
        if counts.window != now_ms / self.window_ms {
            return 0;
        }
        counts.by_name.get(counts.name(name)).copied().unwrap_or(0)
    }

    /// Counts one more; how many these are in this window.
    pub(crate) fn count(&self, name: &str, now_ms: u64) -> u32 {
        let mut counts = self.counts.lock();
        let window = now_ms / self.window_ms;
        if counts.window != window {
            *counts = Counts {
                window,
                by_name: HashMap::new(),
            };
        }
        let name = counts.name(name).to_owned();
        let count = counts.by_name.entry(name).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Seconds until the next window, at least one.
    pub(crate) fn rest_seconds(&self, now_ms: u64) -> u64 {
        (self.window_ms - now_ms % self.window_ms).div_ceil(1000)
    }
}

impl Counts {
    fn name<'a>(&self, name: &'a str) -> &'a str {
        if self.by_name.len() < NAMES_MAX || self.by_name.contains_key(name) {
            name
        } else {
            ""
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_full_and_empty_again() {
        let meter = Meter::new(Duration::from_secs(60));
        assert_eq!(meter.count("a", 100_000), 1);
        assert_eq!(meter.count("a", 119_999), 2);
        assert_eq!(meter.count_of("a", 119_999), 2);
        assert_eq!(meter.count_of("b", 119_999), 0);
        assert_eq!(meter.count_of("a", 120_000), 0);
        assert_eq!(meter.count("a", 120_000), 1);
        assert_eq!(meter.rest_seconds(119_500), 1);
        assert_eq!(meter.rest_seconds(120_000), 60);
    }

    #[test]
    fn a_flood_of_names_shares_one_count() {
        let meter = Meter::new(Duration::from_secs(1));
        for name in 0..NAMES_MAX {
            meter.count(&name.to_string(), 0);
        }
        assert_eq!(meter.count("x", 0), 1);
        assert_eq!(meter.count("y", 0), 2);
        assert_eq!(meter.count("7", 0), 2);
    }
}
