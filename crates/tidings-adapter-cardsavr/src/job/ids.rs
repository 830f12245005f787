//! Ids of jobs, cardholders, cards and accounts: numbers that no two things have.
//!
//! Each instance takes a block of numbers from a counter record and hands them out by itself. They
//! stay below 2^31 for decades, because some clients read them into 32 bits; and the counter never
//! lags behind the clock, so that a failover to an older copy of it does not hand out old numbers.

use std::ops::Range;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_adapter::{Command, Decision, Hub, RecordKind, State, Trigger};

use crate::errors::Refused;
use crate::keys;

/// Numbers of one block: a commit for each sixteenth job.
const BLOCK: u64 = 64;

/// The counter begins at this many numbers a second since the beginning of 2026: 2^31 is reached in
/// 2034 by the clock, or when more than that are needed on the average of years.
const PER_SECOND: u64 = 8;

/// 2026-01-01, seconds since 1970.
const BEGINNING: u64 = 1_767_225_600;

/// As long as any id is in use, and far beyond: then the clock has passed it.
const LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);

/// An instance's share.
#[derive(Debug, Default)]
pub(crate) struct Ids(Mutex<Range<u64>>);

impl Ids {
    /// So many numbers, one behind the other.
    ///
    /// # Errors
    /// When the log does not answer.
    pub(crate) async fn take(&self, hub: &Hub, count: u64) -> Result<u64, Refused> {
        debug_assert!(count <= BLOCK);
        loop {
            {
                let mut rest = self.0.lock();
                let first = rest.start;
                if rest.end.saturating_sub(first) >= count {
                    rest.start += count;
                    return Ok(first);
                }
            }
            let decided = hub
                .command(Command {
                    kind: keys::COUNTER.into(),
                    placement_key: keys::COUNTER_KEY.into(),
                    records: vec![keys::counter()],
                    body: "".into(),
                })
                .await?;
            let first = parse(&decided.answer).ok_or_else(Refused::unavailable)?;
            // What was left of the last block is never used.
            *self.0.lock() = first..first + BLOCK;
        }
    }
}

/// Decides which block is next.
#[derive(Debug)]
pub(crate) struct Counter;

impl RecordKind for Counter {
    fn name(&self) -> &'static str {
        keys::COUNTER
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(_), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let clock = (now_ms / 1000).saturating_sub(BEGINNING) * PER_SECOND;
        let next = document.and_then(|text| parse(text)).unwrap_or_default();
        let first = next.max(clock).max(1);
        let mut decision = Decision::answer(first.to_string());
        decision.put(key.clone(), (first + BLOCK).to_string(), Some(LIFETIME));
        decision
    }
}

fn parse(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_each_other_and_the_clock() {
        let decide = |document: Option<&str>, seconds: u64| {
            let document = document.map(|text| text.to_owned().into());
            let state = [(keys::counter(), document)];
            let now_ms = (BEGINNING + seconds) * 1000;
            let decision = Counter.decide(&State::new(&state), Trigger::Command(b""), now_ms);
            (parse(&decision.answer), parse(&decision.puts[0].document))
        };
        assert_eq!(decide(None, 0), (Some(1), Some(65)));
        assert_eq!(decide(Some("65"), 1), (Some(65), Some(129)));
        assert_eq!(decide(Some("65"), 1000), (Some(8000), Some(8064)));
        assert_eq!(decide(Some("garbage"), 1000).0, Some(8000));
    }
}
