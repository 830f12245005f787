//! One reader of the tail: some partitions, one connection, blocking reads (LOG.md §8).
//!
//! On a single server one reader follows all partitions; in a Cluster there is one for each, since
//! keys of different slots cannot share a call. It reads from explicit places, never from `$`; it
//! asks about its own places after every connect and after every read that came back empty; and it
//! takes nothing from a node that is no longer the primary, because every read is followed by a
//! write that changes nothing and that a replica refuses.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tidings_core::{Clock, Event, EventId, Partition, TailStep};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::entry::{Entry, FlashPlace, before, entries, flash_entries, stream_text};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::places::Told;
use crate::ring::Ring;
use crate::scripts;
use crate::settings::Settings;
use crate::topology::Topology;

/// Entries per stream and read, at first: until it is seen what events weigh.
const COUNT_START: usize = 8;
/// Entries per stream and read, at most.
const COUNT: usize = 500;
/// What one read should not bring more of: it is in memory here and in Redis.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// How often the sentinels are asked whether this is still the primary. Only a primary that is cut
/// off from them, but not from us, is found out this way.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

/// What a reader tells the tail.
#[derive(Debug)]
pub(crate) enum Signal {
    /// Handed on as it is.
    Step(TailStep),
    /// Its read came back empty, and its places are what they were.
    Level,
    /// Its link is lost.
    Down(String),
    /// Its link is back, and its places are judged.
    Up,
}

/// One partition that a reader follows.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) partition: Partition,
    pub(crate) key: String,
    pub(crate) state: String,
    pub(crate) place: EventId,
    pub(crate) ring: Ring,
    pub(crate) flash: String,
    /// After which flash event it reads; `None` before the first look.
    pub(crate) flashed: Option<FlashPlace>,
}

/// What one read brought of one stream of a partition.
enum Brought {
    Entries(Vec<Entry>),
    Flash(Vec<(FlashPlace, Option<Event>)>),
}

impl Followed {
    pub(crate) fn new(keys: &Keys, partition: Partition, place: EventId) -> Self {
        Self {
            partition,
            key: keys.log(partition),
            state: keys.state(partition),
            place,
            ring: Ring::starting(place),
            flash: keys.flash(partition),
            flashed: None,
        }
    }
}

/// The reader's task.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) topology: Arc<Topology>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention_ms: u64,
    pub(crate) settings: Settings,
    pub(crate) block: Duration,
    /// Whether logs are trimmed by length, too.
    pub(crate) capped: bool,
    /// At least one, all on one node.
    pub(crate) followed: Vec<Followed>,
    pub(crate) number: usize,
    pub(crate) signals: mpsc::Sender<(usize, Signal)>,
    pub(crate) count: usize,
}

