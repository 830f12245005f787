//! What is said of replicas and disks: reached, not reached, and not reached in time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidings_core::{Durability, EventId, EventLog as _, Partition, Settled};
use tidings_log_redis::RedisLog;
use tidings_testkit::servers::{Cluster, RedisServer, wait_for};

use crate::common::{self, draft};
use crate::intercept::Intercept;

const REPLICATED: Settled = Settled {
    replicated: true,
    fsynced: false,
};
const FSYNCED: Settled = Settled {
    replicated: false,
    fsynced: true,
};
/// Enough on a busy machine; what is expected to be reached is reached in a millisecond.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

async fn append(log: &RedisLog, partition: u16) -> Result<(Partition, EventId)> {
    let partition = Partition(partition);
    let name = format!("test/settling/{}", partition.0);
    let appended = log.append(partition, vec![draft(&name, "1")]).await?;
    Ok((partition, appended[0].id))
}

/// A primary and a replica that is in step.
async fn pair() -> Result<(RedisServer, RedisServer)> {
    let primary = RedisServer::start().await?;
    let replica = RedisServer::builder()
        .replica_of(primary.address())
        .start()
        .await?;
    primary.wait_for_replica(&replica).await?;
    Ok((primary, replica))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_follows_is_waited_for_and_one_that_does_not_is_not_claimed() -> Result<()> {
    let (primary, replica) = pair().await?;
    let log = common::connect(common::options(primary.url())).await?;
    let events = vec![append(&log, 0).await?, append(&log, 3).await?];
    let settle = |want, patience| log.settle(events.clone(), want, patience);
    assert_eq!(settle(Durability::Stored, LONG).await, Settled::STORED);
    assert_eq!(settle(Durability::Replicated, LONG).await, REPLICATED);
    // No file at all: the next best is said.
    assert_eq!(settle(Durability::Fsynced, LONG).await, REPLICATED);

    replica.pause().await?;
    let more = vec![append(&log, 0).await?];
    let began = Instant::now();
    let settled = log
        .settle(more.clone(), Durability::Replicated, SHORT)
        .await;
    assert_eq!(settled, Settled::STORED);
    let took = began.elapsed();
    ensure!(took >= SHORT && took < SHORT * 10, "{took:?}");
    // It catches up while somebody waits.
    let (settled, resumed) = tokio::join!(
        log.settle(more, Durability::Replicated, LONG),
        replica.resume()
    );
    resumed?;
    assert_eq!(settled, REPLICATED);

    // Two are wanted, one is there.
    let demanding = common::connect(tidings_log_redis::RedisOptions {
        durability_replicas: 2,
        ..common::options(primary.url())
    })
    .await?;
    let settled = demanding
        .settle(events, Durability::Replicated, SHORT)
        .await;
    assert_eq!(settled, Settled::STORED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_goes_on_while_somebody_waits_and_waits_are_shared() -> Result<()> {
    let (primary, replica) = pair().await?;
    let log = std::sync::Arc::new(common::connect(common::options(primary.url())).await?);
    replica.pause().await?;
    let mut waiting = Vec::new();
    for _ in 0..100 {
        // The appends themselves are answered while the first of these waits.
        let event = append(&log, 1).await?;
        let log = log.clone();
        waiting.push(tokio::spawn(async move {
            log.settle(vec![event], Durability::Replicated, LONG).await
        }));
    }
    replica.resume().await?;
    for settled in waiting {
        assert_eq!(settled.await?, REPLICATED);
    }
    let waits = primary.command_stats().await?["wait"];
    ensure!(waits < 20, "{waits} waits for 100 callers");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_claimed_only_where_every_append_is_synced() -> Result<()> {
    let server = RedisServer::builder().append_only().start().await?;
    let log = common::connect(common::options(server.url())).await?;
    let events = vec![append(&log, 0).await?];
    let settle = |want, patience| log.settle(events.clone(), want, patience);
    assert_eq!(settle(Durability::Fsynced, LONG).await, FSYNCED);
    assert_eq!(
        settle(Durability::Replicated, SHORT).await,
        Settled::STORED,
        "there is no replica"
    );
    server
        .command(&["CONFIG", "SET", "appendfsync", "everysec"])
        .await?;
    assert_eq!(settle(Durability::Fsynced, SHORT).await, Settled::STORED);
    server
        .command(&["CONFIG", "SET", "appendfsync", "always"])
        .await?;
    assert_eq!(settle(Durability::Fsynced, LONG).await, FSYNCED);
    // A user who may not ask is told nothing that is not known.
    for rule in ["-config", "-wait"] {
        server.command(&["ACL", "SETUSER", "default", rule]).await?;
    }
    assert_eq!(settle(Durability::Fsynced, SHORT).await, Settled::STORED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_not_there_any_more_is_not_called_safe() -> Result<()> {
    let (primary, replica) = pair().await?;
    let log = common::connect(common::options(primary.url())).await?;
    let (lost, kept) = (append(&log, 2).await?, append(&log, 2).await?);
    let entry = format!("{}-{}", lost.1.ms(), lost.1.seq());
    let keys = primary.command(&["KEYS", "tidings:*:log"]).await?;
    let keys: Vec<String> = redis_texts(keys);
    primary.command(&["XDEL", &keys[0], &entry]).await?;
    let settle = |events| log.settle(events, Durability::Replicated, LONG);
    // Side by side, so that they may share a wait.
    let (alone, together, other) = tokio::join!(
        settle(vec![lost]),
        settle(vec![kept, lost]),
        settle(vec![kept])
    );
    assert_eq!(
        (alone, together, other),
        (Settled::STORED, Settled::STORED, REPLICATED)
    );

    // A primary that comes back empty: its replica has "everything", and the event is gone.
    primary.kill().await?;
    primary.restart().await?;
    wait_for("the replica to follow again", LONG, || async {
        primary.wait_for_replica(&replica).await
    })
    .await?;
    assert_eq!(settle(vec![kept]).await, Settled::STORED);
    ensure!(
        redis_texts(primary.command(&["KEYS", "*:state"]).await?).is_empty(),
        "a log that is not there is not begun by asking for it"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_goes_while_somebody_waits_ends_in_what_is_known() -> Result<()> {
    let (primary, replica) = pair().await?;
    let log = std::sync::Arc::new(common::connect(common::options(primary.url())).await?);
    replica.pause().await?;
    let event = append(&log, 0).await?;
    let waiting = |patience| {
        let log = log.clone();
        tokio::spawn(async move {
            log.settle(vec![event], Durability::Replicated, patience)
                .await
        })
    };
    let blocked = |clients: &'static str| {
        let primary = &primary;
        wait_for("the wait", LONG, move || async move {
            let seen = primary.info("clients").await?.remove("blocked_clients");
            ensure!(seen.as_deref() == Some(clients), "{seen:?}");
            Ok(())
        })
    };
    // Demoted in the middle: the wait is ended, and a replica is no place to ask.
    let wait = waiting(Duration::from_secs(2));
    blocked("1").await?;
    let elsewhere = RedisServer::start().await?;
    let port = elsewhere.port().to_string();
    primary.command(&["REPLICAOF", "127.0.0.1", &port]).await?;
    assert_eq!(wait.await?, Settled::STORED);
    // Dead: nobody is left waiting for longer than they wanted.
    primary.kill().await?;
    let began = Instant::now();
    assert_eq!(waiting(SHORT).await?, Settled::STORED);
    ensure!(began.elapsed() < SHORT * 10, "{:?}", began.elapsed());
    Ok(())
}

/// `WAITAOF` came with 7.2: what a newer server would answer is said by one that stands before ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_the_disk_where_the_server_can() -> Result<()> {
    let server = RedisServer::start().await?;
    let newer = Intercept::start(server.address(), "WAITAOF").await?;
    let log = common::connect(common::options(newer.url())).await?;
    let events = vec![append(&log, 0).await?];
    let settle = |patience| log.settle(events.clone(), Durability::Fsynced, patience);
    newer.answer(b"*2\r\n:1\r\n:0\r\n");
    assert_eq!(settle(LONG).await, FSYNCED);
    let asked = newer.asked();
    let [number_local, replicas, ms] = &asked[0][1..] else {
        anyhow::bail!("{asked:?}");
    };
    assert_eq!((number_local.as_str(), replicas.as_str()), ("1", "0"));
    let ms: u64 = ms.parse()?;
    ensure!(ms > 0 && ms <= 20_000, "{ms} ms");
    // Its time ran out.
    newer.answer(b"*2\r\n:0\r\n:0\r\n");
    assert_eq!(settle(SHORT).await, Settled::STORED);
    // Nothing is appended to a file: this is the answer, and the next one is asked for again.
    newer.answer(
        b"-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n",
    );
    assert_eq!(settle(SHORT).await, Settled::STORED);
    newer.answer(b"*2\r\n:1\r\n:1\r\n");
    assert_eq!(settle(LONG).await, FSYNCED);
    // Something that no server says.
    newer.answer(b"+OK\r\n");
    assert_eq!(settle(SHORT).await, Settled::STORED);
    assert_eq!(newer.asked().len(), 5);
    // A server that does not know it is not asked twice.
    newer.answer(b"-ERR unknown command 'WAITAOF', with args beginning with: '1' '0' '300' \r\n");
    assert_eq!(settle(SHORT).await, Settled::STORED);
    assert_eq!(settle(SHORT).await, Settled::STORED);
    assert_eq!(newer.asked().len(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_every_node_is_waited_for_and_moved_events_are_found() -> Result<()> {
    let cluster = Cluster::builder().replicas().start().await?;
    let log = common::connect(common::options(cluster.url())).await?;
    let mut events = Vec::new();
    for partition in 0..4 {
        events.push(append(&log, partition).await?);
    }
    let settle = || log.settle(events.clone(), Durability::Replicated, LONG);
    assert_eq!(settle().await, REPLICATED);
    // The log has not heard of the move: the old owner says so when it is asked.
    let mut moved = None;
    for node in cluster.nodes() {
        if let Some(key) = redis_texts(node.command(&["KEYS", "*:log"]).await?).pop() {
            moved = Some(cluster.slot_of(&key).await?);
        }
    }
    let slot = moved.context("a partition's slot")?;
    let from = cluster.node_for_slot(slot).await?;
    cluster.move_slot(slot, (from + 1) % 3).await?;
    assert_eq!(settle().await, REPLICATED);
    Ok(())
}

fn redis_texts(value: redis::Value) -> Vec<String> {
    redis::from_redis_value(value).expect("a list of texts")
}
