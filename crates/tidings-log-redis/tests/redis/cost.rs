//! What a publish costs Redis: processor time of the server, without persistence, without dedup.
//!
//! The bar is 9 µs for 256 bytes with history, when publishers come together. A machine that does
//! other things beside may need twice that; more is a defect, and so is the limit here.

use std::sync::Arc;

use anyhow::Result;
use tidings_core::EventLog as _;
use tidings_log_redis::RedisLog;
use tidings_testkit::servers::RedisServer;

use crate::common::{self, draft, placed};

const BAR_US: f64 = 9.0;
const PUBLISHES: usize = 20_000;

/// Some topics per partition, each with a run of events.
fn drafts(partition: u16, from: usize, count: usize) -> Vec<tidings_core::Draft> {
    let data = format!("\"{}\"", "x".repeat(254));
    (from..from + count)
        .map(|n| draft(&format!("cost/{partition}/{}", n % 50), &data))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn a_publish_is_cheap_for_redis() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = Arc::new(common::connect(common::options(server.url())).await?);
    for (name, tasks, each, bar) in [
        ("one at a time", 1, 1, 8.0 * BAR_US),
        ("16 in one append", 1, 16, BAR_US),
        ("64 publishers of one at a time", 64, 1, BAR_US),
        ("512 publishers of one at a time", 512, 1, BAR_US),
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
        println!("{name}: {micros:.1} µs of Redis per publish");
        assert!(
            micros < 2.0 * bar,
            "{name}: {micros:.1} µs of Redis per publish, the bar is {bar}"
        );
    }
    Ok(())
}

async fn publish(log: Arc<RedisLog>, task: usize, calls: usize, each: usize) -> Result<()> {
    for call in 0..calls {
        let partition = ((task + call) % 4) as u16;
        let drafts = drafts(partition, (task * calls + call) * each, each);
        log.append(placed(partition, "cost").partition, drafts)
            .await?;
    }
    Ok(())
}
