//! Settling: whether events that are stored have reached the replicas, or the disk.
//!
//! `WAIT` and `WAITAOF` speak of the writes of their own connection, and hold it up while they wait;
//! the connection for appends can have neither. So each node has two lanes, a task with a connection
//! of its own each: it makes a small write, which stands after the events in what is replicated, and
//! waits for that. Whoever comes while a lane is waiting shares the next wait with all others.
//!
//! The write is made by a script that first looks for the events. So it does not matter what became
//! of the node since they were appended: what is answered is said of the process on whose primary
//! they stand now, over one connection to it. A primary that is demoted while it waits ends the
//! wait with an error, one that dies ends the connection; then the next one is asked, where the
//! events stand or do not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tidings_core::{Clock, Durability, EventId, Partition, Settled};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::entry::bytes_of;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::link::Node;
use crate::scripts::{self, STAND};
use crate::target::Address;
use crate::topology::Topology;

/// Nobody waits for longer: whoever wants more asks again.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Events per script call: looking for so many holds Redis up for half a millisecond.
const EVENTS_PER_CALL: usize = 500;
/// Callers of one wait.
const GROUP: usize = 256;
/// Callers that wait to be in one; further ones wait to get into the queue.
const QUEUE: usize = 1024;
/// A lane that nobody uses lets its connection go.
const IDLE: Duration = Duration::from_secs(60);

/// The lanes of all nodes.
#[derive(Debug)]
pub(crate) struct Settler {
    pub(crate) topology: Arc<Topology>,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
    /// How many replicas make an event replicated.
    pub(crate) replicas: u32,
    /// Held to look a lane up or to open it; never across a wait.
    pub(crate) lanes: Mutex<HashMap<(Address, Lane), mpsc::Sender<Request>>>,
}

/// What a lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Replicas,
    Disk,
}

/// Events by partition.
type Standing = Vec<(Partition, Vec<EventId>)>;

/// One caller at one lane.
#[derive(Debug)]
pub(crate) struct Request {
    events: Standing,
    until: Instant,
    answer: oneshot::Sender<Result<bool, Failure>>,
}

impl Settler {
    /// See [`tidings_core::EventLog::settle`]. The partitions are some of P.
    pub(crate) async fn settle(
        &self,
        events: Vec<(Partition, EventId)>,
        want: Durability,
        patience: Duration,
    ) -> Settled {
        let until = Instant::now() + patience.min(PATIENCE_MAX);
        let mut standing: BTreeMap<Partition, Vec<EventId>> = BTreeMap::new();
        for (partition, id) in events {
            standing.entry(partition).or_default().push(id);
        }
        let standing: Standing = standing.into_iter().collect();
        let holds = |lane| {
            let held = timeout_at(until, self.holds(&standing, lane, until));
            async { held.await.unwrap_or(false) }
        };
        match want {
            Durability::Stored => Settled::STORED,
            Durability::Replicated => Settled {
                replicated: holds(Lane::Replicas).await,
                fsynced: false,
            },
            Durability::Fsynced => {
                // Side by side: if it is not the disk, it may at least be the replicas.
                let (disk, replicas) = (holds(Lane::Disk), holds(Lane::Replicas));
                tokio::pin!(disk, replicas);
                match select(disk, replicas).await {
                    Either::Left((true, _)) => Settled {
                        replicated: false,
                        fsynced: true,
                    },
                    Either::Left((false, replicas)) => Settled {
                        replicated: replicas.await,
                        fsynced: false,
                    },
                    Either::Right((replicated, disk)) => Settled {
                        replicated,
                        fsynced: disk.await,
                    },
                }
            }
        }
    }

    /// Whether all of these are what the lane waits for. Goes on to where they have moved; whoever
    /// calls bounds its time.
    async fn holds(&self, events: &Standing, lane: Lane, until: Instant) -> bool {
        loop {
            let routes = self.topology.routes();
            let mut by_node: HashMap<&Address, (&Arc<Node>, Standing)> = HashMap::new();
            for (partition, ids) in events {
                let node = routes.node(*partition);
                let (_, here) = by_node
                    .entry(&node.address)
                    .or_insert_with(|| (node, Vec::new()));
                here.push((*partition, ids.clone()));
            }
            let asked = by_node
                .into_values()
                .map(|(node, events)| self.ask(node, lane, events, until));
            let mut moved = false;
            for answer in join_all(asked).await {
                match answer {
                    Ok(true) => {}
                    Err(failure) if failure.wants_resolving() => moved = true,
                    Ok(false) | Err(_) => return false,
                }
            }
            if !moved {
                return true;
            }
            // Paced; if nothing is found the next try says so.
            let _ = self.topology.renew(routes.generation).await;
        }
    }

