//! One partition's records, deadlines and commit results: what a commit is checked against and
//! applied to, under the same lock as the events that come with it.
//!
//! What ends by time stands in one set by its end and is dropped by trimming; until then every look
//! asks whether it has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tidings_core::limits::PAGE_BYTES_MAX;
use tidings_core::record::OUTLIVES_DEADLINE;
use tidings_core::{
    Appended, Commit, CommitId, CommitOutcome, Committed, Deadline, Due, Listed, Listing, Outcome,
    Put, Rank, Record, RecordKey, SetDeadline, SetRank, Version,
};

use super::indexes::{Indexes, Ranks};
use super::millis;
use super::outbox::Outbox;
use super::owners::Owners;

/// The map's slot with its pointers, the place among the ends, and half as much for growth.
const RECORD_FIXED: usize = 320;
/// A node's share in the two ordered sets, and its pointers.
const DEADLINE_FIXED: usize = 192;
/// The map's slot, the place among the ends.
const RESULT_FIXED: usize = 224;

#[derive(Debug, Clone, Default)]
pub(crate) struct RecordShelf {
    /// The last version given out.
    version: u64,
    records: HashMap<RecordKey, Kept>,
    /// By record, whether it is there or not; none is empty.
    deadlines: HashMap<RecordKey, BTreeMap<Arc<str>, u64>>,
    /// The same deadlines by kind and time.
    due: HashMap<Arc<str>, BTreeSet<Standing>>,
    indexes: Indexes,
    results: HashMap<CommitId, Remembered>,
    /// What ends by time, by its end: there until this millisecond, not at it.
    ends: BTreeSet<(u64, Ending)>,
    pub(super) outbox: Outbox,
    pub(super) owners: Owners,
    /// What all of this weighs.
    bytes: usize,
}

/// Time, id of the record, name.
type Standing = (u64, Arc<str>, Arc<str>);

#[derive(Debug, Clone)]
struct Kept {
    record: Record,
    end_ms: Option<u64>,
    /// Where it stands in indexes.
    ranks: Ranks,
}

impl Kept {
    fn is_there(&self, now_ms: u64) -> bool {
        self.end_ms.is_none_or(|end_ms| now_ms < end_ms)
    }
}

#[derive(Debug, Clone)]
struct Remembered {
    committed: Committed,
    end_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Record(RecordKey),
    Result(u128),
}

