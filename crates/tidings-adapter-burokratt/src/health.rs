//! Components: which are up, in which version.
//!
//! All of it stands in one record, with the time of the next look. Every instance asks for the turn;
//! one gets it, looks at all components at once and says what it saw. So instances agree, and a
//! component is asked once per period however many there are.

mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_adapter::{Command, Decision, Hub, LogError, RecordKind, State, Trigger};

use crate::chat::changed;
use crate::keys;
use crate::objects::data;
use crate::options::Settings;

pub(crate) use watch::{Times, watch};

/// What is known of the components.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Board {
    /// Before this, nobody looks.
    next_ms: u64,
    /// By component: its version, where it is up and says one.
    seen: BTreeMap<String, Seen>,
}

/// What was seen of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) up: bool,
    pub(crate) version: Option<String>,
}

impl Board {
    /// A stored one; whatever cannot be read is none.
    pub(crate) fn parse(document: Option<&[u8]>) -> Self {
        document
            .and_then(|text| serde_json::from_slice(text).ok())
            .unwrap_or_default()
    }

    /// What is answered to whoever asks for the components.
    pub(crate) fn answer(&self, settings: &Settings) -> String {
        let names = settings.components.iter().map(|(name, _)| name.as_str());
        data("set_healthz_response", &self.print(names))
    }

    /// `{"data":[{"name":…,"version":…,"status":…}…]}` of these components in their order. One that
    /// nobody has looked at is down.
    fn print<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> String {
        let nothing = Seen::default();
        let rows = names.into_iter().map(|name| {
            let seen = self.seen.get(name).unwrap_or(&nothing);
            let status = if seen.up { "up" } else { "down" };
            let version = seen.version.as_deref().filter(|_| seen.up);
            // In this order, which serde_json's maps do not keep.
            format!(
                r#"{{"name":{},"version":{},"status":"{status}"}}"#,
                Value::from(name),
                json!(version),
            )
        });
        format!(r#"{{"data":[{}]}}"#, rows.collect::<Vec<_>>().join(","))
    }
}

/// Reads the board.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn load(hub: &Hub) -> Result<Board, LogError> {
    let mut loaded = hub.load(keys::HEALTH, vec![keys::health()]).await?;
    let record = loaded.pop().flatten();
    Ok(Board::parse(record.as_ref().map(|one| &*one.document)))
}

/// What is asked of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// The turn, and that the next one is so much later. Answered by how long to wait; 0: it is
    /// yours.
    Turn { every_ms: u64 },
    /// This was seen.
    Seen(BTreeMap<String, Seen>),
}

/// A command to the board.
pub(crate) fn command(ask: &Ask) -> Command {
    Command {
        kind: keys::record::HEALTH.into(),
        placement_key: keys::HEALTH.into(),
        records: vec![keys::health()],
        body: serde_json::to_vec(ask).unwrap_or_default().into(),
    }
}

/// Decides about the board.
#[derive(Debug)]
pub(crate) struct Boards;

impl RecordKind for Boards {
    fn name(&self) -> &'static str {
        keys::record::HEALTH
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let mut board = Board::parse(document.map(|text| &**text));
        let mut decision = Decision::default();
        match serde_json::from_slice(body) {
            Ok(Ask::Turn { every_ms }) => {
                // A turn from far ahead is of a clock that was wrong.
                let wait_ms = board.next_ms.saturating_sub(now_ms);
                if wait_ms > 0 && wait_ms <= every_ms {
                    return Decision::answer(wait_ms.to_string());
                }
                board.next_ms = now_ms.saturating_add(every_ms);
                decision.answer = "0".into();
            }
            Ok(Ask::Seen(seen)) => {
                if board.seen == seen {
                    return Decision::default();
                }
                board.seen = seen;
                decision.flash(changed(keys::HEALTH));
            }
            Err(_) => return Decision::answer("the command cannot be read"),
        }
        let document = serde_json::to_vec(&board).unwrap_or_default();
        decision.put(key.clone(), document, None);
        decision
    }
}

#[cfg(test)]
mod tests;
