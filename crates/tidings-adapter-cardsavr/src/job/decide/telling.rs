//! What is said of a job: its status moves, its end follows, and each time one event tells of it.

use serde_json::{Value, json};
use tidings_adapter::{Attributes, Decision, Dedup, Draft};

use super::{Desk, JOB_STATUS};
use crate::job::ask::{Change, Publish, Refusal};
use crate::job::state::Job;
use crate::job::status;
use crate::keys;

impl Desk<'_> {
    pub(super) fn is_an_agents(&self, change: &Change) -> Result<(), Refusal> {
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
    pub(super) fn change(
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
    pub(super) fn count_failures(&self, job: &mut Job, status: &str) -> Option<&'static str> {
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

    pub(super) fn finish_as(&self, job: &mut Job, end: &str, decision: &mut Decision) {
        job.status = end.to_owned();
        job.status_message = status::phrase(end);
        let termination = status::termination(end).unwrap_or("PROCESS_FAILURE");
        self.finish(job, termination.to_owned(), &Publish::default(), decision);
    }

    /// Ends a job: its status is set, the rest follows.
    pub(super) fn finish(
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
    pub(super) fn tell(&self, job: &Job, publish: &Publish, decision: &mut Decision) {
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
