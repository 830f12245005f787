//! One client's connection, as a pure state machine.
//!
//! It authenticates, finds its places, says hello if it was asked to, and is live. Finding the places
//! of a new client takes two looks at his memberships: one before the newest events are found, one
//! after. What stands in both stood when the places were found, and whoever is removed later leaves a
//! mark behind them: so nothing of a channel follows for somebody who was removed from it.
//!
//! Commands are carried out one after the other ([`jobs`]); what is heard goes on meanwhile
//! ([`follow`]).

mod auth;
pub(crate) mod command;
mod follow;
mod jobs;
mod opening;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_adapter::{
    Action, Actions, CommandError, Decided, EventId, Frame, From, Input, Now, Received, SubId,
    TimerId,
};

use crate::answer::{Answer, Refusal};
use crate::cursor::Cursor;
use crate::frames;
use crate::keys;
use crate::options::SessionSettings;
use crate::presence::Arrival;
use crate::token::{Grant, Tokens, WsRefusal};
use crate::user::{self, Ask as UserAsk, NOTICE, Notice, View};
use command::{Auth, Command, Parsed};
use follow::{Follow, OWN};
use jobs::Jobs;

pub(crate) use follow::Placing;

const AUTH: TimerId = TimerId(0);
const PING: TimerId = TimerId(1);
const EXPIRY: TimerId = TimerId(2);
/// Tries again what the log did not take while a connection was opening.
const AGAIN: TimerId = TimerId(3);

/// A timer is set this far ahead at most, and then anew.
const TIMER_MAX: Duration = Duration::from_secs(3600);

const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Commands that wait; clients send one for each message read.
const COMMANDS_MAX: usize = 1_000;

/// Tags of commits that belong to the connection, not to a command of its client.
const LOOK: u32 = 0;
const ARRIVE: u32 = 1;
const REARRIVE: u32 = 2;
/// Nobody waits for it; see [`crate::leaving`].
pub(crate) const DEPART: u32 = 3;

/// Why a connection ends (contract §1.6).
mod code {
    pub(super) const RESTART: u16 = 1012;
    pub(super) const UNKNOWN: u16 = 4001;
    pub(super) const MALFORMED: u16 = 4002;
    pub(super) const NOT_AUTHENTICATED: u16 = 4003;
    pub(super) const AUTH_FAILED: u16 = 4004;
    pub(super) const REPLACED: u16 = 4005;
    pub(super) const NO_AUTH: u16 = 4006;
    pub(super) const FLOOD: u16 = 4008;
    pub(super) const TOO_SLOW: u16 = 4010;
    pub(super) const EXPIRED: u16 = 4009;
    pub(super) const NO_PONG: u16 = 4011;
}

/// What a connection is made with.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) settings: SessionSettings,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) placing: Placing,
    /// This connection's name; random.
    pub(crate) connection: String,
    pub(crate) incarnation: String,
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    origin: Origin,
    stage: Stage,
    grant: Option<Grant>,
    /// What a second `ws_auth` asks for, until it is known whether it may.
    refresh: VecDeque<Refresh>,
    follow: Option<Follow>,
    /// Sent, and not answered yet.
    pinged: bool,
    tokens_left: f64,
    counted: Duration,
    jobs: Jobs,
    /// An event of one's own that was put off once, for what comes before it elsewhere.
    put_off: EventId,
}

/// A second `ws_auth`.
#[derive(Debug)]
struct Refresh {
    grant: Grant,
    hello: bool,
    cid: Option<Value>,
}

#[derive(Debug)]
enum Stage {
    /// No `ws_auth` yet.
    Silent,
    /// Places are being found.
    Opening(Opening),
    Live,
    Closed,
}

#[derive(Debug)]
struct Opening {
    auth: Auth,
    cid: Option<Value>,
    step: Step,
    gap: bool,
    /// What has not answered yet.
    pending: BTreeSet<SubId>,
    first: Option<View>,
    /// Answers that wait for the hello, which is the first frame. Each is small, and the bucket of
    /// commands says how many.
    answers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Where is the newest event of the user's own topic?
    Own,
    /// Where is he a member?
    Look,
    /// Where are the newest events of his channels?
    Newest,
    /// Registering; then the second look.
    Arrive,
    /// Are the cursor's places good?
    Places,
}

