//! Records in a map, changed as a hub would change them: what the tests of decisions stand on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Command, Decision, Draft, IncarnationId, OutboxItem, RecordKey, RecordKind, State, Trigger,
};

use crate::answer::Answer;
use crate::channel::Channels;
use crate::index::Indexes;
use crate::keys;
use crate::presence;
use crate::user::Users;

/// When every test begins: 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;

/// Records that one commit may look at or write, as the log has it.
const RECORDS_MAX: usize = 64;

/// What the log bounds of each kind of effect.
const EFFECTS_MAX: usize = 128;

/// Records and what came of their changes.
pub(crate) struct Shelf {
    kinds: Vec<Arc<dyn RecordKind>>,
    pub(crate) records: HashMap<RecordKey, Bytes>,
    expires: HashMap<RecordKey, u64>,
    owners: HashMap<RecordKey, IncarnationId>,
    deadlines: BTreeMap<(RecordKey, Arc<str>), u64>,
    keys: HashMap<(Arc<str>, Arc<str>), usize>,
    pub(crate) now_ms: u64,
    /// Retained events, in the order of their commits.
    pub(crate) events: Vec<Draft>,
    pub(crate) flashes: Vec<Draft>,
    /// What goes elsewhere, by where it comes from: each in its order, none before another.
    pub(crate) outbox: BTreeMap<Arc<str>, VecDeque<OutboxItem>>,
    /// Round trips of the last command: loads before it was decided.
    pub(crate) loads: usize,
}

/// What a command came to: its decision, or the event that is there already.
pub(crate) type Told = Result<Decision, usize>;

