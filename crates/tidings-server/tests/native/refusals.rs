//! Refusals that need a connection or a log in a certain state.

use crate::common::{KEY, SMALL_KEY, send, start, start_with};
use tidings_log_memory::MemoryOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_body_that_stops_coming_is_refused() {
    let server = start("[server]\nbody_timeout = \"100ms\"\n").await;
    for kind in ["application/json", "application/x-ndjson"] {
        let before = server.refused("body-timeout");
        let mut stream = TcpStream::connect(server.address)
            .await
            .expect("a connection");
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
             content-type: {kind}\r\ncontent-length: 100\r\n\r\n{{\"topic\":"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        tokio::time::timeout(crate::common::SOON, stream.read_to_string(&mut answer))
            .await
            .expect("in time")
            .expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(
            answer.contains("urn:tidings:problem:body-timeout"),
            "{answer}"
        );
        assert_eq!(server.refused("body-timeout"), before + 1);
    }
}

#[tokio::test]
async fn no_place_is_said_and_counted_and_places_come_back() {
    let server = start("[server]\nconnections_max = 1\n").await;
    let held = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    // The place is taken when the connection is accepted, which happens in its own time.
    let mut answer = String::new();
    while !answer.contains("too-many-connections") {
        let mut second = TcpStream::connect(server.address)
            .await
            .expect("a connection");
        second
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .expect("sent");
        answer.clear();
        tokio::time::timeout(crate::common::SOON, second.read_to_string(&mut answer))
            .await
            .expect("in time")
            .expect("an answer");
    }
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"),
        "{answer}"
    );
    assert!(server.refused("too-many-connections") > 0);

    // A browser's source would take an answer for the last word: it is only hung up on.
    let mut source = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    source
        .write_all(
            b"GET /v1/events?topic=a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
        )
        .await
        .expect("sent");
    let mut nothing = Vec::new();
    tokio::time::timeout(crate::common::SOON, source.read_to_end(&mut nothing))
        .await
        .expect("in time")
        .expect("an end");
    assert_eq!(nothing, b"");
    drop(held);
    let free = async {
        loop {
            let mut third = TcpStream::connect(server.address)
                .await
                .expect("a connection");
            let _ = third
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await;
            let mut answer = String::new();
            let _ = third.read_to_string(&mut answer).await;
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(crate::common::SOON, free)
        .await
        .expect("a place comes back");
}

#[tokio::test]
async fn a_real_log_that_is_full_stores_nothing() {
    let options = MemoryOptions {
        max_bytes: 4096,
        ..MemoryOptions::default()
    };
    let server = start_with("", options).await;
    let mut stored = 0;
    let answer = loop {
        let answer = server
            .publish(r#"{"topic":"small/a","type":"t","data":"0123456789"}"#)
            .await;
        if answer.status != 201 {
            break answer;
        }
        stored += 1;
    };
    assert_eq!(answer.problem(), "log-full");
    assert!(answer.headers.contains_key("retry-after"));
    let held = server.get("/v1/topics/small/a").await.json();
    assert_eq!(held.as_array().map(Vec::len), Some(stored));
    assert_eq!(server.refused("log-full"), 1);
}

#[tokio::test]
async fn a_challenge_says_whether_a_key_was_given() {
    let server = start("").await;
    let without = send(server.address, "GET", "/v1/topics/small/a", &[], "").await;
    assert_eq!(without.problem(), "unauthenticated");
    assert_eq!(
        without.header("www-authenticate"),
        "Bearer realm=\"tidings\""
    );
    let wrong = send(
        server.address,
        "GET",
        "/v1/topics/small/a?access_token=x",
        &[],
        "",
    )
    .await;
    assert!(wrong.header("www-authenticate").contains("invalid_token"));
    for path in [
        format!("/v1/topics/small/a?key={SMALL_KEY}"),
        format!("/v1/topics/small/a?access_token={SMALL_KEY}"),
    ] {
        let right = send(server.address, "GET", &path, &[], "").await;
        assert_eq!(right.status, 200, "{path}");
    }
}
