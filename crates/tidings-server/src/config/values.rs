//! The types of configuration values: each is valid once it is parsed, and each says what it takes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use tidings_core::TopicPattern;

use super::telemetry::{ResourceAttribute, Share};

/// A text that is never shown: not by `Debug`, and there is no other way to print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, "a text", |text| Some(Self::new(text)))
    }
}

/// Empty texts mean "not set".
pub(crate) fn optional<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromText,
{
    parsed(from, T::ALLOWED, |text| match text {
        "" => Some(None),
        text => T::from_text(text).map(Some),
    })
}

/// What can be read from a configuration's text.
pub(crate) trait FromText: Sized {
    /// What is taken, for the problem.
    const ALLOWED: &'static str;
    /// `None` when the text is not one of these.
    fn from_text(text: &str) -> Option<Self>;
}

impl FromText for Secret {
    const ALLOWED: &'static str = "a text";
    fn from_text(text: &str) -> Option<Self> {
        Some(Self::new(text))
    }
}

impl FromText for String {
    const ALLOWED: &'static str = "a text";
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromText for std::path::PathBuf {
    const ALLOWED: &'static str = "the path of a file";
    fn from_text(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

/// A duration, written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    const ALLOWED: &'static str =
        "a duration above zero, such as \"250ms\", \"10s\", \"5m\" or \"1h\"";

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let span = tidings_adapter::Span::parse(text)?;
        (!span.0.is_zero()).then_some(Self(span.0))
    }
}

/// A duration that may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause(pub Duration);

impl Pause {
    const ALLOWED: &'static str = "a duration such as \"0s\", \"500ms\" or \"5s\"";

    fn parse(text: &str) -> Option<Self> {
        tidings_adapter::Span::parse(text).map(|span| Self(span.0))
    }
}

/// A number of bytes, written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub usize);

impl Size {
    const ALLOWED: &'static str =
        "a size above zero, such as \"512B\", \"64KiB\", \"4MiB\" or \"1GiB\"";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let bytes: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        let total = number.checked_mul(bytes).filter(|n| *n > 0)?;
        usize::try_from(total).ok().map(Self)
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// A whole number in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<const MIN: u64, const MAX: u64>(u64);

/// What may be none at all is none when nothing is said.
impl<const MAX: u64> Default for Count<0, MAX> {
    fn default() -> Self {
        Self(0)
    }
}

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        // Where usize is narrower than u64, more could not be held anyway.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A pattern of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(pub TopicPattern);

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub std::net::SocketAddr);

impl FromText for Listen {
    const ALLOWED: &'static str = "an address such as \"127.0.0.1:8080\" or \"[::]:8080\"";
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// An origin of a browser page, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Every origin.
    Any,
    /// This one, as browsers send it.
    One(http::HeaderValue),
}

impl Origin {
    const ALLOWED: &'static str = "an origin such as \"https://app.example\", or \"*\"";

    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let uri: http::Uri = text.parse().ok()?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        // An origin has no path: a browser never sends one, so it would never match.
        let bare = uri.authority().is_some_and(|a| !a.as_str().contains('@'))
            && uri.path_and_query().is_none_or(|p| p.as_str() == "/")
            && !text.ends_with('/');
        (web && bare).then(|| http::HeaderValue::from_str(text).ok().map(Self::One))?
    }
}

/// The SHA-256 of a key, written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl FromText for Digest {
    const ALLOWED: &'static str =
        "64 hexadecimal digits, as `printf %s KEY | sha256sum` prints them";

    fn from_text(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(digest))
    }
}

/// What a publish waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durability(pub tidings_core::Durability);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Which log lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(pub String);

impl Level {
    fn parse(text: &str) -> Option<Self> {
        tracing_subscriber::EnvFilter::from_str(text).ok()?;
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
}

macro_rules! from_text {
    ($($type:ty: $allowed:expr, $parse:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                parsed(from, $allowed, $parse)
            }
        }
    )*};
}

from_text! {
    Share: Self::ALLOWED, Self::from_text;
    ResourceAttribute: Self::ALLOWED, Self::from_text;
    Span: Self::ALLOWED, Self::parse;
    Pause: Self::ALLOWED, Self::parse;
    Size: Self::ALLOWED, Self::parse;
    Origin: Self::ALLOWED, Self::parse;
    Pattern: "a pattern of topics such as \"shop/*\", \"shop/**\" or \"**\"",
        |text| TopicPattern::parse(text).ok().map(Self);
    Listen: <Self as FromText>::ALLOWED, <Self as FromText>::from_text;
    Durability: "\"stored\", \"replicated\" or \"fsynced\"",
        |text| tidings_core::Durability::of(text).map(Self);
    LogFormat: "\"text\" or \"json\"", |text| match text {
        "text" => Some(Self::Text),
        "json" => Some(Self::Json),
        _ => None,
    };
    Level: "\"error\", \"warn\", \"info\", \"debug\", \"trace\", or per module \"info,module=debug\"",
        Self::parse;
}

pub(super) fn parsed<'de, D, T>(
    from: D,
    allowed: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct Text<F>(&'static str, F);

    impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Text<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self.0))
        }
    }

    from.deserialize_str(Text(allowed, parse))
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Number<MIN, MAX> {
            type Value = Count<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&number) {
                    Ok(Count(number))
                } else {
                    Err(E::invalid_value(Unexpected::Unsigned(number), &self))
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }
        }

        from.deserialize_u64(Number::<MIN, MAX>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        let ms = |text| Span::parse(text).map(|span| span.0.as_millis());
        assert_eq!(ms("250ms"), Some(250));
        assert_eq!(ms("10 s"), Some(10_000));
        assert_eq!(ms("5m"), Some(300_000));
        assert_eq!(ms("1h"), Some(3_600_000));
        for bad in [
            "",
            "10",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "10 days",
            "99999999999999h",
            "1S",
        ] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
        let pause = |text| Pause::parse(text).map(|pause| pause.0.as_millis());
        assert_eq!(
            (pause("0s"), pause("0ms"), pause("2s")),
            (Some(0), Some(0), Some(2_000))
        );
        for bad in ["", "0", "0 days", "-1s"] {
            assert_eq!(pause(bad), None, "{bad:?}");
        }
        let bytes = |text| Size::parse(text).map(|size| size.0);
        assert_eq!(bytes("512B"), Some(512));
        assert_eq!(bytes("64KiB"), Some(65_536));
        assert_eq!(bytes("4 MiB"), Some(4 << 20));
        for bad in ["", "4", "4MB", "0B", "99999999999999GiB", "-1B"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for good in ["*", "https://app.example", "http://localhost:3000"] {
            assert!(Origin::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "app.example",
            "https://app.example/",
            "https://a/b",
            "ftp://a",
            "https://u@a",
            "null",
        ] {
            assert!(Origin::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn digests_are_hexadecimal() {
        let text = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(
            Digest::from_text(text).map(|d| (d.0[0], d.0[31])),
            Some((0x2d, 0x81))
        );
        assert_eq!(Digest::from_text(&text[1..]), None);
        assert_eq!(Digest::from_text(&text.replace('2', "g")), None);
    }
}
