//! Which log an instance runs on: the only place that names one.

use std::sync::Arc;

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tidings_core::{Clock, EventLog, LogError, Partitions};
use tidings_log_memory::{MemoryLog, MemoryOptions};
use tidings_log_redis::{IngestOptions, RedisLog, RedisOptions};

use crate::config::{Config, Secret};
use crate::ingest::Ingest;
use crate::instance::Instance;
use crate::limits::{CONNECT_PAUSE_MAX, CONNECT_PAUSE_MIN};

/// An open log.
#[derive(Debug)]
pub(crate) enum Log {
    Memory(Arc<MemoryLog>),
    Redis(Arc<RedisLog>),
}

/// Opens the configured log: Redis if it is named, else memory. Waits for a Redis that is away.
///
/// # Errors
/// What waiting does not cure.
pub(crate) async fn open(
    config: &Config,
    clock: Arc<dyn Clock>,
    registry: &Registry,
) -> Result<Log, LogError> {
    let Some(url) = &config.redis.url else {
        let options = MemoryOptions {
            partitions: partitions(config),
            retention: config.log.retention.0,
            ..MemoryOptions::default()
        };
        return Ok(Log::Memory(Arc::new(MemoryLog::new(
            options,
            clock,
            rand::random(),
        ))));
    };
    let options = redis_options(config, url);
    let mut pause = CONNECT_PAUSE_MIN;
    loop {
        // Each try has a registry of its own: it registers its metrics before it can fail.
        let own = Registry::new();
        match RedisLog::connect(options.clone(), clock.clone(), &own).await {
            Ok(log) => {
                registry
                    .register(Box::new(Nested(own)))
                    .map_err(|error| LogError::Misconfigured(error.to_string()))?;
                return Ok(Log::Redis(Arc::new(log)));
            }
            Err(LogError::Unavailable(why)) => {
                tracing::warn!(why, "Redis is out of reach; trying again");
                tokio::time::sleep(pause).await;
                pause = CONNECT_PAUSE_MAX.min(pause * 2);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A registry within another one.
struct Nested(Registry);

impl Collector for Nested {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.gather()
    }
}

impl Log {
    pub(crate) fn events(&self) -> Arc<dyn EventLog> {
        match self {
            Self::Memory(log) => log.clone(),
            Self::Redis(log) => log.clone(),
        }
    }

    /// Direct ingest, where there is any.
    pub(crate) fn ingest(&self, config: &Config, instance: &Instance) -> Option<Ingest> {
        match self {
            Self::Redis(log) if config.ingest.enabled => Some(Ingest {
                hub: instance.hub().clone(),
                drain: log.ingest(IngestOptions::default()),
                refused: instance.refused().clone(),
            }),
            _ => None,
        }
    }
}

fn partitions(config: &Config) -> Partitions {
    // The configuration's range is that of `Partitions`.
    u16::try_from(config.log.partitions.get())
        .ok()
        .and_then(Partitions::new)
        .unwrap_or(Partitions::DEFAULT)
}

/// What `[redis]` says, for the log and for whoever looks at it.
pub(crate) fn redis_options(config: &Config, url: &Secret) -> RedisOptions {
    let redis = &config.redis;
    let exposed =
        |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    RedisOptions {
        username: redis.username.clone(),
        password: exposed(&redis.password),
        sentinel_username: redis.sentinel_username.clone(),
        sentinel_password: exposed(&redis.sentinel_password),
        tls_ca_file: redis.tls_ca.clone(),
        tls_certificate_file: redis.tls_cert.clone(),
        tls_key_file: redis.tls_key.clone(),
        prefix: redis.prefix.clone(),
        partitions: partitions(config),
        retention: config.log.retention.0,
        pool_size: redis.pool.get(),
        connect_timeout: redis.connect_timeout.0,
        response_timeout: redis.response_timeout.0,
        append_patience: redis.append_patience.0,
        block: redis.block.0,
        durability_replicas: u32::try_from(redis.durability_replicas.get()).unwrap_or(u32::MAX),
        ..RedisOptions::new(url.expose())
    }
}
