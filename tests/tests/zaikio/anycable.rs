//! `@anycable/core`, in the base protocol and in the extended one, which asks for what it missed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{ADDED, CHANGED, Cluster, ORG, OTHER, SECRET};
use crate::driver::Driver;

const BASE: &str = "actioncable-v1-json";
const EXTENDED: &str = "actioncable-v1-ext-json";

/// It gives up after two pings that are missing.
const IDLE: Duration = Duration::from_secs(15);

pub(crate) async fn all(cluster: &Cluster) -> Result<()> {
    tokio::try_join!(
        life(cluster, BASE),
        life(cluster, EXTENDED),
        renews(cluster, cluster.expired().await?),
        renews(cluster, brief(cluster).await?),
        refused(cluster),
        tokens_anywhere(cluster),
        from_a_time(cluster),
    )?;
    Ok(())
}

/// A token that ends while it is used.
async fn brief(cluster: &Cluster) -> Result<String> {
    let claims = ["--aud", "my_app/credentials", "--ttl", "4s"];
    cluster.mint("issuer", ORG, &claims).await
}

async fn life(cluster: &Cluster, protocol: &'static str) -> Result<()> {
    let org = &cluster.organisation();
    let token = cluster.token(org).await?;
    let mut cable = Driver::node(&json!({
        "client": "anycable", "protocol": protocol, "url": cluster.url(0), "token": token,
        "pongs": true, "history": false,
    }))?;
    cable.subscribe("a", json!({"events": ADDED})).await?;
    cable.about("connected", "a").await?;
    let opened = Instant::now();
    cable.subscribe("closed", json!({"events": SECRET})).await?;
    cable.about("rejected", "closed").await?;
    let first = cluster.publish(1, org, ADDED, 1).await?;
    let one = cable.receives("a", 1).await?;
    cluster.publish(0, org, ADDED, 2).await?;
    let two = cable.receives("a", 2).await?;
    if protocol == EXTENDED {
        let (one, two) = (&one["meta"], &two["meta"]);
        ensure!(one["stream"] == format!("Org/{org}"), "{one}");
        ensure!(one["epoch"].is_string() && one["epoch"] == two["epoch"]);
        ensure!(one["offset"].as_u64() < two["offset"].as_u64());
    }

    cable
        .perform("a", "rewind", json!({ "after": first }))
        .await?;
    cable.receives("a", 2).await?;
    cable.frame("confirm_history").await?;

    let params = json!({"events": CHANGED, "ack": true, "consumer": protocol});
    cable.subscribe("acked", params.clone()).await?;
    cable.about("connected", "acked").await?;
    let ids = cluster.publish_all(org, CHANGED, [3, 4]).await?;
    cable.receives("acked", 3).await?;
    cable.receives("acked", 4).await?;
    let acked = json!({"id": ids[1], "reply": true});
    cable.perform("acked", "ack", acked).await?;
    let confirmed = cable.frame("confirm_ack").await?;
    ensure!(confirmed["ack"] == json!({"ids": [ids[1]]}), "{confirmed}");
    cable
        .tell(json!({"do": "unsubscribe", "as": "acked"}))
        .await?;
    cable.about("ended", "acked").await?;
    cable.subscribe("again", params).await?;
    cable.about("connected", "again").await?;
    cable.receives("again", 3).await?;
    cluster.publish(0, org, CHANGED, 5).await?;
    cable.receives("again", 5).await?;

    cable.listen_until(opened + IDLE).await?;
    cable.was_never_stale()?;
    ensure!(cable.count_about("connected", "a") == 1);
    // It complains about confirmations that it did not wait for; here only about what was rejected.
    let complaints: Vec<&Value> = cable.all("complaint").map(|line| &line["text"]).collect();
    ensure!(complaints == ["failed to subscribe"], "{complaints:?}");
    Ok(())
}

/// On exactly this reason it gets itself a new token, and is back.
async fn renews(cluster: &Cluster, old: String) -> Result<()> {
    let mut cable = Driver::node(&json!({
        "client": "anycable", "protocol": EXTENDED, "url": cluster.url(1), "token": old,
        "fresh": cluster.token(ORG).await?, "history": false,
    }))?;
    cable.subscribe("a", json!({"events": ADDED})).await?;
    let frame = cable.frame("disconnect").await?;
    let expected = json!({"type": "disconnect", "reason": "token_expired", "reconnect": false});
    ensure!(frame == expected, "{frame}");
    let before = cable.count_about("connected", "a");
    cable.until("refresh", |_| true).await?;
    while cable.count_about("connected", "a") == before {
        cable.about("connected", "a").await?;
    }
    cable
        .perform("a", "rewind", json!({"since": 1, "streams": {}}))
        .await?;
    cable.frame("confirm_history").await?;
    Ok(())
}

async fn refused(cluster: &Cluster) -> Result<()> {
    for protocol in [BASE, EXTENDED] {
        let mut cable = Driver::node(&json!({
            "client": "anycable", "protocol": protocol, "url": cluster.url(1), "token": cluster.forged().await?,
        }))?;
        cable.subscribe("a", json!({"events": ADDED})).await?;
        let closed = cable.until("closed", |_| true).await?;
        ensure!(closed["reason"] == "unauthorized", "{closed}");
        ensure!(cable.count("open") == 1 && cable.count("connected") == 0);
    }
    Ok(())
}

async fn tokens_anywhere(cluster: &Cluster) -> Result<()> {
    for place in [Value::Null, json!("header"), json!("sub-protocol")] {
        let mut cable = Driver::node(&json!({
            "client": "anycable", "protocol": EXTENDED, "url": cluster.url(0), "auth": place,
            "token": cluster.token(ORG).await?, "history": false,
        }))?;
        cable.subscribe("a", json!({"events": ADDED})).await?;
        cable.about("connected", "a").await.context(place)?;
        let open = cable.until("open", |_| true).await?;
        ensure!(open["protocol"] == EXTENDED, "{open}");
    }
    Ok(())
}

