//! The doctor: what a Redis' settings can lose or cost.
//!
//! [`visit`] goes to the servers and brings [`Facts`] home; [`examine`] says what they mean and
//! decides nothing else, so that its whole knowledge is a table of tests. What cannot be seen (a
//! user may not read the configuration) is a fact as well: nothing is taken for good because it was
//! not looked at.
//!
//! What is absent: nothing is set or repaired. The one thing that is written is a key that lives
//! for five seconds, to see which commands the user may use.

mod collect;
mod examine;
mod facts;
mod node;
mod rights;

use std::fmt;

use serde::Serialize;

pub use collect::visit;
pub use examine::examine;
pub use facts::{
    Clients, Cluster, Expected, Facts, Kind, Memory, NodeFacts, OutputLimit, Persistence, Replica,
    Replication, Rights, SentinelFacts, StoredLog, Traffic, Version,
};

/// How much a finding matters. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; right for many.
    Note,
    /// Loses or costs something on an ordinary bad day.
    Warning,
    /// Loses or refuses events now, or will for certain.
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// Which check it is; stable, for programs.
    pub check: &'static str,
    /// The server it was seen at; none for what concerns all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What is.
    pub found: String,
    /// What that can lose or cost, in a sentence. Empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// What to set or do. Empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}
