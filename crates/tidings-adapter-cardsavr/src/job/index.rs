//! What leads to a job or a cardholder: by cuid, by account, by envelope; and lists of all jobs.
//!
//! An entry is written before what it leads to: one that leads nowhere does no harm.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tidings_adapter::{Command, Decision, RecordKind, State, Trigger};

use super::to_json;
use crate::Shared;
use crate::errors::Refused;
use crate::keys;

/// How long a cuid leads to its cardholder after it was last used.
const CUID: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an account or an envelope leads to its job: longer than a job takes and is kept.
const OTHERS: Duration = Duration::from_secs(24 * 3600);

/// Jobs of one list, at some 50 bytes each; with 64 lists 64,000 jobs are found without their
/// ids. The oldest ones make room.
const SHELF_MAX: usize = 1_000;

/// A job is listed for so long after it was made: longer than one takes and is kept.
const LISTED_MS: u64 = 6 * 3600 * 1000;

/// What is asked of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// This number, unless it leads somewhere already. Answered by where it leads.
    Claim { number: u64 },
    /// This number from now on.
    Lead { number: u64 },
    /// A job is listed.
    List {
        job: u64,
        owner: u64,
        cardholder: u64,
    },
}

/// A list of jobs: of each its owner, its cardholder, and when it was listed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Shelf(BTreeMap<u64, (u64, u64, u64)>);

/// A job as a list knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) job: u64,
    pub(crate) owner: u64,
    pub(crate) cardholder: u64,
}

/// A command to an entry of the index.
pub(crate) fn command(id: &str, ask: &Ask) -> Command {
    Command {
        kind: keys::INDEX.into(),
        placement_key: keys::index_key(id).into(),
        records: vec![keys::index(id)],
        body: to_json(ask).into(),
    }
}

/// Lists a job.
pub(crate) fn list(job: u64, owner: u64, cardholder: u64) -> Command {
    let shelf = job % keys::SHELVES;
    let ask = Ask::List {
        job,
        owner,
        cardholder,
    };
    Command {
        kind: keys::INDEX.into(),
        placement_key: keys::shelf_key(shelf % keys::SHELF_PLACES).into(),
        records: vec![keys::shelf(shelf)],
        body: to_json(&ask).into(),
    }
}

/// Where an entry leads.
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn find(shared: &Shared, id: &str) -> Result<Option<u64>, Refused> {
    let place = keys::index_key(id);
    let loaded = shared.hub.load(&place, vec![keys::index(id)]).await?;
    let record = loaded.into_iter().flatten().next();
    Ok(record.and_then(|record| serde_json::from_slice(&record.document).ok()))
}

/// All jobs that are listed.
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn listed(shared: &Shared) -> Result<Vec<Listed>, Refused> {
    let places = (0..keys::SHELF_PLACES).map(|place| async move {
        let numbers = (place..keys::SHELVES).step_by(keys::SHELF_PLACES as usize);
        let keys = numbers.map(keys::shelf).collect();
        shared.hub.load(&keys::shelf_key(place), keys).await
    });
    let mut all = Vec::new();
    for record in try_join_all(places).await?.into_iter().flatten().flatten() {
        let shelf: Shelf = serde_json::from_slice(&record.document).unwrap_or_default();
        all.extend(
            shelf
                .0
                .into_iter()
                .map(|(job, (owner, cardholder, _))| Listed {
                    job,
                    owner,
                    cardholder,
                }),
        );
    }
    Ok(all)
}

/// Decides entries.
#[derive(Debug)]
pub(crate) struct Index;

impl RecordKind for Index {
    fn name(&self) -> &'static str {
        keys::INDEX
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let leads = || document.and_then(|text| serde_json::from_slice::<u64>(text).ok());
        let (number, lifetime) = match serde_json::from_slice(body) {
            Ok(Ask::Claim { number }) => (leads().unwrap_or(number), CUID),
            Ok(Ask::Lead { number }) => (number, OTHERS),
            Ok(Ask::List {
                job,
                owner,
                cardholder,
            }) => {
                let mut shelf: Shelf = document
                    .and_then(|text| serde_json::from_slice(text).ok())
                    .unwrap_or_default();
                shelf
                    .0
                    .retain(|_, (_, _, at)| now_ms.saturating_sub(*at) < LISTED_MS);
                shelf.0.insert(job, (owner, cardholder, now_ms));
                while shelf.0.len() > SHELF_MAX {
                    shelf.0.pop_first();
                }
                let mut decision = Decision::default();
                let lifetime = Duration::from_millis(LISTED_MS);
                decision.put(key.clone(), to_json(&shelf), Some(lifetime));
                return decision;
            }
            Err(_) => return Decision::default(),
        };
        let mut decision = Decision::answer(number.to_string());
        decision.put(key.clone(), number.to_string(), Some(lifetime));
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(document: Option<&[u8]>, ask: &Ask, now_ms: u64) -> Decision {
        let document = document.map(|text| text.to_vec().into());
        let state = [(keys::index("x"), document)];
        Index.decide(&State::new(&state), Trigger::Command(&to_json(ask)), now_ms)
    }

    #[test]
    fn the_first_claim_holds() {
        assert_eq!(decide(None, &Ask::Claim { number: 7 }, 0).answer, "7");
        assert_eq!(decide(Some(b"7"), &Ask::Claim { number: 8 }, 0).answer, "7");
        assert_eq!(decide(Some(b"7"), &Ask::Lead { number: 8 }, 0).answer, "8");
    }

    #[test]
    fn lists_stay_bounded() {
        let full = Shelf(
            (0..SHELF_MAX as u64)
                .map(|job| {
                    (
                        job + 99_999_999_999,
                        (99_999, 99_999_999_999, 1_795_226_504_133),
                    )
                })
                .collect(),
        );
        let ask = Ask::List {
            job: 199_999_999_999,
            owner: 1,
            cardholder: 2,
        };
        let decision = decide(Some(&to_json(&full)), &ask, 1_795_226_504_133);
        let document = &decision.puts[0].document;
        let shelf: Shelf = serde_json::from_slice(document).expect("a list");
        assert_eq!(shelf.0.len(), SHELF_MAX);
        assert!(shelf.0.contains_key(&199_999_999_999));
        let later = decide(Some(document), &ask, 1_795_226_504_133 + LISTED_MS + 1);
        let shelf: Shelf = serde_json::from_slice(&later.puts[0].document).expect("a list");
        assert_eq!(shelf.0.len(), 1);
        // 11 digits each: more than ids have.
        assert!(document.len() < 64 * 1024, "{}", document.len());
    }
}
