//! Readers: an access key's, and a session's for a job or a cardholder. Each is one small record.
//!
//! A reader dies when nobody used it for the retention, or so long after its job's end. That it was
//! used is written with what it was given, and else at most every [`TOUCHED_MS`], so that a poll
//! that finds nothing costs no commit.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tidings_adapter::{Command, Decision, RecordKey, RecordKind, State, Trigger};

use super::places::{Found, Places};
use crate::job::{Job, ms, to_json};
use crate::keys;
use crate::options::{Settings, Timers};

/// A reader that was used is written again after this, and lives so much longer than it must.
pub(crate) const TOUCHED_MS: u64 = 50_000;

/// A reader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reader {
    /// Whose it is.
    pub(crate) user: u64,
    pub(crate) app: String,
    /// When it was last written because it was used, milliseconds since 1970.
    used: u64,
    /// When it ends because its job has ended; of a reader of one job.
    ends: Option<u64>,
    pub(crate) places: Places,
}

impl Reader {
    /// One that begins at these places.
    pub(crate) fn fresh(
        user: u64,
        app: &str,
        now_ms: u64,
        heads: impl IntoIterator<Item = (u64, u64)>,
    ) -> Self {
        Self {
            user,
            app: app.to_owned(),
            used: now_ms,
            ends: None,
            places: Places::at(heads),
        }
    }

    pub(crate) fn parse(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok()
    }

    /// How long its record lives after it was written.
    pub(crate) fn lifetime(timers: &Timers) -> Duration {
        timers.retention.0 + Duration::from_millis(TOUCHED_MS)
    }

    pub(crate) fn is_alive(&self, timers: &Timers, now_ms: u64) -> bool {
        let idle = now_ms.saturating_sub(self.used);
        idle < ms(Self::lifetime(timers)) && self.ends.is_none_or(|ends| now_ms < ends)
    }

    pub(crate) fn is_to_be_touched(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.used) >= TOUCHED_MS
    }
}

/// Where a reader stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) placement_key: Arc<str>,
    pub(crate) record: RecordKey,
}

impl Seat {
    /// An access key's.
    pub(crate) fn of_key(job: u64, access_key: &str) -> Self {
        Self {
            placement_key: keys::job_key(job).into(),
            record: keys::access_key(job, &hash(access_key)),
        }
    }

    /// A session's own, for a job (row 14).
    pub(crate) fn of_session(job: u64, session: &str) -> Self {
        Self {
            placement_key: keys::job_key(job).into(),
            record: keys::session_reader(job, session),
        }
    }

    /// A session's own, for a cardholder (row 13).
    pub(crate) fn of_cardholder(cardholder: u64, session: &str) -> Self {
        Self {
            placement_key: keys::cardholder_key(cardholder).into(),
            record: keys::cardholder_reader(cardholder, session),
        }
    }

    pub(crate) fn command(&self, ask: &Ask) -> Command {
        Command {
            kind: keys::KEY.into(),
            placement_key: self.placement_key.clone(),
            records: vec![self.record.clone()],
            body: to_json(ask).into(),
        }
    }
}

/// The hash of a secret text, in hex: half of SHA-256, as long as the secrets themselves.
pub(crate) fn hash(secret: &str) -> String {
    let hash = digest(&SHA256, secret.as_bytes());
    let half = hash.as_ref().iter().take(16);
    half.map(|byte| format!("{byte:02x}")).collect()
}

/// What is asked of a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Begin to read a job after a place, if it still runs. Answered by [`Said::Begun`] or
    /// [`Said::Over`].
    Register {
        job: u64,
        user: u64,
        app: String,
        place: u64,
        /// Begin all the same if the job is over: then its final message lies after the place.
        over: bool,
    },
    /// Hand out what was found; a session's reader begins with this.
    Take {
        user: u64,
        app: String,
        found: Found,
        /// The reader ends then, since its job has ended.
        ends: Option<u64>,
        /// The jobs that there are, for a cardholder's.
        jobs: Option<Vec<u64>>,
    },
    Confirm {
        batch: u64,
    },
    ComeBack {
        batch: u64,
    },
    Touch,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Begun,
    /// The job has ended: look for its final message.
    Over,
    /// There is no such job, or no such reader any more.
    Gone,
    /// Handed out, under this number.
    Handed(u64),
    /// Somebody else was faster: look again.
    Changed,
    Done,
}

impl Said {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// Decides what becomes of readers.
#[derive(Debug)]
pub(crate) struct Readers(pub(crate) Arc<Settings>);

impl RecordKind for Readers {
    fn name(&self) -> &'static str {
        keys::KEY
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let Ok(ask) = serde_json::from_slice::<Ask>(body) else {
            return Decision::default();
        };
        let timers = &self.0.timers;
        let reader = document
            .and_then(|text| Reader::parse(text))
            .filter(|reader| reader.is_alive(timers, now_ms));
        let (reader, words) = match (ask, reader) {
            (
                Ask::Register {
                    job,
                    user,
                    app,
                    place,
                    over,
                },
                _,
            ) => {
                let job_key = keys::job(job);
                let Some(record) = state.get(&job_key) else {
                    return Decision::load(job_key);
                };
                match record.and_then(|text| Job::kept(text, timers, now_ms)) {
                    None => return said(&Said::Gone),
                    Some(job) if job.is_over() && !over => return said(&Said::Over),
                    Some(job) => {
                        let mut reader = Reader::fresh(user, &app, now_ms, [(job.id, place)]);
                        let retention = ms(timers.retention.0);
                        reader.ends = job.completed.map(|at| at.saturating_add(retention));
                        (reader, Said::Begun)
                    }
                }
            }
            (
                Ask::Take {
                    user,
                    app,
                    found,
                    ends,
                    jobs,
                },
                reader,
            ) => {
                // An access key begins by registering; a session's reader when it is first used.
                let begins = jobs.is_some() || keys::is_session_reader(key);
                let fresh = || begins.then(|| Reader::fresh(user, &app, now_ms, []));
                let Some(mut reader) = reader.or_else(fresh) else {
                    return said(&Said::Gone);
                };
                let Some(batch) = reader.places.take(&found, now_ms) else {
                    return said(&Said::Changed);
                };
                if let Some(jobs) = jobs {
                    reader.places.keep(&jobs);
                }
                reader.used = now_ms;
                reader.ends = ends.or(reader.ends);
                (reader, Said::Handed(batch))
            }
            (_, None) => return said(&Said::Gone),
            (Ask::Confirm { batch }, Some(mut reader)) => {
                if !reader.places.confirm(batch) {
                    return said(&Said::Done);
                }
                (reader, Said::Done)
            }
            (Ask::ComeBack { batch }, Some(mut reader)) => {
                if !reader.places.come_back(batch) {
                    return said(&Said::Done);
                }
                (reader, Said::Done)
            }
            (Ask::Touch, Some(mut reader)) => {
                if !reader.is_to_be_touched(now_ms) {
                    return said(&Said::Done);
                }
                reader.used = now_ms;
                (reader, Said::Done)
            }
        };
        let mut decision = said(&words);
        let rest = reader.used.saturating_add(ms(Reader::lifetime(timers)));
        let rest = reader.ends.map_or(rest, |ends| rest.min(ends));
        let rest = Duration::from_millis(rest.saturating_sub(now_ms).max(1));
        decision.put(key.clone(), to_json(&reader), Some(rest));
        decision
    }
}

fn said(words: &Said) -> Decision {
    Decision::answer(to_json(words))
}

#[cfg(test)]
mod tests;
