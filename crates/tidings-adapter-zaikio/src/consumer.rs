//! Ack consumers: what each has seen to, durably.
//!
//! A consumer is an app, an organisation and a name. For each event name it holds a place up to which
//! everything is settled, and beyond it *runs*: stretches in which every event of that name is acked.
//! A run knows the place before its first event, so that runs grow together when the hole between
//! them is acked: what is stored grows with the number of holes, never with the number of acks. One
//! event that nobody acks costs one hole, however many are acked after it.
//!
//! At most [`RUNS_MAX`] holes are kept for one consumer (a record has 64 KiB). An ack that would make
//! one more is refused, in words, rather than forgotten or taken for more than it says. Holes close by
//! themselves when retention takes the events in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_adapter::{
    Command, Decision, EventId, RecordKey, RecordKind, State as Records, Topic, Trigger,
};

use crate::options::NAMES_PER_APP_MAX;

/// The record kind's name.
const KIND: &str = "zaikio.consumer";

/// Runs of one consumer: 36 bytes each at most, beside 200 names of 100 bytes, stay below 64 KiB.
pub(crate) const RUNS_MAX: usize = 1_000;

/// Older than this is settled: retention is an hour, and clocks may differ.
const SETTLED: Duration = Duration::from_secs(2 * 3600);

/// A record that is used is written again after this, so that its lifetime begins anew.
const TOUCHED: Duration = Duration::from_secs(24 * 3600);

/// Bytes of a consumer's name; a record's id has 512 for the app, the organisation and it.
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// Everything that is stored of a consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// When it was last written because it was used, milliseconds since 1970.
    #[serde(default)]
    touched: u64,
    /// By event name.
    #[serde(default)]
    names: BTreeMap<Arc<str>, Progress>,
}

/// How far one event name is settled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub(crate) struct Progress {
    /// Everything up to here is settled.
    to: u64,
    /// In order, apart from each other, all after `to`.
    runs: Vec<Run>,
}

/// A stretch in which every event of the name is acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// No event of the name lies between this place and the first.
    after: u64,
    first: u64,
    last: u64,
}

/// One ack: an event of a name, and a place after which it is the first of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ack {
    pub(crate) name: Arc<str>,
    pub(crate) offset: u64,
    pub(crate) after: u64,
}

impl Progress {
    fn covers(&self, offset: u64) -> bool {
        let run = self.runs.partition_point(|run| run.last < offset);
        offset <= self.to || self.runs.get(run).is_some_and(|run| run.first <= offset)
    }

    /// Everything up to a place is settled.
    fn settle(&mut self, to: u64) {
        self.to = self.to.max(to);
        self.join();
    }

    fn ack(&mut self, offset: u64, after: u64) {
        if self.covers(offset) {
            return;
        }
        let at = self.runs.partition_point(|run| run.first < offset);
        self.runs.insert(
            at,
            Run {
                after: after.min(offset.saturating_sub(1)),
                first: offset,
                last: offset,
            },
        );
        self.join();
    }

    /// Joins what touches.
    fn join(&mut self) {
        let mut joined: Vec<Run> = Vec::with_capacity(self.runs.len());
        for run in self.runs.drain(..) {
            let reached = joined.last().map_or(self.to, |last| last.last);
            if run.after > reached && run.first > reached {
                joined.push(run);
                continue;
            }
            match joined.last_mut() {
                Some(last) => last.last = last.last.max(run.last),
                None => self.to = self.to.max(run.last),
            }
        }
        self.runs = joined;
    }
}

/// `[to, after, first, last, …]`, each as the difference to the one before it.
impl From<Progress> for Vec<u64> {
    fn from(progress: Progress) -> Self {
        let mut numbers = vec![progress.to];
        let mut before = progress.to;
        for run in progress.runs {
            for number in [run.after, run.first, run.last] {
                numbers.push(number.saturating_sub(before));
                before = number;
            }
        }
        numbers
    }
}

impl From<Vec<u64>> for Progress {
    fn from(numbers: Vec<u64>) -> Self {
        let (to, rest) = numbers
            .split_first()
            .map_or((0, &[][..]), |(to, rest)| (*to, rest));
        let mut before = to;
        let runs = rest.chunks_exact(3).map(|run| {
            let after = before.saturating_add(run[0]);
            let first = after.saturating_add(run[1]);
            before = first.saturating_add(run[2]);
            Run {
                after,
                first,
                last: before,
            }
        });
        let runs = runs.collect();
        Self { to, runs }
    }
}

impl State {
    /// What an answer or a document says.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Whether an event is settled: acked, or from before the consumer wanted its name.
    pub(crate) fn is_settled(&self, name: &str, id: EventId) -> bool {
        self.names
            .get(name)
            .is_none_or(|progress| progress.covers(id.as_integer()))
    }

