//! The publishers' keys that a partition remembers, each for its own lifetime (LOG.md §6).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use tidings_core::{Dedup, EventId};

/// Scope and key.
type Key = (Arc<str>, Arc<str>);

/// Keys with the ids they were first stored under.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: HashMap<Key, Known>,
    /// By end of lifetime. An entry whose key was renewed meanwhile is stale and skipped.
    ends: BinaryHeap<Reverse<(u64, Key)>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    id: EventId,
    /// Remembered before this millisecond, not at it.
    end_ms: u64,
}

/// The map's slot and the heap's entry with their four pointers, and half as much for growth.
const KEY_FIXED: usize = 192;

impl Keys {
    /// What a key weighs, in bytes.
    pub(crate) fn weight(dedup: &Dedup) -> usize {
        Self::weight_of(&dedup.scope, &dedup.key)
    }

    fn weight_of(scope: &str, key: &str) -> usize {
        KEY_FIXED + scope.len() + key.len()
    }

    /// The id under which this key was stored within its lifetime.
    pub(crate) fn get(&self, dedup: &Dedup, now_ms: u64) -> Option<EventId> {
        let key = (Arc::clone(&dedup.scope), Arc::clone(&dedup.key));
        let known = self.known.get(&key)?;
        (now_ms < known.end_ms).then_some(known.id)
    }

    /// Remembers a key that [`Keys::get`] did not know, and returns the bytes it added.
    pub(crate) fn insert(&mut self, dedup: Dedup, id: EventId, now_ms: u64) -> usize {
        let added = Self::weight(&dedup);
        let end_ms = now_ms.saturating_add(dedup.lifetime_ms);
        let key = (dedup.scope, dedup.key);
        self.ends.push(Reverse((end_ms, key.clone())));
        match self.known.insert(key, Known { id, end_ms }) {
            // Past its lifetime and not yet purged: the heap's stale entry is all that it adds.
            Some(_) => 0,
            None => added,
        }
    }

    /// Forgets at most `most` keys past their lifetime, and returns the bytes that they held.
    pub(crate) fn purge(&mut self, now_ms: u64, most: usize) -> usize {
        let mut freed = 0;
        for _ in 0..most {
            match self.ends.peek() {
                Some(Reverse((end_ms, _))) if *end_ms <= now_ms => {}
                _ => break,
            }
            let Some(Reverse((end_ms, key))) = self.ends.pop() else {
                break;
            };
            if self.known.get(&key).is_some_and(|k| k.end_ms == end_ms) {
                self.known.remove(&key);
                freed += Self::weight_of(&key.0, &key.1);
            }
        }
        freed
    }

    /// Forgets the keys of lost events (a scan: for fault injection alone), and returns the bytes
    /// that they held.
    pub(crate) fn lose_after(&mut self, last: EventId) -> usize {
        let mut freed = 0;
        self.known.retain(|(scope, key), known| {
            let kept = known.id <= last;
            if !kept {
                freed += Self::weight_of(scope, key);
            }
            kept
        });
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dedup(key: &str, lifetime_ms: u64) -> Dedup {
        Dedup {
            scope: "s".into(),
            key: key.into(),
            lifetime_ms,
        }
    }

    #[test]
    fn a_key_lives_for_its_lifetime_and_weighs_nothing_after() {
        let id = |ms| EventId::new(ms, 0).expect("in range");
        let mut keys = Keys::default();
        let mut bytes = keys.insert(dedup("a", 10), id(1), 100);
        bytes += keys.insert(dedup("b", 50), id(2), 100);
        assert_eq!(keys.get(&dedup("a", 10), 109), Some(id(1)));
        assert_eq!(keys.get(&dedup("a", 10), 110), None);
        // Renewed before it was purged: the old end must not take the new key with it.
        bytes += keys.insert(dedup("a", 10), id(3), 110);
        bytes -= keys.purge(115, usize::MAX);
        assert_eq!(keys.get(&dedup("a", 10), 115), Some(id(3)));
        bytes -= keys.purge(150, usize::MAX);
        assert_eq!(bytes, 0);
        assert!(keys.known.is_empty() && keys.ends.is_empty());
    }
}
