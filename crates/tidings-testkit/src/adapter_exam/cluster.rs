//! Clusters in this process: several instances over one log.
//!
//! Each instance has a runtime of its own, so that killing it is what `kill -9` is to its clients:
//! everything stops where it stands, and the sockets close. The log's clock can be put forward,
//! and the log itself be made to fail ([`Faulty`]) or to forget.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidings_adapter::axum::serve::ListenerExt as _;
use tidings_adapter::{Adapter, Hub, Limits, axum, hub_options};
use tidings_core::{BoxFuture, Clock, EventId, EventLog, Partition};
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tidings_log_redis::{RedisLog, RedisOptions};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::faulty::{Fault, Faulty};
use super::panics;

/// Where a cluster keeps its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logs {
    /// In memory.
    Memory,
    /// On the Redis of this URL, under a prefix of the cluster's own.
    Redis(String),
}

impl Logs {
    /// On the Redis that `TIDINGS_EXAM_REDIS` names, else in memory.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("TIDINGS_EXAM_REDIS") {
            Ok(url) if !url.is_empty() => Self::Redis(url),
            _ => Self::Memory,
        }
    }

    /// Whether such a log can be made to lose a suffix.
    pub(super) const fn loses(&self) -> bool {
        matches!(self, Self::Memory)
    }
}

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the events are kept.
    pub logs: Logs,
    /// How many instances there are.
    pub instances: usize,
    /// How long an event is retained.
    pub retention: Duration,
    /// Each hub's bounds.
    pub limits: Limits,
}

impl Default for Setup {
    /// Two instances over a log in memory, with everything else as it is in production, but for the
    /// hubs' own probes: they would move a partition on at moments that no case knows.
    fn default() -> Self {
        Self {
            logs: Logs::Memory,
            instances: 2,
            retention: Duration::from_secs(60 * 60),
            limits: Limits::default(),
        }
    }
}

/// Several instances over one log.
#[derive(Debug)]
pub struct Cluster {
    instances: Vec<Instance>,
    log: Shared,
    setup: Setup,
    clock: Arc<Shifted>,
    fault: watch::Sender<Fault>,
}

/// The log that the instances share.
#[derive(Debug, Clone)]
enum Shared {
    Memory(MemoryLog),
    Redis(Box<RedisOptions>),
}

/// The machine's clock, put forward.
#[derive(Debug, Default)]
struct Shifted(AtomicU64);

impl Clock for Shifted {
    fn unix_ms(&self) -> u64 {
        SystemClock.unix_ms() + self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// One more handle on it, as one more instance has.
    fn open(
        &self,
        clock: Arc<dyn Clock>,
        registry: prometheus::Registry,
    ) -> BoxFuture<'static, Result<Arc<dyn EventLog>>> {
        let shared = self.clone();
        Box::pin(async move {
            Ok(match shared {
                Self::Memory(log) => Arc::new(log) as Arc<dyn EventLog>,
                Self::Redis(options) => {
                    Arc::new(RedisLog::connect(*options, clock, &registry).await?)
                }
            })
        })
    }
}

