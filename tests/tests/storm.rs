//! A reconnect storm: ten thousand cursors inside the window cost Redis no read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::RedisServer;
use tidings_tests::instance::KEY;
use tidings_tests::{Instance, SOON};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CURSORS: usize = 10_000;
const EVENTS: usize = 100;
/// Connections at a time: a storm, but one that fits the file descriptors of a test machine.
const AT_ONCE: usize = 200;

/// Comes back with a cursor, and reads until the event after it has come.
async fn come_back(address: SocketAddr, cursor: &str, expected: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /v1/events?topic=storm/a&access_token={KEY} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nlast-event-id: {cursor}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    let expected = format!("id: {expected}\n");
    while !String::from_utf8_lossy(&read).contains(&expected) {
        ensure!(
            stream.read_buf(&mut read).await? > 0,
            "ended: {}",
            String::from_utf8_lossy(&read)
        );
        ensure!(
            !String::from_utf8_lossy(&read).contains("event: reset"),
            "{}",
            String::from_utf8_lossy(&read)
        );
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figure is what this test is for")]
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_cursors_inside_the_window_cost_redis_no_read() -> Result<()> {
    let redis = RedisServer::start().await?;
    let instance = Instance::start(&["--redis", &redis.url()], "").await?;
    let lines: Vec<String> = (0..EVENTS)
        .map(|n| format!(r#"{{"topic":"storm/a","type":"count","data":{n}}}"#))
        .collect();
    let answer = instance
        .send(
            "POST",
            "/v1/events",
            &[("content-type", "application/x-ndjson")],
            lines.join("\n"),
        )
        .await?;
    ensure!(answer.status == 201, "{:?}", answer.body);
    let answer = answer.json()?;
    let stored = answer["events"].as_array().context("events")?;
    let ids: Arc<Vec<String>> = Arc::new(
        stored
            .iter()
            .map(|one| one["id"].as_str().unwrap_or_default().to_owned())
            .collect(),
    );
    come_back(instance.address(), &ids[0], &ids[EVENTS - 1]).await?; // the window has them all

    let before = redis.command_stats().await?;
    let mut readers = JoinSet::new();
    for n in 0..CURSORS {
        if readers.len() == AT_ONCE {
            readers.join_next().await.context("some are there")???;
        }
        let (ids, address) = (ids.clone(), instance.address());
        readers.spawn(async move {
            let from = n % (EVENTS - 1);
            tokio::time::timeout(SOON, come_back(address, &ids[from], &ids[from + 1]))
                .await
                .context("in time")?
        });
    }
    while let Some(done) = readers.join_next().await {
        done??;
    }
    let after = redis.command_stats().await?;
    let asked: BTreeMap<&String, u64> = after
        .iter()
        .map(|(name, calls)| (name, calls - before.get(name).copied().unwrap_or(0)))
        .filter(|(_, calls)| *calls > 0)
        .collect();
    println!("{CURSORS} cursors, Redis was asked: {asked:?}");
    // A topic is read by its index: nobody did.
    for command in ["lindex", "lrange", "llen"] {
        ensure!(!asked.contains_key(&command.to_owned()), "{asked:?}");
    }
    // What is left is the hub's own: the tail's blocking reads with what they check when they come back
    // empty (each partition's places, of events and of flash events), the trimming of every second, direct ingest. It does not grow with readers.
    let all: u64 = asked.values().sum();
    ensure!(all < CURSORS as u64 / 10, "{asked:?}");
    Ok(())
}
