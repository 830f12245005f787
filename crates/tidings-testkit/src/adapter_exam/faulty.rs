//! A log that fails when it is told to: what its callers see while Redis is away, or full, or does
//! not answer.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{
    Appended, Beat, BoxFuture, Commit, CommitOutcome, Draft, Due, Durability, EventId, EventLog,
    Filled, From, Head, IncarnationId, Listing, LogError, Orphan, OutboxId, Page, PageLimit,
    Partition, Partitions, Placed, Rank, Record, RecordKey, Records, Relay, RelayId, Settled, Tail,
    TailStep, Verdict,
};
use tokio::sync::watch;

/// What is wrong with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is out of reach: every call fails, tails are down.
    Away,
    /// It has no room: appends and commits fail, nothing is stored.
    Full,
    /// The answers to appends and commits are lost: they are stored, and nobody knows.
    Unsure,
    /// Tails bring nothing, and do not know it: connected, healthy, and deaf.
    Deaf,
}

/// Any log, and what is wrong with it. Clones share the fault.
#[derive(Debug, Clone)]
pub struct Faulty {
    log: Arc<dyn EventLog>,
    fault: watch::Sender<Fault>,
}

impl Faulty {
    /// A log with nothing wrong yet.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self::sharing(log, &watch::Sender::default())
    }

    /// One of several handles that share what is wrong.
    pub(super) fn sharing(log: Arc<dyn EventLog>, fault: &watch::Sender<Fault>) -> Self {
        let fault = fault.clone();
        Self { log, fault }
    }

    /// From here on this is wrong.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    fn reach(&self) -> Result<&dyn EventLog, LogError> {
        match *self.fault.borrow() {
            Fault::Away => Err(LogError::Unavailable("as the exam wants it".into())),
            _ => Ok(&*self.log),
        }
    }
}

impl EventLog for Faulty {
    fn partitions(&self) -> Partitions {
        self.log.partitions()
    }

    fn retention(&self) -> Duration {
        self.log.retention()
    }

    fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        Box::pin(async move {
            let log = self.reach()?;
            let fault = *self.fault.borrow();
            match fault {
                Fault::Full => Err(LogError::Full("as the exam wants it".into())),
                Fault::Unsure => {
                    log.append(partition, drafts).await?;
                    Err(LogError::FateUnknown("as the exam wants it".into()))
                }
                _ => log.append(partition, drafts).await,
            }
        })
    }

    fn flash(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let log = self.reach()?;
            let fault = *self.fault.borrow();
            match fault {
                Fault::Full => Err(LogError::Full("as the exam wants it".into())),
                _ => log.flash(partition, drafts).await,
            }
        })
    }

    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        let topic = topic.clone();
        Box::pin(async move { self.reach()?.read(&topic, from, limit).await })
    }

    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>> {
        Box::pin(async move { self.reach()?.judge(places).await })
    }

    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>> {
        Box::pin(async move { self.reach()?.heads(topics).await })
    }

    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>> {
        Box::pin(async move { self.reach()?.fill(partition, limit).await })
    }

    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail> {
        Box::new(FaultyTail {
            tail: self.log.tail(from),
            fault: self.fault.subscribe(),
            down: false,
        })
    }

    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move { self.reach()?.trim(partition).await })
    }

    fn settle(
        &self,
        events: Vec<(Partition, EventId)>,
        want: Durability,
        patience: Duration,
    ) -> BoxFuture<'_, Settled> {
        Box::pin(async move {
            match self.reach() {
                Ok(log) => log.settle(events, want, patience).await,
                Err(_) => Settled::STORED,
            }
        })
    }

    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(async move { self.reach()?.time_ms().await })
    }

    fn records(&self) -> &dyn Records {
        self
    }
}

impl Records for Faulty {
    fn load(
        &self,
        partition: Partition,
        keys: Vec<RecordKey>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, LogError>> {
        Box::pin(async move { self.reach()?.records().load(partition, keys).await })
    }

    fn commit(
        &self,
        partition: Partition,
        commit: Commit,
    ) -> BoxFuture<'_, Result<CommitOutcome, LogError>> {
        Box::pin(async move {
            let records = self.reach()?.records();
            let fault = *self.fault.borrow();
            match fault {
                Fault::Full => Err(LogError::Full("as the exam wants it".into())),
                Fault::Unsure => {
                    records.commit(partition, commit).await?;
                    Err(LogError::FateUnknown("as the exam wants it".into()))
                }
                _ => records.commit(partition, commit).await,
            }
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
            let records = self.reach()?.records();
            records.list(partition, kind, index, after, limit).await
        })
    }

    fn due(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Due, LogError>> {
        Box::pin(async move { self.reach()?.records().due(partition, kinds, limit).await })
    }

    fn relay(
        &self,
        partition: Partition,
        relay: RelayId,
        delivered: Vec<OutboxId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Relay, LogError>> {
        Box::pin(async move {
            let records = self.reach()?.records();
            records.relay(partition, relay, delivered, limit).await
        })
    }

    fn outbox_depth(&self, partition: Partition) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(async move { self.reach()?.records().outbox_depth(partition).await })
    }

    fn beat(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Beat, LogError>> {
        Box::pin(async move {
            let records = self.reach()?.records();
            records.beat(partition, incarnation, lease).await
        })
    }

    fn leave(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move { self.reach()?.records().leave(partition, incarnation).await })
    }

    fn orphans(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, LogError>> {
        Box::pin(async move {
            let records = self.reach()?.records();
            records.orphans(partition, kinds, limit).await
        })
    }
}

/// A tail that stands still while the log is away.
struct FaultyTail {
    tail: Box<dyn Tail>,
    fault: watch::Receiver<Fault>,
    /// It has said that it is down.
    down: bool,
}

impl Tail for FaultyTail {
    fn next(&mut self) -> BoxFuture<'_, TailStep> {
        Box::pin(async move {
            loop {
                let fault = *self.fault.borrow_and_update();
                let away = fault == Fault::Away;
                let open = !away && fault != Fault::Deaf;
                if away && !self.down {
                    self.down = true;
                    let reason = "as the exam wants it".to_owned();
                    return TailStep::Down { reason };
                }
                if !away && self.down {
                    self.down = false;
                    return TailStep::Up;
                }
                tokio::select! {
                    changed = self.fault.changed() => if changed.is_err() {
                        // Nobody can change it any more.
                        return self.tail.next().await;
                    },
                    step = self.tail.next(), if open => return step,
                }
            }
        })
    }
}
