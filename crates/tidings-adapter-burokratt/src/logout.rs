//! Logouts: reported a little later, unless they are taken back.
//!
//! A page that goes says so with a beacon; one that was only loaded anew takes it back. The cookies
//! with which it is reported are secrets: they stand in a record of their own until then, and in the
//! call.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidings_adapter::{Call, Command, Decision, RecordKind, State, Trigger};

use crate::keys;

/// The private server has so long for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The name of the deadline.
const REPORT: &str = "report";

/// What is asked of a logout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// It is reported with these cookies.
    Add { cookies: String },
    /// It is not.
    Remove,
}

/// A command about the logout of whoever has these cookies: known by the agent's one where he has
/// it, since others may change between a page and the next.
pub(crate) fn command(identity: &str, ask: &Ask) -> Command {
    let id = Sha256::digest(identity);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    Command {
        kind: keys::record::LOGOUT.into(),
        placement_key: keys::logout_key(&id).into(),
        records: vec![keys::logout(&id)],
        body: serde_json::to_vec(ask).unwrap_or_default().into(),
    }
}

/// Decides about logouts.
#[derive(Debug)]
pub(crate) struct Logouts {
    /// Where they are reported; `None`: nowhere any more.
    pub(crate) url: Option<Arc<str>>,
    pub(crate) after: Duration,
}

impl RecordKind for Logouts {
    fn name(&self) -> &'static str {
        keys::record::LOGOUT
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let Some((key, document)) = state.first() else {
            return Decision::default();
        };
        let mut decision = Decision::default();
        match trigger {
            Trigger::Command(body) => match serde_json::from_slice(body) {
                Ok(Ask::Add { cookies }) => {
                    let after_ms = u64::try_from(self.after.as_millis()).unwrap_or(u64::MAX);
                    // It outlives its deadline.
                    decision.put(key.clone(), cookies, Some(self.after));
                    decision.set_deadline(key.clone(), REPORT, now_ms.saturating_add(after_ms));
                }
                Ok(Ask::Remove) if document.is_some() => decision.remove(key.clone()),
                _ => {}
            },
            Trigger::Deadline { .. } => {
                decision.remove(key.clone());
                let cookies = document.and_then(|text| std::str::from_utf8(text).ok());
                if let (Some(cookies), Some(url)) = (cookies, &self.url) {
                    decision.call(Call {
                        method: "GET".into(),
                        url: url.clone(),
                        headers: vec![("cookie".into(), cookies.into())],
                        body: Vec::new().into(),
                        patience: PATIENCE,
                    });
                }
            }
            Trigger::OwnerLost { .. } => {}
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_adapter::OutboxItem;
    use tidings_adapter::bytes::Bytes;

    #[test]
    fn a_logout_is_reported_unless_it_is_taken_back() {
        let kind = Logouts {
            url: Some("http://ruuter/logout".into()),
            after: Duration::from_secs(5),
        };
        let add = command(
            "x",
            &Ask::Add {
                cookies: "a=b".into(),
            },
        );
        let remove = command("x", &Ask::Remove);
        let key = add.records[0].clone();
        assert_eq!(remove.records, add.records);
        let decide = |document: Option<&'static str>, trigger| {
            let state = [(key.clone(), document.map(Bytes::from))];
            kind.decide(&State::new(&state), trigger, 1_000)
        };
        let added = decide(None, Trigger::Command(&add.body));
        assert_eq!(added.puts[0].document, "a=b");
        assert_eq!(added.deadlines[0].at_ms, Some(6_000));
        let taken = decide(Some("a=b"), Trigger::Command(&remove.body));
        assert_eq!(taken.removes, std::slice::from_ref(&key));
        assert!(decide(None, Trigger::Command(&remove.body)).changes_nothing());
        let due = Trigger::Deadline {
            name: REPORT,
            at_ms: 6_000,
        };
        let reported = decide(Some("a=b"), due);
        let OutboxItem::Call(call) = &reported.outbox[0] else {
            panic!("{reported:?}")
        };
        assert_eq!((&*call.method, &*call.url), ("GET", "http://ruuter/logout"));
        assert_eq!(call.headers, [("cookie".into(), "a=b".into())]);
        assert_eq!(reported.removes, std::slice::from_ref(&key));
        assert!(decide(None, due).outbox.is_empty());
    }
}
