//! The types of values that are written as text, with their unit.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// A duration, written with its unit: `250ms`, `10s`, `5m`, `1h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let end = text.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (number, unit) = text.split_at(end);
        let ms = match unit.trim_start() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let total = number.parse::<u64>().ok()?.checked_mul(ms)?;
        (total <= 366 * 86_400_000).then(|| Self(Duration::from_millis(total)))
    }

    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom("a duration such as \"0s\", \"250ms\", \"30s\", \"5m\"")
        })
    }
}

/// The unit in which `job_timeout` is said to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Milliseconds, as the real service says it.
    #[default]
    Ms,
    /// Seconds, as its documents say.
    S,
}

impl Unit {
    /// Milliseconds of one.
    pub(crate) const fn in_ms(self) -> u64 {
        match self {
            Self::Ms => 1,
            Self::S => 1000,
        }
    }

    /// A time in this unit, never negative.
    pub(crate) const fn of_ms(self, ms: u64) -> u64 {
        match self {
            Self::Ms => ms,
            Self::S => ms / 1000,
        }
    }
}
