//! What every stream does besides its own: the head, heartbeats, and asking whether the client's
//! session still stands.

use std::fmt;
use std::time::Duration;

use tidings_adapter::{Action, Actions, Call, CallAnswer, CallError, TimerId};

use super::print::{HEARTBEAT, SESSION_EXPIRED, retry};
use crate::auth::Standing;

/// Nothing between here and the browser may keep or change a stream (4.1); what tells nginx not to
/// hold events back is the driver's.
pub(crate) const CACHE_CONTROL: &str = "no-cache, no-store, no-transform";

/// How a stream keeps time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// What clients are told to wait before they come back, before the jitter.
    pub(crate) retry: Duration,
    /// A random number in `0..1` of this connection's own.
    pub(crate) share: f64,
    pub(crate) heartbeat: Duration,
    pub(crate) ended_grace: Duration,
}

impl Pace {
    /// The answer's head and the first frame.
    pub(crate) fn begin(&self, actions: &mut Actions) {
        actions.push(Action::Respond {
            status: 200,
            headers: vec![("cache-control", CACHE_CONTROL.to_owned())],
        });
        let ms = u64::try_from(self.retry.as_millis()).unwrap_or(u64::MAX);
        actions.send_text(retry(ms, self.share));
    }

    /// A sign of life; and sets the timer for the next one.
    pub(crate) fn beat(&self, timer: TimerId, actions: &mut Actions) {
        actions.send_text(HEARTBEAT);
        actions.set_timer(timer, self.heartbeat);
    }
}

/// Asks again and again whether the client's session stands (1.7).
pub(crate) struct Guard {
    pub(crate) question: Call,
    pub(crate) judge: Judge,
    pub(crate) every: Duration,
}

/// What an answer means.
pub(crate) type Judge = Box<dyn Fn(Result<&CallAnswer, &CallError>) -> Standing + Send + Sync>;

impl fmt::Debug for Guard {
    /// Cookies stand in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// The first question comes earlier by this connection's share: streams that came at once do
    /// not ask at once.
    pub(crate) fn begin(&self, share: f64, timer: TimerId, actions: &mut Actions) {
        let first = self.every.mul_f64(0.5 + 0.5 * share.clamp(0.0, 1.0));
        actions.set_timer(timer, first);
    }

    pub(crate) fn ask(&self, actions: &mut Actions) {
        actions.push(Action::Call {
            tag: 0,
            call: self.question.clone(),
        });
    }

    /// An answer has come: the session is over, or it is asked again later.
    pub(crate) fn told(
        &self,
        answer: Result<&CallAnswer, &CallError>,
        timer: TimerId,
        actions: &mut Actions,
    ) {
        match (self.judge)(answer) {
            Standing::Good | Standing::Unknown => actions.set_timer(timer, self.every),
            Standing::Over => {
                actions.send_text(SESSION_EXPIRED);
                actions.close(1008, "the session is over");
            }
        }
    }
}
