//! The tail: follows every partition from a place, in id order, woken by the bell.
//!
//! Nothing can fail on the way, so `Down` and `Up` never happen here; `Rewound` and `Skipped` do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_core::{BoxFuture, EventId, PageLimit, Partition, Tail, TailStep};
use tokio::time::Instant;

use crate::reading::page;
use crate::shared::Shared;
use crate::shelf::Shelf;

#[derive(Debug)]
pub(crate) struct MemoryTail {
    shared: Arc<Shared>,
    places: Vec<Place>,
    /// The partition to look at first, so that a busy one does not hold up the others.
    turn: usize,
    /// When `Level` is due, if nothing comes before.
    level_at: Instant,
}

/// Where the tail stands in one partition.
#[derive(Debug)]
struct Place {
    at: EventId,
    /// The partition's version up to which nothing is left to hand out.
    seen: Option<u64>,
    /// How many of the partition's losses are known.
    losses: usize,
    /// The number of the next flash event.
    flash: u64,
}

impl MemoryTail {
    /// A partition for which no place is given is followed from its first event.
    pub(crate) fn new(shared: Arc<Shared>, from: Vec<EventId>) -> Self {
        let mut from = from.into_iter();
        let places = shared.slots().iter().map(|slot| {
            let shelf = slot.shelf.lock();
            Place {
                at: from.next().unwrap_or(EventId::ORIGIN),
                seen: None,
                losses: shelf.losses.len(),
                flash: shelf.flash.end(),
            }
        });
        Self {
            places: places.collect(),
            turn: 0,
            level_at: Instant::now() + shared.options.level_every,
            shared,
        }
    }

    /// The next step that is there already.
    fn ready(&mut self) -> Option<TailStep> {
        let slots = self.shared.slots();
        for offset in 0..slots.len() {
            let index = (self.turn + offset) % slots.len();
            let (slot, place) = (&slots[index], &mut self.places[index]);
            // Taken before the look, so that what comes after it is looked at again.
            let version = slot.version.load(Ordering::Acquire);
            if place.seen == Some(version) {
                continue;
            }
            // P is a u16.
            let partition = Partition(index as u16);
            let moment = self.shared.moment();
            let shelf = slot.shelf.lock();
            let first = shelf.first_retained(moment);
            match place.step(partition, &shelf, first) {
                Some(step) => {
                    self.turn = index + 1;
                    return Some(step);
                }
                None => place.seen = Some(version),
            }
        }
        None
    }
}

impl Place {
    fn step(&mut self, partition: Partition, shelf: &Shelf, first: usize) -> Option<TailStep> {
        // A place beyond the end, given at the start, is as lost as one that was handed out.
        let left = shelf.losses[self.losses..].iter().copied().min();
        let common = left.map_or(shelf.last(), |left| left.min(shelf.last()));
        self.losses = shelf.losses.len();
        if self.at > common && (left.is_some() || self.at > shelf.last()) {
            self.at = common;
            return Some(TailStep::Rewound { partition, common });
        }
        let gone = shelf.gone(first);
        if self.at < gone {
            self.at = gone;
            return Some(TailStep::Skipped {
                partition,
                to: gone,
            });
        }
        let mut rest = shelf.events.range(shelf.after(self.at)..).peekable();
        let events = page(&mut rest, PageLimit::default());
        if let Some(last) = events.last() {
            self.at = last.id;
            return Some(TailStep::Events(partition, events));
        }
        let flashed = shelf.flash.since(self.flash);
        self.flash = shelf.flash.end();
        (!flashed.is_empty()).then_some(TailStep::Flash(partition, flashed))
    }
}

impl Tail for MemoryTail {
    fn next(&mut self) -> BoxFuture<'_, TailStep> {
        Box::pin(async move {
            // Before the look: what was taken is returned without another wait.
            tokio::task::consume_budget().await;
            let shared = Arc::clone(&self.shared);
            loop {
                let rung = shared.bell.notified();
                tokio::pin!(rung);
                // From here on no ring is missed; only then is it safe to look.
                rung.as_mut().enable();
                let level_at = self.level_at;
                if let Some(step) = self.ready() {
                    self.level_at = Instant::now() + shared.options.level_every;
                    return step;
                }
                if Instant::now() >= level_at {
                    self.level_at = Instant::now() + shared.options.level_every;
                    return TailStep::Level;
                }
                tokio::select! {
                    () = rung => {}
                    () = tokio::time::sleep_until(level_at) => {}
                }
            }
        })
    }
}
