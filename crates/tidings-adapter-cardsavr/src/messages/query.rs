//! Messages without an access key: of a cardholder's jobs, and of one job (rows 13 and 14). What was
//! given is kept for each session.

use std::sync::Arc;

use serde_json::Value;

use super::poll::{self, Polled, Poller};
use super::reader::Seat;
use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::job::{cardholder as holder, load, may_see, no_job};
use crate::request::Asked;

/// Row 13: all jobs of a cardholder that the session may see, in one list. The first poll of a
/// session gets everything that is retained.
pub(super) async fn cardholder(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = asked.id.unwrap_or_default();
    let found = holder::load(&shared, id).await?;
    let found = found.ok_or_else(|| Refused::not_found("no such cardholder").of("cardholder"))?;
    let jobs = found.visible_to(&shared, &asked.session)?;
    let poller = Poller::new(&asked, Seat::of_cardholder(id, &asked.session.id));
    match poll::poll(&shared, &poller, &jobs, true, true).await? {
        Polled::Messages(messages, batch) => Ok(poll::answer(&shared, &poller, messages, batch)),
        Polled::Gone => Err(Refused::unauthorized("no session")),
    }
}

/// Row 14: the messages of one job, and behind them what its user is asked, which stays.
pub(super) async fn job(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = asked.id.unwrap_or_default();
    let job = load(&shared, id).await?.ok_or_else(no_job)?;
    may_see(&shared, &asked, &job)?;
    let (seat, begins) = match asked.access_key() {
        Some(key) => (Seat::of_key(id, key), false),
        None => (Seat::of_session(id, &asked.session.id), true),
    };
    let poller = Poller::new(&asked, seat);
    let Polled::Messages(mut messages, batch) =
        poll::poll(&shared, &poller, &[id], begins, false).await?
    else {
        return Err(Refused::unauthorized("invalid messaging access key"));
    };
    if asked.session.owns(job.owner) {
        let open = job.open_requests(shared.hub.now().unix_ms);
        messages.extend(open.map(|one| -> Value { one.print(id) }));
    }
    Ok(poll::answer(&shared, &poller, messages, batch))
}
