//! A session: one client's conversation as a pure state machine.
//!
//! `handle(now, input)` answers with actions; a driver in `tidings-adapter` performs them. A
//! session does no I/O and has no clock, so its tests are transcripts. It may hold several
//! subscriptions, also on one topic, each with its own place. Ignoring an input is always allowed.
//!
//! Both enums are open: more may join them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cursor::At;
use crate::decide::{CommandError, Decided};
use crate::draft::Draft;
use crate::event::Event;
use crate::id::EventId;
use crate::log::{Appended, From};
use crate::record::{Call, CallAnswer, CallError, Command};
use crate::topic::Topic;
use crate::verdict::Verdict;
use crate::view::ViewValue;

/// A conversation with one client.
pub trait Session: Send {
    /// Takes one input and says what to do. The driver performs the actions in order.
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions);
}

/// The time, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the instance started; never goes back.
    pub uptime: Duration,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// A subscription's name, chosen by the session as one chooses a file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubId(pub u32);

/// A timer's name, chosen by the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub u32);

/// A watched view's name, chosen by the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u32);

/// What a session is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// The connection stands.
    Opened,
    /// The client sent something (websocket only).
    Frame(Received<'a>),
    /// A subscription stands, at this cursor.
    Subscribed {
        /// Which.
        sub: SubId,
        /// Where.
        at: &'a At,
    },
    /// A subscription does not stand.
    Refused {
        /// Which.
        sub: SubId,
        /// Why.
        refusal: Refusal,
    },
    /// The verdict on a subscription's cursor is not `ok`. Unless it is unsubscribed, it goes on
    /// with all that is retained.
    Verdict {
        /// Which.
        sub: SubId,
        /// The topic whose place is lost.
        topic: &'a Topic,
        /// Never `ok`.
        verdict: Verdict,
    },
    /// Events in order.
    Events {
        /// Which subscription or fetch.
        sub: SubId,
        /// At least one.
        batch: &'a Batch,
    },
    /// Flash events of a subscription that is level. They have no place: the cursor stays.
    Flash {
        /// Which subscription.
        sub: SubId,
        /// At least one.
        events: &'a [Arc<dyn Printed>],
    },
    /// Nothing newer at the moment; told once each time a subscription becomes level.
    CaughtUp {
        /// Which.
        sub: SubId,
        /// Where.
        at: &'a At,
    },
    /// A fetched range is at its end.
    Fetched {
        /// Which fetch.
        sub: SubId,
        /// The verdict on where it started; not `ok` means nothing was delivered.
        verdict: Verdict,
    },
    /// What became of a publish.
    Published {
        /// The session's own name for it.
        tag: u32,
        /// The result.
        result: Result<Appended, &'a (dyn std::error::Error + Send)>,
    },
    /// What became of a command to records.
    Committed {
        /// The session's own name for it.
        tag: u32,
        /// The decision's answer, or why there is none.
        result: Result<&'a Decided, &'a CommandError>,
    },
    /// What a server outside answered.
    Called {
        /// The session's own name for the call.
        tag: u32,
        /// The answer, or why there is none.
        result: Result<&'a CallAnswer, &'a CallError>,
    },
    /// A timer went off.
    Timer(TimerId),
    /// What a watched view is: first as it is when it is watched, then after each change. Values do
    /// not queue up: a client that was busy is given the newest when it takes anything again.
    View {
        /// Which watch.
        watch: WatchId,
        /// Shared by all who watch it.
        value: &'a ViewValue,
    },
    /// A view is not watched.
    Unwatched {
        /// Which watch.
        watch: WatchId,
        /// Why.
        refusal: ViewRefusal,
    },
    /// The instance's incarnation is over: what it owned is, or will be, handled as lost, and it has a
    /// new one from now on. A session that owns records closes, or writes them anew.
    Fenced,
    /// The client does not take what it is sent, and is closed after what the session sends now,
    /// if it takes that.
    TooSlow,
    /// The instance is leaving: say goodbye and close.
    Draining,
    /// The client is gone. No action but publishing, flash events and commands is performed any
    /// more.
    Closed,
}

