//! The log itself: opens the links, and hands every call to the part that does it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use tidings_core::limits::DRAFTS_PER_APPEND_MAX;
use tidings_core::record::check_flash;
use tidings_core::{
    Appended, BoxFuture, Clock, Draft, Durability, EventId, EventLog, Filled, From, Head, LogError,
    Page, PageLimit, Partition, Partitions, Placed, Records, Settled, Tail, Verdict,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::dial::Dial;
use crate::ingest::{IngestDrain, IngestOptions};
use crate::keys::Keys;
use crate::link::Linking;
use crate::metrics::Metrics;
use crate::options::RedisOptions;
use crate::publish::{Job, Publishing};
use crate::reader::{Followed, Reader};
use crate::reading::Reading;
use crate::records::Recording;
use crate::settings::{Settings, at_start};
use crate::settle::Settler;
use crate::tail::{RedisTail, STEPS};
use crate::target::Target;
use crate::topology::Topology;

/// A log on Redis Streams. Dropping it ends its tasks once what was handed in is answered.
#[derive(Debug)]
pub struct RedisLog {
    pub(crate) reading: Reading,
    pub(crate) recording: Recording,
    settings: Settings,
    settler: Settler,
    publishers: Vec<mpsc::Sender<Job>>,
    patience: Duration,
    block: Duration,
    capped: bool,
}

impl RedisLog {
    /// Finds the nodes, checks the servers and the settings, and opens the log.
    ///
    /// Must be called within a Tokio runtime, which the log's tasks run on.
    ///
    /// # Errors
    /// [`LogError::Misconfigured`] when the settings do not fit the server or the log that is in it;
    /// the text says what to do. [`LogError::Unavailable`] when Redis is out of reach: try again.
    pub async fn connect(
        options: RedisOptions,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Self, LogError> {
        options.check().map_err(LogError::Misconfigured)?;
        let target = Target::parse(&options.url).map_err(LogError::Misconfigured)?;
        let dial = Dial::new(&target, &options).map_err(LogError::Misconfigured)?;
        let metrics = Metrics::new();
        let keys = Keys::new(&options.prefix, options.partitions);
        let linking = Linking::new(dial, &options, metrics);
        let topology = Topology::find(&target, linking, keys.clone(), &options)
            .await
            .map_err(at_start)?;
        let settings = Settings {
            keys: keys.clone(),
            partitions: options.partitions,
            retention_ms: options.retention_ms(),
        };
        settings.check_all(&topology).await?;
        // Last, so that whoever tries again after a failure finds the registry free.
        topology
            .linking
            .metrics
            .register(registry)
            .map_err(|error| {
                LogError::Misconfigured(format!("the metrics registry has a log already: {error}"))
            })?;
        let topology = Arc::new(topology);
        let publishing = Publishing {
            topology: topology.clone(),
            keys: keys.clone(),
            clock: clock.clone(),
            retention_ms: options.retention_ms(),
            cap: options.max_events_per_partition.unwrap_or(0),
            patience: options.append_patience,
        };
        Ok(Self {
            recording: Recording {
                topology: topology.clone(),
                keys: keys.clone(),
                clock: clock.clone(),
                retention_ms: options.retention_ms(),
                cap: options.max_events_per_partition.unwrap_or(0),
                patience: options.append_patience,
                relay_lease: options.relay_lease,
                away: Mutex::default(),
                looking: Arc::default(),
            },
            settler: Settler {
                topology: topology.clone(),
                keys: keys.clone(),
                clock: clock.clone(),
                replicas: options.durability_replicas,
                lanes: Mutex::default(),
            },
            publishers: publishing.start(options.partitions),
            patience: options.append_patience,
            block: options.block,
            capped: options.max_events_per_partition.is_some(),
            reading: Reading {
                topology,
                keys,
                clock,
                retention_ms: options.retention_ms(),
            },
            settings,
        })
    }

    /// Drains direct ingest (LOG.md §7), when this instance holds the lease on it.
    #[must_use]
    pub fn ingest(&self, options: IngestOptions) -> IngestDrain {
        IngestDrain::new(
            self.reading.topology.clone(),
            self.settings.keys.clone(),
            options,
        )
    }

    async fn queue(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Appended>, LogError> {
        let Some(queue) = self.publishers.get(partition.index()) else {
            return Err(no_such(partition));
        };
        at_most(drafts.len())?;
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let room = match timeout(self.patience, queue.reserve()).await {
            Ok(room) => room.map_err(|_| ended())?,
            Err(_) => {
                return Err(LogError::Unavailable(
                    "too many appends are waiting".to_owned(),
                ));
            }
        };
        room.send(Job {
            partition,
            drafts,
            since: Instant::now(),
            answer,
        });
        // The task bounds its own time; it answers every job, or ends with the runtime.
        answered.await.unwrap_or_else(|_| {
            Err(LogError::FateUnknown(
                "the publishing task ended".to_owned(),
            ))
        })
    }

    pub(crate) fn checked(
        &self,
        mut partitions: impl Iterator<Item = Partition>,
    ) -> Result<(), LogError> {
        let count = self.publishers.len();
        match partitions.find(|partition| partition.index() >= count) {
            Some(partition) => Err(no_such(partition)),
            None => Ok(()),
        }
    }
}

fn no_such(partition: Partition) -> LogError {
    LogError::Refused(format!("there is no partition {}", partition.0))
}

fn at_most(drafts: usize) -> Result<(), LogError> {
    if drafts > DRAFTS_PER_APPEND_MAX {
        return Err(LogError::Refused(format!(
            "{drafts} drafts in one append, at most {DRAFTS_PER_APPEND_MAX} are taken"
        )));
    }
    Ok(())
}

fn ended() -> LogError {
    LogError::Unavailable("the log is closing".to_owned())
}

impl EventLog for RedisLog {
    fn partitions(&self) -> Partitions {
        self.settings.partitions
    }

    fn retention(&self) -> Duration {
        Duration::from_millis(self.settings.retention_ms)
    }

    fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        Box::pin(self.queue(partition, drafts))
    }

    fn flash(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            at_most(drafts.len())?;
            check_flash(&drafts)?;
            if drafts.is_empty() {
                return Ok(());
            }
            self.recording.flash(partition, &drafts).await
        })
    }

    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        let topic = topic.clone();
        Box::pin(async move {
            self.checked(std::iter::once(topic.partition))?;
            self.reading.read(&topic, from, limit).await
        })
    }

    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>> {
        Box::pin(async move {
            self.checked(places.iter().map(|(placed, _)| placed.partition))?;
            self.reading.judge(places).await
        })
    }

    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>> {
        Box::pin(async move {
            self.checked(topics.iter().map(|placed| placed.partition))?;
            self.reading.heads(topics).await
        })
    }

    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            self.reading.fill(partition, limit).await
        })
    }

    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail> {
        let topology = &self.reading.topology;
        let places = from.into_iter().chain(std::iter::repeat(EventId::ORIGIN));
        let followed = self
            .settings
            .partitions
            .all()
            .zip(places)
            .map(|(partition, place)| Followed::new(&self.settings.keys, partition, place));
        let groups: Vec<Vec<Followed>> = if topology.is_cluster() {
            followed.map(|one| vec![one]).collect()
        } else {
            vec![followed.collect()]
        };
        let (signals, steps) = mpsc::channel(STEPS);
        let mut readers = JoinSet::new();
        for (number, followed) in groups.into_iter().enumerate() {
            let reader = Reader {
                topology: topology.clone(),
                clock: self.reading.clock.clone(),
                retention_ms: self.settings.retention_ms,
                settings: self.settings.clone(),
                block: self.block,
                capped: self.capped,
                followed,
                number,
                signals: signals.clone(),
                count: Reader::COUNT_START,
            };
            readers.spawn(reader.run());
        }
        Box::new(RedisTail::new(
            steps,
            readers,
            topology.linking.metrics.clone(),
        ))
    }

    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.checked(std::iter::once(partition))?;
            self.reading.trim(partition).await
        })
    }

    fn settle(
        &self,
        events: Vec<(Partition, EventId)>,
        want: Durability,
        patience: Duration,
    ) -> BoxFuture<'_, Settled> {
        Box::pin(async move {
            let partitions = events.iter().map(|(partition, _)| *partition);
            match self.checked(partitions) {
                Ok(()) => self.settler.settle(events, want, patience).await,
                Err(_) => Settled::STORED,
            }
        })
    }

    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(self.reading.time_ms())
    }

    fn records(&self) -> &dyn Records {
        self
    }
}
