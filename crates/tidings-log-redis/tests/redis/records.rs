//! Commits that only Redis can make difficult: lost answers, killed connections, forgotten scripts,
//! absences, entries that nobody here wrote.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tidings_core::{
    Commit, CommitId, CommitOutcome, Committed, EventLog as _, From, LogError, OutboxItem,
    PageLimit, Partition, Put, RecordKey, Records as _, Relay, RelayId, SetDeadline, Version,
};
use tidings_log_redis::{RedisLog, RedisOptions};
use tidings_testkit::servers::{RedisServer, Sentinel};

use crate::common::{self, draft, placed};

const HERE: Partition = Partition(0);

fn key(id: &str) -> RecordKey {
    RecordKey::new("test.kind", id)
}

fn commit() -> Commit {
    Commit::new(CommitId(rand::random()))
}

fn put(id: &str, document: &str) -> Put {
    Put {
        key: key(id),
        document: document.to_owned().into(),
        lifetime: None,
        owner: None,
    }
}

/// Uses everything that there is about records.
pub(crate) async fn works(options: RedisOptions) -> Result<()> {
    let log = common::connect(options).await?;
    let deadline = |name: &str, at_ms| SetDeadline {
        record: key("works"),
        name: name.into(),
        at_ms,
    };
    let first = Commit {
        puts: vec![
            Put {
                lifetime: Some(Duration::from_secs(60)),
                ..put("works", "1")
            },
            put("other", "1"),
        ],
        deadlines: vec![deadline("n", Some(5)), deadline("m", Some(6))],
        drafts: vec![draft("test/works", "1")],
        outbox: vec![OutboxItem::Draft(draft("test/works", "1"))],
        ..commit()
    };
    let second = |due| Commit {
        fires: due,
        expects: vec![(key("none"), Version::ABSENT)],
        puts: vec![put("works", "2")],
        removes: vec![key("other")],
        deadlines: vec![deadline("m", None)],
        ..commit()
    };
    log.commit(HERE, first).await?;
    let due = log.due(HERE, vec!["test.kind".into()], 1).await?.deadlines;
    let outcome = log.commit(HERE, second(due.into_iter().next())).await?;
    assert!(
        matches!(outcome, CommitOutcome::Committed(_)),
        "{outcome:?}"
    );
    assert_eq!(number_of(&log, "works").await?.1, 2);
    assert_eq!(log.outbox_depth(HERE).await?, 1);
    let Relay::Entries(entries) = log.relay(HERE, RelayId(1), Vec::new(), 9).await? else {
        anyhow::bail!("an entry waits");
    };
    let delivered = entries.iter().map(|entry| entry.id).collect();
    let turn = log.relay(HERE, RelayId(1), delivered, 9).await?;
    assert_eq!(turn, Relay::Empty);
    Ok(())
}

async fn number_of(log: &RedisLog, id: &str) -> Result<(Version, u64)> {
    match log.load(HERE, vec![key(id)]).await?.remove(0) {
        Some(record) => Ok((
            record.version,
            String::from_utf8_lossy(&record.document).parse()?,
        )),
        None => Ok((Version::ABSENT, 0)),
    }
}

/// 16 tasks count while every connection is killed again and again: a count that was acknowledged
/// is there, none is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_commit_nothing_twice() -> Result<()> {
    const TASKS: usize = 16;
    const KILLS: usize = 20;
    let server = RedisServer::start().await?;
    let log = Arc::new(common::connect(common::options(server.url())).await?);
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (log, stop) = (log.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut retried, id) = (0, task.to_string());
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let Ok((version, there)) = number_of(&log, &id).await else {
                        continue;
                    };
                    // Whoever commits insists, so what is there is what was acknowledged.
                    assert_eq!(there, count);
                    let topic = format!("test/count/{task}");
                    let next = Commit {
                        expects: vec![(key(&id), version)],
                        puts: vec![put(&id, &(count + 1).to_string())],
                        drafts: vec![draft(&topic, &(count + 1).to_string())],
                        outbox: vec![OutboxItem::Draft(draft(&topic, "1"))],
                        ..commit()
                    };
                    loop {
                        match log.commit(HERE, next.clone()).await {
                            Ok(CommitOutcome::Committed(committed)) => {
                                retried += usize::from(committed.retried);
                                break count += 1;
                            }
                            Err(LogError::Unavailable(_) | LogError::FateUnknown(_)) => {}
                            other => panic!("{other:?}"),
                        }
                    }
                }
                (retried, count)
            })
        })
        .collect();
    for _ in 0..KILLS {
        let commands = async || -> Result<u64> {
            Ok(server.info("stats").await?["total_commands_processed"].parse()?)
        };
        let before = commands().await?;
        // Under load, each time: some hundred commands later.
        common::wait_for("load", Duration::from_secs(20), async || {
            let now = commands().await?;
            ensure!(now > before + 300, "only {} commands", now - before);
            Ok(())
        })
        .await?;
        server.kill_clients().await?;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut retried, mut counts) = (0, HashMap::new());
    for (task, running) in tasks.into_iter().enumerate() {
        let (again, count) = running.await?;
        retried += again;
        counts.insert(task, count);
    }
    for (task, count) in &counts {
        assert_eq!(number_of(&log, &task.to_string()).await?.1, *count);
        let topic = placed(0, &format!("test/count/{task}"));
        let (mut from, mut said) = (From::Oldest, 0);
        loop {
            let page = log.read(&topic, from, PageLimit::default()).await?;
            for event in &page.events {
                said += 1;
                assert_eq!(event.data, said.to_string());
            }
            if page.at_end {
                break;
            }
            from = From::After(page.next);
        }
        assert_eq!(said, *count);
    }
    assert_eq!(log.outbox_depth(HERE).await?, counts.values().sum::<u64>());
    assert!(retried > 0, "no answer was lost: the test tests nothing");
    Ok(())
}

