//! Traces: one for each publish, joined over all instances that see its event.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Answer, KEY, SOON, open, send};
use crate::receiver::{Received, Receiver};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prometheus::Registry;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tidings_server::config::{Config, Sources, load};
use tidings_server::telemetry::Spans;
use tidings_server::{Instance, limits};

/// An instance whose spans go to a receiver.
struct Watched {
    instance: Instance,
    spans: Spans,
    address: SocketAddr,
    registry: Registry,
}

fn log() -> Arc<MemoryLog> {
    let clock = Arc::new(SystemClock);
    Arc::new(MemoryLog::new(MemoryOptions::default(), clock, 7))
}

fn config(name: &str, receiver: SocketAddr, sample: &str) -> Config {
    let keys = format!("[{{name=\"all\",key=\"{KEY}\",publish=[\"**\"],read=[\"**\"]}}]");
    let endpoint = format!("http://{receiver}");
    let environment = [
        ("TIDINGS_SERVER__LISTEN", "127.0.0.1:0"),
        ("TIDINGS_KEYS", &keys),
        ("TIDINGS_TELEMETRY__OTLP_ENDPOINT", &endpoint),
        ("TIDINGS_TELEMETRY__OTLP_SAMPLE", sample),
        ("TIDINGS_TELEMETRY__INSTANCE_ID", name),
    ];
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let sources = Sources {
        environment: environment.into_iter().map(pair).collect(),
        ..Sources::default()
    };
    load(&sources).expect("the configuration fits").config
}

async fn watched(log: &Arc<MemoryLog>, config: &Config) -> Watched {
    let registry = Registry::new();
    let spans = Spans::start(&config.telemetry, &registry)
        .expect("a fresh registry")
        .expect("there is a receiver");
    let clock = Arc::new(SystemClock);
    let instance = Instance::start(config, log.clone(), clock, Vec::new(), registry.clone());
    let instance = instance.expect("it starts");
    instance.hub().observe(spans.observer());
    tokio::time::timeout(SOON, instance.hub().ready())
        .await
        .expect("it becomes ready");
    Watched {
        address: instance.addresses()[0].1,
        instance,
        spans,
        registry,
    }
}

impl Watched {
    async fn publish(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        let bearer = format!("Bearer {KEY}");
        let mut all = vec![
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        all.extend_from_slice(headers);
        send(self.address, "POST", "/v1/events", &all, body).await
    }

    /// A reader that stands.
    async fn reader(&self, topic: &str) -> Incoming {
        let path = format!("/v1/events?topic={topic}&access_token={KEY}");
        let response = open(self.address, "GET", &path, &[], "").await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let first = tokio::time::timeout(SOON, body.frame()).await;
        assert!(matches!(first, Ok(Some(Ok(_)))), "it says where it stands");
        body
    }

    async fn leave(self) {
        let left = async {
            self.instance.leave().await;
            self.spans.flush().await;
        };
        tokio::time::timeout(SOON, left).await.expect("it leaves");
    }

    fn counted(&self, outcome: &str) -> f64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|one| one.name() == "tidings_spans_total");
        family
            .expect("registered")
            .get_metric()
            .iter()
            .find(|row| row.get_label()[0].value() == outcome)
            .expect("every outcome has its row")
            .get_counter()
            .get_value()
    }
}

