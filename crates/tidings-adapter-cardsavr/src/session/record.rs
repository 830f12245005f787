//! A session as it is stored, and how it changes.
//!
//! One record, named by the hash of the token: who reads the log's memory learns no token. It holds
//! the session's key, which the instances need, and it lives as long as it is used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_adapter::{Command, Decision, Draft, RecordKind, State, Trigger};

use crate::crypto::Sealing;
use crate::keys;

/// How much later than it was used a session may be said to have been: so seldom it is written.
pub(crate) const RENEWED: Duration = Duration::from_secs(60);

/// Cardholders of one session; the oldest grant goes first. A record has 64 KiB, and whoever asks
/// for more has agents of his own.
const GRANTS_MAX: usize = 256;

/// The document.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The user's id.
    pub(crate) user: u64,
    /// Changes with the user's password: a session does not outlive it.
    pub(crate) mark: String,
    /// The integrator; empty in unsigned mode.
    pub(crate) app: String,
    /// What signs and encrypts, in base64; none in unsigned mode.
    pub(crate) key: Option<String>,
    pub(crate) sealing: Sealing,
    /// When it was used, give or take [`RENEWED`]; milliseconds since 1970.
    pub(crate) seen_ms: u64,
    /// Cardholders that it was given rights on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) grants: Vec<u64>,
}

impl fmt::Debug for Stored {
    /// Its key stands in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Stored");
        shown.field("user", &self.user).field("app", &self.app);
        shown.field("seen_ms", &self.seen_ms);
        shown.field("grants", &self.grants).finish_non_exhaustive()
    }
}

impl Stored {
    /// Whether it is over at this time. Since its use is written down [`RENEWED`] late, so much is
    /// given on top: nobody is thrown out early.
    pub(crate) fn is_over(&self, idle: Duration, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.seen_ms) >= millis(idle + RENEWED)
    }
}

/// What may be asked of a session's record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// It begins.
    Begin(Stored),
    /// It is used.
    Touch,
    /// It may read a cardholder's messages from now on.
    Grant(u64),
    /// It ends.
    End,
}

/// What every instance hears when one of them changed a session: `{"id":"<hash>"}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub(crate) id: String,
}

/// The command to a session's record. It answers whether there was such a session.
pub(crate) fn command(id: &str, ask: &Ask) -> Command {
    Command {
        kind: keys::SESSION.into(),
        placement_key: keys::session_key(id).into(),
        records: vec![keys::session(id)],
        body: serde_json::to_vec(ask).unwrap_or_default().into(),
    }
}

/// The answer of [`command`] when there was such a session.
pub(crate) const THERE: &[u8] = b"1";

/// Decides what becomes of sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) idle: Duration,
}

impl RecordKind for Sessions {
    fn name(&self) -> &'static str {
        keys::SESSION
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let Ok(ask) = serde_json::from_slice::<Ask>(body) else {
            return Decision::default();
        };
        let stored = document.and_then(|text| serde_json::from_slice::<Stored>(text).ok());
        let stored = stored.filter(|one| !one.is_over(self.idle, now_ms));
        let (mut stored, told) = match (ask, stored) {
            // The token is random: no other session has this id.
            (Ask::Begin(stored), _) => (stored, false),
            (_, None) => return Decision::default(),
            (Ask::Touch, Some(stored)) => {
                // Another instance, or another request, was faster.
                if now_ms.saturating_sub(stored.seen_ms) < millis(RENEWED) / 2 {
                    return Decision::answer(THERE);
                }
                (stored, false)
            }
            (Ask::Grant(cardholder), Some(mut stored)) => {
                if stored.grants.contains(&cardholder) {
                    return Decision::answer(THERE);
                }
                if stored.grants.len() >= GRANTS_MAX {
                    stored.grants.remove(0);
                }
                stored.grants.push(cardholder);
                (stored, true)
            }
            (Ask::End, Some(_)) => {
                let mut decision = Decision::answer(THERE);
                decision.remove(key.clone());
                decision.publish_elsewhere(changed(&key.id));
                return decision;
            }
        };
        stored.seen_ms = stored.seen_ms.max(now_ms);
        let mut decision = Decision::answer(THERE);
        let document = serde_json::to_vec(&stored).unwrap_or_default();
        decision.put(key.clone(), document, Some(self.idle + RENEWED));
        if told {
            decision.publish_elsewhere(changed(&key.id));
        }
        decision
    }
}

