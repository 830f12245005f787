//! What becomes of a job: commands and deadlines, decided with the time as an argument.
//!
//! Every status is one `job_status` event in the job's topic, in the same commit as the job's new
//! state. Secrets (credentials, codes, card data) stand in records beside it, never in events, and
//! are removed by the commit that ends the job at the latest.

use std::sync::Arc;

use serde_json::{Value, json};
use tidings_adapter::{
    Attributes, Decision, Dedup, Draft, RecordKey, RecordKind, State as Records, Trigger,
};

use super::answers::Answers;
use super::ask::{Ask, Change, Content, Publish, Refusal, Said};
use super::state::{Job, Request, Secrets, ms};
use super::{index, status, to_json};
use crate::keys;
use crate::messages::Reader;
use crate::options::Settings;

/// The kind of the events in a job's topic.
pub(crate) const JOB_STATUS: &str = "job_status";

/// Requests that are open at a time. Clients are shown one; more than one of each type would be a
/// virtual browser gone wild.
const REQUESTS_MAX: usize = 4;

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
            (Trigger::Command(body), job) => match serde_json::from_slice(body) {
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
        let lifetime = std::time::Duration::from_millis(rest.max(1));
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

    fn is_an_agents(&self, change: &Change) -> Result<(), Refusal> {
        let theirs = Change {
            status: change.status.clone(),
            custom_data: change.custom_data.clone(),
            ..Change::default()
        };
        let status = change.status.as_deref();
        if theirs == *change && status.is_none_or(status::is_an_agents) {
            Ok(())
        } else {
            Err(Refusal::NotAnAgents)
        }
    }

    /// Applies a change, and tells of it.
    fn change(
        &self,
        job: &mut Job,
        change: Change,
        envelope: String,
        publish: &Publish,
        decision: &mut Decision,
    ) {
        let told = change.is_told();
        if let Some(data) = change.custom_data {
            job.custom_data = data;
        }
        if !told {
            return;
        }
        let ends_as = change.termination_type.as_deref();
        let named = change.status.clone();
        let named = named.or_else(|| ends_as.and_then(status::of_termination).map(str::to_owned));
        let mut status = named.unwrap_or_else(|| job.status.clone());
        let announces = status::asks_for(&status);
        let quiet = job.open_requests(self.now_ms).next().is_none();
        if announces.is_some() && ends_as.is_none() && quiet && job.answers > 0 {
            // It was answered before it was announced: whoever reads this status now would look for
            // a request that is gone.
            return;
        }
        let mut words = change.status_message;
        if let Some(end) = self.count_failures(job, &status) {
            (status, words) = (end.to_owned(), None);
        }
        if status != job.status {
            job.status_message = status::phrase(&status);
            job.termination_status_message = None;
        }
        if let Some(words) = words {
            job.status_message = words;
        }
        if change.termination_status_message.is_some() {
            job.termination_status_message = change.termination_status_message;
        }
        if let Some(share) = change.percent {
            // Clients take 100 for the end.
            job.percent = share.min(99.0);
        }
        job.auth_percent = change.auth_percent.unwrap_or(job.auth_percent);
        if let Some(time) = change.job_timeout {
            let unit = self.settings.timers.job_timeout_unit.in_ms();
            job.timeout = self.now_ms.saturating_add(time.saturating_mul(unit));
            job.asked_until = None;
        }
        let moves_on = job.status.starts_with("PENDING") && !status.starts_with("PENDING");
        if job.started.is_none() && status::is_started(&status) {
            job.started = Some(self.now_ms);
        }
        job.status = status;
        let termination = change.termination_type.or_else(|| {
            let known = status::termination(&job.status);
            known.map(str::to_owned)
        });
        if let Some(termination) = termination {
            self.finish(job, termination, publish, decision);
            return;
        }
        if moves_on {
            // Nobody waits for an answer any more.
            job.requests.clear();
            self.settle(job);
        } else if let Some(kind) = announces.filter(|_| quiet)
            && job.open_requests(self.now_ms).next().is_none()
        {
            // Clients look for the request as soon as they see the status.
            let (message, account_link) = usual(&job.status, kind);
            // There is room: none is open.
            let _ = self.open(
                job,
                envelope,
                (kind.to_owned(), message, account_link),
                decision,
            );
        }
        self.tell(job, publish, decision);
    }

    /// Counts failed logins and codes by the statuses that follow them; the status that it ends
    /// with when there were too many.
    fn count_failures(&self, job: &mut Job, status: &str) -> Option<&'static str> {
        let timers = &self.settings.timers;
        let again = job.status != status;
        match status {
            "PENDING_NEWCREDS" if again => {
                job.login_failures += 1;
                (job.login_failures >= timers.login_failures).then_some("TOO_MANY_LOGIN_FAILURES")
            }
            "PENDING_TFA" if again && job.tfa_answered => {
                job.tfa_failures += 1;
                job.tfa_answered = false;
                (job.tfa_failures >= timers.tfa_failures).then_some("TOO_MANY_TFA_FAILURES")
            }
            "PENDING_TFA" | "TFA_RECEIVED" | "TFA_SUBMITTED" => None,
            // The code was good: if there is another one later, it is for something else.
            _ => {
                job.tfa_answered = false;
                None
            }
        }
    }

    fn finish_as(&self, job: &mut Job, end: &str, decision: &mut Decision) {
        job.status = end.to_owned();
        job.status_message = status::phrase(end);
        let termination = status::termination(end).unwrap_or("PROCESS_FAILURE");
        self.finish(job, termination.to_owned(), &Publish::default(), decision);
    }

    /// Ends a job: its status is set, the rest follows.
    fn finish(
        &self,
        job: &mut Job,
        termination: String,
        publish: &Publish,
        decision: &mut Decision,
    ) {
        job.termination_type = Some(termination);
        job.percent = 100.0;
        job.completed = Some(self.now_ms);
        job.requests.clear();
        self.settle(job);
        job.answers = 0;
        decision.puts.clear();
        decision.remove(keys::secrets(self.id));
        decision.remove(keys::answers(self.id));
        self.begin_hook(job, decision);
        self.tell(job, publish, decision);
    }

    /// One `job_status` event.
    fn tell(&self, job: &Job, publish: &Publish, decision: &mut Decision) {
        let event = json!({
            "type": JOB_STATUS,
            "job_id": self.id,
            "message": job.message(&self.settings.timers, self.now_ms),
        });
        let topic = keys::topic(&keys::job_key(self.id));
        let mut draft = Draft::new(topic, JOB_STATUS, event.to_string());
        draft.dedup = publish
            .dedup
            .as_ref()
            .map(|(scope, key, lifetime_ms)| Dedup {
                scope: scope.clone(),
                key: key.clone(),
                lifetime_ms: *lifetime_ms,
            });
        if publish.trace_parent.is_some() {
            draft.attributes = Some(Box::new(Attributes {
                trace_parent: publish.trace_parent.clone(),
                trace_state: publish.trace_state.clone(),
                ..Attributes::default()
            }));
        }
        decision.publish(draft);
    }

    /// Opens a request. One of the same type that is open is replaced.
    fn open(
        &self,
        job: &mut Job,
        envelope: String,
        (kind, message, account_link): (String, Value, Vec<Value>),
        decision: &mut Decision,
    ) -> Result<(), Refusal> {
        job.requests
            .retain(|one| one.kind != kind && one.until > self.now_ms);
        if job.requests.len() >= REQUESTS_MAX {
            return Err(Refusal::TooManyRequests);
        }
        let patience = job.patience(&self.settings.timers, &kind);
        let until = self.now_ms.saturating_add(patience);
        // The time that the user is given is not the job's.
        let from = job.asked_until.unwrap_or(self.now_ms).max(self.now_ms);
        job.timeout = job.timeout.saturating_add(until.saturating_sub(from));
        job.asked_until = Some(until.max(from));
        // Row 8 without an account's id finds the job by it.
        let lead = index::Ask::Lead { number: self.id };
        decision.command(index::command(&keys::envelope_index(&envelope), &lead));
        job.requests.push(Request {
            envelope,
            kind,
            message,
            account_link,
            until,
        });
        Ok(())
    }

    /// When nothing is asked any more, the job does not keep the time that its user did not use.
    fn settle(&self, job: &mut Job) {
        if job.requests.is_empty()
            && let Some(until) = job.asked_until.take()
        {
            let unused = until.saturating_sub(self.now_ms);
            job.timeout = job.timeout.saturating_sub(unused).max(self.now_ms);
        }
    }

    fn answer(
        &self,
        job: &mut Job,
        envelope: &str,
        kind: Option<String>,
        content: Content,
        decision: &mut Decision,
    ) -> Result<(), Stop> {
        let open = |one: &Request| one.envelope == envelope && one.until > self.now_ms;
        let at = job
            .requests
            .iter()
            .position(open)
            .ok_or(Refusal::NoEnvelope)?;
        let mut answers: Answers = self.get(&keys::answers(self.id))?.unwrap_or_default();
        let asked_for_code = job
            .requests
            .get(at)
            .is_some_and(|one| status::is_code(&one.kind));
        if !asked_for_code && let Some(link) = &content.account_link {
            self.credentials(job, link.clone(), decision)?;
        }
        let request = job.requests.remove(at);
        job.tfa_answered |= asked_for_code;
        let kind = kind.unwrap_or_else(|| match request.kind.strip_suffix("_request") {
            Some(stem) => format!("{stem}_response"),
            None => request.kind.clone(),
        });
        answers.push(envelope, kind, content);
        job.answers = answers.len();
        self.settle(job);
        self.put_answers(job, &answers, decision);
        Ok(())
    }

    fn credentials(
        &self,
        job: &mut Job,
        account_link: serde_json::Map<String, Value>,
        decision: &mut Decision,
    ) -> Result<(), Stop> {
        let mut secrets: Secrets = self.get(&keys::secrets(self.id))?.unwrap_or_default();
        secrets.account_link.extend(account_link);
        job.had_credentials |= !secrets.account_link.is_empty();
        // An answer of 4 KiB fifteen times over: more names than any site has.
        if secrets.account_link.len() > 64 || to_json(&secrets).len() > 60 * 1024 {
            return Err(Refusal::Nonsense.into());
        }
        job.updated = self.now_ms;
        self.put_secrets(job, &secrets, decision);
        Ok(())
    }

    fn take(&self, envelope: &str) -> Result<Decision, Stop> {
        let key = keys::answers(self.id);
        let mut answers: Answers = self.get(&key)?.unwrap_or_default();
        if !answers.take(envelope, self.now_ms) {
            return Err(Refusal::NoAnswer.into());
        }
        let mut decision = said(Said::Yes);
        decision.put(
            key,
            to_json(&answers),
            Some(self.settings.timers.retention.0),
        );
        Ok(decision)
    }

    fn taken(&self, before: Job, envelope: &str, arrived: bool) -> Result<Decision, Stop> {
        let key = keys::answers(self.id);
        let mut answers: Answers = self.get(&key)?.unwrap_or_default();
        if !answers.settle(envelope, arrived) {
            return Ok(said(Said::Yes));
        }
        let mut decision = said(Said::Yes);
        let mut job = before.clone();
        job.answers = answers.len();
        self.save(&before, &mut job, &mut decision);
        if answers.len() == 0 {
            decision.remove(key);
        } else {
            self.put_answers(&job, &answers, &mut decision);
        }
        Ok(decision)
    }

    fn put_answers(&self, job: &Job, answers: &Answers, decision: &mut Decision) {
        let lifetime = self.secret_for(job);
        decision.put(keys::answers(self.id), to_json(answers), Some(lifetime));
    }

    fn put_secrets(&self, job: &Job, secrets: &Secrets, decision: &mut Decision) {
        let lifetime = self.secret_for(job);
        decision.put(keys::secrets(self.id), to_json(secrets), Some(lifetime));
    }

    /// Secrets go with the job's end; and if that never comes, some time after it should have.
    fn secret_for(&self, job: &Job) -> std::time::Duration {
        let rest = job.timeout.saturating_sub(self.now_ms);
        std::time::Duration::from_millis(rest) + self.settings.timers.retention.0
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

/// What is asked when a status says that something is asked and nobody said what.
fn usual(status: &str, kind: &str) -> (Value, Vec<Value>) {
    let field = |name: &str, label: &str, secret: bool| json!({"key_name": name, "label": label, "secret": secret});
    let fields = match (kind, status) {
        ("tfa_request", _) => vec![field("tfa", "One-time code", false)],
        (_, "PENDING_CREDS" | "PENDING_NEWCREDS") => vec![
            field("username", "Username", false),
            field("password", "Password", true),
        ],
        _ => Vec::new(),
    };
    (status::phrase(status).into(), fields)
}

#[cfg(test)]
mod tests;
