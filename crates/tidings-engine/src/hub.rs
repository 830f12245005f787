//! The hub: the one handle that adapters and the server hold.

mod heads;
mod reading;
mod seeing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tidings_core::limits::DRAFTS_PER_APPEND_MAX;
use tidings_core::{
    Appended, Clock, Draft, DraftError, Durability, EventId, EventLog, Ingest, LogError, Now,
    Partition, Placed, Settled, Topic, TopicSet, TopicSetError,
};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::follow::{Follower, TailState, Ticker, floor_ms};
use crate::judge::{Court, Judge};
use crate::limits::{GOODBYE, Limits};
use crate::metrics::Metrics;
use crate::probe::{ProbeState, Prober, is_own};
use crate::reader::Reader;
use crate::records::{Registrar, Rules, deadlines, indexes, outbox, owners};
use crate::trace::Traces;
use crate::views::registry::Views;
use crate::window::Window;

pub use reading::ReadPage;
pub use seeing::Health;
pub(crate) use seeing::Named;
use seeing::UNNAMED;

/// What a hub is started with.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// Every bound.
    pub limits: Limits,
    /// Which roots are placed by another key than the topic itself.
    pub ownership: Vec<Ownership>,
    /// What adapters bring beside their routes: record kinds, views, rules for foreign drafts.
    pub rules: Rules,
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
pub struct Hub(Arc<Inner>, Arc<Named>);

#[derive(Debug)]
struct Inner {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    started: Instant,
    options: HubOptions,
    window: Arc<Window>,
    judge: Judge,
    registrar: Registrar,
    views: Views,
    metrics: Metrics,
    state: Arc<TailState>,
    probe: Arc<ProbeState>,
    traces: Arc<Traces>,
    progress: Arc<Notify>,
    log_reads: Semaphore,
    heads: heads::Heads,
    readers: AtomicU64,
    /// Clients should not be sent here any more.
    retired: AtomicBool,
    /// Set before `draining` is cancelled.
    farewell: OnceLock<Farewell>,
    /// Cancelled: no new connections, and those that are there say goodbye.
    draining: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The tasks of connections, which drivers spawn or count here.
    connections: TaskTracker,
}

