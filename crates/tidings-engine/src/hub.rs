//! The hub: the one handle that adapters and the server hold.

mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::limits::DRAFTS_PER_APPEND_MAX;
use tidings_core::{
    Appended, Clock, Draft, DraftError, EventLog, LogError, Now, Partition, Placed, Topic,
    TopicSet, TopicSetError,
};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::follow::{Follower, TailState, Ticker, floor_ms};
use crate::judge::{Court, Judge};
use crate::limits::{GOODBYE, Limits};
use crate::metrics::Metrics;
use crate::reader::Reader;
use crate::window::Window;

pub use reading::ReadPage;

/// What a hub is started with.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// Every bound.
    pub limits: Limits,
    /// Which roots are placed by another key than the topic itself.
    pub ownership: Vec<Ownership>,
}

/// An adapter's hold on the topics of one root.
#[derive(Debug, Clone)]
pub struct Ownership {
    /// The first segment of the topics, e.g. `airsend`.
    pub root: &'static str,
    /// The placement key of such a topic: what changes together stands together (LOG.md §1).
    pub placement_key: fn(&Topic) -> &str,
}

/// A handle to one instance's hub. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    started: Instant,
    options: HubOptions,
    window: Arc<Window>,
    judge: Judge,
    metrics: Metrics,
    state: Arc<TailState>,
    progress: Arc<Notify>,
    log_reads: Semaphore,
    readers: AtomicU64,
    /// Cancelled: no new connections, and those that are there say goodbye.
    draining: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The tasks of connections, which drivers spawn or count here.
    connections: TaskTracker,
}

/// Why a draft was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The draft breaks a bound.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] Arc<LogError>),
    /// The instance is leaving.
    #[error("this instance is leaving")]
    Draining,
}

/// How the instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The window has been filled.
    pub filled: bool,
    /// The tail follows the log.
    pub tail_up: bool,
    /// When the tail last proved itself, milliseconds since 1970.
    pub tail_proved_ms: u64,
    /// This instance's clock and the log's are further apart than they may be.
    pub clock_skewed: bool,
    /// The instance is leaving.
    pub draining: bool,
    /// Why the tail is down.
    pub reason: Option<String>,
}

impl Health {
    /// Whether clients should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.filled && self.tail_up && !self.clock_skewed && !self.draining
    }
}

impl Hub {
    /// Starts the hub's tasks: it fills its window and follows the log until [`Hub::stop`].
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn start(
        log: Arc<dyn EventLog>,
        options: HubOptions,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        let limits = options.limits.clone();
        let window = Arc::new(Window::new(
            log.partitions(),
            limits.window_bytes,
            metrics.clone(),
        ));
        let (state, progress) = (Arc::<TailState>::default(), Arc::<Notify>::default());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let court = Court {
            log: log.clone(),
            window: window.clone(),
            progress: progress.clone(),
            metrics: metrics.clone(),
        };
        let (judge, court) = Judge::start(court, stop.clone());
        let follower = Follower {
            log: log.clone(),
            window: window.clone(),
            window_bytes: limits.window_bytes,
            clock: clock.clone(),
            state: state.clone(),
            progress: progress.clone(),
            metrics: metrics.clone(),
        };
        let ticker = Ticker {
            log: log.clone(),
            window: window.clone(),
            clock: clock.clone(),
            state: state.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(court);
        tasks.spawn(stop.clone().run_until_cancelled_owned(follower.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(ticker.run()));
        Ok(Self(Arc::new(Inner {
            log,
            clock,
            started: Instant::now(),
            log_reads: Semaphore::new(limits.log_reads),
            options,
            window,
            judge,
            metrics,
            state,
            progress,
            readers: AtomicU64::new(0),
            draining: CancellationToken::new(),
            stop,
            tasks,
            connections: TaskTracker::new(),
        })))
    }

    /// A topic and the partition it stands in.
    #[must_use]
    pub fn placed(&self, topic: Topic) -> Placed {
        let owner = self
            .0
            .options
            .ownership
            .iter()
            .find(|owner| owner.root == topic.root());
        let key = owner.map_or(topic.as_str(), |owner| (owner.placement_key)(&topic));
        Placed {
            partition: self.0.log.partitions().of(key),
            topic,
        }
    }

    /// Topics as a cursor is over them.
    ///
    /// # Errors
    /// [`TopicSetError`] when there are none or too many.
    pub fn topic_set(&self, topics: Vec<Topic>) -> Result<TopicSet, TopicSetError> {
        TopicSet::new(topics.into_iter().map(|topic| self.placed(topic)).collect())
    }

    /// Publishes drafts; answers for each, in order, when it is stored or will not be. Drafts of
    /// one topic are stored in their order, until one of its partition fails: those behind it fail
    /// with it.
    pub async fn publish(&self, drafts: Vec<Draft>) -> Vec<Result<Appended, PublishError>> {
        if self.0.stop.is_cancelled() {
            return drafts.iter().map(|_| Err(PublishError::Draining)).collect();
        }
        let mut results: Vec<Option<Result<Appended, PublishError>>> = Vec::new();
        let mut by_partition: BTreeMap<Partition, Vec<(usize, Draft)>> = BTreeMap::new();
        for (index, draft) in drafts.into_iter().enumerate() {
            match draft.check() {
                Ok(()) => {
                    let partition = self.placed(draft.topic.clone()).partition;
                    by_partition
                        .entry(partition)
                        .or_default()
                        .push((index, draft));
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error.into()))),
            }
        }
        let appends = by_partition
            .into_iter()
            .map(|(partition, drafts)| self.append(partition, drafts));
        for (index, result) in futures_util::future::join_all(appends)
            .await
            .into_iter()
            .flatten()
        {
            results[index] = Some(result);
        }
        results.into_iter().flatten().collect()
    }

