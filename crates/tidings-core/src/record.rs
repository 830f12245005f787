//! Records: small versioned documents, and the commits that change them together with their events.
//!
//! A change is *decided* by a pure function and *committed* by the log in one atomic step: the
//! versions of all records that were looked at, the new documents, the drafts of the same
//! partition, the deadlines, and what goes elsewhere (the outbox). LOG.md §6 is the rule; every
//! promise here is a case in the exam of `tidings-testkit`, and the memory log is the reference.
//!
//! A commit that was acknowledged and then lost with its primary never was: its events, documents,
//! deadlines, outbox entries and its id are lost together, and versions go on rising by the clock,
//! so that whoever saw what was lost is refused.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::draft::Draft;
use crate::id::EventId;
use crate::log::{Appended, BoxFuture, LogError};
use crate::placement::Partition;

mod bounds;
mod index;
mod owner;

pub use bounds::{check_flash, check_index};
pub use index::{Listed, Listing, RANK_MAX, Rank, SetRank};
pub use owner::{Beat, IncarnationId, Orphan, TOMBSTONE};

/// The records of a log, beside its events and in the same partitions.
pub trait Records: fmt::Debug + Send + Sync + 'static {
    /// The present records under these keys, in the order asked; `None` where there is none. Up to
    /// [`RECORDS_PER_COMMIT_MAX`](crate::limits::RECORDS_PER_COMMIT_MAX) are as they were at one
    /// moment, more than that are loaded in parts.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; [`LogError::Refused`] when a key breaks its bounds.
    fn load(
        &self,
        partition: Partition,
        keys: Vec<RecordKey>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, LogError>>;

    /// Applies a commit: all of it or nothing, answered when stored.
    ///
    /// The commit's id is looked at first: a commit that was applied under this id is not applied
    /// again and answers what the first one answered, its events as
    /// [`Outcome::Retried`](crate::log::Outcome::Retried). Then the deadline that it fires, the
    /// orphan that it adopts, the lease of its incarnation, the versions and the dedup keys are
    /// looked at, in this order; what does not end in [`CommitOutcome::Committed`] changes nothing
    /// and is not remembered. Whatever becomes of the
    /// connection, one call applies its commit at most once.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] and [`LogError::Full`]: nothing was stored.
    /// [`LogError::Refused`]: it breaks a bound, see [`Commit::check`].
    /// [`LogError::FateUnknown`]: applied or not, nobody can tell; committing again under the same
    /// id is safe for [`Commit::remember`].
    fn commit(
        &self,
        partition: Partition,
        commit: Commit,
    ) -> BoxFuture<'_, Result<CommitOutcome, LogError>>;

    /// One page of an index: the records of a kind that stand in it behind a place (`None`: from its
    /// beginning on), ascending by rank and among equals by the bytes of their ids, as they were at
    /// one moment. What was removed, or has ended by the log's own clock, is not among them.
    ///
    /// At most `limit`, at most [`PAGE_EVENTS_MAX`](crate::limits::PAGE_EVENTS_MAX), and about
    /// [`PAGE_BYTES_MAX`](crate::limits::PAGE_BYTES_MAX) of documents, but at least one where there
    /// is one among the first `limit` places looked at.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; [`LogError::Refused`] when a name breaks its bounds.
    fn list(
        &self,
        partition: Partition,
        kind: Arc<str>,
        index: Arc<str>,
        after: Option<Rank>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Listing, LogError>>;

    /// The earliest deadlines of these kinds that have passed by the log's own clock, and that
    /// clock. Nothing is claimed: whoever fires one commits with [`Commit::fires`], and the first
    /// such commit wins. At most `limit`, and at most
    /// [`PAGE_EVENTS_MAX`](crate::limits::PAGE_EVENTS_MAX).
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn due(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Due, LogError>>;

    /// One turn of relaying a partition's outbox, in one atomic step: takes or keeps the relay
    /// lease for `relay`, forgets the entries that were delivered, and hands out the next ones in
    /// commit order. When nothing is left the lease is given back, so an entry committed later
    /// finds it free: no wake-up is lost. When another relay holds the lease, nothing changes.
    ///
    /// A turn brings at most `limit` entries and about
    /// [`PAGE_BYTES_MAX`](crate::limits::PAGE_BYTES_MAX), but at least one.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn relay(
        &self,
        partition: Partition,
        relay: RelayId,
        delivered: Vec<OutboxId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Relay, LogError>>;

    /// How many outbox entries wait in a partition.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn outbox_depth(&self, partition: Partition) -> BoxFuture<'_, Result<u64, LogError>>;

    /// Takes an incarnation's lease in a partition, or renews it: from now on by the log's own clock
    /// it lasts for `lease`. A lease that has expired is renewed as long as nobody has reaped it.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn beat(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Beat, LogError>>;

    /// Gives a lease back: what the incarnation owns is orphaned at once. For
    /// [`TOMBSTONE`] every beat of it is answered with [`Beat::Reaped`].
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn leave(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
    ) -> BoxFuture<'_, Result<(), LogError>>;

    /// Reaps every incarnation whose lease has expired by the log's own clock, and answers what
    /// records of these kinds lost their owner, at most `limit`, and at most
    /// [`PAGE_EVENTS_MAX`](crate::limits::PAGE_EVENTS_MAX). Nothing is claimed: whoever handles one
    /// commits with [`Commit::adopts`], and the first such commit wins; until then it is answered
    /// to everyone who asks. Any number of sweepers may ask at once.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    fn orphans(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, LogError>>;
}

/// How long a relay lease lasts without a turn. A relay whose delivery takes longer takes a turn
/// meanwhile, so that two instances hardly ever relay the same head; an outbox whose relay died waits
/// so long, which is shorter than an instance is missed for: what its end causes is not held up by
/// it.
pub const RELAY_LEASE: Duration = Duration::from_secs(5);

/// How long a commit's result is remembered where nothing else is said: retries stop earlier.
pub const COMMIT_REMEMBERED: Duration = Duration::from_secs(120);

/// Bytes of all that is in one outbox entry: an event's data, and beside it attributes, headers or
/// keys, which each fit into a header block (16 KiB).
pub const OUTBOX_ITEM_BYTES_MAX: usize = crate::limits::DATA_BYTES_MAX + 64 * 1024;

/// What a record outlives its last deadline by: the firing still finds it.
pub const OUTLIVES_DEADLINE: Duration = Duration::from_secs(3600);

/// Names one record within its partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The kind, e.g. `zaikio.consumer`: 1 to [`KIND_BYTES_MAX`](crate::limits::KIND_BYTES_MAX) of
    /// a-z, 0-9 and `.` `_` `-`. Never client text.
    pub kind: Arc<str>,
    /// The id within the kind. May be client text; at most
    /// [`RECORD_ID_BYTES_MAX`](crate::limits::RECORD_ID_BYTES_MAX).
    pub id: Arc<str>,
}

impl RecordKey {
    /// A key.
    #[must_use]
    pub fn new(kind: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self {
            kind: kind.into(),
            id: id.into(),
        }
    }
}

/// A record's version. Rises with every commit of its partition and never restarts, so a record
/// that expired and was made anew refuses a writer that knew the old one. Below 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// There is no such record.
    pub const ABSENT: Self = Self(0);
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which commit wrote it.
    pub version: Version,
    /// The document, as its kind writes it.
    pub document: Bytes,
}

