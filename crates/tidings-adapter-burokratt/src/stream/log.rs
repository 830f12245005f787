//! A channel's stream: every entry once, in order, with the id to come back with (1.3, section 4).
//!
//! What is said on the wire, in this order: `retry`; `gap` if the client's place is lost; what is
//! replayed; `ready`, not before, because its id would be ahead of entries that were not sent; and
//! then what comes. A place that was lost while the client is there is told in the same way.
//!
//! A gap names the oldest entry that is retained and the newest place, so two things are waited for
//! before it is said: a look at the newest place (a subscription of its own, which brings nothing),
//! and the first entry of the replay.
//!
//! Nothing is said to a client that comes back to an ended chat until it is known whether it has
//! missed anything: if not, the answer is 204, at which `EventSource` stops asking (4.6).

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Action, Actions, At, Batch, Event, EventId, From, Input, Now, Printed, Refused, Session, SubId,
    TimerId, Topic, Verdict,
};

use super::pace::{Guard, Pace};
use super::place::{Came, Place};
use super::print::{Frames, Gap, Reason, ready};
use crate::keys::kind;
use crate::objects::parse_time;

/// The entries.
const MAIN: SubId = SubId(0);
/// A look at a place, before the entries are asked for; it brings nothing.
const LOOK: SubId = SubId(1);

const HEARTBEAT: TimerId = TimerId(0);
const RECHECK: TimerId = TimerId(1);
const GRACE: TimerId = TimerId(2);

/// What `updated` may be ahead of the log's clock by: an instance whose clock is further off is not
/// ready.
const SKEW_MS: u64 = 10_000;

/// How one channel is streamed.
#[derive(Debug)]
pub(crate) struct LogStream {
    pub(crate) topic: Topic,
    pub(crate) frames: Frames,
    /// A plain frame behind a gap, for clients that know of no gaps and look for what they missed
    /// when they are nudged (4.4).
    pub(crate) refetch: Option<String>,
    pub(crate) came: Option<Came>,
    /// Without a place: what changed after this.
    pub(crate) since: Option<Since>,
    /// Whether the chat was over when the client came.
    pub(crate) ended: bool,
    pub(crate) pace: Pace,
    pub(crate) guard: Option<Guard>,
    pub(crate) progress: Progress,
}

/// What changed after a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    /// Milliseconds since 1970.
    pub(crate) ms: u64,
    /// The end of the log when the client came. What was said elsewhere may not have reached this
    /// instance, and is waited for: it belongs to the replay.
    pub(crate) end: EventId,
}

/// How far a stream has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether anything was said.
    begun: bool,
    /// A lost place that was not told yet.
    lost: Option<Reason>,
    /// The newest place when the loss was found out.
    newest: Option<EventId>,
    /// Whether the replay is over and said to be.
    ready: bool,
    /// Whether the client goes on from its place.
    resumed: bool,
    replayed: u64,
}

impl Session for LogStream {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => self.open(actions),
            Input::Subscribed { sub: LOOK, at } => {
                self.progress.newest = Some(place(at));
                self.looked(actions);
            }
            // The end is lost already; what is there is there.
            Input::Verdict { sub: LOOK, .. } => self.looked(actions),
            Input::Verdict {
                sub: MAIN, verdict, ..
            } => self.judged(verdict, actions),
            Input::Events { sub: MAIN, batch } => self.tell(batch, actions),
            Input::Flash { sub: MAIN, events } => self.flash(events, actions),
            Input::CaughtUp { sub: MAIN, at } => self.level(at, actions),
            Input::Timer(HEARTBEAT) => {
                self.begin(actions);
                self.pace.beat(HEARTBEAT, actions);
            }
            Input::Timer(RECHECK) => self.guard.iter().for_each(|guard| guard.ask(actions)),
            Input::Called { result, .. } => {
                if let Some(guard) = &self.guard {
                    guard.told(result, RECHECK, actions);
                }
            }
            Input::Timer(GRACE) => actions.close(1000, "the chat is over"),
            Input::Draining => actions.close(1001, "come back"),
            _ => {}
        }
    }
}

impl LogStream {
    fn open(&mut self, actions: &mut Actions) {
        actions.set_timer(HEARTBEAT, self.pace.heartbeat);
        if let Some(guard) = &self.guard {
            guard.begin(self.pace.share, RECHECK, actions);
        }
        if self.came.is_none() || !self.ended {
            self.begin(actions);
        }
        let topic = self.topic.clone();
        match (&self.came, self.since) {
            (Some(came), _) => match came.place {
                Place::At(place) => {
                    self.progress.resumed = true;
                    actions.subscribe(MAIN, topic, From::After(place));
                }
                Place::Beyond if self.ended => stop(actions),
                Place::Beyond => self.lose(Reason::Unknown, actions),
                Place::Invalid => self.lose(Reason::Invalid, actions),
            },
            (None, Some(since)) => actions.subscribe(LOOK, topic, From::After(since.end)),
            (None, None) => actions.subscribe(MAIN, topic, From::Newest),
        }
    }

