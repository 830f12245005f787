//! What becomes of a job: commands and deadlines, decided with the time as an argument.
//!
//! Every status is one `job_status` event in the job's topic, in the same commit as the job's new
//! state. Secrets (credentials, codes, card data) stand in records beside it, never in events, and
//! are removed by the commit that ends the job at the latest.

mod asking;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::{Decision, RecordKey, RecordKind, State as Records, Trigger};

use super::ask::{Ask, Refusal, Said};
use super::state::{Job, Secrets, ms};
use super::{status, to_json};
use crate::errors::Refused;
use crate::keys;
use crate::messages::Reader;
use crate::options::Settings;

/// The kind of the events in a job's topic.
pub(crate) const JOB_STATUS: &str = "job_status";

/// Names of a job's deadlines.
const OVERDUE: &str = "job";
const UNANSWERED: &str = "ask";
pub(super) const HOOK: &str = "hook";

/// Decides what becomes of jobs.
#[derive(Debug)]
pub(crate) struct Jobs(pub(crate) Arc<Settings>);

/// Why a decision ends early.
pub(super) enum Stop {
    Load(RecordKey),
    Refuse(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// One decision under way.
pub(super) struct Desk<'a> {
    pub(super) settings: &'a Settings,
    records: Records<'a>,
    pub(super) id: u64,
    pub(super) now_ms: u64,
}

impl RecordKind for Jobs {
    fn name(&self) -> &'static str {
        keys::JOB
    }

    fn decide(&self, records: &Records<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let Some((key, document)) = records.first() else {
            return Decision::default();
        };
        let Ok(id) = key.id.parse() else {
            return said(Said::No(Refusal::Nonsense));
        };
        let desk = Desk {
            settings: &self.0,
            records: *records,
            id,
            now_ms,
        };
        let timers = &self.0.timers;
        let job = document.and_then(|text| Job::kept(text, timers, now_ms));
        let decided = match (trigger, job) {
            (Trigger::Command(body), job) => match serde_json::from_slice::<Ask>(body) {
                Ok(ask) if ask.is_foreign() => desk.ask(ask, job).map(in_words).or_else(refused),
                Ok(ask) => desk.ask(ask, job),
                Err(_) => Err(Refusal::Nonsense.into()),
            },
            (Trigger::Deadline { name, .. }, Some(job)) => Ok(desk.passed(name, job)),
            _ => return Decision::default(),
        };
        match decided {
            Ok(decision) => decision,
            Err(Stop::Load(key)) => Decision::load(key),
            Err(Stop::Refuse(refusal)) => said(Said::No(refusal)),
        }
    }
}

/// The answer to a publisher of a draft whose event is not there: he reads it as it is.
fn in_words(mut decision: Decision) -> Decision {
    if decision.drafts.is_empty() && decision.loads.is_empty() {
        decision.answer = "the request was answered before it was announced".into();
    }
    decision
}

/// The same, when it is refused.
fn refused(stop: Stop) -> Result<Decision, Stop> {
    match stop {
        Stop::Refuse(refusal) => Ok(Decision::answer(Refused::from(refusal).message)),
        load @ Stop::Load(_) => Err(load),
    }
}

/// A decision that only answers.
pub(super) fn said(words: Said) -> Decision {
    Decision::answer(to_json(&words))
}

