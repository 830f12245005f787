//! F04: Redis is away, for less than a lease, for longer, and altogether.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_testkit::servers::RedisServer;
use tokio::time::sleep;

use crate::backend::{Backend, USUAL, durable};
use crate::client::Rtm;

/// A beat and a sweep, in which instances that could not beat may do so, and one more sweep: whoever
/// was taken for dead, was so by then.
const SWEPT: Duration = Duration::from_millis(3_000 + 2 * 1_000 + 500);

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_offline_because_redis_is_away() -> Result<()> {
    let redis = durable().await?;
    let backend = Backend::start(&redis.url(), USUAL).await?;
    let done = outages(&backend, &redis).await;
    if done.is_err() {
        let out = std::process::Command::new("bash").arg("-c").arg(format!("for k in $(redis-cli -p {0} keys '*airsend.user*'); do echo XX $k; redis-cli -p {0} type $k; redis-cli -p {0} hgetall $k; done; for k in $(redis-cli -p {0} keys '*leases*') $(redis-cli -p {0} keys '*tomb*') $(redis-cli -p {0} keys '*owned*') $(redis-cli -p {0} keys '*lost*'); do echo XX $k; redis-cli -p {0} zrange $k 0 -1 withscores; done; for k in $(redis-cli -p {0} keys '*log'); do redis-cli -p {0} xrevrange $k + - count 30; done", redis.port())).output()?;
        std::fs::write("/tmp/outage-dump.txt", &out.stdout)?;
    }
    done.with_context(|| backend.printed())
}

async fn outages(backend: &Backend, redis: &RedisServer) -> Result<()> {
    backend.users(2).await?;
    backend.channel(11, &[1, 2]).await?;
    let mut clients = [
        Rtm::watcher(backend, 0, 1, &[11]).await?,
        Rtm::user(backend, 1, 2).await?,
    ];
    clients[0].presence(2, 1).await?;
    // 2 s: a publish that is under way waits. Longer than a lease, and than a publish's patience.
    for (name, pause) in [("short", 2), ("long", 11)] {
        redis.pause().await?;
        for client in &mut clients {
            client.say(&json!({"command": "ws_ping"})).await?;
            ensure!(client.hear().await? == json!({"event": "pong"}));
        }
        let pause = sleep(Duration::from_secs(pause));
        if name == "short" {
            let waiting = async {
                pause.await;
                redis.resume().await
            };
            let posted = backend.post(0, 11, 1, "waits");
            tokio::try_join!(posted, waiting)?;
            for client in &mut clients {
                client.expect_text("waits").await?;
            }
        } else {
            pause.await;
            redis.resume().await?;
        }
        flows(backend, &mut clients, name).await?;
    }
    redis.kill().await?;
    sleep(Duration::from_secs(1)).await;
    eprintln!("XX restarting {:?}", tokio::time::Instant::now());
    redis.restart().await?;
    flows(backend, &mut clients, "restarted").await?;
    sleep(SWEPT).await;
    still_there(&mut clients).await?;
    for (client, user) in clients.iter_mut().zip([1, 2]) {
        client.say(&json!({"command": "ws_ping"})).await?;
        ensure!(
            client.hear().await? == json!({"event": "pong"}),
            "user {user}"
        );
    }
    Ok(())
}

/// Events flow again, each once, over both.
async fn flows(backend: &Backend, clients: &mut [Rtm; 2], name: &str) -> Result<()> {
    for at in [0, 1] {
        let text = format!("{name} {at}");
        // Not known to be stored: asked again with its key, as backends do.
        let body = json!({
            "op": "message.post", "idempotency_key": text,
            "data": {"message": {"channel_id": 11, "user_id": 1, "content": text}},
        });
        tidings_testkit::servers::wait_for("a post", tidings_tests::SOON, || async {
            let answer = backend.publish(at, &body).await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        for client in &mut *clients {
            client.expect_text(&text).await?;
        }
    }
    if name == "long" {
        sleep(SWEPT).await;
    }
    still_there(clients).await
}

async fn still_there(clients: &mut [Rtm; 2]) -> Result<()> {
    for client in clients.iter() {
        eprintln!("XX {:?}", client.is_open());
    }
    for (client, other) in clients.iter_mut().zip([2, 1]) {
        eprintln!(
            "XX {} {:?} {:?} now {:?}",
            other,
            client.is_open(),
            client.presence_of(other),
            tokio::time::Instant::now()
        );
        client.is_open()?;
        let offline = client.presence_of(other);
        ensure!(offline.iter().all(|(online, ..)| *online), "{offline:?}");
    }
    Ok(())
}
