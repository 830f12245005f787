//! What the tests of this crate share: a clock, logs on prefixes of their own, waiting.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tidings_core::{Clock, Draft, LogError, Partition, Partitions, Placed, Topic};
use tidings_log_redis::{RedisLog, RedisOptions};
use tidings_testkit::log_exam::{CASES, Case, Mark, Subject};

/// The machine's clock.
#[derive(Debug)]
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Options as tests want them: four partitions, and empty reads that come back soon.
pub(crate) fn options(url: impl Into<String>) -> RedisOptions {
    RedisOptions {
        partitions: Partitions::new(4).expect("4 is allowed"),
        block: Duration::from_millis(200),
        ..RedisOptions::new(url)
    }
}

pub(crate) async fn connect(options: RedisOptions) -> Result<RedisLog, LogError> {
    RedisLog::connect(
        options,
        Arc::new(MachineClock),
        &prometheus::Registry::new(),
    )
    .await
}

/// A prefix that nobody else uses.
pub(crate) fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn placed(partition: u16, name: &str) -> Placed {
    Placed {
        partition: Partition(partition),
        topic: Topic::parse(name).expect("a valid topic"),
    }
}

pub(crate) fn draft(name: &str, data: &str) -> Draft {
    Draft::new(
        Topic::parse(name).expect("a valid topic"),
        "test",
        data.to_owned(),
    )
}

/// Copies a directory of files, in place of what was there.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Sits every case at once, except the one whose crowd would take the others' time.
pub(crate) async fn sit_together(subject: Arc<dyn Subject>) {
    let crowd = |case: &&'static Case| case.name.contains("eight_readers");
    let sit = |case: &'static Case| {
        let subject = subject.clone();
        async move { (case.name, case.sit(&*subject).await) }
    };
    let together: Vec<_> = CASES
        .iter()
        .filter(|case| !crowd(case))
        .map(|case| tokio::spawn(sit(case)))
        .collect();
    let mut marks = Vec::new();
    for sitting in together {
        marks.push(sitting.await.expect("cases catch their panics"));
    }
    for case in CASES.iter().filter(crowd) {
        marks.push(sit(case).await);
    }
    let failed: Vec<_> = marks
        .iter()
        .filter(|(_, mark)| matches!(mark, Mark::Failed(_)))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

pub(crate) use tidings_testkit::servers::wait_for;
