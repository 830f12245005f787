//! `POST /api/v1/events`: checked, stored, and then said to be stored.

use std::sync::Arc;

use tidings_adapter::axum::extract::{FromRequest as _, Request, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::{HeaderMap, StatusCode};
use tidings_adapter::{Attributes, Draft, Ingest, Ingested, Outcome};

use crate::Shared;
use crate::answer::{Refusal, json_text};
use crate::event::{Subject, object};
use crate::validate::{Members, Mistakes, check, draft};

/// Bytes of a body. An event has 256 of payload and a link; what a publisher adds besides is
/// ignored, and may be this much.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

pub(crate) async fn publish(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match accept(&shared, request).await {
        Ok(event) => json_text(StatusCode::CREATED, event),
        Err(refusal) => refusal.response(),
    }
}

async fn accept(shared: &Shared, request: Request) -> Result<String, Refusal> {
    let headers = request.headers().clone();
    let app = shared.settings.apps.basic(&headers);
    let app = app.ok_or(Refusal::Unauthorized)?;
    if let Some(rate) = shared.settings.publish_rate {
        let unix = shared.hub.now().unix_ms / 1000;
        shared.meter.count(rate, &app.name, unix)?;
    }
    let body = read(request).await?;
    let members = members(&body)?;
    let (said, subject) = check(&members, app).map_err(Refusal::Invalid)?;
    let mut draft = draft(&said, &subject);
    trace(&headers, &mut draft);
    let data = draft.data.clone();
    // Before the event: a subject that is listed without events does no harm, the reverse hides them.
    shared
        .directory
        .note(&shared.hub, &subject)
        .await
        .map_err(|_| Refusal::Unavailable)?;
    match shared.hub.publish(vec![draft]).await.pop() {
        Some(Ok(stored)) if stored.outcome == Outcome::Duplicate => Err(Refusal::Invalid(
            Mistakes::from([("id", vec!["has already been taken"])]),
        )),
        Some(Ok(stored)) => Ok(object(stored.id, &data)),
        // The log's own words may name hosts.
        Some(Err(error)) => {
            tracing::debug!(%error, "an event was not stored");
            Err(Refusal::Unavailable)
        }
        None => Err(Refusal::Unavailable),
    }
}

async fn read(request: Request) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, &()).await.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Refusal::TooLarge
        } else {
            Refusal::Malformed("the body breaks off")
        }
    })
}

/// The members of the event: of the body itself, or of what it wraps as `event`.
fn members(body: &[u8]) -> Result<Members, Refusal> {
    let object = |json: &[u8]| {
        serde_json::from_slice::<Members>(json)
            .map_err(|_| Refusal::Malformed("the body is not a JSON object"))
    };
    let outer = object(body)?;
    match outer.get("event") {
        Some(event) => object(event.get().as_bytes()),
        None => Ok(outer),
    }
}

/// Takes the trace over, so that a delivery can be seen to belong to its publish.
fn trace(headers: &HeaderMap, draft: &mut Draft) {
    let header = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        (!value.is_empty() && value.len() <= 512).then(|| value.into())
    };
    if let Some(trace_parent) = header("traceparent") {
        draft.attributes = Some(Box::new(Attributes {
            trace_parent: Some(trace_parent),
            trace_state: header("tracestate"),
            ..Attributes::default()
        }));
    }
}

/// The rules for drafts that come another way: `data` is the event object, and what it lacks is
/// taken from the draft's own attributes. The app is the one that the name begins with.
#[derive(Debug, Clone)]
pub(crate) struct Rules(
    pub(crate) Arc<crate::options::Settings>,
    pub(crate) Arc<crate::directory::Directory>,
);

impl Ingest for Rules {
    fn ingest(&self, draft: Draft, _now_ms: u64, _random: u128) -> Ingested {
        match self.judge(&draft) {
            Ok(good) => Ingested::Publish(good),
            Err(why) => Ingested::Refused(why),
        }
    }
}

