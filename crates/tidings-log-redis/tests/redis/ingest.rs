//! Direct ingest: in order, once, through the death of the instance that drains.

use std::time::Duration;

use anyhow::{Context as _, Result};
use redis::FromRedisValue as _;
use tidings_core::{Dedup, Draft, EventLog as _, From, Outcome, PageLimit};
use tidings_log_redis::{
    IngestDrain, IngestError, IngestOptions, RawEntry, RedisLog, RedisOptions,
};
use tidings_testkit::servers::{Cluster, RedisServer};

use crate::common::{self, draft, placed};

fn fast() -> IngestOptions {
    IngestOptions {
        batch: 10,
        lease: Duration::from_millis(600),
        block: Duration::from_millis(200),
        ..IngestOptions::default()
    }
}

async fn write(server: &RedisServer, n: usize) -> Result<String> {
    let n = n.to_string();
    let id = server
        .command(&[
            "XADD",
            "tidings:ingest",
            "*",
            "topic",
            "test/in",
            "data",
            &n,
        ])
        .await?;
    Ok(String::from_redis_value(id)?)
}

async fn next(drain: &mut IngestDrain) -> Result<Vec<RawEntry>> {
    tokio::time::timeout(Duration::from_secs(20), drain.next())
        .await
        .context("nothing to drain")
}

/// What the server does with an entry, in short.
fn as_draft(entry: &RawEntry) -> Draft {
    let data = entry
        .fields
        .iter()
        .find(|(name, _)| name == "data")
        .map(|(_, data)| data.clone());
    Draft {
        dedup: Some(Dedup {
            scope: "ingest".into(),
            key: entry.id.as_str().into(),
            lifetime_ms: 60_000,
        }),
        ..draft(
            "test/in",
            std::str::from_utf8(&data.unwrap_or_default()).unwrap_or_default(),
        )
    }
}

async fn append(log: &RedisLog, entries: &[RawEntry]) -> Result<Vec<Outcome>> {
    let drafts = entries.iter().map(as_draft).collect();
    let appended = log.append(placed(1, "test/in").partition, drafts).await?;
    Ok(appended.iter().map(|appended| appended.outcome).collect())
}

fn ids(entries: &[RawEntry]) -> Vec<String> {
    entries.iter().map(|entry| entry.id.clone()).collect()
}

async fn stored(log: &RedisLog) -> Result<Vec<String>> {
    let page = log
        .read(&placed(1, "test/in"), From::Oldest, PageLimit::default())
        .await?;
    Ok(page
        .events
        .iter()
        .map(|event| String::from_utf8_lossy(&event.data).into_owned())
        .collect())
}

/// One entry taken, one refused: used with other servers and users as well.
pub(crate) async fn drains(options: &RedisOptions, server: &RedisServer) -> Result<()> {
    let log = common::connect(options.clone()).await?;
    let mut drain = log.ingest(fast());
    let written = [write(server, 1).await?, write(server, 2).await?];
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for entry in next(&mut drain).await? {
            match seen.len() {
                0 => drain.done(std::slice::from_ref(&entry.id)).await?,
                _ => drain.refuse(&entry, "test").await?,
            }
            seen.push(entry.id);
        }
    }
    assert_eq!(seen, written);
    drain.release().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_come_in_order_and_go_when_done() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    // Written before anybody ever drained, and while somebody does.
    for n in 0..25 {
        write(&server, n).await?;
    }
    let mut drain = log.ingest(fast());
    let mut count = 0;
    while count < 50 {
        let entries = next(&mut drain).await?;
        assert!(entries.len() <= 10);
        append(&log, &entries).await?;
        drain.done(&ids(&entries)).await?;
        for _ in &entries {
            if count < 25 {
                write(&server, 25 + count).await?;
            }
            count += 1;
        }
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(stored(&log).await?, expected);
    let left = server.command(&["XLEN", "tidings:ingest"]).await?;
    assert_eq!(left, redis::Value::Int(0));
    Ok(())
}

/// The holder dies between append and taking out; its successor reads the same entries again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_holder_costs_nothing() -> Result<()> {
    let server = RedisServer::start().await?;
    let (one, two) = (
        common::connect(common::options(server.url())).await?,
        common::connect(common::options(server.url())).await?,
    );
    for n in 0..7 {
        write(&server, n).await?;
    }
    let mut first = one.ingest(fast());
    let entries = next(&mut first).await?;
    append(&one, &entries).await?;
    // As dead as can be: nothing is renewed or given back.
    drop(first);
    write(&server, 7).await?;

    let mut second = two.ingest(fast());
    let again = next(&mut second).await?;
    assert_eq!(ids(&again), ids(&entries), "pending entries first");
    assert!(
        append(&two, &again)
            .await?
            .iter()
            .all(|outcome| *outcome == Outcome::Duplicate)
    );
    second.done(&ids(&again)).await?;
    let rest = next(&mut second).await?;
    assert_eq!(append(&two, &rest).await?, [Outcome::New]);
    second.done(&ids(&rest)).await?;
    let expected: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    assert_eq!(stored(&two).await?, expected);
    Ok(())
}

