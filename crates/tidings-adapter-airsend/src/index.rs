//! Records that only lead elsewhere: in which channel a message is, who logs in under an address,
//! what an idempotency key was used for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_adapter::{Command, Decision, RecordKind, State, Trigger};

use crate::answer::{Refusal, done, refused, to_json};
use crate::keys;

/// What is asked of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// It leads there, unless it leads elsewhere; answered by where it leads.
    Point { to: u64, lifetime_ms: Option<u64> },
    /// It leads nowhere, if it leads there.
    Drop { to: u64 },
    /// Where does it lead?
    Look,
    /// A key is used for a body of this hash; answered by what the first one said.
    Claim {
        hash: String,
        seed: u64,
        lifetime_ms: u64,
    },
}

impl Ask {
    /// Leads there for so long.
    pub(crate) fn point(to: u64, lifetime: Duration) -> Self {
        Self::Point {
            to,
            lifetime_ms: u64::try_from(lifetime.as_millis()).ok(),
        }
    }
}

/// A command to an entry.
pub(crate) fn command(id: &str, ask: &Ask) -> Command {
    Command {
        kind: keys::INDEX.into(),
        placement_key: keys::index_key(id).into(),
        records: vec![keys::index(id)],
        body: to_json(ask).into(),
    }
}

/// How entries decide.
#[derive(Debug)]
pub(crate) struct Indexes;

impl RecordKind for Indexes {
    fn name(&self) -> &'static str {
        keys::INDEX
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, _now_ms: u64) -> Decision {
        let Trigger::Command(body) = trigger else {
            return Decision::default();
        };
        let (Some((key, document)), Ok(ask)) = (state.first(), serde_json::from_slice(body)) else {
            return refused(Refusal::Invalid);
        };
        let known: Option<Value> = document.and_then(|text| serde_json::from_slice(text).ok());
        let mut decision = Decision::default();
        let span = Duration::from_millis;
        let result = match ask {
            Ask::Point { to, lifetime_ms } => known.unwrap_or_else(|| {
                decision.put(key.clone(), to_json(&to), lifetime_ms.map(span));
                json!(to)
            }),
            Ask::Look => known.unwrap_or(Value::Null),
            Ask::Drop { to } => {
                if known == Some(json!(to)) {
                    decision.remove(key.clone());
                }
                Value::Null
            }
            Ask::Claim {
                hash,
                seed,
                lifetime_ms,
            } => match known {
                Some(known) => known,
                None => {
                    let claim = json!({ "hash": hash, "seed": seed });
                    decision.put(key.clone(), to_json(&claim), Some(span(lifetime_ms)));
                    claim
                }
            },
        };
        done(&mut decision, result);
        decision
    }
}
