//! `subscribe`: confirmed at the head; a consumer that acks then gets what it has not acked.

use std::sync::Arc;

use tidings_adapter::{Actions, EventId, From, Now, Printed};

use super::command::History;
use super::frames;
use super::identifier::Wish;
use super::jobs::{Asked, Job, Progress, What};
use super::rewind::Rewinding;
use super::{Connection, IDENTIFIER_BYTES_MAX, Mode, SUBSCRIPTIONS_MAX, Subscription};
use crate::consumer::{Ask, State};

#[derive(Debug)]
pub(super) struct Subscribing {
    pub(super) identifier: Arc<str>,
    wish: Wish,
    history: Option<History>,
    /// How the consumer stands, once it is enrolled.
    state: Option<State>,
    confirmed: bool,
    /// What is owed has been sent.
    pub(super) replayed: bool,
}

impl Subscribing {
    pub(super) fn enrolled(&mut self, answer: &[u8]) {
        self.state = Some(State::parse(answer).unwrap_or_default());
    }

    /// The earliest place after which something may be owed.
    fn settled_to(&self) -> Option<EventId> {
        let state = self.state.as_ref()?;
        let places = self.wish.names.iter().map(|name| state.settled_to(name));
        places.flatten().min()
    }
}

impl Connection {
    pub(super) fn begin_subscribe(
        &mut self,
        identifier: Arc<str>,
        history: Option<History>,
        actions: &mut Actions,
    ) {
        if self.subscription(&identifier).is_some() {
            return; // no second confirmation, no second stream
        }
        let allowed = self
            .admitted
            .as_ref()
            .ok()
            .map(|grant| &grant.app.subscriptions);
        let wish = allowed.and_then(|allowed| Wish::parse(&identifier, allowed));
        let bytes: usize = self
            .subscriptions
            .iter()
            .map(|one| one.identifier.len())
            .sum();
        let has_room = self.subscriptions.len() < SUBSCRIPTIONS_MAX
            && bytes + identifier.len() <= IDENTIFIER_BYTES_MAX;
        match wish.filter(|_| has_room) {
            Some(wish) => {
                self.job = Some(Job::new(What::Subscribe(Box::new(Subscribing {
                    identifier,
                    wish,
                    history,
                    state: None,
                    confirmed: false,
                    replayed: false,
                }))));
            }
            None => actions.send_text(frames::typed(&identifier, "reject_subscription")),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        job: &mut Subscribing,
        asked: &mut Option<Asked>,
        head: &mut Option<EventId>,
        actions: &mut Actions,
    ) -> Progress {
        let Some(head) = head else {
            return self.ask_head(asked, actions);
        };
        if self.mode == Mode::Extended && self.epoch.is_none() {
            return self.ask_epoch(asked, actions);
        }
        if job.wish.acks && job.state.is_none() {
            let ask = Ask::Enrol {
                names: job.wish.names.clone(),
                head: head.as_integer(),
            };
            return self.ask_consumer(&job.wish.consumer, &ask, asked, actions);
        }
        if !job.confirmed {
            job.confirmed = true;
            self.confirm(job, head, actions);
        }
        if job.wish.acks && !job.replayed {
            match job.settled_to().filter(|settled| settled < head) {
                // By time, since a settled place need not be the place of an event.
                Some(settled) => {
                    let from = From::Since(settled.ms());
                    return self.fetch(from, Some(*head), asked, actions);
                }
                None => job.replayed = true,
            }
        }
        if let Some(history) = job.history.take() {
            let rewinding = Rewinding::new(job.identifier.clone(), history);
            self.job = Some(Job {
                head: Some(*head),
                ..Job::new(What::Rewind(Box::new(rewinding)))
            });
        }
        Progress::Done
    }

    fn confirm(&mut self, job: &Subscribing, head: &mut EventId, actions: &mut Actions) {
        if self.subscriptions.is_empty() {
            self.live.place = *head;
        }
        // While the consumer's record was asked, others here may have been sent more.
        *head = (*head).max(self.live.place);
        actions.send_text(frames::typed(&job.identifier, "confirm_subscription"));
        if job.wish.acks || job.history.is_some() {
            self.pause(actions);
        }
        self.subscriptions.push(Subscription {
            identifier: job.identifier.clone(),
            head: frames::head(&job.identifier),
            wish: job.wish.clone(),
            floor: *head,
        });
        if let Some(state) = &job.state {
            let tracker = self.trackers.entry(job.wish.consumer.clone()).or_default();
            for name in &job.wish.names {
                let settled = state.settled_to(name).unwrap_or_default();
                tracker.follow(name, settled);
            }
        }
    }

    /// An event since the consumer's settled place: owed, unless it is acked.
    pub(super) fn owed_event(
        &mut self,
        job: &Subscribing,
        event: &Arc<dyn Printed>,
        now: Now,
        actions: &mut Actions,
    ) {
        let (id, name) = (event.event().id, &event.event().kind);
        let (Some(state), true) = (&job.state, job.wish.wants(name)) else {
            return;
        };
        if state.is_settled(name, id) {
            if let Some(tracker) = self.trackers.get_mut(&job.wish.consumer) {
                tracker.pass(name, id);
            }
            return;
        }
        let Some(one) = self.subscription(&job.identifier) else {
            return;
        };
        actions.send(self.print(one, &**event, false));
        self.owe(&job.wish.consumer, event, now, actions);
    }
}
