//! What the fuzz targets of `tidings-fuzz` need to see of this crate's inside, and nobody else.

use bytes::Bytes;
use tidings_core::{Draft, Session, Start, Topic};
use tidings_log_redis::RawEntry;

use crate::problem::Problem;
use crate::publish::lines::Lines;
use crate::read::parameters::Parameters;

/// Splits the pieces of an upload into lines, as they come in.
#[must_use]
pub fn lines(pieces: &[&[u8]], line_max: usize) -> Vec<(u64, Result<Bytes, Problem>)> {
    let mut lines = Lines::new(line_max);
    let mut found = Vec::new();
    for piece in pieces {
        lines.push(piece);
        found.extend(std::iter::from_fn(|| lines.next()));
    }
    lines.end();
    found.extend(std::iter::from_fn(|| lines.next()));
    found
}

/// The draft of an entry of the ingest stream.
///
/// # Errors
/// A [`Problem`] naming what is wrong.
pub fn ingest(entry: &RawEntry) -> Result<Draft, Problem> {
    crate::ingest::draft(entry)
}

/// Everything that a read's query may say.
///
/// # Errors
/// A [`Problem`] naming the first parameter that is wrong.
pub fn parameters(
    query: &str,
    last_event_id: Option<&str>,
) -> Result<(Vec<Topic>, Start), Problem> {
    let parameters = Parameters::parse(Some(query))?;
    parameters.offset()?;
    parameters.live()?;
    parameters.view()?;
    parameters.collapse();
    Ok((parameters.topics()?, parameters.start(last_event_id)?))
}

/// The sessions of the native API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A long-poll of the first topic.
    Poll,
    /// A `live=sse` read of the first topic.
    Tail,
    /// `/v1/events` over all of them.
    Events,
}

/// A session of the native API that prints whole events.
#[must_use]
pub fn session(kind: Kind, topics: &[Topic]) -> Option<Box<dyn Session>> {
    crate::read::session(kind, topics)
}
