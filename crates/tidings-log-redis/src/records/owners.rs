//! Leases of incarnations, and what was lost with one (LOG.md §7): short scripts, each of which may
//! be asked twice without harm.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tidings_core::record::TOMBSTONE;
use tidings_core::{Beat, IncarnationId, LogError, Orphan, Partition, RecordKey};

use super::millis;
use crate::entry::bytes_of;
use crate::log::RedisLog;
use crate::reading::unknown_answer;
use crate::scripts::{BEAT, LEAVE, ORPHANS};

/// A record among the owned: kinds hold no colon (see `Commit::check`), ids hold anything.
pub(super) fn name(key: &RecordKey) -> String {
    format!("{}:{}", key.kind, key.id)
}

impl RedisLog {
    pub(super) async fn beat_once(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
        lease: Duration,
    ) -> Result<Beat, LogError> {
        let keys = &self.recording.keys;
        let mut call = BEAT.call(&[
            keys.state(partition),
            keys.leases(partition),
            keys.tombs(partition),
            keys.owned(partition),
        ]);
        call.arg(incarnation.to_string()).arg(millis(lease));
        let answers = self.reading.ask_script(partition, &BEAT, vec![call]);
        match answers.await?.first() {
            Some(Value::Int(1)) => Ok(Beat::Held),
            Some(Value::Int(0)) => Ok(Beat::Reaped),
            _ => Err(unknown_answer()),
        }
    }

    pub(super) async fn leave_once(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
    ) -> Result<(), LogError> {
        let keys = &self.recording.keys;
        let mut call = LEAVE.call(&[
            keys.state(partition),
            keys.leases(partition),
            keys.tombs(partition),
            keys.lost(partition),
        ]);
        call.arg(incarnation.to_string()).arg(millis(TOMBSTONE));
        let answers = self.reading.ask_script(partition, &LEAVE, vec![call]);
        answers.await.map(drop)
    }

    pub(super) async fn orphans_of(
        &self,
        partition: Partition,
        mut kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> Result<Vec<Orphan>, LogError> {
        kinds.sort_unstable();
        kinds.dedup();
        let keys = &self.recording.keys;
        let mut call = ORPHANS.call(&[
            keys.state(partition),
            keys.leases(partition),
            keys.tombs(partition),
            keys.lost(partition),
            keys.owned(partition),
        ]);
        call.arg(millis(TOMBSTONE)).arg(limit);
        for kind in &kinds {
            call.arg(&**kind);
        }
        let answers = self.reading.ask_script(partition, &ORPHANS, vec![call]);
        match answers.await?.into_iter().next() {
            Some(Value::Array(orphans)) => {
                let orphans: Option<_> = orphans.into_iter().map(parse_orphan).collect();
                orphans.ok_or_else(unknown_answer)
            }
            _ => Err(unknown_answer()),
        }
    }
}

/// `<incarnation>:<kind>:<id>`
fn parse_orphan(orphan: Value) -> Option<Orphan> {
    let text = String::from_utf8(bytes_of(orphan)?).ok()?;
    let (incarnation, name) = text.split_once(':')?;
    let (kind, id) = name.split_once(':')?;
    Some(Orphan {
        incarnation: IncarnationId::parse(incarnation)?,
        record: RecordKey::new(kind, id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_read() {
        let text = |text: &str| Value::BulkString(text.into());
        let incarnation = IncarnationId(7);
        let key = RecordKey::new("a.kind", "id: with\ncolons:");
        let printed = format!("{incarnation}:{}", name(&key));
        let orphan = parse_orphan(text(&printed)).expect("well formed");
        assert_eq!((orphan.incarnation, orphan.record), (incarnation, key));
        for strange in ["", "7:a:b", &printed[..32], &printed[..38]] {
            assert_eq!(parse_orphan(text(strange)), None, "{strange}");
        }
        assert_eq!(parse_orphan(Value::Nil), None);
    }
}
