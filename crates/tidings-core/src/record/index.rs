//! Indexes over the records of a kind: in which order some of them stand, e.g. the chats that wait,
//! by the time at which they began to.
//!
//! Where a record stands is part of the record: it is written in the commit that decides it, kept
//! when the document is written anew, and gone when the record is.

use std::sync::Arc;

use super::{Record, RecordKey};

/// The highest rank: scripts reckon with floating-point numbers, which are exact up to here.
pub const RANK_MAX: u64 = (1 << 53) - 1;

/// Where a record is to stand in an index from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRank {
    /// Which. If there is no such record, nothing is set.
    pub record: RecordKey,
    /// Which index of its kind, in the form of a [kind](RecordKey::kind): never client text.
    pub index: Arc<str>,
    /// At most [`RANK_MAX`]; `None` takes it out.
    pub rank: Option<u64>,
}

/// A place in an index: by rank, and among equals by the bytes of the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// The rank.
    pub rank: u64,
    /// The record's id.
    pub id: Arc<str>,
}

/// One record of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it stands.
    pub rank: u64,
    /// Which.
    pub key: RecordKey,
    /// As it is.
    pub record: Record,
}

impl Listed {
    /// Its place in the index.
    #[must_use]
    pub fn place(&self) -> Rank {
        Rank {
            rank: self.rank,
            id: Arc::clone(&self.key.id),
        }
    }
}

/// One page of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// In their order. Fewer than were asked for, or none at all, does not mean that there are no
    /// more: see `next`.
    pub entries: Vec<Listed>,
    /// Go on after this place; `None`: nothing stands behind it.
    pub next: Option<Rank>,
}
