//! Pages of other origins: which may read answers, and what a preflight is told.
//!
//! A listed origin is answered by its own name, never `*`, because cookies come along. A page that is
//! not listed gets nothing, and with cookies in use its writes are refused: browsers send some of
//! them without asking before (beacons).

use std::sync::Arc;

use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::extract::{Request, State};
use tidings_adapter::axum::middleware::Next;
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use tidings_adapter::http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::Shared;
use crate::answer::Refusal;

pub(crate) async fn layer(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else {
        return next.run(request).await;
    };
    let listed = shared.settings.origins.contain(&origin);
    let preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let authority = request.uri().authority().map(|all| all.as_str());
    let foreign = !listed && !is_own(request.headers(), authority, &origin);
    let mut response = if preflight {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else if foreign && shared.tim.asks() && *request.method() == Method::POST {
        Refusal::Forbidden("not from this origin").response()
    } else {
        next.run(request).await
    };
    if listed {
        allow(response.headers_mut(), origin, preflight);
    }
    response
}

/// Whether a page comes from this server itself.
fn is_own(headers: &HeaderMap, authority: Option<&str>, origin: &HeaderValue) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let Some((_, origin)) = origin else {
        return false;
    };
    // HTTP/2 names the host in the request's own address.
    host.or(authority)
        .is_some_and(|host| host.eq_ignore_ascii_case(origin))
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue, preflight: bool) {
    let text = HeaderValue::from_static;
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, text("true"));
    headers.append(VARY, text("Origin"));
    if preflight {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, text("GET,POST"));
        // The widget's axios sends `cache-control` on every call.
        let names = "content-type, cache-control, last-event-id, pragma, expires, x-requested-with";
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, text(names));
        headers.insert(ACCESS_CONTROL_MAX_AGE, text("3600"));
    } else {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, text("x-last-event-id"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_pages_are_no_strangers() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("Chat.example:8080"));
        for (origin, own) in [
            ("http://chat.example:8080", true),
            ("https://chat.example:8080", true),
            ("http://chat.example", false),
            ("http://evil.example", false),
            ("null", false),
        ] {
            let origin = HeaderValue::from_static(origin);
            assert_eq!(is_own(&headers, None, &origin), own, "{origin:?}");
        }
    }
}
