//! A connection's subscriptions: what its driver waits on.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidings_core::{
    At, Batch, BoxFuture, Cursor, EventId, From, PageLimit, Printed, Refusal, Start, SubId, Topic,
    TopicSet, Verdict, ViewRefusal, ViewValue, WatchId,
};

use crate::hub::Hub;
use crate::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::subscription::{Answer, Ask, Mode, Question, Step, Subscription};
use crate::views::live::Hold;
use crate::wake::Wake;

/// All subscriptions, fetches and watches of one connection.
pub struct Reader {
    hub: Hub,
    /// Distinguishes this connection in the window's lists.
    number: u64,
    wake: Arc<Wake>,
    subscriptions: Vec<Subscription>,
    /// The subscription that is looked at first: they take turns.
    turn: usize,
    /// At most one question to the log at a time: a connection is one reader.
    asking: Option<Asking>,
    watches: Vec<(WatchId, Hold)>,
    /// Whether any of them may have something new.
    views_rung: bool,
}

struct Asking {
    sub: SubId,
    ask: Ask,
    answer: BoxFuture<'static, Option<Answer>>,
}

/// What a connection is given.
#[derive(Debug)]
pub enum Delivery {
    /// A subscription stands here.
    Subscribed(SubId, At),
    /// The verdict on a topic's place is not `ok`; unless it is unsubscribed, the subscription goes
    /// on with all that is retained.
    Verdict(SubId, Topic, Verdict),
    /// Events.
    Events(SubId, Batch),
    /// Flash events of a subscription that is level.
    Flash(SubId, Vec<Arc<dyn Printed>>),
    /// Nothing newer at the moment.
    CaughtUp(SubId, At),
    /// What a watched view is now.
    View(WatchId, ViewValue),
    /// A fetch is at its end; a verdict other than `ok` means that it brought nothing.
    Fetched(SubId, Verdict),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("number", &self.number)
            .field("subscriptions", &self.subscriptions.len())
            .field("watches", &self.watches.len())
            .finish()
    }
}

impl Reader {
    pub(crate) fn new(hub: Hub, number: u64) -> Self {
        hub.name().readers().inc();
        Self {
            hub,
            number,
            wake: Arc::default(),
            subscriptions: Vec::new(),
            turn: 0,
            asking: None,
            watches: Vec::new(),
            views_rung: false,
        }
    }

    /// Subscribes to topics from a place or from a client's cursor. A subscription of the same
    /// name is replaced.
    ///
    /// # Errors
    /// [`Refusal`] when the cursor is not one over these topics, or a bound is reached.
    pub fn subscribe(
        &mut self,
        sub: SubId,
        topics: Vec<Topic>,
        start: &Start,
    ) -> Result<(), Refusal> {
        let set = self.hub.topic_set(topics).map_err(Refusal::Topics)?;
        match start {
            Start::From(from) => self.add(sub, set, |_| *from, Mode::Live),
            Start::Cursor(text) => {
                let cursor = Cursor::parse(&set, text).map_err(Refusal::Cursor)?;
                self.add(
                    sub,
                    set,
                    |position| From::After(cursor.places()[position]),
                    Mode::Live,
                )
            }
        }
    }

