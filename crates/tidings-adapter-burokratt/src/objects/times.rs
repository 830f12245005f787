//! Times as clients send them and as they are printed.

use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{OffsetDateTime, PrimitiveDateTime};

/// `2023-01-18T12:56:52.895+00:00`: UTC, three decimals, always.
pub(crate) fn print_time(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let time =
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}+00:00",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// A time in milliseconds since 1970, before it 0: with any offset, `Z`, or none (clients cut it off
/// at the `+`; then it is UTC), also where the `+` of a query was decoded to a blank. `None`: it is
/// no time.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.len() > 64 {
        return None; // no form of a time is longer
    }
    // The blank of `2023-01-18T12:56:52.895 00:00`; one between date and time stands earlier.
    let text = match text.rsplit_once(' ') {
        Some((front, offset)) if front.contains(['T', 't', ' ']) => format!("{front}+{offset}"),
        _ => text.replacen(' ', "T", 1),
    };
    let with_offset = OffsetDateTime::parse(&text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&text, &Iso8601::PARSING));
    let time = with_offset.ok().or_else(|| {
        PrimitiveDateTime::parse(&text, &Iso8601::PARSING)
            .ok()
            .map(PrimitiveDateTime::assume_utc)
    })?;
    let ms = time.unix_timestamp_nanos().div_euclid(1_000_000);
    u64::try_from(ms.max(0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_one_instant_are_one() {
        let ms = 1_674_046_612_895;
        assert_eq!(print_time(ms), "2023-01-18T12:56:52.895+00:00");
        for text in [
            "2023-01-18T12:56:52.895+00:00",
            "2023-01-18T12:56:52.895Z",
            "2023-01-18T12:56:52.895",
            "2023-01-18T12:56:52.895 00:00",
            "2023-01-18 12:56:52.895",
            "2023-01-18 12:56:52.895 00:00",
            "2023-01-18T14:56:52.895+02:00",
            " 2023-01-18T12:56:52.895000Z ",
        ] {
            assert_eq!(parse_time(text), Some(ms), "{text}");
        }
        assert_eq!(parse_time("1969-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            " ",
            "now",
            "0",
            "2023-13-01T00:00:00Z",
            "2023-01-18T",
            "+",
            "undefined",
        ] {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
        assert_eq!(parse_time(&"1".repeat(100_000)), None);
    }
}
