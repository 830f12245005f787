//! How users decide: each change of a user from what is asked of him, pure.

use std::time::Duration;

use serde_json::json;
use tidings_adapter::{Decision, Draft, RecordKind, State, Trigger};

use super::{Ask, Notice, SPANS_MAX, SPANS_SPARE, Span, Spread, User, notify, put, spread, view};
use crate::answer::{Decided, Refusal, done, refused, to_json};
use crate::channel::Ask as ChannelAsk;
use crate::ingest::{Drafted, drafted};
use crate::keys;
use crate::objects::Profile;
use crate::presence::{self, Presence};

/// How users decide.
#[derive(Debug)]
pub(crate) struct Users {
    pub(crate) presence: presence::Settings,
    /// How long an operation's result is remembered.
    pub(crate) remembered: Duration,
}

impl RecordKind for Users {
    fn name(&self) -> &'static str {
        keys::USER
    }

    fn has_owners(&self) -> bool {
        true
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        match trigger {
            Trigger::Command(body) => {
                let Some(id) = state
                    .first()
                    .and_then(|(key, _)| key.id.get(2..)?.parse().ok())
                else {
                    return refused(Refusal::Invalid);
                };
                let Some((ask, mark)) = Drafted::<Ask>::open(body) else {
                    return refused(Refusal::Invalid);
                };
                match mark {
                    Some(mark) => drafted(&mark, self.ask(id, state, ask, now_ms, true)),
                    None => self.ask(id, state, ask, now_ms, false),
                }
            }
            Trigger::OwnerLost { incarnation } => {
                let key = state.first().map(|(key, _)| key.id.clone());
                let user = key.as_deref().and_then(|id| {
                    let (user, _) = id.strip_prefix("h/")?.split_once('/')?;
                    user.parse().ok()
                });
                match user {
                    Some(user) => {
                        presence::owner_lost(&self.presence, user, state, incarnation, now_ms)
                    }
                    None => Decision::default(),
                }
            }
            Trigger::Deadline { .. } => {
                let key = state.first().map(|(key, _)| key.id.clone());
                let user = key
                    .as_deref()
                    .and_then(|id| id.strip_prefix("p/")?.parse().ok());
                match user {
                    Some(user) => presence::grace_over(user, state, now_ms),
                    None => Decision::default(),
                }
            }
        }
    }
}

impl Users {
    /// `told`: there is to be an event of his own, for the one who asks.
    fn ask(&self, id: u64, state: &State<'_>, ask: Ask, now_ms: u64, told: bool) -> Decision {
        let op = match &ask {
            Ask::Upsert { op, .. }
            | Ask::Profile { op, .. }
            | Ask::Leave { op, .. }
            | Ask::Tell { op, .. }
            | Ask::Revoke { op } => op.clone(),
            _ => None,
        };
        if let Some(op) = &op {
            match state.get(&keys::user_op(id, op)) {
                None => return Decision::load(keys::user_op(id, op)),
                Some(Some(answer)) => return Decision::answer(answer.clone()),
                Some(None) => {}
            }
        }
        let user = state
            .get(&keys::user(id))
            .flatten()
            .map(|text| User::parse(text));
        let user = match user {
            Some(None) => return refused(Refusal::Invalid),
            Some(Some(user)) => Some(user),
            None => None,
        };
        let decided = match (ask, user) {
            (
                Ask::Upsert {
                    email,
                    display_name,
                    has_avatar,
                    password,
                    ..
                },
                user,
            ) => Ok(upsert(id, user, email, display_name, has_avatar, password)),
            (_, None) => Err(Refusal::NoUser),
            (Ask::Arrive(arrival), Some(user)) => {
                return presence::arrive(&self.presence, user, state, arrival, now_ms);
            }
            (Ask::Depart { connection }, Some(user)) => {
                return presence::depart(&self.presence, user, state, &connection, now_ms);
            }
            (
                Ask::Ping {
                    finger_print,
                    token,
                },
                Some(_),
            ) => {
                return presence::ping(id, state, &finger_print, &token);
            }
            (ask, Some(user)) => with(user, state, ask, now_ms),
        };
        let mut decision = match decided {
            Ok(decision) => decision,
            Err(refusal) => return refused(refusal),
        };
        if told && decision.loads.is_empty() && decision.drafts.is_empty() {
            notify(&mut decision, id, &Notice::Profile {});
        }
        if let Some(op) = op
            && decision.loads.is_empty()
        {
            decision.put(
                keys::user_op(id, &op),
                decision.answer.clone(),
                Some(self.remembered),
            );
        }
        decision
    }
}

fn upsert(
    id: u64,
    user: Option<User>,
    email: String,
    display_name: String,
    has_avatar: Option<bool>,
    password: Option<String>,
) -> Decision {
    let before = user.as_ref().map(|user| user.profile.clone());
    let mut user = user.unwrap_or(User {
        profile: Profile {
            id,
            email: String::new(),
            display_name: String::new(),
            has_avatar: false,
            version: 0,
        },
        password: None,
        generation: 0,
        revoked_ms: 0,
        changes: 0,
        forgotten: 0,
        spans: Vec::new(),
        active: 0,
    });
    user.profile.email = email;
    user.profile.display_name = display_name;
    user.profile.has_avatar = has_avatar.unwrap_or(user.profile.has_avatar);
    user.password = password.or(user.password);
    let mut decision = Decision::default();
    let old_email = before.as_ref().map(|profile| profile.email.clone());
    if before.as_ref() != Some(&user.profile) {
        user.profile.version += 1;
        if before.is_some() {
            spread(&mut decision, &user, &Spread::Profile { told: false }, 0);
        }
    }
    put(&mut decision, &user);
    done(&mut decision, json!({ "old_email": old_email }));
    decision
}

