//! Failovers and moves, behind Sentinel and on a Cluster: everything follows, and what was lost is
//! said.

use anyhow::Result;
use tidings_core::{EventId, EventLog as _, From, TailStep, Verdict};
use tidings_testkit::servers::{Cluster, Sentinel};

use crate::common::{self, placed};
use crate::following::{events, has, origin, publish, read, step, until};

/// Cut off from its replica and the sentinels, but not from us: nothing breaks, and only the
/// sentinels know that it is the primary no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_primary_is_left() -> Result<()> {
    let set = Sentinel::start().await?;
    let log = common::connect(common::options(set.url())).await?;
    let topic = placed(0, "test/isolated");
    let mut tail = log.tail(origin());
    let kept = publish(&log, &topic, "1").await?;
    until(&mut tail, has(kept)).await?;
    set.primary().wait_for_replica(set.replica()).await?;
    set.isolate_primary().await?;
    let lost = publish(&log, &topic, "2").await?;
    until(&mut tail, has(lost)).await?;
    set.wait_for_failover().await?;
    let rewound = TailStep::Rewound {
        partition: topic.partition,
        common: kept,
    };
    let steps = until(&mut tail, |step| *step == rewound).await?;
    assert!(matches!(steps[0], TailStep::Down { .. }), "{steps:?}");
    let new = publish(&log, &topic, "3").await?;
    until(&mut tail, has(new)).await?;
    let page = read(&log, &topic, From::After(kept)).await?;
    assert_eq!(
        page.events.iter().map(|event| event.id).collect::<Vec<_>>(),
        [new]
    );
    assert_eq!(log.judge(vec![(topic, lost)]).await?, [Verdict::Diverged]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_without_a_killed_master() -> Result<()> {
    let cluster = Cluster::builder().replicas().start().await?;
    let log = common::connect(common::options(cluster.url())).await?;
    let topics: Vec<_> = (0..4)
        .map(|n| placed(n, &format!("test/cluster/{n}")))
        .collect();
    let mut tail = log.tail(origin());
    let mut last = EventId::ORIGIN;
    for topic in &topics {
        last = publish(&log, topic, "1").await?;
    }
    let mut steps = until(&mut tail, has(last)).await?;
    while events(&steps).len() < 4 {
        steps.push(step(&mut tail).await?);
    }
    // Each replica has what was stored; the first partition's master dies.
    for master in 0..3 {
        cluster.nodes()[master]
            .wait_for_replica(&cluster.nodes()[master + 3])
            .await?;
    }
    let slot = cluster.slot_of(&partition_key(&cluster).await?).await?;
    cluster.kill_master_of(slot).await?;
    until(&mut tail, |step| matches!(step, TailStep::Down { .. })).await?;
    cluster.wait_for_failover(slot).await?;
    let mut new = Vec::new();
    for topic in &topics {
        new.push(publish(&log, topic, "2").await?);
    }
    let mut seen = Vec::new();
    let mut up = false;
    while seen.len() < 4 || !up {
        match step(&mut tail).await? {
            TailStep::Events(_, events) => seen.extend(events.iter().map(|event| event.id)),
            TailStep::Up => up = true,
            TailStep::Level => {}
            other => panic!("{other:?}"),
        }
    }
    seen.sort_unstable();
    new.sort_unstable();
    assert_eq!(seen, new);
    for topic in &topics {
        assert_eq!(read(&log, topic, From::Oldest).await?.events.len(), 2);
    }
    Ok(())
}

/// A key that has a partition's hash tag, whichever node it is on.
async fn partition_key(cluster: &Cluster) -> Result<String> {
    use redis::FromRedisValue as _;
    for node in &cluster.nodes()[..3] {
        let keys =
            Vec::<String>::from_redis_value(node.command(&["KEYS", "tidings:*:log"]).await?)?;
        if let Some(key) = keys.into_iter().next() {
            return Ok(key);
        }
    }
    anyhow::bail!("no node has a log")
}

/// All nodes drop all connections at once, again and again: the library's own cluster connection
/// was seen never to come back from that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_the_loss_of_all_connections() -> Result<()> {
    let cluster = Cluster::start().await?;
    let log = std::sync::Arc::new(common::connect(common::options(cluster.url())).await?);
    let mut tail = log.tail(origin());
    for round in 0..10 {
        let writers: Vec<_> = (0..32)
            .map(|n| {
                let log = log.clone();
                tokio::spawn(async move {
                    publish(&log, &placed(n % 4, "test/wedge"), &format!("{round}.{n}")).await
                })
            })
            .collect();
        cluster.kill_clients().await?;
        for writer in writers {
            writer.await??;
        }
    }
    let id = publish(&log, &placed(0, "test/wedge"), "last").await?;
    until(&mut tail, has(id)).await?;
    Ok(())
}

/// A slot on its way to another node: appends wait, and then go on there; so does the tail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_slot_is_followed() -> Result<()> {
    let cluster = Cluster::start().await?;
    let log = std::sync::Arc::new(common::connect(common::options(cluster.url())).await?);
    let topic = placed(0, "test/moved");
    let mut tail = log.tail(origin());
    let first = publish(&log, &topic, "1").await?;
    until(&mut tail, has(first)).await?;
    let slot = cluster.slot_of(&partition_key(&cluster).await?).await?;
    let from = cluster.node_for_slot(slot).await?;
    let to = (from + 1) % 3;
    cluster.begin_move(slot, to).await?;
    let (appending, moved) = (log.clone(), topic.clone());
    // A topic whose keys are not there yet: the node cannot take it while it hands the slot over.
    let append = tokio::spawn(async move {
        publish(
            &appending,
            &placed(moved.partition.0, "test/moved/new"),
            "2",
        )
        .await
    });
    cluster.finish_move(slot, to).await?;
    let second = append.await??;
    until(&mut tail, has(second)).await?;
    let third = publish(&log, &topic, "3").await?;
    until(&mut tail, has(third)).await?;
    let page = read(&log, &topic, From::After(first)).await?;
    assert_eq!(
        page.events.iter().map(|event| event.id).collect::<Vec<_>>(),
        [third]
    );
    Ok(())
}