/// A commit's name: random, or derived from the commit that put it into the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommitId(pub u128);

impl CommitId {
    /// The id of what the `index`th outbox entry of this commit commits: the same each time that
    /// the entry is relayed.
    #[must_use]
    pub fn derived(self, index: u32) -> Self {
        let mut seed = self.0.to_be_bytes().to_vec();
        seed.extend_from_slice(&index.to_be_bytes());
        let high = twox_hash::XxHash64::oneshot(0, &seed);
        let low = twox_hash::XxHash64::oneshot(1, &seed);
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitId({self})")
    }
}

/// One atomic change of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Looked at before everything else.
    pub id: CommitId,
    /// How long a retry under this id gets the first answer. The log's own retries end when half
    /// of it has passed.
    pub remember: Duration,
    /// The records that were looked at, and their versions then. Any other version: conflict.
    pub expects: Vec<(RecordKey, Version)>,
    /// The deadline that this commit is the firing of: it must still stand as it is here, and is
    /// removed.
    pub fires: Option<Deadline>,
    /// The orphan that this commit is the handling of: its owner must still be lost to it, and it is
    /// an orphan no more.
    pub adopts: Option<Orphan>,
    /// Whose commit this is: it must hold a lease in this partition that was not reaped, expired or
    /// not. Must be there where a put names an owner, and be that owner.
    pub incarnation: Option<IncarnationId>,
    /// Documents to write, in their order.
    pub puts: Vec<Put>,
    /// Records to remove, with their deadlines and out of all indexes; after `puts`.
    pub removes: Vec<RecordKey>,
    /// Deadlines to set, or to clear where `at_ms` is `None`; after `fires`, `puts` and `removes`.
    pub deadlines: Vec<SetDeadline>,
    /// Where records stand in indexes from now on, in their order; after `puts` and `removes`. A put
    /// by itself leaves a record that is there where it stands; one that was removed, or has ended,
    /// stands nowhere when it is put anew.
    pub ranks: Vec<SetRank>,
    /// Events of this partition, in their order. If one of them is a duplicate by its dedup key,
    /// nothing is committed. No two may have the same key.
    pub drafts: Vec<Draft>,
    /// Flash events of this partition, in their order: handed out if the commit is stored, and not
    /// again when it is retried. Their dedup keys are not looked at.
    pub flash: Vec<Draft>,
    /// What goes elsewhere, in its order.
    pub outbox: Vec<OutboxItem>,
    /// What the committer is answered, and every retry after it. At most
    /// [`RECORD_BYTES_MAX`](crate::limits::RECORD_BYTES_MAX).
    pub answer: Bytes,
}

