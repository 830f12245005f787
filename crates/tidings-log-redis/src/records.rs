//! Records: small documents that change together with the events of their partition, their
//! deadlines, and the outbox (LOG.md §6).
//!
//! Everything is a short script. A commit goes over the connection for appends and is asked again
//! for as long as they are; what may be done twice without harm is tried once more, as reads are,
//! over the pooled connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use tidings_core::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX, RECORDS_PER_COMMIT_MAX};
use tidings_core::record::check_index;
use tidings_core::{
    Beat, BoxFuture, Clock, Commit, CommitId, CommitOutcome, Deadline, Due, IncarnationId, Listing,
    LogError, Orphan, OutboxEntry, OutboxId, Partition, Rank, Record, RecordKey, Records, Relay,
    RelayId, Version,
};
use tokio::time::Instant;

use crate::entry::bytes_of;
use crate::keys::Keys;
use crate::log::RedisLog;
use crate::reading::unknown_answer;
use crate::scripts::{DEPTH, DUE, LOAD, RELAY};
use crate::topology::Topology;

mod commit;
mod index;
mod item;
mod owners;

/// What records need beside what reading does.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) topology: Arc<Topology>,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention_ms: u64,
    pub(crate) cap: u64,
    pub(crate) patience: Duration,
    pub(crate) relay_lease: Duration,
    /// Since when partitions are out of reach; held for a look, never across a wait.
    pub(crate) away: Mutex<HashMap<Partition, Instant>>,
    /// Whether [`Recording::look_for_it`] is under way.
    pub(crate) looking: Arc<AtomicBool>,
}

impl Recording {
    fn away_for(&self, partition: Partition) -> Duration {
        let away = self.away.lock();
        let since = away.get(&partition);
        since.map_or(Duration::ZERO, Instant::elapsed)
    }

    fn is_away(&self, partition: Partition) {
        let mut away = self.away.lock();
        away.entry(partition).or_insert_with(Instant::now);
    }

    fn is_back(&self, partition: Partition) {
        self.away.lock().remove(&partition);
    }

    /// Looks the routes up anew, paced, while the caller is answered.
    fn look_for_it(&self, seen: u64) {
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (topology, looking) = (self.topology.clone(), self.looking.clone());
        tokio::spawn(async move {
            // If nothing is found the next commit says so.
            let _ = topology.renew(seen).await;
            looking.store(false, Ordering::Release);
        });
    }
}

impl Records for RedisLog {
    fn load(
        &self,
        partition: Partition,
        keys: Vec<RecordKey>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            keys.iter().try_for_each(RecordKey::check)?;
            let calls = keys.chunks(RECORDS_PER_COMMIT_MAX).map(|some| {
                let mut names = vec![self.recording.keys.state(partition)];
                let records = some.iter();
                names.extend(records.map(|key| self.recording.keys.record(partition, key)));
                LOAD.call(&names)
            });
            let calls: Vec<_> = calls.collect();
            if calls.is_empty() {
                return Ok(Vec::new());
            }
            let answers = self.loaded(partition, calls, keys.len()).await?;
            let mut loaded = Vec::with_capacity(keys.len());
            for answer in answers {
                loaded.append(&mut parse_records(answer).ok_or_else(unknown_answer)?);
            }
            if loaded.len() == keys.len() {
                Ok(loaded)
            } else {
                Err(unknown_answer())
            }
        })
    }

    fn commit(
        &self,
        partition: Partition,
        commit: Commit,
    ) -> BoxFuture<'_, Result<CommitOutcome, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            commit.check()?;
            self.recording.commit(partition, commit).await
        })
    }

    fn list(
        &self,
        partition: Partition,
        kind: Arc<str>,
        index: Arc<str>,
        after: Option<Rank>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Listing, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            check_index(&kind, &index)?;
            let limit = limit.clamp(1, PAGE_EVENTS_MAX);
            self.page_of(partition, &kind, &index, after, limit).await
        })
    }

    fn due(
        &self,
        partition: Partition,
        mut kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Due, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            kinds.sort_unstable();
            kinds.dedup();
            let limit = limit.min(PAGE_EVENTS_MAX);
            let mut names = vec![self.recording.keys.state(partition)];
            let sets = kinds.iter();
            names.extend(sets.map(|kind| self.recording.keys.due(partition, kind)));
            let mut call = DUE.call(&names);
            call.arg(limit);
            let answers = self.reading.ask_script(partition, &DUE, vec![call]).await?;
            let answer = answers.into_iter().next();
            let due = answer.and_then(|answer| parse_due(answer, &kinds));
            let mut due = due.ok_or_else(unknown_answer)?;
            due.deadlines.sort_unstable();
            due.deadlines.truncate(limit);
            Ok(due)
        })
    }

    fn relay(
        &self,
        partition: Partition,
        relay: RelayId,
        delivered: Vec<OutboxId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Relay, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            let limit = limit.clamp(1, PAGE_EVENTS_MAX);
            match self.turn(partition, relay, &delivered, limit).await? {
                Turn::Relay(relay) => Ok(relay),
                Turn::Unreadable(id) => {
                    let metrics = &self.reading.topology.linking.metrics;
                    metrics.strange_entries.inc();
                    // A later version wrote it, and must find the lease free.
                    self.turn(partition, relay, &[], 0).await?;
                    Err(LogError::Refused(format!(
                        "the outbox entry {}-{} cannot be read: a later version wrote it, or a \
                         stranger",
                        id.ms, id.seq
                    )))
                }
            }
        })
    }

    fn outbox_depth(&self, partition: Partition) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            let keys = &self.recording.keys;
            let call = DEPTH.call(&[keys.state(partition), keys.outbox(partition)]);
            let answers = self.reading.ask_script(partition, &DEPTH, vec![call]);
            match answers.await?.first() {
                Some(Value::Int(depth)) => u64::try_from(*depth).map_err(|_| unknown_answer()),
                _ => Err(unknown_answer()),
            }
        })
    }

    fn beat(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Beat, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            self.beat_once(partition, incarnation, lease).await
        })
    }

    fn leave(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            self.leave_once(partition, incarnation).await
        })
    }

    fn orphans(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            self.orphans_of(partition, kinds, limit.min(PAGE_EVENTS_MAX))
                .await
        })
    }
}

