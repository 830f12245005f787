//! Consumers that ack: killed, and back on the other instance; and instances that are killed under them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{ADDED, CHANGED, Cluster, ORG};
use crate::driver::Driver;

const EXTENDED: &str = "actioncable-v1-ext-json";

/// A plain websocket that acks what it gets of these names.
async fn consumer(cluster: &Cluster, at: usize, params: Value) -> Result<Driver> {
    let mut driver = Driver::node(&json!({
        "client": "ws", "url": cluster.url(at), "token": cluster.token(ORG).await?, "protocol": EXTENDED,
        "first": [{"do": "subscribe", "as": "a", "params": params}],
    }))?;
    driver.frame("confirm_subscription").await?;
    Ok(driver)
}

fn acked(name: &str) -> Value {
    json!({"events": ADDED, "ack": true, "consumer": name})
}

impl Driver {
    /// Acks, and waits until that is confirmed.
    async fn acks(&mut self, ack: Value) -> Result<()> {
        self.tell(json!({"do": "ack", "as": "a", "ack": ack}))
            .await?;
        let confirmed = self.frame("confirm_ack").await?;
        ensure!(confirmed["ack"] == ack, "{confirmed}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_consumer_gets_exactly_what_it_did_not_ack() -> Result<()> {
    let cluster = Cluster::start("").await?;
    moves(&cluster).await.with_context(|| cluster.printed())
}

async fn moves(cluster: &Cluster) -> Result<()> {
    // What was there before a consumer is not its affair.
    cluster.publish(0, ORG, ADDED, 100).await?;
    let mut first = consumer(cluster, 0, acked("one")).await?;
    let mut another = consumer(cluster, 0, acked("another")).await?;
    let ids = cluster.publish_all(ORG, ADDED, 1..=3).await?;
    for number in 1..=3 {
        first.gets(number).await?;
        another.gets(number).await?;
    }
    first.acks(json!({"ids": [ids[0], ids[2]]})).await?;
    first.kill().await?;
    cluster.publish(0, ORG, CHANGED, 4).await?;
    let missed = cluster.publish_all(ORG, ADDED, 5..=6).await?;

    let mut second = consumer(cluster, 1, acked("one")).await?;
    for number in [2, 5, 6] {
        second.gets(number).await?;
    }
    let live = cluster.publish(0, ORG, ADDED, 7).await?;
    let newest = second.gets(7).await?;
    // An ack that is repeated is confirmed again, and acks of the other instance's events are found.
    second.acks(json!({"ids": [ids[0]]})).await?;
    second.acks(json!({"ids": [ids[1], missed[0]]})).await?;
    second.kill().await?;

    let mut third = consumer(cluster, 0, acked("one")).await?;
    third.gets(6).await?;
    third.gets(7).await?;
    let place = json!({"epoch": newest["epoch"], "offset": newest["offset"]});
    third
        .acks(json!({"streams": {format!("Org/{ORG}"): place}}))
        .await?;
    third.acks(json!({ "ids": [live] })).await?;
    third.kill().await?;

    let mut fourth = consumer(cluster, 1, acked("one")).await?;
    cluster.publish(0, ORG, ADDED, 8).await?;
    fourth.gets(8).await?;
    // It is asked for, so acked events come too; and that acks nothing.
    fourth
        .tell(json!({"do": "history", "as": "a", "history": {"since": 1}}))
        .await?;
    for number in [100, 1, 2, 3, 5, 6, 7, 8] {
        fourth.gets(number).await?;
    }
    fourth.frame("confirm_history").await?;
    fourth.kill().await?;
    consumer(cluster, 0, acked("one")).await?.gets(8).await?;

    // The other consumer has acked nothing, and nobody did for it.
    for number in 5..=8 {
        another.gets(number).await?;
    }
    another.kill().await?;
    let mut another = consumer(cluster, 1, acked("another")).await?;
    for number in [1, 2, 3, 5, 6, 7, 8] {
        another.gets(number).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_ack_outlives_the_instance() -> Result<()> {
    let mut cluster = Cluster::start("").await?;
    outlives(&mut cluster)
        .await
        .with_context(|| cluster.printed())
}

async fn outlives(cluster: &mut Cluster) -> Result<()> {
    let mut client = consumer(cluster, 0, acked("one")).await?;
    let ids = cluster.publish_all(ORG, ADDED, 0..30).await?;
    let mut places = Vec::new();
    for number in 0..30 {
        let event = client.gets(number).await?;
        places.push((event["epoch"].clone(), event["offset"].clone()));
    }
    // Every other one, each on an instance that is killed as soon as it has said yes.
    let mut left: Vec<u64> = (0..30).collect();
    for (round, number) in [1, 28, 5, 13].into_iter().enumerate() {
        client.acks(json!({"ids": [ids[number]]})).await?;
        cluster.instances[round % 2].kill().await?;
        client.until("shut", |_| true).await?;
        left.retain(|one| *one != number as u64);
        client = consumer(cluster, (round + 1) % 2, acked("one")).await?;
        for number in &left {
            let event = client.gets(*number).await?;
            let place = (event["epoch"].clone(), event["offset"].clone());
            ensure!(place == places[*number as usize], "{event}");
        }
        cluster.instances[round % 2].restart().await?;
    }
    // Places are the same on an instance that was started again.
    let (epoch, offset) = &places[27];
    let streams = json!({format!("Org/{ORG}"): {"epoch": epoch, "offset": offset}});
    let history = json!({"do": "history", "as": "a", "history": {"streams": streams}});
    let mut late = consumer(cluster, 1, json!({"events": ADDED})).await?;
    late.tell(history).await?;
    late.gets(28).await?;
    late.gets(29).await?;
    late.frame("confirm_history").await?;
    Ok(())
}
