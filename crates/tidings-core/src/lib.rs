//! The nouns and ports of Tidings, in reading order: what is published, where it stands, how a log
//! keeps it, and what a protocol's session may see and ask for.
//!
//! One word has one meaning here, in the docs, in metrics and in configuration: a [`Topic`] is one
//! ordered run of events; a publisher hands in a [`Draft`], the log hands out an [`Event`]; a
//! [`Cursor`] is a place in one or several topics, and a [`Verdict`] is what the log says of it.
//! [`EventLog`] is the port behind which the logs stand, [`Records`] the one for the state that
//! changes together with events, [`RecordKind`] how it is decided, and [`Session`] the shape of
//! every long-lived conversation.
//!
//! What is absent: this crate knows no runtime, no socket, no HTTP, no Redis, and reads no clock.
//! Time, randomness and identity are arguments.

pub mod cursor;
pub mod decide;
pub mod draft;
pub mod event;
pub mod id;
pub mod limits;
pub mod log;
pub mod pattern;
pub mod placement;
pub mod record;
pub mod session;
pub mod topic;
pub mod verdict;
pub mod view;

pub use cursor::{At, Cursor, CursorError, TopicSet, TopicSetError};
pub use decide::{CommandError, Decided, Decision, Ingest, Ingested, RecordKind, State, Trigger};
pub use draft::{Attributes, Dedup, Draft, DraftError};
pub use event::{Event, Prev};
pub use id::EventId;
pub use log::{
    Appended, BoxFuture, Clock, Durability, EventLog, Filled, From, Head, LogError, Outcome, Page,
    PageLimit, Settled, Tail, TailStep,
};
pub use pattern::TopicPattern;
pub use placement::{Partition, Partitions, Placed};
pub use record::{
    Beat, Call, CallAnswer, CallError, Command, Commit, CommitId, CommitOutcome, Committed,
    Deadline, Due, IncarnationId, Listed, Listing, Orphan, OutboxEntry, OutboxId, OutboxItem,
    Outside, Put, Rank, Record, RecordKey, Records, Relay, RelayId, SetDeadline, SetRank, Version,
};
pub use session::{
    Action, Actions, Batch, Close, Frame, FrameKind, Input, Now, Printed, Received, Refusal,
    Refused, Session, Start, SubId, TimerId, Variant, ViewRefusal, WatchId,
};
pub use topic::{Topic, TopicError};
pub use verdict::Verdict;
pub use view::ViewValue;
