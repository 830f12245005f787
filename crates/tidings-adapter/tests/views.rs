//! Views over the drivers: sessions that watch, over event streams, websockets and long-polls on real
//! sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{State as At, WebSocketUpgrade};
use axum::routing::get;
use futures_util::StreamExt as _;
use tidings_adapter::*;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

fn topic() -> Topic {
    Topic::parse("demo/a").expect("valid")
}

/// A number that a test sets, and so many bytes behind it.
#[derive(Default)]
struct Gauge {
    number: AtomicU64,
    bulk: AtomicU64,
    computed: AtomicU64,
}

impl View for Gauge {
    fn name(&self) -> &'static str {
        "demo.gauge"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on(topic())
    }

    fn compute<'a>(
        &'a self,
        _hub: &'a Hub,
        _key: &'a str,
        _inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        self.computed.fetch_add(1, Ordering::SeqCst);
        let number = self.number.load(Ordering::SeqCst);
        let bulk = "x".repeat(self.bulk.load(Ordering::SeqCst) as usize);
        let printed = format!("data: {number} {bulk}\n\n");
        Box::pin(std::future::ready(Ok(ViewValue::new(number, printed))))
    }
}

/// Watches, says what it is told, and unwatches when the number is 99; closes at 100.
struct Watching(&'static str);

const WATCH: WatchId = WatchId(5);

impl Session for Watching {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => {
                actions.watch(WatchId(6), "demo.gauge", "twice");
                actions.push(Action::Unwatch(WatchId(6)));
                actions.watch(WATCH, self.0, "key");
            }
            Input::View { watch, value } => {
                assert_eq!(watch, WATCH);
                actions.send_text(value.printed().clone());
                if value.get() == Some(&100_u64) {
                    actions.close(1000, "that is all");
                }
            }
            Input::Unwatched { watch, refusal } => {
                assert_eq!(watch, WATCH);
                actions.send_text(format!("data: {refusal}\n\n"));
                actions.close(1000, "refused");
            }
            _ => {}
        }
    }
}

struct Demo {
    hub: Hub,
    gauge: Arc<Gauge>,
    at: SocketAddr,
}

impl Demo {
    async fn open() -> Self {
        let clock = Arc::new(SystemClock);
        let log = Arc::new(MemoryLog::new(MemoryOptions::default(), clock.clone(), 7));
        let gauge = Arc::<Gauge>::default();
        let options = HubOptions {
            rules: Rules {
                views: vec![gauge.clone()],
                ..Rules::default()
            },
            ..HubOptions::default()
        };
        let registry = prometheus::Registry::new();
        let hub = Hub::start(log, options, clock, &registry).expect("fresh");
        hub.ready().await;
        let limits = DriverLimits {
            write_stall: SOON,
            ..DriverLimits::default()
        };
        let events = |At((hub, limits)): At<(Hub, DriverLimits)>| async move {
            sse::serve(&hub, Watching("demo.gauge"), limits).await
        };
        let none = |At((hub, limits)): At<(Hub, DriverLimits)>| async move {
            sse::serve(&hub, Watching("demo.none"), limits).await
        };
        let poll = |At((hub, limits)): At<(Hub, DriverLimits)>| async move {
            longpoll::serve(&hub, Watching("demo.gauge"), limits).await
        };
        let socket = |At((hub, limits)): At<(Hub, DriverLimits)>, upgrade: WebSocketUpgrade| async move {
            ws::serve(&hub, upgrade, Watching("demo.gauge"), limits)
        };
        let app = Router::new()
            .route("/events", get(events))
            .route("/none", get(none))
            .route("/poll", get(poll))
            .route("/socket", get(socket))
            .with_state((hub.clone(), limits));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("bound");
        let service = hyper_util::service::TowerToHyperService::new(app);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let io = hyper_util::rt::TokioIo::new(stream);
                let served = hyper::server::conn::http1::Builder::new();
                let served = served.serve_connection(io, service.clone());
                tokio::spawn(served.with_upgrades());
            }
        });
        Self { hub, gauge, at }
    }

    async fn set(&self, number: u64) {
        self.gauge.number.store(number, Ordering::SeqCst);
        let flash = Draft::new(topic(), "set", "0");
        self.hub.flash(vec![flash]).await.expect("in memory");
    }

    async fn get(&self, path: &str) -> BufReader<TcpStream> {
        self.get_with(path, None).await
    }

    async fn get_with(&self, path: &str, receives: Option<u32>) -> BufReader<TcpStream> {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receives {
            socket.set_recv_buffer_size(bytes).expect("set");
        }
        let mut stream = socket.connect(self.at).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        BufReader::new(stream)
    }
}

