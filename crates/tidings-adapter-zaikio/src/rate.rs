//! How much an app may publish: so many requests in each window of time, as Zaikio counts them.
//!
//! Windows begin at whole multiples of their length, so that `RateLimit-Reset` can be said to the
//! second. Every instance counts for itself: a limit that needed the log would cost more than what
//! it keeps off.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::answer::Refusal;
use crate::options::Rate;

/// Counts by app; as many entries as there are apps in the configuration.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<HashMap<Arc<str>, Window>>);

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    begin: u64,
    requests: u32,
}

impl Meter {
    /// Counts one request of an app.
    pub(crate) fn count(&self, rate: Rate, app: &Arc<str>, unix: u64) -> Result<(), Refusal> {
        let length = u64::from(rate.seconds);
        let begin = unix - unix % length;
        // Held for a moment, never across an await.
        let mut windows = self.0.lock();
        let window = windows.entry(app.clone()).or_default();
        if window.begin != begin {
            *window = Window { begin, requests: 0 };
        }
        if window.requests >= rate.requests {
            return Err(Refusal::TooMany {
                rule: rate.to_string(),
                reset_unix: begin + length,
            });
        }
        window.requests += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_full_and_the_next_one_is_empty() {
        let (meter, app) = (Meter::default(), Arc::<str>::from("a"));
        let rate = Rate {
            requests: 2,
            seconds: 60,
        };
        assert!(meter.count(rate, &app, 100).is_ok());
        assert!(meter.count(rate, &app, 119).is_ok());
        assert_eq!(
            meter.count(rate, &app, 119),
            Err(Refusal::TooMany {
                rule: "2reqs/60s".into(),
                reset_unix: 120
            })
        );
        assert!(meter.count(rate, &Arc::from("b"), 119).is_ok());
        assert!(meter.count(rate, &app, 120).is_ok());
    }
}
