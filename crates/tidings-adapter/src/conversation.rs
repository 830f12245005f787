//! A conversation: a session, its subscriptions, timers and publishes, performed.
//!
//! Drivers own the socket; everything that is the same for all of them is here. A driver calls
//! [`Conversation::turn`] to wait for the next thing that is not the socket, and takes what the
//! session wants written from [`Conversation::frames`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::{Action, Actions, Close, Frame, Input, Received, Refused, Session, TimerId};
use tidings_engine::{Delivery, Hub, Reader, Slow};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::limits::DriverLimits;
use crate::works::{Done, Flooded, Works};

/// Deliveries in a row after which the rest (farewell, timers, publishes) is looked at, too: it is
/// hardly ever ready, and must not wait for a client that is never level.
const DELIVERIES_IN_A_ROW: u8 = 16;

/// One client's session with all that performs it.
pub(crate) struct Conversation {
    session: Box<dyn Session>,
    hub: Hub,
    reader: Reader,
    limits: DriverLimits,
    actions: Actions,
    timers: Vec<(TimerId, Instant)>,
    alarm: Option<Pin<Box<Sleep>>>,
    works: Works,
    leaving: Leaving,
    /// The end of the instance's present incarnation, where there is one.
    fenced: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// This connection's share of the time over which clients are told to come back.
    share: f64,
    /// Deliveries since anything else was looked at.
    in_a_row: u8,
    /// What the session wants written, oldest first.
    frames: VecDeque<Frame>,
    frame_bytes: usize,
    /// How many of them, at the front, go before what a driver holds already.
    urgent: usize,
    /// Whether the session knows that its client does not keep up.
    slow: bool,
    head: Option<Head>,
    end: Option<End>,
    _counted: TaskTrackerToken,
}

