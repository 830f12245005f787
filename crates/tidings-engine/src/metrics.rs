//! What the engine counts. Names follow the words of the design.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use tidings_core::{Durability, LogError, Outcome, Verdict};

/// Why drafts are not stored, as the metric's label says it.
const CAUSES: [&str; 5] = [
    "unavailable",
    "full",
    "fate-unknown",
    "refused",
    "misconfigured",
];

/// Directions of the path that a probe can find broken.
const DIRECTIONS: [&str; 2] = ["append", "tail"];

/// Why readers are closed for being too slow, as the metric's label says it.
const SLOWNESS: [&str; 2] = ["unwritten", "stalled"];

/// Seconds: a tail on one machine takes less than a millisecond, and beyond a minute the instance
/// has not been ready for long.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// How a reader was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// Its session sent more than may wait for it.
    Unwritten,
    /// It took nothing for too long.
    Stalled,
}

/// Counters and gauges of one hub.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) appends: IntCounterVec,
    pub(crate) append_failures: IntCounterVec,
    pub(crate) settles: IntCounterVec,
    pub(crate) deliveries: IntCounter,
    pub(crate) verdicts: IntCounterVec,
    pub(crate) log_reads: IntCounter,
    pub(crate) readers: IntGaugeVec,
    pub(crate) readers_behind: IntGauge,
    pub(crate) slow_readers: IntCounterVec,
    pub(crate) window_bytes: IntGauge,
    pub(crate) window_events: IntGauge,
    pub(crate) tail_up: IntGauge,
    pub(crate) tail_lag: Histogram,
    pub(crate) tail_events: IntCounter,
    pub(crate) flash_events: IntCounter,
    pub(crate) flash_deliveries: IntCounter,
    pub(crate) tail_rewinds: IntCounter,
    pub(crate) tail_skips: IntCounter,
    pub(crate) clock_skew_ms: IntGauge,
    pub(crate) probe_up: IntGauge,
    pub(crate) probe_seconds: Histogram,
    pub(crate) probe_failures: IntCounterVec,
}

