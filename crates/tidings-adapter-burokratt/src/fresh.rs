//! Readings that requests share without ever getting one that is older than their question.
//!
//! A view's value will not do for them: it is computed when the news of a change has come, some
//! milliseconds after the one who made it was answered, and up to 50 later while changes follow each
//! other. Who has claimed a chat and asks next, on any instance, sees it claimed. What is read and how
//! it is printed is the same for both.
//!
//! Each claim makes every widget that waits ask for its place at the same moment. Whoever asks while
//! a reading is under way waits for the next one, together with all others who do: at most two
//! readings per round trip, however many ask, and everybody sees what was written before he asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Hub, LogError};

use crate::answer::Refusal;
use crate::chat;
use crate::queue::{self, Line};

/// The lists that many ask for at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    active: Fresh<Result<Bytes, Arc<LogError>>>,
    line: Fresh<Result<Arc<Line>, Arc<LogError>>>,
}

impl Lists {
    /// [`chat::active`].
    ///
    /// # Errors
    /// [`Refusal::Away`].
    pub(crate) async fn active(&self, hub: &Hub) -> Result<Bytes, Refusal> {
        let read = async || chat::active(hub).await.map(Bytes::from).map_err(Arc::new);
        self.active.get(read).await.map_err(away)
    }

    /// [`queue::load`].
    ///
    /// # Errors
    /// [`Refusal::Away`].
    pub(crate) async fn line(&self, hub: &Hub) -> Result<Arc<Line>, Refusal> {
        let read = async || queue::load(hub).await.map(Arc::new).map_err(Arc::new);
        self.line.get(read).await.map_err(away)
    }
}

fn away(error: Arc<LogError>) -> Refusal {
    tracing::debug!(%error, "a list was not read");
    Refusal::Away
}

/// The last reading, and its number.
#[derive(Debug)]
struct Fresh<T> {
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
    async fn get(&self, read: impl AsyncFnOnce() -> T) -> T {
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