impl Desk<'_> {
    fn ask(&self, ask: Ask, job: Option<Job>) -> Result<Decision, Stop> {
        if let Ask::Create {
            job: new,
            secrets,
            key,
            place,
        } = ask
        {
            return match job {
                None => Ok(self.create(*new, &secrets, key, place)),
                Some(_) => Err(Refusal::Taken.into()),
            };
        }
        let before = job.ok_or(Refusal::NoJob)?;
        let mut job = before.clone();
        let mut decision = Decision::default();
        let running = || match before.is_over() {
            true => Err(Refusal::Over),
            false => Ok(()),
        };
        match ask {
            Ask::Create { .. } => {}
            Ask::Change {
                change,
                drives,
                envelope,
                publish,
            } => {
                running()?;
                if !drives {
                    self.is_an_agents(&change)?;
                }
                self.change(&mut job, *change, envelope, &publish, &mut decision);
            }
            Ask::Request {
                envelope,
                kind,
                message,
                account_link,
                announce,
                publish,
            } => {
                running()?;
                let about = (kind, message, account_link);
                self.open(&mut job, envelope.clone(), about, &mut decision)?;
                if let Some(change) = announce {
                    self.change(&mut job, *change, envelope, &publish, &mut decision);
                }
            }
            Ask::Answer {
                envelope,
                kind,
                content,
            } => {
                running()?;
                self.answer(&mut job, &envelope, kind, content, &mut decision)?;
            }
            Ask::Credentials { account_link } => {
                running()?;
                self.credentials(&mut job, account_link, &mut decision)?;
            }
            Ask::Take { envelope } => return self.take(&envelope),
            Ask::Taken { envelope, arrived } => return self.taken(job, &envelope, arrived),
            Ask::Hook { turn, step } => return Ok(self.hooked(job, turn, step)),
        }
        self.save(&before, &mut job, &mut decision);
        decision.answer = to_json(&Said::Job(Box::new(job))).into();
        Ok(decision)
    }

    fn create(&self, mut job: Job, secrets: &Secrets, key: Option<String>, place: u64) -> Decision {
        let mut decision = Decision::default();
        job.id = self.id;
        (job.created, job.updated) = (self.now_ms, self.now_ms);
        job.timeout = self.now_ms.saturating_add(ms(self.settings.timers.job.0));
        job.had_credentials = !secrets.account_link.is_empty();
        if *secrets != Secrets::default() {
            self.put_secrets(&job, secrets, &mut decision);
        }
        if let Some(key) = key {
            let reader = Reader::fresh(job.owner, &job.app, self.now_ms, [(self.id, place)]);
            let lifetime = Reader::lifetime(&self.settings.timers);
            decision.put(
                keys::access_key(self.id, &key),
                to_json(&reader),
                Some(lifetime),
            );
        }
        self.save(&Job::default(), &mut job, &mut decision);
        decision.answer = to_json(&Said::Job(Box::new(job))).into();
        decision
    }

    /// A deadline has passed.
    fn passed(&self, name: &str, before: Job) -> Decision {
        let mut job = before.clone();
        let mut decision = Decision::default();
        match name {
            HOOK => self.hook_is_due(&mut job, &mut decision),
            // It may have moved since.
            OVERDUE if !job.is_over() && job.timeout <= self.now_ms => {
                let status = if job.started.is_some() {
                    "VBS_TIMEOUT"
                } else {
                    "ABANDONED"
                };
                self.finish_as(&mut job, status, &mut decision);
            }
            UNANSWERED if !job.is_over() => {
                if let Some(late) = job.requests.iter().find(|one| one.until <= self.now_ms) {
                    let never = late.kind == "initial_account_link" && !job.had_credentials;
                    let status = match () {
                        () if never => "ABANDONED",
                        () if status::is_code(&late.kind) => "TIMEOUT_TFA",
                        () => "TIMEOUT_CREDENTIALS",
                    };
                    self.finish_as(&mut job, status, &mut decision);
                }
            }
            _ => {}
        }
        if !job.is_over() {
            // What fired is gone: what still stands is set anew.
            self.set(OVERDUE, Some(job.timeout), &mut decision);
            self.set(UNANSWERED, first_until(&job), &mut decision);
        }
        self.save(&before, &mut job, &mut decision);
        decision
    }

    /// Writes what has changed, and moves deadlines along.
    pub(super) fn save(&self, before: &Job, job: &mut Job, decision: &mut Decision) {
        if job == before {
            return;
        }
        job.updated = self.now_ms;
        let retention = self.settings.timers.retention.0;
        let rest = match job.completed {
            Some(at) => at.saturating_add(ms(retention)).saturating_sub(self.now_ms),
            // It ends by its deadline before that.
            None => job
                .timeout
                .saturating_sub(self.now_ms)
                .saturating_add(ms(retention)),
        };
        let lifetime = Duration::from_millis(rest.max(1));
        decision.put(keys::job(self.id), job.document(), Some(lifetime));
        if job.is_over() {
            if !before.is_over() {
                self.set(OVERDUE, None, decision);
                self.set(UNANSWERED, None, decision);
            }
            return;
        }
        if job.timeout != before.timeout {
            self.set(OVERDUE, Some(job.timeout), decision);
        }
        if first_until(job) != first_until(before) {
            self.set(UNANSWERED, first_until(job), decision);
        }
    }

    pub(super) fn set(&self, name: &str, at_ms: Option<u64>, decision: &mut Decision) {
        let record = keys::job(self.id);
        decision.deadlines.retain(|one| &*one.name != name);
        match at_ms {
            Some(at_ms) => decision.set_deadline(record, name, at_ms),
            None => decision.clear_deadline(record, name),
        }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, key: &RecordKey) -> Result<Option<T>, Stop> {
        match self.records.get(key) {
            Some(document) => Ok(document.and_then(|text| serde_json::from_slice(text).ok())),
            None => Err(Stop::Load(key.clone())),
        }
    }
}

/// When the next of its requests is too late to be answered.
fn first_until(job: &Job) -> Option<u64> {
    job.requests.iter().map(|one| one.until).min()
}

#[cfg(test)]
mod tests;
