//! Indexes: what stands in one, over all partitions in one order; and the sweep that clears away
//! what has ended and that nobody listed.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tidings_core::limits::PAGE_EVENTS_MAX;
use tidings_core::{Listed, LogError, Partition, Rank};

use crate::hub::Hub;
use crate::limits::{INDEX_SWEEP, INDEX_SWEEP_PAUSE, LIST_BYTES_MAX, LIST_MAX, LIST_PAGE_MIN};

/// The first records of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// Ascending by rank, and among equals by the bytes of their ids.
    pub entries: Vec<Listed>,
    /// Whether these are all. There may be more than were asked for, or more than
    /// [`LIST_BYTES_MAX`] of documents.
    pub complete: bool,
}

/// One partition's part of an index, as far as it was read.
struct Run {
    partition: Partition,
    ready: VecDeque<Listed>,
    after: Option<Rank>,
    over: bool,
}

impl Run {
    fn wants_more(&self) -> bool {
        self.ready.is_empty() && !self.over
    }

    async fn read(
        &mut self,
        hub: &Hub,
        (kind, index): (&Arc<str>, &Arc<str>),
        limit: usize,
    ) -> Result<(), LogError> {
        let records = hub.log().records();
        let (kind, index) = (Arc::clone(kind), Arc::clone(index));
        let after = self.after.take();
        let page = records.list(self.partition, kind, index, after, limit);
        let page = page.await?;
        self.ready.extend(page.entries);
        self.over = page.next.is_none();
        self.after = page.next;
        Ok(())
    }
}

impl Hub {
    /// The first records of an index over all partitions, at most [`LIST_MAX`] of them. Each
    /// partition's part is as it was at one moment.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; [`LogError::Refused`] when no kind that is hosted here has declared
    /// the index.
    pub async fn list(&self, kind: &str, index: &str, limit: usize) -> Result<Indexed, LogError> {
        if !self.registrar().is_index(kind, index) {
            let unknown = format!("no record kind `{kind}` with an index `{index}` is hosted here");
            return Err(LogError::Refused(unknown));
        }
        let named = (&Arc::from(kind), &Arc::from(index));
        let limit = limit.min(LIST_MAX);
        let partitions = self.log().partitions();
        // Twice what would be a partition's share if they were even.
        let share = 2 * limit / usize::from(partitions.count());
        let page = share.clamp(LIST_PAGE_MIN, PAGE_EVENTS_MAX);
        let run = |partition| Run {
            partition,
            ready: VecDeque::new(),
            after: None,
            over: false,
        };
        let mut runs: Vec<Run> = partitions.all().map(run).collect();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        loop {
            // Until each has its first in hand, or is over.
            while runs.iter().any(Run::wants_more) {
                let hungry = runs.iter_mut().filter(|run| run.wants_more());
                try_join_all(hungry.map(|run| run.read(self, named, page))).await?;
            }
            let begun = runs.iter_mut().filter(|run| !run.ready.is_empty());
            let Some(first) = begun.min_by(|a, b| in_order(&a.ready, &b.ready)) else {
                let complete = true;
                return Ok(Indexed { entries, complete });
            };
            if entries.len() >= limit || bytes >= LIST_BYTES_MAX {
                let complete = false;
                return Ok(Indexed { entries, complete });
            }
            if let Some(next) = first.ready.pop_front() {
                bytes += next.record.document.len();
                entries.push(next);
            }
        }
    }
}

fn in_order(a: &VecDeque<Listed>, b: &VecDeque<Listed>) -> Ordering {
    place(a).cmp(&place(b))
}

fn place(ready: &VecDeque<Listed>) -> Option<(u64, &str)> {
    ready.front().map(|one| (one.rank, &*one.key.id))
}

/// Goes through all indexes now and then until it is dropped: listing clears away what has ended.
pub(crate) async fn sweep(hub: Hub) {
    let indexes = hub.registrar().indexes();
    if indexes.is_empty() {
        return;
    }
    loop {
        // Instances that started together must not sweep together.
        tokio::time::sleep(INDEX_SWEEP.mul_f64(0.5 + rand::random::<f64>())).await;
        for (kind, index) in &indexes {
            for partition in hub.log().partitions().all() {
                sweep_one(&hub, partition, kind, index).await;
            }
        }
    }
}

async fn sweep_one(hub: &Hub, partition: Partition, kind: &Arc<str>, index: &Arc<str>) {
    let mut after = None;
    loop {
        let records = hub.log().records();
        let (kind, index) = (Arc::clone(kind), Arc::clone(index));
        let page = records.list(partition, kind, index, after, PAGE_EVENTS_MAX);
        match page.await {
            Ok(page) if page.next.is_some() => after = page.next,
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "an index could not be swept; later");
                return;
            }
        }
        tokio::time::sleep(INDEX_SWEEP_PAUSE).await;
    }
}
