//! CardSavr: jobs and access keys as applications get them, and what polling with them costs, in
//! clear over keep-alive connections, and signed over TLS as the SDK does it.

mod books;
mod polls;
mod seal;
mod signed;
mod tls;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::stage::Stage;
use crate::cli::Dialects;
use crate::http::post;

use super::requests::ask_all;

pub(super) use polls::polls;
pub(super) use signed::signed;

/// The contract's own test vectors: an integrator, a user, and what he shows for a password.
const APP: &str = "acme-app";
const APP_KEY: &str = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ=";
const USER: &str = "agent1";
const PASSWORD: &str = "pw-agent1";
const PASSWORD_KEY: &str = "ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0=";
const PASSWORD_PROOF: &str = "xuxKYH3IKbIlRkqDyl3Uf1L/W8QEysVnDCOQ6fGK5G8=";

/// Access keys of each job.
const KEYS_OF_A_JOB: u32 = 10;

/// As many jobs as one request creates.
const JOBS_AT_ONCE: u32 = 50;

/// How often a key is polled, in seconds, as the documents have it.
const EVERY: u32 = 5;

/// The header that carries the access key, as the SDK spells it.
const KEY_HEADER: &str = "x-cardsavr-cardsavr-messaging-access-key";

/// A hub with the dialect, in development mode or not, with TLS or not.
async fn stage(args: &Dialects, unsigned: bool, tls: bool) -> Result<Stage> {
    // Jobs last as long as a measurement; statuses are published by everybody.
    Stage::set(args, "cardsavr/**", |listen| {
        format!(
            "[adapters.cardsavr]\nunsigned = {unsigned}\nsession_requests = 0\n\
             [adapters.cardsavr.timers]\njob = \"1h\"\n\
             [adapters.cardsavr.integrators.{APP}]\nkey = \"{APP_KEY}\"\n\
             [adapters.cardsavr.users.{USER}]\nid = 11\nrole = \"cardholder_agent\"\n\
             password_key = \"{PASSWORD_KEY}\"\n\
             [adapters.cardsavr.mount]\nlisten = \"{listen}\"\ntls_self_signed = {tls}\n"
        )
    })
    .await
}

/// The bodies of requests that create so many jobs, each for a cardholder of its own.
fn jobs(count: u32) -> Vec<Value> {
    let job = |index: u32| json!({"cardholder": {"cuid": format!("c{index}")}, "account": {"merchant_site_id": 1}});
    let starts = (0..count).step_by(JOBS_AT_ONCE as usize);
    let bodies = starts.map(|start| (start..count.min(start + JOBS_AT_ONCE)).map(job).collect());
    bodies.collect()
}

/// The ids in what came of them.
fn ids(answers: &[Value]) -> Result<Vec<u64>> {
    let jobs = answers
        .iter()
        .flat_map(|one| one.as_array().into_iter().flatten());
    let ids = jobs.map(|job| job["id"].as_u64().context("a job without an id"));
    ids.collect()
}

fn registrations(job: u64) -> String {
    format!("/messages/place_card_on_single_site_jobs/{job}/broadcasts/registrations")
}

fn broadcasts(job: u64) -> String {
    format!("/messages/place_card_on_single_site_jobs/{job}/broadcasts")
}

fn access_key(answer: &Value) -> Result<String> {
    let key = answer["access_key"].as_str();
    Ok(key.context("a registration without a key")?.to_owned())
}

/// Publishes a status of each of these jobs, as a backend does.
async fn publish(stage: &Stage, jobs: &[u64], status: &str) -> Result<()> {
    let event = |job: &u64| {
        let data = json!({"status": status, "percent_complete": 50});
        let topic = format!("cardsavr/job/{job}");
        let event = json!({"topic": topic, "type": "job_status", "data": data});
        post("/v1/events", &[], &event.to_string())
    };
    ask_all(stage.native(), jobs.iter().map(event).collect()).await?;
    Ok(())
}
