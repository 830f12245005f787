//! What a job's user is asked, and what he answers (rows 11, 12, 15, 16).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{secret, with_fate};
use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::job::ask::{Ask, Change, Content, REQUEST_BYTES_MAX, Refusal, command};
use crate::job::{Answers, load, no_job, perform, publish_of, to_json};
use crate::keys;
use crate::request::Asked;

/// Row 11: what is asked, oldest first; nothing at all when nothing is. Reading changes nothing.
pub(super) async fn pending(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let job = load(&shared, asked.id.unwrap_or_default()).await?;
    let job = job.ok_or_else(no_job)?;
    if !asked.session.owns(job.owner) && !asked.session.may_drive() {
        return Err(Refused::forbidden("only the client that created the job"));
    }
    let mut open = job.open_requests(shared.hub.now().unix_ms);
    Ok(match open.next() {
        Some(request) => Answer::ok(request.print(job.id)),
        None => Answer::empty(),
    })
}

/// Row 15: the virtual browser asks. With a `status` the job says so in the same commit, behind the
/// request.
pub(super) async fn create(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    if !asked.session.may_drive() {
        return Err(Refused::forbidden("only a virtual browser"));
    }
    let id = asked.id.unwrap_or_default();
    let (kind, message, account_link) = wanted(&asked.body)?;
    let announced = asked
        .body
        .get("status")
        .is_some_and(|status| !status.is_null());
    let announce = if announced {
        Some(Box::new(Change::of(&asked.body)?))
    } else {
        None
    };
    let envelope = secret(rand::random());
    let ask = Ask::Request {
        envelope: envelope.clone(),
        kind,
        message,
        account_link,
        announce,
        publish: publish_of(&asked),
    };
    let job = perform(&shared, id, &ask).await?;
    // Announcing it may have ended the job: too many failures.
    let request = job.requests.iter().find(|one| one.envelope == envelope);
    let request = request.ok_or_else(|| Refused::from(Refusal::Over))?;
    Ok(Answer::created(request.print(id)))
}

/// Levels of what is asked. Parsers stop at 128, and in the job's record it lies deeper than in the
/// request: what just came in could not be read again.
const LEVELS_MAX: usize = 32;

/// Whether a value has so many levels at most.
fn is_flat(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return false;
    };
    match value {
        Value::Array(list) => list.iter().all(|one| is_flat(one, below)),
        Value::Object(map) => map.values().all(|one| is_flat(one, below)),
        _ => true,
    }
}

/// The type, the message and the fields of a request, each within its bound.
pub(crate) fn wanted(body: &Value) -> Result<(String, Value, Vec<Value>), Refused> {
    let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if kind.is_empty() || kind.len() > 64 || !kind.bytes().all(good) {
        return Err(Refused::bad("type", "a name such as tfa_request"));
    }
    let message = body.get("message").cloned().unwrap_or_else(|| "".into());
    if !matches!(message, Value::String(_) | Value::Object(_) | Value::Null) {
        return Err(Refused::bad("message", "a text or an object"));
    }
    let fields = match body.get("account_link") {
        Some(Value::Array(fields)) if fields.iter().all(Value::is_object) => fields.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return Err(Refused::bad("account_link", "an array of objects")),
    };
    if !is_flat(&message, LEVELS_MAX) || !fields.iter().all(|one| is_flat(one, LEVELS_MAX)) {
        return Err(Refused::bad(
            "message",
            "nested too deep, or its fields are",
        ));
    }
    if to_json(&message).len() > REQUEST_BYTES_MAX || to_json(&fields).len() > REQUEST_BYTES_MAX {
        return Err(Refused::bad(
            "message",
            "at most 4 KiB, and the fields as well",
        ));
    }
    Ok((kind.to_owned(), message, fields))
}

/// Row 12: the user answers.
pub(super) async fn respond(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = asked.id.unwrap_or_default();
    let envelope = asked.body.get("envelope_id").and_then(Value::as_str);
    let envelope = envelope
        .or_else(|| asked.envelope_id())
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refused::bad("envelope_id", "is needed"))?;
    let said = asked.body.get("type").and_then(Value::as_str);
    let said = said.filter(|text| !text.is_empty() && text.len() <= 64);
    let content = content(asked.body.get("message"), asked.body.get("account_link"))?;
    let job = load(&shared, id).await?.ok_or_else(no_job)?;
    if !asked.session.owns(job.owner) {
        return Err(Refused::forbidden("only the client that created the job"));
    }
    let request = job.requests.iter().find(|one| one.envelope == envelope);
    let kind = said.map(str::to_owned).or_else(|| {
        let asked = &request?.kind;
        let stem = asked.strip_suffix("_request");
        Some(stem.map_or_else(|| asked.clone(), |stem| format!("{stem}_response")))
    });
    let ask = Ask::Answer {
        envelope: envelope.to_owned(),
        kind: kind.clone(),
        content,
    };
    perform(&shared, id, &ask).await?;
    Ok(Answer::ok(json!({
        "type": kind,
        "job_id": id,
        "envelope_id": envelope,
        "message": "submitted",
    })))
}

/// What is answered, within its bound.
pub(crate) fn content(
    message: Option<&Value>,
    account_link: Option<&Value>,
) -> Result<Content, Refused> {
    let link = account_link.map(fields).transpose()?;
    let message = message.filter(|message| !message.is_null()).cloned();
    if message
        .as_ref()
        .is_some_and(|message| to_json(message).len() > REQUEST_BYTES_MAX)
    {
        return Err(Refused::bad("message", "at most 4 KiB"));
    }
    Ok(Content {
        message,
        account_link: link,
    })
}

/// Credentials or codes: by name, or as a list of `key_name` and `value`.
pub(crate) fn fields(link: &Value) -> Result<Map<String, Value>, Refused> {
    let bad = || Refused::bad("account_link", "an object of at most 4 KiB");
    let link = match link {
        Value::Object(link) => link.clone(),
        Value::Null => Map::new(),
        Value::Array(list) => list
            .iter()
            .map(|one| {
                let name = one.get("key_name")?.as_str()?;
                Some((name.to_owned(), one.get("value")?.clone()))
            })
            .collect::<Option<_>>()
            .ok_or_else(bad)?,
        _ => return Err(bad()),
    };
    if to_json(&link).len() > REQUEST_BYTES_MAX {
        return Err(bad());
    }
    Ok(link)
}

/// Row 16: the virtual browser fetches an answer, which then is gone.
pub(super) async fn fetch(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    if !asked.session.may_drive() {
        return Err(Refused::forbidden("only a virtual browser"));
    }
    let id = asked.id.unwrap_or_default();
    let keys = vec![keys::job(id), keys::answers(id)];
    let mut records = shared.hub.load(&keys::job_key(id), keys).await?.into_iter();
    records.next().flatten().ok_or_else(no_job)?;
    let answers = records.next().flatten();
    let answers = answers.and_then(|record| Answers::parse(&record.document));
    let Some((envelope, shown)) = answers.and_then(|all| all.first(id, shared.hub.now().unix_ms))
    else {
        return Ok(Answer::empty());
    };
    // The commit says only that it was taken: what commits answer is remembered for a while.
    let take = Ask::Take {
        envelope: envelope.clone(),
    };
    if crate::job::ask(&shared, id, &take).await?.is_err() {
        return Ok(Answer::empty()); // somebody else was faster
    }
    let fate = |arrived| {
        let envelope = envelope.clone();
        command(id, &Ask::Taken { envelope, arrived })
    };
    let answer = Answer::ok(shown).no_store();
    Ok(with_fate(answer, &shared.hub, fate(true), fate(false)))
}
