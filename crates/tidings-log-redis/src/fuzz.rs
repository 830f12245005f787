//! What the fuzz targets of `tidings-fuzz` need to see of this crate's inside, and nobody else.

use redis::Value;
use tidings_core::{Attributes, Event, EventId};

use crate::RawEntry;
use crate::entry::{self, Entry};

/// The entries of a log's stream; an error where something stands that no hub wrote, `None` when
/// the answer has another shape.
#[must_use]
pub fn entries(answer: Value) -> Option<Vec<Result<Event, EventId>>> {
    let known = |entry| match entry {
        Entry::Event(event) => Ok(event),
        Entry::Strange(id) => Err(id),
    };
    Some(entry::entries(answer)?.into_iter().map(known).collect())
}

/// The `a` field of an entry.
#[must_use]
pub fn attributes(attributes: Option<&Attributes>) -> String {
    entry::print_attributes(attributes)
}

/// The entries of the ingest stream, and the ids of deleted ones.
#[must_use]
pub fn ingest(answer: Value) -> Option<(Vec<RawEntry>, Vec<String>)> {
    crate::ingest::raw_entries(answer)
}
