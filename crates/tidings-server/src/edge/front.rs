//! What a listener answers with: the server's own paths, and behind them whoever a request is for.
//!
//! Each of those is asked whole, so that an adapter keeps its own 404 and 405 where it shares a
//! listener. Until there is a log, only the health is answered: while Redis is away at start, the
//! process is alive and says that it is not ready. Event streams wait: any status but 200 would end a
//! browser's `EventSource` for good.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{OriginalUri, Request};
use axum::response::{IntoResponse as _, Response};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, header};
use hyper::body::{Frame, SizeHint};
use tokio::sync::SetOnce;
use tokio::time::Sleep;
use tower::Service as _;
use tower_http::catch_panic::CatchPanicLayer;

use super::plan::{HostName, Place, Prefix, SERVER_PATHS, within};
use crate::health;
use crate::native::Refused;
use crate::problem::{Cause, Problem};

/// How long an event stream waits for the log at start: as long as a restart takes, and no longer than
/// proxies wait for a head.
const SOURCE_PATIENCE: Duration = Duration::from_secs(5);

/// What an `EventSource` is told to wait after that: what browsers wait by themselves.
const COME_BACK_MS: u32 = 3_000;

/// What one listener answers with. Clones are the same.
#[derive(Debug, Clone)]
pub struct Front {
    refused: Refused,
    open: Arc<SetOnce<Open>>,
}

/// Who is behind a listener, once there is a log.
#[derive(Debug)]
struct Open {
    /// Answers [`SERVER_PATHS`].
    server: Router,
    /// The most particular first.
    behind: Vec<Behind>,
}

#[derive(Debug, Clone)]
struct Behind {
    host: Option<HostName>,
    path: Option<Prefix>,
    router: Router,
    /// How long its request bodies may bring nothing; `None` for who looks after that itself.
    body_timeout: Option<Duration>,
}

impl Front {
    /// With nobody behind it.
    #[must_use]
    pub fn new(refused: Refused) -> Self {
        Self {
            refused,
            open: Arc::default(),
        }
    }

    /// Lets requests through: to `native`, which answers the server's own paths on every listener,
    /// and to `adapters`, by their number in the plan.
    pub fn open(
        &self,
        places: &[Place],
        native: &Router,
        adapters: &[Router],
        body_timeout: Duration,
    ) {
        let mut behind: Vec<_> = places
            .iter()
            .map(|place| {
                let (router, body_timeout) = match place.who.checked_sub(1) {
                    None => (native.clone(), None),
                    // A handler that panics would else end the connection, and with HTTP/2 all that
                    // goes on beside it.
                    Some(adapter) => (
                        adapters[adapter].clone().layer(CatchPanicLayer::new()),
                        Some(body_timeout),
                    ),
                };
                Behind {
                    host: place.host.clone(),
                    path: place.path.clone(),
                    router,
                    body_timeout,
                }
            })
            .collect();
        behind.sort_by_key(|one| {
            let length = one.path.as_ref().map_or(0, |path| path.0.len());
            std::cmp::Reverse((one.host.is_some(), length))
        });
        // Opened once, by the one who made it.
        let _ = self.open.set(Open {
            server: native.clone(),
            behind,
        });
    }

    /// Answers a request.
    pub async fn answer(&self, mut request: Request) -> Response {
        let open = match self.open.get() {
            Some(open) => open,
            None if !is_source(&request) => return self.closed(&request),
            None => match tokio::time::timeout(SOURCE_PATIENCE, self.open.wait()).await {
                Ok(open) => open,
                Err(_) => return come_back(&request),
            },
        };
        if SERVER_PATHS.contains(&request.uri().path()) {
            return ask(&open.server, request).await;
        }
        let host = host_of(request.uri(), request.headers());
        let found = open.behind.iter().find_map(|one| {
            let same = one
                .host
                .as_ref()
                .is_none_or(|name| host.is_some_and(|host| host.eq_ignore_ascii_case(&name.0)));
            let path = request.uri().path();
            let rest = match &one.path {
                Some(prefix) => Some(within(path, &prefix.0)?.to_owned()),
                None => None,
            };
            same.then_some((one, rest))
        });
        let Some((behind, rest)) = found else {
            return self.refuse(Cause::NotFound, "nobody is reached by this host and path");
        };
        if let Some(rest) = rest {
            match below(request.uri(), rest) {
                Some(uri) => {
                    let original = std::mem::replace(request.uri_mut(), uri);
                    request.extensions_mut().insert(OriginalUri(original));
                }
                None => return self.refuse(Cause::NotFound, "this is no path"),
            }
        }
        if let Some(stall) = behind.body_timeout
            && !request.body().is_end_stream()
        {
            request = request.map(|body| Body::new(Coming::new(body, stall)));
        }
        ask(&behind.router, request).await
    }