impl Commit {
    /// A commit that changes nothing yet.
    #[must_use]
    pub fn new(id: CommitId) -> Self {
        Self {
            id,
            remember: COMMIT_REMEMBERED,
            expects: Vec::new(),
            fires: None,
            adopts: None,
            incarnation: None,
            puts: Vec::new(),
            removes: Vec::new(),
            deadlines: Vec::new(),
            ranks: Vec::new(),
            drafts: Vec::new(),
            flash: Vec::new(),
            outbox: Vec::new(),
            answer: Bytes::new(),
        }
    }
}

/// One document to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Which.
    pub key: RecordKey,
    /// At most [`RECORD_BYTES_MAX`](crate::limits::RECORD_BYTES_MAX).
    pub document: Bytes,
    /// How long the record lives from now on by the log's clock; `None`: until it is removed. A
    /// record lives at least [`OUTLIVES_DEADLINE`] beyond the last of its deadlines that stands, or
    /// was set since it was written.
    pub lifetime: Option<Duration>,
    /// Whose the record is from now on: lost with it (LOG.md §7). `None`: nobody's, whoever's it
    /// was. Removing the record clears it, too; the end of its lifetime does not, so that records
    /// with an owner had better live until they are removed.
    pub owner: Option<IncarnationId>,
}

/// A deadline that stands: until it is fired, moved or cleared, or its record is removed. That its
/// record's lifetime has ended, or that there never was one, does not matter to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline {
    /// When, milliseconds since 1970 by the log's clock.
    pub at_ms: u64,
    /// Of which record.
    pub record: RecordKey,
    /// Which of its deadlines, in the form of a [kind](RecordKey::kind): never client text, so a
    /// record has only as many as its kind knows.
    pub name: Arc<str>,
}

