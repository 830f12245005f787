//! Opening a websocket: which protocol, whose token; and a refusal that clients understand.
//!
//! A bad token is refused after the upgrade, in a frame: browsers cannot read the status of a failed
//! upgrade, and `@rails/actioncable` would try again for ever. Only what is no websocket of ours at
//! all is refused before it.
//!
//! Neither tokens nor query strings are logged.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::extract::State;
use tidings_adapter::axum::extract::ws::WebSocketUpgrade;
use tidings_adapter::axum::extract::ws::rejection::WebSocketUpgradeRejection;
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::{AUTHORIZATION, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use tidings_adapter::http::request::Parts;
use tidings_adapter::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tidings_adapter::{DriverLimits, ws};

use crate::Shared;
use crate::session::{Connection, Mode};
use crate::token::{Grant, Refused, grant};

/// How long a client waits for its token to be looked at. It must hear something within 3 s.
const PATIENCE: Duration = Duration::from_millis(2_000);

/// What a protocol entry begins with that carries a token.
const TOKEN_ENTRY: &str = "anycable-token.";

pub(crate) async fn connect(
    State(shared): State<Arc<Shared>>,
    parts: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return no_websocket();
    };
    if !is_welcome(&parts.headers, &shared.settings.origins) {
        return refused(StatusCode::FORBIDDEN, "Forbidden");
    }
    let protocol = protocol(&parts.headers);
    let upgrade = match protocol {
        Some(name) => upgrade.protocols([name]),
        None => upgrade,
    };
    let mode = match protocol {
        Some(EXTENDED) => Mode::Extended,
        _ => Mode::Base,
    };
    let admitted = admit(&shared, token(&parts.headers, &parts.uri)).await;
    let epoch = match &admitted {
        Ok(_) => shared.epoch.get(&shared.hub).await,
        Err(_) => None,
    };
    let settings = shared.settings.session.clone();
    let session = Connection::new(admitted, mode, settings, epoch);
    let limits = DriverLimits {
        frame_bytes: shared.settings.command_bytes,
        write_stall: shared.settings.write_stall,
        ..DriverLimits::default()
    };
    ws::serve(&shared.hub, upgrade, session, limits)
}

/// Looks at a token.
async fn admit(shared: &Shared, token: Option<String>) -> Result<Grant, Refused> {
    let token = token.ok_or(Refused::Unauthorized)?;
    let now_ms = shared.hub.now().unix_ms;
    let verifying = shared.verifier.verify(&token, now_ms);
    let claims = tokio::time::timeout(PATIENCE, verifying)
        .await
        .map_err(|_| Refused::TryAgain)??;
    if let Some(id) = &claims.id
        && shared.revoked.contains(id)
    {
        return Err(Refused::Unauthorized);
    }
    grant(&claims, &shared.settings)
}

const BASE: &str = "actioncable-v1-json";
const EXTENDED: &str = "actioncable-v1-ext-json";

/// The first of the protocols offered that is known. Of one that is not, or carries a token, the name
/// is never said back.
fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    offered(headers).find_map(|one| [BASE, EXTENDED].into_iter().find(|known| *known == one))
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
}

/// The token: in the `Authorization` header, else in one of the places that clients use who cannot
/// set it.
fn token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let header = || headers.get("x-jid").and_then(|value| value.to_str().ok());
    let query = || {
        let query = uri.query()?.as_bytes();
        let mut parameters = form_urlencoded::parse(query);
        parameters.find_map(|(name, value)| (name == "jid").then(|| value.into_owned()))
    };
    let entry = || offered(headers).find_map(|one| one.strip_prefix(TOKEN_ENTRY));
    bearer
        .or_else(header)
        .map(str::to_owned)
        .or_else(query)
        .or_else(|| entry().map(str::to_owned))
        .filter(|token| !token.is_empty())
}

/// Whether a page of this origin may connect. Who is no browser sends none.
fn is_welcome(headers: &HeaderMap, origins: &[HeaderValue]) -> bool {
    let origin = headers.get(ORIGIN);
    origins.is_empty() || origin.is_none_or(|origin| origins.contains(origin))
}

fn refused(status: StatusCode, words: &'static str) -> Response {
    let mut response = Response::new(Body::from(words));
    *response.status_mut() = status;
    response
}

fn no_websocket() -> Response {
    let mut response = refused(StatusCode::UPGRADE_REQUIRED, "a websocket is opened here");
    let websocket = HeaderValue::from_static("websocket");
    response.headers_mut().insert(UPGRADE, websocket);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("text"));
        }
        headers
    }

    #[test]
    fn protocols() {
        for (offered, selected) in [
            ("actioncable-v1-json, actioncable-unsupported", Some(BASE)),
            ("actioncable-v1-json", Some(BASE)),
            ("actioncable-v1-ext-json", Some(EXTENDED)),
            (
                "actioncable-v1-ext-json,actioncable-v1-json",
                Some(EXTENDED),
            ),
            ("actioncable-unsupported", None),
            ("actioncable-v1-ext-msgpack, graphql-ws", None),
            ("anycable-token.abc, actioncable-v1-json", Some(BASE)),
            ("actioncable-v1-json, anycable-token.abc", Some(BASE)),
            ("anycable-token.abc", None),
            ("", None),
        ] {
            let offered = headers(&[("sec-websocket-protocol", offered)]);
            assert_eq!(protocol(&offered), selected, "{offered:?}");
        }
        let two_lines = headers(&[
            ("sec-websocket-protocol", "anycable-token.abc"),
            ("sec-websocket-protocol", "actioncable-v1-json"),
        ]);
        assert_eq!(protocol(&two_lines), Some(BASE));
        assert_eq!(protocol(&HeaderMap::new()), None);
    }

    #[test]
    fn tokens() {
        let all = [
            ("authorization", "bearer A"),
            ("x-jid", "B"),
            ("sec-websocket-protocol", "x, anycable-token.D"),
        ];
        let with: Uri = "/cable?a=b&jid=C%2B&jid=E".parse().expect("good");
        let without: Uri = "/cable".parse().expect("good");
        for (lines, uri, expected) in [
            (&all[..], &with, Some("A")),
            (&all[1..], &with, Some("B")),
            (&all[2..], &with, Some("C+")),
            (&all[2..], &without, Some("D")),
            (&[][..], &without, None),
            (&[("authorization", "Basic A")][..], &without, None),
            (&[("authorization", "Bearer ")][..], &without, None),
        ] {
            assert_eq!(
                token(&headers(lines), uri).as_deref(),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn origins() {
        let page = headers(&[("origin", "https://a.example")]);
        let allowed = [HeaderValue::from_static("https://a.example")];
        let other = [HeaderValue::from_static("https://b.example")];
        assert!(is_welcome(&page, &[]));
        assert!(is_welcome(&page, &allowed));
        assert!(!is_welcome(&page, &other));
        assert!(is_welcome(&HeaderMap::new(), &other));
    }
}
