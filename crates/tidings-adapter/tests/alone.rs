//! Event streams on a socket of their own: chunks, ends, clients that say more than they should.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use tidings_adapter::*;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

/// Forwards a topic's events, each with a line break.
struct Forward;

impl Session for Forward {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => actions.subscribe(SubId(0), topic(), From::Oldest),
            Input::Events { batch, .. } => {
                for printed in &batch.events {
                    let mut frame = Frame::text(printed.event().data.clone());
                    frame.tail = bytes::Bytes::from_static(b"\n");
                    actions.send(frame);
                }
            }
            Input::Subscribed { .. } => actions.send_text("hello\n"),
            Input::Draining => {
                actions.send_text("bye\n");
                actions.close(1001, "come back");
            }
            _ => {}
        }
    }
}

fn topic() -> Topic {
    Topic::parse("demo/alone").expect("valid")
}

async fn hub() -> Hub {
    let clock = Arc::new(SystemClock);
    let log = Arc::new(MemoryLog::new(MemoryOptions::default(), clock.clone(), 7));
    let registry = prometheus::Registry::new();
    let hub = Hub::start(log, HubOptions::default(), clock, &registry).expect("a fresh registry");
    timeout(SOON, hub.ready()).await.expect("ready");
    hub
}

async fn publish(hub: &Hub, data: impl Into<bytes::Bytes>) {
    for stored in hub.publish(vec![Draft::new(topic(), "k", data)]).await {
        stored.expect("stored");
    }
}

/// Runs a stream on one end of a pipe; the other end is the client's.
async fn client(hub: &Hub) -> (DuplexStream, JoinHandle<std::io::Result<()>>) {
    let response = sse::serve(hub, Forward, DriverLimits::default()).await;
    let stream = response.extensions().get::<sse::Stream>().cloned();
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let running = tokio::spawn(stream.expect("a stream").run(near, true));
    (far, running)
}

/// One chunk's bytes; empty at the end of the body (RFC 9112 §7.1).
async fn chunk(socket: &mut DuplexStream) -> String {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n") {
            head.push(socket.read_u8().await.expect("a chunk's head"));
        }
        let size = std::str::from_utf8(head.trim_ascii_end()).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        let mut chunk = vec![0; size + 2];
        socket.read_exact(&mut chunk).await.expect("a chunk");
        assert!(chunk.ends_with(b"\r\n"), "a chunk's end");
        chunk.truncate(size);
        String::from_utf8(chunk).expect("text")
    };
    timeout(SOON, read).await.expect("a chunk in time")
}

#[tokio::test]
async fn events_are_chunks_and_the_farewell_ends_the_body() {
    let hub = hub().await;
    let (mut socket, running) = client(&hub).await;
    assert_eq!(chunk(&mut socket).await, "hello\n");
    publish(&hub, "1").await;
    assert_eq!(chunk(&mut socket).await, "1\n");
    let large = format!("\"{}\"", "x".repeat(200_000));
    publish(&hub, large.clone()).await;
    assert_eq!(chunk(&mut socket).await, format!("{large}\n"));
    assert!(hub.drain(Duration::ZERO).await, "it leaves when it is told");
    assert_eq!(chunk(&mut socket).await, "bye\n");
    assert_eq!(chunk(&mut socket).await, "");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.is_empty());
    running.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn what_is_pending_goes_out_in_one_chunk() {
    let hub = hub().await;
    for n in 0..50 {
        publish(&hub, n.to_string()).await;
    }
    let (mut socket, _running) = client(&hub).await;
    assert_eq!(chunk(&mut socket).await, "hello\n");
    let all: Vec<String> = (0..50).map(|n| format!("{n}\n")).collect();
    assert_eq!(chunk(&mut socket).await, all.concat());
}

#[tokio::test]
async fn a_client_that_goes_ends_it_and_one_that_says_more_is_not_listened_to() {
    let hub = hub().await;
    let (mut leaves, left) = client(&hub).await;
    let (mut talks, talked) = client(&hub).await;
    for socket in [&mut leaves, &mut talks] {
        assert_eq!(chunk(socket).await, "hello\n");
    }
    drop(leaves);
    let left = timeout(SOON, left).await.expect("it ends");
    left.expect("no panic").expect("an orderly end");
    talks
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("room");
    publish(&hub, "1").await;
    assert_eq!(chunk(&mut talks).await, "1\n");
    drop(talks);
    publish(&hub, "2").await;
    let talked = timeout(SOON, talked).await.expect("it ends");
    assert!(talked.expect("no panic").is_err(), "found out by writing");
    hub.connections().close();
    timeout(SOON, hub.connections().wait())
        .await
        .expect("nobody is counted any more");
}

#[tokio::test]
async fn whoever_comes_first_has_the_stream() {
    let hub = hub().await;
    publish(&hub, "1").await;
    let response = sse::serve(&hub, Forward, DriverLimits::default()).await;
    let stream = response.extensions().get::<sse::Stream>().cloned();
    let mut body = response.into_body();
    let first = timeout(SOON, body.frame()).await.expect("in time");
    assert!(first.is_some(), "the body has it");
    let (near, mut far) = tokio::io::duplex(64);
    let run = stream.expect("a stream").run(near, true).await;
    run.expect("nothing is left to do");
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.is_empty(), "and nothing is said");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let hub = hub().await;
    let limits = DriverLimits {
        write_stall: Duration::from_millis(500),
        ..DriverLimits::default()
    };
    let response = sse::serve(&hub, Forward, limits).await;
    let stream = response.extensions().get::<sse::Stream>().cloned();
    let (near, mut far) = tokio::io::duplex(1024);
    let running = tokio::spawn(stream.expect("a stream").run(near, true));
    assert_eq!(chunk(&mut far).await, "hello\n");
    // As long as it takes a little now and then it is slow, but there.
    publish(&hub, format!("\"{}\"", "x".repeat(8_000))).await;
    let mut taken = [0; 1024];
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        far.read_exact(&mut taken).await.expect("there is more");
    }
    let ended = timeout(SOON, running).await.expect("it ends");
    let error = ended.expect("no panic").expect_err("it was given up");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
