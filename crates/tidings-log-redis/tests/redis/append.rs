//! Appending through forgotten scripts, killed connections and lost answers: stored at most once,
//! and what was acknowledged is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tidings_core::{EventLog as _, From, LogError, Outcome, PageLimit};
use tidings_log_redis::RedisOptions;
use tidings_testkit::servers::RedisServer;

use crate::common::{self, draft, placed};

/// Everything in a topic.
async fn all_data(
    log: &tidings_log_redis::RedisLog,
    topic: &tidings_core::Placed,
) -> Result<Vec<String>> {
    let (mut data, mut from) = (Vec::new(), From::Oldest);
    loop {
        let page = log.read(topic, from, PageLimit::default()).await?;
        data.extend(
            page.events
                .iter()
                .map(|event| String::from_utf8_lossy(&event.data).into_owned()),
        );
        if page.at_end {
            return Ok(data);
        }
        from = From::After(page.next);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_are_loaded_again() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    let topic = placed(0, "test/forgotten");
    for n in 0..5 {
        server.command(&["SCRIPT", "FLUSH"]).await?;
        let appended = log
            .append(
                topic.partition,
                vec![draft("test/forgotten", &n.to_string())],
            )
            .await?;
        assert_eq!(appended[0].outcome, Outcome::New);
        server.command(&["SCRIPT", "FLUSH"]).await?;
        assert_eq!(
            log.judge(vec![(topic.clone(), appended[0].id)])
                .await?
                .len(),
            1
        );
        server.command(&["SCRIPT", "FLUSH"]).await?;
        assert_eq!(
            log.heads(vec![topic.clone()]).await?[0].topic,
            Some(appended[0].id)
        );
    }
    assert_eq!(all_data(&log, &topic).await?, ["0", "1", "2", "3", "4"]);
    Ok(())
}

/// 64 tasks publish while every connection is killed again and again. What was acknowledged is
/// there, nothing is there twice, and nothing is there that neither was acknowledged nor has an
/// unknown fate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_store_nothing_twice() -> Result<()> {
    const TASKS: usize = 64;
    const KILLS: usize = 20;
    let server = RedisServer::start().await?;
    let log = Arc::new(common::connect(common::options(server.url())).await?);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (log, stop) = (log.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut unknown, mut retried) = (Vec::new(), Vec::new(), 0);
                for n in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let data = format!("\"{task}.{n}\"");
                    let partition = placed((task % 4) as u16, "test/kill").partition;
                    match log.append(partition, vec![draft("test/kill", &data)]).await {
                        Ok(appended) => {
                            retried += usize::from(appended[0].outcome == Outcome::Retried);
                            acknowledged.push(data);
                        }
                        Err(LogError::FateUnknown(_)) => unknown.push(data),
                        Err(LogError::Unavailable(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                (acknowledged, unknown, retried)
            })
        })
        .collect();
    for _ in 0..KILLS {
        let before = server.info("stats").await?["total_commands_processed"].parse::<u64>()?;
        // Under load, each time: some hundred commands later.
        common::wait_for("load", Duration::from_secs(20), || async {
            let now = server.info("stats").await?["total_commands_processed"].parse::<u64>()?;
            anyhow::ensure!(now > before + 300, "only {} commands", now - before);
            Ok(())
        })
        .await?;
        server.kill_clients().await?;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut expected, mut unknown, mut retried) = (HashMap::new(), Vec::new(), 0);
    for task in tasks {
        let (acknowledged, lost, again) = task.await?;
        expected.extend(acknowledged.into_iter().map(|data| (data, 0)));
        unknown.extend(lost);
        retried += again;
    }
    for partition in 0..4 {
        for data in all_data(&log, &placed(partition, "test/kill")).await? {
            match expected.get_mut(&data) {
                Some(times) => *times += 1,
                None => assert!(
                    unknown.contains(&data),
                    "{data} is there, and nobody knows why"
                ),
            }
        }
    }
    let wrong: Vec<_> = expected.iter().filter(|(_, times)| **times != 1).collect();
    assert!(
        wrong.is_empty(),
        "{} acknowledged, not there once: {wrong:?}",
        expected.len()
    );
    assert!(retried > 0, "no answer was lost: the test tests nothing");
    Ok(())
}

