//! Answers over HTTP: every one has `meta.ok`, and a refusal says why.

use serde_json::{Value, json};
use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::extract::{FromRequest as _, Request};
use tidings_adapter::axum::response::Response;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use tidings_adapter::http::{HeaderMap, HeaderValue, StatusCode};
use tidings_adapter::{CommandError, LogError};

use crate::answer::Refusal;

/// A refusal: a status, words, and when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) words: String,
    pub(crate) retry_after_s: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self {
            status,
            words: words.into(),
            retry_after_s: None,
        }
    }

    pub(crate) fn bad(words: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, words)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized")
    }

    /// What is not known to be stored; may be tried again.
    pub(crate) fn away() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            words: "not known to be stored, try again".into(),
            retry_after_s: Some(2),
        }
    }

    pub(crate) fn response(self) -> Response {
        let mut response = json_answer(
            self.status,
            &json!({"meta": {"ok": false, "error": self.words}}),
        );
        if let Some(seconds) = self.retry_after_s {
            let value = HeaderValue::from(seconds);
            // Older clients look for the one, everybody else for the other.
            response.headers_mut().insert("retryafter", value.clone());
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self {
            retry_after_s: (refusal.status() == 503).then_some(1),
            ..Self::new(status, refusal.words())
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        if let CommandError::Undecided(why) = &error {
            tracing::error!(why, "a command cannot be decided");
        }
        // The log's own words may name hosts.
        Self::away()
    }
}

impl From<LogError> for Problem {
    fn from(_: LogError) -> Self {
        Self::away()
    }
}

pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The members of `more` beside `meta`.
pub(crate) fn ok(more: Value) -> Response {
    let mut body = json!({"meta": {"ok": true}});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    json_answer(StatusCode::OK, &body)
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

pub(crate) async fn read(request: Request) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
        } else {
            Problem::bad("the body breaks off")
        }
    })
}

pub(crate) async fn not_found() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here").response()
}

pub(crate) async fn method_not_allowed() -> Response {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method").response()
}
