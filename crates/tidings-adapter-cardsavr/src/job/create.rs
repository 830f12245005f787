//! Row 4: jobs are made, one or several.
//!
//! In steps of which each may be done again or left undone: the cardholder by his cuid, the lists
//! that lead to the job, and last the job itself. Who is not answered makes another one; what leads
//! to a job that was never made does no harm.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::ask::{Ask, small};
use super::cardholder::{self, Enrol};
use super::state::{Hydration, Job, Secrets};
use super::{ENTITY, index, load, may_see, perform, status, to_json};
use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::keys;
use crate::messages::{fields, hash, newest, secret};
use crate::request::Asked;
use crate::routes::number;

/// Jobs of one request: each takes six commits, and all of them must be done within 8 s.
const JOBS_MAX: usize = 50;

/// Bytes of a card with its address.
const CARD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a name that a client gives: a cuid, a customer key.
const NAME_BYTES_MAX: usize = 256;

/// A job as its body asks for it.
#[derive(Debug, Default)]
struct Wanted {
    job: Job,
    secrets: Secrets,
    /// 0: the one of the cuid, or a new one.
    cardholder: u64,
    /// 0: a new one.
    card: u64,
    account: u64,
}

pub(super) async fn create(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    if !asked.session.may_create() {
        return Err(Refused::forbidden("a virtual browser creates no jobs").of(ENTITY));
    }
    let bodies = match &asked.body {
        Value::Array(bodies) if (1..=JOBS_MAX).contains(&bodies.len()) => bodies.clone(),
        Value::Array(_) => return Err(Refused::bad("", "from 1 to 50 jobs").of(ENTITY)),
        one => vec![one.clone()],
    };
    // All or none as far as that can be known before.
    let wanted: Vec<Wanted> = bodies
        .iter()
        .map(|body| wanted(body, &asked))
        .collect::<Result<_, _>>()
        .map_err(|refused| refused.of(ENTITY))?;
    let hydration = Hydration::of(&asked.hydration());
    let mut made = Vec::with_capacity(wanted.len());
    for one in wanted {
        made.push(make(&shared, &asked, one, hydration).await?);
    }
    Ok(Answer::created(match (&asked.body, made.len()) {
        (Value::Array(_), _) => made.into(),
        _ => made.pop().unwrap_or_default(),
    })
    .no_store())
}

/// Reads one job's body.
fn wanted(body: &Value, asked: &Asked) -> Result<Wanted, Refused> {
    let Value::Object(body) = body else {
        return Err(Refused::bad("", "a job is an object"));
    };
    let nested = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => Err(Refused::bad(name, "an object")),
    };
    let (holder, mut card, account) = (nested("cardholder")?, nested("card")?, nested("account")?);
    let id = |name: &str, nested: &Map<String, Value>| {
        let said = body.get(name).or_else(|| nested.get("id"));
        match said.filter(|value| !value.is_null()) {
            None => Ok(0),
            Some(value) => an_id(value).ok_or_else(|| Refused::bad(name, "a number")),
        }
    };
    let reference = |object: &Map<String, Value>| object.get("cardholder_ref").cloned();
    let cuid = holder
        .get("cuid")
        .cloned()
        .or_else(|| reference(&card)?.get("cuid").cloned())
        .or_else(|| reference(&account)?.get("cuid").cloned());
    let mut job = Job {
        owner: asked.session.user_id(),
        app: asked.session.app.to_string(),
        cuid: a_name("cuid", cuid.as_ref())?,
        card_customer_key: a_name("customer_key", card.get("customer_key"))?,
        merchant_site: account.get("merchant_site_id").and_then(an_id),
        custom_data: small(body.get("custom_data").cloned().unwrap_or_default())?,
        credential_timeout: patience(body.get("credential_timeout"))?,
        status: "REQUESTED".to_owned(),
        ..Job::default()
    };
    let bank = asked.header("financial-institution").map(Value::from);
    job.financial_institution = a_name("financial_institution", bank.as_ref())?;
    job.trace = asked
        .header("trace")
        .filter(|text| text.len() <= 1024)
        .and_then(|text| serde_json::from_str(text).ok());
    if let Some(said) = body.get("status").filter(|said| !said.is_null()) {
        let named = said.as_str().and_then(status::name);
        job.status = named
            .filter(|name| matches!(name.as_str(), "REQUESTED" | "INITIATED"))
            .ok_or_else(|| Refused::bad("status", "REQUESTED or INITIATED"))?;
    }
    job.status_message = status::phrase(&job.status);
    let link = account.get("account_link").cloned().unwrap_or_default();
    let mut link = fields(&link)?;
    // The older form has them beside the account's own fields.
    for name in ["username", "password"] {
        if let Some(value) = account.get(name) {
            link.entry(name).or_insert_with(|| value.clone());
        }
    }
    let link = fields(&link.into())?;
    let (cardholder, card_id) = (id("cardholder_id", &holder)?, id("card_id", &card)?);
    let account_id = id("account_id", &account)?;
    for name in ["cardholder_ref", "id"] {
        card.remove(name);
    }
    if to_json(&card).len() > CARD_BYTES_MAX {
        return Err(Refused::bad("card", "at most 16 KiB"));
    }
    Ok(Wanted {
        job,
        secrets: Secrets {
            account_link: link,
            card,
        },
        cardholder,
        card: card_id,
        account: account_id,
    })
}

