//! Appending: one task per node collects what callers bring and stores it in one script call at a
//! time. In a Cluster there is one task per partition, because keys of different slots cannot share
//! a call even on one node.
//!
//! One batch is in flight per task, under a number of its own. When its answer is lost it is sent
//! again under that number: the script remembers for each partition every writer's last batch, so it
//! is stored at most once, and no key is written per event. Retries end long before the script
//! forgets.

mod answers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use redis::{Cmd, Value};
use tidings_core::{Appended, Clock, Draft, EventId, LogError, Partition, Partitions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use self::answers::{Group, answer, fail, parse};
use crate::entry::print_attributes;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::scripts::{self, APPEND};
use crate::topology::{Topology, jittered};

/// Drafts of one script call: 128 of them hold Redis up for less than a millisecond.
const BATCH_DRAFTS: usize = 128;
/// Bytes of one script call, unless one caller's drafts are larger: copying them is part of the
/// time in which Redis does nothing else.
const BATCH_BYTES: usize = 256 * 1024;
/// Callers that wait, for each partition of a task; the next ones wait to get into the queue. Enough
/// to fill several batches while one is under way.
const QUEUE: usize = 1024;
/// A busy node is asked again after this, doubled each time up to 16 times as long.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How often a batch finds its script forgotten before that is taken for a failure.
const LOADS: u32 = 3;

/// What one caller brings: stored together, answered together.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) partition: Partition,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) since: Instant,
    pub(crate) answer: oneshot::Sender<Result<Vec<Appended>, LogError>>,
}

impl Job {
    fn bytes(&self) -> usize {
        self.drafts
            .iter()
            .map(|draft| draft.data.len() + draft.topic.as_str().len() * 3)
            .sum()
    }
}

/// What all tasks work with.
#[derive(Debug, Clone)]
pub(crate) struct Publishing {
    pub(crate) topology: Arc<Topology>,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention_ms: u64,
    pub(crate) cap: u64,
    pub(crate) patience: Duration,
}

impl Publishing {
    /// Starts the tasks; answers with the queue of each partition.
    pub(crate) fn start(self, partitions: Partitions) -> Vec<mpsc::Sender<Job>> {
        let writer = format!("w:{:012x}", rand::rng().random::<u64>() >> 16);
        let count = usize::from(partitions.count());
        let shared = if self.topology.is_cluster() { 1 } else { count };
        let mut queues = Vec::with_capacity(count);
        for first in partitions.all().step_by(shared) {
            let (send, queue) = mpsc::channel(QUEUE * shared);
            let publisher = Publisher {
                by: self.clone(),
                first,
                writer: writer.clone(),
                number: 0,
                away_since: None,
            };
            tokio::spawn(publisher.run(queue));
            queues.extend(std::iter::repeat_n(send, shared));
        }
        queues
    }
}

/// The task of the partitions that can share a call.
#[derive(Debug)]
struct Publisher {
    by: Publishing,
    /// Of its partitions; they are all on one node.
    first: Partition,
    /// The field of each partition's state that holds this writer's last batch there.
    writer: String,
    /// The last batch's number.
    number: u64,
    /// When the node was first out of reach, while it is.
    away_since: Option<Instant>,
}