    fn closed(&self, request: &Request) -> Response {
        match request.uri().path() {
            "/healthz" => health::alive(),
            "/readyz" => health::not_yet(),
            _ => self.refuse(Cause::LogUnavailable, "this instance waits for its log"),
        }
    }

    fn refuse(&self, cause: Cause, detail: &str) -> Response {
        self.refused.count(cause);
        Problem::new(cause, detail).into_response()
    }
}

/// Whether an `EventSource` asks. Durable Streams' clients ask for streams of topics, and come back
/// after a 503 by themselves.
fn is_source(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT);
    accepts.is_some_and(|accepts| accepts.as_bytes() == b"text/event-stream")
        && !request.uri().path().starts_with("/v1/topics/")
}

/// A stream that ends at once, so that an `EventSource` comes back. Pages of every origin may read it:
/// there is nothing in it, and one that may not would never come back.
fn come_back(request: &Request) -> Response {
    let mut response = Response::new(Body::from(format!("retry: {COME_BACK_MS}\n\n")));
    let headers = response.headers_mut();
    let event_stream = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, event_stream);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let credentials = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

async fn ask(router: &Router, request: Request) -> Response {
    // A router is always ready.
    match router.clone().call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The host that a request is for, without its port.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    // HTTP/2 has it in the URI.
    let given = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    let host = given.rsplit_once('@').map_or(given, |(_, host)| host);
    Some(match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    })
}

/// The URI with this path instead of its own.
fn below(uri: &Uri, mut path: String) -> Option<Uri> {
    if path.is_empty() {
        path.push('/');
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(path)).ok()?);
    Uri::from_parts(parts).ok()
}

/// A request's body that fails when it brings nothing for too long. Whoever reads it would else wait
/// as long as its client likes.
struct Coming {
    body: Body,
    stall: Duration,
    since: Option<Pin<Box<Sleep>>>,
}

impl Coming {
    fn new(body: Body, stall: Duration) -> Self {
        Self {
            body,
            stall,
            since: None,
        }
    }
}

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.since = None;
            return polled;
        }
        let stall = self.stall;
        let since = self
            .since
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        since.as_mut().poll(cx).map(|()| {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Some(Err(axum::Error::new(late)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port() {
        let table = [
            ("push.example", Some("push.example")),
            ("Push.Example:8443", Some("Push.Example")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", Some("")),
        ];
        for (host, expected) in table {
            let headers: HeaderMap = [(header::HOST, host.parse().expect("a value"))]
                .into_iter()
                .collect();
            assert_eq!(host_of(&Uri::from_static("/x"), &headers), expected);
        }
        assert_eq!(host_of(&Uri::from_static("/x"), &HeaderMap::new()), None);
        let absolute = Uri::from_static("https://u@a.example:1/x");
        assert_eq!(host_of(&absolute, &HeaderMap::new()), Some("a.example"));
    }

    #[test]
    fn what_is_left_of_a_path() {
        let table = [
            ("/push", "/push", Some("/")),
            ("/push/", "/push", Some("/")),
            ("/push/a?b=c", "/push", Some("/a?b=c")),
            ("/push?b=c", "/push", Some("/?b=c")),
            ("/push//a", "/push", Some("//a")),
            ("/pusher", "/push", None),
            ("/a/push", "/push", None),
            ("/a/b/c", "/a/b", Some("/c")),
        ];
        for (uri, prefix, expected) in table {
            let uri = Uri::from_static(uri);
            let rest = within(uri.path(), prefix)
                .map(|rest| below(&uri, rest.to_owned()).expect("a path").to_string());
            assert_eq!(rest.as_deref(), expected, "{uri}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_fails() {
        use http_body_util::{BodyExt as _, StreamBody};
        let once =
            futures_util::stream::iter([Ok::<_, axum::Error>(Frame::data(Bytes::from("a")))]);
        let stops = futures_util::StreamExt::chain(once, futures_util::stream::pending());
        let body = Body::new(Coming::new(
            Body::new(StreamBody::new(stops)),
            Duration::from_secs(10),
        ));
        let started = tokio::time::Instant::now();
        body.collect().await.expect_err("given up");
        assert_eq!(started.elapsed().as_secs(), 10);
    }
}
