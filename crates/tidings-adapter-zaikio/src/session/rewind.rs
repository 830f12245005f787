//! `history` and `rewind`: events again, from a place that the client names, up to the head.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::{Actions, EventId, From, Now, Printed, Verdict};
use uuid::Uuid;

use super::command::{History, position};
use super::frames;
use super::jobs::{Asked, Job, Progress, What};
use super::tracker::Search;
use super::{Connection, LOOK_AGAIN};
use crate::event::uuid;

/// An event may have been published on another instance a moment ago. Its id is looked for once more
/// after this; the tail is some milliseconds behind.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// How far back the second look begins: further than any tail that is not down is behind.
pub(super) const LOOK_BACK_MS: u64 = 30_000;

#[derive(Debug)]
pub(super) struct Rewinding {
    identifier: Arc<str>,
    history: History,
    paused: bool,
    /// Where to begin, once it is known.
    from: Option<From>,
    search: Search,
    /// Searches that have come to their end.
    searched: u32,
    waited: bool,
    /// Up to where is replayed, once it is.
    until: Option<EventId>,
    verdict: Option<Verdict>,
}

impl Rewinding {
    pub(super) fn new(identifier: Arc<str>, history: History) -> Self {
        Self {
            identifier,
            history,
            paused: false,
            from: None,
            search: Search::default(),
            searched: 0,
            waited: false,
            until: None,
            verdict: None,
        }
    }

    pub(super) fn fetched(&mut self, verdict: Verdict) {
        match self.until {
            Some(_) => self.verdict = Some(verdict),
            None => self.searched += 1,
        }
    }

    pub(super) fn has_found(&self) -> bool {
        self.until.is_none() && self.search.is_over()
    }
}

/// Where a history begins.
enum Begins {
    At(From),
    /// After the event of this id, wherever that is.
    AfterEvent(Uuid),
    /// Nothing is asked for.
    Nowhere,
    Rejected(&'static str),
}

impl Connection {
    pub(super) fn begin_rewind(
        &mut self,
        identifier: Arc<str>,
        history: History,
        is_command: bool,
        actions: &mut Actions,
    ) {
        if self.subscription(&identifier).is_none() {
            // An action on a channel that is not there is passed over, as Rails does.
            if is_command {
                actions.send_text(frames::reject_history(&identifier, "not_subscribed"));
            }
            return;
        }
        if history == History::Malformed {
            return actions.send_text(frames::reject_history(&identifier, "malformed"));
        }
        let rewinding = Rewinding::new(identifier, history);
        self.job = Some(Job::new(What::Rewind(Box::new(rewinding))));
    }

    pub(super) fn rewind(
        &mut self,
        job: &mut Rewinding,
        asked: &mut Option<Asked>,
        head: &mut Option<EventId>,
        now: Now,
        actions: &mut Actions,
    ) -> Progress {
        if job.history == History::Malformed {
            // It came with a subscription, which stands.
            actions.send_text(frames::reject_history(&job.identifier, "malformed"));
            return Progress::Done;
        }
        if !job.paused {
            job.paused = true;
            self.pause(actions);
        }
        let Some(head) = head else {
            return self.ask_head(asked, actions);
        };
        let Some(from) = job.from else {
            if self.epoch.is_none() && self.names_our_stream(job) {
                return self.ask_epoch(asked, actions);
            }
            match self.begins(job) {
                Begins::At(from) => {
                    job.from = Some(from);
                    return Progress::Again;
                }
                Begins::Nowhere => {
                    actions.send_text(frames::typed(&job.identifier, "confirm_history"));
                    return Progress::Done;
                }
                Begins::Rejected(reason) => {
                    actions.send_text(frames::reject_history(&job.identifier, reason));
                    return Progress::Done;
                }
                Begins::AfterEvent(uuid) => return self.search(job, uuid, asked, now, actions),
            }
        };
        let (Some(until), Some(verdict)) = (job.until, job.verdict) else {
            let mut until = (*head).max(self.live.place);
            if let From::After(place) = from {
                // It comes from an instance whose tail is ahead of this one's.
                until = until.max(place);
            }
            job.until = Some(until);
            return self.fetch(from, Some(until), asked, actions);
        };
        let frame = match verdict {
            Verdict::Ok => {
                if let Some(one) = self.subscription_mut(&job.identifier) {
                    one.floor = one.floor.max(until);
                }
                frames::typed(&job.identifier, "confirm_history")
            }
            Verdict::Expired => frames::reject_history(&job.identifier, "expired"),
            _ => frames::reject_history(&job.identifier, "unknown_position"),
        };
        actions.send_text(frame);
        Progress::Done
    }

    fn names_our_stream(&self, job: &Rewinding) -> bool {
        match &job.history {
            History::Wanted { streams, .. } => position(streams, &self.stream).is_some(),
            History::Malformed => false,
        }
    }

    fn begins(&self, job: &Rewinding) -> Begins {
        let History::Wanted {
            streams,
            after,
            since_ms,
        } = &job.history
        else {
            return Begins::Rejected("malformed");
        };
        match position(streams, &self.stream) {
            Some(Err(())) => return Begins::Rejected("malformed"),
            Some(Ok((epoch, _))) if self.epoch.as_deref() != Some(&epoch) => {
                return Begins::Rejected("epoch_mismatch");
            }
            Some(Ok((_, offset))) => {
                return match EventId::from_integer(offset) {
                    Some(id) => Begins::At(From::After(id)),
                    None => Begins::Rejected("unknown_position"),
                };
            }
            None => {}
        }
        match (after, since_ms) {
            (Some(id), _) => {
                uuid(id).map_or(Begins::Rejected("unknown_position"), Begins::AfterEvent)
            }
            (None, Some(ms)) => Begins::At(From::Since(*ms)),
            (None, None) => Begins::Nowhere,
        }
    }

    /// Looks for an event by its id: in what this connection remembers, in the topic, and in the
    /// topic's end once more after a moment.
    fn search(
        &mut self,
        job: &mut Rewinding,
        uuid: Uuid,
        asked: &mut Option<Asked>,
        now: Now,
        actions: &mut Actions,
    ) -> Progress {
        let known = self.known(None, &uuid).or_else(|| job.search.find(&uuid));
        if let Some(found) = known {
            job.from = Some(From::After(found.id));
            return Progress::Again;
        }
        match (job.searched, job.waited) {
            (0, _) => {
                job.search.want(uuid);
                self.fetch(From::Oldest, None, asked, actions)
            }
            (1, false) => {
                job.waited = true;
                *asked = Some(Asked::Pause);
                actions.set_timer(LOOK_AGAIN, LOOK_AGAIN_AFTER);
                Progress::Waits
            }
            (1, true) => {
                let since = From::Since(now.unix_ms.saturating_sub(LOOK_BACK_MS));
                self.fetch(since, None, asked, actions)
            }
            _ => {
                actions.send_text(frames::reject_history(&job.identifier, "unknown_position"));
                Progress::Done
            }
        }
    }

    /// An event of the range that is searched or replayed.
    pub(super) fn rewound_event(
        &mut self,
        job: &mut Rewinding,
        event: &Arc<dyn Printed>,
        actions: &mut Actions,
    ) {
        if job.until.is_none() {
            return job.search.see(&**event);
        }
        if let Some(one) = self.subscription(&job.identifier)
            && one.wish.wants(&event.event().kind)
        {
            actions.send(self.print(one, &**event, false));
        }
    }
}