impl Metrics {
    /// Makes them and registers them.
    ///
    /// # Errors
    /// When the registry has some of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            appends: labelled(
                "tidings_appends_total",
                "drafts answered as stored, by outcome",
                "outcome",
            )?,
            append_failures: labelled(
                "tidings_append_failures_total",
                "drafts not stored, by cause",
                "cause",
            )?,
            settles: IntCounterVec::new(
                Opts::new(
                    "tidings_settles_total",
                    "publishes that wanted more than being stored, by what they wanted and what was reached",
                ),
                &["wanted", "reached"],
            )?,
            deliveries: IntCounter::new(
                "tidings_deliveries_total",
                "events handed to connections",
            )?,
            verdicts: labelled(
                "tidings_verdicts_total",
                "verdicts on cursors, by kind",
                "verdict",
            )?,
            log_reads: IntCounter::new(
                "tidings_log_reads_total",
                "pages read from the log for readers behind the window",
            )?,
            readers: IntGaugeVec::new(
                Opts::new("tidings_readers", "connections that read, by adapter"),
                &["adapter"],
            )?,
            readers_behind: IntGauge::new(
                "tidings_readers_behind",
                "readers behind the window that wait for a page from the log",
            )?,
            slow_readers: labelled(
                "tidings_slow_readers_total",
                "connections closed because they did not keep up, by how",
                "how",
            )?,
            window_bytes: IntGauge::new(
                "tidings_window_bytes",
                "bytes of events held in the window",
            )?,
            window_events: IntGauge::new("tidings_window_events", "events held in the window")?,
            tail_up: IntGauge::new("tidings_tail_up", "1 while the tail follows the log")?,
            tail_lag: seconds(
                "tidings_tail_lag_seconds",
                "age of the oldest event of each read of the tail when it entered the window",
            )?,
            flash_events: IntCounter::new(
                "tidings_flash_events_total",
                "flash events handed to the log",
            )?,
            flash_deliveries: IntCounter::new(
                "tidings_flash_deliveries_total",
                "flash events handed to connections",
            )?,
            tail_events: IntCounter::new("tidings_tail_events_total", "events seen by the tail")?,
            tail_rewinds: IntCounter::new(
                "tidings_tail_rewinds_total",
                "times the log had lost a suffix that was already handed out",
            )?,
            tail_skips: IntCounter::new(
                "tidings_tail_skips_total",
                "times the tail was away for longer than the retention",
            )?,
            clock_skew_ms: IntGauge::new(
                "tidings_clock_skew_milliseconds",
                "this instance's clock minus the log's",
            )?,
            probe_up: IntGauge::new(
                "tidings_probe_up",
                "1 while the instance's own probe comes back through the log",
            )?,
            probe_seconds: seconds(
                "tidings_probe_seconds",
                "from a probe's append to its return through the tail",
            )?,
            probe_failures: labelled(
                "tidings_probe_failures_total",
                "probes that did not come back, by the direction that is broken",
                "direction",
            )?,
        };
        // Every row from the start: a rate over a series that does not exist yet is no zero.
        for outcome in [Outcome::New, Outcome::Retried, Outcome::Duplicate] {
            metrics.appended(outcome, 0);
        }
        for cause in CAUSES {
            metrics.append_failures.with_label_values(&[cause]);
        }
        for wanted in [Durability::Replicated, Durability::Fsynced] {
            for reached in Durability::ALL {
                // Nobody is told of the disk who asked for replicas.
                if reached != Durability::Fsynced || wanted == reached {
                    let labels = [wanted.as_str(), reached.as_str()];
                    metrics.settles.with_label_values(&labels);
                }
            }
        }
        for verdict in [
            Verdict::Ok,
            Verdict::Expired,
            Verdict::Diverged,
            Verdict::Ahead,
        ] {
            metrics.verdicts.with_label_values(&[verdict.as_str()]);
        }
        for direction in DIRECTIONS {
            metrics.probe_failures.with_label_values(&[direction]);
        }
        for how in SLOWNESS {
            metrics.slow_readers.with_label_values(&[how]);
        }
        for collector in metrics.collectors() {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.appends.clone()),
            Box::new(self.append_failures.clone()),
            Box::new(self.settles.clone()),
            Box::new(self.deliveries.clone()),
            Box::new(self.verdicts.clone()),
            Box::new(self.log_reads.clone()),
            Box::new(self.readers.clone()),
            Box::new(self.readers_behind.clone()),
            Box::new(self.slow_readers.clone()),
            Box::new(self.window_bytes.clone()),
            Box::new(self.window_events.clone()),
            Box::new(self.tail_up.clone()),
            Box::new(self.tail_lag.clone()),
            Box::new(self.tail_events.clone()),
            Box::new(self.flash_events.clone()),
            Box::new(self.flash_deliveries.clone()),
            Box::new(self.tail_rewinds.clone()),
            Box::new(self.tail_skips.clone()),
            Box::new(self.clock_skew_ms.clone()),
            Box::new(self.probe_up.clone()),
            Box::new(self.probe_seconds.clone()),
            Box::new(self.probe_failures.clone()),
        ]
    }

    /// Counts drafts answered as stored.
    pub(crate) fn appended(&self, outcome: Outcome, drafts: u64) {
        let outcome = match outcome {
            Outcome::New => "new",
            Outcome::Retried => "retried",
            Outcome::Duplicate => "duplicate",
        };
        self.appends.with_label_values(&[outcome]).inc_by(drafts);
    }

    /// Counts drafts that were not stored.
    pub(crate) fn failed(&self, error: &LogError, drafts: usize) {
        let [unavailable, full, unknown, refused, misconfigured] = CAUSES;
        let cause = match error {
            LogError::Unavailable(_) => unavailable,
            LogError::Full(_) => full,
            LogError::FateUnknown(_) => unknown,
            LogError::Refused(_) => refused,
            LogError::Misconfigured(_) => misconfigured,
        };
        self.append_failures
            .with_label_values(&[cause])
            .inc_by(drafts as u64);
    }

    /// Counts a reader that was closed for being too slow.
    pub(crate) fn slow(&self, slow: Slow) {
        let [unwritten, stalled] = SLOWNESS;
        let how = match slow {
            Slow::Unwritten => unwritten,
            Slow::Stalled => stalled,
        };
        self.slow_readers.with_label_values(&[how]).inc();
    }

    /// Counts one publish that wanted more than being stored.
    pub(crate) fn settled(&self, wanted: Durability, reached: Durability) {
        let labels = [wanted.as_str(), reached.as_str()];
        self.settles.with_label_values(&labels).inc();
    }

    pub(crate) fn verdict(&self, verdict: Verdict) {
        self.verdicts.with_label_values(&[verdict.as_str()]).inc();
    }
}

fn seconds(name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))
}

fn labelled(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), &[label])
}
