//! The unit of a time that clients are told.

use serde::Deserialize;

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