impl Rules {
    fn judge(&self, given: &Draft) -> Result<Draft, String> {
        let subject = Subject::of_topic(&given.topic)
            .ok_or("the topic is neither zaikio/org/<uuid> nor zaikio/per/<uuid>")?;
        let mut members = members(&given.data).map_err(|_| "`data` is not a JSON object")?;
        let attributes = given.attributes.as_deref();
        let time = attributes.and_then(|all| all.time.as_deref());
        let id = attributes.and_then(|all| all.publisher_id.as_deref());
        let about = subject.to_string();
        for (name, value) in [
            ("id", id),
            ("timestamp", time),
            ("name", Some(&*given.kind)),
            ("subject", Some(&*about)),
        ] {
            if let Some(value) = value
                && !members.contains_key(name)
                && let Ok(value) = serde_json::value::to_raw_value(value)
            {
                members.insert(name.to_owned(), value);
            }
        }
        let name = members.get("name").map_or("", |name| name.get());
        let name: String = serde_json::from_str(name).unwrap_or_default();
        if name != *given.kind {
            return Err("`type` is not the event's name".to_owned());
        }
        let app = name.split('.').next().unwrap_or_default();
        let app = self
            .0
            .apps
            .get(app)
            .ok_or("name: excludes a valid event name")?;
        let (said, named) = check(&members, app).map_err(|mistakes| {
            let all = mistakes
                .iter()
                .map(|(field, words)| format!("{field}: {}", words.join(", ")));
            all.collect::<Vec<_>>().join("; ")
        })?;
        if named != subject {
            return Err("subject: is not the topic's".to_owned());
        }
        self.1.want(&subject);
        let mut good = draft(&said, &subject);
        good.attributes = attributes
            .filter(|all| all.trace_parent.is_some())
            .map(|all| {
                Box::new(Attributes {
                    trace_parent: all.trace_parent.clone(),
                    trace_state: all.trace_state.clone(),
                    ..Attributes::default()
                })
            });
        Ok(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Settings, ZaikioOptions};
    use tidings_adapter::Topic;

    #[test]
    fn both_wrappings_are_taken() {
        let member = |body: &str| members(body.as_bytes()).map(|all| all.contains_key("id"));
        assert_eq!(member(r#"{"id":1}"#), Ok(true));
        assert_eq!(member(r#"{"event":{"id":1},"x":2}"#), Ok(true));
        for bad in [
            "",
            "{",
            "[]",
            "3",
            "\"x\"",
            r#"{"event":3}"#,
            r#"{"event":null}"#,
            "\u{feff}{}",
        ] {
            assert!(member(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn drafts_from_elsewhere_pass_the_same_rules() {
        let options: ZaikioOptions =
            toml::from_str("[apps.shop]\nprovides = [\"sold\"]").expect("good");
        let rules = Rules(
            Arc::new(Settings::of(&options).expect("good")),
            Default::default(),
        );
        let topic = "zaikio/org/837ebb91-2d4b-4818-a19b-04fea7be8cde";
        let draft = |topic: &str, kind: &str, data: &str| Draft {
            attributes: Some(Box::new(Attributes {
                publisher_id: Some("bd6b9b7f-5ea2-4015-a07a-e3ba15d083cd".into()),
                time: Some("2023-07-23T22:04:46Z".into()),
                ..Attributes::default()
            })),
            ..Draft::new(Topic::parse(topic).expect("valid"), kind, data.to_owned())
        };
        let Ingested::Publish(good) = rules.ingest(
            draft(topic, "shop.sold", r#"{"version":"1.0","payload":{"n":1}}"#),
            0,
            0,
        ) else {
            panic!("a good draft is refused")
        };
        assert!(good.dedup.is_some());
        assert!(good.data.starts_with(br#"{"id":"bd6b9b7f"#));
        for (draft, word) in [
            (draft("zaikio/org/x", "shop.sold", "{}"), "topic"),
            (draft("zaikio/a", "shop.sold", "{}"), "topic"),
            (draft(topic, "shop.sold", "3"), "object"),
            (draft(topic, "shop.sold", "{}"), "version"),
            (draft(topic, "shop.other", r#"{"version":"1"}"#), "name"),
            (draft(topic, "other.sold", r#"{"version":"1"}"#), "name"),
            (
                draft(topic, "shop.sold", r#"{"version":"1","name":"shop.x"}"#),
                "type",
            ),
            (
                draft(
                    topic,
                    "shop.sold",
                    r#"{"version":"1","subject":"Org/00000000-2d4b-4818-a19b-04fea7be8cde"}"#,
                ),
                "subject",
            ),
        ] {
            match rules.ingest(draft, 0, 0) {
                Ingested::Refused(why) => assert!(why.contains(word), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