/// `historyTimestamp`: what was retained since then comes first.
async fn from_a_time(cluster: &Cluster) -> Result<()> {
    let org = &cluster.organisation();
    cluster.publish_all(org, ADDED, 1..=3).await?;
    cluster.publish(0, org, CHANGED, 4).await?;
    let token = cluster.token(org).await?;
    let mut cable = Driver::node(&json!({
        "client": "anycable", "protocol": EXTENDED, "url": cluster.url(1), "token": token, "history": 1,
    }))?;
    cable.subscribe("a", json!({"events": ADDED})).await?;
    // The client itself misses it when it comes at once behind the confirmation: its channel is not there yet.
    cable.frame("confirm_history").await?;
    for number in 1..=3 {
        cable.receives("a", number).await?;
    }
    cluster.publish(0, org, ADDED, 5).await?;
    cable.receives("a", 5).await?;
    ensure!(cable.numbers("a") == [1, 2, 3, 5]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_missed_comes_exactly_once_from_the_other_instance() -> Result<()> {
    let cluster = Cluster::start("").await?;
    let done = tokio::try_join!(
        misses(&cluster, ORG, json!({"history": false})),
        misses(&cluster, OTHER, json!({})),
    );
    done.map(drop).with_context(|| cluster.printed())
}

async fn misses(cluster: &Cluster, org: &str, mut options: Value) -> Result<()> {
    for (name, value) in [
        ("client", json!("anycable")),
        ("protocol", json!(EXTENDED)),
        ("url", json!(cluster.url(0))),
        ("token", json!(cluster.token(org).await?)),
        ("stays_away", json!(true)),
    ] {
        options[name] = value;
    }
    let mut cable = Driver::node(&options)?;
    cable.subscribe("a", json!({"events": ADDED})).await?;
    cable.about("connected", "a").await?;
    cable
        .subscribe("both", json!({"events": format!("{ADDED},{CHANGED}")}))
        .await?;
    cable.about("connected", "both").await?;
    cluster.publish(0, org, CHANGED, 1).await?;
    cluster.publish_all(org, ADDED, 2..=3).await?;
    cable.receives("a", 2).await?;
    cable.receives("a", 3).await?;
    cable.receives("both", 1).await?;
    cable.receives("both", 2).await?;
    cable.receives("both", 3).await?;

    let mut number = 3;
    for round in 1..=2 {
        cable.tell(json!({"do": "cut"})).await?;
        cable.about("disconnected", "a").await?;
        for name in [ADDED, CHANGED, ADDED, CHANGED, ADDED, ADDED] {
            number += 1;
            cluster
                .publish(number as usize % 2, org, name, number)
                .await?;
        }
        cable
            .tell(json!({"do": "go", "url": cluster.url(round % 2)}))
            .await?;
        cable.tell(json!({"do": "connect"})).await?;
        for name in ["a", "both"] {
            let info = cable.about("info", name).await?;
            // With a time of its own it asks at its first subscription, too.
            ensure!(info["type"] == "history_received", "{info}");
        }
        number += 1;
        cluster.publish(0, org, ADDED, number).await?;
        let last = |name: &'static str| {
            move |line: &Value| line["as"] == name && line["message"]["payload"]["n"] == number
        };
        cable.until("received", last("a")).await?;
        cable.until("received", last("both")).await?;
    }
    let all: Vec<u64> = (1..=number).collect();
    ensure!(cable.numbers("both") == all, "{:?}", cable.numbers("both"));
    // Six events in each round, and one after it.
    let added = [2, 3, 4, 6, 8, 9, 10, 11, 13, 15, 16, 17];
    ensure!(cable.numbers("a") == added, "{:?}", cable.numbers("a"));
    ensure!(cable.count("complaint") == 0);
    Ok(())
}

/// The log is gone, and every place in it: the client hears it, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_lost_is_said_to_be() -> Result<()> {
    let mut cluster = Cluster::start("").await?;
    let mut cable = Driver::node(&json!({
        "client": "anycable", "protocol": EXTENDED, "url": cluster.url(0), "token": cluster.token(ORG).await?,
        "stays_away": true, "history": false,
    }))?;
    cable.subscribe("a", json!({"events": ADDED})).await?;
    cable.about("connected", "a").await?;
    cluster.publish_all(ORG, ADDED, 1..=2).await?;
    cable.receives("a", 1).await?;
    let before = cable.receives("a", 2).await?;
    cable.tell(json!({"do": "cut"})).await?;
    cable.about("disconnected", "a").await?;

    for instance in &mut cluster.instances {
        instance.kill().await?;
    }
    cluster.redis.command(&["FLUSHALL"]).await?;
    for instance in &mut cluster.instances {
        instance.restart().await?;
    }
    cluster.publish(0, ORG, ADDED, 3).await?;
    cable
        .tell(json!({"do": "go", "url": cluster.url(1)}))
        .await?;
    cable.tell(json!({"do": "connect"})).await?;
    let info = cable.about("info", "a").await?;
    ensure!(info["type"] == "history_not_found", "{info}");
    let frame = cable.frame("reject_history").await?;
    ensure!(frame["reason"] == "epoch_mismatch", "{frame}");
    cluster.publish(0, ORG, ADDED, 4).await?;
    let after = cable.receives("a", 4).await?;
    ensure!(before["meta"]["epoch"] != after["meta"]["epoch"]);
    ensure!(cable.numbers("a") == [1, 2, 4]);
    Ok(())
}
