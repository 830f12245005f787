//! A value's stream: all of it at once, and again when its JSON has changed (1.3).
//!
//! The value is a view's, computed once per change and instance; here is only what stands around
//! it. There is no id: who comes back gets the value as it is then. A client that cannot take what
//! it is sent gets the newest value only.

use std::sync::Arc;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{
    Actions, Frame, FrameKind, Input, Now, Session, TimerId, ViewValue, WatchId,
};

use super::pace::{Guard, Pace};
use super::print::Around;

const VALUE: WatchId = WatchId(0);
const HEARTBEAT: TimerId = TimerId(0);
const RECHECK: TimerId = TimerId(1);

/// How one value is streamed.
#[derive(Debug)]
pub(crate) struct StateStream {
    pub(crate) view: &'static str,
    pub(crate) key: Arc<str>,
    pub(crate) around: Around,
    pub(crate) pace: Pace,
    pub(crate) guard: Option<Guard>,
    /// The JSON that was sent last.
    pub(crate) sent: Option<Bytes>,
}

impl Session for StateStream {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => {
                self.pace.begin(actions);
                actions.set_timer(HEARTBEAT, self.pace.heartbeat);
                if let Some(guard) = &self.guard {
                    guard.begin(self.pace.share, RECHECK, actions);
                }
                actions.watch(VALUE, self.view, self.key.clone());
            }
            Input::View { value, .. } => self.tell(value, actions),
            // As many are watched here as may be: elsewhere, or later, there is room.
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

impl StateStream {
    fn tell(&mut self, value: &ViewValue, actions: &mut Actions) {
        let json = value.printed();
        if self.sent.as_ref() == Some(json) {
            return;
        }
        self.sent = Some(json.clone());
        let (open, close) = self.around;
        actions.send(Frame {
            kind: FrameKind::Text,
            head: Bytes::from_static(open.as_bytes()),
            body: json.clone(),
            tail: Bytes::from_static(close.as_bytes()),
        });
    }
}
