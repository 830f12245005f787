//! The front: from an HTTP request to a route's work and back.
//!
//! In this order: which route, the body, who asks and whether he signed it, how often he asks, what
//! the body says in clear, the work. What is refused before the signature was verified is answered in
//! clear: a client cannot read what is encrypted with a key that it does not have. Afterwards every
//! answer is signed and encrypted, but for 401, which clients read in clear.

mod admit;
mod cors;
mod fuzz;
mod reply;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;
use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::extract::{Request, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::header::{ALLOW, CONTENT_LENGTH};
use tidings_adapter::http::request::Parts;
use tidings_adapter::http::{HeaderValue, Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::request::Asked;
use crate::routes::{Act, Found};
use crate::session::login;

pub use fuzz::fuzz_envelope;
use reply::Voice;

/// From the head of a request to its reply: clients give up after 10 s.
const WHOLE: Duration = Duration::from_secs(9);

/// For the body to come. A few hundred KiB need less on the worst of networks that polls.
const BODY: Duration = Duration::from_secs(5);

/// What a path leads to.
enum Way<'a> {
    Login,
    Start,
    Row(&'a Act, Option<u64>),
}

/// Every request.
pub(crate) async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut response = if head.method == Method::OPTIONS {
        cors::preflight(&head.headers)
    } else {
        accept(&shared, &head, body).await
    };
    let (origins, headers) = (&shared.settings.origins, &head.headers);
    cors::allow(origins, headers, response.headers_mut());
    response
}

async fn accept(shared: &Arc<Shared>, head: &Parts, body: Body) -> Response {
    let end = Instant::now() + WHOLE;
    let path = plain_path(head.uri.path());
    let way = match way(shared, &head.method, path) {
        Ok(way) => way,
        Err(response) => return *response,
    };
    let body = match read(head, body, shared.settings.body_bytes).await {
        Ok(body) => body,
        Err(refused) => return Voice::Clear.reply(shared.hub.now().unix_ms, Err(refused)),
    };
    admit::note(&head.headers);
    let (voice, answered) = match way {
        Way::Start if shared.settings.unsigned => (Voice::Clear, Ok(login::start())),
        Way::Start => (Voice::Clear, Err(Refused::unauthorized(admit::UNSIGNED))),
        Way::Login => {
            let admitted = timeout_at(end, admit::login(shared, head, &body));
            let late = |_| (Voice::Clear, Err(Refused::unavailable()));
            admitted.await.unwrap_or_else(late)
        }
        Way::Row(act, id) => row(shared, head, &body, path, act, id, end).await,
    };
    voice.reply(shared.hub.now().unix_ms, answered)
}

/// A row of the table, for somebody with a session.
async fn row(
    shared: &Arc<Shared>,
    head: &Parts,
    body: &Bytes,
    path: &str,
    act: &Act,
    id: Option<u64>,
    end: Instant,
) -> (Voice, Result<Answer, Refused>) {
    let admitted = timeout_at(end, admit::session(shared, head, body)).await;
    let admitted = match admitted.unwrap_or_else(|_| Err(Refused::unavailable())) {
        Ok(admitted) => admitted,
        Err(refused) => return (Voice::Clear, Err(refused)),
    };
    let (session, voice) = (admitted.session, admitted.voice);
    let now_ms = shared.hub.now().unix_ms;
    let limit = shared.settings.session_requests;
    if limit > 0 && shared.requests.count(&session.id, now_ms) > limit {
        let rest = shared.requests.rest_seconds(now_ms);
        return (voice, Err(Refused::too_many(rest)));
    }
    let (clear, voice) = match voice.open(&head.method, body) {
        Ok(opened) => opened,
        Err((voice, refused)) => return (voice, Err(refused)),
    };
    let asked = Asked {
        session,
        method: head.method.clone(),
        path: path.to_owned(),
        id,
        raw_query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers.clone(),
        body: clear,
    };
    let answered = work(shared, act, asked, end).await;
    (voice, answered)
}

/// Does a route's work, bounded. Where it is refused to a session that was remembered, the rights may
/// have been given through another instance a moment ago: its record is looked at before that is
/// said.
async fn work(
    shared: &Arc<Shared>,
    act: &Act,
    asked: Asked,
    end: Instant,
) -> Result<Answer, Refused> {
    let first = run(shared, act, asked.clone(), end).await;
    let Err(refused) = first else { return first };
    // What may not be seen may be answered as if it was not there.
    if !matches!(
        refused.status,
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
    ) {
        return Err(refused);
    }
    let (id, settings) = (&asked.session.id, &shared.settings);
    let fresh = timeout_at(end, shared.desk.fresh(&shared.hub, settings, id)).await;
    match fresh {
        Ok(Ok(session)) if session.grants != asked.session.grants => {
            run(shared, act, Asked { session, ..asked }, end).await
        }
        _ => Err(refused),
    }
}

/// On a task of its own: a client that leaves does not take back what it has asked for.
async fn run(
    shared: &Arc<Shared>,
    act: &Act,
    asked: Asked,
    end: Instant,
) -> Result<Answer, Refused> {
    let path = asked.path.clone();
    let task = tokio::spawn(act(shared.clone(), asked));
    match timeout_at(end, task).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => {
            tracing::error!(%error, %path, "a route's work ended early");
            Err(Refused::unavailable())
        }
        Err(_) => Err(Refused::unavailable()),
    }
}