impl RecordShelf {
    /// What everything here weighs.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.indexes.bytes() + self.outbox.bytes() + self.owners.bytes()
    }

    /// The record that is there now.
    pub(super) fn get(&self, key: &RecordKey, now_ms: u64) -> Option<&Record> {
        let kept = self.records.get(key)?;
        kept.is_there(now_ms).then_some(&kept.record)
    }

    /// What an earlier commit under this id came to.
    pub(super) fn result(&self, id: CommitId, now_ms: u64) -> Option<CommitOutcome> {
        let known = self.results.get(&id)?;
        if known.end_ms <= now_ms {
            return None;
        }
        let mut committed = known.committed.clone();
        committed.retried = true;
        for appended in &mut committed.appended {
            appended.outcome = Outcome::Retried;
        }
        Some(CommitOutcome::Committed(committed))
    }

    /// Why this commit cannot be applied.
    pub(super) fn objection(&self, commit: &Commit, now_ms: u64) -> Option<CommitOutcome> {
        if let Some(fires) = &commit.fires
            && self.standing(&fires.record, &fires.name) != Some(fires.at_ms)
        {
            return Some(CommitOutcome::Gone);
        }
        if let Some(orphan) = &commit.adopts
            && !self.owners.is_orphan(orphan)
        {
            return Some(CommitOutcome::Gone);
        }
        if let Some(incarnation) = commit.incarnation
            && !self.owners.holds(incarnation)
        {
            return Some(CommitOutcome::Fenced);
        }
        let met = |(key, version): &(RecordKey, Version)| {
            let there = self.get(key, now_ms);
            there.map_or(Version::ABSENT, |record| record.version) == *version
        };
        (!commit.expects.iter().all(met)).then_some(CommitOutcome::Conflict)
    }

    /// The most that a commit can add.
    pub(super) fn weigh(commit: &Commit) -> usize {
        let owned = commit.puts.iter().filter(|put| put.owner.is_some());
        let owned = owned.map(|put| Owners::weigh(&put.key));
        let puts = commit.puts.iter().map(record_weight).chain(owned);
        let deadlines = commit.deadlines.iter();
        let deadlines = deadlines.map(|set| deadline_weight(&set.record, &set.name));
        let ranks = commit.ranks.iter();
        let ranks = ranks.map(|set| Indexes::weigh(&set.record, &set.index));
        let outbox = commit.outbox.iter().map(Outbox::weigh);
        let result =
            RESULT_FIXED + commit.answer.len() + commit.drafts.len() * size_of::<Appended>();
        puts.chain(deadlines)
            .chain(ranks)
            .chain(outbox)
            .sum::<usize>()
            + result
    }

    /// Applies a commit that nothing stands against; `random` is the least distance of its version
    /// from those of a history that was lost.
    pub(super) fn apply(
        &mut self,
        commit: Commit,
        appended: Vec<Appended>,
        now_ms: u64,
        random: u64,
    ) -> Committed {
        self.version = (self.version + 1).max(now_ms * 4096 + random);
        let version = Version(self.version);
        if let Some(fired) = &commit.fires {
            self.clear(&fired.record, &fired.name);
        }
        if let Some(orphan) = &commit.adopts {
            self.owners.set(&orphan.record, None);
        }
        for put in commit.puts {
            self.owners.set(&put.key, put.owner);
            self.put(put, version, now_ms);
        }
        for key in &commit.removes {
            self.remove(key);
            self.owners.set(key, None);
            for name in self.names(key) {
                self.clear(key, &name);
            }
        }
        for set in commit.deadlines {
            self.set(set, now_ms);
        }
        for set in commit.ranks {
            self.rank(set, now_ms);
        }
        for (index, item) in (0..).zip(commit.outbox) {
            self.outbox.push(commit.id, index, item, now_ms);
        }
        let committed = Committed {
            version,
            appended,
            answer: commit.answer,
            retried: false,
        };
        self.remember(
            commit.id,
            committed.clone(),
            now_ms,
            millis(commit.remember),
        );
        committed
    }

    fn put(&mut self, put: Put, version: Version, now_ms: u64) {
        // What is there keeps its place in indexes; what has ended has none any more.
        let there = self.records.get_mut(&put.key);
        let there = there.filter(|kept| kept.is_there(now_ms));
        let ranks = there.map_or_else(Ranks::new, |kept| std::mem::take(&mut kept.ranks));
        self.remove(&put.key);
        let end_ms = put.lifetime.map(|lifetime| {
            let own_end = now_ms.saturating_add(millis(lifetime));
            let standing = self.deadlines.get(&put.key);
            let last = standing.and_then(|names| names.values().max());
            last.map_or(own_end, |at_ms| own_end.max(outlived(*at_ms)))
        });
        self.bytes += record_weight(&put);
        if let Some(end_ms) = end_ms {
            self.ends.insert((end_ms, Ending::Record(put.key.clone())));
        }
        let record = Record {
            version,
            document: put.document,
        };
        let kept = Kept {
            record,
            end_ms,
            ranks,
        };
        self.records.insert(put.key, kept);
    }

    fn remove(&mut self, key: &RecordKey) {
        if let Some(kept) = self.records.remove(key) {
            self.bytes -= weight_of(key, kept.record.document.len());
            self.indexes.clear(key, &kept.ranks);
            if let Some(end_ms) = kept.end_ms {
                self.ends.remove(&(end_ms, Ending::Record(key.clone())));
            }
        }
    }

    fn rank(&mut self, set: SetRank, now_ms: u64) {
        let kept = self.records.get_mut(&set.record);
        if let Some(kept) = kept.filter(|kept| kept.is_there(now_ms)) {
            self.indexes
                .set(&set.record, &mut kept.ranks, set.index, set.rank);
        }
    }

    /// A page of an index.
    pub(super) fn list(
        &self,
        kind: &Arc<str>,
        index: &Arc<str>,
        after: Option<Rank>,
        limit: usize,
        now_ms: u64,
    ) -> Listing {
        let (mut entries, mut left, mut last) = (Vec::new(), PAGE_BYTES_MAX, None);
        for (looked, place) in self.indexes.after(kind, index, after).enumerate() {
            if looked == limit || left == 0 {
                let next = last;
                return Listing { entries, next };
            }
            let key = RecordKey::new(Arc::clone(kind), Arc::clone(&place.id));
            if let Some(record) = self.get(&key, now_ms) {
                left = left.saturating_sub(record.document.len());
                entries.push(Listed {
                    rank: place.rank,
                    record: record.clone(),
                    key,
                });
            }
            last = Some(place);
        }
        let next = None;
        Listing { entries, next }
    }

    fn set(&mut self, set: SetDeadline, now_ms: u64) {
        self.clear(&set.record, &set.name);
        let Some(at_ms) = set.at_ms else {
            return;
        };
        self.bytes += deadline_weight(&set.record, &set.name);
        let RecordKey { kind, id } = &set.record;
        let standing = (at_ms, Arc::clone(id), Arc::clone(&set.name));
        self.due
            .entry(Arc::clone(kind))
            .or_default()
            .insert(standing);
        let names = self.deadlines.entry(set.record.clone()).or_default();
        names.insert(set.name, at_ms);
        // What has ended stays ended.
        if let Some(kept) = self.records.get_mut(&set.record)
            && let Some(end_ms) = kept.end_ms
            && now_ms < end_ms
            && end_ms < outlived(at_ms)
        {
            kept.end_ms = Some(outlived(at_ms));
            let ending = Ending::Record(set.record);
            let mut end = (end_ms, ending);
            self.ends.remove(&end);
            end.0 = outlived(at_ms);
            self.ends.insert(end);
        }
    }

    fn clear(&mut self, key: &RecordKey, name: &Arc<str>) {
        let Some(names) = self.deadlines.get_mut(key) else {
            return;
        };
        let Some(at_ms) = names.remove(name) else {
            return;
        };
        if names.is_empty() {
            self.deadlines.remove(key);
        }
        self.bytes -= deadline_weight(key, name);
        if let Some(due) = self.due.get_mut(&key.kind) {
            due.remove(&(at_ms, Arc::clone(&key.id), Arc::clone(name)));
        }
    }

    fn standing(&self, key: &RecordKey, name: &str) -> Option<u64> {
        self.deadlines.get(key)?.get(name).copied()
    }

    fn names(&self, key: &RecordKey) -> Vec<Arc<str>> {
        let names = self.deadlines.get(key);
        names.map_or_else(Vec::new, |names| names.keys().cloned().collect())
    }

    fn remember(&mut self, id: CommitId, committed: Committed, now_ms: u64, for_ms: u64) {
        self.forget(id);
        let end_ms = now_ms.saturating_add(for_ms);
        self.bytes += result_weight(&committed);
        self.ends.insert((end_ms, Ending::Result(id.0)));
        self.results.insert(id, Remembered { committed, end_ms });
    }

    fn forget(&mut self, id: CommitId) {
        if let Some(known) = self.results.remove(&id) {
            self.bytes -= result_weight(&known.committed);
            self.ends.remove(&(known.end_ms, Ending::Result(id.0)));
        }
    }

    /// The earliest deadlines of these kinds that have passed.
    pub(super) fn due(&self, mut kinds: Vec<Arc<str>>, limit: usize, now_ms: u64) -> Due {
        kinds.sort_unstable();
        kinds.dedup();
        let mut deadlines = Vec::new();
        for kind in &kinds {
            let standing = self.due.get(kind).into_iter().flatten();
            let passed = standing.take_while(|(at_ms, ..)| *at_ms <= now_ms);
            deadlines.extend(passed.take(limit).map(|(at_ms, id, name)| Deadline {
                at_ms: *at_ms,
                record: RecordKey::new(Arc::clone(kind), Arc::clone(id)),
                name: Arc::clone(name),
            }));
        }
        deadlines.sort_unstable();
        deadlines.truncate(limit);
        Due { deadlines, now_ms }
    }

    /// Drops at most `most` of what has ended, and returns the bytes that it held.
    pub(crate) fn purge(&mut self, now_ms: u64, most: usize) -> usize {
        let before = self.bytes();
        for _ in 0..most {
            let ended = self.ends.first().filter(|(end_ms, _)| *end_ms <= now_ms);
            match ended.cloned() {
                Some((_, Ending::Record(key))) => self.remove(&key),
                Some((_, Ending::Result(id))) => self.forget(CommitId(id)),
                None => break,
            }
        }
        before - self.bytes()
    }
}

/// Until when a record with this deadline lives at least.
fn outlived(at_ms: u64) -> u64 {
    at_ms.saturating_add(millis(OUTLIVES_DEADLINE))
}

fn record_weight(put: &Put) -> usize {
    weight_of(&put.key, put.document.len())
}

fn weight_of(key: &RecordKey, document: usize) -> usize {
    RECORD_FIXED + key.kind.len() + key.id.len() + document
}

fn deadline_weight(key: &RecordKey, name: &str) -> usize {
    DEADLINE_FIXED + key.id.len() + name.len()
}

fn result_weight(committed: &Committed) -> usize {
    RESULT_FIXED + committed.answer.len() + committed.appended.len() * size_of::<Appended>()
}
