//! Records as lists: every answer worked out by looking at all of them.

use std::time::Duration;

use bytes::Bytes;
use tidings_core::record::{OUTLIVES_DEADLINE, RELAY_LEASE};
use tidings_core::{
    Commit, CommitId, CommitOutcome, Committed, Deadline, Dedup, Draft, Due, EventId, Listed,
    OutboxEntry, OutboxId, OutboxItem, Outcome, Put, Record, RecordKey, Relay, RelayId,
    SetDeadline, SetRank, Topic, Version,
};

use super::history::{Expected, Sketch};

pub(crate) const INDEXES: [&str; 2] = ["i", "j"];
pub(crate) const KINDS: [&str; 2] = ["a", "b"];
const RETENTION_MS: u64 = 3_600_000;

#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) now_ms: u64,
    /// Document, version, end.
    records: Vec<(RecordKey, Record, Option<u64>)>,
    standing: Vec<Deadline>,
    /// Of records that are there.
    ranks: Vec<(RecordKey, usize, u64)>,
    /// Commit, index, item; with the place once it was seen.
    outbox: Vec<(Option<OutboxId>, CommitId, u32, OutboxItem)>,
    lease: Option<(RelayId, u64)>,
    /// Every commit that was ever stored, and until when it is remembered.
    commits: Vec<(CommitId, Committed, u64)>,
    /// Id, data.
    events: Vec<(EventId, Bytes)>,
    /// Dedup key, id, end.
    keys: Vec<(usize, EventId, u64)>,
}

/// All records that there can be.
pub(crate) fn keys() -> Vec<RecordKey> {
    (0..4).map(key).collect()
}

fn key(number: usize) -> RecordKey {
    RecordKey::new(KINDS[number % 2], format!("{}", number / 2))
}

impl Plain {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            records: Vec::new(),
            standing: Vec::new(),
            ranks: Vec::new(),
            outbox: Vec::new(),
            lease: None,
            commits: Vec::new(),
            events: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Fills in what a sketch leaves open.
    pub(crate) fn commit_of(&self, sketch: &Sketch) -> Commit {
        let version = |number: usize, expected: Expected| match expected {
            Expected::There => self.version(&key(number)),
            Expected::Absent => Version::ABSENT,
            Expected::Any(which) if self.commits.is_empty() => Version(which.index(9) as u64),
            Expected::Any(which) => which.get(&self.commits).1.version,
        };
        let name = |n: usize| ["n", "m"][n].into();
        let fires = sketch.fires.filter(|_| !self.standing.is_empty());
        Commit {
            id: CommitId(sketch.id),
            remember: Duration::from_millis(sketch.remember_ms),
            expects: (sketch.expects.iter())
                .map(|(number, expected)| (key(*number), version(*number, *expected)))
                .collect(),
            fires: fires.map(|(which, wrong)| {
                let mut deadline = which.get(&self.standing).clone();
                deadline.at_ms += wrong;
                deadline
            }),
            adopts: None,
            incarnation: None,
            flash: Vec::new(),
            puts: (sketch.puts.iter())
                .map(|(number, size, lifetime)| Put {
                    key: key(*number),
                    document: vec![b'x'; *size].into(),
                    lifetime: lifetime.map(Duration::from_millis),
                    owner: None,
                })
                .collect(),
            removes: sketch.removes.iter().map(|number| key(*number)).collect(),
            deadlines: (sketch.deadlines.iter())
                .map(|(number, n, away)| SetDeadline {
                    record: key(*number),
                    name: name(*n),
                    at_ms: away.map(|ms| self.now_ms.saturating_add_signed(ms)),
                })
                .collect(),
            ranks: (sketch.ranks.iter())
                .map(|(number, index, rank)| SetRank {
                    record: key(*number),
                    index: INDEXES[*index].into(),
                    rank: *rank,
                })
                .collect(),
            drafts: distinct(&sketch.drafts).map(draft).collect(),
            outbox: (0..sketch.outbox)
                .map(|_| OutboxItem::Draft(draft(None)))
                .collect(),
            answer: format!("{}", self.commits.len()).into(),
        }
    }

