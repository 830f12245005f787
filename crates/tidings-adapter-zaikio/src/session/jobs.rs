//! Carrying out commands, one at a time.
//!
//! A job holds what it has found out so far, and at most one question that is under way. Whenever
//! something comes in, the job goes on from the top: what it knows it passes over, what it lacks it
//! asks for. So there is no table of states, and no input that finds a job in a state where it does
//! not belong.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::{
    Action, Actions, CommandError, Decided, EventId, From, Now, Printed, Start, Verdict,
};

use super::acks::{Acking, Redelivering};
use super::command::Command;
use super::frames::Reason;
use super::rewind::Rewinding;
use super::subscribing::Subscribing;
use super::{Connection, FETCH, LIVE, PROBE, RETRY};
use crate::{consumer, epoch};

/// How long after a log that took nothing is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A command that is being carried out.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) what: What,
    pub(super) asked: Option<Asked>,
    /// The head of the topic, as this instance knew it when it was asked.
    pub(super) head: Option<EventId>,
}

#[derive(Debug)]
pub(super) enum What {
    Subscribe(Box<Subscribing>),
    Rewind(Box<Rewinding>),
    Ack(Box<Acking>),
    Redeliver(Redelivering),
}

/// The question that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Where the head is.
    Head,
    /// Which epoch it is.
    Epoch,
    /// A command to the consumer's record.
    Consumer,
    /// Events of a range.
    Fetch,
    /// A pause before looking again.
    Pause,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its question is under way.
    Waits,
    /// It has found something out and goes on from the top.
    Again,
    Done,
}

impl Job {
    pub(super) fn new(what: What) -> Self {
        Self {
            what,
            asked: None,
            head: None,
        }
    }

    pub(super) fn subscribes(&self, identifier: &str) -> bool {
        matches!(&self.what, What::Subscribe(job) if *job.identifier == *identifier)
    }
}

impl What {
    /// Whether a search that is under way has all that it was for.
    fn has_found(&self) -> bool {
        match self {
            Self::Rewind(rewinding) => rewinding.has_found(),
            Self::Ack(acking) => acking.search.is_over(),
            Self::Subscribe(_) | Self::Redeliver(_) => false,
        }
    }
}

impl Connection {
    /// Carries out as much as can be.
    pub(super) fn go_on(&mut self, now: Now, actions: &mut Actions) {
        while self.open {
            let Some(mut job) = self.job.take() else {
                // What comes next may be a replay too; until then nothing is in the way.
                if !self.replays_next() {
                    self.resume(actions);
                }
                let Some((command, bytes)) = self.waiting.pop_front() else {
                    break;
                };
                self.waiting_bytes -= bytes;
                self.begin(command, actions);
                continue;
            };
            let progress = match job.asked {
                Some(_) => Progress::Waits,
                None => self.carry_out(&mut job, now, actions),
            };
            match progress {
                Progress::Waits => {
                    self.job = Some(job);
                    return;
                }
                Progress::Again => self.job = Some(job),
                Progress::Done => {}
            }
        }
    }

    fn carry_out(&mut self, job: &mut Job, now: Now, actions: &mut Actions) -> Progress {
        let Job { what, asked, head } = job;
        match what {
            What::Subscribe(subscribing) => self.subscribe(subscribing, asked, head, actions),
            What::Rewind(rewinding) => self.rewind(rewinding, asked, head, now, actions),
            What::Ack(acking) => self.ack(acking, asked, head, now, actions),
            What::Redeliver(redelivering) => self.redeliver(redelivering, asked, now, actions),
        }
    }

    fn replays_next(&self) -> bool {
        matches!(
            self.waiting.front(),
            Some((Command::Subscribe { .. } | Command::History { .. }, _))
        )
    }

    fn begin(&mut self, command: Command, actions: &mut Actions) {
        match command {
            Command::Subscribe {
                identifier,
                history,
            } => self.begin_subscribe(identifier, history, actions),
            Command::Unsubscribe { identifier } => self.unsubscribe(&identifier, actions),
            Command::History {
                identifier,
                history,
                is_command,
            } => self.begin_rewind(identifier, history, is_command, actions),
            Command::Ack {
                identifier,
                ack,
                reply,
                is_command,
            } => self.begin_ack(identifier, ack, reply, is_command, actions),
        }
    }

    fn unsubscribe(&mut self, identifier: &str, actions: &mut Actions) {
        self.subscriptions
            .retain(|one| *one.identifier != *identifier);
        let still = |consumer: &Arc<str>| {
            let acks = |one: &super::Subscription| one.wish.acks && one.wish.consumer == *consumer;
            self.subscriptions.iter().any(acks)
        };
        self.trackers.retain(|consumer, _| still(consumer));
        if self.subscriptions.is_empty() && self.live.on {
            self.live.on = false;
            actions.push(Action::Unsubscribe(LIVE));
        }
    }

