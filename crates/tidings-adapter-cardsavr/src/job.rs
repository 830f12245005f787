//! Jobs: made, read, driven, ended.
//!
//! [`state`] is what there is of a job, [`status`] the words for how it stands, [`ask`] what may be
//! asked of it and [`decide`] what becomes of that; the routes are [`create`], [`read`] and
//! [`update`]. [`ingest`] takes what others publish, [`hook`] posts what ended.

mod answers;
pub(crate) mod ask;
pub(crate) mod cardholder;
mod create;
mod decide;
mod hook;
mod ids;
mod index;
mod ingest;
mod read;
pub(crate) mod state;
mod status;
mod update;

use std::sync::Arc;

use serde::Serialize;
use tidings_adapter::RecordKind;
use tidings_adapter::http::Method;

use crate::Shared;
use crate::errors::Refused;
use crate::keys;
use crate::messages::Readers;
use crate::options::{Role, Settings};
use crate::request::Asked;
use crate::routes::{Row, row};
use crate::session::Session;

pub(crate) use answers::Answers;
pub(crate) use decide::JOB_STATUS;
pub(crate) use hook::post_ends;
pub(crate) use ids::Ids;
pub(crate) use ingest::Rules;
pub(crate) use state::{Job, ms};

use ask::{Ask, Publish, Refusal, Said};

/// The entity in refusals.
pub(crate) const ENTITY: &str = "place_card_on_single_site_job";

/// Rows 4 to 8.
pub(crate) fn routes() -> Vec<Row> {
    const JOBS: &str = "/place_card_on_single_site_jobs";
    const JOB: &str = "/place_card_on_single_site_jobs/:id";
    vec![
        row(Method::POST, JOBS, create::create),
        row(Method::GET, JOBS, read::list),
        row(Method::GET, JOB, read::one),
        row(Method::PUT, JOB, update::job),
        row(Method::PUT, "/cardsavr_accounts", update::account),
        row(Method::PUT, "/cardsavr_accounts/:id", update::account),
    ]
}

/// The kinds of jobs' records and of all that belongs to them.
pub(crate) fn kinds(settings: &Arc<Settings>) -> Vec<Arc<dyn RecordKind>> {
    vec![
        Arc::new(decide::Jobs(settings.clone())),
        Arc::new(Readers(settings.clone())),
        Arc::new(cardholder::Cardholders),
        Arc::new(index::Index),
        Arc::new(ids::Counter),
    ]
}

/// Our own structures as JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with text keys, finite numbers and texts are JSON")
}

pub(crate) fn no_job() -> Refused {
    Refused::from(Refusal::NoJob)
}

/// A job as it stands.
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn load(shared: &Shared, id: u64) -> Result<Option<Job>, Refused> {
    let keys = vec![keys::job(id)];
    let loaded = shared.hub.load(&keys::job_key(id), keys).await?;
    let record = loaded.into_iter().flatten().next();
    let (timers, now_ms) = (&shared.settings.timers, shared.hub.now().unix_ms);
    Ok(record.and_then(|record| Job::kept(&record.document, timers, now_ms)))
}

/// Whether a session may read a job and register for its broadcasts.
///
/// # Errors
/// 403 when it may not.
pub(crate) fn may_see(shared: &Shared, asked: &Asked, job: &Job) -> Result<(), Refused> {
    if is_visible(shared, &asked.session, job.owner, job.cardholder, &job.app) {
        Ok(())
    } else {
        Err(Refused::forbidden("not your job").of(ENTITY))
    }
}

/// The same as a question: the owner, higher roles, and who was given rights on the cardholder.
/// Agents of another integrator see nothing; the others belong to none.
pub(crate) fn is_visible(
    shared: &Shared,
    session: &Session,
    owner: u64,
    cardholder: u64,
    app: &str,
) -> bool {
    let known = shared.settings.users.get(owner);
    let agents = matches!(session.role(), Role::CustomerAgent | Role::CardholderAgent);
    // In unsigned mode sessions have no integrator.
    let same = *session.app == *app || session.app.is_empty() || app.is_empty();
    let granted = session.grants.contains(&cardholder);
    (same || !agents) && (granted || session.may_see(owner, known.map(|user| &**user)))
}

/// Asks a job.
///
/// # Errors
/// When it is not known to be done; the inner one: when the job refuses.
pub(crate) async fn ask(
    shared: &Shared,
    id: u64,
    ask: &Ask,
) -> Result<Result<Option<Job>, Refusal>, Refused> {
    let decided = shared.hub.command(ask::command(id, ask)).await?;
    Ok(match serde_json::from_slice(&decided.answer) {
        Ok(Said::Job(job)) => Ok(Some(*job)),
        Ok(Said::Yes) => Ok(None),
        Ok(Said::No(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::Nonsense),
    })
}

/// Asks a job for something that it answers with itself.
///
/// # Errors
/// When it refuses, or is not known to have done it.
pub(crate) async fn perform(shared: &Shared, id: u64, wanted: &Ask) -> Result<Job, Refused> {
    let job = ask(shared, id, wanted).await??;
    job.ok_or_else(|| Refused::from(Refusal::Nonsense))
}

/// How a request's event is published: within its trace.
pub(crate) fn publish_of(asked: &Asked) -> Publish {
    let header = |name: &str| {
        let value = asked.headers.get(name)?.to_str().ok()?;
        (!value.is_empty() && value.len() <= 512).then(|| value.into())
    };
    let trace_parent = header("traceparent");
    Publish {
        foreign: false,
        dedup: None,
        trace_state: trace_parent.as_ref().and_then(|_| header("tracestate")),
        trace_parent,
    }
}
