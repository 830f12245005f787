//! What readers and publishers see while Redis is away, while it fails over, and while an instance
//! leaves.

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::{Cluster, RedisServer, Sentinel, wait_for};
use tidings_tests::client::Line;
use tidings_tests::http::Answer;
use tidings_tests::instance::KEY;
use tidings_tests::{Balancer, Client, Instance, SOON};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn publish(instance: &Instance, topic: &str, n: usize) -> Result<Answer> {
    let body = format!(r#"{{"topic":"{topic}","type":"count","id":"{n}","data":{n}}}"#);
    instance.send("POST", "/v1/events", &JSON, body).await
}

/// Publishes until it is acknowledged: the same id makes it harmless.
async fn publish_surely(instance: &Instance, topic: &str, n: usize) -> Result<()> {
    wait_for("a publish to be acknowledged", SOON, || async {
        let answer = publish(instance, topic, n).await?;
        ensure!(answer.status == 201, "{} {:?}", answer.status, answer.body);
        Ok(())
    })
    .await
}

fn follow(url: &str) -> Result<Client> {
    let url = format!("{url}&access_token={KEY}");
    Client::start("sse-node.mjs", &["--events", "count,reset", &url])
}

/// The next event's number.
async fn number(client: &mut Client) -> Result<usize> {
    let line: Line = client.wait_for("event").await?;
    let event: serde_json::Value = serde_json::from_str(&line.data)?;
    Ok(usize::try_from(
        event["data"].as_u64().context("a number")?,
    )?)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_publishers_are_told_and_readers_stay() -> Result<()> {
    let redis = RedisServer::builder().append_only().start().await?;
    let config = "[redis]\nappend_patience = \"1s\"\n";
    let instance = Instance::start(&["--redis", &redis.url()], config).await?;
    let mut client = follow(&instance.url("/v1/events?topic=demo/a&offset=-1"))?;
    publish_surely(&instance, "demo/a", 1).await?;
    ensure!(number(&mut client).await? == 1);

    redis.kill().await?;
    let refused = publish(&instance, "demo/a", 2).await?;
    ensure!(
        refused.status == 503,
        "{} {:?}",
        refused.status,
        refused.body
    );
    ensure!(
        !refused.header("retry-after").is_empty(),
        "{:?}",
        refused.headers
    );
    ensure!(
        refused.header("content-type") == "application/problem+json",
        "{:?}",
        refused.headers
    );
    let read = instance
        .send("GET", "/v1/topics/demo/a?offset=-1", &[], "")
        .await?;
    ensure!(read.status == 503, "{} {:?}", read.status, read.body);
    wait_for("the instance to notice", SOON, || async {
        let answer = instance.send("GET", "/readyz", &[], "").await?;
        ensure!(answer.status == 503, "{}", answer.status);
        Ok(())
    })
    .await?;
    ensure!(
        instance.send("GET", "/healthz", &[], "").await?.status == 200,
        "being away from Redis is no reason to be killed"
    );

    redis.restart().await?;
    publish_surely(&instance, "demo/a", 2).await?;
    publish_surely(&instance, "demo/a", 3).await?;
    for expected in [2, 3] {
        let line = loop {
            let line = client.line().await?;
            ensure!(line.kind != "error", "the reader was dropped: {line:?}");
            if line.kind == "event" {
                break line;
            }
        };
        ensure!(
            line.data.contains(&format!("\"data\":{expected}}}")),
            "{line:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_an_acknowledged_event_is_said_in_band() -> Result<()> {
    let redis = Sentinel::start().await?;
    let instances = Instance::pair(&redis.url(), "").await?;
    let mut clients = Vec::new();
    for instance in &instances {
        clients.push(follow(&instance.url("/v1/events?topic=demo/a&offset=-1"))?);
    }
    publish_surely(&instances[0], "demo/a", 1).await?;
    redis.wait_for_replication().await?;
    redis.cut_replication().await?;
    publish_surely(&instances[1], "demo/a", 2).await?;
    for client in &mut clients {
        ensure!((number(client).await?, number(client).await?) == (1, 2));
    }
    redis.kill_primary().await?;
    redis.wait_for_failover().await?;
    publish_surely(&instances[0], "demo/a", 3).await?;
    for client in &mut clients {
        let reset = client.wait_for("reset").await?;
        ensure!(
            reset.data.contains("diverged") || reset.data.contains("ahead"),
            "{reset:?}"
        );
        ensure!(
            (number(client).await?, number(client).await?) == (1, 3),
            "all that is retained, and nothing else"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_loses_a_master_and_nobody_an_event() -> Result<()> {
    let redis = Cluster::builder().replicas().start().await?;
    let instances = Instance::pair(&redis.url(), "").await?;
    let topics: Vec<String> = (0..24).map(|n| format!("topic=demo/{n}")).collect();
    let mut client =
        follow(&instances[1].url(&format!("/v1/events?{}&offset=-1", topics.join("&"))))?;
    let mut expected = Vec::new();
    for n in 0..48 {
        publish_surely(&instances[0], &format!("demo/{}", n % 24), n).await?;
        expected.push(n);
    }
    let mut got = Vec::new();
    for _ in 0..48 {
        got.push(number(&mut client).await?);
    }
    // Only what every replica has cannot be lost: cluster replication is asynchronous.
    redis.wait_until_ok().await?;
    let slot = 0;
    redis.kill_master_of(slot).await?;
    for n in 48..96 {
        publish_surely(&instances[0], &format!("demo/{}", n % 24), n).await?;
        expected.push(n);
    }
    for _ in 48..96 {
        got.push(number(&mut client).await?);
    }
    got.sort_unstable();
    ensure!(got == expected, "{got:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_leaves_sends_its_readers_to_the_other_one() -> Result<()> {
    let redis = RedisServer::start().await?;
    let [mut a, b] = Instance::pair(&redis.url(), "").await?;
    let balancer = Balancer::start(vec![a.address(), b.address()]).await?;
    // The first connection goes to `a`.
    let mut client = follow(&balancer.url("/v1/events?topic=demo/a&offset=-1"))?;
    client.wait_for("open").await?;
    for n in 0..20 {
        publish_surely(&b, "demo/a", n).await?;
        if n == 10 {
            a.terminate().await?;
        }
    }
    for n in 0..20 {
        ensure!(number(&mut client).await? == n);
    }
    Ok(())
}
