//! Whose records are: leases of incarnations, what each of them owns, and what was lost with one
//! (LOG.md §7).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tidings_core::record::TOMBSTONE;
use tidings_core::{Beat, IncarnationId, Orphan, RecordKey};

use super::millis;

/// A node's share in the set, the map's slot, and their pointers.
const OWNED_FIXED: usize = 256;

#[derive(Debug, Clone, Default)]
pub(super) struct Owners {
    /// Until when each incarnation holds its lease, unless it beats again: until this millisecond,
    /// not at it.
    leases: BTreeMap<IncarnationId, u64>,
    /// Who was reaped or has left, and until when that is known.
    tombs: BTreeMap<IncarnationId, u64>,
    /// By owner; one that is in `leases` has not lost them.
    owned: BTreeMap<IncarnationId, BTreeSet<RecordKey>>,
    /// The same by record, whether it is there or not.
    owners: HashMap<RecordKey, IncarnationId>,
    bytes: usize,
}

impl Owners {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn weigh(key: &RecordKey) -> usize {
        OWNED_FIXED + key.id.len()
    }

    pub(super) fn beat(&mut self, who: IncarnationId, now_ms: u64, lease_ms: u64) -> Beat {
        // What is left of one whose tombstone has gone is as lost as before.
        let lost = || self.owned.contains_key(&who) && !self.leases.contains_key(&who);
        if self.tombs.get(&who).is_some_and(|end_ms| now_ms < *end_ms) || lost() {
            return Beat::Reaped;
        }
        self.leases.insert(who, now_ms.saturating_add(lease_ms));
        Beat::Held
    }

    /// Ends a lease, if there is one; it is not taken again.
    pub(super) fn reap(&mut self, who: IncarnationId, now_ms: u64) {
        self.leases.remove(&who);
        let end_ms = now_ms.saturating_add(millis(TOMBSTONE));
        self.tombs.insert(who, end_ms);
    }

    pub(super) fn holds(&self, who: IncarnationId) -> bool {
        self.leases.contains_key(&who)
    }

    pub(super) fn is_orphan(&self, orphan: &Orphan) -> bool {
        self.owners.get(&orphan.record) == Some(&orphan.incarnation)
            && !self.holds(orphan.incarnation)
    }

    /// Makes a record somebody's, or nobody's.
    pub(super) fn set(&mut self, key: &RecordKey, owner: Option<IncarnationId>) {
        if let Some(before) = self.owners.remove(key) {
            self.bytes -= Self::weigh(key);
            if let Some(owned) = self.owned.get_mut(&before) {
                owned.remove(key);
                if owned.is_empty() {
                    self.owned.remove(&before);
                }
            }
        }
        if let Some(owner) = owner {
            self.bytes += Self::weigh(key);
            self.owners.insert(key.clone(), owner);
            self.owned.entry(owner).or_default().insert(key.clone());
        }
    }

    /// Reaps whoever's lease has ended, and says what of these kinds was lost.
    pub(super) fn orphans(&mut self, kinds: &[Arc<str>], limit: usize, now_ms: u64) -> Vec<Orphan> {
        let leases = self.leases.iter();
        let ended = leases.filter(|(_, end_ms)| **end_ms <= now_ms);
        let ended: Vec<IncarnationId> = ended.map(|(who, _)| *who).collect();
        for who in ended {
            self.reap(who, now_ms);
        }
        self.tombs.retain(|_, end_ms| now_ms < *end_ms);
        let lost = self.owned.iter().filter(|(who, _)| !self.holds(**who));
        lost.flat_map(|(who, owned)| owned.iter().map(|key| (*who, key)))
            .filter(|(_, key)| kinds.contains(&key.kind))
            .take(limit)
            .map(|(incarnation, key)| Orphan {
                incarnation,
                record: key.clone(),
            })
            .collect()
    }
}
