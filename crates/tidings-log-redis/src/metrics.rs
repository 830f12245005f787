//! What the log on Redis shows of itself, all under `tidings_redis_`.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Kinds of links. Those that a deployment has no use for stay at zero.
const LINKS: [&str; 7] = [
    "short", "append", "tail", "ingest", "settle", "sentinel", "topology",
];

/// What becomes of a commit.
const COMMITS: [&str; 10] = [
    "stored",
    "known",
    "conflict",
    "gone",
    "fenced",
    "duplicate",
    "full",
    "refused",
    "unavailable",
    "unknown",
];

/// The metrics of one log. Counters with labels are bound where they are used often.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Connections made, by kind of link: short, append, tail, ingest, sentinel, topology.
    pub(crate) connects: IntCounterVec,
    /// Look-ups of which node is the master.
    pub(crate) resolutions: IntCounter,
    /// 1 while every reader of the tail has its link.
    pub(crate) tail_up: IntGauge,
    /// What the tail found when it asked about its own place: ok, rewound, skipped.
    pub(crate) tail_verdicts: IntCounterVec,
    /// `SCRIPT LOAD`s: one per script and server at first, and again when a server was started anew.
    pub(crate) script_reloads: IntCounter,
    /// Batches sent again: their answer was lost, or the node could not take them.
    pub(crate) append_retries: IntCounter,
    /// Batches given up without knowing whether they were stored.
    pub(crate) append_unknown: IntCounter,
    /// Drafts per script call; its count is the number of batches.
    pub(crate) append_batch: Histogram,
    /// Commits, by what became of them.
    pub(crate) commits: IntCounterVec,
    /// Commits sent again: their answer was lost, or the node could not take them.
    pub(crate) commit_retries: IntCounter,
    /// Redis' clock minus this instance's.
    pub(crate) clock_skew_ms: IntGauge,
    /// Events that trimming once a second found to take away.
    pub(crate) trimmed: IntCounter,
    /// Entries in a log's stream that no hub wrote, or in an outbox that this version cannot read.
    pub(crate) strange_entries: IntCounter,
    /// Entries drained from direct ingest: taken, refused.
    pub(crate) ingested: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let append_batch =
            HistogramOpts::new(full("append_batch_drafts"), "Drafts per append script call")
                .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]);
        Self {
            connects: counters(
                "connects_total",
                "Connections made, by kind of link",
                "link",
            ),
            resolutions: counter("resolutions_total", "Look-ups of which nodes are masters"),
            tail_up: gauge("tail_up", "1 while every reader of the tail has its link"),
            tail_verdicts: counters(
                "tail_verdicts_total",
                "What the tail was told about its own places",
                "verdict",
            ),
            script_reloads: counter("script_reloads_total", "Scripts the server had forgotten"),
            append_retries: counter("append_retries_total", "Batches that were sent again"),
            append_unknown: counter(
                "append_unknown_total",
                "Batches given up with their fate unknown",
            ),
            append_batch: Histogram::with_opts(append_batch).expect(SOUND),
            commits: counters(
                "commits_total",
                "Commits of records, by what became of them",
                "outcome",
            ),
            commit_retries: counter("commit_retries_total", "Commits that were sent again"),
            clock_skew_ms: gauge("clock_skew_ms", "Redis' clock minus this instance's, in ms"),
            trimmed: counter(
                "trimmed_total",
                "Events taken away by trimming once a second",
            ),
            strange_entries: counter("strange_entries_total", "Stream entries that no hub wrote"),
            ingested: counters(
                "ingested_total",
                "Entries drained from direct ingest",
                "outcome",
            ),
        }
        .with_every_row()
    }

    /// Every row from the start: a rate over a series that does not exist yet is no zero.
    fn with_every_row(self) -> Self {
        for link in LINKS {
            self.connects.with_label_values(&[link]);
        }
        for verdict in ["ok", "rewound", "skipped"] {
            self.tail_verdicts.with_label_values(&[verdict]);
        }
        for outcome in COMMITS {
            self.commits.with_label_values(&[outcome]);
        }
        for outcome in ["taken", "refused"] {
            self.ingested.with_label_values(&[outcome]);
        }
        self
    }

    /// Shows everything in a registry; fails, and shows nothing, when another log is in it.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let all: [Box<dyn Collector>; 14] = [
            Box::new(self.connects.clone()),
            Box::new(self.resolutions.clone()),
            Box::new(self.tail_up.clone()),
            Box::new(self.tail_verdicts.clone()),
            Box::new(self.script_reloads.clone()),
            Box::new(self.append_retries.clone()),
            Box::new(self.append_unknown.clone()),
            Box::new(self.append_batch.clone()),
            Box::new(self.commits.clone()),
            Box::new(self.commit_retries.clone()),
            Box::new(self.clock_skew_ms.clone()),
            Box::new(self.trimmed.clone()),
            Box::new(self.strange_entries.clone()),
            Box::new(self.ingested.clone()),
        ];
        all.into_iter()
            .try_for_each(|metric| registry.register(metric))
    }

    pub(crate) fn connected(&self, link: &str) {
        self.connects.with_label_values(&[link]).inc();
    }
}

/// Names and labels are literals of this file.
const SOUND: &str = "the names here are valid";

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(full(name), help).expect(SOUND)
}

fn counters(name: &str, help: &str, label: &str) -> IntCounterVec {
    IntCounterVec::new(Opts::new(full(name), help), &[label]).expect(SOUND)
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(full(name), help).expect(SOUND)
}

fn full(name: &str) -> String {
    format!("tidings_redis_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_log_per_registry() {
        let registry = Registry::new();
        Metrics::new().register(&registry).expect("the first one");
        Metrics::new()
            .register(&registry)
            .expect_err("a second one");
        let shown = registry.gather();
        assert!(
            shown
                .iter()
                .all(|family| family.name().starts_with("tidings_redis_"))
        );
    }
}