/// Records that are loaded over the connection for appends: what comes with them is in the way of
/// an append's answer for as long as it takes to send half a mebibyte.
const FEW: usize = 8;

/// What a turn of relaying came to.
enum Turn {
    Relay(Relay),
    /// The next entry is no item of this version.
    Unreadable(OutboxId),
}

impl RedisLog {
    async fn loaded(
        &self,
        partition: Partition,
        calls: Vec<Cmd>,
        records: usize,
    ) -> Result<Vec<Value>, LogError> {
        if let ([call], ..=FEW) = (&calls[..], records) {
            let routes = self.reading.topology.routes();
            let node = routes.node(partition);
            if let Ok(answer) = self.recording.ask_once(node, &LOAD, call).await {
                return Ok(vec![answer]);
            }
        }
        self.reading.ask_script(partition, &LOAD, calls).await
    }

    async fn turn(
        &self,
        partition: Partition,
        relay: RelayId,
        delivered: &[OutboxId],
        limit: usize,
    ) -> Result<Turn, LogError> {
        let keys = &self.recording.keys;
        let mut call = RELAY.call(&[keys.relay(partition), keys.outbox(partition)]);
        call.arg(format!("{:032x}", relay.0))
            .arg(millis(self.recording.relay_lease))
            .arg(limit)
            .arg(PAGE_BYTES_MAX);
        for id in delivered {
            call.arg(format!("{}-{}", id.ms, id.seq));
        }
        // Forgetting twice what was delivered does no harm.
        let answers = self.reading.ask_script(partition, &RELAY, vec![call]);
        match answers.await?.into_iter().next() {
            Some(Value::Array(entries)) => parse_entries(entries).ok_or_else(unknown_answer),
            Some(answer) => match bytes_of(answer).as_deref() {
                Some(b"busy") => Ok(Turn::Relay(Relay::Busy)),
                Some(b"empty") => Ok(Turn::Relay(Relay::Empty)),
                _ => Err(unknown_answer()),
            },
            None => Err(unknown_answer()),
        }
    }
}

/// A deadline within its kind's set. Names hold no colon (see `Commit::check`), ids hold anything.
fn member(id: &str, name: &str) -> String {
    format!("{name}:{id}")
}

/// A span in milliseconds: numbers beyond 2^52 are not exact in a script.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).map_or(1 << 52, |ms| ms.min(1 << 52))
}

fn parse_records(answer: Value) -> Option<Vec<Option<Record>>> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let mut records = Vec::with_capacity(parts.len() / 2);
    while let Some(version) = parts.next() {
        let (version, document) = (bytes_of(version)?, bytes_of(parts.next()?)?);
        records.push(match &version[..] {
            b"" => None,
            version => Some(Record {
                version: Version(number(version)?),
                document: document.into(),
            }),
        });
    }
    Some(records)
}

