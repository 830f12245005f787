//! Readiness goes through the real path: an instance is ready while its own probe comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::{KEY, SOON, send, start};
use crate::moody::Mood;
use prometheus::Registry;
use serde_json::Value;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tidings_server::Instance;
use tidings_server::config::{Sources, load};
use tidings_testkit::adapter_exam::{Fault, Faulty};

const QUICK: &str = "[readiness]\nprobe_every = \"20ms\"\nprobe_wait = \"200ms\"\n";

/// An instance on a log that fails as it is told to.
struct Probed {
    instance: Instance,
    log: Arc<Faulty>,
    address: SocketAddr,
}

async fn probed(more: &str) -> Probed {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{QUICK}{more}")).expect("written");
    let keys = format!("[{{name=\"all\",key=\"{KEY}\",publish=[\"**\"],read=[\"**\"]}}]");
    let environment = [
        ("TIDINGS_SERVER__LISTEN", "127.0.0.1:0"),
        ("TIDINGS_KEYS", &keys),
    ];
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment.into_iter().map(pair).collect(),
        ..Sources::default()
    };
    let config = load(&sources).expect("the configuration fits").config;
    let clock = Arc::new(SystemClock);
    let memory = MemoryLog::new(MemoryOptions::default(), clock.clone(), 7);
    let log = Arc::new(Faulty::new(Arc::new(memory)));
    let instance = Instance::start(&config, log.clone(), clock, Vec::new(), Registry::new());
    let instance = instance.expect("it starts");
    Probed {
        address: instance.addresses()[0].1,
        instance,
        log,
    }
}

/// Waits until `/readyz` answers so.
async fn until(address: SocketAddr, status: u16, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = None;
    let waiting = async {
        loop {
            let answer = send(address, "GET", "/readyz", &[], "").await;
            let (now, said) = (answer.status.as_u16(), answer.json());
            if now == status && wanted(&said) {
                return said;
            }
            last = Some((now, said));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(SOON, waiting).await {
        Ok(said) => said,
        Err(_) => panic!("never {status}: {last:?}"),
    }
}

fn is(probe: &str) -> impl Fn(&Value) -> bool {
    move |said| said["probe"] == probe && said["ready"] == (probe == "back")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_that_breaks_is_named_and_heals() {
    let probed = probed("").await;
    let said = until(probed.address, 200, is("back")).await;
    assert!(said["probe_at_ms"].as_u64() > Some(0), "{said}");
    let table = [
        // The log is full, or its answers are lost: the tail is well.
        (Fault::Full, "append-fails", true),
        (Fault::Unsure, "append-fails", true),
        // Connected, healthy, and deaf.
        (Fault::Deaf, "tail-silent", true),
        // Both.
        (Fault::Away, "append-fails", false),
    ];
    for (fault, probe, tail_up) in table {
        probed.log.set(fault);
        let said = until(probed.address, 503, is(probe)).await;
        assert_eq!(said["tail_up"], tail_up, "{fault:?}: {said}");
        // Nobody is killed for it.
        assert_eq!(
            send(probed.address, "GET", "/healthz", &[], "")
                .await
                .status,
            200
        );
        probed.log.set(Fault::None);
        until(probed.address, 200, is("back")).await;
    }
    let metrics = send(probed.address, "GET", "/metrics", &[], "")
        .await
        .text();
    for line in [
        "tidings_probe_up 1",
        // Probes are no publishes, and no events of anybody.
        "tidings_appends_total{outcome=\"new\"} 0",
        "tidings_tail_events_total 0",
    ] {
        assert!(
            metrics.lines().any(|one| one == line),
            "{line} in {metrics}"
        );
    }
    for direction in ["append", "tail"] {
        let row = format!("tidings_probe_failures_total{{direction=\"{direction}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&row));
        assert!(count.is_some_and(|count| count != "0"), "{row}{count:?}");
    }
    probed.instance.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_has_its_turn_and_a_broken_one_keeps_it() {
    let server = start(QUICK).await;
    until(server.address, 200, is("back")).await;
    // One partition of sixteen: its turn comes, and readiness does not flap from then on.
    server.log.set(Mood::HalfAway);
    until(server.address, 503, is("append-fails")).await;
    let before = server.log.probes.load(Ordering::Relaxed);
    let probes = async {
        while server.log.probes.load(Ordering::Relaxed) < before + 10 {
            let health = server.instance.hub().health();
            assert!(!health.is_ready(), "{health:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, probes)
        .await
        .expect("it goes on trying");
    server.log.set(Mood::Good);
    until(server.address, 200, is("back")).await;
    server.instance.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hubs_own_topics_are_nobodys() {
    let probed = probed("").await;
    until(probed.address, 200, is("back")).await;
    let key = format!("Bearer {KEY}");
    let bearer = ("authorization", key.as_str());
    let json = ("content-type", "application/json");
    let lines = ("content-type", "application/x-ndjson");
    let event = r#"{"topic":"~tidings/probe","type":"t"}"#;
    let table = [
        ("POST", "/v1/events", vec![bearer, json], event),
        ("POST", "/v1/events", vec![bearer, lines], event),
        (
            "GET",
            "/v1/topics/~tidings/probe?offset=-1",
            vec![bearer],
            "",
        ),
        ("GET", "/v1/events?topic=~tidings/probe", vec![bearer], ""),
    ];
    for (method, path, headers, body) in table {
        let answer = send(probed.address, method, path, &headers, body).await;
        assert_eq!(answer.problem(), "forbidden-topic", "{method} {path}");
    }
    let hub = probed.instance.hub();
    let topic = tidings_core::Topic::parse("~tidings/probe").expect("a topic");
    let draft = tidings_core::Draft::new(topic.clone(), "t", "1");
    assert!(
        hub.publish(vec![draft]).await[0].is_err(),
        "nor an adapter's"
    );
    assert!(hub.topic_set(vec![topic]).is_err());
    probed.instance.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_may_have_a_listener_of_their_own() {
    let probed = probed("[telemetry]\nmetrics_listen = \"127.0.0.1:0\"\n").await;
    let (name, alone) = probed
        .instance
        .addresses()
        .last()
        .expect("there are some")
        .clone();
    assert_eq!(name, "metrics");
    let status = async |address, path| send(address, "GET", path, &[], "").await.status.as_u16();
    assert_eq!(status(alone, "/metrics").await, 200);
    assert_eq!(status(alone, "/healthz").await, 200);
    assert_eq!(status(alone, "/v1/events").await, 404);
    assert_eq!(status(probed.address, "/metrics").await, 404);
    probed.instance.leave().await;
}