/// Events of one subscription, in the order in which they are delivered, and the cursor after each.
#[derive(Debug, Clone)]
pub struct Batch {
    /// At least one.
    pub events: Vec<Arc<dyn Printed>>,
    /// The cursor before the first.
    pub before: At,
}

impl Batch {
    /// Each event with the cursor after it, printed.
    pub fn with_cursors(&self) -> impl Iterator<Item = (&Arc<dyn Printed>, String)> {
        let mut at = self.before.clone();
        self.events.iter().map(move |printed| {
            let event = printed.event();
            if let Some(position) = at.set.position(&event.topic) {
                at.pass(position, event.id);
            }
            (printed, at.print())
        })
    }

    /// The cursor after the last event.
    #[must_use]
    pub fn after(&self) -> At {
        let mut at = self.before.clone();
        for printed in &self.events {
            let event = printed.event();
            if let Some(position) = at.set.position(&event.topic) {
                at.pass(position, event.id);
            }
        }
        at
    }
}

/// What a client sent.
#[derive(Debug, Clone, Copy)]
pub enum Received<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// The answer to a ping.
    Pong(&'a [u8]),
}

/// What a session asks for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Send to the client.
    Send(Frame),
    /// Send before whatever waits to be written: a heartbeat that must not queue up behind a
    /// replay.
    SendFirst(Frame),
    /// Subscribe to topics.
    Subscribe {
        /// The session's name for it.
        sub: SubId,
        /// Which topics.
        topics: Vec<Topic>,
        /// From where.
        from: Start,
    },
    /// End a subscription or a fetch; nothing of it is delivered any more.
    Unsubscribe(SubId),
    /// Read a range of one topic once: `(from, until]`, without going on live.
    Fetch {
        /// The session's name for it.
        sub: SubId,
        /// Which topic.
        topic: Topic,
        /// From where.
        from: From,
        /// Up to and including; the topic's present end when `None`.
        until: Option<EventId>,
    },
    /// Watch a view: [`Input::View`] comes with its present value, and with each new one. A watch of
    /// the same name is replaced.
    Watch {
        /// The session's name for it.
        watch: WatchId,
        /// Which view, by the name that its adapter gave it.
        view: &'static str,
        /// Of what, in the view's own form, e.g. a chat's id.
        key: Arc<str>,
    },
    /// End a watch; nothing of it is delivered any more.
    Unwatch(WatchId),
    /// Publish; answered by [`Input::Published`] with the same tag.
    Publish {
        /// The session's own name for it.
        tag: u32,
        /// What.
        draft: Draft,
    },
    /// Hand out a flash event: at most once, without an answer, and not at all while too much of
    /// this session is under way.
    Flash {
        /// What.
        draft: Draft,
    },
    /// Ask records to change; answered by [`Input::Committed`] with the same tag. Commands of one
    /// session are performed one after the other, in the order in which they were asked for.
    Commit {
        /// The session's own name for it.
        tag: u32,
        /// What is asked.
        command: Command,
    },
    /// Call a server outside; answered by [`Input::Called`] with the same tag.
    Call {
        /// The session's own name for it.
        tag: u32,
        /// The request.
        call: Call,
    },
    /// Set a timer, or set it anew.
    SetTimer {
        /// Which.
        timer: TimerId,
        /// From now.
        after: Duration,
    },
    /// Forget a timer.
    ClearTimer(TimerId),
    /// The HTTP answer's status and headers, when they are not the driver's own; before the first
    /// send, and of no effect on an open websocket.
    Respond {
        /// The HTTP status.
        status: u16,
        /// More headers. Names are static: no header name ever comes from a client.
        headers: Vec<(&'static str, String)>,
    },
    /// Refuse the connection; before the first send it becomes the HTTP status.
    Refuse(Refused),
    /// Close the connection after what was sent.
    Close(Close),
}

/// Where a subscription starts: a place, or a cursor as the client gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A place that is the same for all topics.
    From(From),
    /// A client's cursor over exactly these topics.
    Cursor(String),
}

