//! HTTP/2: several requests side by side on one connection, and when it ends.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::common::{SOON, Server, start};
use crate::tls_client::{Client, END_HEADERS, END_STREAM, HEADERS, Pair, get};

pub(crate) async fn start_http2(pair: &Pair, more: &str) -> Server {
    start(&format!("[server]\n{}{more}", pair.members())).await
}

/// Reads a body until it holds this.
async fn until(body: &mut Incoming, text: &mut String, wanted: &str) {
    let read = async {
        while !text.contains(wanted) {
            let frame = body.frame().await.expect("more").expect("unbroken");
            let data = frame.into_data().unwrap_or_default();
            text.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
    };
    if tokio::time::timeout(SOON, read).await.is_err() {
        panic!("{wanted:?} never came: {text:?}");
    }
}

async fn publish(client: &mut Client, topic: &str, data: &str) {
    let body = format!(r#"{{"topic":"{topic}","type":"t","data":{data}}}"#);
    let answer = client.send("POST", "/v1/events", &body).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.version(), http::Version::HTTP_2);
    answer.into_body().collect().await.expect("whole");
}

#[tokio::test]
async fn streams_polls_and_publishes_share_a_connection() {
    let pair = Pair::new();
    let server = start_http2(
        &pair,
        "header_timeout = \"300ms\"\nhttp2_ping = \"200ms\"\n",
    )
    .await;
    let mut client = pair.http2(server.address).await;
    let mut streams = Vec::new();
    for n in 0..5 {
        let stream = client
            .send("GET", &format!("/v1/events?topic=a/{n}"), "")
            .await;
        assert_eq!(stream.status(), 200);
        let (mut body, mut text) = (stream.into_body(), String::new());
        until(&mut body, &mut text, "id: ").await;
        streams.push((body, text));
    }
    let poll = {
        let mut client = client.clone();
        tokio::spawn(async move {
            let path = "/v1/topics/a/poll?offset=now&live=long-poll";
            let answer = client.send("GET", path, "").await;
            (
                answer.status(),
                answer
                    .into_body()
                    .collect()
                    .await
                    .expect("whole")
                    .to_bytes(),
            )
        })
    };
    server
        .until(
            || server.metric("tidings_http2_streams", "") == 5,
            || "no streams".into(),
        )
        .await;
    server.connections(1).await;
    // Nothing happens for longer than a silent client is allowed: this one answers pings.
    tokio::time::sleep(Duration::from_millis(1000)).await;
    for (n, (body, text)) in streams.iter_mut().enumerate() {
        publish(&mut client, &format!("a/{n}"), &format!("\"event {n}\"")).await;
        until(body, text, &format!("event {n}")).await;
    }
    publish(&mut client, "a/poll", "\"polled\"").await;
    let (status, body) = tokio::time::timeout(SOON, poll)
        .await
        .expect("in time")
        .expect("no panic");
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&body).contains("polled"));
    server.connections(1).await;
    // With nothing going on it is closed as an idle HTTP/1.1 connection is.
    drop(streams);
    server.connections(0).await;
    server
        .until(|| client.is_over(), || "it is not over".into())
        .await;
    assert_eq!(server.metric("tidings_http2_streams", ""), 0);
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let pair = Pair::new();
    let server = start_http2(&pair, "").await;
    let mut client = pair.http2(server.address).await;
    let data = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..15 {
        publish(&mut client, "a/large", &data).await;
    }
    let answer = client.send("GET", "/v1/topics/a/large?view=data", "").await;
    let length: usize = answer.headers()["content-length"]
        .to_str()
        .expect("text")
        .parse()
        .expect("a number");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    assert_eq!(body.len(), length);
    assert!(body.len() > 15 * 60_000);
}

#[tokio::test]
async fn requests_beside_another_one_take_places() {
    let pair = Pair::new();
    let server = start_http2(&pair, "connections_max = 3\n").await;
    let mut client = pair.http2(server.address).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = client.send("GET", "/v1/events?topic=a", "").await;
        assert_eq!(stream.status(), 200);
        streams.push(stream.into_body());
    }
    let refused = client.send("GET", "/v1/events?topic=a", "").await;
    assert_eq!(refused.status(), 503);
    let problem = refused
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    assert!(String::from_utf8_lossy(&problem).contains("too-many-connections"));
    assert_eq!(server.turned_away("connections-max"), 1);
    drop(streams);
    server
        .until(
            || server.metric("tidings_http2_streams", "") == 0,
            || "places are held".into(),
        )
        .await;
    let stream = client.send("GET", "/v1/events?topic=a", "").await;
    assert_eq!(stream.status(), 200);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_ended() {
    let pair = Pair::new();
    let server = start_http2(&pair, "http2_ping = \"200ms\"\n").await;
    let mut frames = pair.frames(server.address).await;
    let request = get("/v1/events?topic=a&key=all");
    frames
        .send(HEADERS, END_STREAM | END_HEADERS, 1, &request)
        .await
        .expect("sent");
    server
        .until(
            || server.metric("tidings_connections", "") == 1,
            || "not there".into(),
        )
        .await;
    // It reads all the time, and never answers.
    frames.until_over().await;
    server.connections(0).await;
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_ended() {
    let pair = Pair::new();
    let server = start_http2(&pair, "header_timeout = \"200ms\"\n").await;
    let mut silent = pair.connect(server.address, "h2").await;
    let mut half = pair.frames(server.address).await;
    half.send(HEADERS, END_STREAM, 1, &get("/healthz"))
        .await
        .expect("sent");
    half.until_over().await;
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest);
    let _ = tokio::time::timeout(SOON, read)
        .await
        .expect("it is closed");
    server.connections(0).await;
}

#[tokio::test]
async fn leaving_ends_what_goes_on() {
    let pair = Pair::new();
    let server = start_http2(
        &pair,
        "drain_delay = \"0s\"\ndrain_spread = \"1s\"\nshutdown_grace = \"8s\"\n",
    )
    .await;
    let mut client = pair.http2(server.address).await;
    let stream = client.send("GET", "/v1/events?topic=a", "").await;
    let started = std::time::Instant::now();
    tokio::time::timeout(SOON, server.instance.leave())
        .await
        .expect("it leaves");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "nobody had to be ended"
    );
    stream
        .into_body()
        .collect()
        .await
        .expect("ended in good order");
}
