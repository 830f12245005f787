//! Appending: all drafts of a call or none, within the bound on bytes; the step in which a commit
//! happens as well.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use tidings_core::{Appended, Dedup, Draft, Event, EventId, LogError, Outcome, Partition, Prev};

use crate::dedup::Keys;
use crate::shared::{Changed, Moment, Shared, Slot};
use crate::shelf::Shelf;

/// What an append drops on its way, per draft: more than it adds, so that what lies past the
/// retention shrinks even if nobody trims, and few enough that no append waits for a burst of an
/// hour ago.
const TRIM_PER_DRAFT: usize = 4;

/// A draft as the event that it will be, still without its place, and its key.
pub(crate) type Entry = (Event, Option<Dedup>);

impl Shared {
    pub(crate) fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Appended>, LogError> {
        let slot = self.slot(partition)?;
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let entries: Vec<Entry> = drafts.into_iter().map(entry).collect();
        self.change(
            slot,
            entries.len(),
            entries.len(),
            entries,
            |entries, shelf, moment| ControlFlow::Continue(needed(shelf, entries, moment)),
            |entries, shelf, moment| {
                let (answer, added) = store(shelf, entries, moment);
                Changed {
                    answer,
                    added,
                    freed: 0,
                }
            },
        )
    }

    /// Hands flash events to the tails that are there.
    pub(crate) fn flash(&self, partition: Partition, drafts: Vec<Draft>) -> Result<(), LogError> {
        let slot = self.slot(partition)?;
        if drafts.is_empty() {
            return Ok(());
        }
        let events = flashes(drafts);
        let wakes = events.len();
        self.change(
            slot,
            0,
            wakes,
            events,
            |events, _, _| ControlFlow::Continue(events.iter().map(Event::weight).sum()),
            |events, shelf, moment| {
                let (added, freed) = flash(shelf, events, moment);
                Changed {
                    answer: (),
                    added,
                    freed,
                }
            },
        )
    }

    /// Changes one partition within the bound on bytes, in one step: `look` says what there is to
    /// answer without a change, or the most that the change adds, and `apply` makes it. Of `drafts`
    /// come events with ids; `wakes` is how many things tails have to look at.
    pub(crate) fn change<T, C>(
        &self,
        slot: &Slot,
        drafts: usize,
        wakes: usize,
        change: C,
        look: impl Fn(&C, &Shelf, Moment) -> ControlFlow<T, usize>,
        apply: impl FnOnce(C, &mut Shelf, Moment) -> Changed<T>,
    ) -> Result<T, LogError> {
        let mut cleared = false;
        let changed = loop {
            let moment = self.moment();
            let mut shelf = slot.shelf.lock();
            let freed = shelf.trim(moment, drafts.max(1) * TRIM_PER_DRAFT);
            self.release(freed);
            shelf.ids.room(moment.now_ms, drafts)?;
            let needed = match look(&change, &shelf, moment) {
                ControlFlow::Continue(needed) => needed,
                ControlFlow::Break(answer) => return Ok(answer),
            };
            if self.reserve(needed) {
                let changed = apply(change, &mut shelf, moment);
                self.release(needed.saturating_sub(changed.added) + changed.freed);
                if wakes > 0 {
                    slot.version.fetch_add(1, Ordering::Release);
                }
                break changed;
            }
            drop(shelf);
            if cleared || needed > self.options.max_bytes {
                return Err(self.full(needed));
            }
            self.clear(needed);
            cleared = true;
        };
        if wakes > 0 {
            self.bell.notify_waiters();
        }
        Ok(changed.answer)
    }

    /// Makes room: everything past its time in every partition, then, if that is enough, the
    /// oldest heads of quiet topics. A head forgotten early costs its readers a reload; an hour
    /// of refused publishes costs more.
    fn clear(&self, needed: usize) {
        let moment = self.moment();
        let mut heads = 0;
        for slot in self.slots() {
            let mut shelf = slot.shelf.lock();
            self.release(shelf.trim(moment, usize::MAX));
            heads += shelf.quiet_weight();
        }
        let over = |held: usize| held.saturating_add(needed) > self.options.max_bytes;
        if over(self.bytes().saturating_sub(heads)) {
            return;
        }
        for slot in self.slots() {
            let mut shelf = slot.shelf.lock();
            while over(self.bytes()) && !shelf.quiet.is_empty() {
                self.release(shelf.forget_head());
            }
        }
    }

    fn full(&self, needed: usize) -> LogError {
        let most = self.options.max_bytes;
        if needed > most {
            return LogError::Refused(format!(
                "this weighs {needed} bytes, the whole log holds {most}"
            ));
        }
        LogError::Full(format!(
            "{} of {most} bytes are held by records and the events of the last {:?}, {needed} more are needed",
            self.bytes(),
            self.options.retention
        ))
    }
}

pub(crate) fn entry(draft: Draft) -> Entry {
    let event = Event {
        id: EventId::ORIGIN,
        prev: Prev::Unknown,
        topic: draft.topic,
        kind: draft.kind,
        data: draft.data,
        attributes: draft.attributes,
    };
    (event, draft.dedup)
}

/// Drafts as the flash events that they will be.
pub(crate) fn flashes(drafts: Vec<Draft>) -> Vec<Event> {
    drafts.into_iter().map(|draft| entry(draft).0).collect()
}

/// Queues flash events for the tails; returns the bytes that this added and let go.
pub(crate) fn flash(shelf: &mut Shelf, events: Vec<Event>, moment: Moment) -> (usize, usize) {
    let (mut added, mut freed) = (0, 0);
    for event in events {
        added += event.weight();
        freed += shelf.flash.push(event, moment.now_ms);
    }
    (added, freed)
}

/// The most that these can add. Entries that share a new key or a new topic count each.
pub(crate) fn needed(shelf: &Shelf, entries: &[Entry], moment: Moment) -> usize {
    let weigh = |(event, dedup): &Entry| {
        let key = match dedup {
            Some(dedup) if shelf.keys.get(dedup, moment.now_ms).is_some() => return 0,
            Some(dedup) => Keys::weight(dedup),
            None => 0,
        };
        let topic = if shelf.topics.contains_key(&event.topic) {
            0
        } else {
            Shelf::topic_weight(&event.topic)
        };
        event.weight() + key + topic
    };
    entries.iter().map(weigh).sum()
}

/// Stores what is new, and returns with the answers the bytes it added.
pub(crate) fn store(
    shelf: &mut Shelf,
    entries: Vec<Entry>,
    moment: Moment,
) -> (Vec<Appended>, usize) {
    let mut used = 0;
    let store_one = |(event, dedup): Entry| {
        let known = dedup
            .as_ref()
            .and_then(|dedup| shelf.keys.get(dedup, moment.now_ms));
        if let Some(id) = known {
            return Appended {
                id,
                outcome: Outcome::Duplicate,
            };
        }
        used += shelf.push(event, moment);
        let id = shelf.last();
        if let Some(dedup) = dedup {
            used += shelf.keys.insert(dedup, id, moment.now_ms);
        }
        Appended {
            id,
            outcome: Outcome::New,
        }
    };
    let stored = entries.into_iter().map(store_one).collect();
    (stored, used)
}
