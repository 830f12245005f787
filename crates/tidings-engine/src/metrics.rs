//! What the engine counts. Names follow the words of the design.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};
use tidings_core::{LogError, Outcome, Verdict};

/// Why drafts are not stored, as the metric's label says it.
const CAUSES: [&str; 5] = [
    "unavailable",
    "full",
    "fate-unknown",
    "refused",
    "misconfigured",
];

/// Counters and gauges of one hub.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) appends: IntCounterVec,
    pub(crate) append_failures: IntCounterVec,
    pub(crate) deliveries: IntCounter,
    pub(crate) verdicts: IntCounterVec,
    pub(crate) log_reads: IntCounter,
    pub(crate) readers: IntGauge,
    pub(crate) window_bytes: IntGauge,
    pub(crate) window_events: IntGauge,
    pub(crate) tail_up: IntGauge,
    pub(crate) tail_lag_ms: IntGauge,
    pub(crate) tail_events: IntCounter,
    pub(crate) tail_rewinds: IntCounter,
    pub(crate) tail_skips: IntCounter,
    pub(crate) clock_skew_ms: IntGauge,
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
            readers: IntGauge::new("tidings_readers", "connections with subscriptions")?,
            window_bytes: IntGauge::new(
                "tidings_window_bytes",
                "bytes of events held in the window",
            )?,
            window_events: IntGauge::new("tidings_window_events", "events held in the window")?,
            tail_up: IntGauge::new("tidings_tail_up", "1 while the tail follows the log")?,
            tail_lag_ms: IntGauge::new(
                "tidings_tail_lag_milliseconds",
                "age of the newest event when the tail saw it",
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
        };
        // Every row from the start: a rate over a series that does not exist yet is no zero.
        for outcome in [Outcome::New, Outcome::Retried, Outcome::Duplicate] {
            metrics.appended(outcome, 0);
        }
        for cause in CAUSES {
            metrics.append_failures.with_label_values(&[cause]);
        }
        for verdict in [
            Verdict::Ok,
            Verdict::Expired,
            Verdict::Diverged,
            Verdict::Ahead,
        ] {
            metrics.verdicts.with_label_values(&[verdict.as_str()]);
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
            Box::new(self.deliveries.clone()),
            Box::new(self.verdicts.clone()),
            Box::new(self.log_reads.clone()),
            Box::new(self.readers.clone()),
            Box::new(self.window_bytes.clone()),
            Box::new(self.window_events.clone()),
            Box::new(self.tail_up.clone()),
            Box::new(self.tail_lag_ms.clone()),
            Box::new(self.tail_events.clone()),
            Box::new(self.tail_rewinds.clone()),
            Box::new(self.tail_skips.clone()),
            Box::new(self.clock_skew_ms.clone()),
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

    pub(crate) fn verdict(&self, verdict: Verdict) {
        self.verdicts.with_label_values(&[verdict.as_str()]).inc();
    }
}

fn labelled(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), &[label])
}
