//! Acks and redelivery.
//!
//! An ack is recorded in the consumer's record before it is confirmed, so that it survives whatever
//! the log survives. Events are found by their ids in what this connection remembers, else by a search
//! through the organisation's retained events: any instance can do that, and none must have been there
//! when they were delivered.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_adapter::{Actions, EventId, From, Now, TimerId};
use uuid::Uuid;

use super::command::{Ack, position};
use super::frames;
use super::jobs::{Asked, Job, Progress, What};
use super::rewind::{LOOK_AGAIN_AFTER, LOOK_BACK_MS};
use super::tracker::{Found, Search};
use super::{Connection, LOOK_AGAIN, REDELIVER, TIMER_MAX};
use crate::consumer::{Acked, Ask, State};
use crate::event::uuid;

/// Events sent again in one go: what is unwritten of a connection has a bound, and these do not wait
/// for what was sent before them.
const REDELIVERED_MAX: usize = 64;

/// Pause before the next of them.
const REDELIVERY_STEP: Duration = Duration::from_secs(1);

/// Events that were received so long ago are not retained.
const RETAINED_MS: u64 = 60 * 60 * 1000;

#[derive(Debug)]
pub(super) struct Acking {
    identifier: Arc<str>,
    ack: Ack,
    reply: bool,
    pub(super) search: Search,
    /// Searches that have come to their end, and pauses between.
    pub(super) searched: u32,
    waited: bool,
    /// What was taken, once it is recorded.
    recorded: Option<Acked>,
}

impl Acking {
    pub(super) fn recorded(&mut self, answer: &[u8]) {
        self.recorded = Some(serde_json::from_slice(answer).unwrap_or_default());
    }
}

/// One id that was acked.
struct Named<'a> {
    text: &'a str,
    /// The event, if it is one that this subscription wants.
    found: Option<(Uuid, Found)>,
}

impl Connection {
    pub(super) fn begin_ack(
        &mut self,
        identifier: Arc<str>,
        ack: Ack,
        reply: bool,
        is_command: bool,
        actions: &mut Actions,
    ) {
        let refusal = match (&ack, self.subscription(&identifier)) {
            (_, None) if !is_command => return,
            (_, None) => Some("not_subscribed"),
            (Ack::Malformed(_), _) => Some("malformed"),
            _ => None,
        };
        if let Some(reason) = refusal {
            if reply {
                actions.send_text(frames::reject_ack(&identifier, &echo(&ack), reason));
            }
            return;
        }
        self.job = Some(Job::new(What::Ack(Box::new(Acking {
            identifier,
            ack,
            reply,
            search: Search::default(),
            searched: 0,
            waited: false,
            recorded: None,
        }))));
    }

    pub(super) fn ack(
        &mut self,
        job: &mut Acking,
        asked: &mut Option<Asked>,
        head: &mut Option<EventId>,
        now: Now,
        actions: &mut Actions,
    ) -> Progress {
        match &job.ack {
            Ack::Ids(ids) => {
                let ids = ids.clone();
                self.ack_ids(job, &ids, asked, now, actions)
            }
            Ack::Streams(streams) => {
                let place = position(streams, &self.stream);
                self.ack_up_to(job, place, asked, head, actions)
            }
            Ack::Malformed(_) => Progress::Done,
        }
    }

