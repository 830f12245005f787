//! Where a client says that it has been: `Last-Event-ID`, or `?lastEventId=` of a page that was
//! loaded anew. The header wins, since a browser's own memory is newer than a page's address (4.4).
//!
//! What a client sent goes nowhere but into a gap's frame, as a JSON string; the log is only asked
//! about places that were parsed.

use tidings_adapter::EventId;

/// What a client sent, and what it means in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Came {
    /// As it was sent; bytes that are no text are replaced.
    pub(crate) sent: String,
    pub(crate) place: Place,
}

/// A place in one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Good to ask the log about.
    At(EventId),
    /// Two numbers, but beyond every id that can be.
    Beyond,
    /// Not two numbers of 64 bits each.
    Invalid,
}

impl Came {
    /// What the client sent last: the header, even an empty one, before the parameter.
    pub(crate) fn of(header: Option<&[u8]>, parameter: Option<&str>) -> Option<Self> {
        let sent = match header {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => parameter?.to_owned(),
        };
        let place = Place::parse(&sent);
        Some(Self { sent, place })
    }
}

impl Place {
    fn parse(text: &str) -> Self {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u64>().ok()).flatten()
        };
        let parts = text.split_once('-');
        let Some((ms, seq)) = parts.and_then(|(ms, seq)| Some((number(ms)?, number(seq)?))) else {
            return Self::Invalid;
        };
        // A sequence that no id has lies behind all of its millisecond.
        let seq =
            u16::try_from(seq).map_or(EventId::SEQ_END - 1, |seq| seq.min(EventId::SEQ_END - 1));
        EventId::new(ms, seq).map_or(Self::Beyond, Self::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_a_place_or_is_none() {
        let at = |ms, seq| Place::At(EventId::new(ms, seq).expect("in range"));
        let table = [
            ("1767225600000-0007", at(1_767_225_600_000, 7)),
            ("1767225600000-7", at(1_767_225_600_000, 7)),
            ("0-0", at(0, 0)),
            ("1-99999", at(1, 4095)),
            ("9999999999999-0", Place::Beyond),
            ("18446744073709551615-18446744073709551615", Place::Beyond),
            ("18446744073709551616-0", Place::Invalid),
            ("0-18446744073709551616", Place::Invalid),
            ("", Place::Invalid),
            ("-", Place::Invalid),
            ("1-", Place::Invalid),
            ("-1-1", Place::Invalid),
            ("+1-1", Place::Invalid),
            ("1-1-1", Place::Invalid),
            ("(1-1", Place::Invalid),
            ("$", Place::Invalid),
            ("1-1\n", Place::Invalid),
            ("١-١", Place::Invalid),
        ];
        for (text, place) in table {
            assert_eq!(Place::parse(text), place, "{text:?}");
        }
        assert_eq!(Place::parse(&"9".repeat(100_000)), Place::Invalid);
    }

    #[test]
    fn the_header_wins_even_if_it_is_empty() {
        let sent =
            |header: Option<&[u8]>, parameter| Came::of(header, parameter).map(|came| came.sent);
        assert_eq!(sent(None, None), None);
        assert_eq!(sent(None, Some("1-1")), Some("1-1".to_owned()));
        assert_eq!(sent(Some(b"2-2"), Some("1-1")), Some("2-2".to_owned()));
        assert_eq!(sent(Some(b""), Some("1-1")), Some(String::new()));
        assert_eq!(sent(Some(b"\xff"), None), Some("\u{fffd}".to_owned()));
    }
}