/// A deadline to set (anew) or to clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDeadline {
    /// Of which record.
    pub record: RecordKey,
    /// Which of its deadlines.
    pub name: Arc<str>,
    /// When; `None` clears it.
    pub at_ms: Option<u64>,
}

/// Deadlines that have passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Earliest first.
    pub deadlines: Vec<Deadline>,
    /// The log's clock when they were read, milliseconds since 1970.
    pub now_ms: u64,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is stored.
    Committed(Committed),
    /// A record has another version by now: load, decide and commit again, under the same id.
    Conflict,
    /// The deadline that it was the firing of does not stand any more, or the orphan that it was
    /// the handling of is none any more.
    Gone,
    /// [`Commit::incarnation`] holds no lease here.
    Fenced,
    /// The draft at this index is known by its dedup key; here is the first one's id. Nothing was
    /// committed.
    Duplicate {
        /// Which draft of the commit.
        draft: usize,
        /// The first one's id.
        id: EventId,
    },
}

/// A stored commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The version of every record that it wrote.
    pub version: Version,
    /// Its events' ids, in the order of its drafts; all new, or all retried.
    pub appended: Vec<Appended>,
    /// What the first committer gave as the answer.
    pub answer: Bytes,
    /// Whether an earlier try stored it.
    pub retried: bool,
}

/// What a commit hands to somewhere else, delivered at least once and deduplicated there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxItem {
    /// An event of any partition.
    Draft(Draft),
    /// A flash event of any partition. It may come twice, or not at all if the log is full then.
    Flash(Draft),
    /// A command to records of any partition.
    Command(Command),
    /// A call to a server outside.
    Call(Call),
}

/// The place of an outbox entry within its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxId {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Within the millisecond.
    pub seq: u64,
}

/// One entry of an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Where it stands.
    pub id: OutboxId,
    /// The commit that put it there.
    pub commit: CommitId,
    /// Its index in that commit.
    pub index: u32,
    /// What it is.
    pub item: OutboxItem,
}

/// Names one relay: random, one per instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayId(pub u128);

/// What a turn of relaying found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relay {
    /// Deliver these, in order, then take the next turn.
    Entries(Vec<OutboxEntry>),
    /// Nothing is left; the lease is given back.
    Empty,
    /// Another relay holds the lease.
    Busy,
}

/// A command: what is asked of records, decided by the kind it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The record kind whose decide function takes it.
    pub kind: Arc<str>,
    /// What decides the partition of all records and topics that it touches.
    pub placement_key: Arc<str>,
    /// The records to load first; the function may ask for more.
    pub records: Vec<RecordKey>,
    /// What is asked, in the kind's own form (JSON by custom): it may travel through an outbox.
    pub body: Bytes,
}

/// A request to a server outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method, e.g. `POST`.
    pub method: Arc<str>,
    /// `http://` or `https://`, from configuration, never client text.
    pub url: Arc<str>,
    /// Header names and values.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// The body.
    pub body: Bytes,
    /// How long it may take.
    pub patience: Duration,
}

/// What a server outside answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body, bounded by the caller.
    pub body: Bytes,
}

/// Why a server outside gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It was not reached, or broke off.
    #[error("not reached: {0}")]
    Failed(String),
    /// It answered more than is taken.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// This instance has nothing to call with.
    #[error("calls to servers outside are not set up here")]
    NotSetUp,
}

/// What performs calls to servers outside; the server brings an HTTPS client.
pub trait Outside: fmt::Debug + Send + Sync + 'static {
    /// Performs one call, once, bounded in time and size.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallAnswer, CallError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_commit_ids_are_stable_and_differ() {
        let id = CommitId(7);
        assert_eq!(id.derived(0), id.derived(0));
        assert_ne!(id.derived(0), id.derived(1));
        assert_ne!(id.derived(0), CommitId(8).derived(0));
        assert_eq!(id.to_string().len(), 32);
    }
}
