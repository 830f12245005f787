//! The stamp in every payload: which run, which lane, which number in the lane, published when.
//!
//! A lane is one ordered run of publishes: a publisher within a topic. Everything that is checked
//! follows from the stamp, so it must survive every dialect: it is fixed in width (found by one
//! `memchr`, read without a parser) and made of characters that neither JSON nor a JSON text inside
//! a JSON text escapes.

/// What a stamp begins with. Rare in JSON, so looking for its first byte finds little else.
const MARK: &[u8] = b"~tb~";

const RUN: usize = 8;
const LANE: usize = 6;
const NUMBER: usize = 8;
/// Nanoseconds since the run began; twelve hexadecimal digits last for three days.
const AT: usize = 12;

/// Bytes of a stamp in print.
pub(crate) const LENGTH: usize = MARK.len() + RUN + LANE + NUMBER + AT;

/// The least size of a payload: a stamp in a JSON object, and an empty filling.
pub(crate) const PAYLOAD_MIN: usize = HEAD.len() + LENGTH + MIDDLE.len() + TAIL.len();

/// What stands before the stamp in a payload.
pub(crate) const HEAD: &[u8] = b"{\"stamp\":\"";
const MIDDLE: &[u8] = b"\",\"filling\":\"";
const TAIL: &[u8] = b"\"}";

/// One publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Tells this run's events from another's.
    pub(crate) run: u32,
    pub(crate) lane: u32,
    /// From 0, without a gap.
    pub(crate) number: u32,
    /// Nanoseconds since the run began.
    pub(crate) at: u64,
}

impl Stamp {
    /// Prints the stamp over the first [`LENGTH`] bytes of `out`, which must be there.
    pub(crate) fn print(self, out: &mut [u8]) {
        let (mark, rest) = out.split_at_mut(MARK.len());
        mark.copy_from_slice(MARK);
        let (run, rest) = rest.split_at_mut(RUN);
        let (lane, rest) = rest.split_at_mut(LANE);
        let (number, at) = rest.split_at_mut(NUMBER);
        hex(run, self.run.into());
        hex(lane, self.lane.into());
        hex(number, self.number.into());
        hex(&mut at[..AT], self.at);
    }

    /// The first stamp in a text, and what follows it.
    pub(crate) fn find(text: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = text;
        loop {
            rest = &rest[memchr::memchr(MARK[0], rest)?..];
            if let Some(digits) = rest.strip_prefix(MARK)
                && let Some(stamp) = Self::parse(digits)
            {
                return Some((stamp, &rest[LENGTH..]));
            }
            rest = &rest[1..];
        }
    }

    fn parse(digits: &[u8]) -> Option<Self> {
        let (run, rest) = digits.split_at_checked(RUN)?;
        let (lane, rest) = rest.split_at_checked(LANE)?;
        let (number, rest) = rest.split_at_checked(NUMBER)?;
        Some(Self {
            run: value(run)? as u32,
            lane: value(lane)? as u32,
            number: value(number)? as u32,
            at: value(rest.get(..AT)?)?,
        })
    }
}

/// A payload of this many bytes with room for a stamp, and where that is. Shorter ones than
/// [`PAYLOAD_MIN`] get that.
pub(crate) fn payload(bytes: usize) -> (Vec<u8>, usize) {
    let filling = bytes.saturating_sub(PAYLOAD_MIN);
    let mut out = HEAD.to_vec();
    out.resize(HEAD.len() + LENGTH, b'0');
    out.extend(MIDDLE);
    out.resize(out.len() + filling, b'.');
    out.extend(TAIL);
    (out, HEAD.len())
}

fn hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn value(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xdead_beef,
        lane: 0x12_3456,
        number: 7,
        at: 0x0123_4567_89ab,
    };

    fn printed() -> Vec<u8> {
        let (mut payload, at) = payload(256);
        STAMP.print(&mut payload[at..]);
        payload
    }

    #[test]
    fn a_payload_is_json_of_its_size() {
        for bytes in [PAYLOAD_MIN, 256, 4096] {
            let (mut payload, at) = payload(bytes);
            STAMP.print(&mut payload[at..]);
            assert_eq!(payload.len(), bytes);
            let json: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
            let stamp = json["stamp"].as_str().expect("a text");
            assert_eq!(stamp.len(), LENGTH);
            assert_eq!(
                Stamp::find(stamp.as_bytes()),
                Some((STAMP, &b""[..])),
                "{stamp}"
            );
        }
        assert_eq!(payload(0).0.len(), PAYLOAD_MIN);
    }

    #[test]
    fn a_stamp_is_found_among_others_of_its_kind() {
        let mut text = b"~~tb~ ~tb~xyz ~tb".to_vec();
        text.extend(printed());
        text.extend(printed());
        let (first, rest) = Stamp::find(&text).expect("the first");
        let (second, rest) = Stamp::find(rest).expect("the second");
        assert_eq!((first, second), (STAMP, STAMP));
        assert_eq!(Stamp::find(rest), None);
    }

    #[test]
    fn a_stamp_survives_json_in_json() {
        let text = String::from_utf8(printed()).expect("UTF-8");
        let twice = serde_json::json!({"data": serde_json::json!(text).to_string()}).to_string();
        assert_eq!(
            Stamp::find(twice.as_bytes()).map(|(stamp, _)| stamp),
            Some(STAMP)
        );
    }

    #[test]
    fn a_cut_stamp_is_none() {
        let text = printed();
        let end = HEAD.len() + LENGTH;
        assert!(Stamp::find(&text[..end]).is_some());
        assert_eq!(Stamp::find(&text[..end - 1]), None);
    }
}
