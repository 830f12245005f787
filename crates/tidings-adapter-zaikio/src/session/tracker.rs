//! What one connection has sent to a consumer that acks, and has heard no ack of.
//!
//! It is a memory of the connection, bounded, for redelivery while connected and for finding events by
//! their ids; what is owed for good stands in the consumer's record. It also knows, for every event,
//! the one of the same name before it: that is what lets acks join in the record.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::{EventId, Printed};
use uuid::Uuid;

use crate::consumer::{Ack, State};
use crate::event::id_of;

/// Un-acked events of one consumer that a connection remembers. A client that leaves more than that
/// un-acked gets the older ones again when it subscribes again, not before.
const OWED_MAX: usize = 4_096;

/// Acked events that are remembered, so that an ack that is repeated costs no search.
const RECENT_MAX: usize = 512;

/// One consumer's events on one connection.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    owed: BTreeMap<EventId, Owed>,
    by_id: HashMap<Uuid, EventId>,
    /// The last event of each name that was seen; without a gap since the consumer's settled place.
    last: HashMap<Arc<str>, EventId>,
}

/// An un-acked event.
struct Owed {
    event: Arc<dyn Printed>,
    /// No event of its name lies between this place and it.
    after: EventId,
    /// When it comes again, by the instance's uptime.
    due: Duration,
    /// How often it was sent again.
    times: u32,
}

impl fmt::Debug for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owed")
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

/// An event that was found by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: Arc<str>,
    pub(crate) id: EventId,
    pub(crate) after: EventId,
}

impl Found {
    /// An event of which is not known what stood before it.
    pub(crate) fn alone(name: Arc<str>, id: EventId) -> Self {
        Self {
            name,
            id,
            after: right_before(id),
        }
    }

    pub(crate) fn ack(&self) -> Ack {
        Ack {
            name: self.name.clone(),
            offset: self.id.as_integer(),
            after: self.after.as_integer(),
        }
    }
}

/// The place right before an id: nothing lies between the two, whatever the topic.
fn right_before(id: EventId) -> EventId {
    EventId::from_integer(id.as_integer().saturating_sub(1)).unwrap_or(EventId::ORIGIN)
}

impl Tracker {
    /// A name is followed from this place on; what lies before it is settled.
    pub(crate) fn follow(&mut self, name: &Arc<str>, settled_to: EventId) {
        let last = self.last.entry(name.clone()).or_insert(settled_to);
        *last = (*last).max(settled_to);
    }

    /// An event of a followed name was seen and needs nothing.
    pub(crate) fn pass(&mut self, name: &Arc<str>, id: EventId) {
        if let Some(last) = self.last.get_mut(name) {
            *last = (*last).max(id);
        }
    }

    /// An event was sent.
    pub(crate) fn sent(&mut self, event: &Arc<dyn Printed>, due: Duration) {
        let (id, name) = (event.event().id, &event.event().kind);
        if self.owed.contains_key(&id) {
            return; // to another subscription of the same consumer
        }
        let after = match self.last.get(name) {
            Some(last) if *last < id => *last,
            _ => right_before(id),
        };
        self.pass(name, id);
        if let Some(uuid) = id_of(&event.event().data) {
            self.by_id.insert(uuid, id);
        }
        let owed = Owed {
            event: event.clone(),
            after,
            due,
            times: 0,
        };
        self.owed.insert(id, owed);
        if self.owed.len() > OWED_MAX
            && let Some((_, oldest)) = self.owed.pop_first()
        {
            self.forget_id(&oldest);
        }
    }

    pub(crate) fn find(&self, uuid: &Uuid) -> Option<Found> {
        let id = *self.by_id.get(uuid)?;
        let owed = self.owed.get(&id)?;
        Some(Found {
            name: owed.event.event().kind.clone(),
            id,
            after: owed.after,
        })
    }

    pub(crate) fn acked(&mut self, id: EventId) {
        if let Some(gone) = self.owed.remove(&id) {
            self.forget_id(&gone);
        }
    }

    /// Everything of these names up to a place is acked.
    pub(crate) fn acked_to(&mut self, wants: impl Fn(&str) -> bool, to: EventId) {
        self.retain(|id, name| id > to || !wants(name));
    }

    /// Takes over what others have acked for the same consumer.
    pub(crate) fn learn(&mut self, state: &State) {
        self.retain(|id, name| !state.is_settled(name, id));
    }

    fn retain(&mut self, keeps: impl Fn(EventId, &str) -> bool) {
        let Self { owed, by_id, .. } = self;
        owed.retain(|id, owed| {
            let stays = keeps(*id, &owed.event.event().kind);
            if !stays && let Some(uuid) = id_of(&owed.event.event().data) {
                by_id.remove(&uuid);
            }
            stays
        });
    }

    fn forget_id(&mut self, gone: &Owed) {
        if let Some(uuid) = id_of(&gone.event.event().data) {
            self.by_id.remove(&uuid);
        }
    }

    /// When the next event comes again.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.owed.values().map(|owed| owed.due).min()
    }

    /// The oldest events that come again now, at most `max`; each is due again after a wait that
    /// doubles. What was received before `floor_ms` is not retained any more and is dropped.
    pub(crate) fn take_due(
        &mut self,
        now: Duration,
        floor_ms: u64,
        max: usize,
        wait: impl Fn(u32) -> Duration,
    ) -> Vec<Arc<dyn Printed>> {
        self.retain(|id, _| id.ms() >= floor_ms);
        let due = self.owed.values_mut().filter(|owed| owed.due <= now);
        due.take(max)
            .map(|owed| {
                owed.times = owed.times.saturating_add(1);
                owed.due = now + wait(owed.times);
                owed.event.clone()
            })
            .collect()
    }
}

/// Events that were acked or sent lately, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<(Uuid, Found)>);

impl Recent {
    pub(crate) fn remember(&mut self, uuid: Uuid, found: Found) {
        if self.0.len() >= RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((uuid, found));
    }

    pub(crate) fn find(&self, uuid: &Uuid) -> Option<Found> {
        let (_, found) = self.0.iter().rev().find(|(one, _)| one == uuid)?;
        Some(found.clone())
    }
}

/// A search for events by their ids, through a topic from its oldest retained event.
#[derive(Debug, Default)]
pub(crate) struct Search {
    wanted: std::collections::HashSet<Uuid>,
    found: HashMap<Uuid, Found>,
    last: HashMap<Arc<str>, EventId>,
}

impl Search {
    pub(crate) fn want(&mut self, uuid: Uuid) {
        self.wanted.insert(uuid);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.wanted.is_empty()
    }

    pub(crate) fn see(&mut self, event: &dyn Printed) {
        let event = event.event();
        if let Some(uuid) = id_of(&event.data)
            && self.wanted.remove(&uuid)
        {
            let last = self.last.get(&event.kind).copied();
            let found = Found {
                name: event.kind.clone(),
                id: event.id,
                after: last
                    .filter(|last| *last < event.id)
                    .unwrap_or(right_before(event.id)),
            };
            self.found.insert(uuid, found);
        }
        self.last.insert(event.kind.clone(), event.id);
    }

    pub(crate) fn find(&self, uuid: &Uuid) -> Option<Found> {
        self.found.get(uuid).cloned()
    }
}
