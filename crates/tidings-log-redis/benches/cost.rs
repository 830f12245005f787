//! What a publish and a commit cost Redis: processor time of the server, without persistence, without dedup.
//!
//! The bar is 9 µs for 256 bytes with history, when publishers come together. A figure, not a test: a
//! machine that does other things beside needs more.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use prometheus::Registry;
use tidings_core::{
    Clock, Commit, CommitId, CommitOutcome, Draft, EventLog as _, OutboxItem, Partition, Put,
    RecordKey, Records as _, SetDeadline, Topic, Version,
};
use tidings_log_redis::{RedisLog, RedisOptions};
use tidings_testkit::servers::RedisServer;

#[derive(Debug)]
struct Wall;

impl Clock for Wall {
    fn unix_ms(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }
}

const BAR_US: f64 = 9.0;
const PUBLISHES: usize = 20_000;

/// Some topics per partition, each with a run of events.
fn drafts(partition: u16, from: usize, count: usize) -> Result<Vec<Draft>> {
    let data = format!("\"{}\"", "x".repeat(254));
    (from..from + count)
        .map(|n| {
            let topic = Topic::parse(&format!("cost/{partition}/{}", n % 50))?;
            Ok(Draft::new(topic, "cost", data.clone()))
        })
        .collect()
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let server = RedisServer::start().await?;
    let options = RedisOptions::new(server.url());
    let log = Arc::new(RedisLog::connect(options, Arc::new(Wall), &Registry::new()).await?);
    println!("µs of Redis per publish; the bar is {BAR_US}");
    for (name, tasks, each) in [
        ("one at a time", 1, 1),
        ("16 in one append", 1, 16),
        ("64 publishers of one at a time", 64, 1),
        ("512 publishers of one at a time", 512, 1),
    ] {
        let before = server.cpu_seconds().await?;
        let calls = PUBLISHES / tasks / each;
        let running: Vec<_> = (0..tasks)
            .map(|task| tokio::spawn(publish(log.clone(), task, calls, each)))
            .collect();
        for task in running {
            task.await??;
        }
        let micros = (server.cpu_seconds().await? - before) * 1e6 / (tasks * calls * each) as f64;
        println!("{name}: {micros:.1}");
    }
    println!("µs of Redis per commit of one record and one draft, 256 bytes each");
    for (name, tasks, work) in [
        ("one at a time", 1, Work::Commit),
        ("64 committers of one at a time", 64, Work::Commit),
        ("the same, loading first", 64, Work::LoadAndCommit),
        (
            "the same, a lifetime, a deadline and an outbox entry too",
            64,
            Work::Everything,
        ),
    ] {
        let before = server.cpu_seconds().await?;
        let calls = COMMITS / tasks;
        let running: Vec<_> = (0..tasks)
            .map(|task| tokio::spawn(commits(log.clone(), task, calls, work)))
            .collect();
        for task in running {
            task.await??;
        }
        let micros = (server.cpu_seconds().await? - before) * 1e6 / (tasks * calls) as f64;
        println!("{name}: {micros:.1}");
    }
    Ok(())
}

const COMMITS: usize = 10_000;

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Commit,
    LoadAndCommit,
    Everything,
}

/// Each task changes a record of its own, so that nobody is in anybody's way.
async fn commits(log: Arc<RedisLog>, task: usize, calls: usize, work: Work) -> Result<()> {
    let partition = Partition((task % 4) as u16);
    let key = RecordKey::new("cost.record", format!("{task}"));
    let records = log.load(partition, vec![key.clone()]).await?;
    let mut version = records[0].as_ref().map_or(Version::ABSENT, |r| r.version);
    let document = "x".repeat(256);
    for call in 0..calls {
        if work != Work::Commit {
            let records = log.load(partition, vec![key.clone()]).await?;
            ensure!(records[0].as_ref().map_or(Version::ABSENT, |r| r.version) == version);
        }
        let lasting = work != Work::Everything;
        let commit = Commit {
            expects: vec![(key.clone(), version)],
            puts: vec![Put {
                key: key.clone(),
                document: document.clone().into(),
                lifetime: (!lasting).then_some(Duration::from_secs(3600)),
                owner: None,
            }],
            deadlines: (!lasting)
                .then(|| SetDeadline {
                    record: key.clone(),
                    name: "n".into(),
                    at_ms: Some(Wall.unix_ms() + 60_000),
                })
                .into_iter()
                .collect(),
            drafts: drafts(partition.0, task * calls + call, 1)?,
            outbox: (!lasting)
                .then(|| drafts(partition.0, call, 1))
                .transpose()?
                .into_iter()
                .flatten()
                .map(OutboxItem::Draft)
                .collect(),
            ..Commit::new(CommitId(
                (task * calls + call) as u128 | rand::random::<u128>() << 64,
            ))
        };
        match log.commit(partition, commit).await? {
            CommitOutcome::Committed(committed) => version = committed.version,
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

async fn publish(log: Arc<RedisLog>, task: usize, calls: usize, each: usize) -> Result<()> {
    for call in 0..calls {
        let partition = ((task + call) % 4) as u16;
        let drafts = drafts(partition, (task * calls + call) * each, each)?;
        log.append(Partition(partition), drafts).await?;
    }
    Ok(())
}
