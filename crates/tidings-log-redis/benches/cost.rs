//! What a publish costs Redis: processor time of the server, without persistence, without dedup.
//!
//! The bar is 9 µs for 256 bytes with history, when publishers come together. A figure, not a test: a
//! machine that does other things beside needs more.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use prometheus::Registry;
use tidings_core::{Clock, Draft, EventLog as _, Partition, Topic};
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
