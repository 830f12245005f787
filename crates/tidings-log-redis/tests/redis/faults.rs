//! Failovers, half-open links, lost data, long absences: whoever follows finds out, and finds back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_core::{
    Event, EventId, EventLog, From, LogError, PageLimit, Placed, Tail, TailStep, Verdict,
};
use tidings_log_redis::{RedisLog, RedisOptions};
use tidings_testkit::servers::{Cluster, RedisServer, Sentinel};

use crate::common::{self, draft, placed};

const PATIENCE: Duration = Duration::from_secs(60);

async fn step(tail: &mut Box<dyn Tail>) -> Result<TailStep> {
    tokio::time::timeout(PATIENCE, tail.next())
        .await
        .context("the tail stands still")
}

/// Steps until one is wanted; what came before it.
async fn until(
    tail: &mut Box<dyn Tail>,
    wanted: impl Fn(&TailStep) -> bool,
) -> Result<Vec<TailStep>> {
    let mut steps = Vec::new();
    loop {
        let next = step(tail).await?;
        let done = wanted(&next);
        if next != TailStep::Level {
            steps.push(next);
        }
        if done {
            return Ok(steps);
        }
        ensure!(steps.len() < 10_000, "it does not come");
    }
}

fn events(steps: &[TailStep]) -> Vec<&Event> {
    let of = |step| match step {
        &TailStep::Events(_, ref events) => &events[..],
        _ => &[],
    };
    steps.iter().flat_map(of).collect()
}

fn has(id: EventId) -> impl Fn(&TailStep) -> bool {
    move |step| matches!(step, TailStep::Events(_, events) if events.iter().any(|event| event.id == id))
}

async fn publish(log: &RedisLog, topic: &Placed, data: &str) -> Result<EventId> {
    common::wait_for("an append to be taken", PATIENCE, || async {
        match log
            .append(topic.partition, vec![draft(topic.topic.as_str(), data)])
            .await
        {
            Ok(appended) => Ok(Ok(appended[0].id)),
            Err(error @ (LogError::Unavailable(_) | LogError::FateUnknown(_))) => Err(error.into()),
            Err(other) => Ok(Err(other)),
        }
    })
    .await?
    .map_err(Into::into)
}

async fn read(log: &RedisLog, topic: &Placed, from: From) -> Result<tidings_core::Page> {
    common::wait_for("a read", PATIENCE, || async {
        Ok(log.read(topic, from, PageLimit::default()).await?)
    })
    .await
}

fn origin() -> Vec<EventId> {
    vec![EventId::ORIGIN; 4]
}

/// Made a replica by hand, without a disconnect that would give it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_primary_is_not_read_from() -> Result<()> {
    let (server, other) = (RedisServer::start().await?, RedisServer::start().await?);
    let options = RedisOptions {
        append_patience: Duration::from_millis(300),
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    let topic = placed(0, "test/demoted");
    let id = publish(&log, &topic, "1").await?;
    let mut tail = log.tail(origin());
    until(&mut tail, has(id)).await?;
    let port = other.port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).await?;
    let limit = PageLimit::default();
    let refused = |result: Result<(), LogError>| match result {
        Err(LogError::Unavailable(reason)) => assert!(
            reason.contains("master") || reason.contains("primary"),
            "{reason}"
        ),
        other => panic!("a replica answers: {other:?}"),
    };
    refused(log.read(&topic, From::Oldest, limit).await.map(|_| ()));
    refused(log.judge(vec![(topic.clone(), id)]).await.map(|_| ()));
    refused(log.heads(vec![topic.clone()]).await.map(|_| ()));
    refused(log.fill(topic.partition, limit).await.map(|_| ()));
    refused(
        log.append(topic.partition, vec![draft("test/demoted", "2")])
            .await
            .map(|_| ()),
    );
    until(&mut tail, |step| matches!(step, TailStep::Down { .. })).await?;

    // It comes back as another log's primary: what was handed out is called back.
    server.command(&["REPLICAOF", "NO", "ONE"]).await?;
    let steps = until(&mut tail, |step| *step == TailStep::Up).await?;
    let rewound = TailStep::Rewound {
        partition: topic.partition,
        common: EventId::ORIGIN,
    };
    assert!(steps.contains(&rewound), "{steps:?}");
    Ok(())
}

/// A server without persistence comes back empty: nobody who held a place is told `ok`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_data_is_not_passed_over_in_silence() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    let (topic, other) = (placed(0, "test/lost"), placed(0, "test/other"));
    let mut tail = log.tail(origin());
    let first = publish(&log, &topic, "1").await?;
    let lost = publish(&log, &topic, "2").await?;
    until(&mut tail, has(lost)).await?;
    server.kill().await?;
    server.restart().await?;
    let new = publish(&log, &other, "3").await?;
    assert!(new > lost);
    for place in [first, lost] {
        let verdict = log
            .judge(vec![(topic.clone(), place), (other.clone(), place)])
            .await?;
        assert_eq!(verdict, [Verdict::Diverged; 2], "{place}");
        assert_eq!(
            read(&log, &topic, From::After(place)).await?.verdict,
            Verdict::Diverged
        );
    }
    assert_eq!(
        log.judge(vec![(topic.clone(), EventId::ORIGIN)]).await?,
        [Verdict::Ok]
    );
    let steps = until(&mut tail, has(new)).await?;
    let rewound = TailStep::Rewound {
        partition: topic.partition,
        common: EventId::ORIGIN,
    };
    let position = steps.iter().position(|step| *step == rewound);
    assert!(
        position.is_some_and(|position| position + 1 < steps.len()),
        "{steps:?}"
    );
    // The settings are there again, for the next instance that starts.
    let meta = server.command(&["EXISTS", "tidings:meta"]).await?;
    assert_eq!(meta, redis::Value::Int(1));
    Ok(())
}