    fn ack_ids(
        &mut self,
        job: &mut Acking,
        ids: &[String],
        asked: &mut Option<Asked>,
        now: Now,
        actions: &mut Actions,
    ) -> Progress {
        let Some(one) = self.subscription(&job.identifier) else {
            return Progress::Done;
        };
        let (wish, consumer) = (one.wish.clone(), one.wish.consumer.clone());
        let find = |uuid: &Uuid| {
            self.known(Some(&consumer), uuid)
                .or_else(|| job.search.find(uuid))
        };
        let mut all = Vec::with_capacity(ids.len());
        let mut unknown = Vec::new();
        for text in ids {
            let uuid = uuid(text);
            let found = uuid.and_then(|uuid| Some((uuid, find(&uuid)?)));
            if let (Some(uuid), None) = (uuid, &found) {
                unknown.push(uuid);
            }
            let found = found.filter(|(_, found)| wish.wants(&found.name));
            all.push(Named { text, found });
        }
        if job.recorded.is_none() && !unknown.is_empty() {
            match (job.searched, job.waited) {
                (0, _) => {
                    unknown.iter().for_each(|uuid| job.search.want(*uuid));
                    return self.fetch(From::Oldest, None, asked, actions);
                }
                (1, false) => {
                    job.waited = true;
                    *asked = Some(Asked::Pause);
                    actions.set_timer(LOOK_AGAIN, LOOK_AGAIN_AFTER);
                    return Progress::Waits;
                }
                (1, true) => {
                    let since = From::Since(now.unix_ms.saturating_sub(LOOK_BACK_MS));
                    return self.fetch(since, None, asked, actions);
                }
                _ => {}
            }
        }
        let taken = all.iter().filter_map(|one| one.found.as_ref());
        if job.recorded.is_none() {
            let mut events: Vec<_> = taken.clone().map(|(_, found)| found.ack()).collect();
            if events.is_empty() {
                job.recorded = Some(Acked::default());
            } else {
                // In their order they join at once.
                events.sort_by_key(|ack| ack.offset);
                events.dedup_by_key(|ack| ack.offset);
                let up_to = Vec::new();
                return self.ask_consumer(&consumer, &Ask::Ack { events, up_to }, asked, actions);
            }
        }
        let refused = job.recorded.take().unwrap_or_default().refused;
        let fits = |found: &Found| !refused.contains(&found.id.as_integer());
        let taken: Vec<(Uuid, Found)> = taken.filter(|(_, found)| fits(found)).cloned().collect();
        if job.reply {
            let groups = |wanted: fn(Option<bool>) -> bool| {
                let of =
                    |one: &&Named<'_>| wanted(one.found.as_ref().map(|(_, found)| fits(found)));
                let texts: Vec<&str> = all.iter().filter(of).map(|one| one.text).collect();
                (!texts.is_empty()).then(|| frames::ids(texts))
            };
            let identifier = &job.identifier;
            if let Some(ids) = groups(|fits| fits == Some(true)) {
                actions.send_text(frames::confirm_ack(identifier, &ids));
            }
            if let Some(ids) = groups(|fits| fits.is_none()) {
                actions.send_text(frames::reject_ack(identifier, &ids, "unknown_event"));
            }
            if let Some(ids) = groups(|fits| fits == Some(false)) {
                actions.send_text(frames::reject_ack(identifier, &ids, "too_many_gaps"));
            }
        }
        for (uuid, found) in taken {
            if let Some(tracker) = self.trackers.get_mut(&consumer) {
                tracker.acked(found.id);
            }
            self.recent.remember(uuid, found);
        }
        // From now on what is sent is remembered: acks without a word before cost a search each.
        self.remembers |= !wish.acks;
        Progress::Done
    }

    fn ack_up_to(
        &mut self,
        job: &mut Acking,
        place: Option<Result<(String, u64), ()>>,
        asked: &mut Option<Asked>,
        head: &mut Option<EventId>,
        actions: &mut Actions,
    ) -> Progress {
        let refuse = |actions: &mut Actions, reason| {
            if job.reply {
                let ack = echo(&job.ack);
                actions.send_text(frames::reject_ack(&job.identifier, &ack, reason));
            }
            Progress::Done
        };
        let (epoch, offset) = match place {
            Some(Ok(place)) => place,
            Some(Err(())) => return refuse(actions, "malformed"),
            None => return refuse(actions, "unknown_position"),
        };
        let Some(ours) = &self.epoch else {
            return self.ask_epoch(asked, actions);
        };
        let Some(to) = EventId::from_integer(offset).filter(|_| **ours == *epoch) else {
            return refuse(actions, "unknown_position");
        };
        let Some(newest) = *head else {
            return self.ask_head(asked, actions);
        };
        if to > newest.max(self.live.place) {
            if job.waited {
                return refuse(actions, "unknown_position");
            }
            // It may come from an instance whose tail is ahead.
            job.waited = true;
            *head = None;
            *asked = Some(Asked::Pause);
            actions.set_timer(LOOK_AGAIN, LOOK_AGAIN_AFTER);
            return Progress::Waits;
        }
        let Some(one) = self.subscription(&job.identifier) else {
            return Progress::Done;
        };
        let wish = one.wish.clone();
        if job.recorded.is_none() {
            let up_to = wish.names.iter().map(|name| (name.clone(), offset));
            let ask = Ask::Ack {
                events: Vec::new(),
                up_to: up_to.collect(),
            };
            return self.ask_consumer(&wish.consumer, &ask, asked, actions);
        }
        if let Some(tracker) = self.trackers.get_mut(&wish.consumer) {
            tracker.acked_to(|name| wish.wants(name), to);
        }
        if job.reply {
            actions.send_text(frames::confirm_ack(&job.identifier, &echo(&job.ack)));
        }
        Progress::Done
    }