/// The number of the next frame.
async fn number(stream: &mut BufReader<TcpStream>) -> Option<u64> {
    loop {
        let mut line = Vec::new();
        let read = timeout(SOON, stream.read_until(b'\n', &mut line));
        if read.await.expect("in time").expect("read") == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(data) = line.strip_prefix("data: ") {
            let number = data.split(' ').next().unwrap_or_default();
            return Some(number.parse().expect("a number"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_sockets_are_told_what_a_view_is() {
    let demo = Demo::open().await;
    demo.set(1).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(demo.get("/events").await);
    }
    for stream in &mut streams {
        assert_eq!(number(stream).await, Some(1), "its present value at once");
    }
    let address = format!("ws://{}/socket", demo.at);
    let (mut socket, _) = tokio_tungstenite::connect_async(address)
        .await
        .expect("upgraded");
    let frame = |text: &str| Some(Message::text(format!("data: {text} \n\n")));
    let mut next = async || {
        timeout(SOON, socket.next())
            .await
            .expect("in time")
            .and_then(Result::ok)
    };
    assert_eq!(next().await, frame("1"));
    let poll = demo.get("/poll");
    let mut poll = poll.await;
    let before = demo.gauge.computed.load(Ordering::SeqCst);
    for n in [2, 3] {
        demo.set(n).await;
        for stream in &mut streams {
            assert_eq!(number(stream).await, Some(n));
        }
        assert_eq!(next().await, frame(&n.to_string()));
    }
    // Two changes, perhaps a recheck, and the watch of another key that was taken back.
    let computed = demo.gauge.computed.load(Ordering::SeqCst) - before;
    assert!(
        computed <= 6,
        "{computed} for {} connections",
        streams.len()
    );
    demo.set(100).await;
    for stream in &mut streams {
        assert_eq!(number(stream).await, Some(100));
        assert_eq!(number(stream).await, None, "the session has closed");
    }
    assert_eq!(next().await, frame("100"));
    let mut answer = String::new();
    let read = timeout(SOON, poll.read_to_string(&mut answer));
    read.await.expect("in time").expect("read");
    assert!(answer.ends_with("data: 100 \n\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_gets_the_newest_value() {
    let demo = Demo::open().await;
    // More than the buffers of both sides hold in a few values.
    demo.gauge.bulk.store(512 * 1024, Ordering::SeqCst);
    let mut slow = demo.get_with("/events", Some(16 * 1024)).await;
    let mut quick = demo.get("/events").await;
    assert_eq!(number(&mut quick).await, Some(0));
    for n in 1..=60 {
        demo.set(n).await;
        // Another one waits for it, so that each is a value of its own.
        while number(&mut quick).await != Some(n) {}
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&60) {
        seen.push(number(&mut slow).await.expect("it goes on"));
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(seen.len() < 30, "values queued up: {seen:?}");
}

#[tokio::test]
async fn a_view_that_does_not_exist_is_refused() {
    let demo = Demo::open().await;
    let mut stream = demo.get("/none").await;
    let mut answer = String::new();
    let read = timeout(SOON, stream.read_to_string(&mut answer));
    read.await.expect("in time").expect("read");
    assert!(answer.contains("data: there is no such view"), "{answer}");
}