fn named<'a>(spans: &'a [Received], name: &'a str) -> impl Iterator<Item = &'a Received> {
    spans.iter().filter(move |span| span.name == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_publish_is_one_trace_over_both_instances() {
    let (receiver, address) = Receiver::start().await;
    let log = log();
    let a = watched(&log, &config("a", address, "100%")).await;
    let b = watched(&log, &config("b", address, "100%")).await;
    let reader = b.reader("demo/a").await;
    let answer = a
        .publish(&[], r#"{"topic":"demo/a","type":"t","data":1}"#)
        .await;
    assert_eq!(answer.status, 201);
    let spans = receiver.until(|spans| spans.len() >= 5).await;
    drop(reader);
    let publish = named(&spans, "publish").next().expect("a publish");
    assert_eq!((&publish.instance[..], &publish.parent[..]), ("a", ""));
    let append = named(&spans, "append").next().expect("an append");
    assert_eq!(
        (&append.instance, &append.parent),
        (&publish.instance, &publish.span)
    );
    assert_eq!(append.attributes["tidings.topic"], "demo/a");
    let tails: Vec<_> = named(&spans, "tail").collect();
    let seen: BTreeSet<&str> = tails.iter().map(|tail| tail.instance.as_str()).collect();
    assert_eq!(seen, BTreeSet::from(["a", "b"]));
    assert!(tails.iter().all(|tail| tail.parent == publish.span));
    let deliver: Vec<_> = named(&spans, "deliver").collect();
    assert_eq!(deliver.len(), 1, "{deliver:?}");
    let tail_b = tails.iter().find(|tail| tail.instance == "b");
    assert_eq!(deliver[0].instance, "b");
    assert_eq!(Some(&deliver[0].parent), tail_b.map(|tail| &tail.span));
    assert_eq!(deliver[0].attributes["tidings.adapter"], "native");
    for span in &spans {
        assert_eq!(span.trace, publish.trace, "{span:?}");
        assert!(span.began <= span.ended && !span.failed, "{span:?}");
    }
    // Nothing else is shown: not the probes, and nothing twice.
    a.leave().await;
    b.leave().await;
    assert_eq!(receiver.spans().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publishers_trace_goes_on_as_it_says() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let (receiver, address) = Receiver::start().await;
    let a = watched(&log(), &config("a", address, "0%")).await;
    let sampled = format!("00-{TRACE}-b7ad6b7169203331-01");
    let unsampled = "00-11111111111111111111111111111111-2222222222222222-00";
    let own = "00-33333333333333333333333333333333-4444444444444444-00";
    let state = ("tracestate", "vendor=1");
    let event = |topic: &str| format!(r#"{{"topic":"{topic}","type":"t"}}"#);
    let marked = format!(r#"{{"topic":"t/own","type":"t","traceparent":"{own}"}}"#);
    for (headers, body) in [
        (
            vec![("traceparent", &sampled[..]), state],
            event("t/sampled"),
        ),
        (vec![("traceparent", unsampled)], event("t/unsampled")),
        (vec![], event("t/none")),
        (vec![("traceparent", &sampled[..])], marked),
        (vec![("traceparent", "nonsense")], event("t/nonsense")),
    ] {
        assert_eq!(a.publish(&headers, &body).await.status, 201, "{body}");
    }
    let refused = a.publish(&[("traceparent", &sampled)], "{").await;
    assert_eq!(refused.status, 400);
    let carried = async |topic: &str| {
        let path = format!("/v1/topics/{topic}?offset=-1&key={KEY}");
        let event = send(a.address, "GET", &path, &[], "").await.json()[0].clone();
        let text = |name: &str| event[name].as_str().map(str::to_owned);
        (text("traceparent"), text("tracestate"))
    };
    let (parent, kept) = carried("t/sampled").await;
    let parent = parent.expect("the event carries the publish's context");
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"));
    assert_eq!(kept.as_deref(), Some("vendor=1"));
    assert_eq!(carried("t/unsampled").await.0.as_deref(), Some(unsampled));
    assert_eq!(
        carried("t/none").await.0,
        None,
        "nothing is stored for nothing"
    );
    assert_eq!(carried("t/nonsense").await.0, None);
    assert_eq!(carried("t/own").await.0.as_deref(), Some(own));
    a.leave().await;
    let spans = receiver.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(
        names.iter().filter(|name| **name == "publish").count(),
        3,
        "{names:?}"
    );
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:?}");
    let first = named(&spans, "publish").next().expect("a publish");
    assert_eq!(first.parent, "b7ad6b7169203331");
    assert_eq!(first.state, "vendor=1");
    assert_eq!(parent[36..52], first.span, "events are its children");
    let refused = named(&spans, "publish").last().expect("a publish");
    assert_eq!(refused.attributes["error.type"], "malformed-json");
    assert!(!refused.failed, "the mistake is the client's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_costs_spans_and_nothing_else() {
    // It accepts connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = silent.local_addr().expect("bound");
    let a = watched(&log(), &config("a", address, "100%")).await;
    let lines: Vec<String> = (0..10_000)
        .map(|n| format!(r#"{{"topic":"t/{n}","type":"t","data":{n}}}"#))
        .collect();
    let own = |n: u64| format!("00-{:032x}-{:016x}-01", n + 1, n + 1);
    let traced =
        |n: usize| lines[n].replace('}', &format!(r#","traceparent":"{}"}}"#, own(n as u64)));
    let text: Vec<String> = (0..lines.len()).map(traced).collect();
    let bearer = format!("Bearer {KEY}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    let answer = send(a.address, "POST", "/v1/events", &headers, &text.join("\n")).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let dropped = async {
        while a.counted("dropped") == 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, dropped)
        .await
        .expect("what does not fit is dropped, and counted");
    assert_eq!(a.counted("exported"), 0.0);
    let Watched {
        instance, spans, ..
    } = a;
    instance.leave().await;
    let began = Instant::now();
    spans.flush().await;
    assert!(
        began.elapsed() < limits::SPANS_GOODBYE + SOON / 2,
        "its wait is bounded"
    );
    drop(silent);
}