    /// An event that this connection remembers, by its id.
    pub(super) fn known(&self, consumer: Option<&str>, uuid: &Uuid) -> Option<Found> {
        let mut trackers = self
            .trackers
            .iter()
            .filter(|(name, _)| consumer.is_none_or(|consumer| *consumer == ***name));
        trackers
            .find_map(|(_, tracker)| tracker.find(uuid))
            .or_else(|| self.recent.find(uuid))
    }

    /// Something may be due again.
    pub(super) fn redelivery(&mut self, now: Now, actions: &mut Actions) {
        self.redelivery_set = false;
        let due =
            |tracker: &super::Tracker| tracker.next_due().is_some_and(|due| due <= now.uptime);
        let late = self.trackers.iter().find(|(_, tracker)| due(tracker));
        match late.map(|(consumer, _)| consumer.clone()) {
            // Between two commands, so that it does not overtake the ack that is being recorded.
            Some(consumer) if self.job.is_none() && self.waiting.is_empty() => {
                let redelivering = Redelivering {
                    consumer,
                    state: None,
                };
                self.job = Some(Job::new(What::Redeliver(redelivering)));
                self.go_on(now, actions);
            }
            Some(_) => self.set_redelivery(REDELIVERY_STEP, actions),
            None => self.set_next_redelivery(now, actions),
        }
    }

    pub(super) fn redeliver(
        &mut self,
        job: &mut Redelivering,
        asked: &mut Option<Asked>,
        now: Now,
        actions: &mut Actions,
    ) -> Progress {
        // Another connection of this consumer may have acked.
        let Some(state) = &job.state else {
            return self.ask_consumer(&job.consumer, &Ask::Look, asked, actions);
        };
        let floor_ms = now.unix_ms.saturating_sub(RETAINED_MS);
        let (base, max) = (self.settings.ack_wait, self.settings.ack_wait_max);
        let wait = |times: u32| {
            let factor = 1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX);
            base.saturating_mul(factor).min(max)
        };
        if let Some(tracker) = self.trackers.get_mut(&job.consumer) {
            tracker.learn(state);
            for event in tracker.take_due(now.uptime, floor_ms, REDELIVERED_MAX, wait) {
                let (id, name) = (event.event().id, &event.event().kind);
                for one in &self.subscriptions {
                    let wish = &one.wish;
                    let mine = wish.acks && wish.consumer == job.consumer && wish.wants(name);
                    // What is being replayed comes by itself.
                    if mine && id <= one.floor.max(self.live.place) {
                        actions.send(self.print(one, &*event, true));
                    }
                }
            }
        }
        self.set_next_redelivery(now, actions);
        Progress::Done
    }

    fn set_next_redelivery(&mut self, now: Now, actions: &mut Actions) {
        let next = self
            .trackers
            .values()
            .filter_map(super::Tracker::next_due)
            .min();
        if let Some(due) = next {
            let left = due.saturating_sub(now.uptime).max(REDELIVERY_STEP);
            self.set_redelivery(left, actions);
        }
    }

    fn set_redelivery(&mut self, after: Duration, actions: &mut Actions) {
        const TIMER: TimerId = REDELIVER;
        if self.settings.ack_wait.is_zero() {
            return;
        }
        self.redelivery_set = true;
        actions.set_timer(TIMER, after.min(TIMER_MAX));
    }
}

/// An ack as it is sent back.
fn echo(ack: &Ack) -> Value {
    match ack {
        Ack::Ids(ids) => frames::ids(ids.iter().map(String::as_str)),
        Ack::Streams(streams) => frames::streams(streams),
        Ack::Malformed(value) => value.clone(),
    }
}

/// Events that were not acked in time are sent again.
#[derive(Debug)]
pub(super) struct Redelivering {
    consumer: Arc<str>,
    /// How the consumer stands.
    state: Option<State>,
}

impl Redelivering {
    pub(super) fn looked(&mut self, answer: &[u8]) {
        self.state = Some(State::parse(answer).unwrap_or_default());
    }
}
