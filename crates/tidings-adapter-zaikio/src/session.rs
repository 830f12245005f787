//! One client's Action Cable connection, as a pure state machine.
//!
//! A connection has one live subscription to its organisation's topic; events are handed to the
//! identifiers that want them. Commands are carried out one after the other, each to its end, in the
//! order in which they came ([`jobs`]): so every reply stands before the next command's. What a command
//! needs from the log comes as an input later; until then commands wait, and live events and pings go
//! on.
//!
//! A replay (of history, or of what a consumer has not acked) is a fetch up to the head that stood when
//! its command was taken up. Meanwhile the live subscription is given up, and taken up again at its
//! place afterwards: the log is the queue, and live events come after the replay in order.

mod acks;
pub(crate) mod command;
mod frames;
pub(crate) mod identifier;
mod jobs;
mod rewind;
mod subscribing;
mod tracker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Action, Actions, EventId, Frame, From, Input, Now, Printed, Received, Start, SubId, TimerId,
    Topic,
};

use crate::event::{BASE, EXTENDED, id_of};
use crate::options::SessionSettings;
use crate::token::{Grant, Refused};
use command::Command;
use frames::{Reason, Tail};
use identifier::Wish;
use jobs::Job;
use tracker::{Found, Recent, Tracker};

/// The live subscription.
const LIVE: SubId = SubId(0);
/// Asks where the head is.
const PROBE: SubId = SubId(1);
/// A replay or a search.
const FETCH: SubId = SubId(2);

const PING: TimerId = TimerId(0);
const EXPIRY: TimerId = TimerId(1);
/// Tries again what the log did not take.
const RETRY: TimerId = TimerId(2);
/// Looks again for an event that is not there yet.
const LOOK_AGAIN: TimerId = TimerId(3);
const REDELIVER: TimerId = TimerId(4);

/// Clients take a connection for dead after 6 s without one.
const PING_EVERY: Duration = Duration::from_secs(3);

/// A timer is set this far ahead at most, and then anew: tokens may live longer than clocks count.
const TIMER_MAX: Duration = Duration::from_secs(3600);

/// Subscriptions of one connection: each is looked at for every event.
const SUBSCRIPTIONS_MAX: usize = 100;

/// Bytes of all identifiers of one connection; one is some hundred bytes.
const IDENTIFIER_BYTES_MAX: usize = 256 * 1024;

/// Commands that wait, and their bytes. Clients send a handful at once, and repeat a subscription
/// every half second until it is confirmed; those are not kept twice.
const COMMANDS_MAX: usize = 1_000;
const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// The protocol that was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `actioncable-v1-json`, or none.
    Base,
    /// `actioncable-v1-ext-json`.
    Extended,
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    admitted: Result<Grant, Refused>,
    mode: Mode,
    settings: SessionSettings,
    /// The organisation's topic, and its name as a stream.
    topic: Topic,
    stream: Arc<str>,
    epoch: Option<Arc<str>>,
    tail: Tail,
    open: bool,
    live: Live,
    subscriptions: Vec<Subscription>,
    waiting: VecDeque<(Command, usize)>,
    waiting_bytes: usize,
    job: Option<Job>,
    /// Consumers that ack on this connection, by name.
    trackers: BTreeMap<Arc<str>, Tracker>,
    redelivery_set: bool,
    /// Filled once a client acks without having said that it would.
    recent: Recent,
    remembers: bool,
}

/// The live subscription's place.
#[derive(Debug, Default)]
struct Live {
    on: bool,
    /// Everything up to here was handed out.
    place: EventId,
}

/// One identifier that is subscribed.
#[derive(Debug)]
struct Subscription {
    identifier: Arc<str>,
    /// What stands before each of its events.
    head: Bytes,
    wish: Wish,
    /// Live events up to here are not for it.
    floor: EventId,
}

