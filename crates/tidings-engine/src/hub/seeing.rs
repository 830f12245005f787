//! What is shown of a hub: how it stands, what its handles count, who observes it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{IntGauge, IntGaugeVec};
use tidings_core::{Batch, Topic};

use super::Hub;
use crate::metrics::{Metrics, Slow};
use crate::probe::{Probe, is_own};
use crate::trace::Observer;

/// How the instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The window has been filled.
    pub filled: bool,
    /// The tail follows the log.
    pub tail_up: bool,
    /// When the tail last proved itself, milliseconds since 1970.
    pub tail_proved_ms: u64,
    /// This instance's clock and the log's are further apart than they may be.
    pub clock_skewed: bool,
    /// The instance is leaving.
    pub draining: bool,
    /// How the instance's last probe went: it must come back through the log.
    pub probe: Probe,
    /// When one last came back, milliseconds since 1970; 0 when none has.
    pub probe_at_ms: u64,
    /// How long that one was on its way, milliseconds.
    pub probe_ms: u64,
    /// Why the tail is down.
    pub reason: Option<String>,
}

impl Health {
    /// Whether clients should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let proved = self.filled && self.tail_up && self.probe == Probe::Back;
        proved && !self.clock_skewed && !self.draining
    }
}

/// What a handle counts under the name that it was given.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    all_readers: IntGaugeVec,
    readers: OnceLock<IntGauge>,
}

impl Named {
    pub(super) fn new(name: &'static str, metrics: &Metrics) -> Self {
        Self {
            name,
            all_readers: metrics.readers.clone(),
            readers: OnceLock::new(),
        }
    }

    /// Its row, which is there from the first reader on, or since the name was given.
    pub(crate) fn readers(&self) -> &IntGauge {
        self.readers
            .get_or_init(|| self.all_readers.with_label_values(&[self.name]))
    }
}

/// The name of a handle that was given none.
pub(super) const UNNAMED: &str = "hub";

impl Hub {
    /// This handle under a name: what is read through it counts as that adapter's.
    #[must_use]
    pub fn named(&self, name: &'static str) -> Self {
        let named = Named::new(name, &self.0.metrics);
        named.readers();
        Self(self.0.clone(), Arc::new(named))
    }

    /// Who observes this hub's spans; only the first one that is set counts.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.0.traces.observe(observer);
    }

    /// Who observes, if anybody does.
    #[must_use]
    pub fn observer(&self) -> Option<&Arc<dyn Observer>> {
        self.0.traces.observer()
    }

    /// Whether a topic is one of the hub's own, which nobody else publishes to or reads.
    #[must_use]
    pub fn is_own(topic: &Topic) -> bool {
        is_own(topic)
    }

    /// Counts a connection that is closed because it does not keep up.
    pub fn too_slow(&self, slow: Slow) {
        self.0.metrics.slow(slow);
    }

    /// How the instance stands.
    #[must_use]
    pub fn health(&self) -> Health {
        let (probe, probe_at_ms, took) = self.0.probe.last();
        Health {
            probe,
            probe_at_ms,
            probe_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            filled: self.0.window.is_filled(),
            tail_up: self.0.state.is_up(),
            tail_proved_ms: self.0.state.proved_ms(),
            clock_skewed: self.0.state.is_skewed(),
            draining: self.0.retired.load(Ordering::Relaxed) || self.0.draining.is_cancelled(),
            reason: self.0.state.reason(),
        }
    }

    /// Waits until the window is filled, the tail follows the log, and the instance's probe has come
    /// back through it.
    pub async fn ready(&self) {
        loop {
            let progress = self.0.progress.notified();
            let health = self.health();
            if health.filled && health.tail_up && health.probe == Probe::Back {
                return;
            }
            // The last fill is not announced; a short look again costs nothing.
            let _ = tokio::time::timeout(Duration::from_millis(20), progress).await;
        }
    }

    pub(crate) fn name(&self) -> &Named {
        &self.1
    }

    /// Counts and shows what was handed to a connection.
    pub(crate) fn delivered(&self, batch: &Batch) {
        self.0.metrics.deliveries.inc_by(batch.events.len() as u64);
        self.0.traces.delivered(batch, self.1.name);
    }
}
