//! The instance's own probe: a tiny event, appended every few seconds, that must come back through
//! the tail. Nothing else proves both directions of the path at once (DESIGN.md §5.5).
//!
//! Probes stand under a root of the hub's own, which nobody else publishes to or subscribes to.
//! They take turns through the partitions, so that each is proved within a minute; one that fails
//! is tried until it works, so that an instance that has lost one node of a cluster does not say
//! "ready" between two turns. A probe costs the log about 150 bytes for the retention: at one every
//! two seconds, 270 KB for each instance.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_core::{Clock, Draft, EventId, EventLog, LogError, Partition, Topic};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::window::Window;

/// The root of the hub's own topics. Nobody else publishes to them or subscribes to them.
pub const OWN_ROOT: &str = "~tidings";

/// One topic for all instances and partitions: every instance waits for the ids of its own.
const TOPIC: &str = "~tidings/probe";

/// How much longer than planned a round of probing may take before its last result is too old:
/// what a busy machine's timers may be late.
const LATE: Duration = Duration::from_secs(1);

/// Whether a topic is one of the hub's own.
#[must_use]
pub fn is_own(topic: &Topic) -> bool {
    // One byte tells nearly all others apart.
    topic.as_str().starts_with('~') && topic.root() == OWN_ROOT
}

/// How the last probe went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// None has come back yet, or none was sent for too long.
    Pending,
    /// It came back.
    Back,
    /// It could not be appended: the log is out of reach, or full, or does not answer.
    AppendFails,
    /// It was appended, and the tail has not brought it.
    TailSilent,
}

impl Probe {
    /// The state's name in answers and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Back => "back",
            Self::AppendFails => "append-fails",
            Self::TailSilent => "tail-silent",
        }
    }
}

/// How probing stands, for readiness.
#[derive(Debug)]
pub(crate) struct ProbeState {
    /// A result that is older than this says nothing any more.
    valid: Duration,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    probe: Probe,
    at: Instant,
    /// When the last one came back, milliseconds since 1970; 0 when none has.
    back_ms: u64,
    /// How long the last one that came back was on its way.
    took: Duration,
}

impl ProbeState {
    pub(crate) fn new(limits: &Limits) -> Self {
        let last = Last {
            probe: Probe::Pending,
            at: Instant::now(),
            back_ms: 0,
            took: Duration::ZERO,
        };
        Self {
            valid: limits.probe_every + 2 * limits.probe_wait + LATE,
            last: Mutex::new(last),
        }
    }

    /// The last result, when one came back (milliseconds since 1970), and how long that one took.
    pub(crate) fn last(&self) -> (Probe, u64, Duration) {
        let last = self.last.lock();
        let probe = match last.probe {
            Probe::Back if last.at.elapsed() > self.valid => Probe::Pending,
            probe => probe,
        };
        (probe, last.back_ms, last.took)
    }
}

/// What the task works with.
#[derive(Debug)]
pub(crate) struct Prober {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) window: Arc<Window>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Arc<ProbeState>,
    /// Rung by the tail at every step, and by this task.
    pub(crate) progress: Arc<Notify>,
    pub(crate) metrics: Metrics,
    pub(crate) every: Duration,
    /// For the append, and again for the way back.
    pub(crate) wait: Duration,
}

/// Which direction of the path does not work.
enum Broken {
    Append(Option<LogError>),
    Tail,
}

impl Prober {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let Ok(topic) = Topic::parse(TOPIC) else {
            return; // not reached: the text above is a topic
        };
        self.filled().await;
        let count = u64::from(self.log.partitions().count());
        // Instances that start together begin at different partitions.
        let mut turn = self.clock.unix_ms();
        loop {
            // Below the count, which is a u16.
            let partition = Partition((turn % count) as u16);
            let began = Instant::now();
            match self.probe(partition, &topic).await {
                Ok(()) => {
                    turn += 1;
                    self.back(began.elapsed());
                }
                Err(broken) => self.broken(partition, &broken),
            }
            self.progress.notify_waiters();
            tokio::time::sleep(self.every).await;
        }
    }

    /// Until then the window has no place to come back to.
    async fn filled(&self) {
        loop {
            let progress = self.progress.notified();
            if self.window.is_filled() {
                return;
            }
            // The last fill is not announced; a short look again costs nothing.
            let _ = tokio::time::timeout(Duration::from_millis(5), progress).await;
        }
    }

    async fn probe(&self, partition: Partition, topic: &Topic) -> Result<(), Broken> {
        let draft = Draft::new(topic.clone(), "probe", "0");
        let append = self.log.append(partition, vec![draft]);
        let id = match tokio::time::timeout(self.wait, append).await {
            Ok(Ok(appended)) => appended.first().map_or(EventId::ORIGIN, |one| one.id),
            Ok(Err(error)) => return Err(Broken::Append(Some(error))),
            Err(_) => return Err(Broken::Append(None)),
        };
        let seen = async {
            loop {
                let progress = self.progress.notified();
                if self
                    .window
                    .level(partition)
                    .is_some_and(|level| level >= id)
                {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(self.wait, seen)
            .await
            .map_err(|_| Broken::Tail)
    }

    fn back(&self, took: Duration) {
        self.metrics.probe_up.set(1);
        self.metrics.probe_seconds.observe(took.as_secs_f64());
        let mut last = self.state.last.lock();
        if !matches!(last.probe, Probe::Back | Probe::Pending) {
            tracing::info!("the instance's probe comes back again");
        }
        *last = Last {
            probe: Probe::Back,
            at: Instant::now(),
            back_ms: self.clock.unix_ms(),
            took,
        };
    }

    fn broken(&self, partition: Partition, broken: &Broken) {
        let (probe, direction, why) = match broken {
            Broken::Append(Some(error)) => (Probe::AppendFails, "append", error.to_string()),
            Broken::Append(None) => {
                let why = format!("no answer in {:?}", self.wait);
                (Probe::AppendFails, "append", why)
            }
            Broken::Tail => {
                let why = format!("appended, and not seen in {:?}", self.wait);
                (Probe::TailSilent, "tail", why)
            }
        };
        self.metrics.probe_up.set(0);
        self.metrics
            .probe_failures
            .with_label_values(&[direction])
            .inc();
        let mut last = self.state.last.lock();
        if last.probe != probe {
            let partition = partition.0;
            tracing::warn!(partition, direction, %why, "the instance's probe does not come back; trying again");
        }
        last.probe = probe;
        last.at = Instant::now();
    }
}
