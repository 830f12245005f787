//! The board: what readers and publishers of one run know of each other.
//!
//! Everything runs on one thread, so cells do where another program would need locks, and counting
//! a delivery is a few additions.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use tokio::sync::Notify;

use crate::check::{Ledger, Receipt, Tally};
use crate::stamp::Stamp;

/// Failures that are kept in words; the others are counted.
const FAILURES_KEPT: usize = 5;

/// Between two looks at something that others bring about.
const LOOK: Duration = Duration::from_millis(5);

/// Without a delivery for this long nothing more is to come: several times the longest pause of a
/// hub that makes a reader come back.
const SILENCE: Duration = Duration::from_secs(5);

/// And after this nobody waits any more, whatever comes.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// One run.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) run: u32,
    started: Instant,
    lanes: Vec<Lane>,
    lanes_per_topic: u32,
    readers_per_topic: u32,
    /// Publish to receipt, in nanoseconds.
    pub(crate) latency: RefCell<Histogram<u64>>,
    /// Request to answer, in nanoseconds: of publishes, or of polls.
    pub(crate) answers: RefCell<Histogram<u64>>,
    /// Connect to ready, in nanoseconds.
    pub(crate) setup: RefCell<Histogram<u64>>,
    counts: Cell<Counts>,
    ready: Cell<u32>,
    stopped: Cell<bool>,
    failures: RefCell<Vec<String>>,
    failed: Cell<u64>,
}

/// What has happened so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    /// Events handed to the hub.
    pub(crate) published: u64,
    /// Events received for the first time, over all readers.
    pub(crate) delivered: u64,
    /// Reads from readers' sockets that brought something.
    pub(crate) reads: u64,
    /// Bytes of these.
    pub(crate) bytes: u64,
    /// Requests answered.
    pub(crate) answered: u64,
}

#[derive(Debug, Default)]
struct Lane {
    published: Cell<u32>,
    /// Below this, every reader has everything.
    complete: Cell<u32>,
    /// Readers that have the event, from `complete` on.
    received: RefCell<VecDeque<u32>>,
    room: Notify,
}

/// One reader's place.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) topic: u32,
    /// Where it starts; now, when there is none.
    pub(crate) cursor: Option<String>,
    /// It is done when it has so many; never, when there are none.
    pub(crate) wanted: Option<u32>,
    ledger: RefCell<Ledger>,
    fresh: Cell<u32>,
    /// Where its subscription stood first.
    pub(crate) placed: RefCell<Vec<u8>>,
    /// When it had what it wanted, in nanoseconds since the run began.
    pub(crate) done: Cell<Option<u64>>,
}

impl Board {
    pub(crate) fn new(topics: u32, lanes_per_topic: u32, readers_per_topic: u32) -> Self {
        Self {
            run: run(),
            started: Instant::now(),
            lanes: (0..topics * lanes_per_topic)
                .map(|_| Lane::default())
                .collect(),
            lanes_per_topic,
            readers_per_topic,
            latency: RefCell::new(histogram()),
            answers: RefCell::new(histogram()),
            setup: RefCell::new(histogram()),
            counts: Cell::default(),
            ready: Cell::default(),
            stopped: Cell::default(),
            failures: RefCell::default(),
            failed: Cell::default(),
        }
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        nanoseconds(self.started.elapsed())
    }

