//! What others publish under `cardsavr/job/<id>`: statuses and credential requests, by the same
//! rules as the virtual browser's own routes.

use tidings_adapter::{Draft, Ingest, Ingested};

use super::JOB_STATUS;
use super::ask::{Ask, Change, Publish, command};
use super::status::announcing;
use crate::errors::Refused;
use crate::messages::{secret, wanted};
use crate::routes::number;

/// The rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules;

impl Ingest for Rules {
    fn ingest(&self, draft: Draft, _now_ms: u64, random: u128) -> Ingested {
        match judge(&draft, secret(random.to_be_bytes())) {
            Ok((job, ask)) => Ingested::Command(command(job, &ask)),
            Err(why) => Ingested::Refused(why),
        }
    }
}

/// What a draft asks of which job. The kind is `job_status`, or that of a credential request; the
/// data is the message that clients would get, or what is in it.
fn judge(draft: &Draft, envelope: String) -> Result<(u64, Ask), String> {
    let id = draft.topic.as_str().strip_prefix("cardsavr/job/");
    let job = id
        .and_then(number)
        .ok_or("the topic is not cardsavr/job/<id>")?;
    let data: serde_json::Value =
        serde_json::from_slice(&draft.data).map_err(|_| "`data` is not JSON")?;
    if !data.is_object() {
        return Err("`data` is not an object".to_owned());
    }
    let said = data.get("job_id").filter(|said| !said.is_null());
    let same = |said: &serde_json::Value| {
        said.as_u64().or_else(|| said.as_str().and_then(number)) == Some(job)
    };
    if !said.is_none_or(same) {
        return Err("job_id: is not the topic's".to_owned());
    }
    let attributes = draft.attributes.as_deref();
    let publish = Publish {
        foreign: true,
        dedup: draft
            .dedup
            .as_ref()
            .map(|one| (one.scope.clone(), one.key.clone(), one.lifetime_ms)),
        trace_parent: attributes.and_then(|all| all.trace_parent.clone()),
        trace_state: attributes.and_then(|all| all.trace_state.clone()),
    };
    let words = |refused: Refused| format!("{}: {}", refused.property, refused.message);
    if &*draft.kind == JOB_STATUS {
        let message = data.get("message").filter(|message| message.is_object());
        let change = Change::of(message.unwrap_or(&data)).map_err(words)?;
        if !change.is_told() {
            return Err("message: says nothing of the job".to_owned());
        }
        return Ok((
            job,
            Ask::Change {
                change: Box::new(change),
                drives: true,
                envelope,
                publish,
            },
        ));
    }
    let mut data = data;
    if data.get("type").is_none_or(serde_json::Value::is_null) {
        data["type"] = (*draft.kind).into();
    }
    let (kind, message, account_link) = wanted(&data).map_err(words)?;
    if *kind != *draft.kind {
        return Err("`type` of the data is not the draft's".to_owned());
    }
    // What is published is an event: the status behind the request.
    let mut change = Change::of(&data).map_err(words)?;
    change
        .status
        .get_or_insert_with(|| announcing(&kind).to_owned());
    let announce = Some(Box::new(change));
    Ok((
        job,
        Ask::Request {
            envelope,
            kind,
            message,
            account_link,
            announce,
            publish,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidings_adapter::{Dedup, Topic};

    fn draft(topic: &str, kind: &str, data: &Value) -> Draft {
        Draft::new(Topic::parse(topic).expect("valid"), kind, data.to_string())
    }

    fn ask(draft: &Draft) -> Result<(u64, Ask), String> {
        judge(draft, "e".to_owned())
    }

    #[test]
    fn statuses_and_requests_become_commands() {
        let status = json!({"status": "UPDATING", "percent_complete": 80});
        let whole = json!({"type": "job_status", "job_id": "7", "message": status});
        let mut given = draft("cardsavr/job/7", "job_status", &whole);
        given.dedup = Some(Dedup::by_source(&given.topic, None, "a"));
        let Ok((
            7,
            Ask::Change {
                change,
                drives: true,
                publish,
                ..
            },
        )) = ask(&given)
        else {
            panic!("a status is refused")
        };
        assert_eq!(change.percent, Some(80.0));
        assert!(publish.dedup.is_some());
        assert!(ask(&draft("cardsavr/job/7", "job_status", &status)).is_ok());
        let request = json!({"message": "code?", "account_link": [{"key_name": "tfa"}]});
        let Ok((7, Ask::Request { kind, announce, .. })) =
            ask(&draft("cardsavr/job/7", "tfa_request", &request))
        else {
            panic!("a request is refused")
        };
        let announced = announce.and_then(|change| change.status);
        assert_eq!(
            (kind.as_str(), announced.as_deref()),
            ("tfa_request", Some("PENDING_TFA"))
        );
    }

    #[test]
    fn what_is_neither_is_refused_in_words() {
        let good = json!({"status": "AUTH"});
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        for (topic, kind, data, word) in [
            ("cardsavr/sessions", "job_status", good.clone(), "topic"),
            ("cardsavr/job/x", "job_status", good.clone(), "topic"),
            ("cardsavr/job/7/x", "job_status", good, "topic"),
            ("cardsavr/job/7", "job_status", json!([]), "object"),
            ("cardsavr/job/7", "job_status", json!({}), "nothing"),
            (
                "cardsavr/job/7",
                "job_status",
                json!({"status": 3}),
                "status",
            ),
            (
                "cardsavr/job/7",
                "job_status",
                json!({"status": "A", "job_id": 8}),
                "job_id",
            ),
            (
                "cardsavr/job/7",
                "tfa_request",
                json!({"type": "x"}),
                "type",
            ),
            ("cardsavr/job/7", "tfa request", json!({}), "type"),
            (
                "cardsavr/job/7",
                "tfa_request",
                json!({"message": {"a": deep}}),
                "nested",
            ),
            (
                "cardsavr/job/7",
                "tfa_request",
                json!({"account_link": [{"a": deep}]}),
                "nested",
            ),
            (
                "cardsavr/job/7",
                "tfa_request",
                json!({"account_link": 3}),
                "account_link",
            ),
        ] {
            let why = ask(&draft(topic, kind, &data)).expect_err("refused");
            assert!(why.contains(word), "{why}");
        }
    }
}