    async fn ask(
        &self,
        node: &Arc<Node>,
        lane: Lane,
        events: Standing,
        until: Instant,
    ) -> Result<bool, Failure> {
        let (answer, answered) = oneshot::channel();
        let mut request = Request {
            events,
            until,
            answer,
        };
        // A lane that ends for want of use gives back what comes too late for it.
        while let Err(mpsc::error::SendError(back)) = self.lane(node, lane).send(request).await {
            request = back;
        }
        answered.await.unwrap_or_else(|_| {
            Err(Failure::Unreachable(
                "the task that waits has ended".to_owned(),
            ))
        })
    }

    fn lane(&self, node: &Arc<Node>, lane: Lane) -> mpsc::Sender<Request> {
        let mut lanes = self.lanes.lock();
        lanes.retain(|_, queue| !queue.is_closed());
        lanes
            .entry((node.address.clone(), lane))
            .or_insert_with(|| {
                let (send, queue) = mpsc::channel(QUEUE);
                let waiter = Waiter {
                    topology: self.topology.clone(),
                    keys: self.keys.clone(),
                    clock: self.clock.clone(),
                    node: node.clone(),
                    lane,
                    replicas: self.replicas,
                    link: None,
                };
                tokio::spawn(waiter.run(queue));
                send
            })
            .clone()
    }
}

/// The task of one lane.
struct Waiter {
    topology: Arc<Topology>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    node: Arc<Node>,
    lane: Lane,
    replicas: u32,
    link: Option<Link>,
}

/// A lane's connection, and what is known of the server at its other end.
struct Link {
    link: MultiplexedConnection,
    /// It knows `WAITAOF` (7.2), and lets this user say it.
    waits_for_disk: bool,
}

/// What a wait found: whether it was successful, and which events are not there any more.
struct Found {
    held: bool,
    missing: HashSet<(Partition, EventId)>,
}

impl Waiter {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut group: Vec<Request> = Vec::new();
        loop {
            match timeout(IDLE, queue.recv_many(&mut group, GROUP)).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => {
                    // What is in the queue already is answered, then there is nothing more.
                    queue.close();
                    self.link = None;
                    continue;
                }
            }
            group.retain(|request| !request.answer.is_closed());
            if group.is_empty() {
                continue;
            }
            let found = self.wait(&group).await;
            if matches!(&found, Err(failure) if failure.wants_resolving()) {
                // An answer may still be on its way on it.
                self.link = None;
            }
            for request in group.drain(..) {
                let answer = match &found {
                    Ok(found) => Ok(found.held && found.has_all(&request.events)),
                    Err(failure) => Err(failure.clone()),
                };
                let _ = request.answer.send(answer);
            }
        }
    }

    async fn wait(&mut self, group: &[Request]) -> Result<Found, Failure> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        let events = union(group);
        let until = group.iter().map(|request| request.until).max();
        let left = until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let mut answer = self.try_wait(&mut link, &events, left).await;
        if matches!(answer, Err(Failure::NoScript)) {
            self.load(&mut link.link).await?;
            answer = self.try_wait(&mut link, &events, left).await;
        }
        self.link = Some(link);
        answer
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let response = self.topology.linking.patience.response;
        let mut link = self
            .node
            .dedicated("settle", PATIENCE_MAX + response)
            .await?;
        self.load(&mut link).await?;
        Ok(Link {
            link,
            waits_for_disk: true,
        })
    }

    async fn load(&self, link: &mut MultiplexedConnection) -> Result<(), Failure> {
        let linking = &self.topology.linking;
        STAND
            .load(link, linking.patience.response, &linking.metrics)
            .await
    }

    /// Looks for the events, writes, and waits for what was written; in one round trip.
    async fn try_wait(
        &self,
        link: &mut Link,
        events: &[(Partition, Vec<EventId>)],
        left: Duration,
    ) -> Result<Found, Failure> {
        let chunks: Vec<(Partition, &[EventId])> = events
            .iter()
            .flat_map(|(partition, ids)| {
                ids.chunks(EVENTS_PER_CALL).map(|chunk| (*partition, chunk))
            })
            .collect();
        let mut pipeline = Pipeline::with_capacity(chunks.len() + 1);
        for (partition, ids) in &chunks {
            pipeline.add_command(self.look_for(*partition, ids));
        }
        // Zero would mean for ever.
        let left = left.max(Duration::from_millis(1));
        pipeline.add_command(match self.lane {
            Lane::Replicas => wait_command(self.replicas, left),
            Lane::Disk if link.waits_for_disk => wait_for_disk_command(left),
            Lane::Disk => append_settings(),
        });
        let response = self.topology.linking.patience.response;
        let mut answers = scripts::raw_answers(&mut link.link, &pipeline, left + response).await?;
        let waited = answers.pop().unwrap_or(Value::Nil);
        let mut missing = HashSet::new();
        for ((partition, ids), answer) in chunks.iter().zip(answers) {
            match answer {
                Value::ServerError(error) => return Err(Failure::of_answer(&error)),
                Value::Array(places) => {
                    for place in places {
                        let id = match place {
                            Value::Int(place) => usize::try_from(place - 1)
                                .ok()
                                .and_then(|place| ids.get(place)),
                            _ => None,
                        };
                        let id = id.ok_or_else(unknown_answer)?;
                        missing.insert((*partition, *id));
                    }
                }
                _ => return Err(unknown_answer()),
            }
        }
        let held = match waited {
            Value::Int(replicas) => {
                u32::try_from(replicas).is_ok_and(|replicas| replicas >= self.replicas)
            }
            Value::ServerError(error) => match Failure::of_answer(&error) {
                failure if failure.wants_resolving() => return Err(failure),
                _ if self.lane == Lane::Disk && link.waits_for_disk => {
                    // Where nothing is appended to any file, that is the answer. Else the server is
                    // too old to know the command, or the user may not say it: its settings tell as
                    // well when every append is synced.
                    link.waits_for_disk = error
                        .details()
                        .is_some_and(|text| text.contains("appendonly is disabled"));
                    !link.waits_for_disk && self.syncs_always(link).await?
                }
                // A user who may not ask: nothing is known.
                _ => false,
            },
            Value::Array(parts) if self.lane == Lane::Disk => match parts.as_slice() {
                [Value::Int(local), Value::Int(_)] if link.waits_for_disk => *local >= 1,
                settings => says_always(settings),
            },
            _ => return Err(unknown_answer()),
        };
        Ok(Found { held, missing })
    }

    /// Whether every append is on the disk before it is answered.
    async fn syncs_always(&self, link: &mut Link) -> Result<bool, Failure> {
        let response = self.topology.linking.patience.response;
        match scripts::ask(&mut link.link, &append_settings(), response).await {
            Ok(Value::Array(settings)) => Ok(says_always(&settings)),
            Ok(_) => Ok(false),
            Err(failure) if failure.wants_resolving() => Err(failure),
            Err(_) => Ok(false),
        }
    }

    fn look_for(&self, partition: Partition, ids: &[EventId]) -> Cmd {
        let keys = [self.keys.state(partition), self.keys.log(partition)];
        let mut call = STAND.call(&keys);
        call.arg(self.clock.unix_ms());
        for id in ids {
            call.arg(format!("{}-{}", id.ms(), id.seq()));
        }
        call
    }
}

