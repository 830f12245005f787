//! What is counted of records.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What becomes of commands and firings, as the metric's label says it.
const OUTCOMES: [&str; 8] = [
    "committed",
    "unchanged",
    "conflict",
    "gone",
    "fenced",
    "duplicate",
    "contended",
    "failed",
];

/// What becomes of outbox entries.
const DELIVERIES: [&str; 3] = ["delivered", "retried", "dropped"];

/// Counters of one hub's records.
#[derive(Debug, Clone)]
pub(crate) struct RecordMetrics {
    commits: IntCounterVec,
    deliveries: IntCounterVec,
    pub(crate) outbox: IntGauge,
    pub(crate) fenced: IntCounter,
}

impl RecordMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labelled =
            |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["outcome"]);
        let metrics = Self {
            commits: labelled(
                "tidings_commits_total",
                "tries to commit commands and deadlines, by outcome",
            )?,
            deliveries: labelled(
                "tidings_outbox_deliveries_total",
                "tries to deliver outbox entries, by outcome",
            )?,
            outbox: IntGauge::new(
                "tidings_outbox_entries",
                "outbox entries that wait, over all partitions",
            )?,
            fenced: IntCounter::new(
                "tidings_incarnations_fenced_total",
                "lives of this instance that others ended because it was not heard in time",
            )?,
        };
        // Every row from the start: a rate over a series that does not exist yet is no zero.
        for outcome in OUTCOMES {
            metrics.commits.with_label_values(&[outcome]);
        }
        for outcome in DELIVERIES {
            metrics.deliveries.with_label_values(&[outcome]);
        }
        registry.register(Box::new(metrics.commits.clone()))?;
        registry.register(Box::new(metrics.deliveries.clone()))?;
        registry.register(Box::new(metrics.outbox.clone()))?;
        registry.register(Box::new(metrics.fenced.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn commit(&self, outcome: &'static str) {
        self.commits.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn delivery(&self, outcome: &'static str) {
        self.deliveries.with_label_values(&[outcome]).inc();
    }
}
