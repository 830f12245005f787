//! How safe a publish's events are beyond being stored: what the publisher wants, what was reached,
//! and what it is told of that.
//!
//! Less than what was wanted is no failure: the events are stored, and the status says so. A
//! problem here would make publishers send again what every reader has got. So the answer's
//! `durability` is what was reached; a publisher that wants more publishes again under the same
//! `id`, which stores nothing twice and waits anew.

use std::time::Duration;

use serde::Serialize;
use tidings_adapter::Hub;
use tidings_core::{Durability, EventId, Settled, Topic};

use crate::limits::PublishLimits;
use crate::problem::{Cause, Problem};

/// The query parameter.
const PARAMETER: &str = "durability";

/// One publish's wish, and how far it has come.
#[derive(Debug)]
pub(super) struct Safety<'a> {
    hub: &'a Hub,
    want: Durability,
    patience: Duration,
    settled: Settled,
}

/// What the publisher is told, as members of the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    /// What all events of this publish are.
    durability: &'static str,
    /// What was wanted, if that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<&'static str>,
    /// The same for people, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

impl<'a> Safety<'a> {
    /// What the query asks for, or else the configuration.
    ///
    /// # Errors
    /// [`Cause::InvalidParameter`].
    pub(super) fn wanted(
        hub: &'a Hub,
        limits: &PublishLimits,
        query: Option<&str>,
    ) -> Result<Self, Problem> {
        Ok(Self {
            hub,
            want: parse(query)?.unwrap_or(limits.durability),
            patience: limits.durability_timeout,
            settled: Settled::EVERYTHING,
        })
    }

    /// Whether anything more than being stored may still be reached: if not, there is no need to
    /// keep what was stored.
    pub(super) fn waits(&self) -> bool {
        self.within_reach() != Durability::Stored
    }

    /// Waits for some events that were just stored. What one part of a publish has missed is not
    /// waited for with the next one.
    pub(super) async fn wait(&mut self, stored: &[(Topic, EventId)]) {
        if self.waits() && !stored.is_empty() {
            let want = self.within_reach();
            let settled = self.hub.settle(stored, want, self.patience).await;
            self.settled = self.settled.and(settled);
        }
    }

    pub(super) fn told(&self) -> Told {
        let reached = self.within_reach();
        let missed = reached != self.want;
        Told {
            durability: reached.as_str(),
            wanted: missed.then_some(self.want.as_str()),
            warning: missed.then(|| {
                format!(
                    "stored, but not known to be {} within {:?}; publishing again with the same `id` and `source` stores nothing twice and waits again",
                    self.want.as_str(),
                    self.patience
                )
            }),
        }
    }

    fn within_reach(&self) -> Durability {
        self.settled.reached(self.want)
    }
}

fn parse(query: Option<&str>) -> Result<Option<Durability>, Problem> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut values = pairs.filter(|(name, _)| name == PARAMETER);
    let Some((_, value)) = values.next() else {
        return Ok(None);
    };
    let wrong = |what: &str| {
        let allowed: Vec<&str> = Durability::ALL.iter().map(|one| one.as_str()).collect();
        Err(
            Problem::new(Cause::InvalidParameter, format!("`{PARAMETER}` {what}"))
                .field(PARAMETER)
                .with("allowed", allowed),
        )
    };
    if values.next().is_some() {
        return wrong("is given twice");
    }
    match Durability::of(&value) {
        Some(durability) => Ok(Some(durability)),
        None => wrong("is not a level that is known here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_a_level_once_or_nothing() {
        let table = [
            (None, Ok(None)),
            (Some("key=x"), Ok(None)),
            (Some("durability=stored"), Ok(Some(Durability::Stored))),
            (
                Some("key=x&durability=replicated"),
                Ok(Some(Durability::Replicated)),
            ),
            (Some("durability=fsynced"), Ok(Some(Durability::Fsynced))),
            (Some("durability=Fsynced"), Err(())),
            (Some("durability="), Err(())),
            (Some("durability=all"), Err(())),
            (Some("durability=stored&durability=stored"), Err(())),
        ];
        for (query, expected) in table {
            assert_eq!(parse(query).map_err(|_| ()), expected, "{query:?}");
        }
        let problem = parse(Some("durability=all")).expect_err("refused");
        assert_eq!(problem.cause, Cause::InvalidParameter);
        assert_eq!(problem.more["field"], "durability");
    }
}
