//! The resume cursor: one place over a user's own topic and all his channels, as `meta.event_id`.
//!
//! It names the last change of his memberships that it knows, a place for each partition in which he
//! has channels, and *exceptions*: spans that are not where their partition is. Few are, and only for
//! a moment, so a cursor has some hundred bytes however many channels there are.
//!
//! A cursor is sealed: it says from where on a member hears a channel, and a place that the client
//! made up could lie before he was one.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use tidings_adapter::EventId;

/// The first byte.
const VERSION: u8 = 1;

/// An id's integer form is below 2^53: seven bytes hold it.
const PLACE_BYTES: usize = 7;

/// Bytes of a cursor's text: 256 partitions and 500 exceptions have no more.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a seal, at the end: too many to guess at the rate at which one may connect.
const SEAL_BYTES: usize = 9;

/// Keeps these seals apart from whatever else is signed with the same secret.
const SEAL_LABEL: &[u8] = b"airsend cursor\0";

/// What cursors are sealed with: HMAC-SHA256 under the adapter's secret, so every instance takes
/// what another one has made.
#[derive(Debug, Clone)]
pub(crate) struct Seal(hmac::Key);

impl Seal {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// As text, with the seal behind it.
    pub(crate) fn close(&self, mut bytes: Vec<u8>) -> String {
        let tag = self.tag(&bytes);
        bytes.extend(tag.as_ref().iter().take(SEAL_BYTES));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What is within, if the seal is ours.
    fn open(&self, text: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let seal = bytes.split_off(bytes.len().checked_sub(SEAL_BYTES)?);
        let tag = self.tag(&bytes);
        let good: bool = tag.as_ref().get(..SEAL_BYTES)?.ct_eq(&seal).into();
        good.then_some(bytes)
    }

    fn tag(&self, bytes: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(SEAL_LABEL);
        context.update(bytes);
        context.sign()
    }
}

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
    pub(crate) fn print(&self, seal: &Seal) -> String {
        let mut bytes = Vec::with_capacity(41 + self.places.len() * 9 + self.exceptions.len() * 9);
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
        seal.close(bytes)
    }

    pub(crate) fn parse(text: &str, seal: &Seal) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = seal.open(text)?;
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

    fn seal() -> Seal {
        Seal::new(b"a secret of the tests: 32 bytes and more")
    }

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
        let text = cursor.print(&seal());
        assert!(text.len() < 262, "{}", text.len());
        assert_eq!(Cursor::parse(&text, &seal()), Some(cursor.clone()));
        for end in 0..text.len() {
            assert_eq!(Cursor::parse(&text[..end], &seal()), None);
        }
        // Nobody else makes one, and nobody changes one.
        let other = Seal::new(b"another secret: 32 bytes and more too");
        assert_eq!(Cursor::parse(&cursor.print(&other), &seal()), None);
        let bytes = URL_SAFE_NO_PAD.decode(&text).expect("text of ours");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(Cursor::parse(&changed, &seal()), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(Cursor::parse(&URL_SAFE_NO_PAD.encode(&bytes), &seal()), None);
            let mut good = vec![VERSION];
            good.extend(&bytes);
            if let Some(cursor) = Cursor::parse(&seal().close(good), &seal()) {
                prop_assert_eq!(Cursor::parse(&cursor.print(&seal()), &seal()), Some(cursor));
            }
        }
    }
}
