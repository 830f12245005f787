//! What the cases about records share: short ways to make a commit and to see what became of it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tidings_core::{
    BoxFuture, Commit, CommitId, CommitOutcome, Committed, Deadline, Due, EventLog, LogError,
    Outcome, Partition, Put, Record, RecordKey, SetDeadline, Version,
};

use super::Subject;
use super::room::{Room, ids, patiently};

/// Spans to try one after the other: on a machine that is too slow to see anything happen within
/// one, the next.
const SPANS_MS: [u64; 3] = [1000, 5000, 20_000];

/// Runs a case with a span that is long enough for what it does before the span has passed: it
/// returns `false` where it was not.
pub(super) async fn within_a_span(
    subject: &dyn Subject,
    case: for<'a> fn(&'a dyn Subject, u64) -> BoxFuture<'a, Result<bool>>,
) -> Result<()> {
    for span_ms in SPANS_MS {
        if case(subject, span_ms).await? {
            return Ok(());
        }
    }
    anyhow::bail!("too slow to see anything")
}

/// Where most cases keep their records.
pub(super) const HERE: Partition = Partition(0);

/// A record of the kind that most cases use.
pub(super) fn key(id: &str) -> RecordKey {
    RecordKey::new("exam.kind", id)
}

/// A commit under a name that nobody else has.
pub(super) fn commit() -> Commit {
    Commit::new(CommitId(rand::random()))
}

/// A document that stays.
pub(super) fn put(key: &RecordKey, document: impl Into<Bytes>) -> Put {
    Put {
        key: key.clone(),
        document: document.into(),
        lifetime: None,
        owner: None,
    }
}

/// A document that lives for so long.
pub(super) fn brief(key: &RecordKey, lifetime: Duration) -> Put {
    Put {
        lifetime: Some(lifetime),
        ..put(key, "brief")
    }
}

pub(super) fn set(key: &RecordKey, name: &str, at_ms: u64) -> SetDeadline {
    SetDeadline {
        record: key.clone(),
        name: name.into(),
        at_ms: Some(at_ms),
    }
}

pub(super) fn clear(key: &RecordKey, name: &str) -> SetDeadline {
    SetDeadline {
        at_ms: None,
        ..set(key, name, 0)
    }
}

pub(super) fn deadline(key: &RecordKey, name: &str, at_ms: u64) -> Deadline {
    Deadline {
        at_ms,
        record: key.clone(),
        name: name.into(),
    }
}

/// That the commit was stored, and not before.
pub(super) fn stored(outcome: CommitOutcome) -> Committed {
    match outcome {
        CommitOutcome::Committed(committed) if !committed.retried => {
            ids(&committed.appended, Outcome::New);
            committed
        }
        other => panic!("stored now was expected, it is {other:?}"),
    }
}

/// That an earlier try had stored the commit.
pub(super) fn retried(outcome: CommitOutcome) -> Committed {
    match outcome {
        CommitOutcome::Committed(committed) if committed.retried => {
            ids(&committed.appended, Outcome::Retried);
            committed
        }
        other => panic!("stored before was expected, it is {other:?}"),
    }
}

impl Room {
    pub(super) async fn try_commit(&self, commit: Commit) -> Result<CommitOutcome> {
        Ok(self.log.records().commit(HERE, commit).await?)
    }

    /// A commit that is stored.
    pub(super) async fn commit(&self, commit: Commit) -> Result<Committed> {
        Ok(stored(self.try_commit(commit).await?))
    }

    /// A commit that writes one document, whatever is there.
    pub(super) async fn put(&self, key: &RecordKey, document: &str) -> Result<Version> {
        let commit = Commit {
            puts: vec![put(key, document.to_owned())],
            ..commit()
        };
        Ok(self.commit(commit).await?.version)
    }

    pub(super) async fn load(&self, key: &RecordKey) -> Result<Option<Record>> {
        load(&*self.log, key).await
    }

    pub(super) async fn version(&self, key: &RecordKey) -> Result<Version> {
        let record = self.load(key).await?;
        Ok(record.map_or(Version::ABSENT, |record| record.version))
    }

    /// The deadlines of the kind that most cases use.
    pub(super) async fn due(&self) -> Result<Vec<Deadline>> {
        Ok(self.due_of(&["exam.kind"], 100).await?.deadlines)
    }

    pub(super) async fn due_of(&self, kinds: &[&str], limit: usize) -> Result<Due> {
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        Ok(self.log.records().due(HERE, kinds, limit).await?)
    }

    pub(super) async fn depth(&self) -> Result<u64> {
        Ok(self.log.records().outbox_depth(HERE).await?)
    }
}

pub(super) async fn load(log: &dyn EventLog, key: &RecordKey) -> Result<Option<Record>> {
    let mut loaded = patiently(|| log.records().load(HERE, vec![key.clone()])).await?;
    assert_eq!(loaded.len(), 1);
    Ok(loaded.remove(0))
}

/// Commits for as long as it takes, always under the same name, as a careful committer does.
pub(super) async fn insist(log: &dyn EventLog, commit: Commit) -> Result<CommitOutcome> {
    let started = Instant::now();
    loop {
        match log.records().commit(HERE, commit.clone()).await {
            Ok(outcome) => return Ok(outcome),
            Err(LogError::Unavailable(_) | LogError::FateUnknown(_)) => {}
            Err(other) => return Err(other.into()),
        }
        ensure!(started.elapsed() < Duration::from_secs(60), "no way back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
