//! One view under one key while somebody holds it: its value, who holds it, and the task that
//! computes it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tidings_core::{Placed, ViewValue};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{View, ViewError};
use crate::hub::Hub;
use crate::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, VIEW_EVERY, VIEW_LINGERS, VIEW_PATIENCE};
use crate::wake::Wake;

/// A live view.
#[derive(Debug)]
pub(crate) struct Live {
    pub(super) name: &'static str,
    pub(super) key: Arc<str>,
    /// Distinguishes it in the window's lists.
    number: u64,
    /// Rung when its value may have changed.
    wake: Arc<Wake>,
    /// Told when nobody holds it any more, or when it is to end.
    left: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    value: Option<ViewValue>,
    /// Counts its values.
    version: u64,
    /// Whom to wake, by the number of the hold.
    holders: HashMap<u64, Arc<Wake>>,
    /// Since when nobody holds it.
    idle: Option<Instant>,
    /// No value comes any more.
    over: bool,
}

/// A hold on a live view.
#[derive(Debug)]
pub(crate) struct Hold {
    live: Arc<Live>,
    number: u64,
    /// The version that was given last.
    seen: u64,
}

impl Hold {
    pub(crate) fn get(&self) -> Option<ViewValue> {
        self.live.state.lock().value.clone()
    }

    /// The value, if it was not given yet.
    pub(crate) fn newer(&mut self) -> Option<ViewValue> {
        let state = self.live.state.lock();
        if state.version == self.seen {
            return None;
        }
        self.seen = state.version;
        state.value.clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.live.state.lock().over
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.live.state.lock();
        state.holders.remove(&self.number);
        if state.holders.is_empty() {
            state.idle = Some(Instant::now());
            self.live.left.notify_one();
        }
    }
}

impl Live {
    pub(super) fn new(name: &'static str, key: Arc<str>, number: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            key,
            number,
            wake: Arc::default(),
            left: Notify::new(),
            state: Mutex::new(State {
                value: None,
                version: 0,
                holders: HashMap::new(),
                idle: None,
                over: false,
            }),
        })
    }

    pub(super) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    pub(super) fn hold(self: &Arc<Self>, number: u64, wake: &Arc<Wake>) -> Hold {
        let mut state = self.state.lock();
        state.holders.insert(number, wake.clone());
        state.idle = None;
        Hold {
            live: self.clone(),
            number,
            seen: 0,
        }
    }

    /// Whether nobody holds it; since when.
    pub(super) fn idle(&self) -> Option<Instant> {
        self.state.lock().idle
    }

    /// No value comes any more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.over = true;
        for wake in state.holders.values() {
            wake.ring();
        }
        self.left.notify_one();
    }

    /// Takes a value; true when it differs from the last one.
    fn set(&self, value: ViewValue) -> bool {
        let mut state = self.state.lock();
        if state.value.as_ref() == Some(&value) {
            return false;
        }
        state.value = Some(value);
        state.version += 1;
        for wake in state.holders.values() {
            wake.ring();
        }
        true
    }
}

/// What keeps a live view up to date.
pub(super) struct Task {
    pub(super) hub: Hub,
    pub(super) view: Arc<dyn View>,
    pub(super) live: Arc<Live>,
    pub(super) topics: Vec<Placed>,
    pub(super) inputs: Vec<Hold>,
}

/// Why the task goes on.
enum Next {
    Compute,
    End,
}

impl Task {
    /// Registers for the topics: from here on no event is missed.
    pub(super) fn register(&self) {
        for placed in &self.topics {
            let Live { number, wake, .. } = &*self.live;
            self.hub.window().register(placed, *number, wake);
        }
    }

    /// Computes until nobody holds the view.
    pub(super) async fn run(self) {
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            // Before looking: what happens meanwhile has it computed again.
            self.live.wake.take();
            let begun = Instant::now();
            let inputs: Option<Vec<ViewValue>> = self.inputs.iter().map(Hold::get).collect();
            let computed = match &inputs {
                Some(inputs) => self.compute(inputs).await,
                None => Ok(()), // the first value of each of them rings
            };
            let retry = match computed {
                Ok(()) => {
                    pause = RETRY_PAUSE_MIN;
                    None
                }
                Err(error) => {
                    let (view, key) = (self.live.name, &self.live.key);
                    tracing::debug!(%error, view, %key, "a view could not be computed; trying again");
                    let waits = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                    pause = Duration::min(pause * 2, RETRY_PAUSE_MAX);
                    Some(Instant::now() + waits)
                }
            };
            if let Next::End = self.next(retry).await {
                return;
            }
            tokio::time::sleep_until(begun + VIEW_EVERY).await;
        }
    }

    /// Waits until it is to be computed again: at the time of a retry, else when it may have changed.
    async fn next(&self, retry: Option<Instant>) -> Next {
        let recheck = self.view.recheck().map(|every| {
            let spread = 0.8 + 0.4 * rand::random::<f64>();
            Instant::now() + every.mul_f64(spread)
        });
        loop {
            if self.live.idle().is_some() && self.hub.views().forget(&self.live) {
                return Next::End;
            }
            let forgotten = self.live.idle().map(|since| since + VIEW_LINGERS);
            let at = retry.or(recheck).into_iter().chain(forgotten).min();
            let rung = std::future::poll_fn(|cx| self.live.wake.poll_rung(cx));
            tokio::select! {
                () = rung, if retry.is_none() => return Next::Compute,
                () = self.live.left.notified() => {}
                () = sleep_until(at) => {
                    if retry.or(recheck).is_some_and(|at| at <= Instant::now()) {
                        return Next::Compute;
                    }
                }
            }
        }
    }

    async fn compute(&self, inputs: &[ViewValue]) -> Result<(), ViewError> {
        let metrics = &self.hub.views().metrics;
        metrics.computation(self.live.name);
        let computing = self.view.compute(&self.hub, &self.live.key, inputs);
        // A view that panics is mended by its author, not by all who wait for it in vain.
        let computing = AssertUnwindSafe(computing).catch_unwind();
        let computed = match tokio::time::timeout(VIEW_PATIENCE, computing).await {
            Ok(Ok(computed)) => computed,
            Ok(Err(_)) => Err(ViewError::Failed("the computation panicked".into())),
            Err(_) => Err(ViewError::Failed(format!(
                "not computed within {VIEW_PATIENCE:?}"
            ))),
        };
        match computed {
            Ok(value) => {
                if self.live.set(value) {
                    metrics.change(self.live.name);
                }
                Ok(())
            }
            Err(error) => {
                metrics.failure(self.live.name);
                Err(error)
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        for placed in &self.topics {
            self.hub.window().unregister(placed, self.live.number);
        }
        // Whoever still holds it when the hub ends waits for nothing.
        self.live.end();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
