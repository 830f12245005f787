//! Presence: the connections of a user, on whichever instance, and whether that makes him online.
//!
//! A transition is decided in the user's record, so connects and disconnects of all instances stand
//! in one order; it has a version, and each channel takes only a version above the one it knows. So
//! online and offline cannot overtake each other, in any channel.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Attributes, Decision, Draft, IncarnationId, State};

use crate::answer::{Refusal, done, refused, to_json};
use crate::keys;
use crate::user::{self, Notice, Spread, User};

/// The deadline of a presence record: the grace is over.
const GRACE: &str = "grace";

/// Connections that are remembered as gone before they arrived: a user has no more at a time.
const EARLY_MAX: usize = 32;

/// What presence goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Connections of one user; the oldest goes.
    pub(crate) connections: usize,
    /// How long a user without connections stays online.
    pub(crate) grace: Duration,
}

/// A user's connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    #[serde(default)]
    pub(crate) version: u64,
    #[serde(default)]
    pub(crate) online: bool,
    /// Oldest first.
    #[serde(default)]
    pub(crate) connections: Vec<Connection>,
    /// Connections that were gone before they arrived: the two ways are not one.
    #[serde(default)]
    pub(crate) early: VecDeque<String>,
}

/// One authenticated connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection {
    #[serde(rename = "c")]
    pub(crate) id: String,
    #[serde(rename = "f")]
    pub(crate) finger_print: String,
    /// The incarnation of the instance that holds it.
    #[serde(rename = "i")]
    pub(crate) incarnation: String,
}

/// A connection that was authenticated, or authenticated again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) connection: String,
    pub(crate) finger_print: String,
    pub(crate) generation: u64,
    pub(crate) incarnation: String,
    /// It is there already, under another token: one that is not is gone for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) again: bool,
}

impl Presence {
    fn incarnations(&self) -> BTreeSet<String> {
        self.connections
            .iter()
            .map(|one| one.incarnation.clone())
            .collect()
    }

    pub(crate) fn of(text: Option<&Bytes>) -> Self {
        text.and_then(|text| serde_json::from_slice(text).ok())
            .unwrap_or_default()
    }
}

/// Registers a connection. The newest of a token wins.
pub(crate) fn arrive(
    settings: &Settings,
    mut user: User,
    state: &State<'_>,
    arrival: Arrival,
    now_ms: u64,
) -> Decision {
    if arrival.generation < user.generation {
        return refused(Refusal::Revoked);
    }
    let id = user.profile.id;
    let Some(presence) = state.get(&keys::presence(id)) else {
        return Decision::load(keys::presence(id));
    };
    let mut presence = Presence::of(presence);
    if presence.early.contains(&arrival.connection) {
        return refused(Refusal::Revoked); // nobody is there any more
    }
    let Some(incarnation) = IncarnationId::parse(&arrival.incarnation) else {
        return refused(Refusal::Invalid);
    };
    let mut decision = Decision::default();
    let before = presence.incarnations();
    let here = |one: &Connection| one.id == arrival.connection;
    if arrival.again && !presence.connections.iter().any(here) {
        return refused(Refusal::Revoked);
    }
    let mut gone: Vec<Connection> = Vec::new();
    let same_token = |one: &mut Connection| !here(one) && one.finger_print == arrival.finger_print;
    gone.extend(presence.connections.extract_if(.., same_token));
    match presence.connections.iter_mut().find(|one| here(one)) {
        Some(known) => known.finger_print.clone_from(&arrival.finger_print),
        None => presence.connections.push(Connection {
            id: arrival.connection.clone(),
            finger_print: arrival.finger_print.clone(),
            incarnation: arrival.incarnation.clone(),
        }),
    }
    let crowd = presence
        .connections
        .len()
        .saturating_sub(settings.connections);
    gone.extend(presence.connections.drain(..crowd));
    for one in gone {
        let connection = one.id;
        user::notify(&mut decision, id, &Notice::Replaced { connection });
    }
    decision.clear_deadline(keys::presence(id), GRACE);
    // Also when it is there: a commit under an incarnation that is over is refused.
    let owned = keys::here(id, &arrival.incarnation);
    decision.put_owned(owned, "{}", incarnation);
    disown(&mut decision, id, &before, &presence);
    transition(&mut decision, &mut user, &mut presence, true, now_ms);
    decision.put(keys::presence(id), to_json(&presence), None);
    done(&mut decision, user::view(&user));
    decision
}

/// Forgets a connection.
pub(crate) fn depart(
    settings: &Settings,
    user: User,
    state: &State<'_>,
    connection: &str,
    now_ms: u64,
) -> Decision {
    leave(
        settings,
        user,
        state,
        |one| one.id == connection,
        Some(connection),
        now_ms,
    )
}