/// The first try reaches a server that sleeps; its answer is given up before it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_commit_is_asked_for_again() -> Result<()> {
    let server = RedisServer::start().await?;
    let options = RedisOptions {
        response_timeout: Duration::from_millis(150),
        connect_timeout: Duration::from_millis(150),
        ..common::options(server.url())
    };
    let log = Arc::new(common::connect(options).await?);
    let (mut version, mut retried) = (Version::ABSENT, 0);
    for n in 1..6_u64 {
        let next = Commit {
            expects: vec![(key("a"), version)],
            puts: vec![put("a", &n.to_string())],
            drafts: vec![draft("test/sleep", &n.to_string())],
            answer: n.to_string().into(),
            ..commit()
        };
        let committing = log.clone();
        server.pause().await?;
        let running = tokio::spawn(async move { committing.commit(HERE, next).await });
        // Longer than the patience for one answer, shorter than that for a commit.
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.resume().await?;
        let Committed {
            version: new,
            answer,
            retried: again,
            ..
        } = match running.await?? {
            CommitOutcome::Committed(committed) => committed,
            other => panic!("{other:?}"),
        };
        assert_eq!(answer, n.to_string());
        (version, retried) = (new, retried + usize::from(again));
    }
    assert_eq!(number_of(&log, "a").await?, (version, 5));
    let topic = placed(0, "test/sleep");
    let page = log.read(&topic, From::Oldest, PageLimit::default()).await?;
    assert_eq!(page.events.len(), 5);
    assert!(
        retried > 0,
        "no first try was executed: the test tests nothing"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_of_records_are_loaded_again() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    for n in 0..3_u64 {
        server.command(&["SCRIPT", "FLUSH"]).await?;
        let outcome = log
            .commit(
                HERE,
                Commit {
                    puts: vec![put("a", &n.to_string())],
                    outbox: vec![OutboxItem::Draft(draft("test/flush", "1"))],
                    ..commit()
                },
            )
            .await?;
        assert!(matches!(outcome, CommitOutcome::Committed(one) if !one.retried));
        server.command(&["SCRIPT", "FLUSH"]).await?;
        assert_eq!(number_of(&log, "a").await?.1, n);
        server.command(&["SCRIPT", "FLUSH"]).await?;
        assert_eq!(log.outbox_depth(HERE).await?, n + 1);
        server.command(&["SCRIPT", "FLUSH"]).await?;
        let due = log.due(HERE, vec!["test.kind".into()], 5).await?;
        assert_eq!(due.deadlines, []);
        server.command(&["SCRIPT", "FLUSH"]).await?;
        let turn = log.relay(HERE, RelayId(1), Vec::new(), 100).await?;
        assert!(matches!(turn, Relay::Entries(entries) if entries.len() as u64 == n + 1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_nothing_was_committed_and_it_is_said_in_time() -> Result<()> {
    let server = RedisServer::builder().append_only().start().await?;
    let patience = Duration::from_millis(600);
    let options = RedisOptions {
        append_patience: patience,
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    let counting = |n: u64| Commit {
        puts: vec![put("a", &n.to_string())],
        ..commit()
    };
    log.commit(HERE, counting(1)).await?;
    server.kill().await?;
    tokio::time::timeout(patience * 4, async {
        let refused = log.commit(HERE, counting(2)).await;
        let honest = matches!(
            refused,
            Err(LogError::Unavailable(_) | LogError::FateUnknown(_))
        );
        assert!(honest, "{refused:?}");
    })
    .await?;
    // Once the outage is longer than the patience, one try is enough.
    common::wait_for("one try", Duration::from_secs(20), async || {
        let asked = tokio::time::Instant::now();
        let refused = log.commit(HERE, counting(3)).await;
        assert!(
            matches!(refused, Err(LogError::Unavailable(_))),
            "{refused:?}"
        );
        ensure!(asked.elapsed() < patience, "{:?}", asked.elapsed());
        Ok(())
    })
    .await?;
    let refused = log.load(HERE, vec![key("a")]).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))));
    server.restart().await?;
    common::wait_for("commits", Duration::from_secs(20), async || {
        Ok(log.commit(HERE, counting(4)).await?)
    })
    .await?;
    assert_eq!(number_of(&log, "a").await?.1, 4);
    Ok(())
}

/// Made a replica by hand, without a disconnect that would give it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_primary_has_no_records() -> Result<()> {
    let (server, other) = (RedisServer::start().await?, RedisServer::start().await?);
    let options = RedisOptions {
        append_patience: Duration::from_millis(300),
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    let first = Commit {
        puts: vec![put("a", "1")],
        outbox: vec![OutboxItem::Draft(draft("test/demoted", "1"))],
        ..commit()
    };
    log.commit(HERE, first.clone()).await?;
    log.load(HERE, vec![key("a")]).await?;
    let port = other.port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).await?;
    let refused = |result: Result<(), LogError>| match result {
        Err(LogError::Unavailable(reason)) => assert!(
            reason.contains("master") || reason.contains("primary"),
            "{reason}"
        ),
        other => panic!("a replica answers: {other:?}"),
    };
    refused(log.load(HERE, vec![key("a")]).await.map(|_| ()));
    let kinds = vec!["test.kind".into()];
    refused(log.due(HERE, kinds, 1).await.map(|_| ()));
    refused(log.outbox_depth(HERE).await.map(|_| ()));
    let turn = log.relay(HERE, RelayId(1), Vec::new(), 1).await;
    refused(turn.map(|_| ()));
    refused(log.commit(HERE, commit()).await.map(|_| ()));
    // Not even what it could say without a write: an older result than the one that counts.
    refused(log.commit(HERE, first).await.map(|_| ()));
    Ok(())
}

