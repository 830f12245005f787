//! The webhook: a job's end is posted (contract section 2.5), and again after 10, 20 and 40 s until
//! somebody takes it.
//!
//! The hub's own outbox calls do not say whether they were taken, so they cannot be tried again
//! later. Here the end of a job sets a deadline; when it fires, one event tells all instances, one
//! of them claims the turn in the job's record, posts, and commits what became of it. An instance
//! that dies with its turn is noticed by the same deadline, which stands until the turn is over. A
//! post whose answer was lost comes again: whoever takes them knows them by `job_id`.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Call, Decision, Delivery, Draft, From, Hub, Start, SubId};
use tokio::sync::Semaphore;

use super::ask::{Ask, Hooked, Refusal, Said};
use super::decide::{Desk, HOOK, said};
use super::state::{Job, iso};
use super::to_json;
use crate::crypto::authorization;
use crate::keys;
use crate::options::Webhook;

/// Pauses before the tries after the first, in milliseconds (contract section 2.5).
const PAUSES: [u64; 3] = [10_000, 20_000, 40_000];

/// How long one post may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a turn stands before it is given to somebody else: a post, and what is around it.
const TURN_MS: u64 = 30_000;

/// Posts of one instance at a time. A receiver that is slow holds up other ends, never the jobs.
const AT_ONCE: usize = 16;

/// How far a job's end has been posted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// Tries that failed.
    failed: u32,
    turn: u64,
    claimed: bool,
}

/// What instances are told.
#[derive(Debug, Serialize, Deserialize)]
struct Notice {
    job: u64,
    turn: u64,
}

impl Desk<'_> {
    /// A job has ended.
    pub(super) fn begin_hook(&self, job: &mut Job, decision: &mut Decision) {
        if self.settings.webhook.is_some() {
            job.hook = Some(Hook::default());
            self.set(HOOK, Some(self.now_ms), decision);
        }
    }

    /// It is somebody's turn to post it.
    pub(super) fn hook_is_due(&self, job: &mut Job, decision: &mut Decision) {
        let Some(mut hook) = job.hook else { return };
        if hook.claimed {
            // Whoever had the turn did not come back.
            hook.failed += 1;
        }
        if hook.failed as usize > PAUSES.len() {
            job.hook = None;
            return;
        }
        hook.turn += 1;
        hook.claimed = false;
        job.hook = Some(hook);
        self.set(HOOK, Some(self.now_ms.saturating_add(TURN_MS)), decision);
        let notice = Notice {
            job: self.id,
            turn: hook.turn,
        };
        let topic = keys::topic(keys::HOOKS);
        decision.publish_elsewhere(Draft::new(topic, "cardsavr.hook", to_json(&notice)));
    }

    /// What an instance says of its turn.
    pub(super) fn hooked(&self, before: Job, turn: u64, step: Hooked) -> Decision {
        let no = || said(Said::No(Refusal::Taken));
        let Some(mut hook) = before.hook.filter(|hook| hook.turn == turn) else {
            return no();
        };
        let mut job = before.clone();
        let mut decision = Decision::default();
        match step {
            Hooked::Claim if hook.claimed => return no(),
            Hooked::Claim => {
                hook.claimed = true;
                job.hook = Some(hook);
                self.set(
                    HOOK,
                    Some(self.now_ms.saturating_add(TURN_MS)),
                    &mut decision,
                );
            }
            Hooked::Delivered => {
                job.notified = true;
                job.hook = None;
                self.set(HOOK, None, &mut decision);
            }
            Hooked::Failed => match PAUSES.get(hook.failed as usize) {
                Some(pause) => {
                    hook.failed += 1;
                    // This turn is over: an instance that hears of it only now does not get it.
                    hook.turn += 1;
                    hook.claimed = false;
                    job.hook = Some(hook);
                    let again = self.now_ms.saturating_add(*pause);
                    self.set(HOOK, Some(again), &mut decision);
                }
                None => {
                    job.hook = None;
                    self.set(HOOK, None, &mut decision);
                }
            },
        }
        self.save(&before, &mut job, &mut decision);
        decision.answer = to_json(&Said::Job(Box::new(job))).into();
        decision
    }
}