/// An incarnation is over, and its connections with it. The record that says so is removed by being
/// handled.
pub(crate) fn owner_lost(
    settings: &Settings,
    id: u64,
    state: &State<'_>,
    incarnation: IncarnationId,
    now_ms: u64,
) -> Decision {
    let Some(user) = state.get(&keys::user(id)) else {
        return Decision::load(keys::user(id));
    };
    let name = incarnation.to_string();
    let mut decision = match user.and_then(|text| User::parse(text)) {
        Some(user) => leave(
            settings,
            user,
            state,
            |one| one.incarnation == name,
            None,
            now_ms,
        ),
        None => Decision::default(),
    };
    let owned = keys::here(id, &name);
    if decision.loads.is_empty() && !decision.removes.contains(&owned) {
        decision.remove(owned);
    }
    decision
}

/// Asks the one connection of a finger print to show that it hears.
pub(crate) fn ping(id: u64, state: &State<'_>, finger_print: &str, token: &Value) -> Decision {
    let Some(presence) = state.get(&keys::presence(id)) else {
        return Decision::load(keys::presence(id));
    };
    let presence = Presence::of(presence);
    let mut connections = presence.connections.iter();
    let Some(one) = connections.find(|one| one.finger_print == finger_print) else {
        return refused(Refusal::NoUser);
    };
    let payload = to_json(&serde_json::json!({ "ping_token": token }));
    let mut draft = Draft::new(keys::user_topic(id), "system.ping", payload);
    draft.attributes = Some(Box::new(Attributes {
        subject: Some(format!("only:{}", one.id).into()),
        ..Attributes::default()
    }));
    let mut decision = Decision::default();
    decision.flash(draft);
    done(&mut decision, serde_json::json!({}));
    decision
}

/// Removes what incarnations own that hold no connection any more.
fn disown(decision: &mut Decision, id: u64, before: &BTreeSet<String>, now: &Presence) {
    for gone in before.difference(&now.incarnations()) {
        decision.remove(keys::here(id, gone));
    }
}

/// Forgets connections; the last one to go takes the user offline, at once or after the grace.
fn leave(
    settings: &Settings,
    mut user: User,
    state: &State<'_>,
    goes: impl Fn(&Connection) -> bool,
    early: Option<&str>,
    now_ms: u64,
) -> Decision {
    let id = user.profile.id;
    let Some(presence) = state.get(&keys::presence(id)) else {
        return Decision::load(keys::presence(id));
    };
    let mut presence = Presence::of(presence);
    let mut decision = Decision::default();
    let (before, count) = (presence.incarnations(), presence.connections.len());
    presence.connections.retain(|one| !goes(one));
    if presence.connections.len() == count {
        if let Some(connection) = early {
            presence.early.push_back(connection.to_owned());
            let old = presence.early.len().saturating_sub(EARLY_MAX);
            presence.early.drain(..old);
            decision.put(keys::presence(id), to_json(&presence), None);
        }
        done(&mut decision, serde_json::json!({}));
        return decision;
    }
    disown(&mut decision, id, &before, &presence);
    if presence.connections.is_empty() {
        if settings.grace.is_zero() {
            transition(&mut decision, &mut user, &mut presence, false, now_ms);
        } else {
            let grace = u64::try_from(settings.grace.as_millis()).unwrap_or(u64::MAX);
            decision.set_deadline(keys::presence(id), GRACE, now_ms.saturating_add(grace));
        }
    }
    decision.put(keys::presence(id), to_json(&presence), None);
    done(&mut decision, serde_json::json!({}));
    decision
}

/// The grace is over: a user who has not come back is offline.
pub(crate) fn grace_over(id: u64, state: &State<'_>, now_ms: u64) -> Decision {
    let (Some(user), Some(presence)) = (state.get(&keys::user(id)), state.get(&keys::presence(id)))
    else {
        return Decision {
            loads: vec![keys::user(id), keys::presence(id)],
            ..Decision::default()
        };
    };
    let mut decision = Decision::default();
    let Some(mut user) = user.and_then(|text| User::parse(text)) else {
        return decision;
    };
    let mut presence = Presence::of(presence);
    if presence.connections.is_empty() {
        transition(&mut decision, &mut user, &mut presence, false, now_ms);
        decision.put(keys::presence(id), to_json(&presence), None);
    }
    decision
}

/// Tells all channels, if it is a change.
fn transition(
    decision: &mut Decision,
    user: &mut User,
    presence: &mut Presence,
    online: bool,
    now_ms: u64,
) {
    if presence.online == online {
        return;
    }
    presence.online = online;
    presence.version += 1;
    user.active = now_ms / 1000;
    let version = presence.version;
    user::spread(decision, user, &Spread::Presence { online, version }, 0);
    user::put(decision, user);
}

#[cfg(test)]
mod tests;
