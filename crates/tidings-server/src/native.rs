//! The native API as a router: which paths there are, who may use them, and the layers around them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, Method};
use prometheus::{IntCounterVec, Opts, Registry};
use tidings_adapter::Hub;
use tidings_adapter::jwt::KeyError;
use tidings_core::Topic;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::auth::Keyring;
use crate::config::{Config, Origin};
use crate::limits::PublishLimits;
use crate::problem::{CAUSE_HEADER, Cause, Problem};
use crate::publish::Publisher;
use crate::read::{self, ReadSettings};
use crate::wire::NAMES;
use crate::{health, read::parameters::Parameters};

/// Every route and its methods, as the OpenAPI document must have them.
pub const ROUTES: [(&str, &[&str]); 6] = [
    ("/v1/events", &["get", "post"]),
    ("/v1/topics/{topic}", &["get", "head"]),
    ("/healthz", &["get"]),
    ("/readyz", &["get"]),
    ("/metrics", &["get"]),
    ("/openapi.json", &["get"]),
];

/// The OpenAPI 3.1 document of these routes.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// What the routes share.
#[derive(Debug, Clone)]
pub struct Native(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hub: Hub,
    keyring: Keyring,
    publish: PublishLimits,
    read: ReadSettings,
    registry: Registry,
    refused: Refused,
}

/// Counts refusals by cause.
#[derive(Debug, Clone)]
pub struct Refused(IntCounterVec);

impl Refused {
    /// Registers `tidings_refused_total`, with a row for every cause.
    ///
    /// # Errors
    /// When the registry has a metric of this name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "tidings_refused_total",
            "Requests and entries refused, by cause",
        );
        let counter = IntCounterVec::new(opts, &["cause"])?;
        registry.register(Box::new(counter.clone()))?;
        for cause in Cause::ALL {
            counter.with_label_values(&[cause.slug()]);
        }
        Ok(Self(counter))
    }

    /// Counts one.
    pub fn count(&self, cause: Cause) {
        self.0.with_label_values(&[cause.slug()]).inc();
    }
}

impl Native {
    /// The native API over a hub.
    ///
    /// # Errors
    /// [`KeyError`] when an issuer's keys cannot be used.
    pub fn new(
        hub: Hub,
        config: &Config,
        registry: Registry,
        refused: Refused,
    ) -> Result<Self, KeyError> {
        Ok(Self(Arc::new(Shared {
            hub,
            keyring: Keyring::new(config)?,
            publish: PublishLimits::new(config),
            read: ReadSettings::new(config),
            registry,
            refused,
        })))
    }

    /// Its routes and the layers around them.
    pub fn router(self, config: &Config) -> Router {
        let shown_here = config.telemetry.metrics_listen.is_none();
        let shown_here = shown_here.then(shown).unwrap_or_default();
        let routes = Router::new()
            .route("/v1/events", get(events).merge(post(publish)))
            .route("/v1/topics/{*topic}", get(topic).head(topic))
            .merge(health::routes())
            .route("/openapi.json", get(openapi))
            .merge(shown_here)
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed);
        // From the inside out: what panics is answered like everything else, what is refused is
        // counted, and a browser's page may read refusals, too.
        routes
            .layer(CatchPanicLayer::custom(panicked))
            .layer(middleware::from_fn_with_state(self.clone(), count))
            .layer(cors(&config.api.cors_origins))
            .with_state(self)
    }

    /// The metrics and the health, for a listener that is for nothing else.
    pub(crate) fn metrics_alone(self) -> Router {
        let routes = shown().merge(health::routes());
        routes.fallback(not_found).with_state(self)
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }
}

fn shown() -> Router<Native> {
    Router::new().route("/metrics", get(metrics))
}

async fn publish(State(native): State<Native>, request: Request) -> Result<Response, Problem> {
    let shared = &native.0;
    let (parts, body) = request.into_parts();
    let rights = shared.keyring.identify(&parts, shared.hub.now()).await?;
    let publisher = Publisher {
        hub: &shared.hub,
        rights: &rights,
        limits: &shared.publish,
    };
    publisher.publish(&parts, body).await
}

async fn events(State(native): State<Native>, request: Request) -> Result<Response, Problem> {
    let shared = &native.0;
    let (parts, _) = request.into_parts();
    let rights = shared.keyring.identify(&parts, shared.hub.now()).await?;
    let query = parts.uri.query();
    for topic in Parameters::parse(query)?.topics()? {
        rights.read(&topic)?;
        not_own(&topic)?;
    }
    accepts(&parts.headers, "text/event-stream")?;
    let settings = shared.read.until(rights.until_unix_ms(), shared.hub.now());
    read::events(&shared.hub, &settings, query, &parts.headers).await
}

async fn topic(
    State(native): State<Native>,
    path: Result<Path<String>, PathRejection>,
    request: Parts,
) -> Result<Response, Problem> {
    let shared = &native.0;
    let rights = shared.keyring.identify(&request, shared.hub.now()).await?;
    let Path(path) = path.map_err(|error| Problem::new(Cause::InvalidTopic, error.to_string()))?;
    let topic = Topic::parse(&path)?;
    rights.read(&topic)?;
    not_own(&topic)?;
    let head_only = request.method == Method::HEAD;
    let query = request.uri.query();
    let settings = shared.read.until(rights.until_unix_ms(), shared.hub.now());
    read::topic(
        &shared.hub,
        &settings,
        topic,
        query,
        &request.headers,
        head_only,
    )
    .await
}

