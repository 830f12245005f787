//! The port [`Records`]: small documents that change together with the events of their partition,
//! under its one lock (LOG.md §6).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::limits::PAGE_EVENTS_MAX;
use tidings_core::record::check_index;
use tidings_core::{
    Beat, BoxFuture, Commit, CommitOutcome, Due, Event, IncarnationId, Listing, LogError, Orphan,
    OutboxId, Partition, Rank, Record, RecordKey, Records, Relay, RelayId,
};
use tokio::task::consume_budget;

use crate::MemoryLog;
use crate::append::{entry, flash, flashes, needed, store};
use crate::shared::{Changed, Shared};

mod indexes;
mod outbox;
mod owners;
mod shelf;

pub(crate) use shelf::RecordShelf;

impl Records for MemoryLog {
    fn load(
        &self,
        partition: Partition,
        keys: Vec<RecordKey>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            keys.iter().try_for_each(RecordKey::check)?;
            let now_ms = self.0.moment().now_ms;
            let shelf = self.0.slot(partition)?.shelf.lock();
            let get = |key: &RecordKey| shelf.records.get(key, now_ms).cloned();
            Ok(keys.iter().map(get).collect())
        })
    }

    fn commit(
        &self,
        partition: Partition,
        commit: Commit,
    ) -> BoxFuture<'_, Result<CommitOutcome, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            commit.check()?;
            self.0.commit(partition, commit)
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
            consume_budget().await;
            check_index(&kind, &index)?;
            let limit = limit.clamp(1, PAGE_EVENTS_MAX);
            let now_ms = self.0.moment().now_ms;
            let shelf = self.0.slot(partition)?.shelf.lock();
            Ok(shelf.records.list(&kind, &index, after, limit, now_ms))
        })
    }

    fn due(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Due, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let now_ms = self.0.moment().now_ms;
            let shelf = self.0.slot(partition)?.shelf.lock();
            Ok(shelf.records.due(kinds, limit.min(PAGE_EVENTS_MAX), now_ms))
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
            consume_budget().await;
            let now_ms = self.0.moment().now_ms;
            let lease_ms = millis(self.0.options.relay_lease);
            let mut shelf = self.0.slot(partition)?.shelf.lock();
            let outbox = &mut shelf.records.outbox;
            let (turn, freed) = outbox.turn(relay, &delivered, limit, now_ms, lease_ms);
            self.0.release(freed);
            Ok(turn)
        })
    }

    fn outbox_depth(&self, partition: Partition) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let shelf = self.0.slot(partition)?.shelf.lock();
            Ok(shelf.records.outbox.len() as u64)
        })
    }

    fn beat(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Beat, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let now_ms = self.0.moment().now_ms;
            let mut shelf = self.0.slot(partition)?.shelf.lock();
            let owners = &mut shelf.records.owners;
            Ok(owners.beat(incarnation, now_ms, millis(lease)))
        })
    }

    fn leave(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let now_ms = self.0.moment().now_ms;
            let mut shelf = self.0.slot(partition)?.shelf.lock();
            shelf.records.owners.reap(incarnation, now_ms);
            Ok(())
        })
    }

    fn orphans(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, LogError>> {
        Box::pin(async move {
            consume_budget().await;
            let now_ms = self.0.moment().now_ms;
            let mut shelf = self.0.slot(partition)?.shelf.lock();
            let limit = limit.min(PAGE_EVENTS_MAX);
            Ok(shelf.records.owners.orphans(&kinds, limit, now_ms))
        })
    }
}

impl Shared {
    fn commit(&self, partition: Partition, mut commit: Commit) -> Result<CommitOutcome, LogError> {
        let slot = self.slot(partition)?;
        let weight = RecordShelf::weigh(&commit);
        let drafts = std::mem::take(&mut commit.drafts);
        let entries: Vec<_> = drafts.into_iter().map(entry).collect();
        let flashed = flashes(std::mem::take(&mut commit.flash));
        let flash_weight: usize = flashed.iter().map(Event::weight).sum();
        let weight = weight + flash_weight;
        let count = entries.len();
        self.change(
            slot,
            count,
            count + flashed.len(),
            (commit, entries, flashed),
            |(commit, entries, _), shelf, moment| {
                let now_ms = moment.now_ms;
                let known = || shelf.records.result(commit.id, now_ms);
                if let Some(outcome) = known().or_else(|| shelf.records.objection(commit, now_ms)) {
                    return ControlFlow::Break(outcome);
                }
                for (draft, (_, dedup)) in entries.iter().enumerate() {
                    let id = dedup.as_ref().and_then(|key| shelf.keys.get(key, now_ms));
                    if let Some(id) = id {
                        return ControlFlow::Break(CommitOutcome::Duplicate { draft, id });
                    }
                }
                ControlFlow::Continue(weight + needed(shelf, entries, moment))
            },
            |(commit, entries, flashed), shelf, moment| {
                let (flash_added, flash_freed) = flash(shelf, flashed, moment);
                let (appended, used) = store(shelf, entries, moment);
                let before = shelf.records.bytes();
                let random = u64::from(shelf.ids.start());
                let records = &mut shelf.records;
                let committed = records.apply(commit, appended, moment.now_ms, random);
                Changed {
                    answer: CommitOutcome::Committed(committed),
                    added: flash_added + used + records.bytes().saturating_sub(before),
                    freed: flash_freed + before.saturating_sub(records.bytes()),
                }
            },
        )
    }
}

/// A span in milliseconds, as long as can be told.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
