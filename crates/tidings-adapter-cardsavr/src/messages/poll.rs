//! A poll: what a reader has not been given yet, read from the window or the log, and handed out.
//!
//! A poll that finds nothing costs one record load and one look at the topic's head (asked of the
//! log for many polls at once); the log is read only for what is older than the window.

use std::sync::Arc;

use futures_util::future::try_join_all;
use serde_json::Value;
use tidings_adapter::{EventId, From, Hub, LogError, PageLimit, Verdict};

use super::fate::with_fate;
use super::places::{Found, Plan, Stretch};
use super::reader::{Ask, Reader, Said, Seat};
use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::job::ms;
use crate::keys;
use crate::request::Asked;

/// How often a poll looks again because others were faster. Each time one of them got something, so
/// whoever loses so often may as well be told that there is nothing.
const TRIES_MAX: usize = 32;

/// Messages of one job in one answer: at some 250 bytes each, encrypted in memory as a whole.
const MESSAGES_MAX: usize = 1_000;

/// Pages that one poll reads of a topic at most, when its place is lost and it looks for the next
/// event after it: as many as an hour of ten events a second has.
const PAGES_MAX: usize = 72;

/// Who polls, and what.
pub(crate) struct Poller {
    pub(crate) seat: Seat,
    pub(crate) user: u64,
    pub(crate) app: Arc<str>,
    /// A hash of the request's signature: it tells a retry from another poll.
    pub(crate) request: u64,
}

impl Poller {
    pub(crate) fn new(asked: &Asked, seat: Seat) -> Self {
        let signature = asked.header("signature").unwrap_or_default();
        Self {
            seat,
            user: asked.session.user_id(),
            app: asked.session.app.clone(),
            request: mark(signature),
        }
    }
}

/// The first 60 bits of a signature's hash; 0 when there is none.
fn mark(signature: &str) -> u64 {
    let hash = super::hash(signature);
    let first = hash.get(..15).filter(|_| !signature.is_empty());
    u64::from_str_radix(first.unwrap_or_default(), 16).unwrap_or_default()
}

/// What a poll came to.
pub(crate) enum Polled {
    /// Nothing, or messages and the batch that they are.
    Messages(Vec<Value>, Option<u64>),
    /// There is no such reader (any more).
    Gone,
}

/// Polls the jobs of a reader. `lists` are all jobs of a cardholder's reader.
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn poll(
    shared: &Shared,
    poller: &Poller,
    jobs: &[u64],
    begins: bool,
    lists: bool,
) -> Result<Polled, Refused> {
    let (hub, timers) = (&shared.hub, &shared.settings.timers);
    for _ in 0..TRIES_MAX {
        let now_ms = hub.now().unix_ms;
        let loaded = hub.load(&poller.seat.placement_key, vec![poller.seat.record.clone()]);
        let record = loaded.await?.into_iter().flatten().next();
        let reader = record
            .and_then(|record| Reader::parse(&record.document))
            .filter(|reader| reader.is_alive(timers, now_ms));
        let is_new = reader.is_none();
        let reader = match reader {
            Some(reader) if reader.user == poller.user && *reader.app == *poller.app => reader,
            None if begins => Reader::fresh(poller.user, &poller.app, now_ms, []),
            Some(_) | None => return Ok(Polled::Gone),
        };
        let Some(plan) = reader.places.plan(jobs, poller.request, now_ms) else {
            return Ok(Polled::Messages(Vec::new(), None));
        };
        let floor_ms = now_ms.saturating_sub(ms(timers.retention.0));
        let gathered = gather(hub, &plan, floor_ms).await?;
        let ended_ms = gathered.ended_ms;
        let (mut found, messages) = gathered.found(&plan, &reader);
        found.request = poller.request;
        let moves =
            is_new || !found.heads.is_empty() || found.back > 0 || !found.overdue.is_empty();
        if messages.is_empty() && !moves {
            if reader.is_to_be_touched(now_ms) {
                hub.command(poller.seat.command(&Ask::Touch)).await?;
            }
            return Ok(Polled::Messages(messages, None));
        }
        let handed = !found.stretches.is_empty();
        let last = ended_ms.filter(|_| !lists);
        let ask = Ask::Take {
            user: poller.user,
            app: poller.app.to_string(),
            found,
            ends: last.map(|at| at.saturating_add(ms(timers.retention.0))),
            jobs: lists.then(|| jobs.to_vec()),
        };
        let decided = hub.command(poller.seat.command(&ask)).await?;
        match Said::parse(&decided.answer) {
            Some(Said::Handed(batch)) => {
                return Ok(Polled::Messages(messages, handed.then_some(batch)));
            }
            Some(Said::Gone) => return Ok(Polled::Gone),
            _ => {}
        }
    }
    Ok(Polled::Messages(Vec::new(), None))
}

/// Messages as an answer: whether the connection took it decides what becomes of the batch.
pub(crate) fn answer(
    shared: &Shared,
    poller: &Poller,
    messages: Vec<Value>,
    batch: Option<u64>,
) -> Answer {
    let answer = Answer::ok(messages).no_store();
    let Some(batch) = batch else {
        return answer;
    };
    let arrived = poller.seat.command(&Ask::Confirm { batch });
    let lost = poller.seat.command(&Ask::ComeBack { batch });
    with_fate(answer, &shared.hub, arrived, lost)
}