/// Whether an answer of this type is acceptable. A client that says nothing takes anything.
fn accepts(headers: &HeaderMap, kind: &str) -> Result<(), Problem> {
    let all = kind
        .split_once('/')
        .map(|(family, _)| format!("{family}/*"));
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(|range| {
            let mut parts = range.split(|b| *b == b';');
            let essence = parts
                .next()
                .unwrap_or_default()
                .trim_ascii()
                .to_ascii_lowercase();
            // Weight zero means "anything but this" (RFC 9110 §12.4.2).
            let wanted = !parts.any(|weight| {
                let weight = String::from_utf8_lossy(weight).replace(' ', "");
                weight
                    .strip_prefix("q=")
                    .is_some_and(|q| q.parse() == Ok(0.0_f32))
            });
            (String::from_utf8_lossy(&essence).into_owned(), wanted)
        })
        .filter(|(essence, _)| !essence.is_empty())
        .peekable();
    let fits = |(essence, wanted): (String, bool)| {
        wanted && (essence == kind || essence == "*/*" || Some(&essence) == all.as_ref())
    };
    if ranges.peek().is_none() || ranges.any(fits) {
        return Ok(());
    }
    let detail = format!("this route answers with `{kind}`");
    Err(Problem::new(Cause::NotAcceptable, detail).with("allowed", kind))
}

/// The hub's own topics are nobody's, whatever the key opens.
pub(crate) fn not_own(topic: &Topic) -> Result<(), Problem> {
    if !Hub::is_own(topic) {
        return Ok(());
    }
    let detail = format!("topics under `{}` are the hub's own", topic.root());
    Err(Problem::new(Cause::ForbiddenTopic, detail).with("topic", topic.as_str()))
}

async fn metrics(State(native): State<Native>) -> Result<Response, Problem> {
    let mut text = String::new();
    prometheus::TextEncoder::new()
        .encode_utf8(&native.0.registry.gather(), &mut text)
        .map_err(|error| Problem::new(Cause::Internal, error.to_string()))?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn not_found(request: Request) -> Problem {
    let detail = format!("there is no route `{}`", request.uri().path());
    Problem::new(Cause::NotFound, detail)
}

/// The router adds `Allow` to this answer.
async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("`{}` is not a method of this route", request.method());
    Problem::new(Cause::MethodNotAllowed, detail)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the layer hands over what the panic left"
)]
fn panicked(left: Box<dyn std::any::Any + Send>) -> Response {
    let said = left
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| left.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("nothing");
    tracing::error!(said, "a request panicked");
    Problem::new(Cause::Internal, "the request failed inside the server").into_response()
}

/// Counts refusals, and puts on every answer what keeps a browser from guessing its type.
async fn count(State(native): State<Native>, request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    // A session cannot reach the answer's extensions: it names its cause in a header.
    let named = response.headers_mut().remove(CAUSE_HEADER);
    let named = named.and_then(|slug| Cause::of_slug(slug.to_str().ok()?));
    if let Some(cause) = response.extensions().get::<Cause>().copied().or(named) {
        native.0.refused.count(cause);
        tracing::debug!(cause = cause.slug(), "refused");
    }
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// Which pages in a browser may use the API. No cookie is ever looked at, so none is allowed.
fn cors(origins: &[Origin]) -> CorsLayer {
    let one = |origin: &Origin| match origin {
        Origin::One(value) => Some(value.clone()),
        Origin::Any => None,
    };
    let allowed = if origins.contains(&Origin::Any) {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(one))
    };
    let plain = [
        "authorization",
        "content-type",
        "last-event-id",
        "if-none-match",
        "cache-control",
        "traceparent",
        "tracestate",
    ];
    let attributes = NAMES.iter().map(|name| format!("ce-{name}"));
    let headers = plain
        .iter()
        .map(|name| (*name).to_owned())
        .chain(attributes);
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(
            headers
                .filter_map(|name| HeaderName::try_from(name).ok())
                .collect::<Vec<_>>(),
        )
        .expose_headers(
            [
                "stream-next-offset",
                "stream-up-to-date",
                "stream-cursor",
                "etag",
                "retry-after",
                "www-authenticate",
            ]
            .map(HeaderName::from_static),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted() {
        let table = [
            (None, true),
            (Some(""), true),
            (Some("text/event-stream"), true),
            (Some("application/json, Text/Event-Stream;q=0.5"), true),
            (Some("*/*"), true),
            (Some("text/*;q=0.1"), true),
            (Some("application/json"), false),
            (Some("text/event-stream;q=0"), false),
            (Some("text/html, application/json;q=0.9"), false),
        ];
        for (value, accepted) in table {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(
                accepts(&headers, "text/event-stream").is_ok(),
                accepted,
                "{value:?}"
            );
        }
    }
}
