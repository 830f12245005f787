//! What the log on Redis shows of itself, all under `tidings_redis_`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

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
    pub(crate) script_reloads: IntCounter,
    /// Batches sent again because their answer was lost.
    pub(crate) append_retries: IntCounter,
    /// Batches given up without knowing whether they were stored.
    pub(crate) append_unknown: IntCounter,
    /// Drafts per script call; its count is the number of batches.
    pub(crate) append_batch: Histogram,
    /// Redis' clock minus this instance's.
    pub(crate) clock_skew_ms: IntGauge,
    /// Events that trimming once a second found to take away.
    pub(crate) trimmed: IntCounter,
    /// Entries in a log's stream that no hub wrote.
    pub(crate) strange_entries: IntCounter,
    /// Entries drained from direct ingest: taken, refused.
    pub(crate) ingested: IntCounterVec,
}

impl Metrics {
    /// Registers everything; fails when another log is in the same registry.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(full(name), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(full(name), help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(full(name), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let append_batch = Histogram::with_opts(
            HistogramOpts::new(full("append_batch_drafts"), "Drafts per append script call")
                .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]),
        )?;
        registry.register(Box::new(append_batch.clone()))?;
        Ok(Self {
            connects: counters(
                "connects_total",
                "Connections made, by kind of link",
                "link",
            )?,
            resolutions: counter("resolutions_total", "Look-ups of which nodes are masters")?,
            tail_up: gauge("tail_up", "1 while every reader of the tail has its link")?,
            tail_verdicts: counters(
                "tail_verdicts_total",
                "What the tail was told about its own places",
                "verdict",
            )?,
            script_reloads: counter(
                "script_reloads_total",
                "Scripts the server had to be told again",
            )?,
            append_retries: counter(
                "append_retries_total",
                "Batches sent again, their answer being lost",
            )?,
            append_unknown: counter(
                "append_unknown_total",
                "Batches given up with their fate unknown",
            )?,
            append_batch,
            clock_skew_ms: gauge("clock_skew_ms", "Redis' clock minus this instance's, in ms")?,
            trimmed: counter(
                "trimmed_total",
                "Events taken away by the trimming once a second",
            )?,
            strange_entries: counter("strange_entries_total", "Stream entries that no hub wrote")?,
            ingested: counters(
                "ingested_total",
                "Entries drained from direct ingest",
                "outcome",
            )?,
        })
    }

    pub(crate) fn connected(&self, link: &str) {
        self.connects.with_label_values(&[link]).inc();
    }
}

fn full(name: &str) -> String {
    format!("tidings_redis_{name}")
}