impl Connection {
    pub(crate) fn new(
        admitted: Result<Grant, Refused>,
        mode: Mode,
        settings: SessionSettings,
        epoch: Option<Arc<str>>,
    ) -> Self {
        let organisation = admitted.as_ref().ok().map(|grant| &grant.organisation);
        let stream = organisation.map_or_else(String::new, ToString::to_string);
        let topic = organisation.map_or_else(nobody, |organisation| organisation.topic());
        let tail = match (mode, &epoch) {
            (Mode::Extended, Some(epoch)) => Tail::extended(epoch),
            _ => Tail::BASE,
        };
        Self {
            admitted,
            mode,
            settings,
            topic,
            stream: stream.into(),
            epoch,
            tail,
            open: false,
            live: Live::default(),
            subscriptions: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            job: None,
            trackers: BTreeMap::new(),
            redelivery_set: false,
            recent: Recent::default(),
            remembers: false,
        }
    }

    fn opened(&mut self, now: Now, actions: &mut Actions) {
        let expires = match &self.admitted {
            Ok(grant) => grant.expires_unix_ms,
            Err(refused) => {
                let reason = match refused {
                    Refused::Unauthorized => Reason::Unauthorized,
                    Refused::Expired => Reason::TokenExpired,
                    Refused::TryAgain => Reason::ServerRestart,
                };
                return self.disconnect(reason, actions);
            }
        };
        self.open = true;
        actions.send_text(frames::WELCOME);
        actions.set_timer(PING, PING_EVERY);
        if self.settings.check_expiry && expires.is_some() {
            self.watch_expiry(now, actions);
        }
    }

    /// Says why, and closes. Nothing follows.
    fn disconnect(&mut self, reason: Reason, actions: &mut Actions) {
        actions.send_text(frames::disconnect(reason));
        actions.close(1000, "");
        self.open = false;
    }

    fn watch_expiry(&mut self, now: Now, actions: &mut Actions) {
        let expires = self
            .admitted
            .as_ref()
            .ok()
            .and_then(|grant| grant.expires_unix_ms);
        let Some(expires) = expires else { return };
        let left = Duration::from_millis(expires.saturating_sub(now.unix_ms));
        if left.is_zero() {
            return self.disconnect(Reason::TokenExpired, actions);
        }
        actions.set_timer(EXPIRY, left.min(TIMER_MAX));
    }

    fn frame(&mut self, text: &str, now: Now, actions: &mut Actions) {
        let Some(command) = command::parse(text) else {
            return;
        };
        if self.is_repeated(&command) {
            return;
        }
        if self.waiting.len() >= COMMANDS_MAX || self.waiting_bytes + text.len() > COMMAND_BYTES_MAX
        {
            return self.disconnect(Reason::InvalidRequest, actions);
        }
        self.waiting_bytes += text.len();
        self.waiting.push_back((command, text.len()));
        self.go_on(now, actions);
    }

    /// Whether this is a subscription that is being carried out, or waits to be, already.
    fn is_repeated(&self, command: &Command) -> bool {
        let Command::Subscribe { identifier, .. } = command else {
            return false;
        };
        let same = |(waiting, _): &&(Command, usize)| waiting.identifier() == identifier;
        match self.waiting.iter().rev().find(same) {
            Some((waiting, _)) => matches!(waiting, Command::Subscribe { .. }),
            None => self
                .job
                .as_ref()
                .is_some_and(|job| job.subscribes(identifier)),
        }
    }

    /// Live events, each to all who want it.
    fn live_event(&mut self, event: &Arc<dyn Printed>, now: Now, actions: &mut Actions) {
        let (id, name) = (event.event().id, &event.event().kind);
        self.live.place = self.live.place.max(id);
        let mut owed: Vec<Arc<str>> = Vec::new();
        for one in &self.subscriptions {
            if id <= one.floor || !one.wish.wants(name) {
                continue;
            }
            actions.send(self.print(one, &**event, false));
            if one.wish.acks {
                owed.push(one.wish.consumer.clone());
            }
        }
        for consumer in &owed {
            self.owe(consumer, event, now, actions);
        }
        if self.remembers && owed.is_empty() {
            self.remember(event);
        }
    }

    fn print(&self, to: &Subscription, event: &dyn Printed, again: bool) -> Frame {
        let variant = match self.mode {
            Mode::Base => BASE,
            Mode::Extended => EXTENDED,
        };
        let mut frame = Frame::text(event.printed(variant));
        frame.head = to.head.clone();
        frame.tail = match again {
            false => self.tail.first.clone(),
            true => self.tail.again.clone(),
        };
        frame
    }

