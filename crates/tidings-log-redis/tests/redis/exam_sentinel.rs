//! The exam behind Sentinel. The cases that break something get a set of their own, the others
//! share one, each under its own prefix, which is how several hubs share one Redis.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tidings_core::{BoxFuture, EventLog, Partitions};
use tidings_log_redis::RedisOptions;
use tidings_testkit::log_exam::{self, Features, Setup, Sitting, Subject};
use tidings_testkit::servers::Sentinel;

use crate::common;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exam_behind_sentinel() {
    let set = Arc::new(Sentinel::start().await.expect("the set starts"));
    let shared = Arc::new(Behind { set: Some(set) });
    common::sit_together(shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_suffix_behind_sentinel() -> Result<()> {
    log_exam::run(&Behind { set: None }, "a_lost_suffix").await?;
    log_exam::run(&Behind { set: None }, "a_tail_is_rewound").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_behind_sentinel() -> Result<()> {
    log_exam::run(&Behind { set: None }, "restart").await
}

/// With the set that is shared, or without one.
struct Behind {
    set: Option<Arc<Sentinel>>,
}

impl Subject for Behind {
    fn features(&self) -> Features {
        let own = self.set.is_none();
        Features {
            bounded: false,
            loses: own,
            restarts: own,
        }
    }

    fn fresh(&self, setup: Setup) -> BoxFuture<'_, Result<Arc<dyn Sitting>>> {
        Box::pin(async move {
            let set = match &self.set {
                Some(set) => set.clone(),
                None => Arc::new(Sentinel::builder().append_only().start().await?),
            };
            let prefix = common::prefix();
            Ok(Arc::new(Seat { set, setup, prefix }) as Arc<dyn Sitting>)
        })
    }
}

struct Seat {
    set: Arc<Sentinel>,
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
                ..common::options(self.set.url())
            };
            Ok(Arc::new(common::connect(options).await?) as Arc<dyn EventLog>)
        })
    }

    /// The replica has what was stored so far, and nothing of what comes.
    fn cut(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.set
                .primary()
                .wait_for_replica(self.set.replica())
                .await?;
            self.set.cut_replication().await
        })
    }

    fn fall_back(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.set.kill_primary().await?;
            self.set.wait_for_failover().await?;
            ensure!(
                self.set.primary().role().await? == "master",
                "there is no primary"
            );
            Ok(())
        })
    }

    /// Back before the sentinels take it for dead.
    fn restart(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.set.primary().kill().await?;
            self.set.primary().restart().await
        })
    }
}
