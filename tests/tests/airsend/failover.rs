//! Redis fails over: clients go on without a gap, or are told of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_testkit::servers::{Sentinel, wait_for};
use tidings_tests::SOON;
use tokio::time::sleep;

use crate::backend::{Backend, USUAL};
use crate::client::Rtm;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_by_sentinels_nothing_is_missing_or_it_is_told() -> Result<()> {
    let sentinel = Sentinel::start().await?;
    let backend = Backend::start(&sentinel.url(), USUAL).await?;
    let done = fails_over(&backend, &sentinel).await;
    done.with_context(|| backend.printed())
}

async fn fails_over(backend: &Backend, sentinel: &Sentinel) -> Result<()> {
    backend.users(2).await?;
    backend.channel(11, &[1, 2]).await?;
    let mut one = Rtm::watcher(backend, 0, 1, &[11]).await?;
    let mut two = Rtm::user(backend, 1, 2).await?;
    one.presence(2, 1).await?;

    // The replica has everything: nobody notices but by the delay.
    post(backend, 0, "before").await?;
    sentinel.wait_for_replication().await?;
    sentinel.kill_primary().await?;
    sentinel.wait_for_failover().await?;
    for at in [0, 1] {
        post(backend, at, &format!("after {at}")).await?;
    }
    for client in [&mut one, &mut two] {
        for text in ["before", "after 0", "after 1"] {
            client.expect_text(text).await?;
        }
        client.is_open()?;
    }
    sentinel.restart_old_primary().await?;
    sentinel.wait_for_rejoin().await?;

    // The replica lacks what was heard already: that is told.
    sentinel.cut_replication().await?;
    post(backend, 0, "lost").await?;
    for client in [&mut one, &mut two] {
        client.expect_text("lost").await?;
    }
    sentinel.kill_primary().await?;
    sentinel.wait_for_failover().await?;
    for (client, at, user) in [(&mut one, 0, 1), (&mut two, 1, 2)] {
        let (code, _) = client.closed().await?;
        ensure!(code == 1012, "{code}");
        let cursor = client.cursor.clone();
        let (again, hello) = Rtm::back(backend, at, user, &cursor).await?;
        ensure!(
            hello["resumed"] == false && hello["gap"] == true,
            "user {user}: {hello}"
        );
        *client = again;
    }
    for at in [0, 1] {
        post(backend, at, &format!("anew {at}")).await?;
    }
    for client in [&mut one, &mut two] {
        for at in [0, 1] {
            client.expect_text(&format!("anew {at}")).await?;
        }
    }
    // A lease that was kept through it all: nobody was taken for dead.
    sleep(Duration::from_secs(2)).await;
    one.is_open()?;
    two.is_open()
}

/// Posts with a key, and again until it is known to be stored, as backends do.
async fn post(backend: &Backend, at: usize, text: &str) -> Result<()> {
    let body = json!({
        "op": "message.post", "idempotency_key": text,
        "data": {"message": {"channel_id": 11, "user_id": 1, "content": text}},
    });
    wait_for("a post", SOON, || async {
        let answer = backend.publish(at, &body).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await
}