impl Publisher {
    /// Runs until nobody can bring anything any more.
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut waiting = VecDeque::new();
        let mut arrived = Vec::new();
        loop {
            if waiting.is_empty() {
                if queue.recv_many(&mut arrived, BATCH_DRAFTS).await == 0 {
                    return;
                }
                // Whoever is ready to publish at this moment comes along: a call for one draft costs
                // Redis twice as much as one draft more in a call.
                tokio::task::yield_now().await;
            }
            waiting.extend(arrived.drain(..));
            while waiting.len() < BATCH_DRAFTS
                && let Ok(job) = queue.try_recv()
            {
                waiting.push_back(job);
            }
            let batch = take_batch(&mut waiting);
            self.store(batch).await;
        }
    }

    /// Stores a batch and answers its callers.
    async fn store(&mut self, mut batch: Vec<Job>) {
        // Stable: the drafts of one partition stay in the order in which they came.
        batch.sort_by_key(|job| job.partition);
        let count: usize = batch.iter().map(|job| job.drafts.len()).sum();
        let metrics = self.by.topology.linking.metrics.clone();
        metrics.append_batch.observe(count as f64);
        let oldest = batch
            .iter()
            .map(|job| job.since)
            .min()
            .unwrap_or_else(Instant::now);
        match self.append(&batch, oldest).await {
            Ok(stored) => answer(batch, stored),
            Err(give_up) => {
                if give_up.unknown {
                    metrics.append_unknown.inc();
                }
                fail(batch, || give_up.as_error());
                if give_up.failure.wants_resolving() {
                    // Paced: while the node is away this is what keeps the task from spinning.
                    let _ = self.by.topology.renew(give_up.generation).await;
                }
            }
        }
    }

    async fn append(&mut self, batch: &[Job], oldest: Instant) -> Result<Vec<Group>, GiveUp> {
        self.number += 1;
        let cmd = self.script_call(batch);
        let metrics = self.by.topology.linking.metrics.clone();
        // When the node has been away for longer than anyone is asked to wait, one try is enough.
        let hopeless = self
            .away_since
            .is_some_and(|since| since.elapsed() > self.by.patience);
        let end = if hopeless {
            Instant::now()
        } else {
            oldest + self.by.patience
        };
        let mut unknown = false;
        let (mut pause, mut loads) = (BUSY_PAUSE, 0);
        loop {
            let routes = self.by.topology.routes();
            let failure = match self.try_append(&routes, &cmd).await {
                Ok(answer) => {
                    self.away_since = None;
                    return parse(&answer, unknown).ok_or_else(|| GiveUp {
                        failure: Failure::Refused(
                            "the append script answered in an unknown way".to_owned(),
                        ),
                        unknown: true,
                        generation: routes.generation,
                    });
                }
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Lost(_)) {
                unknown = true;
            }
            if failure.wants_resolving() {
                self.away_since.get_or_insert_with(Instant::now);
            }
            if matches!(failure, Failure::NoScript) && loads < LOADS {
                // A server that was started anew, perhaps after everyone's patience had ended.
                loads += 1;
                continue;
            }
            let over = matches!(failure, Failure::Full(_) | Failure::Refused(_));
            if over || Instant::now() >= end {
                return Err(GiveUp {
                    failure,
                    unknown,
                    generation: routes.generation,
                });
            }
            tracing::debug!(
                partition = self.first.0,
                reason = failure.reason(),
                "an append is tried again"
            );
            metrics.append_retries.inc();
            if failure.wants_resolving() {
                // If it is not found the next try says so.
                let _ = timeout_at(end, self.by.topology.renew(routes.generation)).await;
            } else {
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(BUSY_PAUSE * 16);
            }
        }
    }

    async fn try_append(
        &self,
        routes: &crate::topology::Routes,
        cmd: &Cmd,
    ) -> Result<Value, Failure> {
        let node = routes.node(self.first);
        let mut link = node.append_link().await?;
        let response = self.by.topology.linking.patience.response;
        let asked = scripts::ask(&mut link.link, cmd, response).await;
        match &asked {
            Err(Failure::NoScript) => {
                let metrics = &self.by.topology.linking.metrics;
                APPEND
                    .load(&mut link.link, response, metrics)
                    .await
                    .map_err(|failure| match failure {
                        // The batch itself was answered: it was not executed.
                        Failure::Lost(reason) => Failure::Unreachable(reason),
                        other => other,
                    })?;
            }
            Err(failure) if failure.wants_resolving() => node.drop_append_link(&link).await,
            _ => {}
        }
        asked
    }

    /// The call for a batch that is sorted by partition; see append.lua.
    fn script_call(&self, batch: &[Job]) -> Cmd {
        let groups = || batch.chunk_by(|a, b| a.partition == b.partition);
        let keys = &self.by.keys;
        let mut names = Vec::with_capacity(batch.len() * 4);
        for group in groups() {
            let partition = group[0].partition;
            names.push(keys.state(partition));
            names.push(keys.log(partition));
            for draft in group.iter().flat_map(|job| &job.drafts) {
                names.push(keys.head(partition, &draft.topic));
                names.push(keys.index(partition, &draft.topic));
                if let Some(dedup) = &draft.dedup {
                    names.push(keys.dedup(partition, dedup));
                }
            }
        }
        let mut cmd = APPEND.call(&names);
        // The first half, so that a millisecond always has room for two thousand events.
        let start = rand::rng().random_range(0..EventId::SEQ_END / 2);
        cmd.arg(&self.writer)
            .arg(format!("{:016}", self.number))
            .arg(start)
            .arg(self.by.clock.unix_ms())
            .arg(self.by.retention_ms)
            .arg(self.by.cap);
        for group in groups() {
            cmd.arg(group.iter().map(|job| job.drafts.len()).sum::<usize>());
            for draft in group.iter().flat_map(|job| &job.drafts) {
                cmd.arg(draft.topic.as_str())
                    .arg(&*draft.kind)
                    .arg(print_attributes(draft.attributes.as_deref()))
                    .arg(&draft.data[..])
                    // At least a millisecond: 0 says that there is no key.
                    .arg(
                        draft
                            .dedup
                            .as_ref()
                            .map_or(0, |dedup| dedup.lifetime_ms.max(1)),
                    );
            }
        }
        cmd
    }
}

