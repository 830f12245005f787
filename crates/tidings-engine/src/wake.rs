//! Waking a connection: a flag and a bell. Ringing twice costs what ringing once does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// One connection's bell. One task at a time listens to it.
#[derive(Debug, Default)]
pub struct Wake {
    rung: AtomicBool,
    listener: AtomicWaker,
}

impl Wake {
    /// Rings. A connection that has not looked since the last ring is not rung again.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.listener.wake();
        }
    }

    /// Whether somebody has rung since this was last asked. To be asked before looking.
    pub(crate) fn take(&self) -> bool {
        // Most are asked again right after they were: that needs no exchange.
        self.rung.load(Ordering::Acquire) && self.rung.swap(false, Ordering::AcqRel)
    }

    /// Waits until there is a ring to take.
    pub(crate) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        self.listener.register(cx.waker());
        if self.rung.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_before_the_wait_is_not_missed_and_counts_once() {
        let wake = Wake::default();
        let rung = || std::future::poll_fn(|cx| wake.poll_rung(cx));
        wake.ring();
        wake.ring();
        rung().await;
        assert!(wake.take());
        assert!(!wake.take(), "rung once, woken once");
        let again = tokio::time::timeout(std::time::Duration::from_millis(20), rung()).await;
        assert!(again.is_err(), "nobody rang since");
        let (_, ()) = tokio::join!(rung(), async { wake.ring() });
        assert!(wake.take());
    }
}
