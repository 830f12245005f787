//! An instance leaves: every client comes back by itself, at its own pace, on the other one.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_tests::Balancer;

use crate::cluster::{ADDED, Cluster, ORG};
use crate::driver::Driver;

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_back_by_themselves_when_an_instance_leaves() -> Result<()> {
    let mut cluster = Cluster::start("").await?;
    comes_back(&mut cluster)
        .await
        .with_context(|| cluster.printed())
}

async fn comes_back(cluster: &mut Cluster) -> Result<()> {
    let mut clients: Vec<(Driver, Balancer)> = Vec::new();
    for (client, protocol) in [
        ("rails", Value::Null),
        ("legacy", Value::Null),
        ("anycable", json!("actioncable-v1-json")),
        ("anycable", json!("actioncable-v1-ext-json")),
    ] {
        let (balancer, url) = cluster.balancer().await?;
        let options = json!({
            "client": client, "protocol": protocol, "url": url, "token": cluster.token(ORG).await?,
            "history": false,
        });
        clients.push((Driver::node(&options)?, balancer));
    }
    for (client, _) in &mut clients {
        client.subscribe("a", json!({"events": ADDED})).await?;
        client.about("connected", "a").await?;
    }
    cluster.publish(1, ORG, ADDED, 1).await?;
    for (client, _) in &mut clients {
        client.receives("a", 1).await?;
    }

    cluster.instances[0].terminate().await?;
    for (client, _) in &mut clients {
        let frame = client.frame("disconnect").await?;
        let expected = json!({"type": "disconnect", "reason": "server_restart", "reconnect": true});
        ensure!(frame == expected, "{frame}");
        client.about("disconnected", "a").await?;
    }
    for (client, _) in &mut clients {
        client.about("connected", "a").await?;
    }
    cluster.publish(1, ORG, ADDED, 2).await?;
    for (client, _) in &mut clients {
        client.receives("a", 2).await?;
        ensure!(client.count_about("connected", "a") == 2);
        ensure!(client.numbers("a") == [1, 2]);
    }
    Ok(())
}
