//! A conversation: a session, its subscriptions, timers and publishes, performed.
//!
//! Drivers own the socket; everything that is the same for all of them is here. A driver calls
//! [`Conversation::turn`] to wait for the next thing that is not the socket, and takes what the
//! session wants written from [`Conversation::frames`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tidings_core::{
    Action, Actions, Appended, Close, Frame, Input, Received, Refused, Session, TimerId,
};
use tidings_engine::{Delivery, Hub, PublishError, Reader};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::limits::DriverLimits;

/// How many publishes of one session may be under way. A session that asks for more is closed: it
/// is being flooded, and its client's frames are read no faster than they are answered.
const PUBLISHES_MAX: usize = 64;

/// One client's session with all that performs it.
pub(crate) struct Conversation {
    session: Box<dyn Session>,
    hub: Hub,
    reader: Reader,
    limits: DriverLimits,
    actions: Actions,
    timers: Vec<(TimerId, Instant)>,
    alarm: Option<Pin<Box<Sleep>>>,
    publishes: FuturesUnordered<BoxFuture<'static, (u32, Result<Appended, PublishError>)>>,
    leaving: Leaving,
    /// This connection's share of the drain's spread.
    leave_after: Duration,
    /// What the session wants written, oldest first.
    frames: VecDeque<Frame>,
    frame_bytes: usize,
    head: Option<Head>,
    end: Option<End>,
    _counted: TaskTrackerToken,
}

/// The instance's farewell, as this connection gets it.
enum Leaving {
    Stays(Pin<Box<WaitForCancellationFutureOwned>>),
    Told { at: Instant },
    Over { by: Instant },
}

/// How a conversation ends.
#[derive(Debug)]
pub(crate) enum End {
    Refused(Refused),
    Closed(Close),
}

/// The HTTP answer's status and headers, where the session wants its own.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// The close code for a client that does not keep up (RFC 6455 leaves 1013 to "try again later").
const TRY_AGAIN_LATER: u16 = 1013;
const GOING_AWAY: u16 = 1001;

impl Conversation {
    /// Opens a session.
    pub(crate) fn open(hub: &Hub, session: Box<dyn Session>, limits: DriverLimits) -> Self {
        let reader = hub.reader();
        let mut conversation = Self {
            session,
            leave_after: limits.drain_spread.mul_f64(reader.share()),
            reader,
            limits,
            actions: Actions::default(),
            timers: Vec::new(),
            alarm: None,
            publishes: FuturesUnordered::new(),
            leaving: Leaving::Stays(Box::pin(hub.draining().clone().cancelled_owned())),
            frames: VecDeque::new(),
            frame_bytes: 0,
            head: None,
            end: None,
            _counted: hub.connections().token(),
            hub: hub.clone(),
        };
        conversation.feed(Input::Opened);
        conversation
    }

    /// Takes a message from the client.
    pub(crate) fn receive(&mut self, received: Received<'_>) {
        self.feed(Input::Frame(received));
    }

    /// What the session wants written.
    pub(crate) fn pop_frame(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.frame_bytes -= frame.len();
        Some(frame)
    }

    /// All that the session wants written, as one piece of about `limit` bytes at most; a single
    /// frame is handed on without a copy.
    pub(crate) fn pop_all(&mut self, limit: usize) -> Bytes {
        let first = self.pop_frame().map(joined).unwrap_or_default();
        if self.frames.is_empty() || first.len() >= limit {
            return first;
        }
        let mut all = BytesMut::with_capacity((first.len() + self.frame_bytes).min(limit));
        all.extend_from_slice(&first);
        while let Some(frame) = self.frames.front()
            && all.len() + frame.len() <= limit
        {
            let Some(frame) = self.pop_frame() else { break };
            for part in [&frame.head, &frame.body, &frame.tail] {
                all.extend_from_slice(part);
            }
        }
        all.freeze()
    }

    /// Whether the session wants anything written.
    pub(crate) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Set once the session has closed or was refused; what it sent before is still to be written.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The status and headers that the session wants, once.
    pub(crate) fn take_head(&mut self) -> Option<Head> {
        self.head.take()
    }

    /// Ends it from the driver's side.
    pub(crate) fn close(&mut self, code: u16, reason: &'static str) {
        self.end.get_or_insert(End::Closed(Close {
            code,
            reason: reason.into(),
        }));
    }

    /// Waits for the next thing that is not the socket and lets the session have it. Events are
    /// only taken when `deliver` is set: while something is unwritten the log is the queue.
    /// Cancel-safe.
    pub(crate) async fn turn(&mut self, deliver: bool) {
        if self.end.is_some() {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            () = farewell(&mut self.leaving, self.leave_after) => self.take_leave(),
            () = ring(&mut self.alarm) => self.ring_timers(),
            Some((tag, result)) = self.publishes.next(), if !self.publishes.is_empty() => self.published(tag, &result),
            delivery = self.reader.next(), if deliver => self.deliver(&delivery),
        }
    }

    fn deliver(&mut self, delivery: &Delivery) {
        self.feed(match delivery {
            Delivery::Subscribed(sub, at) => Input::Subscribed { sub: *sub, at },
            Delivery::Verdict(sub, topic, verdict) => Input::Verdict {
                sub: *sub,
                topic,
                verdict: *verdict,
            },
            Delivery::Events(sub, batch) => Input::Events { sub: *sub, batch },
            Delivery::CaughtUp(sub, at) => Input::CaughtUp { sub: *sub, at },
            Delivery::Fetched(sub, verdict) => Input::Fetched {
                sub: *sub,
                verdict: *verdict,
            },
        });
    }

