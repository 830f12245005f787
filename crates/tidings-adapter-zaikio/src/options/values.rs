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
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom("a duration such as \"0s\", \"250ms\", \"30s\", \"5m\"")
        })
    }
}

/// So many requests in so many seconds, written `300reqs/60s` as Zaikio's `RateLimit-Rule` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: u32,
    /// In how many seconds.
    pub seconds: u32,
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (requests, seconds) = text.strip_suffix('s')?.split_once("reqs/")?;
        let (requests, seconds) = (requests.parse().ok()?, seconds.parse().ok()?);
        (requests > 0 && (1..=86_400).contains(&seconds)).then_some(Self { requests, seconds })
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}reqs/{}s", self.requests, self.seconds)
    }
}

/// An empty text means that there is no limit.
pub(super) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Rate>, D::Error> {
    match String::deserialize(from)? {
        text if text.is_empty() => Ok(None),
        text => Rate::parse(&text)
            .map(Some)
            .ok_or_else(|| D::Error::custom("a rate such as \"300reqs/60s\"")),
    }
}
