//! The memory log sits the exam that every log passes: with a clock in the hand of the test, which
//! jumps where others wait, and once more with the machine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::{BoxFuture, Clock, EventId, EventLog, PageLimit, Partition, Partitions};
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tidings_testkit::log_exam::{CASES, Features, ManualClock, Mark, Setup, Sitting, Subject};

tidings_testkit::log_exam!(Memory { manual: true });

/// Time really passes here, for all cases at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machines_clock_will_do() {
    let sit = |case: &'static tidings_testkit::log_exam::Case| {
        tokio::spawn(async move { (case.name, case.sit(&Memory { manual: false }).await) })
    };
    // The crowd would take the time that the others measure.
    let crowd = "eight_readers_against_eight_writers";
    let sittings: Vec<_> = CASES
        .iter()
        .filter(|case| case.name != crowd)
        .map(sit)
        .collect();
    for sitting in sittings {
        let (name, mark) = sitting.await.expect("cases catch their panics");
        assert!(!matches!(mark, Mark::Failed(_)), "{name}: {mark:?}");
    }
}

struct Memory {
    manual: bool,
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

struct Seat {
    log: MemoryLog,
    manual: Option<Arc<ManualClock>>,
    /// The last id of every partition at the cut.
    cut: parking_lot::Mutex<Vec<(Partition, EventId)>>,
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
                levels.push((partition, filled.level));
            }
            *self.cut.lock() = levels;
            Ok(())
        })
    }

    fn fall_back(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async {
            for (partition, level) in self.cut.lock().iter() {
                self.log.lose_suffix(*partition, *level)?;
            }
            Ok(())
        })
    }
}
