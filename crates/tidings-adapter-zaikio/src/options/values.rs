//! The types of values that are written as text, with their unit.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

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
