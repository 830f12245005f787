//! How many events somebody may publish: a token bucket as one number (the generic cell rate
//! algorithm), with the time as an argument.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Events a second, and how many of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    burst: u64,
}

impl Rate {
    /// `None` when there is no limit, which 0 a second says. A burst of 0 is one second's worth.
    #[must_use]
    pub fn new(per_second: usize, burst: usize) -> Option<Self> {
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        let burst = u64::try_from(burst).unwrap_or(u64::MAX);
        let interval_ns = 1_000_000_000_u64.checked_div(per_second)?.max(1);
        let burst = if burst == 0 { per_second } else { burst };
        Some(Self { interval_ns, burst })
    }
}

/// What somebody may still publish.
#[derive(Debug)]
pub struct Budget {
    rate: Rate,
    /// When the bucket is full again, in nanoseconds since the instance started.
    full_at_ns: AtomicU64,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at_ns: AtomicU64::new(0),
        }
    }

    /// Takes so many events, all or none. More than a burst are let in when the bucket is full, and
    /// paid for after: a batch that could never pass would be tried for ever.
    ///
    /// # Errors
    /// How long to wait before they may come.
    pub fn take(&self, events: usize, uptime: Duration) -> Result<(), Duration> {
        let Rate { interval_ns, burst } = self.rate;
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        let now = nanoseconds(uptime);
        let room = interval_ns.saturating_mul(burst.saturating_sub(events));
        let mut wait = 0;
        let taken = self
            .full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let full_at = full_at.max(now);
                wait = (full_at - now).saturating_sub(room);
                (wait == 0).then(|| full_at.saturating_add(interval_ns.saturating_mul(events)))
            });
        taken.map(|_| ()).map_err(|_| Duration::from_nanos(wait))
    }

    fn full_at(&self) -> u64 {
        self.full_at_ns.load(Ordering::Relaxed)
    }
}

fn nanoseconds(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX)
}

/// Budgets of an issuer's subjects, each its own.
#[derive(Debug)]
pub struct Budgets {
    rate: Rate,
    /// Held for a look-up; never across a wait.
    subjects: Mutex<HashMap<String, Arc<Budget>>>,
}

/// Subjects whose budgets are remembered: about 2 MiB. Who has not published for a burst's time is
/// forgotten first, which changes nothing for them.
const SUBJECTS_MAX: usize = 10_000;

impl Budgets {
    /// Nobody has published yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            subjects: Mutex::new(HashMap::new()),
        }
    }

    /// One subject's.
    #[must_use]
    pub fn of(&self, subject: &str, uptime: Duration) -> Arc<Budget> {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = subjects.get(subject) {
            return budget.clone();
        }
        if subjects.len() >= SUBJECTS_MAX {
            make_room(&mut subjects, nanoseconds(uptime));
        }
        let budget = Arc::new(Budget::new(self.rate));
        subjects.insert(subject.to_owned(), budget.clone());
        budget
    }
}

/// Forgets the full ones; when all are in use, the tenth that is nearest to full: they get at most
/// one burst more than they should, and the next thousand strangers find room without a search.
fn make_room(subjects: &mut HashMap<String, Arc<Budget>>, now_ns: u64) {
    subjects.retain(|_, budget| budget.full_at() > now_ns);
    if subjects.len() < SUBJECTS_MAX {
        return;
    }
    let mut ends: Vec<u64> = subjects.values().map(|budget| budget.full_at()).collect();
    let (_, tenth, _) = ends.select_nth_unstable(SUBJECTS_MAX / 10);
    let tenth = *tenth;
    subjects.retain(|_, budget| budget.full_at() > tenth);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let budget = Budget::new(Rate::new(10, 3).expect("a limit"));
        let table = [
            // Milliseconds, events, and how long to wait.
            (0, 1, Ok(())),
            (0, 2, Ok(())),
            (0, 1, Err(at(100))),
            (99, 1, Err(at(1))),
            (100, 1, Ok(())),
            (100, 1, Err(at(100))),
            (1000, 3, Ok(())),
            (1000, 2, Err(at(200))),
            // Going back in time is no gift.
            (900, 1, Err(at(200))),
            // Larger than a burst: only into a full bucket, and it takes its time to pay.
            (1200, 5, Err(at(100))),
            (1300, 5, Ok(())),
            (1500, 1, Err(at(100))),
            (1600, 1, Ok(())),
            (u64::MAX / 1_000_000, usize::MAX, Ok(())),
        ];
        for (at, (ms, events, expected)) in table.into_iter().enumerate() {
            let result = budget.take(events, Duration::from_millis(ms));
            assert_eq!(result, expected, "step {at}");
        }
    }

    #[test]
    fn no_limit_and_extreme_ones() {
        assert_eq!(Rate::new(0, 5), None);
        let one = Budget::new(Rate::new(1, 0).expect("a limit"));
        assert_eq!(one.take(1, at(0)), Ok(()));
        assert_eq!(one.take(1, at(0)), Err(at(1000)));
        let fast = Budget::new(Rate::new(usize::MAX, usize::MAX).expect("a limit"));
        assert_eq!(fast.take(usize::MAX, at(0)), Ok(()));
    }

    #[test]
    fn subjects_have_their_own_and_their_number_is_bounded() {
        let budgets = Budgets::new(Rate::new(1, 1).expect("a limit"));
        assert_eq!(budgets.of("a", at(0)).take(1, at(0)), Ok(()));
        assert!(budgets.of("a", at(0)).take(1, at(0)).is_err());
        assert_eq!(budgets.of("b", at(0)).take(1, at(0)), Ok(()));
        for n in 0..3 * SUBJECTS_MAX {
            let _ = budgets.of(&n.to_string(), at(1)).take(1, at(1));
        }
        let held = || budgets.subjects.lock().expect("unpoisoned").len();
        assert!(held() <= SUBJECTS_MAX, "{}", held());
        // All are full again: one more is all there is.
        for n in 0..SUBJECTS_MAX {
            let _ = budgets.of(&format!("x{n}"), at(5000));
        }
        assert!(held() <= SUBJECTS_MAX, "{}", held());
    }
}
