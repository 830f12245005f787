//! The exam on a Cluster of three masters. The cases that break something get a cluster of their
//! own, the others share one, each under its own prefix.

use std::sync::Arc;

use anyhow::Result;
use tidings_core::{BoxFuture, EventLog, Partitions};
use tidings_log_redis::RedisOptions;
use tidings_testkit::log_exam::{self, Features, Setup, Sitting, Subject};
use tidings_testkit::servers::Cluster;

use crate::common;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exam_on_a_cluster() {
    let cluster = Arc::new(Cluster::start().await.expect("the cluster starts"));
    let shared = Arc::new(On {
        cluster: Some(cluster),
    });
    common::sit_together(shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_suffix_on_a_cluster() -> Result<()> {
    log_exam::run(&On { cluster: None }, "a_lost_suffix").await?;
    log_exam::run(&On { cluster: None }, "a_tail_is_rewound").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_a_cluster() -> Result<()> {
    log_exam::run(&On { cluster: None }, "restart").await
}

/// With the cluster that is shared, or without one.
struct On {
    cluster: Option<Arc<Cluster>>,
}

impl Subject for On {
    fn features(&self) -> Features {
        let own = self.cluster.is_none();
        Features {
            bounded: false,
            loses: own,
            restarts: own,
        }
    }

    fn fresh(&self, setup: Setup) -> BoxFuture<'_, Result<Arc<dyn Sitting>>> {
        Box::pin(async move {
            let cluster = match &self.cluster {
                Some(cluster) => cluster.clone(),
                None => Arc::new(Cluster::builder().append_only().start().await?),
            };
            let prefix = common::prefix();
            Ok(Arc::new(Seat {
                cluster,
                setup,
                prefix,
            }) as Arc<dyn Sitting>)
        })
    }
}

struct Seat {
    cluster: Arc<Cluster>,
    setup: Setup,
    prefix: String,
}

impl Sitting for Seat {
    fn instance(&self) -> BoxFuture<'_, Result<Arc<dyn EventLog>>> {
        Box::pin(async {
            let options = RedisOptions {
                partitions: Partitions::new(self.setup.partitions)
                    .expect("the exam asks for a few"),
                retention: self.setup.retention,
                prefix: self.prefix.clone(),
                ..common::options(self.cluster.url())
            };
            Ok(Arc::new(common::connect(options).await?) as Arc<dyn EventLog>)
        })
    }

    /// Copies of the append-only files: what comes after them is gone with the originals.
    fn cut(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            for node in self.cluster.nodes() {
                common::copy(
                    &node.dir().join("appendonlydir"),
                    &node.dir().join("copied"),
                )?;
            }
            Ok(())
        })
    }

    fn fall_back(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            for node in self.cluster.nodes() {
                node.kill().await?;
            }
            for node in self.cluster.nodes() {
                common::copy(
                    &node.dir().join("copied"),
                    &node.dir().join("appendonlydir"),
                )?;
            }
            self.start_again().await
        })
    }

    fn restart(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            for node in self.cluster.nodes() {
                node.kill().await?;
            }
            self.start_again().await
        })
    }
}

impl Seat {
    async fn start_again(&self) -> Result<()> {
        for node in self.cluster.nodes() {
            node.restart().await?;
        }
        self.cluster.wait_until_ok().await
    }
}