/// Why a session with a node ended.
pub(crate) enum End {
    Failed(Failure),
    /// Nobody listens any more.
    Unheard,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Reader {
    pub(crate) const COUNT_START: usize = COUNT_START;

    /// Runs until nobody listens; never gives up.
    pub(crate) async fn run(mut self) {
        let mut down = false;
        loop {
            let routes = self.topology.routes();
            let Err(End::Failed(failure)) = self.follow(&routes, &mut down).await else {
                return;
            };
            tracing::debug!(
                reader = self.number,
                reason = failure.reason(),
                "the tail's link is lost"
            );
            if !down {
                down = true;
                if self
                    .send(Signal::Down(failure.reason().to_owned()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            // Paced, with jitter; if nothing is found the next connect says so.
            let _ = self.topology.renew(routes.generation).await;
            if self.signals.is_closed() {
                return;
            }
        }
    }

    async fn follow(
        &mut self,
        routes: &crate::topology::Routes,
        down: &mut bool,
    ) -> Result<(), End> {
        let node = routes.node(self.followed[0].partition);
        let patience = self.block + self.topology.linking.patience.response;
        let mut link = node.dedicated("tail", patience).await?;
        if self.number == 0 {
            self.settings.confirm(&self.topology).await?;
        }
        self.check_places(&mut link).await?;
        self.check_flash(&mut link).await?;
        if *down {
            *down = false;
            self.send(Signal::Up).await?;
        }
        let (mut confirmed, mut read) = (Instant::now(), Instant::now());
        loop {
            // A consumer that took half the retention for one step may have been overtaken by the
            // trimming; so may a machine that slept.
            if read.elapsed() > Duration::from_millis(self.retention_ms / 2) {
                self.check_places(&mut link).await?;
            }
            let asked = self.count;
            let streams = self.read(&mut link, patience).await?;
            read = Instant::now();
            if confirmed.elapsed() >= CONFIRM_EVERY {
                if self.topology.is_misplaced().await {
                    return Err(Failure::Elsewhere(
                        "the sentinels name another primary".to_owned(),
                    )
                    .into());
                }
                confirmed = Instant::now();
            }
            if streams.is_empty() {
                self.check_places(&mut link).await?;
                self.check_flash(&mut link).await?;
                self.send(Signal::Level).await?;
            }
            for (position, brought) in streams {
                match brought {
                    Brought::Entries(entries) => {
                        let behind = entries.len() >= asked;
                        self.hand_out(&mut link, position, entries, behind).await?;
                    }
                    Brought::Flash(entries) => self.hand_out_flash(position, entries).await?,
                }
            }
            // Who was woken by this goes first: they are why it was read, and the next read brings
            // the more.
            tokio::task::yield_now().await;
        }
    }

    /// Goes on after the last flash event that there is, where it cannot go on from its own place:
    /// at the start, and when the stream ends before it, as that of another server may. What
    /// a tail misses of them it misses. The stream goes away when nothing was flashed for seconds;
    /// all that comes then is new.
    async fn check_flash(&mut self, link: &mut MultiplexedConnection) -> Result<(), Failure> {
        let mut pipeline = Pipeline::with_capacity(self.followed.len());
        for followed in &self.followed {
            let last = pipeline.cmd("XREVRANGE").arg(&followed.flash);
            last.arg("+").arg("-").arg("COUNT").arg(1);
        }
        let patience = self.topology.linking.patience.response;
        let answers = scripts::answers(link, &pipeline, patience).await?;
        for (followed, answer) in self.followed.iter_mut().zip(answers) {
            let last = flash_entries(answer).ok_or_else(unknown_answer)?;
            let last = last.first().map_or((0, 0), |(place, _)| *place);
            if followed.flashed.is_none_or(|place| last < place) {
                followed.flashed = Some(last);
            }
        }
        Ok(())
    }

    async fn hand_out_flash(
        &mut self,
        position: usize,
        entries: Vec<(FlashPlace, Option<Event>)>,
    ) -> Result<(), End> {
        let followed = &mut self.followed[position];
        if let Some((last, _)) = entries.last() {
            followed.flashed = Some(*last);
        }
        let partition = followed.partition;
        let events: Vec<Event> = entries.into_iter().filter_map(|(_, event)| event).collect();
        if events.is_empty() {
            return Ok(());
        }
        self.send(Signal::Step(TailStep::Flash(partition, events)))
            .await
    }

    /// One blocking read of all streams: what came, by position.
    async fn read(
        &mut self,
        link: &mut MultiplexedConnection,
        patience: Duration,
    ) -> Result<Vec<(usize, Brought)>, Failure> {
        let mut pipeline = Pipeline::with_capacity(2);
        let block = u64::try_from(self.block.as_millis()).unwrap_or(u64::MAX);
        pipeline
            .cmd("XREAD")
            .arg("COUNT")
            .arg(self.count)
            .arg("BLOCK")
            .arg(block)
            .arg("STREAMS");
        for followed in &self.followed {
            pipeline.arg(&followed.key).arg(&followed.flash);
        }
        for followed in &self.followed {
            let (ms, seq) = followed.flashed.unwrap_or_default();
            pipeline
                .arg(stream_text(followed.place))
                .arg(format!("{ms}-{seq}"));
        }
        pipeline.cmd("PERSIST").arg(&self.followed[0].state);
        let mut answers = scripts::raw_answers(link, &pipeline, patience).await?;
        let (Some(fence), Some(read)) = (answers.pop(), answers.pop()) else {
            return Err(unknown_answer());
        };
        if let Value::ServerError(error) = &fence
            && let failure @ (Failure::Elsewhere(_) | Failure::Refused(_)) =
                Failure::of_answer(error)
        {
            return Err(failure);
        }
        let streams = match read {
            Value::Nil => Vec::new(),
            Value::Array(streams) => streams,
            Value::ServerError(error) => return Err(Failure::of_answer(&error)),
            _ => return Err(unknown_answer()),
        };
        let mut read = Vec::with_capacity(streams.len());
        let mut bytes = 0;
        for stream in streams {
            let (position, brought) = self.stream(stream).ok_or_else(unknown_answer)?;
            bytes += match &brought {
                Brought::Entries(entries) => entries.iter().map(weight).sum::<usize>(),
                Brought::Flash(entries) => {
                    let events = entries.iter().filter_map(|(_, event)| event.as_ref());
                    events.map(Event::weight).sum()
                }
            };
            read.push((position, brought));
        }
        if bytes > READ_BYTES {
            self.count = (self.count / 2).max(1);
        } else if bytes <= READ_BYTES / 2 {
            self.count = (self.count * 2).min(COUNT);
        }
        Ok(read)
    }

    fn stream(&self, stream: Value) -> Option<(usize, Brought)> {
        let Value::Array(parts) = stream else {
            return None;
        };
        let [key, read] = <[Value; 2]>::try_from(parts).ok()?;
        let Value::BulkString(key) = key else {
            return None;
        };
        for (position, followed) in self.followed.iter().enumerate() {
            if followed.key.as_bytes() == key {
                return Some((position, Brought::Entries(entries(read)?)));
            } else if followed.flash.as_bytes() == key {
                return Some((position, Brought::Flash(flash_entries(read)?)));
            }
        }
        None
    }

    async fn hand_out(
        &mut self,
        link: &mut MultiplexedConnection,
        position: usize,
        entries: Vec<Entry>,
        behind: bool,
    ) -> Result<(), End> {
        let (Some(first), Some(last)) = (
            entries.first().map(Entry::id),
            entries.last().map(Entry::id),
        ) else {
            return Ok(());
        };
        // Trimming by length can overtake a reader that is behind. As long as its old place is
        // there, nothing after it was taken away.
        if self.capped && behind {
            let answers = self.ask_places(link, &[position]).await?;
            if answers
                .iter()
                .any(|answer| matches!(answer, Told::Skipped(_)))
            {
                self.skip(position, before(first)).await?;
            }
        }
        let metrics = &self.topology.linking.metrics;
        let followed = &mut self.followed[position];
        let mut events: Vec<Event> = Vec::with_capacity(entries.len());
        for entry in entries {
            followed.ring.push(entry.id());
            match entry {
                Entry::Event(event) => events.push(event),
                Entry::Strange(id) => {
                    metrics.strange_entries.inc();
                    tracing::warn!(partition = followed.partition.0, %id, "an entry that no hub wrote is passed over");
                }
            }
        }
        followed.place = last;
        let partition = followed.partition;
        if events.is_empty() {
            return Ok(());
        }
        self.send(Signal::Step(TailStep::Events(partition, events)))
            .await
    }

    pub(crate) async fn send(&self, signal: Signal) -> Result<(), End> {
        self.signals
            .send((self.number, signal))
            .await
            .map_err(|_| End::Unheard)
    }
}

fn weight(entry: &Entry) -> usize {
    match entry {
        Entry::Event(event) => event.weight(),
        Entry::Strange(_) => 0,
    }
}

pub(crate) fn unknown_answer() -> Failure {
    Failure::Refused("Redis answered in an unknown way".to_owned())
}
