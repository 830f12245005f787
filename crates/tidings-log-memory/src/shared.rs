//! What every handle on one log shares: the partitions, the bytes they hold together, and the bell
//! that wakes tails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidings_core::{Clock, LogError, Partition};
use tokio::sync::Notify;

use crate::MemoryOptions;
use crate::shelf::Shelf;

/// How many retentions a quiet topic's head is kept (LOG.md §3: 24 hours for one).
const HEAD_RETENTIONS: u64 = 24;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: MemoryOptions,
    clock: Arc<dyn Clock>,
    born_ms: u64,
    retention_ms: u64,
    bytes: AtomicUsize,
    slots: Box<[Slot]>,
    /// Rung after every change that a tail may want to see.
    pub(crate) bell: Notify,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Counts appends and losses, so that a tail need not lock what has not changed.
    pub(crate) version: AtomicU64,
    /// Held for one operation on one partition and never across an await.
    pub(crate) shelf: Mutex<Shelf>,
}

/// One reading of the clock and what follows from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now_ms: u64,
    /// The first millisecond whose events are retained.
    pub(crate) floor_ms: u64,
    /// The first millisecond whose heads are remembered.
    pub(crate) heads_ms: u64,
    /// Whether the log is younger than heads are kept, and so has forgotten none.
    pub(crate) young: bool,
}

/// What a change came to.
#[derive(Debug)]
pub(crate) struct Changed<T> {
    pub(crate) answer: T,
    /// The bytes it added, at most those that it was said to need.
    pub(crate) added: usize,
    /// The bytes it let go.
    pub(crate) freed: usize,
}

impl Shared {
    pub(crate) fn new(options: MemoryOptions, clock: Arc<dyn Clock>, seed: u64) -> Self {
        let slot = |p: Partition| Slot {
            version: AtomicU64::new(0),
            // Odd, so that neighbouring partitions draw from unrelated places of the generator.
            shelf: Mutex::new(Shelf::new(
                seed ^ u64::from(p.0).wrapping_mul(0xd134_2543_de82_ef95),
            )),
        };
        Self {
            options,
            born_ms: clock.unix_ms(),
            clock,
            retention_ms: u64::try_from(options.retention.as_millis()).unwrap_or(u64::MAX),
            bytes: AtomicUsize::new(0),
            slots: options.partitions.all().map(slot).collect(),
            bell: Notify::new(),
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        // Never before its birth: "nothing since the log was born" must stay true.
        let now_ms = self.clock.unix_ms().max(self.born_ms);
        let heads_kept_ms = self.retention_ms.saturating_mul(HEAD_RETENTIONS);
        Moment {
            now_ms,
            floor_ms: now_ms.saturating_sub(self.retention_ms),
            heads_ms: now_ms.saturating_sub(heads_kept_ms),
            young: now_ms.saturating_sub(self.born_ms) <= heads_kept_ms,
        }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// # Errors
    /// [`LogError::Refused`] when there is no such partition.
    pub(crate) fn slot(&self, partition: Partition) -> Result<&Slot, LogError> {
        self.slots.get(partition.index()).ok_or_else(|| {
            LogError::Refused(format!(
                "partition {} does not exist, there are {}",
                partition.0,
                self.slots.len()
            ))
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes bytes from the bound, if they are there.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let most = self.options.max_bytes;
        let taken = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most);
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    /// Takes bytes, whether they are there or not.
    pub(crate) fn hold(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Drops everything past its time from one partition.
    pub(crate) fn trim(&self, partition: Partition) -> Result<(), LogError> {
        let moment = self.moment();
        let freed = {
            let mut shelf = self.slot(partition)?.shelf.lock();
            let freed = shelf.trim(moment, usize::MAX);
            shelf.shrink();
            freed
        };
        self.release(freed);
        Ok(())
    }
}
