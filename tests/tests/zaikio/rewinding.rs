//! A long replay while events are being published, and what others notice of it: nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::cluster::{ADDED, CHANGED, Cluster, ORG};
use crate::driver::Driver;

/// What stands in the log when the client asks for all of it.
const STORED: u64 = 20_000;

/// So many events at once, so often: 500 a second, as far as a debug build on a busy machine gets there.
const BATCH: u64 = 20;
const EVERY: Duration = Duration::from_millis(40);

/// Replays go on, one behind the other, for longer than clients wait for a ping.
const FOR: Duration = Duration::from_secs(7);

/// KiB of memory that an instance may take more than before. All that is replayed is ten times as much, and a debug
/// build's connections, caches and fragments need some.
const MEMORY_KIB: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_long_rewind_under_load_has_no_gap_and_no_duplicate() -> Result<()> {
    let cluster = Cluster::start("").await?;
    rewinds(&cluster).await.with_context(|| cluster.printed())
}

async fn rewinds(cluster: &Cluster) -> Result<()> {
    cluster.fill(ORG, ADDED, STORED).await?;
    let (mut rewinder, mut other) = (client(cluster).await?, client(cluster).await?);
    let before = resident_kib(cluster)?;

    // None: not over yet; then the last number that was published.
    let (over, mut is_over) = watch::channel(None);
    let (enough, is_enough) = watch::channel(false);
    let publishing = async {
        let mut number = STORED;
        let mut pace = tokio::time::interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*is_enough.borrow() {
            pace.tick().await;
            // One after the other: so their order is known.
            let at = (number / BATCH) as usize % 2;
            cluster
                .batch(at, ORG, ADDED, number + 1..=number + BATCH)
                .await?;
            number += BATCH;
        }
        over.send_replace(Some(number));
        Ok(number)
    };
    let rewinding = async {
        let history = json!({"do": "history", "as": "a", "history": {"since": 1}});
        let end = Instant::now() + FOR;
        let mut replays = 1;
        rewinder.tell(history.clone()).await?;
        while Instant::now() < end {
            // The next one waits when this one is over.
            rewinder.tell(history.clone()).await?;
            rewinder.frame("confirm_history").await?;
            replays += 1;
        }
        rewinder.frame("confirm_history").await?;
        enough.send_replace(true);
        anyhow::Ok(replays)
    };
    let watching = async {
        while is_over.borrow_and_update().is_none() {
            tokio::select! {
                read = other.line() => read?,
                changed = is_over.changed() => changed?,
            }
        }
        anyhow::Ok(())
    };
    let (last, replays, ()) = tokio::try_join!(publishing, rewinding, watching)?;
    ensure!(
        last > STORED + 1_000,
        "only {last} were published meanwhile"
    );

    for client in [&mut rewinder, &mut other] {
        client.until("event", |line| line["n"] == last).await?;
        client.was_never_stale()?;
    }
    let live: Vec<u64> = other
        .all("event")
        .filter_map(|line| line["n"].as_u64())
        .collect();
    ensure!(
        live == (STORED + 1..=last).collect::<Vec<_>>(),
        "the other one's events"
    );
    in_order(&rewinder, replays)?;
    let after = resident_kib(cluster)?;
    ensure!(
        after < before + MEMORY_KIB,
        "{before} KiB, then {after} KiB"
    );
    Ok(())
}

/// Each replay is everything from the first on, and after it, it goes on where it ended.
fn in_order(client: &Driver, replays: usize) -> Result<()> {
    let (mut begun, mut confirmed, mut last) = (0, 0, None);
    for line in client.everything() {
        match line["kind"].as_str() {
            Some("event") => {
                let number = line["n"].as_u64().context("a number")?;
                if number == 1 {
                    ensure!(begun == confirmed, "a replay within a replay");
                    begun += 1;
                } else if last.is_some_and(|last| number != last + 1) {
                    bail!("{number} comes after {last:?}");
                }
                last = Some(number);
            }
            Some("frame") if line["frame"]["type"] == "confirm_history" => {
                confirmed += 1;
                ensure!(begun == confirmed, "a confirmation without a replay");
            }
            _ => {}
        }
    }
    ensure!(confirmed == replays, "{confirmed} replays of {replays}");
    Ok(())
}

/// A plain websocket that prints numbers alone, subscribed on the first instance.
async fn client(cluster: &Cluster) -> Result<Driver> {
    let mut client = Driver::node(&json!({
        "client": "ws", "url": cluster.url(0), "token": cluster.token(ORG).await?, "compact": true,
        "protocol": "actioncable-v1-ext-json",
        "first": [{"do": "subscribe", "as": "a", "params": {"events": ADDED}}],
    }))?;
    client.frame("confirm_subscription").await?;
    Ok(client)
}

/// What the first instance has in memory.
fn resident_kib(cluster: &Cluster) -> Result<u64> {
    let pid = cluster.instances[0].pid().context("it runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("VmRSS")?.parse()?)
}

/// A client that stops reading is told so, and nobody else notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_too_slow() -> Result<()> {
    let cluster = Cluster::start("write_stall = \"2s\"").await?;
    stops_reading(&cluster)
        .await
        .with_context(|| cluster.printed())
}

async fn stops_reading(cluster: &Cluster) -> Result<()> {
    cluster.fill(ORG, CHANGED, 1).await?;
    cluster.fill(ORG, ADDED, 10_000).await?;
    let (mut slow, mut other) = (client(cluster).await?, client(cluster).await?);
    slow.tell(json!({"do": "pause"})).await?;
    for _ in 0..10 {
        // Much more than the buffers between the two hold.
        slow.tell(json!({"do": "history", "as": "a", "history": {"since": 1}}))
            .await?;
    }
    let mut number = 10_000;
    while !has_given_up(cluster).await? {
        number += 1;
        cluster.publish(1, ORG, ADDED, number).await?;
        let line = other.until("event", |_| true).await?;
        ensure!(line["n"] == number, "{line}");
    }
    slow.tell(json!({"do": "resume"})).await?;
    slow.until("shut", |_| true).await?;
    let last = slow.all("frame").next_back().map(|line| &line["frame"]);
    let expected = json!({"type": "disconnect", "reason": "too_slow", "reconnect": true});
    ensure!(last == Some(&expected), "{last:?}");
    Ok(())
}

/// Whether the first instance has counted somebody as too slow.
async fn has_given_up(cluster: &Cluster) -> Result<bool> {
    let metrics = cluster.instances[0]
        .send("GET", "/metrics", &[], "")
        .await?;
    let text = String::from_utf8(metrics.body.to_vec())?;
    let mut lines = text.lines();
    Ok(lines.any(|line| line.starts_with("tidings_slow_readers_total{") && !line.ends_with(" 0")))
}