    /// Appends to one partition, in groups of what one append may hold.
    async fn append(
        &self,
        partition: Partition,
        drafts: Vec<(usize, Draft)>,
    ) -> Vec<(usize, Result<Appended, PublishError>)> {
        let mut results = Vec::with_capacity(drafts.len());
        let mut failure: Option<Arc<LogError>> = None;
        let mut drafts = drafts.into_iter().peekable();
        while drafts.peek().is_some() {
            let (indexes, group): (Vec<usize>, Vec<Draft>) =
                drafts.by_ref().take(DRAFTS_PER_APPEND_MAX).unzip();
            let appended = match &failure {
                Some(error) => Err(error.clone()),
                None => self.0.log.append(partition, group).await.map_err(Arc::new),
            };
            match appended {
                Ok(appended) => {
                    for (index, one) in indexes.into_iter().zip(appended) {
                        self.0.metrics.appended(one.outcome, 1);
                        self.0.window.acknowledge(partition, one.id);
                        results.push((index, Ok(one)));
                    }
                }
                Err(error) => {
                    self.0.metrics.failed(&error, indexes.len());
                    results.extend(
                        indexes
                            .into_iter()
                            .map(|index| (index, Err(PublishError::Log(error.clone())))),
                    );
                    failure = Some(error);
                }
            }
        }
        results
    }

    /// A new connection's reader.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone(), self.0.readers.fetch_add(1, Ordering::Relaxed))
    }

    /// The time, as sessions take it.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            uptime: self.0.started.elapsed(),
            unix_ms: self.0.clock.unix_ms(),
        }
    }

    /// How long the log retains an event.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.0.log.retention()
    }

    /// How the instance stands.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            filled: self.0.window.is_filled(),
            tail_up: self.0.state.is_up(),
            tail_proved_ms: self.0.state.proved_ms(),
            clock_skewed: self.0.state.is_skewed(),
            draining: self.0.draining.is_cancelled(),
            reason: self.0.state.reason(),
        }
    }

    /// Waits until the window is filled and the tail follows the log.
    pub async fn ready(&self) {
        loop {
            let progress = self.0.progress.notified();
            let health = self.health();
            if health.filled && health.tail_up {
                return;
            }
            // The last fill is not announced; a short look again costs nothing.
            let _ = tokio::time::timeout(Duration::from_millis(20), progress).await;
        }
    }

    /// Counts a connection's task until it ends: [`Hub::drain`] waits for it.
    #[must_use]
    pub fn connections(&self) -> &TaskTracker {
        &self.0.connections
    }

    /// Cancelled when the instance is leaving.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// Tells every connection to come back elsewhere, and waits, bounded, until they have gone.
    /// True when all have.
    pub async fn drain(&self, spread: Duration) -> bool {
        self.0.draining.cancel();
        self.0.connections.close();
        tokio::time::timeout(spread + GOODBYE, self.0.connections.wait())
            .await
            .is_ok()
    }

    /// Ends the hub's tasks. Readers deliver nothing any more.
    pub async fn stop(&self) {
        self.0.draining.cancel();
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    pub(crate) fn window(&self) -> &Window {
        &self.0.window
    }

    pub(crate) fn judge(&self) -> &Judge {
        &self.0.judge
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn floor_ms(&self) -> u64 {
        floor_ms(self.0.state.log_ms(&*self.0.clock), &*self.0.log)
    }
}