/// What was read of a plan.
#[derive(Default)]
struct Gathered {
    messages: Vec<(EventId, u64, Value)>,
    stretches: Vec<Stretch>,
    rest: Vec<Stretch>,
    heads: Vec<(u64, EventId, EventId)>,
    done: Vec<u64>,
    /// When the job ended whose final message is among them.
    ended_ms: Option<u64>,
}

impl Gathered {
    fn add(&mut self, job: u64, part: Part) {
        for (id, message) in part.events {
            let is_final = message.pointer("/message/termination_type").is_some();
            if is_final {
                self.done.push(job);
                self.ended_ms = Some(id.ms());
            }
            self.messages.push((id, job, message));
        }
    }

    fn found(mut self, plan: &Plan, reader: &Reader) -> (Found, Vec<Value>) {
        let moved = self
            .heads
            .iter()
            .filter(|(job, from, to)| from != to || !reader.places.knows(*job))
            .map(|(job, _, to)| (*job, to.as_integer()));
        let found = Found {
            turn: plan.turn,
            overdue: plan.overdue.clone(),
            back: plan.back,
            heads: moved.collect(),
            stretches: self.stretches,
            rest: self.rest,
            done: self.done,
            request: 0,
        };
        // Within a job by its log; between jobs about by time.
        self.messages.sort_by_key(|(id, job, _)| (*id, *job));
        (
            found,
            self.messages
                .into_iter()
                .map(|(_, _, message)| message)
                .collect(),
        )
    }
}

async fn gather(hub: &Hub, plan: &Plan, floor_ms: u64) -> Result<Gathered, LogError> {
    let mut gathered = Gathered::default();
    for stretch in &plan.again {
        let after = EventId::from_integer(stretch.after).unwrap_or(EventId::ORIGIN);
        let up_to = EventId::from_integer(stretch.up_to).unwrap_or(EventId::ORIGIN);
        let part = read(hub, stretch.job, after, Some(up_to), floor_ms).await?;
        let reached = part.next.min(up_to).as_integer();
        if !part.events.is_empty() {
            gathered.stretches.push(Stretch {
                up_to: reached,
                ..*stretch
            });
        }
        if !part.at_end {
            gathered.rest.push(Stretch {
                after: reached,
                ..*stretch
            });
        }
        gathered.add(stretch.job, part);
    }
    // At once: the heads of all of them are asked for with one call to the log.
    let reads = plan.on.iter().map(|(job, after)| async move {
        let part = read(hub, *job, *after, None, floor_ms).await?;
        Ok::<_, LogError>((*job, *after, part))
    });
    for (job, after, part) in try_join_all(reads).await? {
        gathered.heads.push((job, after, part.next));
        if !part.events.is_empty() {
            gathered.stretches.push(Stretch {
                job,
                after: after.as_integer(),
                up_to: part.next.as_integer(),
            });
        }
        gathered.add(job, part);
    }
    Ok(gathered)
}

/// A stretch of a topic.
struct Part {
    events: Vec<(EventId, Value)>,
    next: EventId,
    at_end: bool,
}

/// Reads a job's messages after a place. A place that the log does not know any more (older than
/// what is retained, or lost in a failover) goes on at the next event after it: messages that
/// nobody polled for the retention are gone, and nobody is told (contract section 1.3).
async fn read(
    hub: &Hub,
    job: u64,
    after: EventId,
    up_to: Option<EventId>,
    floor_ms: u64,
) -> Result<Part, LogError> {
    let topic = keys::topic(&keys::job_key(job));
    let (mut events, mut next) = (Vec::new(), after);
    let mut from = From::After(after);
    for _ in 0..PAGES_MAX {
        let page = hub.read(&topic, from, PageLimit::default()).await?;
        if page.verdict != Verdict::Ok {
            if page.verdict == Verdict::Ahead && up_to.is_none() {
                // The log has lost what was given out last: go on where it ends now.
                next = hub
                    .read(&topic, From::Newest, PageLimit::default())
                    .await?
                    .next;
                break;
            }
            if from == From::Oldest {
                break;
            }
            from = From::Oldest;
            continue;
        }
        for event in &page.events {
            let id = event.event().id;
            if up_to.is_some_and(|end| id > end) {
                return Ok(Part {
                    events,
                    next,
                    at_end: true,
                });
            }
            next = next.max(id);
            if id > after
                && id.ms() >= floor_ms
                && *event.event().kind == *super::JOB_STATUS
                && let Ok(message) = serde_json::from_slice(&event.event().data)
            {
                events.push((id, message));
            }
        }
        if page.at_end {
            return Ok(Part {
                events,
                next: next.max(page.next),
                at_end: true,
            });
        }
        if events.len() >= MESSAGES_MAX || page.events.is_empty() {
            break;
        }
        from = From::After(page.next);
    }
    Ok(Part {
        events,
        next,
        at_end: false,
    })
}