    /// The place up to which everything of a name is settled.
    pub(crate) fn settled_to(&self, name: &str) -> Option<EventId> {
        EventId::from_integer(self.names.get(name)?.to)
    }

    fn runs(&self) -> usize {
        self.names
            .values()
            .map(|progress| progress.runs.len())
            .sum()
    }

    /// Forgets what retention has taken.
    fn age(&mut self, now_ms: u64) {
        let settled = u64::try_from(SETTLED.as_millis()).unwrap_or(u64::MAX);
        let floor = EventId::before_ms(now_ms.saturating_sub(settled)).as_integer();
        for progress in self.names.values_mut() {
            progress.settle(floor);
        }
    }
}

/// What is asked of a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// It wants these names: from `head` on those that are new to it. Answered by its [`State`].
    Enrol { names: Vec<Arc<str>>, head: u64 },
    /// These events are acked, and everything of these names up to a place. Answered by [`Acked`].
    Ack {
        events: Vec<Ack>,
        up_to: Vec<(Arc<str>, u64)>,
    },
    /// How it stands. Answered by its [`State`].
    Look,
}

/// What became of acks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acked {
    /// Offsets that are not taken: too many holes.
    pub(crate) refused: Vec<u64>,
}

/// The command for a consumer of an organisation.
pub(crate) fn command(topic: &Topic, app: &str, consumer: &str, ask: &Ask) -> Command {
    Command {
        kind: KIND.into(),
        placement_key: topic.as_str().into(),
        // Neither a topic nor an app's name holds a line feed.
        records: vec![RecordKey::new(KIND, format!("{topic}\n{app}\n{consumer}"))],
        body: serde_json::to_vec(ask).unwrap_or_default().into(),
    }
}

/// Decides what becomes of consumers.
#[derive(Debug)]
pub(crate) struct Consumers {
    /// How long one lives that nobody uses.
    pub(crate) lifetime: Duration,
}

impl RecordKind for Consumers {
    fn name(&self) -> &'static str {
        KIND
    }

    fn decide(&self, records: &Records<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, records.first()) else {
            return Decision::default();
        };
        let Ok(ask) = serde_json::from_slice::<Ask>(body) else {
            return Decision::default();
        };
        let before = document
            .and_then(|text| State::parse(text))
            .unwrap_or_default();
        let mut state = before.clone();
        let (answer, uses) = match ask {
            Ask::Look => (None, false),
            Ask::Enrol { names, head } => {
                for name in names {
                    if state.names.len() < 2 * NAMES_PER_APP_MAX {
                        let new = || Progress {
                            to: head,
                            runs: Vec::new(),
                        };
                        state.names.entry(name).or_insert_with(new);
                    }
                }
                (None, true)
            }
            Ask::Ack { events, up_to } => {
                let acked = take(&mut state, events, up_to, now_ms);
                (serde_json::to_vec(&acked).ok(), false)
            }
        };
        let touched = u64::try_from(TOUCHED.as_millis()).unwrap_or(u64::MAX);
        let changed = state != before;
        let mut decision = Decision::default();
        if changed || (uses && now_ms.saturating_sub(state.touched) > touched) {
            state.touched = now_ms;
            state.age(now_ms);
            let document = serde_json::to_vec(&state).unwrap_or_default();
            decision.put(key.clone(), document, Some(self.lifetime));
        }
        decision.answer = answer
            .or_else(|| serde_json::to_vec(&state).ok())
            .unwrap_or_default()
            .into();
        decision
    }
}

fn take(state: &mut State, events: Vec<Ack>, up_to: Vec<(Arc<str>, u64)>, now_ms: u64) -> Acked {
    let mut acked = Acked::default();
    for (name, to) in up_to {
        if let Some(progress) = state.names.get_mut(&name) {
            progress.settle(to);
        }
    }
    let mut runs = state.runs();
    for ack in events {
        let Some(progress) = state.names.get_mut(&ack.name) else {
            continue; // nothing of this name is owed
        };
        let before = progress.clone();
        progress.ack(ack.offset, ack.after);
        let runs_now = runs + progress.runs.len() - before.runs.len();
        if runs_now <= RUNS_MAX || runs_now <= runs {
            runs = runs_now;
            continue;
        }
        // What retention took may make room.
        *progress = before;
        state.age(now_ms);
        runs = state.runs();
        match state.names.get_mut(&ack.name) {
            Some(progress) if runs < RUNS_MAX => progress.ack(ack.offset, ack.after),
            _ => acked.refused.push(ack.offset),
        }
        runs = state.runs();
    }
    acked
}

#[cfg(test)]
mod tests;
