//! The resume cursor: one place over a user's own topic and all his channels, as `meta.event_id`.
//!
//! It names the last change of his memberships that it knows, a place for each partition in which he
//! has channels, and *exceptions*: spans that are not where their partition is. Few are, and only for
//! a moment, so a cursor has some hundred bytes however many channels there are.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidings_adapter::EventId;

/// The first byte.
const VERSION: u8 = 1;

/// An id's integer form is below 2^53: seven bytes hold it.
const PLACE_BYTES: usize = 7;

/// Bytes of a cursor's text: 256 partitions and 500 exceptions have no more.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Where somebody is in everything that he hears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) user: u64,
    /// The last change of his memberships that is in it.
    pub(crate) changes: u64,
    /// In his own topic.
    pub(crate) own: EventId,
    /// In each partition.
    pub(crate) places: Vec<(u16, EventId)>,
    /// By the change that began the span.
    pub(crate) exceptions: Vec<(u64, Exception)>,
}

/// A span that is not where its partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exception {
    /// Its end was heard, though its change is not known yet.
    Over,
    /// Nothing of it was heard yet.
    Fresh,
    /// It is here.
    At(EventId),
}

impl Cursor {
    pub(crate) fn print(&self) -> String {
        let mut bytes = Vec::with_capacity(32 + self.places.len() * 9 + self.exceptions.len() * 9);
        bytes.push(VERSION);
        number(&mut bytes, self.user);
        number(&mut bytes, self.changes);
        place(&mut bytes, self.own.as_integer());
        number(&mut bytes, self.places.len() as u64);
        for (partition, at) in &self.places {
            number(&mut bytes, u64::from(*partition));
            place(&mut bytes, at.as_integer());
        }
        for (joined, exception) in &self.exceptions {
            number(&mut bytes, *joined);
            place(
                &mut bytes,
                match exception {
                    Exception::Over => 0,
                    Exception::Fresh => 1,
                    Exception::At(at) => at.as_integer().max(2),
                },
            );
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&VERSION, mut rest) = bytes.split_first()? else {
            return None;
        };
        let rest = &mut rest;
        let mut cursor = Self {
            user: take_number(rest)?,
            changes: take_number(rest)?,
            own: EventId::from_integer(take_place(rest)?)?,
            ..Self::default()
        };
        for _ in 0..take_number(rest)? {
            let partition = u16::try_from(take_number(rest)?).ok()?;
            cursor
                .places
                .push((partition, EventId::from_integer(take_place(rest)?)?));
        }
        while !rest.is_empty() {
            let joined = take_number(rest)?;
            let exception = match take_place(rest)? {
                0 => Exception::Over,
                1 => Exception::Fresh,
                at => Exception::At(EventId::from_integer(at)?),
            };
            cursor.exceptions.push((joined, exception));
        }
        Some(cursor)
    }
}

/// Seven bits a byte, the lowest first.
fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    // What is left is below 0x80.
    bytes.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn place(bytes: &mut Vec<u8>, place: u64) {
    bytes.extend(&place.to_be_bytes()[8 - PLACE_BYTES..]);
}

fn take_place(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk::<PLACE_BYTES>()?;
    *rest = tail;
    let mut wide = [0; 8];
    wide[8 - PLACE_BYTES..].copy_from_slice(head);
    Some(u64::from_be_bytes(wide))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> EventId {
        EventId::new(ms, 3).expect("in range")
    }

    #[test]
    fn there_and_back() {
        let cursor = Cursor {
            user: 91_010_000,
            changes: 300,
            own: at(1_767_225_600_000),
            places: (0..16)
                .map(|p| (p, at(1_767_225_600_000 + u64::from(p))))
                .collect(),
            exceptions: vec![
                (7, Exception::Over),
                (200, Exception::Fresh),
                (299, Exception::At(at(1_767_225_600_001))),
            ],
        };
        let text = cursor.print();
        assert!(text.len() < 250, "{}", text.len());
        assert_eq!(Cursor::parse(&text), Some(cursor));
        for end in 0..text.len() {
            // No panic; the shorter ones may be cursors with fewer exceptions.
            let _ = Cursor::parse(&text[..end]);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Cursor::parse(&URL_SAFE_NO_PAD.encode(&bytes));
            let mut good = vec![VERSION];
            good.extend(&bytes);
            if let Some(cursor) = Cursor::parse(&URL_SAFE_NO_PAD.encode(&good)) {
                prop_assert_eq!(Cursor::parse(&cursor.print()), Some(cursor));
            }
        }
    }
}