/// How an append ended that was not answered.
struct GiveUp {
    failure: Failure,
    /// Whether some try may have been executed after all.
    unknown: bool,
    generation: u64,
}

impl GiveUp {
    fn as_error(&self) -> LogError {
        let reason = self.failure.reason().to_owned();
        match &self.failure {
            _ if self.unknown => LogError::FateUnknown(reason),
            Failure::Full(_) => LogError::Full(reason),
            Failure::Refused(_) => LogError::Refused(reason),
            _ => LogError::Unavailable(reason),
        }
    }
}

/// Callers in the order in which they came, as many as fit into one call; always at least one.
fn take_batch(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let (mut drafts, mut bytes) = (0, 0);
    let mut batch: Vec<Job> = Vec::new();
    while let Some(job) = waiting.pop_front() {
        drafts += job.drafts.len();
        bytes += job.bytes();
        if !batch.is_empty() && (drafts > BATCH_DRAFTS || bytes > BATCH_BYTES) {
            waiting.push_front(job);
            break;
        }
        batch.push(job);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::Topic;

    fn job(drafts: usize, bytes: usize) -> Job {
        let topic = Topic::parse("a").expect("valid");
        let draft = Draft::new(topic, "k", vec![b' '; bytes]);
        Job {
            partition: Partition(0),
            drafts: vec![draft; drafts],
            since: Instant::now(),
            answer: oneshot::channel().0,
        }
    }

    #[test]
    fn batches_keep_callers_whole_and_are_bounded() {
        let sizes = |jobs: Vec<Job>| {
            let mut waiting: VecDeque<Job> = jobs.into();
            let mut batches = Vec::new();
            while !waiting.is_empty() {
                batches.push(
                    take_batch(&mut waiting)
                        .iter()
                        .map(|j| j.drafts.len())
                        .collect::<Vec<_>>(),
                );
            }
            batches
        };
        assert_eq!(
            sizes(vec![job(100, 1), job(28, 1), job(1, 1)]),
            [vec![100, 28], vec![1]]
        );
        assert_eq!(sizes(vec![job(100, 1), job(100, 1)]), [[100], [100]]);
        assert_eq!(sizes(vec![job(1, 200_000), job(1, 100_000)]), [[1], [1]]);
        assert_eq!(sizes(vec![job(2, 1_000_000), job(1, 1)]), [[2], [1]]);
    }
}
