//! Users: who they are, where they are members, and which of their tokens hold.
//!
//! A membership is a *span*: it begins with the number of a change and ends with another. A user's
//! changes are numbered without gaps, each is told in his own topic in the same commit, and a
//! resume cursor names the last one it knows: so a session knows exactly which channels a cursor
//! spoke of. A member who goes loses his span here first and leaves the channel's log after it:
//! whoever finds a span that stands, and only then subscribes, meets the removal in the log.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Command, Decision, Draft, RecordKind, State, Trigger};

use crate::answer::{Decided, Refusal, done, refused, to_json};
use crate::channel::Ask as ChannelAsk;
use crate::ingest::{Drafted, drafted};
use crate::keys;
use crate::objects::Profile;
use crate::presence::{self, Presence};

/// Channels of one user: his record stays below 64 KiB with as many spans that have ended, and a
/// connection has a topic for each.
pub(crate) const SPANS_MAX: usize = 500;

/// Beyond [`SPANS_MAX`]: adds at the same time do not see each other. What goes beyond that, too,
/// is undone.
const SPANS_SPARE: usize = 12;

/// A span that has ended is kept this long: cursors are good for an hour, and clocks differ.
const ENDED_KEPT_MS: u64 = 65 * 60 * 1000;

/// How many channels one commit tells of a change: a commit has at most 128 effects.
const SPREAD: usize = 100;

/// Everything that is stored of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) profile: Profile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    /// Tokens of an earlier generation are void.
    #[serde(default)]
    pub(crate) generation: u64,
    /// Tokens of an issuer that knows no generations are void when they were made before this.
    #[serde(default)]
    pub(crate) revoked_ms: u64,
    /// The last change of a membership.
    #[serde(default)]
    pub(crate) changes: u64,
    /// Spans that ended with this change or before may be forgotten.
    #[serde(default)]
    pub(crate) forgotten: u64,
    #[serde(default)]
    pub(crate) spans: Vec<Span>,
    /// Seconds since 1970.
    #[serde(default)]
    pub(crate) active: u64,
}

/// One membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    #[serde(rename = "c")]
    pub(crate) channel: u64,
    /// The change that began it: its name.
    #[serde(rename = "j")]
    pub(crate) joined: u64,
    /// Stands at the event in the channel's log that begins it, and at the one that ends it.
    #[serde(rename = "k")]
    pub(crate) nonce: String,
    /// About when it began in the channel's log, milliseconds since 1970.
    #[serde(rename = "t")]
    pub(crate) since_ms: u64,
    /// The change that ended it, and when.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub(crate) left: Option<(u64, u64)>,
}

/// What a session learns of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) user: u64,
    pub(crate) changes: u64,
    pub(crate) forgotten: u64,
    pub(crate) spans: Vec<Span>,
}

/// What a user's own topic tells his sessions, and nobody prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notice {
    /// A span begins.
    Joined { change: u64, span: Span },
    /// A span ends.
    Left { change: u64, joined: u64 },
    /// Tokens before this generation are void.
    Revoked { generation: u64 },
    /// This connection is replaced.
    Replaced { connection: String },
    /// His profile is another one: the event of a draft that said so.
    Profile {},
}

/// The kind of event of a [`Notice`].
pub(crate) const NOTICE: &str = "tidings.notice";

/// What is asked of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// He is to be as this says; nobody is told.
    Upsert {
        email: String,
        display_name: String,
        has_avatar: Option<bool>,
        password: Option<String>,
        op: Option<String>,
    },
    /// The same, and members of his channels are told.
    Profile {
        display_name: Option<String>,
        has_avatar: Option<bool>,
        op: Option<String>,
    },
    /// He is a member of a channel since about then.
    Joined {
        channel: u64,
        nonce: String,
        since_ms: u64,
        profile: u64,
    },
    /// He is to leave a channel.
    Leave {
        channel: u64,
        nonce: String,
        by: u64,
        op: Option<String>,
    },
    /// A channel is gone.
    Gone { channel: u64, nonce: String },
    /// His tokens are void.
    Revoke { op: Option<String> },
    /// Where is he a member?
    Look,
    /// A connection was authenticated.
    Arrive(presence::Arrival),
    /// A connection is gone.
    Depart { connection: String },
    /// An event for his connections.
    Tell {
        event: String,
        payload: Value,
        retained: bool,
        result: Value,
        op: Option<String>,
    },
    /// Is a connection of this finger print there?
    Ping { finger_print: String, token: Value },
    /// Tells channels from the `from`th span on.
    Spread { what: Spread, from: usize },
}

