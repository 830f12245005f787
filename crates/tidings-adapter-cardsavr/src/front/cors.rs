//! Web pages: what the browser asks before it calls, and what scripts may see (row 18).

use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN,
    VARY,
};
use tidings_adapter::http::{HeaderMap, HeaderValue, StatusCode};

use crate::options::Origins;

/// What scripts see of a reply. Without the first three the SDK verifies nothing.
const EXPOSED: &str = "x-cardsavr-authorization, x-cardsavr-nonce, x-cardsavr-signature, \
                       x-cardsavr-paging, retry-after";

/// Headers that are taken without `x-cardsavr-` before them, too.
const BARE: [&str; 11] = [
    "accept",
    "cardholder-safe-key",
    "cardsavr-messaging-access-key",
    "content-type",
    "envelope-id",
    "financial-institution",
    "hydration",
    "new-cardholder-safe-key",
    "paging",
    "session-jwt",
    "trace",
];

/// Names of one preflight: the SDK asks for nine.
const NAMES_MAX: usize = 64;

/// What `OPTIONS` is answered, but for the origin.
pub(super) fn preflight(headers: &HeaderMap) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked.and_then(|names| names.to_str().ok());
    let names = allowed(asked.unwrap_or_default());
    if let Ok(names) = HeaderValue::from_str(&names)
        && !names.is_empty()
    {
        let all = response.headers_mut();
        all.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    let all = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PUT, OPTIONS");
    all.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    // Two hours, the longest that browsers keep it.
    all.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    let varies = HeaderValue::from_static("access-control-request-headers");
    all.insert(VARY, varies);
    response
}

/// Of the names that are asked for those that mean something here.
fn allowed(asked: &str) -> String {
    let names = asked
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase());
    let ours = |name: &String| {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let good = name.len() <= 128 && name.bytes().all(token);
        good && (name.starts_with("x-cardsavr-") || BARE.contains(&name.as_str()))
    };
    let names: Vec<_> = names.filter(ours).take(NAMES_MAX).collect();
    names.join(", ")
}

/// Lets the page's scripts read a reply, if its origin may.
pub(super) fn allow(origins: &Origins, asked: &HeaderMap, reply: &mut HeaderMap) {
    let Some(origin) = asked.get(ORIGIN) else {
        return;
    };
    let origin = match origins {
        Origins::All => HeaderValue::from_static("*"),
        Origins::These(these) => {
            reply.append(VARY, HeaderValue::from_static("origin"));
            if !these.contains(origin) {
                return;
            }
            origin.clone()
        }
    };
    reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = HeaderValue::from_static(EXPOSED);
    reply.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_mean_something() {
        let asked = "X-CardSavr-Nonce, content-type,x-other, trace,, x-cardsavr-a b";
        assert_eq!(allowed(asked), "x-cardsavr-nonce, content-type, trace");
        let many = "trace,".repeat(1000);
        assert_eq!(allowed(&many).split(", ").count(), NAMES_MAX);
    }

    #[test]
    fn origins_that_may() {
        let page = HeaderValue::from_static("https://a.test");
        let asked = HeaderMap::from_iter([(ORIGIN, page.clone())]);
        for (origins, allowed) in [
            (Origins::All, Some("*")),
            (Origins::These(vec![page]), Some("https://a.test")),
            (Origins::These(vec![]), None),
        ] {
            let mut reply = HeaderMap::new();
            allow(&origins, &asked, &mut reply);
            let header = reply.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(header.and_then(|one| one.to_str().ok()), allowed);
            assert_eq!(
                reply.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS),
                allowed.is_some()
            );
        }
        let mut reply = HeaderMap::new();
        allow(&Origins::All, &HeaderMap::new(), &mut reply);
        assert!(reply.is_empty());
    }
}
