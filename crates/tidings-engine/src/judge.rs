//! Verdicts on places within or beyond the window: only the log declares `ahead` and `diverged`.
//!
//! A place beyond the window is probably just ahead of this instance's tail (its client came from
//! an instance that is quicker). So it waits, bounded, for the tail to reach it; then the log is
//! asked once for all who wait.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{EventId, EventLog, LogError, Placed, Verdict};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{JUDGED_AT_ONCE, Limits, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::metrics::Metrics;
use crate::window::Window;

/// Where connections ask for verdicts.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    waiting: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    topic: Placed,
    place: EventId,
    until: Instant,
    answer: oneshot::Sender<Verdict>,
}

/// What the judge's task works with.
#[derive(Debug)]
pub(crate) struct Court {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) window: Arc<Window>,
    /// Rung by the tail at every step.
    pub(crate) progress: Arc<Notify>,
    pub(crate) metrics: Metrics,
}

impl Judge {
    pub(crate) fn start(court: Court, stop: CancellationToken) -> (Self, impl Future<Output = ()>) {
        let (waiting, asked) = mpsc::channel(JUDGED_AT_ONCE);
        let task = async move {
            stop.run_until_cancelled(court.sit(asked)).await;
        };
        (Self { waiting }, task)
    }

    /// The verdict on a place. Waits for as long as the log is away; `None` when the hub ends.
    pub(crate) async fn verdict(
        &self,
        topic: Placed,
        place: EventId,
        limits: &Limits,
    ) -> Option<Verdict> {
        let (answer, verdict) = oneshot::channel();
        let until = Instant::now() + limits.tail_wait;
        self.waiting
            .send(Waiting {
                topic,
                place,
                until,
                answer,
            })
            .await
            .ok()?;
        verdict.await.ok()
    }
}

impl Court {
    async fn sit(self, mut asked: mpsc::Receiver<Waiting>) {
        let mut waiting: Vec<Waiting> = Vec::new();
        loop {
            let next = waiting.iter().map(|one| one.until).min();
            let progress = self.progress.notified();
            tokio::select! {
                received = asked.recv_many(&mut waiting, JUDGED_AT_ONCE), if waiting.len() < JUDGED_AT_ONCE => {
                    if received == 0 {
                        return;
                    }
                }
                () = progress, if next.is_some() => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            self.vouch(&mut waiting);
            let now = Instant::now();
            let ripe = |one: &mut Waiting| one.until <= now || self.is_inside(one);
            let due: Vec<Waiting> = waiting.extract_if(.., ripe).collect();
            if !due.is_empty() {
                self.ask(due).await;
            }
        }
    }

    /// Answers those whose place the tail has reached.
    fn vouch(&self, waiting: &mut Vec<Waiting>) {
        let vouched = |one: &mut Waiting| {
            self.window.with(one.topic.partition, |part| {
                part.is_filled() && part.vouches_for(one.place, 0)
            })
        };
        for one in waiting.extract_if(.., vouched) {
            self.answer(one, Verdict::Ok);
        }
    }

    /// Whether the tail has passed the place without meeting it.
    fn is_inside(&self, one: &Waiting) -> bool {
        self.window
            .level(one.topic.partition)
            .is_some_and(|level| one.place <= level)
    }

    async fn ask(&self, due: Vec<Waiting>) {
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let places = due
                .iter()
                .map(|one| (one.topic.clone(), one.place))
                .collect();
            match self.log.judge(places).await {
                Ok(verdicts) => {
                    for (one, verdict) in due.into_iter().zip(verdicts) {
                        self.answer(one, verdict);
                    }
                    return;
                }
                Err(error) => {
                    self.log_away(&error);
                    tokio::time::sleep(pause).await;
                    pause = Duration::min(pause * 2, RETRY_PAUSE_MAX);
                }
            }
        }
    }

    fn log_away(&self, error: &LogError) {
        tracing::debug!(%error, "the log could not be asked for verdicts; trying again");
    }

    fn answer(&self, one: Waiting, verdict: Verdict) {
        self.metrics.verdict(verdict);
        // Whoever asked may be gone; that is no loss.
        let _ = one.answer.send(verdict);
    }
}