impl Connection {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            tokens_left: f64::from(origin.settings.burst),
            origin,
            stage: Stage::Silent,
            grant: None,
            refresh: VecDeque::new(),
            follow: None,
            pinged: false,
            counted: Duration::ZERO,
            jobs: Jobs::default(),
            put_off: EventId::ORIGIN,
        }
    }

    fn close(&mut self, code: u16, reason: &'static str, actions: &mut Actions) {
        // Nothing is performed behind a close.
        self.depart(actions);
        actions.close(code, reason);
        self.stage = Stage::Closed;
    }

    /// Takes the connection off the user's record, whenever that can be.
    fn depart(&mut self, actions: &mut Actions) {
        let Some(grant) = self.grant.take() else {
            return;
        };
        let connection = self.origin.connection.clone();
        let ask = UserAsk::Depart { connection };
        let command = user::command(grant.user, &ask);
        actions.push(Action::Commit {
            tag: DEPART,
            command,
        });
    }

    fn frame(&mut self, received: Received<'_>, now: Now, actions: &mut Actions) {
        let text = match received {
            Received::Text(text) => text,
            Received::Pong(_) => {
                self.pinged = false;
                return;
            }
            Received::Binary(_) => return self.close(code::MALFORMED, "not a text", actions),
        };
        let Ok((parsed, cid)) = command::parse(text) else {
            return self.close(code::MALFORMED, "malformed", actions);
        };
        if let Stage::Silent = self.stage {
            return match parsed {
                Parsed::Auth(auth) => self.authenticate(auth, cid, now, actions),
                _ => self.close(code::NOT_AUTHENTICATED, "not authenticated", actions),
            };
        }
        if !self.has_token(now) {
            return self.close(code::FLOOD, "too many commands", actions);
        }
        match parsed {
            Parsed::Unknown => self.close(code::UNKNOWN, "unknown command", actions),
            Parsed::Ping => {
                self.answer(Some(frames::PONG.to_owned()), actions);
                self.answer(acked(cid.as_ref(), Ok(())), actions);
            }
            Parsed::Auth(auth) => self.authenticate_again(auth, cid, now, actions),
            Parsed::Invalid => {
                self.answer(acked(cid.as_ref(), Err(Refusal::Invalid)), actions);
            }
            Parsed::Command(command) => {
                if self.jobs.len() >= COMMANDS_MAX {
                    return self.close(code::FLOOD, "too many commands", actions);
                }
                self.jobs.push(command, cid);
                self.go_on(now, actions);
            }
        }
    }

    fn committed(
        &mut self,
        tag: u32,
        result: Result<&Decided, &CommandError>,
        now: Now,
        actions: &mut Actions,
    ) {
        if tag > DEPART {
            let answer = result
                .ok()
                .and_then(|decided| Answer::parse(&decided.answer));
            self.job_done(answer, actions);
            return self.go_on(now, actions);
        }
        let Ok(decided) = result else {
            let fenced = matches!(result, Err(CommandError::Fenced));
            return match tag {
                _ if fenced => self.close(code::RESTART, "come back", actions),
                REARRIVE => self.close(code::RESTART, "come back", actions),
                _ => actions.set_timer(AGAIN, AGAIN_AFTER),
            };
        };
        let view = match Answer::parse(&decided.answer) {
            Some(Answer::Done(view)) => view,
            Some(Answer::Refused(_)) | None if tag != DEPART => {
                return self.close(code::AUTH_FAILED, "authentication failed", actions);
            }
            _ => return,
        };
        let view: Option<View> = serde_json::from_value(view).ok();
        match (tag, view) {
            (LOOK, Some(view)) => self.looked(view, actions),
            (ARRIVE, Some(view)) => self.arrived(view, actions),
            (REARRIVE, _) => {
                if let Some(refresh) = self.refresh.pop_front() {
                    self.refreshed(refresh, now, actions);
                }
            }
            _ => {}
        }
        self.go_on(now, actions);
    }

    /// An event of the user's own topic; `false`: it is put off, with all behind it.
    fn own_event(
        &mut self,
        event: &Arc<dyn tidings_adapter::Printed>,
        actions: &mut Actions,
    ) -> bool {
        let Some(follow) = &mut self.follow else {
            return true;
        };
        let one = event.event();
        if one.id > self.put_off
            && let Some(channel) = follow::subject(one).strip_prefix("after:")
            && follow.channels().any(|id| channel.parse() == Ok(id))
        {
            // What it comes after is in the window by now: its line has its turn first.
            self.put_off = one.id;
            actions.push(Action::Unsubscribe(OWN));
            actions.push(follow.own_subscription());
            return false;
        }
        follow.own = follow.own.max(one.id);
        if &*one.kind != NOTICE {
            let id = follow.cursor().print(&self.origin.tokens.seal);
            actions.send(frames::event(&**event, Some(&id)));
            return true;
        }
        match serde_json::from_slice(&one.data) {
            Ok(Notice::Joined { change, span }) => follow.joined(change, &span, actions),
            Ok(Notice::Left { change, joined }) => follow.left(change, joined, actions),
            Ok(Notice::Revoked { generation }) => {
                if self
                    .grant
                    .as_ref()
                    .is_some_and(|grant| grant.generation < generation)
                {
                    self.close(code::EXPIRED, "revoked", actions);
                }
            }
            Ok(Notice::Replaced { connection }) => {
                if connection == self.origin.connection {
                    self.close(code::REPLACED, "replaced", actions);
                }
            }
            Ok(Notice::Profile { .. }) | Err(_) => {}
        }
        true
    }

    fn events(&mut self, sub: SubId, batch: &tidings_adapter::Batch, actions: &mut Actions) {
        for event in &batch.events {
            if !matches!(self.stage, Stage::Live) {
                return;
            }
            if sub == OWN {
                if !self.own_event(event, actions) {
                    return;
                }
                continue;
            }
            let Some(follow) = &mut self.follow else {
                return;
            };
            if follow.hear(sub, event.event(), actions) {
                let id = follow.cursor().print(&self.origin.tokens.seal);
                actions.send(frames::event(&**event, Some(&id)));
            }
        }
    }

    /// Events that are for those who are there now.
    fn flash(&mut self, events: &[Arc<dyn tidings_adapter::Printed>], actions: &mut Actions) {
        let (Stage::Live, Some(follow)) = (&self.stage, &self.follow) else {
            return;
        };
        for event in events {
            let one = event.event();
            let heard = match keys::channel_of(&one.topic) {
                Some(channel) => follow.hears_now(channel, one),
                None => {
                    let only = follow::subject(one).strip_prefix("only:");
                    only.is_none_or(|connection| connection == self.origin.connection)
                }
            };
            if heard {
                actions.send(frames::event(&**event, None));
            }
        }
    }

    /// Says something that answers a command.
    fn answer(&mut self, text: Option<String>, actions: &mut Actions) {
        let Some(text) = text else { return };
        match &mut self.stage {
            Stage::Opening(opening) => opening.answers.push(text),
            _ => actions.send_text(text),
        }
    }

    fn ping(&mut self, actions: &mut Actions) {
        if std::mem::replace(&mut self.pinged, true) {
            return self.close(code::NO_PONG, "no pong", actions);
        }
        actions.send(Frame::ping(""));
        actions.set_timer(PING, self.origin.settings.ping);
    }
}