/// The link stays open and delivers nothing: only the time-outs notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_delivers_nothing_is_given_up() -> Result<()> {
    let server = RedisServer::builder().proxied().start().await?;
    let options = RedisOptions {
        response_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    let topic = placed(0, "test/stall");
    let mut tail = log.tail(origin());
    let id = publish(&log, &topic, "1").await?;
    until(&mut tail, has(id)).await?;
    server.stall()?;
    let steps = until(&mut tail, |step| matches!(step, TailStep::Down { .. })).await?;
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(
        log.read(&topic, From::Oldest, PageLimit::default())
            .await
            .is_err()
    );
    server.heal().await?;
    let id = publish(&log, &topic, "2").await?;
    let steps = until(&mut tail, has(id)).await?;
    assert_eq!(steps[0], TailStep::Up, "told down once, then up: {steps:?}");
    assert_eq!(read(&log, &topic, From::Oldest).await?.events.len(), 2);
    Ok(())
}

/// Away for longer than the retention: what lay between was never handed out, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_absence_is_skipped_over() -> Result<()> {
    let server = RedisServer::builder().proxied().start().await?;
    let retention = Duration::from_millis(1500);
    let away = common::connect(RedisOptions {
        retention,
        ..common::options(server.url())
    })
    .await?;
    let past_the_proxy = format!("redis://127.0.0.1:{}", server.port());
    let present = common::connect(RedisOptions {
        retention,
        ..common::options(past_the_proxy)
    })
    .await?;
    let (busy, quiet) = (placed(0, "test/busy"), placed(1, "test/quiet"));
    let mut tail = away.tail(origin());
    let seen = [
        publish(&away, &busy, "1").await?,
        publish(&away, &quiet, "1").await?,
    ];
    let mut steps = Vec::new();
    while events(&steps).len() < 2 {
        steps.push(step(&mut tail).await?);
    }
    server.cut().await?;
    let missed = publish(&present, &busy, "2").await?;
    common::wait_for("the retention to pass", PATIENCE, || async {
        let now = present.time_ms().await?;
        ensure!(now > missed.ms() + 1600, "not yet");
        Ok(())
    })
    .await?;
    present.trim(busy.partition).await?;
    let new = publish(&present, &busy, "3").await?;
    server.heal().await?;
    let steps = until(&mut tail, has(new)).await?;
    let skipped: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            TailStep::Skipped { partition, to } => Some((*partition, *to)),
            _ => None,
        })
        .collect();
    // The quiet partition has nothing new: nothing of it was missed.
    let [(partition, to)] = skipped[..] else {
        panic!("{steps:?}");
    };
    assert_eq!(partition, busy.partition);
    assert!(missed <= to && to < new, "{missed} {to} {new}");
    assert!(seen[0] < missed);
    Ok(())
}

/// A flood that trims by length overtakes a tail that its consumer holds up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capped_log_says_what_it_threw_away() -> Result<()> {
    const CAP: u64 = 10_000;
    let server = RedisServer::start().await?;
    let options = RedisOptions {
        max_events_per_partition: Some(CAP),
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    let topic = placed(0, "test/flood");
    let first = publish(&log, &topic, "0").await?;
    let mut tail = log.tail(origin());
    until(&mut tail, has(first)).await?;
    let mut last = first;
    for _ in 0..200 {
        let drafts = vec![draft("test/flood", "1"); 128];
        last = log
            .append(topic.partition, drafts)
            .await?
            .last()
            .context("128 ids")?
            .id;
    }
    let length = server
        .command(&["XLEN", &format!("tidings:{{{}}}:log", tag(&server).await?)])
        .await?;
    assert_eq!(length, redis::Value::Int(CAP as i64));
    let steps = until(&mut tail, has(last)).await?;
    let mut place = first;
    let mut skips = 0;
    for step in &steps {
        match step {
            TailStep::Events(_, events) => {
                for event in events {
                    let whole = event.prev.reaches(place);
                    assert!(
                        whole,
                        "a gap between {place} and {} that nobody told of",
                        event.id
                    );
                    place = event.id;
                }
            }
            TailStep::Skipped { to, .. } => {
                skips += 1;
                place = *to;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        skips > 0,
        "the tail was not overtaken: the test tests nothing"
    );
    // The stored events decide, not the clock.
    assert_eq!(
        log.judge(vec![(topic.clone(), first)]).await?,
        [Verdict::Expired]
    );
    let oldest = read(&log, &topic, From::Oldest).await?;
    assert_eq!(oldest.events.len(), PageLimit::default().events);
    Ok(())
}

/// The hash tag of the one partition that has a log.
async fn tag(server: &RedisServer) -> Result<String> {
    use redis::FromRedisValue as _;
    let keys = Vec::<String>::from_redis_value(server.command(&["KEYS", "tidings:*:log"]).await?)?;
    let key = keys.first().context("no log")?;
    let (_, rest) = key.split_once('{').context("no tag")?;
    Ok(rest.split_once('}').context("no tag")?.0.to_owned())
}

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
