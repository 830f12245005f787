//! The tail: what its readers report, as one sequence of steps.

use tidings_core::{BoxFuture, Tail, TailStep};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::metrics::Metrics;
use crate::reader::Signal;

/// Steps on their way to a consumer. Few: each may hold a whole read, and readers wait until there
/// is room, so this and one read per reader is all that a slow consumer costs.
pub(crate) const STEPS: usize = 8;

/// A running tail. Dropping it ends its readers.
#[derive(Debug)]
pub(crate) struct RedisTail {
    signals: mpsc::Receiver<(usize, Signal)>,
    gathered: Gathered,
    metrics: Metrics,
    _readers: JoinSet<()>,
}

impl RedisTail {
    pub(crate) fn new(
        signals: mpsc::Receiver<(usize, Signal)>,
        readers: JoinSet<()>,
        metrics: Metrics,
    ) -> Self {
        Self {
            signals,
            gathered: Gathered::new(readers.len()),
            metrics,
            _readers: readers,
        }
    }
}

impl Tail for RedisTail {
    fn next(&mut self) -> BoxFuture<'_, TailStep> {
        Box::pin(async {
            loop {
                // Cancel-safe: what was received is gathered before the next await.
                let Some((reader, signal)) = self.signals.recv().await else {
                    // Readers end only when this is dropped, or by a defect.
                    if self.gathered.end() {
                        self.metrics.tail_up.set(0);
                        return TailStep::Down {
                            reason: "the tail's readers ended".to_owned(),
                        };
                    }
                    return std::future::pending().await;
                };
                let step = self.gathered.take(reader, signal);
                self.metrics.tail_up.set(i64::from(self.gathered.all_up()));
                if let Some(step) = step {
                    return step;
                }
            }
        })
    }
}

/// What is known of the readers together: the path works when all of them have theirs.
#[derive(Debug)]
struct Gathered {
    down: Vec<bool>,
    level: Vec<bool>,
    ended: bool,
}

impl Gathered {
    fn new(readers: usize) -> Self {
        Self {
            down: vec![false; readers],
            level: vec![false; readers],
            ended: false,
        }
    }

    fn take(&mut self, reader: usize, signal: Signal) -> Option<TailStep> {
        match signal {
            Signal::Step(step) => {
                if let TailStep::Events(..) = step {
                    self.level[reader] = false;
                }
                Some(step)
            }
            Signal::Level => {
                self.level[reader] = true;
                if !self.level.iter().all(|level| *level) {
                    return None;
                }
                self.level.fill(false);
                Some(TailStep::Level)
            }
            Signal::Down(reason) => {
                let first = self.all_up();
                self.down[reader] = true;
                self.level[reader] = false;
                first.then_some(TailStep::Down { reason })
            }
            Signal::Up => {
                self.down[reader] = false;
                self.all_up().then_some(TailStep::Up)
            }
        }
    }

    fn all_up(&self) -> bool {
        !self.down.contains(&true)
    }

    /// Whether the end of all readers was not told yet.
    fn end(&mut self) -> bool {
        !std::mem::replace(&mut self.ended, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_readers_are_told_as_one() {
        let mut gathered = Gathered::new(2);
        let reason = || "gone".to_owned();
        assert_eq!(gathered.take(0, Signal::Level), None);
        assert_eq!(gathered.take(1, Signal::Level), Some(TailStep::Level));
        assert_eq!(gathered.take(1, Signal::Level), None);
        assert_eq!(
            gathered.take(1, Signal::Down(reason())),
            Some(TailStep::Down { reason: reason() })
        );
        assert_eq!(gathered.take(0, Signal::Level), None);
        assert_eq!(gathered.take(0, Signal::Down(reason())), None);
        assert_eq!(gathered.take(1, Signal::Up), None);
        assert_eq!(gathered.take(0, Signal::Up), Some(TailStep::Up));
    }
}