/// One message to the client: a shared body with a short head and tail of this connection's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How it travels.
    pub kind: FrameKind,
    /// Before the body.
    pub head: Bytes,
    /// The body; printed once per event and protocol variant, and shared.
    pub body: Bytes,
    /// After the body.
    pub tail: Bytes,
}

/// How a frame travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A websocket text message, or a chunk of an event stream or body. Must be UTF-8.
    Text,
    /// A websocket binary message.
    Binary,
    /// A websocket ping.
    Ping,
}

impl Frame {
    /// A text frame with nothing around it.
    #[must_use]
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self {
            kind: FrameKind::Text,
            head: Bytes::new(),
            body: body.into(),
            tail: Bytes::new(),
        }
    }

    /// A websocket ping.
    #[must_use]
    pub fn ping(body: impl Into<Bytes>) -> Self {
        Self {
            kind: FrameKind::Ping,
            ..Self::text(body)
        }
    }

    /// All bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len() + self.tail.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a subscription does not stand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The cursor is not one, or not one over these topics.
    Cursor(crate::cursor::CursorError),
    /// Too many topics, or none.
    Topics(crate::cursor::TopicSetError),
    /// The connection has as many subscriptions as it may have.
    TooMany,
}

/// Why a view is not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewRefusal {
    /// No view of this name is hosted here, or it stands on too many others.
    #[error("there is no such view")]
    Unknown,
    /// The connection watches as much as it may, or the instance has as many views as it may have.
    #[error("too many views are watched")]
    TooMany,
}

/// Why and with what a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type` of the body.
    pub content_type: Cow<'static, str>,
    /// The body in the dialect's own form.
    pub body: Bytes,
}

/// How a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The websocket close code (RFC 6455 §7.4); other transports just end.
    pub code: u16,
    /// The reason, at most 123 bytes.
    pub reason: Cow<'static, str>,
}

/// An event as a connection sees it: the event, and its printed bodies, made once and shared.
pub trait Printed: fmt::Debug + Send + Sync {
    /// The event.
    fn event(&self) -> &Event;

    /// The body for one protocol variant: printed on the first call, shared afterwards.
    fn printed(&self, variant: Variant) -> Bytes;
}

/// One way to print events, of a closed set: an adapter makes its variants at start.
#[derive(Clone, Copy)]
pub struct Variant {
    /// Distinguishes variants; never client text.
    pub name: &'static str,
    /// Prints the body.
    pub print: fn(&Event) -> Bytes,
}

impl fmt::Debug for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Variant").field(&self.name).finish()
    }
}

/// The actions of one or several inputs; the driver reuses it.
#[derive(Debug, Default)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// Asks for one more action.
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: Frame) {
        self.push(Action::Send(frame));
    }

    /// Sends a text.
    pub fn send_text(&mut self, body: impl Into<Bytes>) {
        self.send(Frame::text(body));
    }

    /// Sends a text before whatever waits to be written.
    pub fn send_first(&mut self, body: impl Into<Bytes>) {
        self.push(Action::SendFirst(Frame::text(body)));
    }

    /// Subscribes to one topic.
    pub fn subscribe(&mut self, sub: SubId, topic: Topic, from: From) {
        self.push(Action::Subscribe {
            sub,
            topics: vec![topic],
            from: Start::From(from),
        });
    }

    /// Watches a view.
    pub fn watch(&mut self, watch: WatchId, view: &'static str, key: impl Into<Arc<str>>) {
        let key = key.into();
        self.push(Action::Watch { watch, view, key });
    }

    /// Closes with a code and a reason.
    pub fn close(&mut self, code: u16, reason: impl Into<Cow<'static, str>>) {
        self.push(Action::Close(Close {
            code,
            reason: reason.into(),
        }));
    }

    /// Sets a timer.
    pub fn set_timer(&mut self, timer: TimerId, after: Duration) {
        self.push(Action::SetTimer { timer, after });
    }

    /// Takes the actions out and keeps the room for the next ones.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> {
        self.0.drain(..)
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
