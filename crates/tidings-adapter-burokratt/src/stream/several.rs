//! One stream for all that a page needs (1.6): several channels with one compound cursor, and values
//! beside them. A browser has six connections to an origin, and three streams for each tab are soon
//! more.
//!
//! Events are named: `message` and `chat-list` are entries with an id; `queue`, `active-chats` and
//! `health` are values without one. The id stands for all channels at once; each is resumed exactly
//! where the client was in it. A place that is lost is told for each channel by itself, before what
//! is retained of it. A loss under a client that is there ends the stream: it comes back with its
//! places, and is told then.

use std::sync::Arc;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Action, Actions, At, Batch, Event, EventId, Frame, FrameKind, From, Input, Now, Refusal,
    Session, Start, SubId, TimerId, Topic, Variant, Verdict, ViewValue, WatchId,
};

use super::pace::{Guard, Pace};
use super::print::{Around, Gap, Reason, ready};
use crate::keys::{Channel, kind};

/// The entries of all channels.
const MAIN: SubId = SubId(0);
/// The look at the newest places.
const NEWEST: SubId = SubId(1);

const HEARTBEAT: TimerId = TimerId(0);
const RECHECK: TimerId = TimerId(1);

/// How several channels and values are streamed.
#[derive(Debug)]
pub(crate) struct Several {
    /// None, where only values are wanted.
    pub(crate) topics: Vec<Topic>,
    pub(crate) entries: Entries,
    /// As the client sent it.
    pub(crate) came: Option<String>,
    pub(crate) values: Vec<Value>,
    pub(crate) pace: Pace,
    pub(crate) guard: Option<Guard>,
    pub(crate) progress: Progress,
}

/// What entries are printed with, behind their id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries {
    pub(crate) message: Variant,
    pub(crate) chat_list: Variant,
}

/// A value beside the channels.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) view: &'static str,
    pub(crate) key: Arc<str>,
    /// What opens its frame, up to its JSON, of which the first bytes may be replaced by it.
    pub(crate) open: Bytes,
    pub(crate) replaced: usize,
    pub(crate) close: &'static str,
    /// The JSON that was sent last.
    pub(crate) sent: Option<Bytes>,
}

/// How far a stream has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether the client's cursor is none, or of other channels: not told yet.
    invalid: bool,
    /// Channels whose places are lost, not told yet.
    lost: Vec<(Topic, Reason)>,
    /// The newest places when a loss was found out.
    newest: Option<At>,
    ready: bool,
    resumed: bool,
    replayed: u64,
}

impl Session for Several {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => self.open(actions),
            Input::Subscribed { sub: NEWEST, at } => {
                self.progress.newest = Some(at.clone());
                actions.push(Action::Unsubscribe(NEWEST));
                self.subscribe(actions);
            }
            Input::Refused {
                sub: MAIN,
                refusal: Refusal::Cursor(_),
            } => {
                self.progress.invalid = true;
                self.look(actions);
            }
            Input::Refused { .. } => actions.close(1013, "too much for one stream"),
            Input::Verdict {
                sub: MAIN,
                topic,
                verdict,
            } => self.judged(topic, verdict, actions),
            Input::Events { sub: MAIN, batch } => self.tell(batch, actions),
            Input::CaughtUp { sub: MAIN, at } => self.level(at, actions),
            Input::View { watch, value } => self.value(watch, value, actions),
            Input::Unwatched { .. } => actions.close(1013, "come back"),
            Input::Timer(HEARTBEAT) => self.pace.beat(HEARTBEAT, actions),
            Input::Timer(RECHECK) => self.guard.iter().for_each(|guard| guard.ask(actions)),
            Input::Called { result, .. } => {
                if let Some(guard) = &self.guard {
                    guard.told(result, RECHECK, actions);
                }
            }
            Input::Draining => actions.close(1001, "come back"),
            _ => {}
        }
    }
}

impl Several {
    fn open(&mut self, actions: &mut Actions) {
        self.pace.begin(actions);
        actions.set_timer(HEARTBEAT, self.pace.heartbeat);
        if let Some(guard) = &self.guard {
            guard.begin(self.pace.share, RECHECK, actions);
        }
        // The index fits: there are fewer than channels of one stream.
        for (index, value) in self.values.iter().enumerate() {
            actions.watch(WatchId(index as u32), value.view, value.key.clone());
        }
        if self.topics.is_empty() {
            self.progress.ready = true;
            actions.send_text(ready(None, false, 0));
        } else {
            self.progress.resumed = self.came.is_some();
            self.subscribe(actions);
        }
    }

    fn subscribe(&self, actions: &mut Actions) {
        let from = match &self.came {
            _ if self.progress.invalid => Start::From(From::Oldest),
            Some(cursor) => Start::Cursor(cursor.clone()),
            None => Start::From(From::Newest),
        };
        actions.push(Action::Subscribe {
            sub: MAIN,
            topics: self.topics.clone(),
            from,
        });
    }

    /// Looks at the newest places, and then subscribes anew.
    fn look(&mut self, actions: &mut Actions) {
        self.progress.resumed = false;
        actions.push(Action::Unsubscribe(MAIN));
        actions.push(Action::Subscribe {
            sub: NEWEST,
            topics: self.topics.clone(),
            from: Start::From(From::Newest),
        });
    }