    fn published(&mut self, tag: u32, result: &Result<Appended, PublishError>) {
        let result = result
            .as_ref()
            .map(|appended| *appended)
            .map_err(|error| error as &(dyn std::error::Error + Send));
        self.feed(Input::Published { tag, result });
    }

    fn take_leave(&mut self) {
        match self.leaving {
            Leaving::Stays(_) => {}
            Leaving::Told { .. } => {
                self.leaving = Leaving::Over {
                    by: Instant::now() + self.limits.goodbye,
                };
                self.feed(Input::Draining);
            }
            Leaving::Over { .. } => self.close(GOING_AWAY, "the instance is leaving"),
        }
    }

    fn ring_timers(&mut self) {
        self.alarm = None;
        let now = Instant::now();
        while let Some(index) = self.timers.iter().position(|(_, at)| *at <= now) {
            let (timer, _) = self.timers.swap_remove(index);
            self.feed(Input::Timer(timer));
        }
        self.set_alarm();
    }

    /// One alarm for the earliest timer.
    fn set_alarm(&mut self) {
        let earliest = self.timers.iter().map(|(_, at)| *at).min();
        self.alarm = match (earliest, self.alarm.take()) {
            (None, _) => None,
            (Some(at), None) => Some(Box::pin(tokio::time::sleep_until(at))),
            (Some(at), Some(mut alarm)) => {
                alarm.as_mut().reset(at);
                Some(alarm)
            }
        };
    }

    /// Hands one input to the session and performs what it says.
    fn feed(&mut self, input: Input<'_>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.session.handle(self.hub.now(), input, &mut actions);
        self.perform(&mut actions);
        self.actions = actions;
    }

    fn perform(&mut self, actions: &mut Actions) {
        let mut refusals = Vec::new();
        for action in actions.drain() {
            if self.end.is_some() {
                break; // nothing follows a close
            }
            match action {
                Action::Send(frame) => self.send(frame),
                Action::Subscribe { sub, topics, from } => {
                    refusals.extend(
                        self.reader
                            .subscribe(sub, topics, &from)
                            .err()
                            .map(|refusal| (sub, refusal)),
                    );
                }
                Action::Fetch {
                    sub,
                    topic,
                    from,
                    until,
                } => {
                    refusals.extend(
                        self.reader
                            .fetch(sub, topic, from, until)
                            .err()
                            .map(|refusal| (sub, refusal)),
                    );
                }
                Action::Unsubscribe(sub) => self.reader.unsubscribe(sub),
                Action::Publish { tag, draft } => self.publish(tag, draft),
                Action::SetTimer { timer, after } => self.set_timer(timer, after),
                Action::ClearTimer(timer) => self.timers.retain(|(one, _)| *one != timer),
                Action::Respond { status, headers } => self.head = Some(Head { status, headers }),
                Action::Refuse(refused) => self.end = Some(End::Refused(refused)),
                Action::Close(close) => self.end = Some(End::Closed(close)),
                // The vocabulary is open: what this driver does not know it cannot perform.
                other => tracing::error!(?other, "no driver performs this action"),
            }
        }
        for (sub, refusal) in refusals {
            self.feed(Input::Refused { sub, refusal });
        }
    }

    fn send(&mut self, frame: Frame) {
        self.frame_bytes += frame.len();
        self.frames.push_back(frame);
        if self.frame_bytes > self.limits.unwritten_bytes && self.frames.len() > 1 {
            self.close(TRY_AGAIN_LATER, "too slow");
        }
    }

    fn set_timer(&mut self, timer: TimerId, after: Duration) {
        let at = Instant::now() + after;
        self.timers.retain(|(one, _)| *one != timer);
        self.timers.push((timer, at));
        self.set_alarm();
    }

    fn publish(&mut self, tag: u32, draft: tidings_core::Draft) {
        if self.publishes.len() >= PUBLISHES_MAX {
            self.close(TRY_AGAIN_LATER, "too many publishes under way");
            return;
        }
        let hub = self.hub.clone();
        self.publishes.push(Box::pin(async move {
            let result = hub
                .publish(vec![draft])
                .await
                .pop()
                .unwrap_or(Err(PublishError::Draining));
            (tag, result)
        }));
    }
}

impl Drop for Conversation {
    /// The session hears that its client is gone; what it then still publishes is published.
    fn drop(&mut self) {
        let mut actions = Actions::default();
        self.session
            .handle(self.hub.now(), Input::Closed, &mut actions);
        let drafts: Vec<_> = actions
            .drain()
            .filter_map(|action| match action {
                Action::Publish { draft, .. } => Some(draft),
                _ => None,
            })
            .collect();
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !drafts.is_empty()
        {
            let hub = self.hub.clone();
            runtime.spawn(async move { hub.publish(drafts).await });
        }
    }
}

/// The bytes of a frame as one piece; no copy where there is nothing around the body.
pub(crate) fn joined(frame: Frame) -> Bytes {
    if frame.head.is_empty() && frame.tail.is_empty() {
        return frame.body;
    }
    [frame.head, frame.body, frame.tail].concat().into()
}

async fn ring(alarm: &mut Option<Pin<Box<Sleep>>>) {
    match alarm {
        Some(alarm) => alarm.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Waits for this connection's place in the farewell: each has another share of the spread.
async fn farewell(leaving: &mut Leaving, after: Duration) {
    loop {
        match leaving {
            Leaving::Stays(cancelled) => {
                cancelled.as_mut().await;
                *leaving = Leaving::Told {
                    at: Instant::now() + after,
                };
            }
            Leaving::Told { at } => return tokio::time::sleep_until(*at).await,
            Leaving::Over { by } => return tokio::time::sleep_until(*by).await,
        }
    }
}
