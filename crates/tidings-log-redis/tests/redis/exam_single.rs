//! The exam that every log passes, on a single server: each case with a server of its own.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use tidings_core::{BoxFuture, EventLog, Partitions};
use tidings_log_redis::RedisOptions;
use tidings_testkit::log_exam::{Features, Setup, Sitting, Subject};
use tidings_testkit::servers::RedisServer;

use crate::common;

tidings_testkit::log_exam!(Single);

struct Single;

impl Subject for Single {
    fn features(&self) -> Features {
        Features {
            bounded: true,
            loses: true,
            restarts: true,
        }
    }

    fn fresh(&self, setup: Setup) -> BoxFuture<'_, Result<Arc<dyn Sitting>>> {
        Box::pin(async move {
            let mut builder = RedisServer::builder().append_only();
            if let Some(bytes) = setup.bytes {
                // What an empty server uses, and what the events cost beside their data.
                builder = builder.maxmemory(bytes as u64 * 3 / 2 + (2 << 20));
            }
            let server = builder.start().await?;
            Ok(Arc::new(Seat { server, setup }) as Arc<dyn Sitting>)
        })
    }
}

struct Seat {
    server: RedisServer,
    setup: Setup,
}

impl Sitting for Seat {
    fn instance(&self) -> BoxFuture<'_, Result<Arc<dyn EventLog>>> {
        Box::pin(async {
            let options = RedisOptions {
                partitions: Partitions::new(self.setup.partitions)
                    .expect("the exam asks for a few"),
                retention: self.setup.retention,
                relay_lease: self.setup.relay_lease,
                ..common::options(self.server.url())
            };
            Ok(Arc::new(common::connect(options).await?) as Arc<dyn EventLog>)
        })
    }

    /// A copy of the append-only file: what comes after it is gone with the original.
    fn cut(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { common::copy(&self.append_only(), &self.copied()) })
    }

    fn fall_back(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.server.kill().await?;
            common::copy(&self.copied(), &self.append_only())?;
            self.server.restart().await
        })
    }

    fn restart(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.server.kill().await?;
            self.server.restart().await
        })
    }
}

impl Seat {
    fn append_only(&self) -> PathBuf {
        self.server.dir().join("appendonlydir")
    }

    fn copied(&self) -> PathBuf {
        self.server.dir().join("copied")
    }
}
