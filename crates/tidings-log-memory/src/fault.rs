//! Fault injection: the loss of a suffix, as in a failover to a replica that lagged.

use tidings_core::{EventId, Prev};

use crate::shelf::Shelf;

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
