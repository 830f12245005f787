//! `/healthz` and `/readyz`: whether the process is alive, and whether clients should be sent here.
//!
//! Being away from the log is no reason to be killed: readers stay connected and all recovers by
//! itself. So only `/readyz` knows of it: it is true while the instance's own probe comes back
//! through the log, and else says which direction is broken (`append-fails`, `tail-silent`).

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::native::Native;

/// The two routes.
pub(crate) fn routes() -> Router<Native> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
}

async fn healthz() -> Response {
    alive()
}

/// The process is alive.
pub(crate) fn alive() -> Response {
    answer(StatusCode::OK, &serde_json::json!({ "alive": true }))
}

/// There is no log yet.
pub(crate) fn not_yet() -> Response {
    let document = serde_json::json!({ "ready": false, "probe": "pending" });
    answer(StatusCode::SERVICE_UNAVAILABLE, &document)
}

async fn readyz(State(native): State<Native>) -> Response {
    let health = native.hub().health();
    let status = if health.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    // The reason may name hosts; it is in the log lines and not here, where anybody may ask.
    let document = serde_json::json!({
        "ready": health.is_ready(),
        "filled": health.filled,
        "tail_up": health.tail_up,
        "tail_proved_ms": health.tail_proved_ms,
        "clock_skewed": health.clock_skewed,
        "draining": health.draining,
        "probe": health.probe.as_str(),
        "probe_at_ms": health.probe_at_ms,
        "probe_ms": health.probe_ms,
    });
    answer(status, &document)
}

fn answer(status: StatusCode, document: &serde_json::Value) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, document.to_string()).into_response()
}
