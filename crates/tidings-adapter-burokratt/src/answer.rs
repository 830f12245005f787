//! Answers over HTTP: `{"data":…,"error":null}` or `{"response":…}`, and a refusal says why.

use serde_json::{Value, json};
use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::{CONTENT_TYPE, RETRY_AFTER};
use tidings_adapter::http::{HeaderValue, StatusCode};
use tidings_adapter::{CommandError, LogError, PublishError};

/// A JSON answer.
pub(crate) fn json_text(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// An answer of 200.
pub(crate) fn ok(body: impl Into<Body>) -> Response {
    json_text(StatusCode::OK, body)
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400: what is wrong with it.
    Malformed(String),
    /// 401: nobody that is known.
    Unauthorized,
    /// 403: somebody who may not, or a place that takes none of this.
    Forbidden(&'static str),
    /// 404: there is no such thing.
    NotFound(&'static str),
    /// 409: not in this state.
    Conflict(&'static str),
    /// 413.
    TooLarge,
    /// 415: not JSON.
    NotJson,
    /// 503: it is not known to be stored; may be tried again. A stream closes its socket instead.
    Away,
}

impl Refusal {
    /// Something is missing.
    pub(crate) fn missing(name: &str) -> Self {
        Self::Malformed(format!("`{name}` is required"))
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Away => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Malformed(why) => why,
            Self::Unauthorized => "not authenticated",
            Self::Forbidden(why) | Self::NotFound(why) | Self::Conflict(why) => why,
            Self::TooLarge => "larger than is taken",
            Self::NotJson => "the content type is not application/json",
            Self::Away => "not available at the moment, try again",
        }
    }

    /// `{"data":null,"error":"…"}`.
    pub(crate) fn body(&self) -> String {
        json!({"data": Value::Null, "error": self.words()}).to_string()
    }

    /// As it is answered.
    pub(crate) fn response(&self) -> Response {
        let mut response = json_text(self.status(), self.body());
        if *self == Self::Away {
            let soon = HeaderValue::from_static("2");
            response.headers_mut().insert(RETRY_AFTER, soon);
        }
        response
    }
}

/// No chat of this id.
pub(crate) const NO_CHAT: Refusal = Refusal::NotFound("no such chat");

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        match &error {
            CommandError::Undecided(why) => tracing::error!(why, "a command cannot be decided"),
            // The log's own words may name hosts: they stay here.
            _ => tracing::debug!(%error, "a command came to nothing"),
        }
        Self::Away
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        tracing::debug!(%error, "the log was not read");
        Self::Away
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        tracing::debug!(%error, "an event was not stored");
        match error {
            PublishError::Draft(_) => Self::TooLarge,
            _ => Self::Away,
        }
    }
}

/// A path that is none.
pub(crate) async fn not_found() -> Response {
    Refusal::NotFound("there is nothing here").response()
}

/// A path that has other methods.
pub(crate) async fn method_not_allowed() -> Response {
    let body = json!({"data": Value::Null, "error": "not with this method"});
    json_text(StatusCode::METHOD_NOT_ALLOWED, body.to_string())
}