/// Where a request leads, or why nowhere.
fn way<'a>(shared: &'a Shared, method: &Method, path: &str) -> Result<Way<'a>, Box<Response>> {
    let others = match (path, method) {
        ("/session/login", &Method::POST) => return Ok(Way::Login),
        ("/session/start", &Method::GET) => return Ok(Way::Start),
        ("/session/login", _) => vec![Method::POST],
        ("/session/start", _) => vec![Method::GET],
        _ => match shared.table.find(method, path) {
            Found::Row(act, id) => return Ok(Way::Row(act, id)),
            Found::OtherMethods(others) => others,
            Found::Nothing => Vec::new(),
        },
    };
    let refused = if others.is_empty() {
        Refused::not_found("there is nothing under this path")
    } else {
        Refused::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path has other methods",
        )
    };
    let mut response = Voice::Clear.reply(0, Err(refused));
    let names: Vec<_> = others.iter().map(Method::as_str).collect();
    if let Ok(allow) = HeaderValue::from_str(&names.join(", "))
        && !names.is_empty()
    {
        response.headers_mut().insert(ALLOW, allow);
    }
    Err(Box::new(response))
}

/// A path without the `/` at its end that clients may write.
fn plain_path(path: &str) -> &str {
    path.strip_suffix('/')
        .filter(|path| !path.is_empty())
        .unwrap_or(path)
}

/// The body, bounded in size and time.
async fn read(head: &Parts, body: Body, bytes_max: usize) -> Result<Bytes, Refused> {
    let too_large = || {
        let words = format!("a body has at most {bytes_max} bytes");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, words)
    };
    let said = head.headers.get(CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refused::bad("", "the body breaks off")),
        Err(_) => Err(Refused::bad("", "the body did not come in time")),
    }
}

/// A body in clear; nothing is [`Value::Null`].
fn json(text: &[u8]) -> Result<Value, Refused> {
    if text.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(text).map_err(|_| Refused::bad("", "the body is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_with_a_slash_at_their_end() {
        for (given, path) in [("/a/b/", "/a/b"), ("/a", "/a"), ("/", "/"), ("/a//", "/a/")] {
            assert_eq!(plain_path(given), path);
        }
    }

    #[test]
    fn bodies_in_clear() {
        assert_eq!(json(b""), Ok(Value::Null));
        assert_eq!(json(b" \n"), Ok(Value::Null));
        assert_eq!(json(b"{}"), Ok(serde_json::json!({})));
        let deep = "[".repeat(100_000);
        for bad in ["{", "{}x", "\u{feff}{}", deep.as_str()] {
            assert!(json(bad.as_bytes()).is_err());
        }
    }
}
