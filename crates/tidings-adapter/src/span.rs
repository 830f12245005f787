//! Durations as configurations write them: a whole number and its unit, so that nobody has to know
//! whether `timeout = 30` meant seconds.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

/// A duration, written with its unit: `250ms`, `10s`, `5m`, `1h`, `30d`. It may be none: `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Nothing lasts longer, and sums with the clock cannot overflow.
const LONGEST_MS: u64 = 366 * 24 * 3_600_000;

impl Span {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads one; `None` when it has no unit, is no whole number, or is longer than 366 days.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (number, unit) = text.split_at(end);
        let unit = match unit.trim_start() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let total = number.parse::<u64>().ok()?.checked_mul(unit)?;
        (total <= LONGEST_MS).then(|| Self::from_millis(total))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration such as "0s", "250ms", "30s", "5m", "1h" or "30d""#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        from.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let ms = |text| Span::parse(text).map(|span| span.0.as_millis());
        for (text, expected) in [
            ("0s", 0),
            ("250ms", 250),
            ("10 s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("366d", 366 * 86_400_000),
        ] {
            assert_eq!(ms(text), Some(expected), "{text:?}");
        }
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 days",
            "367d",
            "99999999999999999999s",
            "99999999999999h",
            "1S",
            "1s ",
        ] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_number_alone_is_refused_with_what_is_taken() {
        let read = |text: &str| serde_json::from_str::<Span>(text);
        assert_eq!(read(r#""2s""#).ok(), Some(Span::from_secs(2)));
        for bad in ["2", r#""2""#, "null", "[]"] {
            let error = read(bad).expect_err(bad).to_string();
            assert!(error.contains(r#""250ms""#), "{bad}: {error}");
        }
    }
}