/// Deadlines, outbox and lease after a failover that lost nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_survive_a_failover() -> Result<()> {
    let set = Sentinel::start().await?;
    let log = common::connect(common::options(set.url())).await?;
    let first = Commit {
        puts: vec![put("a", "1")],
        deadlines: vec![SetDeadline {
            record: key("a"),
            name: "n".into(),
            at_ms: Some(5),
        }],
        outbox: vec![OutboxItem::Draft(draft("test/failover", "1"))],
        answer: "first".into(),
        ..commit()
    };
    let CommitOutcome::Committed(before) = log.commit(HERE, first.clone()).await? else {
        anyhow::bail!("it was not committed");
    };
    let Relay::Entries(entries) = log.relay(HERE, RelayId(1), Vec::new(), 9).await? else {
        anyhow::bail!("there are no entries");
    };
    set.primary().wait_for_replica(set.replica()).await?;
    set.kill_primary().await?;
    set.wait_for_failover().await?;
    // Everyone's patience is as long as a failover.
    let CommitOutcome::Committed(again) = log.commit(HERE, first).await? else {
        anyhow::bail!("it was forgotten");
    };
    assert!(again.retried);
    assert_eq!(
        (again.version, again.answer),
        (before.version, before.answer)
    );
    assert_eq!(number_of(&log, "a").await?, (before.version, 1));
    let due = log.due(HERE, vec!["test.kind".into()], 9).await?;
    assert_eq!(due.deadlines.len(), 1);
    let turn = log.relay(HERE, RelayId(2), Vec::new(), 9).await?;
    assert_eq!(turn, Relay::Busy);
    let fires = Commit {
        fires: due.deadlines.into_iter().next(),
        expects: vec![(key("a"), before.version)],
        puts: vec![put("a", "2")],
        ..commit()
    };
    let CommitOutcome::Committed(fired) = log.commit(HERE, fires).await? else {
        anyhow::bail!("it did not fire");
    };
    assert!(fired.version > before.version);
    let delivered = entries.iter().map(|entry| entry.id).collect();
    let turn = log.relay(HERE, RelayId(1), delivered, 9).await?;
    assert_eq!(turn, Relay::Empty);
    Ok(())
}

/// What is in the outbox and cannot be read is neither lost nor passed over, and whoever can read it
/// finds the lease free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_a_later_version_stops_the_outbox() -> Result<()> {
    use redis::FromRedisValue as _;
    let server = RedisServer::start().await?;
    let log = common::connect(common::options(server.url())).await?;
    let one = || Commit {
        outbox: vec![OutboxItem::Draft(draft("test/later", "1"))],
        ..commit()
    };
    log.commit(HERE, one()).await?;
    let outbox = Vec::<String>::from_redis_value(server.command(&["KEYS", "*:out"]).await?)?;
    server
        .command(&[
            "XADD",
            &outbox[0],
            "*",
            "c",
            "07",
            "i",
            "0",
            "b",
            "\u{2}later",
        ])
        .await?;
    log.commit(HERE, one()).await?;
    let Relay::Entries(first) = log.relay(HERE, RelayId(1), Vec::new(), 9).await? else {
        anyhow::bail!("the first entry can be read");
    };
    assert_eq!(first.len(), 1);
    let delivered = vec![first[0].id];
    for relay in [1, 2, 1] {
        let refused = log.relay(HERE, RelayId(relay), delivered.clone(), 9).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    }
    assert_eq!(log.outbox_depth(HERE).await?, 2);
    Ok(())
}