/// When connections began to be told to come back elsewhere, and over how long they are.
#[derive(Debug)]
struct Farewell {
    since: Instant,
    spread: Duration,
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
    /// The topic's root is owned by an adapter that takes no foreign events.
    #[error("topics under `{0}` are published through their adapter")]
    Owned(String),
    /// The adapter that owns the topic's root refuses the draft, for this reason.
    #[error("{0}")]
    NotTaken(String),
    /// The instance is leaving.
    #[error("this instance is leaving")]
    Draining,
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
        let traces = Arc::<Traces>::default();
        let probe = Arc::new(ProbeState::new(&limits));
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
            traces: traces.clone(),
        };
        let prober = Prober {
            log: log.clone(),
            window: window.clone(),
            clock: clock.clone(),
            state: probe.clone(),
            progress: progress.clone(),
            metrics: metrics.clone(),
            every: limits.probe_every,
            wait: limits.probe_wait,
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
        tasks.spawn(stop.clone().run_until_cancelled_owned(prober.run()));
        let named = Arc::new(Named::new(UNNAMED, &metrics));
        let registrar = Registrar::new(&options.rules, log.partitions(), registry)?;
        let views = Views::new(&options.rules.views, registry)?;
        let heads = heads::Heads::new(log.partitions());
        let inner = Arc::new(Inner {
            log,
            clock,
            started: Instant::now(),
            log_reads: Semaphore::new(limits.log_reads),
            heads,
            options,
            window,
            judge,
            registrar,
            views,
            metrics,
            state,
            probe,
            traces,
            progress,
            readers: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            farewell: OnceLock::new(),
            draining: CancellationToken::new(),
            stop,
            tasks,
            connections: TaskTracker::new(),
        });
        let hub = Self(inner, named);
        for task in [
            deadlines::run(hub.clone()).boxed(),
            outbox::run(hub.clone()).boxed(),
            owners::beat(hub.clone()).boxed(),
            owners::sweep(hub.clone()).boxed(),
            indexes::sweep(hub.clone()).boxed(),
        ] {
            let stop = hub.0.stop.clone();
            hub.0.tasks.spawn(stop.run_until_cancelled_owned(task));
        }
        Ok(hub)
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

    /// Topics as a cursor is over them. The hub's own topics are nobody's to read: they are left out.
    ///
    /// # Errors
    /// [`TopicSetError`] when there are none or too many.
    pub fn topic_set(&self, topics: Vec<Topic>) -> Result<TopicSet, TopicSetError> {
        let others = topics.into_iter().filter(|topic| !is_own(topic));
        TopicSet::new(others.map(|topic| self.placed(topic)).collect())
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
                Ok(()) if is_own(&draft.topic) => {
                    let root = draft.topic.root().to_owned();
                    results.push(Some(Err(PublishError::Owned(root))));
                }
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
            let mut spans = self.0.traces.appending(&group);
            let appended = match &failure {
                Some(error) => Err(error.clone()),
                None => self.0.log.append(partition, group).await.map_err(Arc::new),
            };
            if let Err(error) = &appended {
                for span in &mut spans {
                    span.failed(&error.to_string());
                }
            }
            drop(spans);
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

    /// Hands out flash events: to who is live on their topics at this moment, on every instance; at
    /// most once, and to nobody later. Those of one partition come in their order.
    ///
    /// # Errors
    /// The first draft that cannot be handed out; those of other partitions may have been.
    pub async fn flash(&self, drafts: Vec<Draft>) -> Result<(), PublishError> {
        if self.0.stop.is_cancelled() {
            return Err(PublishError::Draining);
        }
        let mut by_partition: BTreeMap<Partition, Vec<Draft>> = BTreeMap::new();
        for draft in drafts {
            draft.check()?;
            if is_own(&draft.topic) {
                return Err(PublishError::Owned(draft.topic.root().to_owned()));
            }
            let partition = self.placed(draft.topic.clone()).partition;
            by_partition.entry(partition).or_default().push(draft);
        }
        for (partition, drafts) in by_partition {
            for group in drafts.chunks(DRAFTS_PER_APPEND_MAX) {
                let flashed = self.0.log.flash(partition, group.to_vec()).await;
                flashed.map_err(Arc::new)?;
                self.0.metrics.flash_events.inc_by(group.len() as u64);
            }
        }
        Ok(())
    }

    /// How safe events are that were published here, beyond being stored: waits until they are as
    /// safe as wanted, `patience` long, and says what was reached by all of them together.
    pub async fn settle(
        &self,
        events: &[(Topic, EventId)],
        want: Durability,
        patience: Duration,
    ) -> Settled {
        if want == Durability::Stored || events.is_empty() {
            return Settled::STORED;
        }
        let standing = events
            .iter()
            .map(|(topic, id)| (self.placed(topic.clone()).partition, *id))
            .collect();
        let settled = self.0.log.settle(standing, want, patience).await;
        self.0.metrics.settled(want, settled.reached(want));
        settled
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

    /// Counts a connection's task until it ends: [`Hub::drain`] waits for it.
    #[must_use]
    pub fn connections(&self) -> &TaskTracker {
        &self.0.connections
    }

    /// The instance is about to leave: it says that it is not ready, and goes on as before, until
    /// whoever sends clients here has noticed.
    pub fn retire(&self) {
        self.0.retired.store(true, Ordering::Relaxed);
    }

    /// Cancelled when connections are told to come back elsewhere.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// When a connection is told to come back elsewhere, by its share of the spread
    /// ([`Reader::share`]). Late comers, whose time has passed, are told at once.
    #[must_use]
    pub fn told_at(&self, share: f64) -> Instant {
        match self.0.farewell.get() {
            Some(farewell) => farewell.since + farewell.spread.mul_f64(share),
            None => Instant::now(),
        }
    }

    /// Tells every connection to come back elsewhere, one after the other over `spread`, so that
    /// they do not come back at once; and waits, bounded, until they have gone. True when all have.
    pub async fn drain(&self, spread: Duration) -> bool {
        self.0.farewell.get_or_init(|| Farewell {
            since: Instant::now(),
            spread,
        });
        self.0.draining.cancel();
        self.0.connections.close();
        tokio::time::timeout(spread + GOODBYE, self.0.connections.wait())
            .await
            .is_ok()
    }

    /// Ends the hub's tasks, and gives its leases back: what its connections had not given up by
    /// then is handled by others at once. Readers deliver nothing any more.
    pub async fn stop(&self) {
        self.0.draining.cancel();
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.leave().await;
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    pub(crate) fn log(&self) -> &dyn EventLog {
        &*self.0.log
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Cancelled when the hub ends.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stop
    }

    pub(crate) fn views(&self) -> &Views {
        &self.0.views
    }

    pub(crate) fn registrar(&self) -> &Registrar {
        &self.0.registrar
    }

    /// The log's time as far as this instance knows it, milliseconds since 1970.
    pub(crate) fn log_ms(&self) -> u64 {
        self.0.state.log_ms(&*self.0.clock)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Whether the draft's topic stands under a root that an adapter owns.
    pub(crate) fn is_owned(&self, draft: &Draft) -> bool {
        let root = draft.topic.root();
        self.0.options.ownership.iter().any(|one| one.root == root)
    }

    pub(crate) fn ingest_rule(&self, root: &str) -> Option<&Arc<dyn Ingest>> {
        let mut rules = self.0.options.rules.ingest.iter();
        rules.find(|(one, _)| *one == root).map(|(_, rule)| rule)
    }

    /// A commit's event is stored.
    pub(crate) fn acknowledged(&self, partition: Partition, appended: Appended) {
        self.0.metrics.appended(appended.outcome, 1);
        self.0.window.acknowledge(partition, appended.id);
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