impl Cluster {
    /// Starts instances, each with the adapter that `adapter` makes, and waits until they are
    /// ready.
    ///
    /// # Errors
    /// When they do not become ready, or the log cannot be used.
    pub async fn start(adapter: impl Fn() -> Box<dyn Adapter>, setup: Setup) -> Result<Self> {
        panics::watch();
        let clock = Arc::<Shifted>::default();
        let log = match &setup.logs {
            Logs::Memory => {
                let options = MemoryOptions {
                    retention: setup.retention,
                    ..MemoryOptions::default()
                };
                Shared::Memory(MemoryLog::new(options, clock.clone(), rand::random()))
            }
            Logs::Redis(url) => Shared::Redis(Box::new(RedisOptions {
                prefix: format!("exam-{:08x}", rand::random::<u32>()),
                retention: setup.retention,
                ..RedisOptions::new(url)
            })),
        };
        let mut cluster = Self {
            instances: Vec::new(),
            fault: watch::Sender::default(),
            log,
            clock,
            setup,
        };
        for _ in 0..cluster.setup.instances {
            let instance = cluster.launch(adapter()).await?;
            cluster.instances.push(instance);
        }
        Ok(cluster)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the exam's clients talk, and the kit cannot see the server's own accept loop"
    )]
    async fn launch(&self, adapter: Box<dyn Adapter>) -> Result<Instance> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let thread = format!("{}{number}", panics::THREADS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(&thread)
            .enable_all()
            .build()?;
        let adapter = [adapter];
        let options = hub_options(self.setup.limits.clone(), &adapter);
        let [adapter] = adapter;
        let registry = prometheus::Registry::new();
        let counted = registry.clone();
        let log = self.log.open(self.clock.clone(), registry.clone());
        let (fault, clock) = (self.fault.clone(), self.clock.clone());
        let started = runtime.spawn(async move {
            let log = Arc::new(Faulty::sharing(log.await.context("the log")?, &fault));
            let hub = Hub::start(log, options, clock, &registry)?;
            tokio::time::timeout(READY, hub.ready())
                .await
                .context("an instance is not ready in time")?;
            let listener = listen()?;
            let address = listener.local_addr()?;
            // Nagle's algorithm would hold back an event until the one before it was acknowledged.
            let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
            let (closing, closed) = oneshot::channel::<()>();
            let router = adapter.router(hub.clone());
            let serving = tokio::spawn(async move {
                let closed = async move { drop(closed.await) };
                let served = axum::serve(listener, router).with_graceful_shutdown(closed);
                // It has no error of its own.
                let _ = served.await;
            });
            anyhow::Ok((hub, address, closing, serving))
        });
        let (hub, address, closing, serving) = started.await??;
        Ok(Instance {
            hub,
            address,
            registry: counted,
            thread,
            door: Some((closing, serving)),
            runtime: Some(runtime),
        })
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn instance(&self, index: usize) -> &Instance {
        &self.instances[index]
    }

    /// All of them.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// From here on this is wrong with the log.
    pub fn fault(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Puts the log's clock forward. On Redis, whose clock is its own, the time is waited for.
    pub async fn pass(&self, time: Duration) {
        match self.log {
            Shared::Memory(_) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                self.clock.0.fetch_add(ms, Ordering::Relaxed);
            }
            Shared::Redis(_) => tokio::time::sleep(time).await,
        }
    }

    /// How long an event is retained.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.setup.retention
    }

    /// The log forgets everything in a partition after a place, as in a failover to a replica that
    /// lagged.
    ///
    /// # Errors
    /// When it is not a log in memory.
    pub fn lose_suffix(&self, partition: Partition, after: EventId) -> Result<()> {
        match &self.log {
            Shared::Memory(log) => Ok(log.lose_suffix(partition, after)?),
            Shared::Redis(_) => bail!("this log cannot lose a suffix"),
        }
    }

    /// Kills an instance: everything stops where it stands.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn kill(&mut self, index: usize) {
        self.instances[index].stop();
    }

    /// An instance leaves as it does on SIGTERM: accepts nothing more, tells every client to come
    /// back, and is gone.
    ///
    /// # Errors
    /// When some client's connection does not end in time.
    ///
    /// # Panics
    /// When there are not so many instances.
    pub async fn leave(&mut self, index: usize) -> Result<()> {
        let instance = &mut self.instances[index];
        let Some((closing, serving)) = instance.door.take() else {
            bail!("the instance has left before");
        };
        // The other side is gone when serving has ended by itself.
        let _ = closing.send(());
        let emptied = instance.hub.drain(Duration::ZERO).await;
        ensure!(emptied, "clients stay although they were told to leave");
        tokio::time::timeout(READY, serving)
            .await
            .context("connections stay although their clients have left")??;
        instance.hub.stop().await;
        instance.stop();
        Ok(())
    }
}

/// How long an instance may take to start, or a connection to end.
const READY: Duration = Duration::from_secs(20);

/// One instance.
#[derive(Debug)]
pub struct Instance {
    hub: Hub,
    address: SocketAddr,
    registry: prometheus::Registry,
    thread: String,
    door: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    runtime: Option<Runtime>,
}

impl Instance {
    /// Its hub.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Where its adapter listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has counted under a metric's name and one of its labels; of several such rows, their
    /// sum.
    #[must_use]
    pub fn counted(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let rows = families.iter().filter(|family| family.name() == name);
        let rows = rows.flat_map(prometheus::proto::MetricFamily::get_metric);
        let labelled = rows.filter(|row| row.get_label().iter().any(|one| one.value() == label));
        labelled
            .map(|row| row.get_counter().get_value() + row.get_gauge().get_value())
            .sum()
    }

    /// What has panicked on it.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        panics::of(&self.thread)
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not dropped: that would wait for its tasks, which no async test may do.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A listener whose connections buffer as little as the server's do: a slow client is felt soon.
fn listen() -> Result<tokio::net::TcpListener> {
    /// The server's own default.
    const SEND_BUFFER: u32 = 64 * 1024;
    /// More than any case opens at once.
    const BACKLOG: u32 = 1024;
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    Ok(socket.listen(BACKLOG)?)
}
