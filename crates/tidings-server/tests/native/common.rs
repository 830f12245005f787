//! An instance over a memory log whose clock and failures are a test's own, and a plain client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use prometheus::Registry;
use serde_json::Value;
use tidings_adapter::{Adapter, Hub, Ownership};
use tidings_core::{
    Appended, BoxFuture, Clock, Draft, EventId, EventLog, Filled, From, Head, LogError, Page,
    PageLimit, Partition, Partitions, Placed, Tail, Topic, Verdict,
};
use tidings_log_memory::{MemoryLog, MemoryOptions};
use tidings_server::Instance;
use tidings_server::config::{Sources, load};
use tokio::net::TcpStream;

/// Long enough for two busy cores; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A key that opens everything, and one that opens little.
pub(crate) const KEY: &str = "all";
pub(crate) const SMALL_KEY: &str = "small";

/// 2024-11-21T04:00:00Z.
const START_MS: u64 = 1_732_161_600_000;

/// A clock that a test moves.
#[derive(Debug)]
pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What an append comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Good,
    Unavailable,
    Full,
    FateUnknown,
    Refused,
    Panics,
    /// Only partition 0 is out of reach.
    HalfAway,
}

/// A memory log with moods.
#[derive(Debug)]
pub(crate) struct MoodyLog {
    log: MemoryLog,
    mood: AtomicU8,
    pub(crate) appends: AtomicU64,
}

impl MoodyLog {
    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }

    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::Relaxed) == mood as u8
    }
}

impl EventLog for MoodyLog {
    fn partitions(&self) -> Partitions {
        self.log.partitions()
    }

    fn retention(&self) -> Duration {
        self.log.retention()
    }

    fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        self.appends.fetch_add(1, Ordering::Relaxed);
        let why = "redis.internal:6379".to_owned();
        let failure = match () {
            () if self.is(Mood::Unavailable) => LogError::Unavailable(why),
            () if self.is(Mood::HalfAway) && partition.0 == 0 => LogError::Unavailable(why),
            () if self.is(Mood::Full) => LogError::Full(why),
            () if self.is(Mood::FateUnknown) => LogError::FateUnknown(why),
            () if self.is(Mood::Refused) => LogError::Refused(why),
            () if self.is(Mood::Panics) => panic!("this log panics"),
            () => return self.log.append(partition, drafts),
        };
        Box::pin(async move { Err(failure) })
    }

    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        if self.is(Mood::Unavailable) {
            return Box::pin(async { Err(LogError::Unavailable("redis.internal:6379".into())) });
        }
        self.log.read(topic, from, limit)
    }

    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>> {
        self.log.judge(places)
    }

    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>> {
        if self.is(Mood::Unavailable) {
            return Box::pin(async { Err(LogError::Unavailable("redis.internal:6379".into())) });
        }
        self.log.heads(topics)
    }

    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>> {
        self.log.fill(partition, limit)
    }

    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail> {
        self.log.tail(from)
    }

    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.trim(partition)
    }

    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>> {
        self.log.time_ms()
    }
}

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
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config).expect("written");
    let keys = format!(
        "[{{name=\"all\",key=\"{KEY}\",publish=[\"**\"],read=[\"**\"]}},\
         {{name=\"small\",key=\"{SMALL_KEY}\",publish=[\"small/*\"],read=[\"small/*\"]}}]"
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
        ..Sources::default()
    })
    .expect("the configuration fits");
    let clock = Arc::new(Hand(AtomicU64::new(START_MS)));
    let log = Arc::new(MoodyLog {
        log: MemoryLog::new(options, clock.clone(), 7),
        mood: AtomicU8::new(0),
        appends: AtomicU64::new(0),
    });
    let registry = Registry::new();
    let instance = Instance::start(
        &loaded.config,
        log.clone(),
        clock.clone(),
        vec![Box::new(Toy)],
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
