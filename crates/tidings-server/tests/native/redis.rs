//! An instance on a real Redis: direct ingest, and a Redis that is away.

use std::time::Duration;

use crate::common::{KEY, SOON, send};
use serde_json::Value;
use tidings_testkit::servers::{PortLease, RedisServer, wait_for};
use tokio::process::{Child, Command};

/// The real binary on a Redis; dropping it kills it.
struct Process {
    child: Child,
    port: PortLease,
    folder: tempfile::TempDir,
}

impl Process {
    fn start(redis: &str) -> Self {
        let port = PortLease::take().expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let keys = format!("[{{name=\"all\",key=\"{KEY}\",publish=[\"**\"],read=[\"**\"]}}]");
        let child = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["--listen", &port.address().to_string(), "--redis", redis])
            .env("TIDINGS_KEYS", keys)
            .env("TIDINGS_REDIS__APPEND_PATIENCE", "200ms")
            .current_dir(folder.path())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        Self {
            child,
            port,
            folder,
        }
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until a path answers with a status.
    async fn answers(&self, path: &str, status: u16) {
        let address = self.port.address();
        let answered = wait_for("an answer", SOON, || async {
            tokio::net::TcpStream::connect(address).await?;
            let answer = send(address, "GET", path, &[], "").await;
            anyhow::ensure!(
                answer.status == status,
                "{}: {}",
                answer.status,
                answer.text()
            );
            Ok(())
        });
        answered
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:#}\n{}", self.printed()));
    }

    async fn events(&self, topic: &str) -> Vec<Value> {
        let path = format!("/v1/topics/{topic}?key={KEY}");
        let answer = send(self.port.address(), "GET", &path, &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().as_array().expect("an array").clone()
    }

    /// Waits until a topic has so many events.
    async fn has(&self, topic: &str, count: usize) -> Vec<Value> {
        let events = wait_for("the events", SOON, || async {
            let events = self.events(topic).await;
            anyhow::ensure!(events.len() >= count, "{} of {count}", events.len());
            Ok(events)
        });
        let events = events
            .await
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.printed()));
        assert_eq!(events.len(), count);
        events
    }
}

async fn add(redis: &RedisServer, fields: &[&str]) {
    let words = [&["XADD", "tidings:ingest", "*"], fields].concat();
    redis.command(&words).await.expect("added");
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|event| event["data"].as_u64())
        .collect()
}

#[tokio::test]
async fn ingest_keeps_order_refuses_with_reason_and_stores_once() {
    let redis = RedisServer::builder().start().await.expect("Redis");
    // Written before the first instance starts: that counts as well.
    for n in 0..150 {
        let (topic, data) = (format!("demo/{}", n % 2), n.to_string());
        add(&redis, &["topic", &topic, "type", "t", "data", &data]).await;
    }
    add(&redis, &["topic", "demo/0", "type", "t", "data", "hello"]).await;
    add(&redis, &["topic", "demo/0", "colour", "red"]).await;
    add(
        &redis,
        &[
            "topic", "demo/0", "type", "t", "data", "\"last\"", "source", "/s", "id", "7",
        ],
    )
    .await;
    add(
        &redis,
        &[
            "topic", "demo/0", "type", "t", "data", "\"last\"", "source", "/s", "id", "7",
        ],
    )
    .await;
    let first = Process::start(&redis.url());
    first.answers("/readyz", 200).await;
    let even = first.has("demo/0", 76).await;
    assert_eq!(numbers(&even), (0..150).step_by(2).collect::<Vec<_>>());
    assert_eq!(even[75]["data"], "last");
    assert_eq!(even[75]["publisherid"], "7");
    assert_eq!(
        numbers(&first.has("demo/1", 75).await),
        (1..150).step_by(2).collect::<Vec<_>>()
    );
    let drained = wait_for("the stream to be empty", SOON, || async {
        let left = redis.command(&["XLEN", "tidings:ingest"]).await?;
        anyhow::ensure!(format!("{left:?}") == "int(0)", "{left:?}");
        Ok(())
    });
    drained.await.expect("drained");
    let refused = redis
        .command(&["XRANGE", "tidings:ingest:refused", "-", "+"])
        .await
        .map(|read| format!("{read:?}"))
        .expect("read");
    let (json, field) = (
        refused.find("malformed-json: "),
        refused.find("unknown-field: "),
    );
    assert!(json.is_some() && json < field, "{refused}");
    let metrics = send(first.port.address(), "GET", "/metrics", &[], "")
        .await
        .text();
    for line in [
        "tidings_refused_total{cause=\"unknown-field\"} 1",
        "tidings_redis_ingested_total",
    ] {
        assert!(metrics.contains(line), "{line}");
    }

    // One instance is killed; the other one takes over, and nothing comes twice.
    let second = Process::start(&redis.url());
    second.answers("/readyz", 200).await;
    drop(first);
    for n in 150..160 {
        add(
            &redis,
            &["topic", "demo/1", "type", "t", "data", &n.to_string()],
        )
        .await;
    }
    let odd = second.has("demo/1", 85).await;
    assert_eq!(numbers(&odd[75..]), (150..160).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_redis_that_is_away_makes_an_instance_wait_and_recover() {
    let redis = RedisServer::builder()
        .append_only()
        .start()
        .await
        .expect("Redis");
    redis.kill().await.expect("killed");
    let instance = Process::start(&redis.url());
    let address = instance.port.address();
    instance.answers("/healthz", 200).await;
    instance.answers("/readyz", 503).await;
    let refused = send(address, "POST", "/v1/events", &[], "").await;
    assert_eq!(refused.problem(), "log-unavailable");
    assert!(refused.headers.contains_key("retry-after"));

    redis.restart().await.expect("restarted");
    instance.answers("/readyz", 200).await;
    let headers = [
        ("authorization", "Bearer all"),
        ("content-type", "application/json"),
    ];
    let event = r#"{"topic":"demo/a","type":"t","data":1,"id":"1"}"#;
    let stored = send(address, "POST", "/v1/events", &headers, event).await;
    assert_eq!(stored.status, 201, "{}", stored.text());

    redis.kill().await.expect("killed");
    let refused = send(address, "POST", "/v1/events", &headers, event).await;
    assert!(["log-unavailable", "fate-unknown"].contains(&refused.problem().as_str()));
    instance.answers("/readyz", 503).await;
    instance.answers("/healthz", 200).await;
    redis.restart().await.expect("restarted");
    instance.answers("/readyz", 200).await;
    assert_eq!(numbers(&instance.has("demo/a", 1).await), [1]);
}

#[tokio::test]
async fn a_log_that_does_not_fit_is_said_at_start() {
    let redis = RedisServer::builder().start().await.expect("Redis");
    let first = Process::start(&redis.url());
    first.answers("/readyz", 200).await;
    let output = tokio::time::timeout(
        Duration::from_secs(20),
        Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["--listen", "127.0.0.1:0", "--redis", &redis.url()])
            .env("TIDINGS_LOG__PARTITIONS", "4")
            .current_dir(first.folder.path())
            .output(),
    )
    .await
    .expect("it ends by itself")
    .expect("it ran");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("16") && said.contains("partitions"), "{said}");
    drop(first.child);
}