/// The first try reaches a server that sleeps; its answer is given up before it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_asked_for_again() -> Result<()> {
    let server = RedisServer::start().await?;
    let options = RedisOptions {
        response_timeout: Duration::from_millis(150),
        connect_timeout: Duration::from_millis(150),
        ..common::options(server.url())
    };
    let log = Arc::new(common::connect(options).await?);
    let topic = placed(0, "test/sleep");
    log.append(topic.partition, vec![draft("test/sleep", "0")])
        .await?;
    let mut retried = 0;
    for n in 1..6 {
        let (appending, to) = (log.clone(), topic.partition);
        server.pause().await?;
        let append = tokio::spawn(async move {
            appending
                .append(to, vec![draft("test/sleep", &n.to_string())])
                .await
        });
        // Longer than the patience for one answer, shorter than that for an append.
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.resume().await?;
        retried += usize::from(append.await??[0].outcome == Outcome::Retried);
    }
    assert_eq!(
        all_data(&log, &topic).await?,
        ["0", "1", "2", "3", "4", "5"]
    );
    assert!(
        retried > 0,
        "no first try was executed: the test tests nothing"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_nothing_was_stored_and_it_is_said_in_time() -> Result<()> {
    let server = RedisServer::builder().append_only().start().await?;
    let patience = Duration::from_millis(600);
    let options = RedisOptions {
        append_patience: patience,
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    let topic = placed(0, "test/away");
    let append = |n: u32| log.append(topic.partition, vec![draft("test/away", &n.to_string())]);
    append(0).await?;
    server.kill().await?;
    // Until the end of the connection was seen, an append may have been sent; then it is known not to
    // be.
    tokio::time::timeout(patience * 3, async {
        let refused = append(1).await;
        let honest = matches!(
            refused,
            Err(LogError::Unavailable(_) | LogError::FateUnknown(_))
        );
        assert!(honest, "{refused:?}");
    })
    .await?;
    // And once the outage is longer than the patience, one try is enough.
    let mut quick = 0;
    for _ in 0..5 {
        let asked = tokio::time::Instant::now();
        assert!(matches!(append(2).await, Err(LogError::Unavailable(_))));
        quick += usize::from(asked.elapsed() < patience);
    }
    assert!(quick > 0);
    assert!(
        log.read(&topic, From::Oldest, PageLimit::default())
            .await
            .is_err()
    );

    server.restart().await?;
    common::wait_for(
        "appends to be taken again",
        Duration::from_secs(20),
        || async { Ok(append(3).await?) },
    )
    .await?;
    assert_eq!(all_data(&log, &topic).await?, ["0", "3"]);
    Ok(())
}

/// What callers bring to several partitions of one server at the same time is one script call, and
/// what is wrong with one partition's keys is that partition's alone.
#[tokio::test]
async fn partitions_share_a_call_but_not_their_errors() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    let append = |partition: u16, name: &'static str| {
        log.append(placed(partition, name).partition, vec![draft(name, "1")])
    };
    for partition in 0..4 {
        append(partition, "test/shared").await?;
    }
    let calls = async || anyhow::Ok(server.command_stats().await?["evalsha"]);
    let before = calls().await?;
    let all = (0..4).map(|partition| append(partition, "test/shared"));
    for appended in futures_util::future::join_all(all).await {
        assert_eq!(appended?[0].outcome, Outcome::New);
    }
    assert_eq!(calls().await? - before, 1, "all four in one call");

    let redis::Value::Array(heads) = server.command(&["KEYS", "*head:test/shared"]).await? else {
        anyhow::bail!("KEYS answers with a list");
    };
    let head: String = redis::from_redis_value(heads[0].clone())?;
    server.command(&["DEL", &head]).await?;
    server.command(&["RPUSH", &head, "not an id"]).await?;
    let before = calls().await?;
    let all = (0..4).map(|partition| append(partition, "test/shared"));
    let appended = futures_util::future::join_all(all).await;
    let refused = |one: &Result<_, LogError>| matches!(one, Err(LogError::Refused(_)));
    assert_eq!(appended.iter().filter(|one| refused(one)).count(), 1);
    assert_eq!(appended.iter().filter(|one| one.is_ok()).count(), 3);
    assert_eq!(calls().await? - before, 1, "still in one call");
    Ok(())
}