/// The answer to a command that has a `cid`.
fn acked(cid: Option<&Value>, result: Result<(), Refusal>) -> Option<String> {
    let cid = cid?;
    let payload = match result {
        Ok(()) => json!({ "cid": cid, "ok": true }),
        Err(refusal) => json!({
            "cid": cid,
            "ok": false,
            "error": { "code": refusal.code(), "message": refusal.words() },
        }),
    };
    Some(frames::own("system.ack", &payload))
}

impl tidings_adapter::Session for Connection {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        if let Stage::Closed = self.stage {
            return;
        }
        match input {
            Input::Opened => {
                self.counted = now.uptime;
                actions.set_timer(AUTH, self.origin.settings.auth_deadline);
                actions.set_timer(PING, self.origin.settings.ping);
            }
            Input::Frame(received) => self.frame(received, now, actions),
            Input::Timer(AUTH) if matches!(self.stage, Stage::Silent) => {
                self.close(code::NO_AUTH, "no ws_auth in time", actions);
            }
            Input::Timer(PING) => self.ping(actions),
            Input::Timer(EXPIRY) => self.watch_expiry(now, actions),
            Input::Timer(AGAIN) => match &self.stage {
                Stage::Opening(opening) if opening.step == Step::Look => self.look(actions),
                Stage::Opening(opening) if opening.step == Step::Arrive => {
                    self.arrive(ARRIVE, actions);
                }
                _ => {}
            },
            Input::Subscribed { sub, at } => {
                let place = at.cursor.places().iter().min().copied().unwrap_or_default();
                match self.stage {
                    Stage::Opening(_) => self.found(sub, place, actions),
                    _ => {
                        if let Some(follow) = &mut self.follow {
                            follow.found_live(sub, place);
                        }
                    }
                }
            }
            Input::Events { sub, batch } => match self.stage {
                Stage::Opening(_) => self.good(sub, actions),
                _ => self.events(sub, batch, actions),
            },
            Input::CaughtUp { sub, at } => {
                let place = at.cursor.places().iter().min().copied().unwrap_or_default();
                if let Stage::Opening(_) = self.stage {
                    return self.good(sub, actions);
                }
                if let (Stage::Live, Some(follow)) = (&self.stage, &mut self.follow) {
                    match sub {
                        OWN => follow.own = follow.own.max(place),
                        sub => follow.level(sub, place, actions),
                    }
                }
            }
            Input::Verdict { .. } => self.lost(actions),
            Input::Committed { tag, result } => self.committed(tag, result, now, actions),
            Input::Published { result, .. } => {
                self.job_published(result.is_ok(), now, actions);
                self.go_on(now, actions);
            }
            Input::Called { result, .. } => {
                let taken = result.is_ok_and(|answer| (200..300).contains(&answer.status));
                self.job_called(taken, now, actions);
                self.go_on(now, actions);
            }
            // More channels in one partition than a connection has subscriptions.
            Input::Refused { .. } => self.close(1011, "too many channels", actions),
            Input::Flash { events, .. } => self.flash(events, actions),
            Input::Fenced => self.close(code::RESTART, "come back", actions),
            Input::TooSlow => self.close(code::TOO_SLOW, "too slow", actions),
            Input::Draining => self.close(1001, "come back", actions),
            Input::Closed => self.depart(actions),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
