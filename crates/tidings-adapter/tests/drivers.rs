//! The drivers over real sockets: refusals, close codes, bounds, heartbeats, slow clients, farewell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{State, WebSocketUpgrade};
use axum::routing::get;
use futures_util::{SinkExt as _, StreamExt as _};
use tidings_adapter::*;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A session that a test steers by what it sends.
struct Steered {
    heartbeat: Option<Duration>,
}

const HEARTBEAT: TimerId = TimerId(1);

impl Session for Steered {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => self.beat(actions),
            Input::Timer(HEARTBEAT) => {
                actions.send(Frame::ping("beat"));
                self.beat(actions);
            }
            Input::Frame(Received::Text("follow")) => {
                actions.subscribe(SubId(0), topic(), From::Oldest)
            }
            Input::Frame(Received::Text("flood")) => {
                for _ in 0..100 {
                    actions.send_text(vec![b'x'; 64 * 1024]);
                }
            }
            Input::Frame(Received::Text("overtake")) => {
                for text in ["a", "b", "c"] {
                    actions.send_text(text);
                }
                actions.send_first("first");
                actions.send_first("second");
            }
            Input::Frame(Received::Text("close")) => actions.close(4001, "as you wish"),
            Input::Frame(Received::Text("publish")) => {
                actions.push(Action::Publish {
                    tag: 7,
                    draft: Draft::new(topic(), "k", "\"published\""),
                });
            }
            Input::Frame(Received::Text(text)) => actions.send_text(format!("echo {text}")),
            Input::Frame(Received::Binary(bytes)) => {
                actions.send(Frame {
                    kind: FrameKind::Binary,
                    ..Frame::text(bytes.to_vec())
                });
            }
            Input::Published { tag, result } => {
                actions.send_text(format!("{tag} {}", result.is_ok()))
            }
            Input::Events { batch, .. } => {
                for printed in &batch.events {
                    actions.send_text(printed.event().data.clone());
                }
            }
            Input::TooSlow => actions.send_text("my last words"),
            Input::Draining => actions.close(1001, "come back"),
            _ => {}
        }
    }
}

impl Steered {
    fn beat(&self, actions: &mut Actions) {
        if let Some(every) = self.heartbeat {
            actions.set_timer(HEARTBEAT, every);
        }
    }
}

fn topic() -> Topic {
    Topic::parse("demo/a").expect("valid")
}

fn hub() -> Hub {
    hub_in(&prometheus::Registry::new())
}

/// How many clients were closed because they do not keep up.
fn slow_readers(registry: &prometheus::Registry) -> u64 {
    let families = registry.gather();
    let slow = families
        .iter()
        .find(|one| one.name() == "tidings_slow_readers_total")
        .expect("registered");
    let counted = slow
        .get_metric()
        .iter()
        .map(|one| one.get_counter().get_value());
    counted.sum::<f64>() as u64
}

fn hub_in(registry: &prometheus::Registry) -> Hub {
    let clock = Arc::new(SystemClock);
    let log = Arc::new(MemoryLog::new(MemoryOptions::default(), clock.clone(), 7));
    Hub::start(log, HubOptions::default(), clock, registry).expect("a fresh registry")
}