    /// An event was sent to a consumer that acks.
    fn owe(
        &mut self,
        consumer: &Arc<str>,
        event: &Arc<dyn Printed>,
        now: Now,
        actions: &mut Actions,
    ) {
        let wait = self.settings.ack_wait;
        let tracker = self.trackers.entry(consumer.clone()).or_default();
        tracker.sent(event, now.uptime.saturating_add(wait));
        if !wait.is_zero() && !self.redelivery_set {
            self.redelivery_set = true;
            actions.set_timer(REDELIVER, wait.min(TIMER_MAX));
        }
    }

    fn remember(&mut self, event: &Arc<dyn Printed>) {
        let event = event.event();
        if let Some(uuid) = id_of(&event.data) {
            let found = Found::alone(event.kind.clone(), event.id);
            self.recent.remember(uuid, found);
        }
    }

    /// Gives the live subscription up for a while; its place stays.
    fn pause(&mut self, actions: &mut Actions) {
        if self.live.on {
            self.live.on = false;
            actions.push(Action::Unsubscribe(LIVE));
        }
    }

    /// Takes it up again where it was.
    fn resume(&mut self, actions: &mut Actions) {
        if !self.live.on && !self.subscriptions.is_empty() {
            self.live.on = true;
            actions.push(Action::Subscribe {
                sub: LIVE,
                topics: vec![self.topic.clone()],
                from: Start::From(From::After(self.live.place)),
            });
        }
    }

    fn subscription(&self, identifier: &str) -> Option<&Subscription> {
        self.subscriptions
            .iter()
            .find(|one| *one.identifier == *identifier)
    }

    fn subscription_mut(&mut self, identifier: &str) -> Option<&mut Subscription> {
        self.subscriptions
            .iter_mut()
            .find(|one| *one.identifier == *identifier)
    }

    fn learn_epoch(&mut self, epoch: Arc<str>) {
        if self.mode == Mode::Extended {
            self.tail = Tail::extended(&epoch);
        }
        self.epoch = Some(epoch);
    }
}

/// The topic of a connection that is refused; nobody reads it.
fn nobody() -> Topic {
    Topic::parse("zaikio/nobody").expect("two words and a slash")
}

impl tidings_adapter::Session for Connection {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        if let Input::Opened = input {
            return self.opened(now, actions);
        }
        if !self.open {
            return;
        }
        match input {
            Input::Frame(Received::Text(text)) => self.frame(text, now, actions),
            Input::Timer(PING) => {
                actions.send_first(frames::ping(now.unix_ms));
                actions.set_timer(PING, PING_EVERY);
            }
            Input::Timer(EXPIRY) => self.watch_expiry(now, actions),
            Input::Timer(REDELIVER) => self.redelivery(now, actions),
            Input::Timer(RETRY | LOOK_AGAIN) => {
                self.paused();
                self.go_on(now, actions);
            }
            Input::Events { sub: LIVE, batch } => {
                for event in &batch.events {
                    self.live_event(event, now, actions);
                }
            }
            Input::CaughtUp { sub: LIVE, at } => {
                let place = at.cursor.places().first().copied().unwrap_or_default();
                self.live.place = self.live.place.max(place);
            }
            Input::Events { sub: FETCH, batch } => {
                for event in &batch.events {
                    self.fetched_event(event, now, actions);
                }
                self.go_on(now, actions);
            }
            Input::Fetched {
                sub: FETCH,
                verdict,
            } => {
                self.fetched(verdict);
                self.go_on(now, actions);
            }
            Input::Subscribed { sub: PROBE, at } => {
                actions.push(Action::Unsubscribe(PROBE));
                let head = at.cursor.places().first().copied().unwrap_or_default();
                self.found_head(head);
                self.go_on(now, actions);
            }
            Input::Committed { result, .. } => {
                self.committed(result, actions);
                self.go_on(now, actions);
            }
            // The log lost what this connection was sent: its client comes back, says where it is,
            // and hears what became of that.
            Input::Verdict { sub: LIVE, .. } => self.disconnect(Reason::Remote, actions),
            // No connection has more than three subscriptions of the hub's.
            Input::Refused { .. } => self.disconnect(Reason::InvalidRequest, actions),
            Input::TooSlow => self.disconnect(Reason::TooSlow, actions),
            Input::Draining => self.disconnect(Reason::ServerRestart, actions),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