/// A holder that only slept is fenced: it can take out nothing that is another's by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeper_is_fenced() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    write(&server, 0).await?;
    let mut sleeper = log.ingest(fast());
    let entries = next(&mut sleeper).await?;
    // Its lease runs out as if it had been frozen.
    server
        .command(&[
            "SET",
            "{tidings:ingest}:lease",
            "somebody else",
            "PX",
            "400",
        ])
        .await?;
    assert_eq!(
        sleeper.done(&ids(&entries)).await,
        Err(IngestError::LeaseLost)
    );
    assert_eq!(
        sleeper.refuse(&entries[0], "late").await,
        Err(IngestError::LeaseLost)
    );
    // It waits for its turn like anyone, and gets what is still there, again.
    let again = next(&mut sleeper).await?;
    assert_eq!(ids(&again), ids(&entries));
    sleeper.refuse(&again[0], "no such topic").await?;

    // Refused once, though it was tried twice, with the reason first.
    let refused = server
        .command(&["XRANGE", "tidings:ingest:refused", "-", "+"])
        .await?;
    let refused = Vec::<(String, Vec<String>)>::from_redis_value(refused)?;
    let [(id, fields)] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(*id, entries[0].id);
    assert_eq!(fields[0], "reason");
    assert_eq!(fields[2..], ["topic", "test/in", "data", "0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_drains_and_a_released_lease_is_taken_at_once() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    let long = || IngestOptions {
        lease: Duration::from_secs(3600),
        ..fast()
    };
    let mut first = log.ingest(long());
    write(&server, 0).await?;
    let entries = next(&mut first).await?;
    let mut second = log.ingest(fast());
    write(&server, 1).await?;
    let waits = tokio::time::timeout(Duration::from_millis(500), second.next()).await;
    assert!(waits.is_err(), "two drain");
    first.done(&ids(&entries)).await?;
    first.release().await;
    assert_eq!(next(&mut second).await?.len(), 1);
    Ok(())
}

/// A call that was dropped half-way loses nothing, nor does a killed connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_reads_lose_nothing() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    let mut drain = log.ingest(fast());
    let mut seen = Vec::new();
    let mut written = Vec::new();
    for n in 0..60 {
        written.push(write(&server, n).await?);
        if n % 7 == 0 {
            server.kill_clients().await?;
        }
        let patience = Duration::from_micros([0, 100, 500, 3000][n % 4]);
        if let Ok(entries) = tokio::time::timeout(patience, drain.next()).await {
            drain_done(&mut drain, &entries, &mut seen).await?;
        }
    }
    while seen.len() < written.len() {
        let entries = next(&mut drain).await?;
        drain_done(&mut drain, &entries, &mut seen).await?;
    }
    assert_eq!(seen, written);
    Ok(())
}

async fn drain_done(
    drain: &mut IngestDrain,
    entries: &[RawEntry],
    seen: &mut Vec<String>,
) -> Result<()> {
    match drain.done(&ids(entries)).await {
        Ok(()) => seen.extend(ids(entries)),
        // They come again, unless they were taken out and the answer was lost; so do not count on
        // the answer but on what comes next, as the server's dedup keys do.
        Err(IngestError::Unavailable(_) | IngestError::LeaseLost) => {
            let after = ids(&next_or_nothing(drain).await);
            for id in ids(entries) {
                if !after.contains(&id) {
                    seen.push(id);
                }
            }
        }
    }
    Ok(())
}

async fn next_or_nothing(drain: &mut IngestDrain) -> Vec<RawEntry> {
    tokio::time::timeout(Duration::from_secs(2), drain.next())
        .await
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_too() -> Result<()> {
    let cluster = Cluster::start().await?;
    let owner = cluster
        .node_for_slot(cluster.slot_of("tidings:ingest").await?)
        .await?;
    drains(&common::options(cluster.url()), &cluster.nodes()[owner]).await?;
    let owner = cluster
        .node_for_slot(cluster.slot_of("tidings:ingest:refused").await?)
        .await?;
    let refused = cluster.nodes()[owner]
        .command(&["XLEN", "tidings:ingest:refused"])
        .await?;
    assert_eq!(refused, redis::Value::Int(1));
    Ok(())
}
