//! [ntfy](https://docs.ntfy.sh)'s publish and subscribe API over a Tidings hub: routes, publishing,
//! and how a request is refused. What is handed out stands in [`subscription`].
//!
//! What is absent: accounts, attachments, e-mail, calls, delayed delivery, action buttons, filters.
//! A message that asks for one of them is refused, not misunderstood.

pub mod subscription;

use tidings_adapter::axum::extract::rejection::StringRejection;
use tidings_adapter::axum::extract::{ws::rejection::WebSocketUpgradeRejection, *};
use tidings_adapter::axum::response::{IntoResponse as _, Response};
use tidings_adapter::axum::{Json, Router, routing::get, routing::post};
use tidings_adapter::http::{StatusCode, request::Parts};
use tidings_adapter::serde_json::{self, Map, Value, json};
use tidings_adapter::{Adapter, Draft, DriverLimits, Hub, Ownership, Topic, sse};

/// The adapter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ntfy;

/// A message's text: ntfy's own limit, which phones are sent in one push.
const MESSAGE_BYTES_MAX: usize = 4096;

impl Adapter for Ntfy {
    fn name(&self) -> &'static str {
        "ntfy"
    }

    /// ntfy's ids are places in one sequence: `a,b/json?since=<id>` takes an id of either topic. So
    /// all topics stand in one partition, and the ids of its events are ntfy's.
    fn ownership(&self) -> Vec<Ownership> {
        vec![Ownership {
            root: "ntfy",
            placement_key: |_| "ntfy",
        }]
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        let other = async || refusal(40401, "page not found");
        Router::new()
            .route("/", post(publish).put(publish))
            .route("/{topic}", post(publish).put(publish))
            .route("/{topics}/{format}", get(subscribe))
            .route("/v1/health", get(Json(json!({ "healthy": true }))))
            .fallback(other)
            .method_not_allowed_fallback(other)
            // JSON stands around the text, and escapes in it.
            .layer(DefaultBodyLimit::max(2 * MESSAGE_BYTES_MAX))
            .with_state(hub)
    }
}

/// A topic by its name at the client.
fn topic(name: &str) -> Result<Topic> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let good = name.len() <= 64 && name.chars().all(letter);
    let topic = Topic::parse(&format!("ntfy/{name}")).ok().filter(|_| good);
    topic.ok_or_else(|| refusal(40009, "invalid request: topic invalid"))
}

/// A parameter: as a header, or in the query; empty when it is not given.
fn parameter(parts: &Parts, name: &str) -> String {
    let headers = &parts.headers;
    let header = headers.get(format!("x-{name}")).or(headers.get(name));
    let query = Query::<Map<String, Value>>::try_from_uri(&parts.uri).ok();
    let query = query.as_ref().and_then(|query| query.get(name)?.as_str());
    let text = header.map_or(query.unwrap_or_default().as_bytes(), |it| it.as_bytes());
    String::from_utf8_lossy(text).trim().to_owned()
}

/// A refusal in ntfy's form: the first three digits of its code are the HTTP status. One that passes
/// by itself says when to come back.
type Refusal = (StatusCode, Option<[(&'static str, u16); 1]>, Json<Value>);
type Result<T, E = Refusal> = std::result::Result<T, E>;

fn refusal(code: u16, error: impl ToString) -> Refusal {
    let status = StatusCode::from_u16(code / 100).unwrap_or_default();
    let body = json!({ "code": code, "http": code / 100, "error": error.to_string() });
    let hint = (status == 503).then_some([("retry-after", 5)]);
    (status, hint, Json(body))
}

/// What is looked for in headers and query. All but the first five are refused in a message: they are
/// not done here, and whoever asks for them should know.
const PARAMETERS: &str =
    "message title priority tags click delay at in attach filename actions email call cache";

/// `PUT` or `POST /<topic>` with the text as the body, or all of the message as JSON to `/`. The
/// answer is the message as readers get it.
async fn publish(
    State(hub): State<Hub>,
    path: Option<Path<String>>,
    parts: Parts,
    body: Result<String, StringRejection>,
) -> Result<Response> {
    let body = body.map_err(|error| refusal(error.status().as_u16() * 100, error))?;
    let mut message: Map<String, Value> = match path {
        None => serde_json::from_str(&body).map_err(|error| refusal(40024, error))?,
        Some(Path(topic)) => {
            let names = PARAMETERS.split(' ');
            let given = names.map(|name| (name, parameter(&parts, name)));
            let all = given.chain([("topic", topic), ("message", body.trim().to_owned())]);
            let all = all.filter(|(_, text)| !text.is_empty());
            all.map(|(name, text)| (name.into(), text.into())).collect()
        }
    };
    let name = message.remove("topic").unwrap_or_default();
    let topic = topic(name.as_str().unwrap_or_default())?;
    message.entry("message").or_insert("triggered".into());
    for (name, value) in &mut message {
        match (name.as_str(), &*value) {
            ("message", Value::String(text)) if text.len() <= MESSAGE_BYTES_MAX => {}
            ("message", _) => return Err(refusal(41301, "the message is too large")),
            ("title" | "click", Value::String(_)) => {}
            ("tags", Value::Array(tags)) if tags.iter().all(Value::is_string) => {}
            ("tags", Value::String(tags)) => *value = tags.split(',').map(str::trim).collect(),
            ("priority", given) => *value = priority(given)?.into(),
            _ => return Err(refusal(40000, format!("invalid request: {name}"))),
        }
    }
    let data = Value::from(message).to_string();
    let draft = Draft::new(topic.clone(), "message", data.clone());
    // Whether it is stored may be unknown. The log's own words may name hosts.
    let Some(Ok(stored)) = hub.publish(vec![draft]).await.pop() else {
        return Err(refusal(50301, "not known to be stored; try again"));
    };
    let answer = subscription::message(stored.id, &topic, data.as_bytes());
    Ok(([("content-type", "application/json")], answer).into_response())
}

/// A priority by number or name. Browsers send `priority: u=1` with everything (RFC 9218).
fn priority(given: &Value) -> Result<usize> {
    let text = given.as_str().map_or(given.to_string(), str::to_lowercase);
    let mut names = "1 min min 2 low low 3 default u= 4 high high 5 max urgent".split(' ');
    let at = names.position(|name| text.split_inclusive('=').next() == Some(name));
    Ok(at.ok_or_else(|| refusal(40007, "invalid priority parameter"))? / 3 + 1)
}

/// `GET /<topic>[,<topic>…]/json|sse|raw|ws`.
async fn subscribe(
    State(hub): State<Hub>,
    Path((names, format)): Path<(String, String)>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parts: Parts,
) -> Result<Response> {
    let poll = ["1", "yes", "true"].contains(&&*parameter(&parts, "poll"));
    let since = parameter(&parts, "since");
    let session = subscription::Subscription::new(&names, &format, &since, poll, hub.now())?;
    let topics = hub.topic_set(session.topics.clone());
    topics.map_err(|error| refusal(40009, error))?;
    let kind = [("content-type", session.format.1)];
    let limits = DriverLimits::default();
    match (format.as_str(), upgrade) {
        ("ws", Ok(upgrade)) => Ok(tidings_adapter::ws::serve(&hub, upgrade, session, limits)),
        ("ws", Err(error)) => Err(refusal(40016, error)),
        _ => Ok((kind, sse::serve(&hub, session, limits).await).into_response()),
    }
}
