//! What a reader was given: places in the topics of jobs instead of a queue of its own.
//!
//! Polls of one reader may race, on several instances. Each that found something commits a *batch*:
//! the heads move on, so that nobody else gets its messages, and the batch is remembered until it is
//! known that the connection took the answer. If the connection did not take it, its stretches come
//! *back* and are given out first by the next poll; if nobody says anything (the instance died),
//! they come back when the batch is *overdue*. So a message is lost only when the connection took it
//! and the client never read it, and it comes twice only when an instance dies in the moment
//! between the two.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidings_adapter::EventId;

/// Batches of one reader that are on their way at a time: as many polls of it may race. The next one
/// is told that there is nothing.
pub(crate) const ON_THE_WAY_MAX: usize = 64;

/// Stretches that a reader may have on their way or back until it is told that there is nothing. A
/// cardholder's answer has one for each of his 100 jobs, and all of them are in one record of 64 KiB,
/// at some 65 bytes each.
const STRETCHES_MAX: usize = 600;

/// Stretches that came back and are given out by one poll; each was a batch and so is bounded.
const BACK_AT_ONCE: usize = 8;

/// How long a batch may be on its way before it is given out again: a client's own time-out is 10 s,
/// and instances' clocks may be 5 s apart.
pub(crate) const OVERDUE_MS: u64 = 15_000;

/// The very same request again, so much later, is its first one's retry. Clients that poll twice
/// in one millisecond sign both the same: those come at once, and each gets its part.
pub(crate) const SAME_AGAIN_MS: u64 = 2_000;

/// Which messages of which jobs a reader was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    /// Up to where each job's messages were given out, as integers of event ids.
    #[serde(rename = "h")]
    heads: BTreeMap<u64, u64>,
    /// Jobs whose final message was given out.
    #[serde(rename = "d", default)]
    done: BTreeSet<u64>,
    /// What came back, oldest first for each job.
    #[serde(rename = "b", default)]
    back: Vec<Stretch>,
    /// What is on its way.
    #[serde(rename = "w", default)]
    on_the_way: Vec<Batch>,
    /// Rises with every change but a confirmation: who decides by an older one looks again.
    #[serde(rename = "t", default)]
    turn: u64,
}

/// A job's messages after one place, up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stretch {
    #[serde(rename = "j")]
    pub(crate) job: u64,
    #[serde(rename = "a")]
    pub(crate) after: u64,
    #[serde(rename = "u")]
    pub(crate) up_to: u64,
}

/// One answer's stretches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Batch {
    #[serde(rename = "n")]
    number: u64,
    #[serde(rename = "s")]
    stretches: Vec<Stretch>,
    /// When it was handed out, milliseconds since 1970.
    #[serde(rename = "m")]
    at_ms: u64,
    /// Of which request: a hash of its signature.
    #[serde(rename = "r")]
    request: u64,
}

/// What a poll is to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// By what state it was made.
    pub(crate) turn: u64,
    /// To be given again, before anything newer.
    pub(crate) again: Vec<Stretch>,
    /// The batches that those of `again` belonged to which never came back.
    pub(crate) overdue: Vec<u64>,
    /// How many of those that came back are in `again`.
    pub(crate) back: usize,
    /// Where to read on, by job. Empty when there is more to be given again.
    pub(crate) on: Vec<(u64, EventId)>,
}

/// What a poll found and wants to hand out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) turn: u64,
    pub(crate) overdue: Vec<u64>,
    pub(crate) back: usize,
    /// What is handed out: stretches with something in them. None: only places move.
    pub(crate) stretches: Vec<Stretch>,
    /// Ends of stretches that had no room in this answer.
    #[serde(default)]
    pub(crate) rest: Vec<Stretch>,
    /// New heads.
    pub(crate) heads: Vec<(u64, u64)>,
    /// Jobs whose final message is among them.
    pub(crate) done: Vec<u64>,
    pub(crate) request: u64,
}

impl Places {
    pub(crate) fn at(heads: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self {
            heads: heads.into_iter().collect(),
            ..Self::default()
        }
    }

