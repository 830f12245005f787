//! Components' health (contract section 6, D06 and D07), looked at by one instance for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings_adapter::axum::extract::State;
use tidings_adapter::axum::routing::{get, post};
use tidings_adapter::axum::{self, Router};
use tidings_adapter::http::StatusCode;

use crate::client::{Hub, until};

/// A component: what it answers, and how often it was asked.
#[derive(Default)]
struct Component {
    version: Mutex<Option<String>>,
    asked: AtomicUsize,
}

async fn healthz(State(component): State<Arc<Component>>) -> Result<String, StatusCode> {
    component.asked.fetch_add(1, Ordering::SeqCst);
    let version = component.version.lock().clone();
    let version = version.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(json!({"appName": "byk", "version": version}).to_string())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a stand-in that one test talks to"
)]
async fn component(only_post: bool) -> Result<(Arc<Component>, String)> {
    let component = Arc::new(Component::default());
    *component.version.lock() = Some("1.0".to_owned());
    let route = if only_post {
        post(healthz)
    } else {
        get(healthz)
    };
    let router = Router::new()
        .route("/healthz", route)
        .with_state(component.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/healthz", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((component, url))
}

#[tokio::test(flavor = "multi_thread")]
async fn components_go_down_and_come_up() -> Result<()> {
    let (tim, tim_url) = component(false).await?;
    let (resql, resql_url) = component(true).await?;
    let options = json!({
        "components": [{"name": "RESQL", "url": resql_url}, {"name": "TIM", "url": tim_url}],
        "component_every": "200ms",
        "component_timeout": "150ms",
    });
    let hub = Hub::start(options).await?;
    let row = |name: &str, version: Value, status: &str| json!({"name": name, "version": version, "status": status});
    let board = |tim: Value, resql: Value| {
        let down = |name| row(name, Value::Null, "down");
        json!({"data": {"set_healthz_response": {"data": [tim, down("RUUTER"), down("DMAPPER"), resql]}}, "error": null})
    };
    let up = |name, version: &str| row(name, json!(version), "up");
    let path = "/cs-get-components-healthz-status";
    for instance in [0, 1] {
        let good = board(up("TIM", "1.0"), up("RESQL", "1.0"));
        until(good, async || hub.got(instance, path).await).await?;
    }
    *tim.version.lock() = None;
    let bad = board(row("TIM", Value::Null, "down"), up("RESQL", "1.0"));
    until(bad, async || hub.got(0, path).await).await?;
    *tim.version.lock() = Some("1.1".to_owned());
    let back = board(up("TIM", "1.1"), up("RESQL", "1.0"));
    until(back, async || {
        hub.posted(1, &format!("/ruuter{path}"), &json!({})).await
    })
    .await?;
    // Two instances, one turn: over ten periods about ten looks, not twenty.
    let (since, before) = (
        std::time::Instant::now(),
        resql.asked.load(Ordering::SeqCst),
    );
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let periods = since.elapsed().as_millis() as usize / 200 + 2;
    let looks = resql.asked.load(Ordering::SeqCst) - before;
    assert!(looks <= periods, "{looks} looks in {periods} periods");
    Ok(())
}