    /// Reads one topic once, up to and including `until`, or to its present end.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub fn fetch(
        &mut self,
        sub: SubId,
        topic: Topic,
        from: From,
        until: Option<EventId>,
    ) -> Result<(), Refusal> {
        let set = TopicSet::one(self.hub.placed(topic));
        self.add(sub, set, |_| from, Mode::Fetch(until))
    }

    fn add(
        &mut self,
        sub: SubId,
        set: TopicSet,
        start: impl Fn(usize) -> From,
        mode: Mode,
    ) -> Result<(), Refusal> {
        self.unsubscribe(sub);
        if self.is_full() {
            return Err(Refusal::TooMany);
        }
        let mut subscription = Subscription::new(sub, set, start, mode);
        for placed in subscription.topics() {
            self.hub.window().register(placed, self.number, &self.wake);
        }
        subscription.begin(self.hub.window());
        self.subscriptions.push(subscription);
        self.wake.ring();
        Ok(())
    }

    /// Watches and subscriptions have one bound: each is looked at when the connection is woken.
    fn is_full(&self) -> bool {
        let most = self.hub.limits().subscriptions_per_connection;
        self.subscriptions.len() + self.watches.len() >= most
    }

    /// Watches a view: its present value comes first, then each new one; never more than one waits.
    /// A watch of the same name is replaced.
    ///
    /// # Errors
    /// [`ViewRefusal`].
    pub fn watch(&mut self, watch: WatchId, view: &str, key: &str) -> Result<(), ViewRefusal> {
        self.unwatch(watch);
        if self.is_full() {
            return Err(ViewRefusal::TooMany);
        }
        let hold = self.hub.hold(view, key, &self.wake)?;
        self.watches.push((watch, hold));
        self.views_rung = true;
        self.wake.ring();
        Ok(())
    }

    /// Ends a watch. Nothing of it is delivered any more.
    pub fn unwatch(&mut self, watch: WatchId) {
        self.watches.retain(|(one, _)| *one != watch);
    }

    /// The next new value of a watched view.
    fn look_at_views(&mut self) -> Option<Delivery> {
        if !self.views_rung {
            return None;
        }
        let mut watches = self.watches.iter_mut();
        let new = watches.find_map(|(watch, hold)| Some(Delivery::View(*watch, hold.newer()?)));
        self.views_rung = new.is_some();
        new
    }

    /// Ends a subscription or a fetch. Nothing of it is delivered any more.
    pub fn unsubscribe(&mut self, sub: SubId) {
        let Some(index) = self.subscriptions.iter().position(|one| one.id == sub) else {
            return;
        };
        let gone = self.subscriptions.remove(index);
        if self.asking.as_ref().is_some_and(|asking| asking.sub == sub) {
            self.asking = None;
        }
        self.leave(&gone);
    }

    /// Takes a subscription out of the window's lists, but for topics that another one still has.
    fn leave(&self, gone: &Subscription) {
        for placed in gone.topics() {
            let shared = self
                .subscriptions
                .iter()
                .any(|one| one.topics().contains(placed));
            if !shared {
                self.hub.window().unregister(placed, self.number);
            }
        }
    }

    /// A number in `0..1`, another for each connection and evenly spread: what is done to all of
    /// them, but not at once, is ordered by it.
    #[must_use]
    pub fn share(&self) -> f64 {
        // Steps of the golden ratio: any run of them is spread evenly.
        const GOLDEN: f64 = 0.618_033_988_749_895;
        ((self.number as f64) * GOLDEN).fract()
    }

    /// The next thing for this connection. Cancel-safe: what was not returned is still to come.
    pub async fn next(&mut self) -> Delivery {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Reader::next`] for whoever polls several things.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        loop {
            if self.wake.take() {
                for one in &mut self.subscriptions {
                    one.look_again();
                }
                self.views_rung = true;
            }
            // First: there are few of them, and a client that reads its way through a backlog must
            // not wait for its end to see them.
            if let Some(delivery) = self.look_at_views() {
                return Poll::Ready(delivery);
            }
            if let Some(delivery) = self.look() {
                return Poll::Ready(delivery);
            }
            if let Some(asking) = &mut self.asking
                && let Poll::Ready(answer) = asking.answer.as_mut().poll(cx)
            {
                match self.take(answer) {
                    Some(delivery) => return Poll::Ready(delivery),
                    None => continue,
                }
            }
            ready!(self.wake.poll_rung(cx));
        }
    }

    /// Goes through the subscriptions in turn until one has something.
    fn look(&mut self) -> Option<Delivery> {
        let floor_ms = if self.subscriptions.iter().any(Subscription::has_to_look) {
            self.hub.floor_ms()
        } else {
            0
        };
        for _ in 0..self.subscriptions.len() {
            self.turn = (self.turn + 1) % self.subscriptions.len();
            let one = &mut self.subscriptions[self.turn];
            let sub = one.id;
            if self.asking.as_ref().is_some_and(|asking| asking.sub == sub) {
                continue;
            }
            match one.step(self.hub.window(), self.hub.limits(), floor_ms) {
                Step::Idle => {}
                Step::Ask(ask) => {
                    if self.asking.is_none() {
                        let answer = Box::pin(answer(self.hub.clone(), ask.clone()));
                        self.asking = Some(Asking { sub, ask, answer });
                    }
                }
                Step::Subscribed(at) => return Some(Delivery::Subscribed(sub, at)),
                Step::CaughtUp(at) => return Some(Delivery::CaughtUp(sub, at)),
                Step::Events(batch) => {
                    self.hub.delivered(&batch);
                    return Some(Delivery::Events(sub, batch));
                }
                Step::Flash(events) => {
                    self.hub
                        .metrics()
                        .flash_deliveries
                        .inc_by(events.len() as u64);
                    return Some(Delivery::Flash(sub, events));
                }
                Step::Fetched(verdict) => {
                    self.unsubscribe(sub);
                    return Some(Delivery::Fetched(sub, verdict));
                }
            }
        }
        None
    }

    fn take(&mut self, answer: Option<Answer>) -> Option<Delivery> {
        let asking = self.asking.take()?;
        let answer = answer?;
        let one = self
            .subscriptions
            .iter_mut()
            .find(|one| one.id == asking.sub)?;
        let verdict = one.answer(&asking.ask, answer, self.hub.window())?;
        if one.is_fetch() {
            self.unsubscribe(asking.sub);
            return Some(Delivery::Fetched(asking.sub, verdict));
        }
        Some(Delivery::Verdict(
            asking.sub,
            asking.ask.topic.topic,
            verdict,
        ))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for gone in std::mem::take(&mut self.subscriptions) {
            self.leave(&gone);
        }
        self.hub.name().readers().dec();
    }
}

/// Asks the log for as long as it takes: a reader stays connected while the log is away. `None`
/// when the hub ends.
async fn answer(hub: Hub, ask: Ask) -> Option<Answer> {
    let Question::Read { from, .. } = ask.question else {
        let Question::Judge(place) = ask.question else {
            return None;
        };
        return hub
            .judge()
            .verdict(ask.topic, place, hub.limits())
            .await
            .map(Answer::Verdict);
    };
    let mut pause = RETRY_PAUSE_MIN;
    let limit = PageLimit {
        events: hub.limits().batch_events.max(1) * 2,
        bytes: hub.limits().batch_bytes,
    };
    loop {
        let read = hub.read_log(&ask.topic, from, limit).await;
        match read {
            Ok(page) => {
                hub.metrics().verdict(page.verdict);
                return Some(Answer::Page(page));
            }
            Err(error) => {
                tracing::debug!(%error, topic = %ask.topic.topic, "the log could not be read; trying again")
            }
        }
        tokio::time::sleep(pause).await;
        pause = Duration::min(pause * 2, RETRY_PAUSE_MAX);
    }
}
