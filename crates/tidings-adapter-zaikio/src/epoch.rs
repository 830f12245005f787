//! The epoch of the extended protocol: a text that changes only if the log was lost.
//!
//! It stands in one record without an end of life, made by whoever asks first, in the same log as the
//! events: if the log is lost, so is the record, and the next one has another text. It is the same on
//! every instance and survives whatever the log survives. A suffix that a failover loses leaves the
//! epoch as it is; there the log's verdict on an offset says what is wrong.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Command, Decision, Hub, RecordKey, RecordKind, State, Trigger};
use tokio::time::Instant;
use uuid::Uuid;

/// The record kind's name.
const KIND: &str = "zaikio.epoch";

/// Asks for the epoch. The answer is its text.
pub(crate) fn command() -> Command {
    let candidate = Uuid::new_v4().simple().to_string();
    Command {
        kind: KIND.into(),
        placement_key: "zaikio/epoch".into(),
        records: vec![RecordKey::new(KIND, "log")],
        // Eight digits: it is compared, not guessed.
        body: Bytes::copy_from_slice(&candidate.as_bytes()[..8]),
    }
}

/// The epoch in an answer.
pub(crate) fn of_answer(answer: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(answer).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric();
    (!text.is_empty() && text.len() <= 64 && text.chars().all(plain)).then(|| text.into())
}

/// Decides the epoch: the first candidate is it for good.
#[derive(Debug)]
pub(crate) struct Epochs;

impl RecordKind for Epochs {
    fn name(&self) -> &'static str {
        KIND
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, _now_ms: u64) -> Decision {
        match (state.first(), trigger) {
            (Some((_, Some(epoch))), _) => Decision::answer(epoch.clone()),
            (Some((key, None)), Trigger::Command(candidate)) => {
                let mut decision = Decision::answer(candidate.to_vec());
                decision.put(key.clone(), candidate.to_vec(), None);
                decision
            }
            _ => Decision::default(),
        }
    }
}

/// This instance's memory of it: asked for again after [`Known::FRESH`], because the log may be lost
/// while an instance stays.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Option<(Arc<str>, Instant)>>);

impl Known {
    const FRESH: Duration = Duration::from_secs(30);
    /// A connection waits no longer for it; its session asks by itself when it needs it.
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(crate) async fn get(&self, hub: &Hub) -> Option<Arc<str>> {
        if let Some((epoch, at)) = &*self.0.lock()
            && at.elapsed() < Self::FRESH
        {
            return Some(epoch.clone());
        }
        let answer = tokio::time::timeout(Self::PATIENCE, hub.command(command())).await;
        let epoch = of_answer(&answer.ok()?.ok()?.answer)?;
        *self.0.lock() = Some((epoch.clone(), Instant::now()));
        Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_candidate_is_it() {
        let key = RecordKey::new(KIND, "log");
        let first = Epochs.decide(
            &State::new(&[(key.clone(), None)]),
            Trigger::Command(b"a1b2"),
            0,
        );
        assert_eq!((&first.answer[..], first.puts.len()), (&b"a1b2"[..], 1));
        let second = Epochs.decide(
            &State::new(&[(key, Some(Bytes::from_static(b"a1b2")))]),
            Trigger::Command(b"c3d4"),
            0,
        );
        assert!(second.changes_nothing());
        assert_eq!(of_answer(&second.answer).as_deref(), Some("a1b2"));
        assert_eq!(of_answer(b""), None);
        assert_eq!(command().body.len(), 8);
    }
}