/// What channels are told of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spread {
    Profile { told: bool },
    Presence { online: bool, version: u64 },
}

/// A command to a user's records.
pub(crate) fn command(user: u64, ask: &Ask) -> Command {
    Command {
        kind: keys::USER.into(),
        placement_key: keys::user_key(user).into(),
        records: vec![keys::user(user)],
        body: to_json(ask).into(),
    }
}

impl User {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub(crate) fn view(&self) -> View {
        View {
            user: self.profile.id,
            changes: self.changes,
            forgotten: self.forgotten,
            spans: self.spans.clone(),
        }
    }

    pub(crate) fn standing(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(|span| span.left.is_none())
    }

    /// Whether he can become a member of a channel, or is one.
    pub(crate) fn has_room(&self, channel: u64) -> bool {
        let mut standing = self.standing();
        self.standing().count() < SPANS_MAX || standing.any(|span| span.channel == channel)
    }

    fn find(&mut self, channel: u64, nonce: &str) -> Option<&mut Span> {
        let same = |span: &&mut Span| span.channel == channel && span.nonce == nonce;
        self.spans.iter_mut().find(same)
    }

    /// Forgets spans that no cursor can speak of any more.
    fn forget(&mut self, now_ms: u64) {
        let mut ended: Vec<(u64, u64)> = self.spans.iter().filter_map(|span| span.left).collect();
        ended.sort_unstable();
        let old = |(_, at): &&(u64, u64)| at + ENDED_KEPT_MS < now_ms;
        let crowd = ended.len().saturating_sub(SPANS_MAX / 2);
        let count = ended.iter().take_while(old).count().max(crowd);
        if let Some((change, _)) = count.checked_sub(1).and_then(|last| ended.get(last)) {
            self.forgotten = self.forgotten.max(*change);
            let forgotten = self.forgotten;
            self.spans
                .retain(|span| span.left.is_none_or(|(left, _)| left > forgotten));
        }
    }
}

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

pub(crate) fn put(decision: &mut Decision, user: &User) {
    decision.put(keys::user(user.profile.id), to_json(user), None);
}

/// Tells sessions of this user.
pub(crate) fn notify(decision: &mut Decision, user: u64, notice: &Notice) {
    let data: Bytes = to_json(notice).into();
    decision.publish(Draft::new(keys::user_topic(user), NOTICE, data));
}

/// Tells his channels, as many as one commit may; the rest in further ones.
pub(crate) fn spread(decision: &mut Decision, user: &User, what: &Spread, from: usize) {
    for span in user.standing().skip(from).take(SPREAD) {
        let ask = match what {
            Spread::Profile { told } => ChannelAsk::Profile {
                profile: user.profile.clone(),
                told: *told,
            },
            Spread::Presence { online, version } => ChannelAsk::Presence {
                user: user.profile.id,
                online: *online,
                version: *version,
                active: user.active,
            },
        };
        decision.command(crate::channel::command(span.channel, &ask));
    }
    let next = from + SPREAD;
    if user.standing().nth(next).is_some() {
        let what = what.clone();
        decision.command(command(user.profile.id, &Ask::Spread { what, from: next }));
    }
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

pub(crate) fn view(user: &User) -> Value {
    serde_json::to_value(user.view()).expect("texts and numbers")
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

#[cfg(test)]
mod tests;
