//! The client of Zaikio's documentation, a plain websocket: token in the header, no protocol, subscribed at `open`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{ADDED, CHANGED, Cluster, ORG, SECRET};
use crate::driver::Driver;

pub(crate) async fn all(cluster: &Cluster) -> Result<()> {
    tokio::try_join!(
        life(cluster),
        odd_frames(cluster),
        refused(cluster, cluster.forged().await?, "unauthorized"),
        refused(cluster, cluster.expired().await?, "token_expired"),
    )?;
    Ok(())
}

/// Subscribes as soon as the socket is open, before it is welcome.
fn client(cluster: &Cluster, token: &str, params: &[Value]) -> Result<Driver> {
    let first: Vec<Value> = params
        .iter()
        .enumerate()
        .map(|(at, params)| json!({"do": "subscribe", "as": at.to_string(), "params": params}))
        .collect();
    Driver::node(&json!({
        "client": "ws", "url": cluster.url(0), "token": token, "auth": "header", "first": first,
    }))
}

async fn life(cluster: &Cluster) -> Result<()> {
    let (added, secret) = (json!({"events": ADDED}), json!({"events": SECRET}));
    let subscriptions = [added.clone(), secret, added.clone(), added];
    let org = cluster.organisation();
    let mut client = client(cluster, &cluster.token(&org).await?, &subscriptions)?;
    let opened = Instant::now();
    let open = client.until("open", |_| true).await?;
    ensure!(open["protocol"] == "", "{open}");
    let identifier = format!(r#"{{"channel":"EventChannel","events":"{ADDED}"}}"#);
    client.frame("reject_subscription").await?;
    client.gets_in_order(cluster, &org, &identifier).await?;
    client
        .listen_until(opened + Duration::from_secs(15))
        .await?;
    client.was_never_stale()?;
    let frames: Vec<&Value> = client.all("frame").map(|line| &line["frame"]).collect();
    ensure!(frames[0] == &json!({"type": "welcome"}), "{frames:?}");
    let confirmed = json!({"identifier": identifier, "type": "confirm_subscription"});
    ensure!(frames[1] == &confirmed, "{frames:?}");
    // One confirmation for three commands, and one refusal.
    ensure!(frames.len() == 3, "{frames:?}");
    Ok(())
}

impl Driver {
    async fn gets_in_order(
        &mut self,
        cluster: &Cluster,
        org: &str,
        identifier: &str,
    ) -> Result<()> {
        cluster.publish_all(org, ADDED, 1..=50).await?;
        for number in 1..=50 {
            let frame = self.gets(number).await?;
            let members: Vec<&String> = frame.as_object().context("an object")?.keys().collect();
            ensure!(members == ["identifier", "message"], "{frame}");
            ensure!(frame["identifier"] == identifier, "{frame}");
        }
        Ok(())
    }
}

/// What a websocket may send besides whole texts; each is followed by a subscription that shows that all is well.
async fn odd_frames(cluster: &Cluster) -> Result<()> {
    let token = cluster.token(&cluster.organisation()).await?;
    let mut client = client(cluster, &token, &[])?;
    client.frame("welcome").await?;
    client.tell(json!({"do": "ping"})).await?;
    client.until("pong", |_| true).await?;

    let identifier = format!(r#"{{"channel":"EventChannel","events":"{ADDED}","of":"é 🎉"}}"#);
    let subscribe = json!({"command": "subscribe", "identifier": identifier, "unknown": {"a": []}});
    let text = subscribe.to_string();
    client
        .tell(json!({"do": "binary", "text": text.replace("é", "b")}))
        .await?;
    let parts: Vec<String> = text.chars().map(String::from).collect();
    client
        .tell(json!({"do": "fragments", "texts": parts}))
        .await?;
    let confirmed = client.frame("confirm_subscription").await?;
    ensure!(confirmed["identifier"] == identifier, "{confirmed}");
    ensure!(client.count("frame") == 2);
    Ok(())
}

async fn refused(cluster: &Cluster, token: String, reason: &str) -> Result<()> {
    let mut client = client(cluster, &token, &[json!({"events": ADDED})])?;
    let shut = client.until("shut", |_| true).await?;
    ensure!(shut["code"] == 1000, "{shut}");
    let frames: Vec<&Value> = client.all("frame").map(|line| &line["frame"]).collect();
    let expected = json!({"type": "disconnect", "reason": reason, "reconnect": false});
    ensure!(frames == [&expected], "{frames:?}");
    Ok(())
}

/// What is not acked comes again, live, until it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acked_comes_again() -> Result<()> {
    let cluster = Cluster::start("ack_wait = \"1s\"").await?;
    let cluster = &cluster;
    let mut client = Driver::node(&json!({
        "client": "ws", "url": cluster.url(0), "token": cluster.token(ORG).await?,
        "protocol": "actioncable-v1-ext-json",
        "first": [{"do": "subscribe", "as": "a", "params": {"events": CHANGED, "ack": true}}],
    }))?;
    client.frame("confirm_subscription").await?;
    let ids = cluster.publish_all(ORG, CHANGED, [1, 2]).await?;
    ensure!(client.gets(1).await?["redelivered"] == Value::Null);
    client.gets(2).await?;
    client
        .tell(json!({"do": "ack", "as": "a", "ack": {"id": ids[0]}}))
        .await?;
    client.frame("confirm_ack").await?;
    for _ in 0..2 {
        let again = client.gets(2).await?;
        ensure!(again["redelivered"] == true, "{again}");
    }
    Ok(())
}

/// Closing frames have their codes: the client's own is answered, and what is too large is told so.
#[tokio::test(flavor = "multi_thread")]
async fn websockets_are_closed_in_good_order() -> Result<()> {
    let cluster = Cluster::start("").await?;
    let token = cluster.token(ORG).await?;
    let large = "x".repeat(100_000);
    for (command, code) in [
        (json!({"do": "close"}), 1000),
        (json!({"do": "fragments", "texts": [large]}), 1009),
    ] {
        let mut client = client(&cluster, &token, &[])?;
        client.frame("welcome").await?;
        client.tell(command).await?;
        let shut = client.until("shut", |_| true).await?;
        ensure!(shut["code"] == code, "{code} is expected: {shut}");
    }
    Ok(())
}

/// It leaves with a word, and clients come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_leaves_says_so() -> Result<()> {
    let mut cluster = Cluster::start("").await?;
    let mut client = client(
        &cluster,
        &cluster.token(ORG).await?,
        &[json!({"events": ADDED})],
    )?;
    client.frame("confirm_subscription").await?;
    cluster.instances[0].terminate().await?;
    let frame = client.frame("disconnect").await?;
    let expected = json!({"type": "disconnect", "reason": "server_restart", "reconnect": true});
    ensure!(frame == expected, "{frame}");
    let shut = client.until("shut", |_| true).await?;
    ensure!(shut["code"] == 1000 || shut["code"] == 1001, "{shut}");
    Ok(())
}
