//! Event ids: the log's own clock and a sequence, so that an id is also a place and a time.

use std::fmt;

/// The place of one event in its partition: milliseconds since 1970 by the log's clock, and a
/// sequence below 4,096 (LOG.md §2).
///
/// Ids rise within a partition and never go back. Printed `<ms>-<seq>` with both parts
/// zero-padded to 13 and 4 digits, so that they sort as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId {
    ms: u64,
    seq: u16,
}

impl EventId {
    /// Before every event.
    pub const ORIGIN: Self = Self { ms: 0, seq: 0 };
    /// The sequence stays below this; past it the millisecond advances.
    pub const SEQ_END: u16 = 4096;
    /// The largest millisecond that prints in 13 digits and whose integer form stays below 2^53
    /// (the year 2039; by then ids need a wider print and a new layout version).
    pub const MS_MAX: u64 = (1 << 41) - 1;

    /// An id from its two parts; `None` when a part is out of range.
    #[must_use]
    pub const fn new(ms: u64, seq: u16) -> Option<Self> {
        if ms > Self::MS_MAX || seq >= Self::SEQ_END {
            return None;
        }
        Some(Self { ms, seq })
    }

    /// The place just before everything that happened at or after `ms`: where a read `since` a
    /// time starts.
    #[must_use]
    pub const fn before_ms(ms: u64) -> Self {
        match ms {
            0 => Self::ORIGIN,
            _ if ms > Self::MS_MAX => Self {
                ms: Self::MS_MAX,
                seq: Self::SEQ_END - 1,
            },
            _ => Self {
                ms: ms - 1,
                seq: Self::SEQ_END - 1,
            },
        }
    }

    /// Milliseconds since 1970 by the log's clock: when the event was received.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.ms
    }

    /// The sequence within the millisecond.
    #[must_use]
    pub const fn seq(self) -> u16 {
        self.seq
    }

    /// The id as one integer below 2^53: `ms × 4096 + seq`, for dialects that count (LOG.md §2).
    #[must_use]
    pub const fn as_integer(self) -> u64 {
        self.ms * Self::SEQ_END as u64 + self.seq as u64
    }

    /// The inverse of [`EventId::as_integer`]; `None` when out of range.
    #[must_use]
    pub const fn from_integer(value: u64) -> Option<Self> {
        let seq = (value % Self::SEQ_END as u64) as u16;
        Self::new(value / Self::SEQ_END as u64, seq)
    }

    /// The next possible id.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.seq + 1 < Self::SEQ_END {
            Self {
                ms: self.ms,
                seq: self.seq + 1,
            }
        } else {
            Self {
                ms: self.ms + 1,
                seq: 0,
            }
        }
    }

    /// Parses `<ms>-<seq>`, padded or not; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        if ms.len() > 13 || seq.len() > 4 || ![ms, seq].iter().all(|part| digits(part)) {
            return None;
        }
        Self::new(ms.parse().ok()?, seq.parse().ok()?)
    }
}

fn digits(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:013}-{:04}", self.ms, self.seq)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_padded_and_sort_as_text() {
        let id = EventId::new(1_732_161_600_000, 7).expect("in range");
        assert_eq!(id.to_string(), "1732161600000-0007");
        assert_eq!(EventId::parse("1732161600000-0007"), Some(id));
        assert_eq!(EventId::parse("1732161600000-7"), Some(id));
        assert_eq!(EventId::ORIGIN.to_string(), "0000000000000-0000");
        let later = EventId::new(1_732_161_600_000, 10).expect("in range");
        assert!(later > id && later.to_string() > id.to_string());
    }

    #[test]
    fn garbage_is_no_id() {
        for text in [
            "",
            "-",
            "1-",
            "-1",
            "+1-1",
            "1-1-1",
            "1-4096",
            "99999999999999-0",
            "x-1",
            "1- 1",
            "-1-1",
        ] {
            assert_eq!(EventId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_integer_form_goes_there_and_back() {
        let id = EventId::new(1_732_161_600_000, 4095).expect("in range");
        assert!(id.as_integer() < 1 << 53);
        assert_eq!(EventId::from_integer(id.as_integer()), Some(id));
        assert_eq!(
            id.next(),
            EventId::new(1_732_161_600_001, 0).expect("in range")
        );
        assert_eq!(EventId::before_ms(1_732_161_600_001), id);
    }
}
