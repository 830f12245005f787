//! Fault injection: the loss of a suffix, as in a failover to a replica that lagged.

use std::sync::atomic::Ordering;

use tidings_core::{EventId, LogError, Partition, Prev};

use crate::MemoryLog;
use crate::records::RecordShelf;
use crate::shelf::Shelf;

/// One partition's records as they were: what a replica has that is about to be cut off.
#[derive(Debug, Clone)]
pub struct RecordsCopy(RecordShelf);

impl MemoryLog {
    /// Fault injection: the partition forgets everything after a place, as a Redis does whose
    /// replica was promoted before it had caught up. Ids, heads, dedup keys and tails are those of
    /// such a failover; afterwards places beyond `after` are `ahead` or `diverged`, and tails that
    /// were past it are rewound. Exact when `after` is a retained event or
    /// [`EventId::ORIGIN`]; of topics whose head is beyond `after` but no longer retained, the
    /// head is forgotten.
    ///
    /// Records have no history, so they stay as they are: [`MemoryLog::lose_records`] makes them
    /// what they were.
    ///
    /// # Errors
    /// [`LogError::Refused`] when there is no such partition.
    pub fn lose_suffix(&self, partition: Partition, after: EventId) -> Result<(), LogError> {
        let slot = self.0.slot(partition)?;
        let freed = slot.shelf.lock().lose_suffix(after);
        self.0.release(freed);
        slot.version.fetch_add(1, Ordering::Release);
        self.0.bell.notify_waiters();
        Ok(())
    }

    /// For [`MemoryLog::lose_records`], later.
    ///
    /// # Errors
    /// [`LogError::Refused`] when there is no such partition.
    pub fn copy_records(&self, partition: Partition) -> Result<RecordsCopy, LogError> {
        let shelf = self.0.slot(partition)?.shelf.lock();
        Ok(RecordsCopy(shelf.records.clone()))
    }

    /// Fault injection: the partition's records, deadlines, outbox, commit results and versions
    /// become what they were, as at a replica that was promoted before it had caught up. Its events
    /// stay: [`MemoryLog::lose_suffix`].
    ///
    /// # Errors
    /// [`LogError::Refused`] when there is no such partition.
    pub fn lose_records(&self, partition: Partition, kept: RecordsCopy) -> Result<(), LogError> {
        let mut shelf = self.0.slot(partition)?.shelf.lock();
        self.0.hold(kept.0.bytes());
        let lost = std::mem::replace(&mut shelf.records, kept.0);
        self.0.release(lost.bytes());
        Ok(())
    }
}

impl Shelf {
    /// Forgets everything after a place, and returns the bytes it held. Scans the partition: it
    /// is for tests.
    pub(crate) fn lose_suffix(&mut self, after: EventId) -> usize {
        if self.last() <= after {
            return 0;
        }
        let mut freed = 0;
        while self.events.back().is_some_and(|event| event.id > after)
            && let Some(event) = self.events.pop_back()
        {
            freed += event.weight();
            let Some(state) = self.topics.get_mut(&event.topic) else {
                continue;
            };
            state.numbers.pop_back();
            match (state.numbers.back(), event.prev) {
                // Retained, or past its time and not dropped yet.
                (Some(number), _) => state.head = self.events[(number - self.base) as usize].id,
                (None, Prev::Event(id)) => {
                    state.head = id;
                    // Quiet again; the queue's order is restored below.
                    self.quiet.push_back((id, event.topic));
                }
                (None, Prev::NoneSince(_) | Prev::Unknown) => {
                    // What stood before that place had been forgotten, and stays so.
                    if let Prev::NoneSince(since) = event.prev {
                        self.forgotten = self.forgotten.max(since);
                    }
                    self.topics.remove(&event.topic);
                    freed += Self::topic_weight(&event.topic);
                }
            }
        }
        // Of a head that was dropped and is now lost as well, what stood before it is not known.
        let mut unknown = self.forgotten;
        self.topics.retain(|topic, state| {
            let kept = state.head <= after;
            if !kept {
                unknown = after;
                freed += Self::topic_weight(topic);
            }
            kept
        });
        self.forgotten = unknown.min(after);
        self.quiet.retain(|(head, _)| *head <= after);
        self.quiet.make_contiguous().sort();
        freed += self.keys.lose_after(after);

        self.dropped = self.dropped.min(after);
        let left = self.events.back().map_or(after, |event| event.id);
        self.ids.rewind(left);
        self.losses.push(left);
        freed
    }
}