fn with(mut user: User, state: &State<'_>, ask: Ask, now_ms: u64) -> Decided<Decision> {
    let id = user.profile.id;
    let mut decision = Decision::default();
    let mut result = json!({});
    match ask {
        Ask::Profile {
            display_name,
            has_avatar,
            ..
        } => {
            if let Some(name) = display_name {
                user.profile.display_name = name;
            }
            user.profile.has_avatar = has_avatar.unwrap_or(user.profile.has_avatar);
            user.profile.version += 1;
            spread(&mut decision, &user, &Spread::Profile { told: true }, 0);
            put(&mut decision, &user);
        }
        Ask::Joined {
            channel,
            nonce,
            since_ms,
            profile,
        } => {
            if user.find(channel, &nonce).is_some() {
                return Ok(refused(Refusal::Exists));
            }
            if user.standing().count() >= SPANS_MAX + SPANS_SPARE {
                let (user, by) = (id, id);
                let ask = ChannelAsk::Remove { user, nonce, by };
                decision.command(crate::channel::command(channel, &ask));
                done(&mut decision, result);
                return Ok(decision);
            }
            user.changes += 1;
            let span = Span {
                channel,
                joined: user.changes,
                nonce,
                since_ms,
                left: None,
            };
            user.spans.push(span.clone());
            user.forget(now_ms);
            let change = user.changes;
            notify(&mut decision, id, &Notice::Joined { change, span });
            // What changed while the membership was on its way did not reach the channel.
            if profile < user.profile.version {
                let ask = ChannelAsk::Profile {
                    profile: user.profile.clone(),
                    told: false,
                };
                decision.command(crate::channel::command(channel, &ask));
            }
            match presence_of(id, state) {
                None => return Ok(Decision::load(keys::presence(id))),
                Some(presence) if presence.online => {
                    let ask = ChannelAsk::Presence {
                        user: id,
                        online: true,
                        version: presence.version,
                        active: user.active,
                    };
                    decision.command(crate::channel::command(channel, &ask));
                }
                Some(_) => {}
            }
            put(&mut decision, &user);
        }
        Ask::Leave {
            channel, nonce, by, ..
        } => {
            end(&mut decision, &mut user, channel, &nonce, now_ms);
            let ask = ChannelAsk::Remove {
                user: id,
                nonce,
                by,
            };
            decision.command(crate::channel::command(channel, &ask));
            put(&mut decision, &user);
        }
        Ask::Gone { channel, nonce } => {
            end(&mut decision, &mut user, channel, &nonce, now_ms);
            put(&mut decision, &user);
        }
        Ask::Revoke { .. } => {
            user.generation += 1;
            user.revoked_ms = now_ms;
            let generation = user.generation;
            notify(&mut decision, id, &Notice::Revoked { generation });
            put(&mut decision, &user);
        }
        Ask::Look => result = view(&user),
        Ask::Spread { what, from } => {
            if let Spread::Presence { version, .. } = what {
                match presence_of(id, state) {
                    None => return Ok(Decision::load(keys::presence(id))),
                    // A newer transition has its own way through the channels.
                    Some(presence) if presence.version != version => return Ok(decision),
                    Some(_) => {}
                }
            }
            spread(&mut decision, &user, &what, from);
        }
        Ask::Tell {
            event,
            payload,
            retained,
            result: told,
            ..
        } => {
            let draft = Draft::new(keys::user_topic(id), event, to_json(&payload));
            match retained {
                true => decision.publish(draft),
                false => decision.flash(draft),
            }
            result = told;
        }
        Ask::Upsert { .. } | Ask::Arrive(_) | Ask::Depart { .. } | Ask::Ping { .. } => {
            return Err(Refusal::Invalid); // decided elsewhere
        }
    }
    done(&mut decision, result);
    Ok(decision)
}

/// Ends a span; one that is not known yet ends before it begins.
fn end(decision: &mut Decision, user: &mut User, channel: u64, nonce: &str, now_ms: u64) {
    let change = user.changes + 1;
    let joined = match user.find(channel, nonce) {
        Some(span) if span.left.is_some() => return,
        Some(span) => {
            span.left = Some((change, now_ms));
            span.joined
        }
        None => {
            user.spans.push(Span {
                channel,
                joined: change,
                nonce: nonce.to_owned(),
                since_ms: now_ms,
                left: Some((change, now_ms)),
            });
            change
        }
    };
    user.changes = change;
    user.forget(now_ms);
    notify(decision, user.profile.id, &Notice::Left { change, joined });
}

/// A user's presence; `None` when it must be loaded first.
fn presence_of(user: u64, state: &State<'_>) -> Option<Presence> {
    Some(Presence::of(state.get(&keys::presence(user))?))
}