fn changed(id: &Arc<str>) -> Draft {
    let changed = Changed { id: id.to_string() };
    let data = serde_json::to_string(&changed).unwrap_or_default();
    Draft::new(keys::topic(keys::SESSIONS), "changed", data)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn stored(seen_ms: u64) -> Stored {
        Stored {
            user: 11,
            mark: "m".into(),
            app: "acme-app".into(),
            key: Some("k".into()),
            sealing: Sealing::Cbc,
            seen_ms,
            grants: Vec::new(),
        }
    }

    fn decide(document: Option<&Stored>, ask: &Ask, now_ms: u64) -> Decision {
        let text = document.map(|one| serde_json::to_vec(one).expect("JSON").into());
        let command = command("abc", ask);
        let state = [(command.records[0].clone(), text)];
        let kind = Sessions {
            idle: Duration::from_secs(15 * 60),
        };
        kind.decide(&State::new(&state), Trigger::Command(&command.body), now_ms)
    }

    fn written(decision: &Decision) -> Stored {
        serde_json::from_slice(&decision.puts[0].document).expect("its form")
    }

    #[test]
    fn it_lives_while_it_is_used() {
        let begun = decide(None, &Ask::Begin(stored(0)), 5 * MINUTE);
        assert_eq!(written(&begun), stored(5 * MINUTE));
        assert_eq!(begun.puts[0].lifetime, Some(Duration::from_secs(16 * 60)));
        let used = stored(5 * MINUTE);
        let early = decide(Some(&used), &Ask::Touch, 5 * MINUTE + 20_000);
        assert!(early.changes_nothing() && early.answer == THERE);
        let late = decide(Some(&used), &Ask::Touch, 20 * MINUTE);
        assert_eq!(written(&late).seen_ms, 20 * MINUTE);
        assert!(late.outbox.is_empty());
        // The clock went back a little.
        assert!(decide(Some(&used), &Ask::Touch, MINUTE).changes_nothing());
        for ask in [Ask::Touch, Ask::Grant(7), Ask::End] {
            for document in [None, Some(&used)] {
                let over = decide(document, &ask, 21 * MINUTE);
                assert!(over.changes_nothing() && over.answer.is_empty(), "{ask:?}");
            }
        }
    }

    #[test]
    fn everybody_hears_what_must_not_be_remembered() {
        let ended = decide(Some(&stored(0)), &Ask::End, MINUTE);
        assert_eq!(ended.removes.len(), 1);
        assert_eq!(ended.outbox.len(), 1);
        let granted = decide(Some(&stored(0)), &Ask::Grant(7), MINUTE);
        assert_eq!(written(&granted).grants, [7]);
        assert_eq!(granted.outbox.len(), 1);
        assert!(decide(Some(&written(&granted)), &Ask::Grant(7), MINUTE).changes_nothing());
        let mut full = stored(0);
        full.grants = (0..256).collect();
        let granted = written(&decide(Some(&full), &Ask::Grant(999), MINUTE));
        assert_eq!((granted.grants.len(), granted.grants[0]), (256, 1));
    }

    #[test]
    fn what_is_no_session_is_none() {
        let command = command("abc", &Ask::Touch);
        let state = [(command.records[0].clone(), Some("garbage".into()))];
        let kind = Sessions {
            idle: Duration::from_secs(60),
        };
        for body in [&command.body[..], b"{", b""] {
            let decision = kind.decide(&State::new(&state), Trigger::Command(body), 0);
            assert!(decision.changes_nothing() && decision.answer.is_empty());
        }
    }
}
