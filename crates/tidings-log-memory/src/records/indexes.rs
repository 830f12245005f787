//! Indexes: where records stand, by kind. Whoever removes a record takes it out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use tidings_core::{Rank, RecordKey};

/// The ranks of one record, by index.
pub(super) type Ranks = BTreeMap<Arc<str>, u64>;

/// A node's share in the set and in the record's own map, and their pointers.
const RANK_FIXED: usize = 224;

#[derive(Debug, Clone, Default)]
pub(super) struct Indexes {
    /// By kind.
    standing: HashMap<Arc<str>, BTreeSet<Standing>>,
    bytes: usize,
}

/// Index, rank, id.
type Standing = (Arc<str>, u64, Arc<str>);

impl Indexes {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn weigh(key: &RecordKey, index: &str) -> usize {
        RANK_FIXED + key.id.len() + index.len()
    }

    /// Puts a record with these ranks somewhere else in one index, or out of it.
    pub(super) fn set(
        &mut self,
        key: &RecordKey,
        ranks: &mut Ranks,
        index: Arc<str>,
        rank: Option<u64>,
    ) {
        if let Some(before) = ranks.remove(&index) {
            self.take(key, &index, before);
        }
        if let Some(rank) = rank {
            self.bytes += Self::weigh(key, &index);
            let standing = self.standing.entry(Arc::clone(&key.kind)).or_default();
            standing.insert((Arc::clone(&index), rank, Arc::clone(&key.id)));
            ranks.insert(index, rank);
        }
    }

    /// Takes a record with these ranks out of every index.
    pub(super) fn clear(&mut self, key: &RecordKey, ranks: &Ranks) {
        for (index, rank) in ranks {
            self.take(key, index, *rank);
        }
    }

    fn take(&mut self, key: &RecordKey, index: &Arc<str>, rank: u64) {
        self.bytes -= Self::weigh(key, index);
        if let Some(standing) = self.standing.get_mut(&key.kind) {
            standing.remove(&(Arc::clone(index), rank, Arc::clone(&key.id)));
            if standing.is_empty() {
                self.standing.remove(&key.kind);
            }
        }
    }

    /// What stands in an index behind a place, in order.
    pub(super) fn after(
        &self,
        kind: &Arc<str>,
        index: &Arc<str>,
        after: Option<Rank>,
    ) -> impl Iterator<Item = Rank> {
        let from = match after {
            Some(place) => Bound::Excluded((Arc::clone(index), place.rank, place.id)),
            None => Bound::Included((Arc::clone(index), 0, "".into())),
        };
        let standing = self.standing.get(kind);
        let behind = standing.map(|standing| standing.range((from, Bound::Unbounded)));
        let behind = behind.into_iter().flatten();
        behind
            .take_while(move |(one, ..)| one == index)
            .map(|(_, rank, id)| Rank {
                rank: *rank,
                id: Arc::clone(id),
            })
    }
}