    /// The moment that many nanoseconds after the run began.
    pub(crate) fn moment(&self, at: u64) -> Instant {
        self.started + Duration::from_nanos(at)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts.get()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    pub(crate) fn lanes(&self) -> Range<u32> {
        // Made from a u32.
        0..self.lanes.len() as u32
    }

    pub(crate) fn topic_of(&self, lane: u32) -> u32 {
        lane / self.lanes_per_topic
    }

    fn lanes_of(&self, topic: u32) -> Range<u32> {
        topic * self.lanes_per_topic..(topic + 1) * self.lanes_per_topic
    }

    /// How many events a lane has had.
    pub(crate) fn published(&self, lane: u32) -> u32 {
        self.lanes
            .get(lane as usize)
            .map_or(0, |lane| lane.published.get())
    }

    /// A reader's place.
    pub(crate) fn seat(&self, topic: u32, cursor: Option<String>, wanted: Option<u32>) -> Seat {
        Seat {
            topic,
            cursor,
            wanted,
            ledger: RefCell::new(Ledger::new(self.lanes_of(topic))),
            fresh: Cell::default(),
            placed: RefCell::default(),
            done: Cell::default(),
        }
    }

    /// The stamp of a lane's next publish, made at `at`.
    pub(crate) fn publish(&self, lane: u32, at: u64) -> Stamp {
        let published = &self.lanes[lane as usize].published;
        let number = published.get();
        published.set(number + 1);
        self.count(|counts| counts.published += 1);
        let run = self.run;
        Stamp {
            run,
            lane,
            number,
            at,
        }
    }

    /// Waits until fewer than `depth` of a lane's events are on their way to a reader, or the run
    /// has stopped.
    pub(crate) async fn room(&self, lane: u32, depth: u32) {
        let lane = &self.lanes[lane as usize];
        while lane.published.get() - lane.complete.get() >= depth && !self.stopped.get() {
            lane.room.notified().await;
        }
    }

    /// Books a delivery. `now` is when the read that brought it returned.
    pub(crate) fn receive(&self, seat: &Seat, stamp: Stamp, now: u64) {
        let run = if stamp.run == self.run {
            stamp.lane
        } else {
            u32::MAX
        };
        let published = self.published(run);
        let receipt = seat
            .ledger
            .borrow_mut()
            .receive(run, stamp.number, published);
        if receipt != Receipt::Fresh {
            return;
        }
        self.count(|counts| counts.delivered += 1);
        let latency = now.saturating_sub(stamp.at);
        self.latency.borrow_mut().saturating_record(latency);
        self.lanes[stamp.lane as usize].received(stamp.number, self.readers_per_topic);
        let fresh = seat.fresh.get() + 1;
        seat.fresh.set(fresh);
        if seat.wanted == Some(fresh) {
            seat.done.set(Some(now));
        }
    }

    /// Books that the hub told a reader that it may have missed something.
    pub(crate) fn reset(&self, seat: &Seat) {
        seat.ledger.borrow_mut().reset();
    }

    /// Books a read from a reader's socket.
    pub(crate) fn read(&self, bytes: u64) {
        self.count(|counts| {
            counts.reads += 1;
            counts.bytes += bytes;
        });
    }

    /// Books a request's answer.
    pub(crate) fn answered(&self, since: u64) {
        let took = self.now().saturating_sub(since);
        self.answers.borrow_mut().saturating_record(took);
        self.count(|counts| counts.answered += 1);
    }

    /// Books that a reader's subscription stands.
    pub(crate) fn ready(&self, since: u64) {
        self.ready.set(self.ready.get() + 1);
        let took = self.now().saturating_sub(since);
        self.setup.borrow_mut().saturating_record(took);
    }

    /// Books that something went wrong.
    pub(crate) fn fail(&self, why: &anyhow::Error) {
        self.failed.set(self.failed.get() + 1);
        let mut failures = self.failures.borrow_mut();
        if failures.len() < FAILURES_KEPT {
            failures.push(format!("{why:#}"));
        }
    }

    /// How often something went wrong, and the first times in words.
    pub(crate) fn failures(&self) -> (u64, Vec<String>) {
        (self.failed.get(), self.failures.borrow().clone())
    }

    /// Forgets the latencies so far: those of the time in which everything was still warming up.
    pub(crate) fn forget_times(&self) {
        self.latency.borrow_mut().reset();
        self.answers.borrow_mut().reset();
    }

    /// Nothing more is published.
    pub(crate) fn stop(&self) {
        self.stopped.set(true);
        for lane in &self.lanes {
            lane.room.notify_one();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Waits until so many readers stand.
    ///
    /// # Errors
    /// When one of them failed, or `within` is over.
    pub(crate) async fn all_ready(&self, readers: u32, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        while self.ready.get() < readers {
            if let Some(why) = self.failures.borrow().first() {
                bail!("a reader failed: {why}");
            }
            if Instant::now() >= end {
                let ready = self.ready.get();
                bail!("{ready} of {readers} readers stood after {within:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until everything has been delivered so often, or until nothing has come for a while.
    pub(crate) async fn drained(&self, deliveries: u64) {
        let end = Instant::now() + DRAIN_MAX;
        let mut last = (self.counts().delivered, Instant::now());
        while self.counts().delivered < deliveries
            && last.1.elapsed() < SILENCE
            && Instant::now() < end
        {
            tokio::time::sleep(LOOK).await;
            if self.counts().delivered != last.0 {
                last = (self.counts().delivered, Instant::now());
            }
        }
    }

    /// Closes everybody's books.
    pub(crate) fn close<'a>(&self, seats: impl IntoIterator<Item = &'a Seat>) -> Tally {
        let mut orders: Vec<Option<u64>> = vec![None; self.lanes.len()];
        let mut tally = Tally::default();
        for seat in seats {
            let ledger = seat.ledger.borrow();
            let own = ledger.close(|lane| self.published(lane));
            tally += own;
            if own.is_clean() {
                let first = orders[seat.topic as usize].get_or_insert(ledger.order());
                tally.disagreeing += u64::from(*first != ledger.order());
            }
        }
        tally
    }
}

impl Lane {
    fn received(&self, number: u32, readers: u32) {
        let mut received = self.received.borrow_mut();
        // An event's first receipt by a reader, so nobody had counted it as complete.
        let index = (number - self.complete.get()) as usize;
        if received.len() <= index {
            received.resize(index + 1, 0);
        }
        received[index] += 1;
        let complete = received
            .iter()
            .take_while(|count| **count >= readers)
            .count();
        if complete > 0 {
            received.drain(..complete);
            self.complete.set(self.complete.get() + complete as u32);
            self.room.notify_one();
        }
    }
}

/// Three digits of everything up to an hour.
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds are constants that `new_with_max` accepts; `new` would resize while measuring.
    Histogram::new_with_max(3_600_000_000_000, 3).expect("valid bounds")
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells this run's topics and events from another's.
fn run() -> u32 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    // Runs of one process differ in time, processes of one moment in their id.
    (now.as_nanos() as u32) ^ std::process::id().rotate_left(16)
}

#[cfg(test)]
mod tests;