    /// Checks what a commit came to, and keeps it.
    pub(crate) fn committed(&mut self, commit: &Commit, outcome: &CommitOutcome) {
        let now_ms = self.now_ms;
        let known = self.commits.iter().rev();
        let known = known.clone().find(|(id, ..)| *id == commit.id);
        if let Some((_, first, _)) = known.filter(|(_, _, end_ms)| now_ms < *end_ms) {
            let mut again = first.clone();
            again.retried = true;
            (again.appended.iter_mut()).for_each(|a| a.outcome = Outcome::Retried);
            assert_eq!(*outcome, CommitOutcome::Committed(again));
            return;
        }
        if (commit.fires.iter()).any(|fired| !self.standing.contains(fired)) {
            assert_eq!(*outcome, CommitOutcome::Gone);
            return;
        }
        if (commit.expects.iter()).any(|(key, version)| self.version(key) != *version) {
            assert_eq!(*outcome, CommitOutcome::Conflict);
            return;
        }
        for (draft, one) in commit.drafts.iter().enumerate() {
            if let Some(id) = self.known(one) {
                assert_eq!(*outcome, CommitOutcome::Duplicate { draft, id });
                return;
            }
        }
        let CommitOutcome::Committed(committed) = outcome else {
            panic!("nothing stands against it: {outcome:?}");
        };
        assert!(!committed.retried);
        assert_eq!(committed.answer, commit.answer);
        let last = self
            .commits
            .last()
            .map_or(Version::ABSENT, |(_, c, _)| c.version);
        assert!(committed.version > last);
        self.apply(commit, committed);
        let end_ms = now_ms + commit.remember.as_millis() as u64;
        self.commits.push((commit.id, committed.clone(), end_ms));
    }

    fn apply(&mut self, commit: &Commit, committed: &Committed) {
        let now_ms = self.now_ms;
        let outlives_ms = OUTLIVES_DEADLINE.as_millis() as u64;
        assert_eq!(committed.appended.len(), commit.drafts.len());
        for (draft, appended) in commit.drafts.iter().zip(&committed.appended) {
            assert_eq!(appended.outcome, Outcome::New);
            let last = self.events.last().map_or(EventId::ORIGIN, |(id, _)| *id);
            assert!(appended.id > last);
            self.events.push((appended.id, draft.data.clone()));
            if let Some(dedup) = &draft.dedup {
                let key = dedup.key.parse().expect("a number");
                self.keys
                    .push((key, appended.id, now_ms + dedup.lifetime_ms));
            }
        }
        self.standing
            .retain(|one| commit.fires.as_ref() != Some(one));
        for put in &commit.puts {
            self.drop_ended_ranks();
            self.records.retain(|(key, ..)| *key != put.key);
            let of = self.standing.iter().filter(|one| one.record == put.key);
            let end_ms = put.lifetime.map(|lifetime| {
                let outlived = of.map(|one| one.at_ms + outlives_ms).max();
                (now_ms + lifetime.as_millis() as u64).max(outlived.unwrap_or(0))
            });
            let record = Record {
                version: committed.version,
                document: put.document.clone(),
            };
            self.records.push((put.key.clone(), record, end_ms));
        }
        self.drop_ended_ranks();
        for removed in &commit.removes {
            self.records.retain(|(key, ..)| key != removed);
            self.standing.retain(|one| one.record != *removed);
            self.ranks.retain(|(key, ..)| key != removed);
        }
        for set in &commit.deadlines {
            let same = |one: &Deadline| one.record == set.record && one.name == set.name;
            self.standing.retain(|one| !same(one));
            let Some(at_ms) = set.at_ms else { continue };
            self.standing.push(Deadline {
                at_ms,
                record: set.record.clone(),
                name: set.name.clone(),
            });
            for (key, _, end_ms) in &mut self.records {
                if let Some(end_ms) = end_ms
                    && *key == set.record
                    && now_ms < *end_ms
                {
                    *end_ms = (*end_ms).max(at_ms + outlives_ms);
                }
            }
        }
        for set in &commit.ranks {
            let index = INDEXES.iter().position(|name| **name == *set.index);
            let index = index.expect("one of them");
            let same =
                |(key, one, _): &(RecordKey, usize, u64)| *key == set.record && *one == index;
            self.ranks.retain(|one| !same(one));
            if let (Some(rank), true) = (set.rank, self.get(&set.record).is_some()) {
                self.ranks.push((set.record.clone(), index, rank));
            }
        }
        for (index, item) in (0..).zip(&commit.outbox) {
            self.outbox.push((None, commit.id, index, item.clone()));
        }
    }

    fn version(&self, key: &RecordKey) -> Version {
        self.get(key)
            .map_or(Version::ABSENT, |record| record.version)
    }

    fn get(&self, key: &RecordKey) -> Option<&Record> {
        let found = self.records.iter().find(|(known, ..)| known == key)?;
        let alive = found.2.is_none_or(|end_ms| self.now_ms < end_ms);
        alive.then_some(&found.1)
    }