/// Posts what ended, together with all other instances, until the hub stops.
pub(crate) async fn post_ends(hub: Hub, webhook: Webhook) {
    let mut reader = hub.reader();
    let topics = vec![keys::topic(keys::HOOKS)];
    if let Err(error) = reader.subscribe(SubId(0), topics, &Start::From(From::Newest)) {
        tracing::error!(?error, "ends of jobs cannot be followed");
        return;
    }
    let webhook = Arc::new(webhook);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Delivery::Events(_, batch) = reader.next().await else {
            continue;
        };
        for printed in &batch.events {
            let Ok(notice) = serde_json::from_slice::<Notice>(&printed.event().data) else {
                continue;
            };
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let (hub, webhook) = (hub.clone(), webhook.clone());
            tokio::spawn(async move {
                post(&hub, &webhook, &notice).await;
                drop(place);
            });
        }
    }
}

/// Takes a turn, if nobody else has.
async fn post(hub: &Hub, webhook: &Webhook, notice: &Notice) {
    let step = async |step| {
        let ask = Ask::Hook {
            turn: notice.turn,
            step,
        };
        let decided = hub
            .command(super::ask::command(notice.job, &ask))
            .await
            .ok()?;
        match serde_json::from_slice(&decided.answer) {
            Ok(Said::Job(job)) => Some(job),
            _ => None,
        }
    };
    let Some(job) = step(Hooked::Claim).await else {
        return;
    };
    let call = call(&job, webhook, hub.now().unix_ms);
    let taken = match hub.call(call).await {
        Ok(answer) if (200..300).contains(&answer.status) => true,
        Ok(answer) => {
            tracing::warn!(
                job = job.id,
                status = answer.status,
                "the webhook does not take it"
            );
            false
        }
        Err(error) => {
            tracing::warn!(job = job.id, %error, "the webhook is away");
            false
        }
    };
    // If this is not stored, the turn ends by its deadline, and the end is posted again.
    step(if taken {
        Hooked::Delivered
    } else {
        Hooked::Failed
    })
    .await;
}

/// The request: signed with the integrator's key over the full URL, `authorization`, `nonce` and
/// the body.
fn call(job: &Job, webhook: &Webhook, now_ms: u64) -> Call {
    let body = body(job).to_string();
    let name = authorization(&webhook.integrator.name);
    let nonce = now_ms.to_string();
    let parts = [
        webhook.url.as_bytes(),
        name.as_bytes(),
        nonce.as_bytes(),
        body.as_bytes(),
    ];
    // An integrator has at least one key.
    let keys = webhook.integrator.keys.first();
    let signature = keys.map(|key| key.sign(&parts)).unwrap_or_default();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("x-cardsavr-authorization", name),
        ("x-cardsavr-nonce", nonce),
        ("x-cardsavr-signature", signature),
    ];
    Call {
        method: "POST".into(),
        url: webhook.url.clone(),
        headers: headers
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        body: Bytes::from(body),
        patience: PATIENCE,
    }
}

/// What is posted. The site's host and name are not known here: its id is.
fn body(job: &Job) -> Value {
    json!({
        "jobs": [{
            "job_id": job.id,
            "card_customer_key": job.card_customer_key,
            "completed_on": job.completed.map(iso),
            "merchant_site": {"id": job.merchant_site},
            "termination_type": job.termination_type,
            "job_status": job.status,
            "job_status_message": job.status_message,
            "custom_data": job.custom_data,
        }],
        "custom_data": job.custom_data,
        "trace": job.trace.clone().unwrap_or_else(|| json!({})),
        "financial_institution": job.financial_institution,
        "financial_institution_id": null,
        "cuid": job.cuid,
    })
}
