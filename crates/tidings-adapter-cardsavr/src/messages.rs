//! Messages: registrations, broadcasts, credential requests and responses, the cardholder's list.
//!
//! [`places`] is what a reader was given, decided without I/O; [`reader`] keeps it in a record;
//! [`poll`] reads what it was not given yet and hands it out; [`fate`] says whether it arrived.

mod fate;
mod places;
mod poll;
mod query;
mod reader;
mod requests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tidings_adapter::http::Method;
use tidings_adapter::{EventId, From, PageLimit};

use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::job::{JOB_STATUS, load, may_see, no_job};
use crate::keys;
use crate::request::Asked;
use crate::routes::{Row, row};

pub(crate) use fate::with_fate;
pub(crate) use reader::{Reader, Readers, hash};
pub(crate) use requests::{content, fields, wanted};

use poll::{Polled, Poller};
use reader::{Ask, Said, Seat};

/// Rows 9 to 16.
pub(crate) fn routes() -> Vec<Row> {
    const JOB: &str = "/messages/place_card_on_single_site_jobs/:id";
    const REGISTRATIONS: &str =
        "/messages/place_card_on_single_site_jobs/:id/broadcasts/registrations";
    const BROADCASTS: &str = "/messages/place_card_on_single_site_jobs/:id/broadcasts";
    const REQUESTS: &str = "/messages/place_card_on_single_site_jobs/:id/credential_requests";
    const RESPONSES: &str = "/messages/place_card_on_single_site_jobs/:id/credential_responses";
    vec![
        row(Method::POST, REGISTRATIONS, register),
        row(Method::GET, REGISTRATIONS, register),
        row(Method::GET, BROADCASTS, broadcasts),
        row(Method::GET, REQUESTS, requests::pending),
        row(Method::POST, REQUESTS, requests::create),
        row(Method::GET, RESPONSES, requests::fetch),
        row(Method::POST, RESPONSES, requests::respond),
        row(Method::GET, "/messages/cardholders/:id", query::cardholder),
        row(Method::GET, JOB, query::job),
    ]
}

/// 16 random bytes in base64: access keys and envelopes.
pub(crate) fn secret(bytes: [u8; 16]) -> String {
    STANDARD.encode(bytes)
}

/// Which cardholder a grant opens (row 17).
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn granted(shared: &Shared, grant: &str) -> Result<Option<u64>, Refused> {
    crate::job::cardholder::granted(shared, grant).await
}

/// Where a topic's next event will come after.
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn newest(shared: &Shared, job: u64) -> Result<EventId, Refused> {
    let topic = keys::topic(&keys::job_key(job));
    let page = shared.hub.read(&topic, From::Newest, PageLimit::default());
    Ok(page.await?.next)
}

/// Row 9.
async fn register(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = asked.id.unwrap_or_default();
    let job = load(&shared, id).await?.ok_or_else(no_job)?;
    may_see(&shared, &asked, &job)?;
    let key = secret(rand::random());
    let seat = Seat::of_key(id, &key);
    let begin = |place: EventId, over| {
        seat.command(&Ask::Register {
            job: id,
            user: asked.session.user_id(),
            app: asked.session.app.to_string(),
            place: place.as_integer(),
            over,
        })
    };
    // The place first: what is published meanwhile lies after it.
    let place = newest(&shared, id).await?;
    let mut decided = shared.hub.command(begin(place, false)).await?;
    if Said::parse(&decided.answer) == Some(Said::Over) {
        let place = before_the_final(&shared, id).await?.unwrap_or(place);
        decided = shared.hub.command(begin(place, true)).await?;
    }
    match Said::parse(&decided.answer) {
        Some(Said::Begun) => {}
        _ => return Err(no_job()),
    }
    let body = json!({"access_key": key});
    let answer = match asked.method {
        Method::GET => Answer::ok(body),
        _ => Answer::created(body),
    };
    Ok(answer.no_store())
}

/// The place before a job's final message, if that is still there.
async fn before_the_final(shared: &Shared, job: u64) -> Result<Option<EventId>, Refused> {
    let topic = keys::topic(&keys::job_key(job));
    let (mut from, mut last) = (From::Oldest, None);
    loop {
        let page = shared.hub.read(&topic, from, PageLimit::default()).await?;
        if let Some(event) = page.events.last() {
            last = Some(event.event().id);
        }
        if page.at_end || page.events.is_empty() {
            break;
        }
        from = From::After(page.next);
    }
    // Nothing comes after the final one.
    let before = last.and_then(|id| EventId::from_integer(id.as_integer().saturating_sub(1)));
    Ok(before)
}

/// Row 10.
async fn broadcasts(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    // One answer for a missing, a wrong and an expired key: whoever guesses learns nothing.
    let no_key = || Refused::unauthorized("invalid messaging access key");
    let id = asked.id.unwrap_or_default();
    let key = asked.access_key().ok_or_else(no_key)?;
    let poller = Poller::new(&asked, Seat::of_key(id, key));
    match poll::poll(&shared, &poller, &[id], false, false).await? {
        Polled::Messages(messages, batch) => Ok(poll::answer(&shared, &poller, messages, batch)),
        Polled::Gone => Err(no_key()),
    }
}