    /// What has ended stands nowhere, whatever comes after it.
    fn drop_ended_ranks(&mut self) {
        let there: Vec<RecordKey> = (keys().into_iter())
            .filter(|key| self.get(key).is_some())
            .collect();
        self.ranks.retain(|(key, ..)| there.contains(key));
    }

    /// What stands in an index of a kind.
    pub(crate) fn listed(&self, kind: &str, index: usize) -> Vec<Listed> {
        let standing = self.ranks.iter();
        let standing = standing.filter(|(key, one, _)| &*key.kind == kind && *one == index);
        let mut listed: Vec<Listed> = standing
            .filter_map(|(key, _, rank)| {
                Some(Listed {
                    rank: *rank,
                    key: key.clone(),
                    record: self.get(key)?.clone(),
                })
            })
            .collect();
        listed.sort_unstable_by_key(Listed::place);
        listed
    }

    fn known(&self, draft: &Draft) -> Option<EventId> {
        let key: usize = draft.dedup.as_ref()?.key.parse().ok()?;
        let alive =
            |(known, _, end_ms): &&(usize, EventId, u64)| *known == key && self.now_ms < *end_ms;
        self.keys.iter().find(alive).map(|(_, id, _)| *id)
    }

    pub(crate) fn load(&self) -> Vec<Option<Record>> {
        keys().iter().map(|key| self.get(key).cloned()).collect()
    }

    pub(crate) fn due(&self, limit: usize) -> Due {
        let passed = self.standing.iter().filter(|one| one.at_ms <= self.now_ms);
        let mut deadlines: Vec<Deadline> = passed.cloned().collect();
        deadlines.sort_unstable();
        deadlines.truncate(limit);
        Due {
            deadlines,
            now_ms: self.now_ms,
        }
    }

    pub(crate) fn depth(&self) -> u64 {
        self.outbox.len() as u64
    }

    /// The events that are retained.
    pub(crate) fn events(&self) -> Vec<(EventId, Bytes)> {
        let floor_ms = self.now_ms.saturating_sub(RETENTION_MS);
        let retained = self.events.iter().filter(|(id, _)| id.ms() >= floor_ms);
        retained.cloned().collect()
    }

    /// Places of some waiting entries that were handed out.
    pub(crate) fn delivered(&self, which: &[proptest::sample::Index]) -> Vec<OutboxId> {
        let seen: Vec<OutboxId> = self.outbox.iter().filter_map(|entry| entry.0).collect();
        let some = which.iter().filter(|_| !seen.is_empty());
        some.map(|index| *index.get(&seen)).collect()
    }

    /// Checks a turn of relaying, and keeps what it changed.
    pub(crate) fn check_turn(
        &mut self,
        relay: RelayId,
        delivered: &[OutboxId],
        limit: usize,
        turn: &Relay,
    ) {
        if let Some((holder, end_ms)) = self.lease
            && holder != relay
            && self.now_ms < end_ms
        {
            assert_eq!(*turn, Relay::Busy);
            return;
        }
        let kept = |id: Option<OutboxId>| id.is_none_or(|id| !delivered.contains(&id));
        self.outbox.retain(|entry| kept(entry.0));
        if self.outbox.is_empty() {
            self.lease = None;
            assert_eq!(*turn, Relay::Empty);
            return;
        }
        self.lease = Some((relay, self.now_ms + RELAY_LEASE.as_millis() as u64));
        let Relay::Entries(entries) = turn else {
            panic!("entries wait: {turn:?}");
        };
        assert_eq!(entries.len(), limit.min(self.outbox.len()));
        for (entry, waiting) in entries.iter().zip(&mut self.outbox) {
            let OutboxEntry {
                id,
                commit,
                index,
                item,
            } = entry;
            assert_eq!((commit, index, item), (&waiting.1, &waiting.2, &waiting.3));
            assert!(waiting.0.is_none_or(|seen| seen == *id));
            waiting.0 = Some(*id);
        }
        let places: Vec<_> = self.outbox.iter().filter_map(|entry| entry.0).collect();
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    }
}

/// No two drafts of one commit may have the same key.
fn distinct(keys: &[Option<usize>]) -> impl Iterator<Item = Option<usize>> {
    let first = |(n, key): &(usize, &Option<usize>)| key.is_none() || !keys[..*n].contains(key);
    keys.iter().enumerate().filter(first).map(|(_, key)| *key)
}

fn draft(key: Option<usize>) -> Draft {
    Draft {
        dedup: key.map(|key| Dedup {
            scope: "s".into(),
            key: key.to_string().into(),
            lifetime_ms: 1500,
        }),
        ..Draft::new(Topic::parse("random").expect("valid"), "random", "1")
    }
}
