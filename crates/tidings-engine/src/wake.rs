//! Waking a connection: a flag and a bell. Ringing twice costs what ringing once does.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// One connection's bell.
#[derive(Debug, Default)]
pub struct Wake {
    rung: AtomicBool,
    bell: Notify,
}

impl Wake {
    /// Rings. A connection that has not looked since the last ring is not rung again.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Waits until somebody has rung since the last wait ended. Cancel-safe: a ring that nobody
    /// took is still there.
    pub async fn wait(&self) {
        while !self.rung.swap(false, Ordering::AcqRel) {
            self.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_before_the_wait_is_not_missed_and_counts_once() {
        let wake = Wake::default();
        wake.ring();
        wake.ring();
        wake.wait().await;
        let again = tokio::time::timeout(std::time::Duration::from_millis(20), wake.wait()).await;
        assert!(again.is_err(), "rung once, woken once");
        wake.ring();
        wake.wait().await;
    }
}
