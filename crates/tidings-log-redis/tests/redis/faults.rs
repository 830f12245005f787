//! A single server's faults: half-open links, lost data, long absences, floods.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_core::{
    Dedup, Draft, EventId, EventLog as _, From, LogError, Outcome, PageLimit, TailStep, Verdict,
};
use tidings_log_redis::RedisOptions;
use tidings_testkit::servers::RedisServer;

use crate::common::{self, draft, placed};
use crate::following::{PATIENCE, events, has, origin, publish, read, step, until};

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

/// Full: nothing is stored, reading and what is known goes on, and time makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_frees_itself() -> Result<()> {
    let server = RedisServer::builder().maxmemory(8 << 20).start().await?;
    let options = RedisOptions {
        retention: Duration::from_secs(3),
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    let topic = placed(0, "test/full");
    let known = Draft {
        dedup: Some(Dedup::by_source(&topic.topic, None, "known")),
        ..draft("test/full", "1")
    };
    let first = log.append(topic.partition, vec![known.clone()]).await?[0].id;
    let large = format!("\"{}\"", "x".repeat(16 << 10));
    let refusal = loop {
        if let Err(error) = log
            .append(topic.partition, vec![draft("test/full", &large); 8])
            .await
        {
            break error;
        }
    };
    assert!(matches!(refusal, LogError::Full(_)), "{refusal:?}");
    let again = log.append(topic.partition, vec![known]).await?;
    assert_eq!((again[0].id, again[0].outcome), (first, Outcome::Duplicate));
    let last = log.heads(vec![topic.clone()]).await?[0]
        .topic
        .context("a head")?;
    assert_eq!(log.judge(vec![(topic.clone(), last)]).await?, [Verdict::Ok]);
    let mut places = origin();
    places[topic.partition.index()] = last;
    let mut tail = log.tail(places);
    let limit = PageLimit {
        events: 10,
        bytes: usize::MAX,
    };
    assert_eq!(log.fill(topic.partition, limit).await?.level, last);
    let other = common::connect(RedisOptions {
        retention: Duration::from_secs(3),
        ..common::options(server.url())
    });
    other
        .await
        .context("another instance starts all the same")?;

    let id = common::wait_for("room", PATIENCE, || async {
        for partition in log.partitions().all() {
            log.trim(partition).await?;
        }
        Ok(log
            .append(topic.partition, vec![draft("test/full", &large)])
            .await?[0]
            .id)
    })
    .await?;
    let steps = until(&mut tail, has(id)).await?;
    assert_eq!(events(&steps).len(), 1, "nothing of what was refused");
    Ok(())
}