/// The instance's farewell, as this connection gets it.
enum Leaving {
    Stays(Pin<Box<WaitForCancellationFutureOwned>>),
    Told(Pin<Box<Sleep>>),
    Over(Pin<Box<Sleep>>),
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
            share: reader.share(),
            reader,
            limits,
            actions: Actions::default(),
            timers: Vec::new(),
            alarm: None,
            works: Works::default(),
            leaving: Leaving::Stays(Box::pin(hub.draining().clone().cancelled_owned())),
            fenced: incarnation_over(hub),
            in_a_row: 0,
            frames: VecDeque::new(),
            frame_bytes: 0,
            urgent: 0,
            slow: false,
            head: None,
            end: None,
            _counted: hub.connections().token(),
            hub: hub.clone(),
        };
        conversation.feed(Input::Opened);
        conversation
    }

    /// When the instance leaves, this one is told first: its client waits for an answer.
    pub(crate) fn leaves_first(&mut self) {
        self.share = 0.0;
    }

    /// Takes a message from the client.
    pub(crate) fn receive(&mut self, received: Received<'_>) {
        self.feed(Input::Frame(received));
    }

    /// What the session wants written.
    pub(crate) fn pop_frame(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.urgent = self.urgent.saturating_sub(1);
        self.frame_bytes -= frame.len();
        Some(frame)
    }

    /// What the session wants written before all that waits.
    pub(crate) fn pop_urgent(&mut self) -> Option<Frame> {
        if self.urgent == 0 {
            return None;
        }
        self.pop_frame()
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

    /// Like [`pop_all`](Self::pop_all), as one chunk of an HTTP/1.1 body with its head and its end.
    pub(crate) fn pop_chunk(&mut self, limit: usize) -> Vec<u8> {
        let (mut frames, mut bytes) = (0, 0);
        for frame in &self.frames {
            if frames > 0 && bytes + frame.len() > limit {
                break;
            }
            frames += 1;
            bytes += frame.len();
        }
        // A chunk of no bytes would end the body.
        let (head, tail) = if bytes == 0 {
            (String::new(), "")
        } else {
            (format!("{bytes:x}\r\n"), "\r\n")
        };
        let mut chunk = Vec::with_capacity(head.len() + bytes + tail.len());
        chunk.extend_from_slice(head.as_bytes());
        for frame in self.frames.drain(..frames) {
            for part in [&frame.head, &frame.body, &frame.tail] {
                chunk.extend_from_slice(part);
            }
        }
        self.urgent = self.urgent.saturating_sub(frames);
        self.frame_bytes -= bytes;
        chunk.extend_from_slice(tail.as_bytes());
        chunk
    }

    /// Whether the session wants anything written.
    pub(crate) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Set once the session has closed or was refused; what it sent before is still to be written.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// For how long its client may take nothing.
    pub(crate) fn write_stall(&self) -> Duration {
        self.limits.write_stall
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
        std::future::poll_fn(|cx| self.poll_turn(deliver, cx)).await;
    }

    /// Deliveries first: they are what a connection is woken for, thousands of times as often as
    /// for the rest.
    fn poll_turn(&mut self, deliver: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Pending;
        }
        if deliver
            && self.in_a_row < DELIVERIES_IN_A_ROW
            && let Poll::Ready(delivery) = self.reader.poll_next(cx)
        {
            self.in_a_row += 1;
            self.deliver(&delivery);
            return Poll::Ready(());
        }
        let overdue = std::mem::take(&mut self.in_a_row) == DELIVERIES_IN_A_ROW;
        if self.poll_farewell(cx).is_ready() {
            self.take_leave();
        } else if let Some(fenced) = &mut self.fenced
            && fenced.as_mut().poll(cx).is_ready()
        {
            self.fenced = incarnation_over(&self.hub);
            self.feed(Input::Fenced);
        } else if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            self.ring_timers();
        } else if let Poll::Ready(done) = self.poll_works(cx) {
            self.done(&done);
        } else if deliver && overdue {
            let delivery = ready!(self.reader.poll_next(cx));
            self.deliver(&delivery);
        } else {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn poll_works(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if self.works.is_empty() {
            return Poll::Pending;
        }
        std::pin::pin!(self.works.next(&self.hub)).poll(cx)
    }

    /// Waits for this connection's place in the farewell: each has another share of the spread.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.leaving {
                Leaving::Stays(cancelled) => {
                    ready!(cancelled.as_mut().poll(cx));
                    let told = tokio::time::sleep_until(self.hub.told_at(self.share));
                    self.leaving = Leaving::Told(Box::pin(told));
                }
                Leaving::Told(at) | Leaving::Over(at) => return at.as_mut().poll(cx),
            }
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
            Delivery::Flash(sub, events) => Input::Flash { sub: *sub, events },
            Delivery::CaughtUp(sub, at) => Input::CaughtUp { sub: *sub, at },
            Delivery::View(watch, value) => Input::View {
                watch: *watch,
                value,
            },
            Delivery::Fetched(sub, verdict) => Input::Fetched {
                sub: *sub,
                verdict: *verdict,
            },
        });
    }

    fn done(&mut self, done: &Done) {
        self.feed(match done {
            Done::Published(tag, result) => Input::Published {
                tag: *tag,
                result: result
                    .as_ref()
                    .map(|appended| *appended)
                    .map_err(|error| error as &(dyn std::error::Error + Send)),
            },
            Done::Committed(tag, result) => Input::Committed {
                tag: *tag,
                result: result.as_ref(),
            },
            Done::Called(tag, result) => Input::Called {
                tag: *tag,
                result: result.as_ref(),
            },
            Done::Flashed => return,
        });
    }

    fn take_leave(&mut self) {
        match self.leaving {
            Leaving::Stays(_) => {}
            Leaving::Told(_) => {
                let over = tokio::time::sleep(self.limits.goodbye);
                self.leaving = Leaving::Over(Box::pin(over));
                self.feed(Input::Draining);
            }
            Leaving::Over(_) => self.close(GOING_AWAY, "the instance is leaving"),
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
        let (mut refusals, mut unwatched) = (Vec::new(), Vec::new());
        for action in actions.drain() {
            if self.end.is_some() {
                break; // nothing follows a close
            }
            match action {
                Action::Send(frame) => self.send(frame),
                Action::SendFirst(frame) => self.send_first(frame),
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
                Action::Watch { watch, view, key } => {
                    let refused = self.reader.watch(watch, view, &key).err();
                    unwatched.extend(refused.map(|refusal| (watch, refusal)));
                }
                Action::Unwatch(watch) => self.reader.unwatch(watch),
                Action::Publish { tag, draft } => {
                    let asked = self.works.publish(&self.hub, tag, draft);
                    self.asked(asked);
                }
                Action::Flash { draft } => self.works.flash(&self.hub, draft),
                Action::Commit { tag, command } => {
                    let asked = self.works.command(&self.hub, tag, command);
                    self.asked(asked);
                }
                Action::Call { tag, call } => {
                    let asked = self.works.call(&self.hub, tag, call);
                    self.asked(asked);
                }
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
        for (watch, refusal) in unwatched {
            self.feed(Input::Unwatched { watch, refusal });
        }
    }

    fn send(&mut self, frame: Frame) {
        self.frame_bytes += frame.len();
        self.frames.push_back(frame);
        if self.frame_bytes > self.limits.unwritten_bytes && self.frames.len() > 1 {
            self.too_slow(Slow::Unwritten);
        }
    }

    /// Not behind what waits; behind others of its kind.
    fn send_first(&mut self, frame: Frame) {
        self.frame_bytes += frame.len();
        self.urgent += 1;
        self.frames.insert(self.urgent - 1, frame);
    }

    /// Ends this connection as one that does not keep up; the session may say so.
    pub(crate) fn too_slow(&mut self, slow: Slow) {
        if self.slow {
            return; // told while it says its last words
        }
        self.slow = true;
        self.hub.too_slow(slow);
        self.feed(Input::TooSlow);
        self.close(TRY_AGAIN_LATER, "too slow");
    }

    fn set_timer(&mut self, timer: TimerId, after: Duration) {
        let at = Instant::now() + after;
        self.timers.retain(|(one, _)| *one != timer);
        self.timers.push((timer, at));
        self.set_alarm();
    }

    fn asked(&mut self, asked: Result<(), Flooded>) {
        if asked.is_err() {
            self.close(TRY_AGAIN_LATER, "too much under way");
        }
    }
}

impl Drop for Conversation {
    /// The session hears that its client is gone; what it then still publishes is published, and
    /// what it commands is done, after what it had asked for before.
    fn drop(&mut self) {
        let mut actions = Actions::default();
        self.session
            .handle(self.hub.now(), Input::Closed, &mut actions);
        let mut commands: Vec<_> = self.works.take_commands().collect();
        let (mut drafts, mut flashes) = (Vec::new(), Vec::new());
        for action in actions.drain() {
            match action {
                Action::Publish { draft, .. } => drafts.push(draft),
                Action::Flash { draft } => flashes.push(draft),
                Action::Commit { command, .. } => commands.push(command),
                _ => {}
            }
        }
        if drafts.is_empty() && flashes.is_empty() && commands.is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let hub = self.hub.clone();
            // The instance does not leave before this is done.
            let counted = hub.connections().token();
            runtime.spawn(async move {
                let _counted = counted;
                hub.publish(drafts).await;
                if let Err(error) = hub.flash(flashes).await {
                    tracing::debug!(%error, "a flash event of a closed connection was not handed out");
                }
                for command in commands {
                    if let Err(error) = hub.command(command).await {
                        tracing::warn!(%error, "a command of a closed connection came to nothing");
                    }
                }
            });
        }
    }
}

fn incarnation_over(hub: &Hub) -> Option<Pin<Box<WaitForCancellationFutureOwned>>> {
    let over = hub.fenced()?;
    Some(Box::pin(over.cancelled_owned()))
}

/// The bytes of a frame as one piece; no copy where there is nothing around the body.
pub(crate) fn joined(frame: Frame) -> Bytes {
    if frame.head.is_empty() && frame.tail.is_empty() {
        return frame.body;
    }
    [frame.head, frame.body, frame.tail].concat().into()
}
