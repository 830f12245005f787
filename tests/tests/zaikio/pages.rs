//! `@rails/actioncable` and its predecessor `actioncable` 5.2, as pages use them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{ADDED, CHANGED, Cluster, SECRET};
use crate::driver::Driver;

/// Both clients take a connection for dead within 12 s: one that is quiet for longer stays.
const IDLE: Duration = Duration::from_secs(15);

pub(crate) async fn all(cluster: &Cluster) -> Result<()> {
    let (forged, expired) = (cluster.forged().await?, cluster.expired().await?);
    tokio::try_join!(
        life(cluster, "rails"),
        life(cluster, "legacy"),
        refused(cluster, "rails", &forged, "unauthorized"),
        refused(cluster, "rails", &expired, "token_expired"),
        refused(cluster, "legacy", &forged, "unauthorized"),
    )?;
    Ok(())
}

async fn life(cluster: &Cluster, client: &'static str) -> Result<()> {
    let org = &cluster.organisation();
    let (url, token) = (cluster.url(0), cluster.token(org).await?);
    let mut page = Driver::node(&json!({"client": client, "url": url, "token": token}))?;
    page.subscribe("a", json!({"events": ADDED})).await?;
    // The same text: one subscription of the server's, which is confirmed once.
    page.subscribe("twin", json!({"events": ADDED})).await?;
    page.subscribe("both", json!({"events": format!("{ADDED}, {CHANGED}")}))
        .await?;
    page.subscribe("closed", json!({"events": SECRET})).await?;
    page.about("connected", "a").await?;
    page.about("connected", "both").await?;
    page.about("rejected", "closed").await?;
    let opened = Instant::now();

    let first = cluster.publish(1, org, ADDED, 1).await?;
    let line = page.receives("a", 1).await?;
    let keys = line["message"].as_object().map(|message| message.len());
    ensure!(keys == Some(8), "{line}");
    page.receives("twin", 1).await?;
    page.receives("both", 1).await?;
    cluster.publish(1, org, CHANGED, 2).await?;
    page.receives("both", 2).await?;
    cluster.publish(0, org, ADDED, 3).await?;
    page.receives("a", 3).await?;
    page.receives("both", 3).await?;

    rewinds(&mut page, &first).await?;
    acks(cluster, &mut page, org).await?;

    page.listen_until(opened + IDLE).await?;
    page.was_never_stale()?;
    for name in ["a", "twin", "both"] {
        ensure!(page.count_about("connected", name) == 1, "{client} {name}");
    }
    ensure!(page.count_about("rejected", "closed") == 1, "{client}");
    ensure!(page.count("disconnected") == 0 && page.count("threw") == 0);
    Ok(())
}

/// By the action that stock clients can send. They hand out the confirmation as a message without content.
async fn rewinds(page: &mut Driver, after: &str) -> Result<()> {
    page.perform("a", "rewind", json!({ "after": after }))
        .await?;
    page.receives("a", 3).await?;
    page.frame("confirm_history").await?;
    let confirmed = page.about("received", "a").await?;
    ensure!(confirmed["message"] == Value::Null, "{confirmed}");
    page.perform(
        "a",
        "rewind",
        json!({"after": "bd6b9b7f-5ea2-4015-a07a-e3ba15d083cd"}),
    )
    .await?;
    let refused = page.frame("reject_history").await?;
    ensure!(refused["reason"] == "unknown_position", "{refused}");
    page.about("received", "a").await?;
    Ok(())
}

/// By the action, which is not answered: what was acked does not come when it subscribes again.
async fn acks(cluster: &Cluster, page: &mut Driver, org: &str) -> Result<()> {
    let params = json!({"events": CHANGED, "ack": true});
    page.subscribe("acked", params.clone()).await?;
    page.about("connected", "acked").await?;
    let ids = cluster.publish_all(org, CHANGED, [4, 5]).await?;
    page.receives("acked", 4).await?;
    page.receives("acked", 5).await?;
    page.perform("acked", "ack", json!({"id": ids[0]})).await?;
    page.tell(json!({"do": "unsubscribe", "as": "acked"}))
        .await?;
    cluster.publish(0, org, CHANGED, 6).await?;
    page.receives("both", 4).await?;
    page.receives("both", 5).await?;
    page.receives("both", 6).await?;
    page.subscribe("again", params).await?;
    page.receives("again", 5).await?;
    page.receives("again", 6).await?;
    ensure!(page.count_about("received", "acked") == 2);
    Ok(())
}

/// Refused in a frame, once: the page does not come back, unless it is too old to understand.
async fn refused(cluster: &Cluster, client: &str, token: &str, reason: &str) -> Result<()> {
    let url = cluster.url(1);
    let mut page = Driver::node(&json!({"client": client, "url": url, "token": token}))?;
    page.subscribe("a", json!({"events": ADDED})).await?;
    let expected = json!({"type": "disconnect", "reason": reason, "reconnect": false});
    let frame = page.frame("disconnect").await?;
    ensure!(frame == expected, "{frame}");
    let shut = page.until("shut", |_| true).await?;
    ensure!(shut["code"] == 1000, "{shut}");
    page.listen(Duration::from_secs(13)).await?;
    let opened = page.count("open");
    match client {
        "legacy" => ensure!((1..=4).contains(&opened), "{opened} times in 13 s"),
        _ => ensure!(opened == 1, "{opened} times in 13 s"),
    }
    let others = page.all("frame").filter(|line| line["frame"] != expected);
    ensure!(others.count() == 0 && page.count("connected") == 0);
    Ok(())
}
