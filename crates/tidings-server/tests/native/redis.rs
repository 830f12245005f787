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
        Self::start_with(redis, &[])
    }

    fn start_with(redis: &str, environment: &[(&str, &str)]) -> Self {
        let port = PortLease::take().expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let keys = format!("[{{name=\"all\",key=\"{KEY}\",publish=[\"**\"],read=[\"**\"]}}]");
        let child = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["--listen", &port.address().to_string(), "--redis", redis])
            .env("TIDINGS_KEYS", keys)
            .env("TIDINGS_REDIS__APPEND_PATIENCE", "200ms")
            .env("TIDINGS_READINESS__PROBE_EVERY", "50ms")
            .env("TIDINGS_READINESS__PROBE_WAIT", "1s")
            .envs(environment.iter().copied())
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

#[tokio::test]
async fn readiness_follows_the_path_through_redis_in_both_directions() {
    let redis = RedisServer::builder()
        .proxied()
        .start()
        .await
        .expect("Redis");
    let hub = Process::start(&redis.url());
    let says = async |status: u16, probe: &str, tail_up: bool| {
        let address = hub.port.address();
        let said = wait_for("it to say so", SOON, || async {
            tokio::net::TcpStream::connect(address).await?;
            let answer = send(address, "GET", "/readyz", &[], "").await;
            let said = answer.json();
            let fits = said["probe"] == probe && said["tail_up"] == tail_up;
            anyhow::ensure!(answer.status == status && fits, "{} {said}", answer.status);
            Ok(())
        });
        said.await
            .unwrap_or_else(|error| panic!("{probe}: {error:#}\n{}", hub.printed()));
    };
    let set = async |words: &[&str]| drop(redis.command(words).await.expect("taken"));
    says(200, "back", true).await;
    // Appending alone is broken: there is no room.
    set(&["CONFIG", "SET", "maxmemory", "1"]).await;
    says(503, "append-fails", true).await;
    set(&["CONFIG", "SET", "maxmemory", "0"]).await;
    says(200, "back", true).await;
    // Following alone is broken: its command is refused.
    set(&["ACL", "SETUSER", "default", "-xread"]).await;
    says(503, "tail-silent", false).await;
    set(&["ACL", "SETUSER", "default", "+xread"]).await;
    says(200, "back", true).await;
    // Both: the link is cut, and then it is there but carries nothing.
    redis.cut().await.expect("cut");
    says(503, "append-fails", false).await;
    redis.heal().await.expect("healed");
    says(200, "back", true).await;
    redis.stall().expect("stalled");
    let stalled = wait_for("it not to be ready", SOON, || async {
        let answer = send(hub.port.address(), "GET", "/readyz", &[], "").await;
        anyhow::ensure!(answer.status == 503, "{}", answer.text());
        Ok(())
    });
    stalled
        .await
        .expect("a link that carries nothing is noticed");
    redis.heal().await.expect("healed");
    says(200, "back", true).await;
}

#[tokio::test]
async fn the_lines_of_a_traced_publish_carry_its_trace_id() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let redis = RedisServer::builder().start().await.expect("Redis");
    let json = [("TIDINGS_TELEMETRY__FORMAT", "json")];
    let hub = Process::start_with(&redis.url(), &json);
    hub.answers("/readyz", 200).await;
    redis.kill().await.expect("killed");
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let bearer = format!("Bearer {KEY}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("traceparent", parent.as_str()),
    ];
    let event = r#"{"topic":"a","type":"t"}"#;
    let answer = send(hub.port.address(), "POST", "/v1/events", &headers, event).await;
    assert_eq!(answer.problem(), "log-unavailable");
    let printed = hub.printed();
    let lines = printed.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let traced: Vec<Value> = lines
        .filter(|line| line["span"]["trace_id"] == TRACE)
        .collect();
    assert!(
        traced
            .iter()
            .any(|line| line["message"] == "the log failed a request"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_publish_is_told_what_replicas_and_disk_have_reached() {
    let primary = RedisServer::builder().append_only();
    let primary = primary.start().await.expect("Redis");
    let replica = RedisServer::builder().replica_of(primary.address());
    let replica = replica.start().await.expect("a replica");
    primary.wait_for_replica(&replica).await.expect("in step");
    let hub = Process::start(&primary.url());
    hub.answers("/readyz", 200).await;
    let publish = async |durability: &str, kind: &str, body: &str| {
        let path = format!("/v1/events?durability={durability}");
        let headers = [("authorization", "Bearer all"), ("content-type", kind)];
        let answer = send(hub.port.address(), "POST", &path, &headers, body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    };
    let event = r#"{"topic":"demo/a","type":"t","data":1,"id":"1","source":"/s"}"#;
    for level in ["stored", "replicated", "fsynced"] {
        let answer = publish(level, "application/json", event).await;
        assert_eq!(answer["durability"], level, "{answer}");
        assert_eq!(answer.get("wanted"), None, "{answer}");
    }
    let lines: String = (2..700)
        .map(|n| {
            format!(
                "{{\"topic\":\"demo/{}\",\"type\":\"t\",\"data\":{n}}}\n",
                n % 7
            )
        })
        .collect();
    let answer = publish("replicated", "application/x-ndjson", &lines).await;
    assert_eq!(answer["durability"], "replicated", "{}", answer["warning"]);
    assert_eq!(answer["count"], 698);

    replica.pause().await.expect("paused");
    let answer = publish("replicated", "application/json", event).await;
    assert_eq!(answer["durability"], "stored", "{answer}");
    assert_eq!(answer["wanted"], "replicated", "{answer}");
    replica.resume().await.expect("resumed");
    // Publishing again stores nothing twice, and is told what holds by now.
    let again = publish("replicated", "application/json", event).await;
    assert_eq!(again["durability"], "replicated", "{again}");
    assert_eq!(again["events"][0]["id"], answer["events"][0]["id"]);
    assert_eq!(again["events"][0]["duplicate"], true);
    let metrics = send(hub.port.address(), "GET", "/metrics", &[], "").await;
    let missed = "tidings_settles_total{reached=\"stored\",wanted=\"replicated\"} 1";
    assert!(metrics.text().contains(missed), "{}", metrics.text());
}
