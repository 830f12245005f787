//! Deciding: what becomes of records when a command comes or a deadline passes.
//!
//! A record kind is a pure function: state in, decision out, with the time as an argument. The hub
//! loads, calls it, commits, and calls it again when somebody else was faster. So its tests are
//! tables, and it may be called any number of times for one command.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::draft::Draft;
use crate::id::EventId;
use crate::log::{Appended, LogError};
use crate::record::{
    Call, Command, IncarnationId, OutboxItem, Put, RecordKey, SetDeadline, SetRank,
};

/// A kind of record and how it changes.
pub trait RecordKind: Send + Sync + 'static {
    /// Its name, e.g. `zaikio.consumer`: the part of a [`RecordKey`] and of a [`Command`] that
    /// leads here.
    fn name(&self) -> &'static str;

    /// Decides. Pure: the same arguments give the same decision.
    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision;

    /// Whether its records may have owners: an instance that hosts such a kind holds an incarnation,
    /// and handles what others lost.
    fn has_owners(&self) -> bool {
        false
    }

    /// The indexes in which its records may stand, e.g. `waiting`, each in the form of a
    /// [kind](RecordKey::kind). A decision that names another one is a mistake.
    fn indexes(&self) -> &'static [&'static str] {
        &[]
    }
}

/// Why a decision is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger<'a> {
    /// A command's body.
    Command(&'a [u8]),
    /// A deadline of the first record of the state has passed.
    Deadline {
        /// Which.
        name: &'a str,
        /// For when it was set, milliseconds since 1970.
        at_ms: u64,
    },
    /// The owner of the first record of the state is lost. Whatever is decided, the record is
    /// nobody's afterwards unless it is put with another owner.
    OwnerLost {
        /// Who owned it.
        incarnation: IncarnationId,
    },
}

/// The records that were loaded, in the order in which they were asked for.
#[derive(Debug, Clone, Copy)]
pub struct State<'a>(&'a [(RecordKey, Option<Bytes>)]);

impl<'a> State<'a> {
    /// A state of these records.
    #[must_use]
    pub const fn new(records: &'a [(RecordKey, Option<Bytes>)]) -> Self {
        Self(records)
    }

    /// The document under a key. The outer `None`: it was not loaded, see [`Decision::load`]; the
    /// inner one: there is no such record.
    #[must_use]
    pub fn get(&self, key: &RecordKey) -> Option<Option<&'a Bytes>> {
        let (_, document) = self.0.iter().find(|(one, _)| one == key)?;
        Some(document.as_ref())
    }

    /// The first record: what a deadline is of, and by custom what a command is to.
    #[must_use]
    pub fn first(&self) -> Option<(&'a RecordKey, Option<&'a Bytes>)> {
        let (key, document) = self.0.first()?;
        Some((key, document.as_ref()))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a RecordKey, Option<&'a Bytes>)> {
        self.0.iter().map(|(key, doc)| (key, doc.as_ref()))
    }
}

/// What is to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Records that must be loaded before anything can be decided; all else is ignored then, and
    /// the function is called again with them.
    pub loads: Vec<RecordKey>,
    /// Documents to write.
    pub puts: Vec<Put>,
    /// Records to remove.
    pub removes: Vec<RecordKey>,
    /// Deadlines to set or clear.
    pub deadlines: Vec<SetDeadline>,
    /// Where records stand in indexes.
    pub ranks: Vec<SetRank>,
    /// Events of the same partition.
    pub drafts: Vec<Draft>,
    /// Flash events of the same partition: handed out only if the rest is stored.
    pub flash: Vec<Draft>,
    /// What goes elsewhere.
    pub outbox: Vec<OutboxItem>,
    /// What the one who asked is answered, in the kind's own form.
    pub answer: Bytes,
}

impl Decision {
    /// Nothing changes; this is the answer.
    #[must_use]
    pub fn answer(answer: impl Into<Bytes>) -> Self {
        Self {
            answer: answer.into(),
            ..Self::default()
        }
    }

    /// Asks for one more record.
    #[must_use]
    pub fn load(key: RecordKey) -> Self {
        Self {
            loads: vec![key],
            ..Self::default()
        }
    }

    /// Writes a record that lives so long (`None`: until it is removed).
    pub fn put(&mut self, key: RecordKey, document: impl Into<Bytes>, lifetime: Option<Duration>) {
        self.puts.push(Put {
            key,
            document: document.into(),
            lifetime,
            owner: None,
        });
    }