    /// The look is over.
    fn looked(&self, actions: &mut Actions) {
        let from = match self.since {
            Some(since) => From::Since(since.ms.saturating_sub(SKEW_MS)),
            None => From::Oldest,
        };
        actions.push(Action::Unsubscribe(LOOK));
        actions.subscribe(MAIN, self.topic.clone(), from);
    }

    /// The head of the answer and `retry`, once.
    fn begin(&mut self, actions: &mut Actions) {
        if !std::mem::replace(&mut self.progress.begun, true) {
            self.pace.begin(actions);
        }
    }

    fn judged(&mut self, verdict: Verdict, actions: &mut Actions) {
        match verdict {
            Verdict::Ok => {}
            // It has all that there was, and more will not come.
            Verdict::Ahead if self.ended && !self.progress.begun => stop(actions),
            Verdict::Expired => self.lose(Reason::Expired, actions),
            Verdict::Ahead | Verdict::Diverged => self.lose(Reason::Unknown, actions),
        }
    }

    /// The place is lost: all that is retained comes, once it is known what to say of it.
    fn lose(&mut self, reason: Reason, actions: &mut Actions) {
        self.progress.lost = Some(reason);
        self.progress.ready = false;
        self.progress.resumed = false;
        self.progress.replayed = 0;
        self.since = None;
        actions.push(Action::Unsubscribe(MAIN));
        actions.subscribe(LOOK, self.topic.clone(), From::Newest);
    }

    fn tell_loss(&mut self, oldest: Option<EventId>, at: EventId, actions: &mut Actions) {
        let Some(reason) = self.progress.lost.take() else {
            return;
        };
        self.begin(actions);
        let newest = self.progress.newest.take().unwrap_or_default().max(at);
        // A later loss is none of what the client sent.
        let came = self.came.take();
        let gap = Gap {
            reason,
            last_event_id: came.as_ref().map(|came| came.sent.as_str()),
            oldest: oldest.map(|id| id.to_string()).as_deref(),
            newest: &newest.to_string(),
            channel: None,
        }
        .print();
        actions.send_text(gap);
        if let Some(refetch) = &self.refetch {
            actions.send_text(refetch.clone());
        }
    }

    fn tell(&mut self, batch: &Batch, actions: &mut Actions) {
        if let Some(first) = batch.events.first() {
            let first = first.event().id;
            self.tell_loss(Some(first), first, actions);
        }
        for printed in &batch.events {
            let event = printed.event();
            if ends_the_chat(event) {
                actions.set_timer(GRACE, self.pace.ended_grace);
            }
            let Some(variant) = self.frames.of(event) else {
                continue;
            };
            if !self.progress.ready {
                if self
                    .since
                    .is_some_and(|since| changed_ms(event) <= since.ms)
                {
                    continue;
                }
                self.progress.replayed += 1;
            }
            self.begin(actions);
            actions.send_text(printed.printed(variant));
        }
    }

    fn flash(&self, events: &[Arc<dyn Printed>], actions: &mut Actions) {
        for printed in events {
            if let Some(variant) = self.frames.of_flash(printed.event()) {
                actions.send_text(printed.printed(variant));
            }
        }
    }

    fn level(&mut self, at: &At, actions: &mut Actions) {
        let place = place(at);
        self.tell_loss(None, place, actions);
        if self.progress.ready {
            return;
        }
        if self.ended && !self.progress.begun {
            return stop(actions);
        }
        self.begin(actions);
        self.progress.ready = true;
        let Progress {
            resumed, replayed, ..
        } = self.progress;
        actions.send_text(ready(Some(&place.to_string()), resumed, replayed));
        if self.ended {
            actions.close(1000, "the chat is over");
        }
    }
}

/// The client has all of an ended chat, and need not come back.
fn stop(actions: &mut Actions) {
    actions.push(Action::Refuse(Refused {
        status: 204,
        content_type: Cow::Borrowed(""),
        body: Bytes::new(),
    }));
}

/// The place of a cursor over one topic.
fn place(at: &At) -> EventId {
    at.cursor.places().first().copied().unwrap_or_default()
}

fn ends_the_chat(event: &Event) -> bool {
    let subject = event
        .attributes
        .as_ref()
        .and_then(|all| all.subject.as_deref());
    &*event.kind == kind::MESSAGE && subject == Some(kind::ENDED)
}

/// When a message was changed, milliseconds since 1970.
fn changed_ms(event: &Event) -> u64 {
    #[derive(Default, Deserialize)]
    struct Message {
        updated: String,
    }
    let message: Message = serde_json::from_slice(&event.data).unwrap_or_default();
    parse_time(&message.updated).unwrap_or(event.id.ms())
}
