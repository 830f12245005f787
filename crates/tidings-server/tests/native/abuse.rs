//! Clients that are slow, gone, or many: each is ended in time, others are served meanwhile, and
//! their places come back.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{KEY, SOON, Server, Stream, start};

/// Reads until the server closes; what it said.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(SOON, read)
        .await
        .expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address)
        .await
        .expect("a connection")
}

#[tokio::test]
async fn slow_loris_in_the_head() {
    let server = start("[server]\nheader_timeout = \"500ms\"\n").await;
    let mut drips = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(&server).await;
        drips.push(tokio::spawn(async move {
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ")
                .await
                .expect("sent");
            // A byte at a time, far more often than any time-out between bytes could be.
            while stream.write_all(b"y").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }
    server
        .until(
            || server.metric("tidings_connections", "") >= 50,
            || "too few".into(),
        )
        .await;
    server.serves().await;
    for drip in drips {
        tokio::time::timeout(SOON, drip)
            .await
            .expect("it is closed")
            .expect("no panic");
    }
    server.connections(0).await;
}

#[tokio::test]
async fn slow_loris_in_the_body() {
    let server = start("[server]\nbody_timeout = \"300ms\"\n").await;
    let mut slow = Vec::new();
    for kind in ["application/json", "application/x-ndjson"].repeat(20) {
        let mut stream = connect(&server).await;
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
             content-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{{\"topic\":\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    server.serves().await;
    for stream in slow {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    server.connections(0).await;
    assert_eq!(server.data("small/a").await, "[]");
}

#[tokio::test]
async fn clients_that_vanish() {
    let server = start("").await;
    // In the middle of a head, of a body, of an event stream; with a goodbye and without.
    let head = b"GET /v1/events?topic=a&key=all HTTP/1.1\r\nhost: x\r\n\r\n".as_slice();
    let body = b"POST /v1/events?key=all HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                 content-length: 100\r\n\r\n{"
        .as_slice();
    let mut gone = Vec::new();
    for sent in [&head[..20], body, head].repeat(10) {
        for reset in [false, true] {
            let mut stream = connect(&server).await;
            stream.write_all(sent).await.expect("sent");
            if sent == head {
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await.expect("an answer");
                assert_eq!(&answer, b"HTTP/1.1 200");
            }
            if reset {
                socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .expect("an option");
            }
            gone.push(stream);
        }
    }
    server.connections(60).await;
    server.serves().await;
    drop(gone);
    server.connections(0).await;
    let readers = |server: &Server| server.metric("tidings_readers", "");
    server
        .until(
            || readers(&server) == 0,
            || format!("{} readers", readers(&server)),
        )
        .await;
}

#[tokio::test]
async fn heads_that_are_too_large() {
    let server = start("").await;
    let long = "x".repeat(20_000);
    let many = (0..200)
        .map(|n| format!("x-{n}: y\r\n"))
        .collect::<String>();
    for (head, status) in [
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), "431"),
        (
            format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n"),
            "431",
        ),
        (format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"), "431"),
    ] {
        let mut stream = connect(&server).await;
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer);
        tokio::time::timeout(SOON, read)
            .await
            .expect("in time")
            .expect("an answer");
        assert_eq!(
            String::from_utf8_lossy(&answer),
            format!("HTTP/1.1 {status}")
        );
    }
    server.serves().await;
    server.connections(0).await;
}

#[tokio::test]
async fn pipelined_garbage() {
    let server = start("").await;
    let good = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{1}\u{2}\u{3} \r\n\r\n",
    ] {
        let mut stream = connect(&server).await;
        let sent = format!("{good}{good}{garbage}{good}");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let answer = rest(stream).await;
        assert_eq!(
            answer.matches("HTTP/1.1 200").count(),
            2,
            "{garbage:?}: {answer}"
        );
    }
    // Requests without end, whose answers nobody reads: they wait in the socket, not in memory.
    let mut deaf = connect(&server).await;
    let many = good.repeat(1000);
    let mut sent = 0;
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_millis(500), deaf.write_all(many.as_bytes())).await
    {
        sent += many.len();
        assert!(sent < 64 << 20, "somebody holds what nobody reads");
    }
    server.serves().await;
    drop(deaf);
    server.connections(0).await;
}

#[tokio::test]
async fn a_thousand_connect_at_once() {
    let server = start("[server]\nconnections_max = 300\nheader_timeout = \"20s\"\n").await;
    let mut stream = Stream::open(&server, "/v1/events?topic=small/others", &[]).await;
    stream.until("id: ").await;
    let connects = (0..1000).map(|_| TcpStream::connect(server.address));
    let connected = futures_util::future::join_all(connects);
    let connected = tokio::time::timeout(SOON, connected)
        .await
        .expect("in time");
    let connected: Vec<_> = connected.into_iter().filter_map(Result::ok).collect();
    server.connections(300).await;
    server
        .until(
            || server.turned_away("connections-max") == 701,
            || format!("{} turned away", server.turned_away("connections-max")),
        )
        .await;
    // Who was there before notices nothing, and there is room again as soon as they are gone.
    server
        .instance
        .hub()
        .publish(vec![draft("during the storm")])
        .await;
    stream.until("during the storm").await;
    drop(connected);
    server.connections(1).await;
    server.serves().await;
}

fn draft(data: &str) -> tidings_core::Draft {
    let topic = tidings_core::Topic::parse("small/others").expect("a topic");
    tidings_core::Draft::new(topic, "t", format!("\"{data}\""))
}

#[tokio::test]
async fn one_address_does_not_take_all_places() {
    let server = start("[server]\nconnections_per_address = 2\n").await;
    let held = [connect(&server).await, connect(&server).await];
    server.connections(2).await;
    let mut third = connect(&server).await;
    third
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let answer = rest(third).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"),
        "{answer}"
    );
    assert_eq!(server.turned_away("connections-per-address"), 1);
    drop(held);
    server.connections(0).await;
    server.serves().await;
}
