//! A reading that requests share without ever getting one that is older than their question.
//!
//! Each claim makes every widget that waits ask for its place at the same moment. Whoever asks while
//! a reading is under way waits for the next one, together with all others who do: at most two
//! readings per round trip, however many ask, and everybody sees what was written before he asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// The last reading, and its number.
#[derive(Debug)]
pub(crate) struct Fresh<T> {
    started: AtomicU64,
    last: tokio::sync::Mutex<Option<(u64, T)>>,
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self {
            started: AtomicU64::new(0),
            last: tokio::sync::Mutex::new(None),
        }
    }
}

impl<T: Clone> Fresh<T> {
    /// A reading that began after this was called.
    pub(crate) async fn get(&self, read: impl AsyncFnOnce() -> T) -> T {
        let asked = self.started.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, value)) = &*last
            && *number > asked
        {
            return value.clone();
        }
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let value = read().await;
        *last = Some((number, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn who_asks_together_shares_and_nobody_gets_an_old_one() {
        let (fresh, gate) = (Arc::new(Fresh::default()), Arc::new(Semaphore::new(0)));
        let (readings, value) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
        let ask = || {
            let (fresh, gate, readings, value) =
                (fresh.clone(), gate.clone(), readings.clone(), value.clone());
            tokio::spawn(async move {
                fresh
                    .get(async || {
                        readings.fetch_add(1, Ordering::SeqCst);
                        let seen = value.load(Ordering::SeqCst);
                        gate.acquire().await.expect("open").forget();
                        seen
                    })
                    .await
            })
        };
        let first = ask();
        while readings.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        value.store(2, Ordering::SeqCst);
        let others: Vec<_> = (0..100).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(2);
        assert_eq!(first.await.expect("ran"), 1);
        for other in others {
            assert_eq!(other.await.expect("ran"), 2);
        }
        assert_eq!(readings.load(Ordering::SeqCst), 2);
    }
}
