//! Rows 7 and 8: what is said of a job, and what its user answers by way of it.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::ask::{Ask, Change, Content};
use super::state::{Hydration, Job};
use super::{index, load, may_see, no_job, perform, publish_of, read};
use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::keys;
use crate::messages::{content, fields, secret};
use crate::request::Asked;

/// Row 7: with an envelope an answer; without one what the virtual browser, or an agent, says.
pub(super) async fn job(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = asked.id.unwrap_or_default();
    let job = load(&shared, id).await?.ok_or_else(no_job)?;
    let account = asked
        .body
        .get("account")
        .filter(|account| !account.is_null());
    if let Some(envelope) = asked.envelope_id() {
        let said = account.unwrap_or(&asked.body);
        let job = answer(&shared, &asked, &job, envelope, said).await?;
        return Ok(shown(&shared, &asked, &job));
    }
    may_see(&shared, &asked, &job)?;
    let change = Change::of(&asked.body)?;
    let mut now = job;
    if let Some(account) = account {
        let account_link = credentials(account)?;
        if !asked.session.owns(now.owner) {
            return Err(Refused::forbidden("only the client that created the job"));
        }
        now = perform(&shared, id, &Ask::Credentials { account_link }).await?;
    }
    if change != Change::default() || account.is_none() {
        let ask = Ask::Change {
            change: Box::new(change),
            drives: asked.session.may_drive(),
            envelope: secret(rand::random()),
            publish: publish_of(&asked),
        };
        now = perform(&shared, id, &ask).await?;
    }
    Ok(shown(&shared, &asked, &now))
}

fn shown(shared: &Shared, asked: &Asked, job: &Job) -> Answer {
    let wanted = Hydration::of(&asked.hydration());
    Answer::created(read::show(shared, asked, job, wanted, None))
}

/// Row 8: the same answer, by account; or without its id, by the envelope alone.
pub(super) async fn account(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let no_account = || Refused::not_found("no such account").of("cardsavr_account");
    let entry = match (asked.id, asked.envelope_id()) {
        (Some(account), _) => keys::account_index(account),
        (None, Some(envelope)) => keys::envelope_index(envelope),
        (None, None) => return Err(Refused::bad("envelope_id", "is needed without an id")),
    };
    let job = index::find(&shared, &entry).await?.ok_or_else(no_account)?;
    let job = load(&shared, job).await?.ok_or_else(no_account)?;
    let job = match asked.envelope_id() {
        Some(envelope) => answer(&shared, &asked, &job, envelope, &asked.body).await?,
        None => {
            if !asked.session.owns(job.owner) {
                return Err(Refused::forbidden("only the client that created the job"));
            }
            let account_link = credentials(&asked.body)?;
            perform(&shared, job.id, &Ask::Credentials { account_link }).await?
        }
    };
    let wanted = Hydration {
        account: true,
        ..Hydration::default()
    };
    let shown = read::show(&shared, &asked, &job, wanted, None);
    Ok(Answer::created(
        shown.get("account").cloned().unwrap_or_default(),
    ))
}

/// Answers what a job's user is asked.
async fn answer(
    shared: &Shared,
    asked: &Asked,
    job: &Job,
    envelope: &str,
    said: &Value,
) -> Result<Job, Refused> {
    if !asked.session.owns(job.owner) {
        return Err(Refused::forbidden("only the client that created the job"));
    }
    let kind = said.get("type").and_then(Value::as_str);
    let kind = kind.filter(|kind| !kind.is_empty() && kind.len() <= 64);
    let content = Content {
        account_link: Some(credentials(said)?),
        ..content(said.get("message"), None)?
    };
    let ask = Ask::Answer {
        envelope: envelope.to_owned(),
        kind: kind.map(str::to_owned),
        content,
    };
    perform(shared, job.id, &ask).await
}

/// What an account says of its credentials: as `account_link`, or beside its other fields.
fn credentials(account: &Value) -> Result<Map<String, Value>, Refused> {
    let Value::Object(account) = account else {
        return Err(Refused::bad("account", "an object"));
    };
    if let Some(link) = account.get("account_link") {
        return fields(link);
    }
    /// Members that are no credentials.
    const OTHERS: [&str; 9] = [
        "id",
        "type",
        "message",
        "envelope_id",
        "cardholder_id",
        "cardholder_ref",
        "merchant_site_id",
        "customer_key",
        "job_id",
    ];
    let mut link = account.clone();
    link.retain(|name, value| !OTHERS.contains(&name.as_str()) && !value.is_null());
    fields(&link.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn credentials_are_read_in_every_form() {
        for (account, link) in [
            (
                json!({"account_link": {"username": "a"}}),
                json!({"username": "a"}),
            ),
            (
                json!({"username": "a", "password": "b", "id": 3}),
                json!({"username": "a", "password": "b"}),
            ),
            (
                json!({"tfa": "1234", "type": "tfa_response"}),
                json!({"tfa": "1234"}),
            ),
            (
                json!({"account_link": [{"key_name": "tfa", "value": "1"}]}),
                json!({"tfa": "1"}),
            ),
            (json!({}), json!({})),
        ] {
            let read = credentials(&account).map(Value::from);
            assert_eq!(read, Ok(link), "{account}");
        }
        assert!(credentials(&json!(3)).is_err());
        assert!(credentials(&json!({"account_link": "x"})).is_err());
        assert!(credentials(&json!({"account_link": {"a": "x".repeat(5000)}})).is_err());
    }
}