fn parse_due(answer: Value, kinds: &[Arc<str>]) -> Option<Due> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let now_ms = number(&bytes_of(parts.next()?)?)?;
    let mut deadlines = Vec::new();
    for kind in kinds {
        let Value::Array(standing) = parts.next()? else {
            return None;
        };
        let mut standing = standing.into_iter();
        while let Some(member) = standing.next() {
            let member = String::from_utf8(bytes_of(member)?).ok()?;
            let (name, id) = member.split_once(':')?;
            deadlines.push(Deadline {
                at_ms: number(&bytes_of(standing.next()?)?)?,
                record: RecordKey::new(Arc::clone(kind), id),
                name: name.into(),
            });
        }
    }
    Some(Due { deadlines, now_ms })
}

/// The entries up to the first that cannot be read; if that is the first of all, that one.
fn parse_entries(entries: Vec<Value>) -> Option<Turn> {
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Array(parts) = entry else {
            return None;
        };
        let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
        let id = String::from_utf8(bytes_of(id)?).ok()?;
        let (ms, seq) = id.split_once('-')?;
        let id = OutboxId {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        };
        match parse_entry(id, fields) {
            Some(entry) => read.push(entry),
            None if read.is_empty() => return Some(Turn::Unreadable(id)),
            None => break,
        }
    }
    Some(Turn::Relay(Relay::Entries(read)))
}

fn parse_entry(id: OutboxId, fields: Value) -> Option<OutboxEntry> {
    let Value::Array(fields) = fields else {
        return None;
    };
    let fields: Option<Vec<Vec<u8>>> = fields.into_iter().map(bytes_of).collect();
    let [c, commit, i, index, b, blob] = <[Vec<u8>; 6]>::try_from(fields?).ok()?;
    if [c, i, b] != [b"c", b"i", b"b"] {
        return None;
    }
    let commit = std::str::from_utf8(&commit).ok()?;
    Some(OutboxEntry {
        id,
        commit: CommitId(u128::from_str_radix(commit, 16).ok()?),
        index: u32::try_from(number(&index)?).ok()?,
        item: item::parse(Bytes::from(blob))?,
    })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn deadlines_are_read() {
        let kinds = ["a".into(), "b".into()];
        let standing = Value::Array(vec![text("name:id:with:colons"), text("17")]);
        let answer = |standing| Value::Array(vec![text("20"), Value::Array(Vec::new()), standing]);
        let due = parse_due(answer(standing), &kinds).expect("well formed");
        assert_eq!(due.now_ms, 20);
        let expected = Deadline {
            at_ms: 17,
            record: RecordKey::new("b", "id:with:colons"),
            name: "name".into(),
        };
        assert_eq!(due.deadlines, [expected]);
        assert_eq!(parse_due(answer(Value::Nil), &kinds), None);
        assert_eq!(parse_due(Value::Array(vec![text("20")]), &kinds), None);
    }

    #[test]
    fn what_cannot_be_read_stops_the_outbox() {
        let item = tidings_core::OutboxItem::Command(tidings_core::Command {
            kind: "k".into(),
            placement_key: "p".into(),
            records: Vec::new(),
            body: Bytes::new(),
        });
        let entry = |id: &str, blob: Vec<u8>| {
            let fields = vec![
                text("c"),
                text("00000000000000000000000000000007"),
                text("i"),
                text("3"),
                text("b"),
                Value::BulkString(blob),
            ];
            Value::Array(vec![text(id), Value::Array(fields)])
        };
        let good = |id: &str| entry(id, item::print(&item));
        let later = || entry("6-0", vec![2, b'd']);
        match parse_entries(vec![good("5-0"), later(), good("7-0")]) {
            Some(Turn::Relay(Relay::Entries(read))) => {
                assert_eq!(read.len(), 1);
                assert_eq!((read[0].commit, read[0].index), (CommitId(7), 3));
                assert_eq!(read[0].id, OutboxId { ms: 5, seq: 0 });
            }
            _ => panic!("one entry was expected"),
        }
        let stopped = parse_entries(vec![later(), good("7-0")]);
        assert!(matches!(stopped, Some(Turn::Unreadable(id)) if id.ms == 6));
        assert!(parse_entries(vec![Value::Nil]).is_none());
    }
}