    /// Writes a record that is lost with its owner, and until then lives until it is removed. All
    /// owners of one decision are the same.
    pub fn put_owned(&mut self, key: RecordKey, document: impl Into<Bytes>, owner: IncarnationId) {
        self.puts.push(Put {
            key,
            document: document.into(),
            lifetime: None,
            owner: Some(owner),
        });
    }

    /// Removes a record.
    pub fn remove(&mut self, key: RecordKey) {
        self.removes.push(key);
    }

    /// Publishes an event of the same partition.
    pub fn publish(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    /// Hands out a flash event of the same partition.
    pub fn flash(&mut self, draft: Draft) {
        self.flash.push(draft);
    }

    /// Hands out a flash event of any partition, through the outbox.
    pub fn flash_elsewhere(&mut self, draft: Draft) {
        self.outbox.push(OutboxItem::Flash(draft));
    }

    /// Publishes an event of any partition, through the outbox.
    pub fn publish_elsewhere(&mut self, draft: Draft) {
        self.outbox.push(OutboxItem::Draft(draft));
    }

    /// Sends a command to records of any partition, through the outbox.
    pub fn command(&mut self, command: Command) {
        self.outbox.push(OutboxItem::Command(command));
    }

    /// Calls a server outside, through the outbox.
    pub fn call(&mut self, call: Call) {
        self.outbox.push(OutboxItem::Call(call));
    }

    /// Sets a deadline of a record, or sets it anew.
    pub fn set_deadline(&mut self, record: RecordKey, name: impl Into<Arc<str>>, at_ms: u64) {
        self.deadlines.push(SetDeadline {
            record,
            name: name.into(),
            at_ms: Some(at_ms),
        });
    }

    /// Clears a deadline of a record.
    pub fn clear_deadline(&mut self, record: RecordKey, name: impl Into<Arc<str>>) {
        self.deadlines.push(SetDeadline {
            record,
            name: name.into(),
            at_ms: None,
        });
    }

    /// The record stands in this index of its kind at this rank from now on, e.g. the time at which
    /// it began to wait; at most [`RANK_MAX`](crate::record::RANK_MAX). It stays there when it is
    /// written anew, and leaves when it is removed or ends.
    pub fn index(&mut self, record: RecordKey, index: impl Into<Arc<str>>, rank: u64) {
        self.ranks.push(SetRank {
            record,
            index: index.into(),
            rank: Some(rank),
        });
    }

    /// The record leaves this index.
    pub fn unindex(&mut self, record: RecordKey, index: impl Into<Arc<str>>) {
        self.ranks.push(SetRank {
            record,
            index: index.into(),
            rank: None,
        });
    }

    /// Whether nothing is to be stored or handed out.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.puts.is_empty()
            && self.removes.is_empty()
            && self.deadlines.is_empty()
            && self.ranks.is_empty()
            && self.drafts.is_empty()
            && self.flash.is_empty()
            && self.outbox.is_empty()
    }
}

/// An adapter's rules for what others publish under its roots.
pub trait Ingest: Send + Sync + 'static {
    /// Judges one draft. No I/O; `now_ms` is the time, milliseconds since 1970, and `random` is fresh
    /// for each draft, for ids and secrets that the draft does not bring.
    fn ingest(&self, draft: Draft, now_ms: u64, random: u128) -> Ingested;
}

/// What becomes of a draft under an owned root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingested {
    /// It is appended, perhaps changed.
    Publish(Draft),
    /// It is a command to records; its first event's id is answered.
    Command(Command),
    /// It is refused, with a reason for the publisher.
    Refused(String),
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The decision's answer, in the kind's own form.
    pub answer: Bytes,
    /// The events that it published in its own partition, in their order.
    pub appended: Vec<Appended>,
}

/// Why a command came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// One of its events is known by its dedup key; nothing was changed.
    #[error("the event is known already")]
    Duplicate {
        /// Which draft of the decision.
        draft: usize,
        /// The first one's id.
        id: EventId,
    },
    /// Others changed the same records again and again; try again later.
    #[error("too many commands to the same records")]
    Contended,
    /// No kind of this name is hosted here, or its decision breaks a bound: a mistake in an
    /// adapter, not in what its client sent.
    #[error("the command cannot be decided: {0}")]
    Undecided(String),
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] Arc<LogError>),
    /// The incarnation that would own what is written has no lease any more. If it is this
    /// instance's, every session hears [`Input::Fenced`](crate::session::Input::Fenced).
    #[error("the owner is not there any more")]
    Fenced,
    /// The instance is leaving.
    #[error("this instance is leaving")]
    Draining,
}
