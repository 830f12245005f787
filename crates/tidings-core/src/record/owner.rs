//! Owners of records: one life of one instance, whether it goes on, and what was lost with it (LOG.md
//! §7). They stand apart from records, because they stand whether the record is there or not.

use std::fmt;
use std::time::Duration;

use super::RecordKey;

/// How long the log knows that an incarnation was reaped or has left: an instance that was frozen
/// for longer must not trust its lease, whatever the log says.
pub const TOMBSTONE: Duration = Duration::from_secs(3600);

/// Names one life of one instance: random, and another one after each time that it was fenced
/// (LOG.md §7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncarnationId(pub u128);

impl IncarnationId {
    /// Parses what `Display` prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).ok();
        id.filter(|_| plain).map(Self)
    }
}

impl fmt::Display for IncarnationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for IncarnationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncarnationId({self})")
    }
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// It is held.
    Held,
    /// It was reaped, or given back: what it owned is others' to handle, and this incarnation is
    /// over.
    Reaped,
}

/// A record whose owner is lost, until that is handled, the record is removed, or a put gives it
/// another owner or none. That its lifetime has ended does not matter, as with deadlines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Orphan {
    /// Who owned it.
    pub incarnation: IncarnationId,
    /// Which.
    pub record: RecordKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_go_there_and_back_as_text() {
        for id in [0, 7, u128::MAX] {
            let id = IncarnationId(id);
            assert_eq!(IncarnationId::parse(&id.to_string()), Some(id));
        }
        for strange in ["", "7", "+0000000000000000000000000000007", &"g".repeat(32)] {
            assert_eq!(IncarnationId::parse(strange), None, "{strange}");
        }
    }
}
