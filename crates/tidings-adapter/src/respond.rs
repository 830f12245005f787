//! From a session's words to HTTP: refusals, statuses, headers.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use tidings_core::Refused;

use crate::conversation::Head;

/// A refusal as an HTTP answer, with the headers that the session asked for before.
pub(crate) fn refusal(refused: &Refused, head: Option<Head>) -> Response {
    let mut response = Response::new(Body::from(refused.body.clone()));
    apply(&mut response, head);
    *response.status_mut() = status(refused.status);
    // An answer without a body, such as 204, has no type either.
    if !refused.content_type.is_empty()
        && let Ok(value) = HeaderValue::from_str(&refused.content_type)
    {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// Puts a session's own status and headers on an answer.
pub(crate) fn apply(response: &mut Response, head: Option<Head>) {
    let Some(head) = head else { return };
    *response.status_mut() = status(head.status);
    for (name, value) in head.headers {
        // A value that is no header value is left out: it can only come from a session's mistake.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