    /// What a poll by this request (a hash; 0: unsigned) reads, of these jobs. `None`: too many are
    /// on their way.
    pub(crate) fn plan(&self, jobs: &[u64], request: u64, now_ms: u64) -> Option<Plan> {
        let is_overdue = |batch: &&Batch| {
            let age = now_ms.saturating_sub(batch.at_ms);
            let same = request != 0 && batch.request == request;
            age >= OVERDUE_MS || (age >= SAME_AGAIN_MS && same)
        };
        let overdue: Vec<&Batch> = self
            .on_the_way
            .iter()
            .filter(is_overdue)
            .take(BACK_AT_ONCE)
            .collect();
        if self.on_the_way.len() - overdue.len() >= ON_THE_WAY_MAX {
            return None;
        }
        let held = self.on_the_way.iter().map(|one| one.stretches.len());
        let is_full = held.sum::<usize>() + self.back.len() >= STRETCHES_MAX;
        if is_full && overdue.is_empty() && self.back.is_empty() {
            return None;
        }
        let back = self.back.len().min(BACK_AT_ONCE);
        let mut again: Vec<Stretch> = self.back.iter().take(back).copied().collect();
        again.extend(
            overdue
                .iter()
                .flat_map(|batch| batch.stretches.iter().copied()),
        );
        again.sort_unstable();
        let all = !is_full && back == self.back.len() && overdue.len() < BACK_AT_ONCE;
        let open = jobs.iter().filter(|job| all && !self.done.contains(job));
        let head = |job: &u64| {
            let place = self.heads.get(job).copied().unwrap_or_default();
            (
                *job,
                EventId::from_integer(place).unwrap_or(EventId::ORIGIN),
            )
        };
        Some(Plan {
            turn: self.turn,
            overdue: overdue.iter().map(|batch| batch.number).collect(),
            back,
            again,
            on: open.map(head).collect(),
        })
    }

    /// Takes what a poll found. The number of its batch; `None` when things have changed since its
    /// plan was made, and it must look again.
    pub(crate) fn take(&mut self, found: &Found, now_ms: u64) -> Option<u64> {
        let known = |number: &u64| self.on_the_way.iter().any(|batch| batch.number == *number);
        if found.turn != self.turn
            || found.back > self.back.len()
            || !found.overdue.iter().all(known)
        {
            return None;
        }
        self.turn += 1;
        self.back.drain(..found.back);
        self.back.extend(found.rest.iter().copied());
        self.back.sort_unstable();
        self.on_the_way
            .retain(|batch| !found.overdue.contains(&batch.number));
        self.heads.extend(found.heads.iter().copied());
        self.done.extend(found.done.iter().copied());
        if !found.stretches.is_empty() {
            self.on_the_way.push(Batch {
                number: self.turn,
                stretches: found.stretches.clone(),
                at_ms: now_ms,
                request: found.request,
            });
        }
        Some(self.turn)
    }

    /// The connection took a batch. False when it is not on its way any more.
    pub(crate) fn confirm(&mut self, number: u64) -> bool {
        let before = self.on_the_way.len();
        self.on_the_way.retain(|batch| batch.number != number);
        self.on_the_way.len() < before
    }

    /// A batch was not taken: the next poll gets it. False when it is not on its way any more.
    pub(crate) fn come_back(&mut self, number: u64) -> bool {
        let Some(at) = self
            .on_the_way
            .iter()
            .position(|batch| batch.number == number)
        else {
            return false;
        };
        let batch = self.on_the_way.remove(at);
        self.back.extend(batch.stretches);
        self.back.sort_unstable();
        // Stretches that touch are one: a reader that is cut again and again keeps few.
        self.back.dedup_by(|next, one| {
            let touches = next.job == one.job && next.after <= one.up_to;
            if touches {
                one.up_to = one.up_to.max(next.up_to);
            }
            touches
        });
        self.turn += 1;
        true
    }

    /// Forgets jobs that are not there any more.
    pub(crate) fn keep(&mut self, jobs: &[u64]) {
        self.heads.retain(|job, _| jobs.contains(job));
        self.done.retain(|job| jobs.contains(job));
    }

    /// Whether a job has a place.
    pub(crate) fn knows(&self, job: u64) -> bool {
        self.heads.contains_key(&job)
    }
}

#[cfg(test)]
mod tests;