    fn judged(&mut self, topic: &Topic, verdict: Verdict, actions: &mut Actions) {
        let reason = match verdict {
            Verdict::Ok => return,
            Verdict::Expired => Reason::Expired,
            Verdict::Ahead | Verdict::Diverged => Reason::Unknown,
        };
        if self.progress.ready {
            return actions.close(1001, "come back");
        }
        if self.progress.newest.is_none() {
            return self.look(actions); // and then it is judged again
        }
        self.progress.resumed = false;
        self.progress.lost.push((topic.clone(), reason));
    }

    fn tell(&mut self, batch: &Batch, actions: &mut Actions) {
        for (printed, cursor) in batch.with_cursors() {
            let event = printed.event();
            self.tell_loss(event, actions);
            let Some(variant) = self.entries.of(event) else {
                continue;
            };
            if !self.progress.ready {
                self.progress.replayed += 1;
            }
            let mut frame = Frame::text(printed.printed(variant));
            frame.head = format!("id: {cursor}\n").into();
            actions.send(frame);
        }
    }

    /// What is to be said before this event.
    fn tell_loss(&mut self, event: &Event, actions: &mut Actions) {
        if self.progress.invalid {
            self.gap(Reason::Invalid, None, Some(event.id), actions);
            self.progress.invalid = false;
        }
        let mut lost = self.progress.lost.iter();
        if let Some(index) = lost.position(|(topic, _)| *topic == event.topic) {
            let (topic, reason) = self.progress.lost.remove(index);
            self.gap(reason, Some(&topic), Some(event.id), actions);
        }
    }

    fn gap(
        &self,
        reason: Reason,
        topic: Option<&Topic>,
        oldest: Option<EventId>,
        actions: &mut Actions,
    ) {
        let newest = self.progress.newest.as_ref();
        let newest = newest.and_then(|at| match topic {
            Some(topic) => {
                let position = at.set.position(topic)?;
                at.cursor.places().get(position).map(EventId::to_string)
            }
            None => Some(at.print()),
        });
        let (oldest, channel) = (
            oldest.map(|id| id.to_string()),
            topic.and_then(Channel::of_topic),
        );
        let gap = Gap {
            reason,
            last_event_id: self.came.as_deref(),
            oldest: oldest.as_deref(),
            newest: &newest.unwrap_or_else(|| EventId::ORIGIN.to_string()),
            channel: channel.as_ref().map(Channel::as_str),
        };
        actions.send_text(gap.print());
    }

    fn level(&mut self, at: &At, actions: &mut Actions) {
        if std::mem::take(&mut self.progress.invalid) {
            self.gap(Reason::Invalid, None, None, actions);
        }
        for (topic, reason) in std::mem::take(&mut self.progress.lost) {
            self.gap(reason, Some(&topic), None, actions);
        }
        if std::mem::replace(&mut self.progress.ready, true) {
            return;
        }
        let Progress {
            resumed, replayed, ..
        } = self.progress;
        actions.send_text(ready(Some(&at.print()), resumed, replayed));
        self.progress.newest = None;
    }

    fn value(&mut self, watch: WatchId, value: &ViewValue, actions: &mut Actions) {
        let index = usize::try_from(watch.0).unwrap_or(usize::MAX);
        let Some(kept) = self.values.get_mut(index) else {
            return;
        };
        let json = value.printed();
        if kept.sent.as_ref() == Some(json) || json.len() < kept.replaced {
            return;
        }
        kept.sent = Some(json.clone());
        actions.send(Frame {
            kind: FrameKind::Text,
            head: kept.open.clone(),
            body: json.slice(kept.replaced..),
            tail: Bytes::from_static(kept.close.as_bytes()),
        });
    }
}

impl Entries {
    fn of(&self, event: &Event) -> Option<Variant> {
        let list = Channel::of_topic(&event.topic).is_some_and(|channel| channel.is_chat_list());
        match (&*event.kind, list) {
            (kind::MESSAGE, false) => Some(self.message),
            // Whoever notifies a channel of its own is heard on that channel's own stream.
            (kind::NUDGE | kind::RAW, true) => Some(self.chat_list),
            _ => None,
        }
    }
}

impl Value {
    /// `event: <name>`, and the value as it is.
    pub(crate) fn named(name: &str, view: &'static str, key: &str, around: Around) -> Self {
        let (open, close) = around;
        Self {
            view,
            key: key.into(),
            open: format!("event: {name}\n{open}").into(),
            replaced: 0,
            close,
            sent: None,
        }
    }

    /// `event: queue`, and which chat's: `{"chatId":"…","order":n}`.
    pub(crate) fn order(chat: &Channel, view: &'static str, around: Around) -> Self {
        let (open, close) = around;
        // Text of JSON as it is: a channel's characters need no escape.
        let open = format!("event: queue\n{open}{{\"chatId\":\"{chat}\",");
        Self {
            view,
            key: chat.as_str().into(),
            open: open.into(),
            // The brace of `{"order":n}`.
            replaced: 1,
            close,
            sent: None,
        }
    }
}