/// Serves the session on a real socket.
async fn serve(hub: &Hub, heartbeat: Option<Duration>, limits: DriverLimits) -> SocketAddr {
    let upgrade = move |State(hub): State<Hub>, upgrade: WebSocketUpgrade| async move {
        ws::serve(&hub, upgrade, Steered { heartbeat }, limits)
    };
    let app = Router::new()
        .route("/", get(upgrade))
        .with_state(hub.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = hyper_util::service::TowerToHyperService::new(app);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(io, service.clone());
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}

async fn connect(address: SocketAddr) -> Socket {
    connect_async(format!("ws://{address}/"))
        .await
        .expect("upgraded")
        .0
}

async fn next(socket: &mut Socket) -> Option<Message> {
    timeout(SOON, socket.next())
        .await
        .expect("a message in time")
        .and_then(Result::ok)
}

async fn say(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.expect("sent");
}

/// The close code and reason; `None` when the connection just ends.
async fn closed(socket: &mut Socket) -> Option<(u16, String)> {
    loop {
        match next(socket).await {
            Some(Message::Close(frame)) => {
                return frame.map(|close| (close.code.into(), close.reason.to_string()));
            }
            Some(_) => {}
            None => return None,
        }
    }
}

#[tokio::test]
async fn text_binary_publishes_and_close_codes() {
    let hub = hub();
    let mut socket = connect(serve(&hub, None, DriverLimits::default()).await).await;
    say(&mut socket, "hi").await;
    assert_eq!(next(&mut socket).await, Some(Message::text("echo hi")));
    socket
        .send(Message::binary(vec![1, 2]))
        .await
        .expect("sent");
    assert_eq!(next(&mut socket).await, Some(Message::binary(vec![1, 2])));
    say(&mut socket, "publish").await;
    assert_eq!(next(&mut socket).await, Some(Message::text("7 true")));
    say(&mut socket, "follow").await;
    assert_eq!(
        next(&mut socket).await,
        Some(Message::text("\"published\""))
    );
    say(&mut socket, "close").await;
    assert_eq!(
        closed(&mut socket).await,
        Some((4001, "as you wish".to_owned()))
    );
}

#[tokio::test]
async fn a_frame_over_the_bound_ends_the_connection_and_no_other() {
    let hub = hub();
    let limits = DriverLimits {
        frame_bytes: 1024,
        ..DriverLimits::default()
    };
    let address = serve(&hub, None, limits).await;
    let (mut bad, mut good) = (connect(address).await, connect(address).await);
    say(&mut bad, &"x".repeat(1025)).await;
    assert_eq!(closed(&mut bad).await, Some((1009, "too large".to_owned())));
    say(&mut good, "still here").await;
    assert_eq!(
        next(&mut good).await,
        Some(Message::text("echo still here"))
    );
}

#[tokio::test]
async fn a_client_that_stops_reading_is_dropped_and_the_others_notice_nothing() {
    let hub = hub();
    let limits = DriverLimits {
        write_stall: Duration::from_millis(300),
        ..DriverLimits::default()
    };
    let address = serve(&hub, None, limits).await;
    let (mut slow, mut quick) = (connect(address).await, connect(address).await);
    for socket in [&mut slow, &mut quick] {
        say(socket, "follow").await;
    }
    // More than the kernel's buffers of both sides hold.
    let data = format!("\"{}\"", "x".repeat(256 * 1024));
    let publisher = tokio::spawn({
        let hub = hub.clone();
        async move {
            for _ in 0..80 {
                hub.publish(vec![Draft::new(topic(), "k", data.clone())])
                    .await;
            }
        }
    });
    for _ in 0..80 {
        assert!(matches!(next(&mut quick).await, Some(Message::Text(_))));
    }
    publisher.await.expect("published");
    let dropped = async {
        while hub.connections().len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, dropped)
        .await
        .expect("the slow one was dropped");
    drop(slow);
    say(&mut quick, "still here").await;
    assert_eq!(
        next(&mut quick).await,
        Some(Message::text("echo still here"))
    );
}

#[tokio::test]
async fn what_a_session_has_unsent_is_bounded() {
    let hub = hub();
    let mut socket = connect(serve(&hub, None, DriverLimits::default()).await).await;
    say(&mut socket, "flood").await;
    let mut last = None;
    let close = loop {
        match next(&mut socket).await {
            Some(Message::Text(text)) => last = Some(text),
            Some(Message::Close(Some(close))) => break close,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last.as_deref(), Some("my last words"));
    assert_eq!((u16::from(close.code), &*close.reason), (1013, "too slow"));
}

#[tokio::test]
async fn the_last_words_reach_a_client_that_reads_again() {
    let registry = prometheus::Registry::new();
    let hub = hub_in(&registry);
    let limits = DriverLimits {
        write_stall: Duration::from_millis(200),
        goodbye: SOON,
        ..DriverLimits::default()
    };
    let mut slow = connect(serve(&hub, None, limits).await).await;
    say(&mut slow, "follow").await;
    let data = format!("\"{}\"", "x".repeat(256 * 1024));
    for _ in 0..80 {
        hub.publish(vec![Draft::new(topic(), "k", data.clone())])
            .await;
    }
    // It reads nothing until it was given up.
    let given_up = async {
        while slow_readers(&registry) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, given_up).await.expect("given up");
    let (mut last, mut events) = (None, 0);
    let close = loop {
        match next(&mut slow).await {
            Some(Message::Text(text)) => {
                events += usize::from(text.len() > 100);
                last = Some(text);
            }
            Some(Message::Close(Some(close))) => break close,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last.as_deref(), Some("my last words"));
    assert!(events < 80, "{events} of 80 were not too much for it");
    assert_eq!(u16::from(close.code), 1013);
}

#[tokio::test]
async fn what_goes_first_overtakes_what_waits() {
    let hub = hub();
    let mut socket = connect(serve(&hub, None, DriverLimits::default()).await).await;
    say(&mut socket, "overtake").await;
    for text in ["first", "second", "a", "b", "c"] {
        assert_eq!(next(&mut socket).await, Some(Message::text(text)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_on_while_a_replay_is_written() {
    let hub = hub();
    // More than the kernel takes at once, so that the replay lasts as long as the client does.
    let data = format!("\"{}\"", "x".repeat(1024));
    for _ in 0..200 {
        let drafts = (0..100).map(|_| Draft::new(topic(), "k", data.clone()));
        hub.publish(drafts.collect()).await;
    }
    let mut socket = connect(
        serve(
            &hub,
            Some(Duration::from_millis(5)),
            DriverLimits::default(),
        )
        .await,
    )
    .await;
    say(&mut socket, "follow").await;
    let (mut events, mut beats_between) = (0, 0);
    while events < 20_000 {
        match next(&mut socket).await {
            Some(Message::Text(_)) => {
                events += 1;
                // The client is a little slow, so that the replay takes longer than some beats.
                if events % 500 == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Some(Message::Ping(_)) if events > 0 => beats_between += 1,
            Some(_) => {}
            None => panic!("ended after {events}"),
        }
    }
    assert!(
        beats_between > 5,
        "{beats_between} heartbeats among 20,000 events"
    );
}

#[tokio::test]
async fn everybody_is_told_to_come_back_when_the_instance_leaves() {
    let hub = hub();
    let address = serve(&hub, None, DriverLimits::default()).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = connect(address).await;
        say(&mut socket, "hi").await;
        assert!(next(&mut socket).await.is_some());
        sockets.push(socket);
    }
    let drained = tokio::spawn({
        let hub = hub.clone();
        async move { hub.drain(Duration::from_millis(200)).await }
    });
    for socket in &mut sockets {
        assert_eq!(closed(socket).await, Some((1001, "come back".to_owned())));
        while socket.next().await.is_some() {}
    }
    assert!(drained.await.expect("no panic"), "all have gone");
}

struct Refuses;

impl Session for Refuses {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        if matches!(input, Input::Opened) {
            let headers = vec![("retry-after", "5".to_owned())];
            actions.push(Action::Respond {
                status: 200,
                headers,
            });
            actions.push(Action::Refuse(Refused {
                status: 403,
                content_type: "text/plain".into(),
                body: "no".into(),
            }));
        }
    }
}

#[tokio::test]
async fn a_refusal_before_the_first_word_is_an_http_status() {
    let hub = hub();
    for response in [
        sse::serve(&hub, Refuses, DriverLimits::default()).await,
        longpoll::serve(&hub, Refuses, DriverLimits::default()).await,
    ] {
        assert_eq!(
            (
                response.status().as_u16(),
                &response.headers()["retry-after"]
            ),
            (403, &"5".parse().expect("valid"))
        );
    }
    let upgrade = |State(hub): State<Hub>, upgrade: WebSocketUpgrade| async move {
        ws::serve(&hub, upgrade, Refuses, DriverLimits::default())
    };
    let app = Router::new()
        .route("/", get(upgrade))
        .with_state(hub.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let io = hyper_util::rt::TokioIo::new(stream);
        let service = hyper_util::service::TowerToHyperService::new(app);
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .with_upgrades()
            .await
    });
    let mut raw = TcpStream::connect(address).await.expect("connected");
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    raw.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    raw.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 403");
}
