//! Answers over HTTP, in the shapes that Zaikio's API has.

use serde_json::{Value, json};
use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use tidings_adapter::http::{HeaderMap, HeaderValue, StatusCode};

use crate::validate::Mistakes;

/// A JSON answer.
pub(crate) fn json_text(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not JSON, not an object, a parameter that is none.
    Malformed(&'static str),
    /// No app of this name with this password.
    Unauthorized,
    /// The body is larger than is taken.
    TooLarge,
    /// The event breaks rules.
    Invalid(Mistakes),
    /// The app has published more than its rate allows; it may go on later.
    TooMany { rule: String, reset_unix: u64 },
    /// It is not known to be stored; may be tried again.
    Unavailable,
}

impl Refusal {
    /// As it is answered.
    pub(crate) fn response(self) -> Response {
        let errors = |errors: Value| json!({ "errors": errors }).to_string();
        let mut headers = HeaderMap::new();
        let (status, body) = match self {
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, errors(json!([why]))),
            Self::Unauthorized => {
                let basic = HeaderValue::from_static("Basic realm=\"Loom\", charset=\"UTF-8\"");
                headers.insert(WWW_AUTHENTICATE, basic);
                (StatusCode::UNAUTHORIZED, errors(json!(["unauthorized"])))
            }
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                errors(json!({ "base": ["is too large"] })),
            ),
            Self::Invalid(mistakes) => (StatusCode::UNPROCESSABLE_ENTITY, errors(json!(mistakes))),
            Self::TooMany { rule, reset_unix } => {
                if let Ok(rule) = HeaderValue::from_str(&rule) {
                    headers.insert("RateLimit-Rule", rule);
                }
                headers.insert("RateLimit-Reset", reset_unix.into());
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    errors(json!(["rate_limit_exceeded"])),
                )
            }
            Self::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
                let why = "not known to be stored, try again";
                (StatusCode::SERVICE_UNAVAILABLE, errors(json!([why])))
            }
        };
        let mut response = json_text(status, body);
        response.headers_mut().extend(headers);
        response
    }
}

/// What Rails says where nothing is.
pub(crate) async fn not_found() -> Response {
    let mut response = Response::new(Body::from("Page not found"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// A path that has other methods.
pub(crate) async fn method_not_allowed() -> Response {
    json_text(
        StatusCode::METHOD_NOT_ALLOWED,
        json!({ "errors": ["method_not_allowed"] }).to_string(),
    )
}
