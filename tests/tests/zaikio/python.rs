//! PyPI's `actioncablezwei` and `aioactioncable`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::time::Instant;

use crate::cluster::{ADDED, CHANGED, Cluster, ORG, OTHER, SECRET};
use crate::driver::Driver;

/// `actioncablezwei` pings every five seconds, and leaves three seconds later without a pong.
const IDLE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn python_clients_subscribe_receive_idle_and_are_refused() -> Result<()> {
    let cluster = Cluster::start("").await?;
    let done = tokio::try_join!(
        zwei(&cluster),
        aio(&cluster),
        refused(&cluster, "zwei.py", cluster.forged().await?, "unauthorized"),
        refused(
            &cluster,
            "aio.py",
            cluster.expired().await?,
            "token_expired"
        ),
    );
    done.map(drop).with_context(|| cluster.printed())
}

async fn zwei(cluster: &Cluster) -> Result<()> {
    let options = json!({"url": cluster.url(0), "token": cluster.token(ORG).await?});
    let Some(mut client) = Driver::python("zwei.py", &options)? else {
        return Ok(());
    };
    client.subscribe("a", json!({"events": ADDED})).await?;
    client
        .subscribe("closed", json!({"events": SECRET}))
        .await?;
    client.tell(json!({"do": "connect"})).await?;
    client.until("connected", |_| true).await?;
    client.until("rejected", |_| true).await?;
    let opened = Instant::now();
    rewinds_and_acks(cluster, &mut client, ORG).await?;
    client.listen_until(opened + IDLE).await?;
    ensure!(client.count("open") == 1, "it came back");
    cluster.publish(1, ORG, ADDED, 9).await?;
    client.receives("a", 9).await?;
    Ok(())
}

async fn aio(cluster: &Cluster) -> Result<()> {
    let options = json!({"url": cluster.url(1), "token": cluster.token(OTHER).await?});
    let Some(mut client) = Driver::python("aio.py", &options)? else {
        return Ok(());
    };
    client.subscribe("a", json!({"events": ADDED})).await?;
    client.about("connected", "a").await?;
    client
        .subscribe("closed", json!({"events": SECRET}))
        .await?;
    client.about("rejected", "closed").await?;
    rewinds_and_acks(cluster, &mut client, OTHER).await
}

/// Another client of the same consumer is sent what is left. Not these: `aioactioncable` fails when an event comes in
/// the same instant as the confirmation.
async fn is_left(cluster: &Cluster, org: &str, number: u64) -> Result<()> {
    // Another text, and the same consumer.
    let params = json!({"ack": true, "consumer": "default", "events": CHANGED});
    let mut other = Driver::node(&json!({
        "client": "ws", "url": cluster.url(0), "token": cluster.token(org).await?,
        "first": [{"do": "subscribe", "as": "a", "params": params}],
    }))?;
    other.gets(number).await.map(drop)
}

async fn rewinds_and_acks(cluster: &Cluster, client: &mut Driver, org: &str) -> Result<()> {
    let first = cluster.publish(0, org, ADDED, 1).await?;
    client.receives("a", 1).await?;
    cluster.publish(1, org, ADDED, 2).await?;
    client.receives("a", 2).await?;
    client
        .perform("a", "rewind", json!({ "after": first }))
        .await?;
    client.receives("a", 2).await?;

    let params = json!({"events": CHANGED, "ack": true});
    client.subscribe("acked", params).await?;
    client.until("connected", |_| true).await?;
    let ids = cluster.publish_all(org, CHANGED, [3, 4]).await?;
    client.receives("acked", 3).await?;
    client.receives("acked", 4).await?;
    client
        .perform("acked", "ack", json!({"id": ids[0]}))
        .await?;
    // Its acks are not answered; an action behind them is.
    client
        .perform("acked", "rewind", json!({ "after": ids[0] }))
        .await?;
    client.receives("acked", 4).await?;
    is_left(cluster, org, 4).await
}

async fn refused(cluster: &Cluster, script: &str, token: String, reason: &str) -> Result<()> {
    let options = json!({"url": cluster.url(0), "token": token});
    let Some(mut client) = Driver::python(script, &options)? else {
        return Ok(());
    };
    if script == "zwei.py" {
        client.subscribe("a", json!({"events": ADDED})).await?;
        client.tell(json!({"do": "connect"})).await?;
    }
    let told = client.until("frame", |_| true).await?;
    let told = told["text"].as_str().context("its log")?;
    ensure!(told.contains(reason), "{told}");
    ensure!(client.count("connected") == 0);
    Ok(())
}