impl Default for Shelf {
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl Shelf {
    pub(crate) fn new(grace: Duration) -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            kinds: vec![
                Arc::new(Users {
                    presence: presence::Settings {
                        connections: 4,
                        grace,
                    },
                    remembered: hour,
                }),
                Arc::new(Channels {
                    typing: Duration::from_secs(2),
                    messages: hour,
                    remembered: hour,
                }),
                Arc::new(Indexes),
            ],
            records: HashMap::new(),
            expires: HashMap::new(),
            owners: HashMap::new(),
            deadlines: BTreeMap::new(),
            keys: HashMap::new(),
            now_ms: NOW_MS,
            events: Vec::new(),
            flashes: Vec::new(),
            outbox: BTreeMap::new(),
            loads: 0,
        }
    }

    fn decide(
        &mut self,
        kind: &str,
        from: &Arc<str>,
        mut keys: Vec<RecordKey>,
        trigger: Trigger<'_>,
    ) -> Told {
        let now_ms = self.now_ms;
        let gone = |expires: &u64| *expires <= now_ms;
        for (key, _) in self.expires.extract_if(|_, expires| gone(expires)) {
            self.records.remove(&key);
        }
        let kind = self.kinds.iter().find(|one| one.name() == kind).cloned();
        let kind = kind.expect("a kind of ours");
        self.loads = 0;
        loop {
            self.loads += 1;
            assert!(keys.len() <= RECORDS_MAX, "{} records", keys.len());
            let load = |key: &RecordKey| (key.clone(), self.records.get(key).cloned());
            let records: Vec<_> = keys.iter().map(load).collect();
            let decision = kind.decide(&State::new(&records), trigger, self.now_ms);
            if decision.loads.is_empty() {
                return self.commit(from, decision);
            }
            keys.extend(decision.loads);
        }
    }

    fn commit(&mut self, from: &Arc<str>, decision: Decision) -> Told {
        assert!(decision.puts.len() + decision.removes.len() <= RECORDS_MAX);
        assert!(decision.drafts.len().max(decision.outbox.len()) <= EFFECTS_MAX);
        for draft in &decision.drafts {
            let key = draft
                .dedup
                .as_ref()
                .map(|key| (key.scope.clone(), key.key.clone()));
            if let Some(known) = key.and_then(|key| self.keys.get(&key)) {
                return Err(*known);
            }
        }
        for put in &decision.puts {
            assert!(
                put.document.len() <= 64 * 1024,
                "{}: {}",
                put.key.id,
                put.document.len()
            );
            self.records.insert(put.key.clone(), put.document.clone());
            match put
                .lifetime
                .and_then(|span| u64::try_from(span.as_millis()).ok())
            {
                Some(ms) => self.expires.insert(put.key.clone(), self.now_ms + ms),
                None => self.expires.remove(&put.key),
            };
            match put.owner {
                Some(owner) => self.owners.insert(put.key.clone(), owner),
                None => self.owners.remove(&put.key),
            };
        }
        for key in &decision.removes {
            self.records.remove(key);
            self.owners.remove(key);
        }
        for set in &decision.deadlines {
            let key = (set.record.clone(), set.name.clone());
            match set.at_ms {
                Some(at) => self.deadlines.insert(key, at),
                None => self.deadlines.remove(&key),
            };
        }
        for draft in &decision.drafts {
            if let Some(dedup) = &draft.dedup {
                let key = (dedup.scope.clone(), dedup.key.clone());
                self.keys.insert(key, self.events.len());
            }
            self.events.push(draft.clone());
        }
        self.flashes.extend(decision.flash.iter().cloned());
        let queue = self.outbox.entry(from.clone()).or_default();
        queue.extend(decision.outbox.iter().cloned());
        Ok(decision)
    }

    /// Performs a command, and nothing that follows from it.
    pub(crate) fn told(&mut self, command: &Command) -> Told {
        let trigger = Trigger::Command(&command.body);
        self.decide(
            &command.kind,
            &command.placement_key,
            command.records.clone(),
            trigger,
        )
    }

    /// Performs a command of ours; its answer.
    pub(crate) fn ask(&mut self, command: &Command) -> Answer {
        let decision = self.told(command).expect("no key of a draft's");
        Answer::parse(&decision.answer).expect("an answer of ours")
    }

    /// Performs the next thing that goes elsewhere from there; false when there is none.
    pub(crate) fn relay_one(&mut self, from: &Arc<str>) -> bool {
        let Some(item) = self.outbox.get_mut(from).and_then(VecDeque::pop_front) else {
            return false;
        };
        match item {
            OutboxItem::Command(command) => {
                self.told(&command).expect("no key of a draft's");
            }
            OutboxItem::Draft(draft) => self.events.push(draft),
            OutboxItem::Flash(draft) => self.flashes.push(draft),
            OutboxItem::Call(_) => {}
        }
        true
    }

    /// Performs everything that goes elsewhere, to the end.
    pub(crate) fn relay(&mut self) {
        while let Some(from) = self.from() {
            self.relay_one(&from);
        }
    }

    /// Somewhere from which something goes elsewhere.
    fn from(&self) -> Option<Arc<str>> {
        let mut waiting = self.outbox.iter().filter(|(_, queue)| !queue.is_empty());
        waiting.next().map(|(from, _)| from.clone())
    }

    /// Time passes; what falls due fires.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now_ms += u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.now_ms;
        let due: Vec<_> = self
            .deadlines
            .extract_if(.., |_, at| *at <= now_ms)
            .collect();
        for ((record, name), at_ms) in due {
            let trigger = Trigger::Deadline { name: &name, at_ms };
            let kind = record.kind.clone();
            let from = home(&record);
            self.decide(&kind, &from, vec![record], trigger)
                .expect("no key of a draft's");
        }
    }

    /// An incarnation is over.
    pub(crate) fn lose(&mut self, incarnation: IncarnationId) {
        let lost = self.owners.extract_if(|_, owner| *owner == incarnation);
        let lost: Vec<RecordKey> = lost.map(|(key, _)| key).collect();
        for record in lost {
            let trigger = Trigger::OwnerLost { incarnation };
            let kind = record.kind.clone();
            let from = home(&record);
            self.decide(&kind, &from, vec![record], trigger)
                .expect("no key of a draft's");
        }
    }
}

/// Where a record of a user's stands.
fn home(record: &RecordKey) -> Arc<str> {
    let user = record.id.split('/').nth(1).and_then(|id| id.parse().ok());
    keys::user_key(user.expect("a user's record")).into()
}