impl Found {
    fn has_all(&self, events: &Standing) -> bool {
        self.missing.is_empty()
            || events.iter().all(|(partition, ids)| {
                ids.iter()
                    .all(|id| !self.missing.contains(&(*partition, *id)))
            })
    }
}

/// All events of all callers, each once.
fn union(group: &[Request]) -> Standing {
    let mut all: BTreeMap<Partition, Vec<EventId>> = BTreeMap::new();
    for (partition, ids) in group.iter().flat_map(|request| &request.events) {
        all.entry(*partition).or_default().extend(ids);
    }
    for ids in all.values_mut() {
        ids.sort_unstable();
        ids.dedup();
    }
    all.into_iter().collect()
}

fn wait_command(replicas: u32, left: Duration) -> Cmd {
    let mut wait = redis::cmd("WAIT");
    wait.arg(replicas).arg(millis(left));
    wait
}

/// The primary's own disk; what is on the replicas' is not asked for.
fn wait_for_disk_command(left: Duration) -> Cmd {
    let mut wait = redis::cmd("WAITAOF");
    wait.arg(1).arg(0).arg(millis(left));
    wait
}

/// As a pattern, because before 7.0 only one can be asked for.
fn append_settings() -> Cmd {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("append*");
    ask
}

/// Whether a server with these settings answers nothing before it is on the disk. That holds for
/// what was written before the settings changed, too: the write that was made with them on was
/// synced together with all before it.
fn says_always(settings: &[Value]) -> bool {
    let is = |name: &[u8], wanted: &[u8]| {
        settings.as_chunks::<2>().0.iter().any(|[key, value]| {
            bytes_of(key.clone()).as_deref() == Some(name)
                && bytes_of(value.clone()).as_deref() == Some(wanted)
        })
    };
    is(b"appendonly", b"yes") && is(b"appendfsync", b"always")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn unknown_answer() -> Failure {
    Failure::Refused("Redis answered in an unknown way".to_owned())
}
