//! The exam where there are several servers: behind Sentinel, and on a Cluster of three masters. The
//! cases that break something get servers of their own, the others share some, each under its own
//! prefix, which is how several hubs share one Redis.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tidings_core::{BoxFuture, EventLog, Partitions};
use tidings_log_redis::RedisOptions;
use tidings_testkit::log_exam::{self, Features, Setup, Sitting, Subject};
use tidings_testkit::servers::{Cluster, Sentinel};

use crate::common;

/// The cases that lose the end of a log, by what their names begin with.
const LOSSES: [&str; 4] = [
    "a_lost_suffix",
    "a_tail_is_rewound",
    "a_lost_commit",
    "a_lost_rank",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exam_behind_sentinel() {
    let set = Arc::new(Sentinel::start().await.expect("the set starts"));
    common::sit_together(Arc::new(On { shared: Some(set) })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exam_on_a_cluster() {
    let cluster = Arc::new(Cluster::start().await.expect("the cluster starts"));
    let shared = Some(cluster);
    common::sit_together(Arc::new(On { shared })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_behind_sentinel() -> Result<()> {
    for name in LOSSES {
        log_exam::run(&On::<Sentinel> { shared: None }, name).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_on_a_cluster() -> Result<()> {
    for name in LOSSES {
        log_exam::run(&On::<Cluster> { shared: None }, name).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_behind_sentinel() -> Result<()> {
    log_exam::run(&On::<Sentinel> { shared: None }, "restart").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_a_cluster() -> Result<()> {
    log_exam::run(&On::<Cluster> { shared: None }, "restart").await
}

/// What can be done to servers.
trait Servers: Sized + Send + Sync + 'static {
    /// Servers that keep what was acknowledged through a restart.
    fn own() -> BoxFuture<'static, Result<Self>>;

    fn address(&self) -> String;

    /// See [`Sitting::cut`]; so are the others.
    fn cut(&self) -> BoxFuture<'_, Result<()>>;

    fn fall_back(&self) -> BoxFuture<'_, Result<()>>;

    fn restart(&self) -> BoxFuture<'_, Result<()>>;
}

impl Servers for Sentinel {
    fn own() -> BoxFuture<'static, Result<Self>> {
        Box::pin(async { Self::builder().append_only().start().await })
    }

    fn address(&self) -> String {
        self.url()
    }

    /// The replica has what was stored so far, and nothing of what comes.
    fn cut(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.primary().wait_for_replica(self.replica()).await?;
            self.cut_replication().await
        })
    }

    fn fall_back(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.kill_primary().await?;
            self.wait_for_failover().await?;
            ensure!(
                self.primary().role().await? == "master",
                "there is no primary"
            );
            Ok(())
        })
    }

    /// Back before the sentinels take it for dead.
    fn restart(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.primary().kill().await?;
            self.primary().restart().await
        })
    }
}

impl Servers for Cluster {
    fn own() -> BoxFuture<'static, Result<Self>> {
        Box::pin(async { Self::builder().append_only().start().await })
    }

    fn address(&self) -> String {
        self.url()
    }

    /// Copies of the append-only files: what comes after them is gone with the originals.
    fn cut(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            for node in self.nodes() {
                let dir = node.dir();
                common::copy(&dir.join("appendonlydir"), &dir.join("copied"))?;
            }
            Ok(())
        })
    }

    fn fall_back(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            for node in self.nodes() {
                node.kill().await?;
            }
            for node in self.nodes() {
                let dir = node.dir();
                common::copy(&dir.join("copied"), &dir.join("appendonlydir"))?;
                node.restart().await?;
            }
            self.wait_until_ok().await
        })
    }

    fn restart(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            for node in self.nodes() {
                node.kill().await?;
            }
            for node in self.nodes() {
                node.restart().await?;
            }
            self.wait_until_ok().await
        })
    }
}

/// With servers that are shared, or without.
struct On<S> {
    shared: Option<Arc<S>>,
}

impl<S: Servers> Subject for On<S> {
    fn features(&self) -> Features {
        let own = self.shared.is_none();
        Features {
            bounded: false,
            loses: own,
            restarts: own,
        }
    }

    fn fresh(&self, setup: Setup) -> BoxFuture<'_, Result<Arc<dyn Sitting>>> {
        Box::pin(async move {
            let servers = match &self.shared {
                Some(shared) => shared.clone(),
                None => Arc::new(S::own().await?),
            };
            let prefix = common::prefix();
            Ok(Arc::new(Seat {
                servers,
                setup,
                prefix,
            }) as Arc<dyn Sitting>)
        })
    }
}

struct Seat<S> {
    servers: Arc<S>,
    setup: Setup,
    prefix: String,
}

impl<S: Servers> Sitting for Seat<S> {
    fn instance(&self) -> BoxFuture<'_, Result<Arc<dyn EventLog>>> {
        Box::pin(async {
            let options = RedisOptions {
                partitions: Partitions::new(self.setup.partitions)
                    .expect("the exam asks for a few"),
                retention: self.setup.retention,
                relay_lease: self.setup.relay_lease,
                prefix: self.prefix.clone(),
                ..common::options(self.servers.address())
            };
            Ok(Arc::new(common::connect(options).await?) as Arc<dyn EventLog>)
        })
    }

    fn cut(&self) -> BoxFuture<'_, Result<()>> {
        self.servers.cut()
    }

    fn fall_back(&self) -> BoxFuture<'_, Result<()>> {
        self.servers.fall_back()
    }

    fn restart(&self) -> BoxFuture<'_, Result<()>> {
        self.servers.restart()
    }
}
