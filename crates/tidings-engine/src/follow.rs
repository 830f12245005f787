//! The task that follows the log into the window: fills it backwards, then tails from its level.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidings_core::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use tidings_core::{Clock, EventId, EventLog, PageLimit, TailStep};
use tokio::sync::Notify;

use crate::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, SKEW_MAX_MS};
use crate::metrics::Metrics;
use crate::probe::is_own;
use crate::trace::Traces;
use crate::window::Window;

/// How the tail stands, for readiness.
#[derive(Debug, Default)]
pub(crate) struct TailState {
    up: AtomicBool,
    /// When the tail last proved itself, in milliseconds since 1970 by this instance's clock.
    proved_ms: AtomicU64,
    /// This instance's clock minus the log's, in milliseconds.
    skew_ms: AtomicI64,
    reason: Mutex<Option<String>>,
}

impl TailState {
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn is_skewed(&self) -> bool {
        self.skew_ms().unsigned_abs() > SKEW_MAX_MS
    }

    /// The log's time, milliseconds since 1970, as far as this instance knows it.
    pub(crate) fn log_ms(&self, clock: &dyn Clock) -> u64 {
        clock.unix_ms().saturating_add_signed(-self.skew_ms())
    }

    /// This instance's clock minus the log's, in milliseconds.
    pub(crate) fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn proved_ms(&self) -> u64 {
        self.proved_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }
}

/// What the task works with.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) window: Arc<Window>,
    pub(crate) window_bytes: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Arc<TailState>,
    pub(crate) progress: Arc<Notify>,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Arc<Traces>,
}

impl Follower {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let from = self.fill().await;
        let mut tail = self.log.tail(from);
        self.up();
        loop {
            let step = tail.next().await;
            self.take(step);
        }
    }

    /// Fills the window, so that a deploy's returning clients meet a full one (LOG.md §8).
    async fn fill(&self) -> Vec<EventId> {
        let partitions = self.log.partitions();
        let share = self.window_bytes / usize::from(partitions.count());
        let limit = PageLimit {
            events: usize::MAX,
            bytes: share.max(PAGE_BYTES_MAX / PAGE_EVENTS_MAX),
        };
        let mut levels = Vec::new();
        for partition in partitions.all() {
            let mut pause = RETRY_PAUSE_MIN;
            let filled = loop {
                match self.log.fill(partition, limit).await {
                    Ok(filled) => break filled,
                    Err(error) => {
                        self.down(format!("the window cannot be filled: {error}"));
                        tokio::time::sleep(pause).await;
                        pause = Duration::min(pause * 2, RETRY_PAUSE_MAX);
                    }
                }
            };
            levels.push(filled.level);
            self.window.fill(partition, filled);
        }
        levels
    }

    fn take(&self, step: TailStep) {
        match step {
            TailStep::Events(partition, events) => {
                let own = events.iter().filter(|one| is_own(&one.topic)).count();
                self.metrics.tail_events.inc_by((events.len() - own) as u64);
                // The oldest waited longest; by the log's own clock, so that skew is no lag.
                let oldest_ms = events.first().map_or(u64::MAX, |oldest| oldest.id.ms());
                let lag_ms = self.state.log_ms(&*self.clock).saturating_sub(oldest_ms);
                self.metrics.tail_lag.observe(lag_ms as f64 / 1000.0);
                // Before anybody can be handed them.
                self.traces.tailed(&events, self.state.skew_ms());
                self.window.extend(partition, events);
                self.proved();
            }
            TailStep::Flash(partition, events) => {
                self.window.flash(partition, events);
                self.proved();
                return; // nobody waits for a place to be reached by this
            }
            TailStep::Level => self.proved(),
            TailStep::Up => self.up(),
            TailStep::Down { reason } => self.down(reason),
            TailStep::Rewound { partition, common } => {
                tracing::warn!(partition = partition.0, %common, "the log lost events that were handed out; readers past them are reset");
                self.metrics.tail_rewinds.inc();
                self.window.rewind(partition, common);
            }
            TailStep::Skipped { partition, to } => {
                tracing::warn!(partition = partition.0, %to, "the tail was away for longer than the retention");
                self.metrics.tail_skips.inc();
                self.window.skip(partition, to);
            }
        }
        self.progress.notify_waiters();
    }

    fn proved(&self) {
        self.state
            .proved_ms
            .store(self.clock.unix_ms(), Ordering::Relaxed);
    }

    fn up(&self) {
        if !self.state.up.swap(true, Ordering::Relaxed) {
            tracing::info!("the tail follows the log");
        }
        *self.state.reason.lock() = None;
        self.metrics.tail_up.set(1);
        self.proved();
    }

    fn down(&self, reason: String) {
        if self.state.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(%reason, "the tail has lost the log; trying again");
        }
        *self.state.reason.lock() = Some(reason);
        self.metrics.tail_up.set(0);
    }
}

/// Once a second: trims the log, drops what is too old from the window, compares the clocks.
#[derive(Debug)]
pub(crate) struct Ticker {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) window: Arc<Window>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Arc<TailState>,
    pub(crate) metrics: Metrics,
}

impl Ticker {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = tokio::time::interval(crate::limits::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.window
                .expire(floor_ms(self.state.log_ms(&*self.clock), &*self.log));
            for partition in self.log.partitions().all() {
                if let Err(error) = self.log.trim(partition).await {
                    tracing::debug!(%error, "the log could not be trimmed; trying again");
                    break;
                }
            }
            if let Ok(log_ms) = self.log.time_ms().await {
                let here_ms = self.clock.unix_ms();
                let skew =
                    i64::try_from(here_ms).unwrap_or(i64::MAX) - i64::try_from(log_ms).unwrap_or(0);
                self.metrics.clock_skew_ms.set(skew);
                self.state.skew_ms.store(skew, Ordering::Relaxed);
            }
        }
    }
}

/// What was received before this time is not served; `log_ms` is the log's time.
pub(crate) fn floor_ms(log_ms: u64, log: &dyn EventLog) -> u64 {
    let retention = u64::try_from(log.retention().as_millis()).unwrap_or(u64::MAX);
    log_ms.saturating_sub(retention)
}