    pub(super) fn ask_head(&self, asked: &mut Option<Asked>, actions: &mut Actions) -> Progress {
        *asked = Some(Asked::Head);
        actions.push(Action::Subscribe {
            sub: PROBE,
            topics: vec![self.topic.clone()],
            from: Start::From(From::Newest),
        });
        Progress::Waits
    }

    pub(super) fn ask_epoch(&self, asked: &mut Option<Asked>, actions: &mut Actions) -> Progress {
        *asked = Some(Asked::Epoch);
        actions.push(Action::Commit {
            tag: 0,
            command: epoch::command(),
        });
        Progress::Waits
    }

    pub(super) fn ask_consumer(
        &self,
        consumer: &str,
        ask: &consumer::Ask,
        asked: &mut Option<Asked>,
        actions: &mut Actions,
    ) -> Progress {
        *asked = Some(Asked::Consumer);
        let app = self.admitted.as_ref().map_or("", |grant| &*grant.app.name);
        actions.push(Action::Commit {
            tag: 0,
            command: consumer::command(&self.topic, app, consumer, ask),
        });
        Progress::Waits
    }

    pub(super) fn fetch(
        &self,
        from: From,
        until: Option<EventId>,
        asked: &mut Option<Asked>,
        actions: &mut Actions,
    ) -> Progress {
        *asked = Some(Asked::Fetch);
        actions.push(Action::Fetch {
            sub: FETCH,
            topic: self.topic.clone(),
            from,
            until,
        });
        Progress::Waits
    }

    /// The job that asked this, if it still waits for it.
    fn asking(&mut self, question: Asked) -> Option<&mut Job> {
        let job = self
            .job
            .as_mut()
            .filter(|job| job.asked == Some(question))?;
        job.asked = None;
        Some(job)
    }

    pub(super) fn found_head(&mut self, head: EventId) {
        if let Some(job) = self.asking(Asked::Head) {
            job.head = Some(head);
        }
    }

    /// After a pause what is still lacking is asked for.
    pub(super) fn paused(&mut self) {
        self.asking(Asked::Pause);
    }

    pub(super) fn committed(
        &mut self,
        result: Result<&Decided, &CommandError>,
        actions: &mut Actions,
    ) {
        let question = self.job.as_ref().and_then(|job| job.asked);
        let decided = match result {
            Ok(decided) => decided,
            // The instance is about to say goodbye.
            Err(CommandError::Draining) => return,
            Err(error @ CommandError::Undecided(_)) => {
                tracing::error!(%error, "a command of this adapter cannot be decided");
                return self.disconnect(Reason::ServerRestart, actions);
            }
            Err(error) => {
                tracing::debug!(%error, "a command was not taken; trying again");
                if let Some(job) = &mut self.job {
                    job.asked = Some(Asked::Pause);
                    actions.set_timer(RETRY, RETRY_AFTER);
                }
                return;
            }
        };
        match question {
            Some(Asked::Epoch) => {
                self.asking(Asked::Epoch);
                if let Some(epoch) = epoch::of_answer(&decided.answer) {
                    self.learn_epoch(epoch);
                }
            }
            Some(Asked::Consumer) => {
                if let Some(job) = self.asking(Asked::Consumer) {
                    match &mut job.what {
                        What::Subscribe(subscribing) => subscribing.enrolled(&decided.answer),
                        What::Ack(acking) => acking.recorded(&decided.answer),
                        What::Redeliver(redelivering) => redelivering.looked(&decided.answer),
                        What::Rewind(_) => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// An event of a range that a job asked for.
    pub(super) fn fetched_event(
        &mut self,
        event: &Arc<dyn Printed>,
        now: Now,
        actions: &mut Actions,
    ) {
        let Some(mut job) = self.job.take_if(|job| job.asked == Some(Asked::Fetch)) else {
            return;
        };
        match &mut job.what {
            What::Subscribe(subscribing) => self.owed_event(subscribing, event, now, actions),
            What::Rewind(rewinding) => self.rewound_event(rewinding, event, actions),
            What::Ack(acking) => acking.search.see(&**event),
            What::Redeliver(_) => {}
        }
        if job.what.has_found() {
            actions.push(Action::Unsubscribe(FETCH));
            job.asked = None;
        }
        self.job = Some(job);
    }

    pub(super) fn fetched(&mut self, verdict: Verdict) {
        if let Some(job) = self.asking(Asked::Fetch) {
            match &mut job.what {
                What::Subscribe(subscribing) => subscribing.replayed = true,
                What::Rewind(rewinding) => rewinding.fetched(verdict),
                What::Ack(acking) => acking.searched += 1,
                What::Redeliver(_) => {}
            }
        }
    }
}
