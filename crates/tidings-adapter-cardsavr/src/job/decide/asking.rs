//! What a job's user is asked and answers, and what the virtual browser fetches of it.

use std::time::Duration;

use serde_json::{Map, Value};
use tidings_adapter::Decision;

use super::{Desk, Stop, said};
use crate::job::answers::Answers;
use crate::job::ask::{Content, Refusal, Said};
use crate::job::state::{Job, Request, Secrets};
use crate::job::{index, status, to_json};
use crate::keys;

/// Requests that are open at a time. Clients are shown one; more than one of each type would be a
/// virtual browser gone wild.
const REQUESTS_MAX: usize = 4;

impl Desk<'_> {
    /// Opens a request. One of the same type that is open is replaced.
    pub(super) fn open(
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
    pub(super) fn settle(&self, job: &mut Job) {
        if job.requests.is_empty()
            && let Some(until) = job.asked_until.take()
        {
            let unused = until.saturating_sub(self.now_ms);
            job.timeout = job.timeout.saturating_sub(unused).max(self.now_ms);
        }
    }

    pub(super) fn answer(
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

    pub(super) fn credentials(
        &self,
        job: &mut Job,
        account_link: Map<String, Value>,
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

    pub(super) fn take(&self, envelope: &str) -> Result<Decision, Stop> {
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

    pub(super) fn taken(
        &self,
        before: Job,
        envelope: &str,
        arrived: bool,
    ) -> Result<Decision, Stop> {
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

    pub(super) fn put_answers(&self, job: &Job, answers: &Answers, decision: &mut Decision) {
        let lifetime = self.secret_for(job);
        decision.put(keys::answers(self.id), to_json(answers), Some(lifetime));
    }

    pub(super) fn put_secrets(&self, job: &Job, secrets: &Secrets, decision: &mut Decision) {
        let lifetime = self.secret_for(job);
        decision.put(keys::secrets(self.id), to_json(secrets), Some(lifetime));
    }

    /// Secrets go with the job's end; and if that never comes, some time after it should have.
    pub(super) fn secret_for(&self, job: &Job) -> Duration {
        let rest = job.timeout.saturating_sub(self.now_ms);
        Duration::from_millis(rest) + self.settings.timers.retention.0
    }
}
