//! An instance on a free port, and a plain client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::moody::{Hand, MoodyLog};
use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use prometheus::Registry;
use serde_json::Value;
use tidings_adapter::{Adapter, Hub, Ownership};
use tidings_core::Topic;
use tidings_log_memory::{MemoryLog, MemoryOptions};
use tidings_server::Instance;
use tidings_server::config::{Sources, load};
use tokio::net::TcpStream;

/// Long enough for two busy cores; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A key that opens everything, and one that opens little.
pub(crate) const KEY: &str = "all";
pub(crate) const SMALL_KEY: &str = "small";

/// An adapter that owns the topics under `toy`.
pub(crate) struct Toy;

impl Adapter for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn ownership(&self) -> Vec<Ownership> {
        vec![Ownership {
            root: "toy",
            placement_key: Topic::as_str,
        }]
    }

    fn router(self: Box<Self>, _hub: Hub) -> Router {
        Router::new().route("/toy", axum::routing::get(|| async { "toy" }))
    }
}

/// A running instance and what a test does to it.
pub(crate) struct Server {
    pub(crate) instance: Instance,
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<MoodyLog>,
    pub(crate) clock: Arc<Hand>,
    registry: Registry,
}

/// Starts an instance: keys, a free port and a few short times, and `config` behind them.
pub(crate) async fn start(config: &str) -> Server {
    start_with(config, MemoryOptions::default()).await
}

pub(crate) async fn start_with(config: &str, options: MemoryOptions) -> Server {
    launch(config, options, vec![Box::new(Toy)]).await
}

/// Starts an instance with these adapters.
pub(crate) async fn launch(
    config: &str,
    options: MemoryOptions,
    adapters: Vec<Box<dyn Adapter>>,
) -> Server {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config).expect("written");
    let keys = format!(
        "[{{name=\"all\",key=\"{KEY}\",publish=[\"**\"],read=[\"**\"]}},\
         {{name=\"small\",key=\"{SMALL_KEY}\",publish=[\"small/*\"],read=[\"small/*\"]}},\
         {{name=\"slow\",key=\"slow\",publish=[\"small/*\"],publish_per_second=1,burst=2}}]"
    );
    let environment = [
        ("TIDINGS_SERVER__LISTEN", "127.0.0.1:0"),
        ("TIDINGS_KEYS", &keys),
    ];
    let loaded = load(&Sources {
        file: Some(file.path().to_owned()),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        adapters: adapters.iter().map(|one| one.name().to_owned()).collect(),
        ..Sources::default()
    })
    .expect("the configuration fits");
    let clock = Arc::new(Hand::new());
    let log = Arc::new(MoodyLog::new(MemoryLog::new(options, clock.clone(), 7)));
    let registry = Registry::new();
    let instance = Instance::start(
        &loaded.config,
        log.clone(),
        clock.clone(),
        adapters,
        registry.clone(),
    )
    .expect("it starts");
    tokio::time::timeout(SOON, instance.hub().ready())
        .await
        .expect("it becomes ready");
    Server {
        address: instance.addresses()[0].1,
        instance,
        log,
        clock,
        registry,
    }
}

impl Server {
    /// What a metric stands at; of one with a label, the row with this value.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let rows = family.expect("it is registered").get_metric();
        let mut rows = rows.iter().filter(|row| {
            label.is_empty() || row.get_label().iter().any(|one| one.value() == label)
        });
        rows.next().map_or(0, |row| {
            (row.get_counter().get_value() + row.get_gauge().get_value()) as u64
        })
    }

    /// How many connections were turned away or ended by the edge for this cause.
    pub(crate) fn turned_away(&self, cause: &str) -> u64 {
        self.metric("tidings_connections_refused_total", cause)
    }

    /// Waits until so many connections stand.
    pub(crate) async fn connections(&self, wanted: u64) {
        self.until(
            || self.metric("tidings_connections", "") == wanted,
            || {
                format!(
                    "{} connections stand",
                    self.metric("tidings_connections", "")
                )
            },
        )
        .await;
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, is_so: impl Fn() -> bool, shown: impl Fn() -> String) {
        let reached = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(SOON, reached).await.is_err() {
            panic!("{}", shown());
        }
    }

    /// Another client is served.
    pub(crate) async fn serves(&self) {
        let id = self.publish_one("small/others", "1").await;
        assert!(!id.is_empty());
        assert!(self.data("small/others").await.contains('1'));
    }

    /// How often a cause was counted.
    pub(crate) fn refused(&self, slug: &str) -> u64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "tidings_refused_total")
            .expect("it is registered");
        family
            .get_metric()
            .iter()
            .find(|metric| metric.get_label()[0].value() == slug)
            .map_or(0, |metric| metric.get_counter().get_value() as u64)
    }

    /// Sends a request with the key that opens everything.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let bearer = format!("Bearer {KEY}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        send(self.address, method, path, &all, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn publish(&self, body: &str) -> Answer {
        self.send(
            "POST",
            "/v1/events",
            &[("content-type", "application/json")],
            body,
        )
        .await
    }

    /// Publishes one event and answers with its id.
    pub(crate) async fn publish_one(&self, topic: &str, data: &str) -> String {
        let answer = self
            .publish(&format!(
                r#"{{"topic":"{topic}","type":"t","data":{data}}}"#
            ))
            .await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["events"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    }

    /// What a topic holds, data alone.
    pub(crate) async fn data(&self, topic: &str) -> String {
        let answer = self.get(&format!("/v1/topics/{topic}?view=data")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    /// The slug of a problem document.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{:?} {}",
            self.status,
            self.text()
        );
        let document = self.json();
        assert_eq!(document["status"], self.status.as_u16());
        let kind = document["type"].as_str().expect("a type").to_owned();
        kind.strip_prefix("urn:tidings:problem:")
            .expect("ours")
            .to_owned()
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let answer = async {
        let response = open(address, method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.expect("a whole body").to_bytes(),
        }
    };
    tokio::time::timeout(SOON, answer)
        .await
        .expect("an answer in time")
}

/// Sends a request and hands out the answer while it comes.
pub(crate) async fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> http::Response<Incoming> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("a request");
    tokio::time::timeout(SOON, sender.send_request(request))
        .await
        .expect("a head in time")
        .expect("a head")
}

/// An event stream that is being read.
pub(crate) struct Stream {
    body: Incoming,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Stream {
    pub(crate) async fn open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Self {
        let bearer = format!("Bearer {KEY}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        let response = open(server.address, "GET", path, &all, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (parts, body) = response.into_parts();
        Self {
            body,
            headers: parts.headers,
            text: String::new(),
        }
    }

    /// Reads until the text contains this.
    pub(crate) async fn until(&mut self, wanted: &str) -> &str {
        let read = async {
            while !self.text.contains(wanted) {
                let frame = self.body.frame().await.expect("more").expect("unbroken");
                let data = frame.into_data().unwrap_or_default();
                self.text
                    .push_str(std::str::from_utf8(&data).expect("UTF-8"));
            }
        };
        if tokio::time::timeout(SOON, read).await.is_err() {
            panic!("{wanted:?} never came: {:?}", self.text);
        }
        &self.text
    }

    /// Reads until the stream ends.
    pub(crate) async fn rest(mut self) -> String {
        let read = async {
            while let Some(Ok(frame)) = self.body.frame().await {
                let data = frame.into_data().unwrap_or_default();
                self.text
                    .push_str(std::str::from_utf8(&data).expect("UTF-8"));
            }
        };
        tokio::time::timeout(SOON, read).await.expect("an end");
        self.text
    }
}
