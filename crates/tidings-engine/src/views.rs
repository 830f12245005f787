//! Views: values derived from records, computed once per change and instance however many look.
//!
//! A view says under which topics its records change; an event there (a commit brings it in the same
//! step) has it computed anew, at once and then at most every [`VIEW_EVERY`]. Whoever holds it is
//! told when the value differs. A view may stand on others, and is given their values: a chat's
//! place in the queue looks into the queue's value instead of listing it again.
//!
//! In reading order: [`View`] is what an adapter writes; [`Viewing`] is a hold on one; [`live`] is the
//! task that computes it; [`registry`] finds or begins that, within a bound; [`metrics`] counts.

pub(crate) mod live;
pub(crate) mod metrics;
pub(crate) mod registry;

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidings_core::{BoxFuture, LogError, Topic, ViewRefusal, ViewValue};

use crate::hub::Hub;
use crate::limits::VIEW_RECHECK;
use crate::wake::Wake;
use live::Hold;

#[cfg(doc)]
use crate::limits::{VIEW_EVERY, VIEW_LINGERS, VIEWS_MAX};

/// A view: a name, and how its value is computed for a key.
pub trait View: Send + Sync + 'static {
    /// Its name, e.g. `burokratt.queue`: in [`Hub::view`], in sessions' watches and in metrics.
    fn name(&self) -> &'static str;

    /// What says that the value under this key may have changed. Pure.
    fn depends(&self, key: &str) -> Depends;

    /// The value under this key as it is now. `inputs` are the values of the views that it depends on,
    /// in their order. It may be given up at any moment, and is asked again.
    fn compute<'a>(
        &'a self,
        hub: &'a Hub,
        key: &'a str,
        inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>>;

    /// How often it is computed though nothing was heard, give or take a fifth: what changes by
    /// itself (a lifetime that ends, a time that passes) makes no event. `None`: never.
    fn recheck(&self) -> Option<Duration> {
        Some(VIEW_RECHECK)
    }
}

/// What a view depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depends {
    /// Their events, retained or flash, say that the value may have changed.
    pub topics: Vec<Topic>,
    /// So do new values of these views: name and key.
    pub views: Vec<(&'static str, Arc<str>)>,
}

impl Depends {
    /// On a topic's events.
    #[must_use]
    pub fn on(topic: Topic) -> Self {
        Self::default().and_on(topic)
    }

    /// On a view's value.
    #[must_use]
    pub fn on_view(name: &'static str, key: impl Into<Arc<str>>) -> Self {
        Self::default().and_view(name, key)
    }

    /// And on a topic's events.
    #[must_use]
    pub fn and_on(mut self, topic: Topic) -> Self {
        self.topics.push(topic);
        self
    }

    /// And on a view's value.
    #[must_use]
    pub fn and_view(mut self, name: &'static str, key: impl Into<Arc<str>>) -> Self {
        self.views.push((name, key.into()));
        self
    }
}

/// Why a view has no new value. It is tried again, and until then the last one stays.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The log could not be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Something else stands against it.
    #[error("{0}")]
    Failed(String),
}

/// A hold on a view. As long as there is one, the view is kept as it is; without any it is dropped
/// after [`VIEW_LINGERS`].
#[derive(Debug)]
pub struct Viewing {
    hold: Hold,
    wake: Arc<Wake>,
}

impl Hub {
    /// Holds a view. All who hold it under one key share its computations.
    ///
    /// # Errors
    /// [`ViewRefusal`] when there is no such view, or as many as there may be ([`VIEWS_MAX`]).
    pub fn view(&self, name: &str, key: &str) -> Result<Viewing, ViewRefusal> {
        let wake = Arc::default();
        let hold = self.hold(name, key, &wake)?;
        Ok(Viewing { hold, wake })
    }
}

impl Viewing {
    /// What it is now, if it has been computed.
    #[must_use]
    pub fn get(&self) -> Option<ViewValue> {
        self.hold.get()
    }

    /// What it is now; waits for the first computation, as long as that takes. `None` when the hub
    /// has ended. Cancel-safe.
    pub async fn value(&mut self) -> Option<ViewValue> {
        match self.hold.get() {
            Some(value) => Some(value),
            None => self.changed().await,
        }
    }

    /// The newest value that this hold was not given yet: the present one at first, then each that
    /// differs, but for those that were followed by another meanwhile. `None` when the hub has ended.
    /// Cancel-safe.
    pub async fn changed(&mut self) -> Option<ViewValue> {
        std::future::poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// [`Viewing::changed`] for whoever polls several things.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Option<ViewValue>> {
        loop {
            self.wake.take();
            if let Some(value) = self.hold.newer() {
                return Poll::Ready(Some(value));
            }
            if self.hold.is_over() {
                return Poll::Ready(None);
            }
            ready!(self.wake.poll_rung(cx));
        }
    }
}
