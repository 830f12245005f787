//! The memory log as a subject of the exam.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::{BoxFuture, Clock, EventId, EventLog, PageLimit, Partition, Partitions};
use tidings_log_memory::{MemoryLog, MemoryOptions, RecordsCopy, SystemClock};
use tidings_testkit::log_exam::{Features, ManualClock, Setup, Sitting, Subject};

pub(crate) struct Memory {
    /// A clock in the hand of the test, or the machine's.
    pub(crate) manual: bool,
}

impl Subject for Memory {
    fn features(&self) -> Features {
        Features {
            bounded: true,
            loses: true,
            // Nothing survives the process.
            restarts: false,
        }
    }

    fn fresh(&self, setup: Setup) -> BoxFuture<'_, anyhow::Result<Arc<dyn Sitting>>> {
        /// Every log another seed.
        static SEED: AtomicU64 = AtomicU64::new(1);
        let partitions = Partitions::new(setup.partitions).expect("the exam asks for a few");
        let options = MemoryOptions {
            partitions,
            retention: setup.retention,
            max_bytes: setup.bytes.unwrap_or(MemoryOptions::MAX_BYTES),
            level_every: Duration::from_millis(50),
            relay_lease: setup.relay_lease,
        };
        let manual = self.manual.then(|| Arc::new(ManualClock::default()));
        let clock: Arc<dyn Clock> = match &manual {
            Some(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            None => Arc::new(SystemClock),
        };
        let log = MemoryLog::new(options, clock, SEED.fetch_add(1, Ordering::Relaxed));
        let cut = parking_lot::Mutex::new(Vec::new());
        Box::pin(async move { Ok(Arc::new(Seat { log, manual, cut }) as Arc<dyn Sitting>) })
    }
}

pub(crate) struct Seat {
    log: MemoryLog,
    manual: Option<Arc<ManualClock>>,
    /// The last id of every partition at the cut, and its records.
    cut: parking_lot::Mutex<Vec<(Partition, EventId, RecordsCopy)>>,
}

impl Sitting for Seat {
    fn instance(&self) -> BoxFuture<'_, anyhow::Result<Arc<dyn EventLog>>> {
        Box::pin(async { Ok(Arc::new(self.log.clone()) as Arc<dyn EventLog>) })
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            match &self.manual {
                Some(clock) => clock.advance(time),
                None => tokio::time::sleep(time).await,
            }
        })
    }

    fn cut(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async {
            let mut levels = Vec::new();
            for partition in self.log.partitions().all() {
                let filled = self.log.fill(partition, PageLimit::default()).await?;
                let records = self.log.copy_records(partition)?;
                levels.push((partition, filled.level, records));
            }
            *self.cut.lock() = levels;
            Ok(())
        })
    }

    fn fall_back(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async {
            for (partition, level, records) in self.cut.lock().iter() {
                self.log.lose_suffix(*partition, *level)?;
                self.log.lose_records(*partition, records.clone())?;
            }
            Ok(())
        })
    }
}
