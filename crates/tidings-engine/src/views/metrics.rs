//! What is counted of views.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// Counters of one hub's views.
#[derive(Debug, Clone)]
pub(crate) struct ViewMetrics {
    computations: IntCounterVec,
    failures: IntCounterVec,
    changes: IntCounterVec,
    live: IntGaugeVec,
}

impl ViewMetrics {
    pub(crate) fn register(
        views: impl Iterator<Item = &'static str>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["view"]);
        let metrics = Self {
            computations: counter(
                "tidings_view_computations_total",
                "computations of views, by view",
            )?,
            failures: counter(
                "tidings_view_failures_total",
                "computations of views that came to nothing and are tried again, by view",
            )?,
            changes: counter(
                "tidings_view_changes_total",
                "computations of views that found another value, by view",
            )?,
            live: IntGaugeVec::new(
                Opts::new(
                    "tidings_views",
                    "views that are held or were a moment ago, by view",
                ),
                &["view"],
            )?,
        };
        // Every row from the start: a rate over a series that does not exist yet is no zero.
        for view in views {
            let counters = [&metrics.computations, &metrics.failures, &metrics.changes];
            for counter in counters {
                counter.with_label_values(&[view]);
            }
            metrics.live.with_label_values(&[view]);
        }
        registry.register(Box::new(metrics.computations.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.changes.clone()))?;
        registry.register(Box::new(metrics.live.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn computation(&self, view: &str) {
        self.computations.with_label_values(&[view]).inc();
    }

    pub(crate) fn failure(&self, view: &str) {
        self.failures.with_label_values(&[view]).inc();
    }

    pub(crate) fn change(&self, view: &str) {
        self.changes.with_label_values(&[view]).inc();
    }

    pub(crate) fn lives(&self, view: &str, by: i64) {
        self.live.with_label_values(&[view]).add(by);
    }
}