fn an_id(value: &Value) -> Option<u64> {
    let id = match value {
        Value::Number(_) => value.as_u64(),
        Value::String(text) => number(text),
        _ => None,
    };
    id.filter(|id| (1..1 << 53).contains(id))
}

fn a_name(property: &str, value: Option<&Value>) -> Result<Option<String>, Refused> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(Refused::bad(property, "a text")),
    };
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(Refused::bad(property, "a text of 1 to 256 bytes"));
    }
    Ok(Some(text))
}

/// `credential_timeout`, in seconds.
fn patience(value: Option<&Value>) -> Result<Option<u64>, Refused> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => an_id(value)
            .filter(|seconds| *seconds <= 3600)
            .map(Some)
            .ok_or_else(|| Refused::bad("credential_timeout", "from 1 to 3600 seconds")),
    }
}

/// Makes one job and all that leads to it.
async fn make(
    shared: &Shared,
    asked: &Asked,
    wanted: Wanted,
    hydration: Hydration,
) -> Result<Value, Refused> {
    let Wanted {
        mut job, secrets, ..
    } = wanted;
    let hub = &shared.hub;
    // One behind the other: the cardholder, the job, the card, the account.
    let first = shared.ids.take(hub, 4).await?;
    let id = first + 1;
    let given = |said: u64, new: u64| if said == 0 { new } else { said };
    job.card = given(wanted.card, first + 2);
    job.account = given(wanted.account, first + 3);
    job.cardholder = match (&job.cuid, wanted.cardholder) {
        (_, known) if known > 0 => known,
        (Some(cuid), _) => {
            let entry = keys::cuid_index(&job.app, cuid);
            let claim = index::Ask::Claim { number: first };
            let decided = hub.command(index::command(&entry, &claim)).await?;
            serde_json::from_slice(&decided.answer).map_err(|_| Refused::unavailable())?
        }
        (None, _) => first,
    };
    if wanted.account > 0 {
        // It leads to this job from now on: nobody takes another one's account away from him.
        let before = index::find(shared, &keys::account_index(wanted.account)).await?;
        if let Some(before) = before
            && let Some(before) = load(shared, before).await?
        {
            may_see(shared, asked, &before)?;
        }
    }
    let grant = cardholder::new_grant(job.cardholder, rand::random());
    if wanted.cardholder > 0 {
        let known = cardholder::load(shared, job.cardholder).await?;
        let known = known.ok_or_else(|| Refused::bad("cardholder_id", "no such cardholder"))?;
        known.visible_to(shared, &asked.session)?;
        job.cuid = known.cuid;
    }
    let enrol = Enrol {
        id: job.cardholder,
        app: job.app.clone(),
        cuid: job.cuid.clone(),
        user: job.owner,
        grant: hash(&grant),
        job: id,
        make: wanted.cardholder == 0,
    };
    let is_new = cardholder::enrol(shared, &enrol).await?;
    let is_new = is_new.ok_or_else(|| Refused::bad("cardholder_id", "no such cardholder"))?;
    let account = keys::account_index(job.account);
    hub.command(index::command(&account, &index::Ask::Lead { number: id }))
        .await?;
    hub.command(index::list(id, job.owner, job.cardholder))
        .await?;
    let key = secret(rand::random());
    let ask = Ask::Create {
        job: Box::new(job),
        secrets,
        key: Some(hash(&key)),
        place: newest(shared, id).await?.as_integer(),
    };
    let job = perform(shared, id, &ask).await?;
    let timers = &shared.settings.timers;
    let mut shown = job.print(timers, hub.now().unix_ms, hydration, true, None);
    shown["access_key"] = key.into();
    if is_new && hydration.cardholder {
        shown["cardholder"]["grant"] = grant.into();
    }
    Ok(shown)
}

#[cfg(test)]
mod tests;
