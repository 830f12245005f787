//! Replies as clients read them, and bodies that do not arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::json;
use tidings_adapter::axum;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::crypto::authorization;

fn sealed() -> Voice {
    Voice::Sealed(Box::new(Seal {
        key: Key::padded(b"a key of the tests"),
        sealing: Sealing::Cbc,
        target: "/a?q=a b".into(),
        authorization: authorization("acme-app"),
    }))
}

async fn taken(response: Response) -> (StatusCode, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("text");
    (head.status, head.headers, text)
}

#[tokio::test]
async fn what_is_said_and_what_is_not() {
    // Status, body, whether it is signed, whether it says that it is JSON.
    let unauthorized = Refused::unauthorized("no");
    let gone = Refused::not_found("no");
    for (voice, answered, status, signed, json) in [
        (sealed(), Ok(Answer::ok(json!([]))), 200, true, true),
        (sealed(), Ok(Answer::created(json!({}))), 201, true, true),
        (sealed(), Ok(Answer::empty()), 200, true, false),
        (sealed(), Err(gone.clone()), 404, true, true),
        (sealed(), Err(unauthorized.clone()), 401, false, true),
        (Voice::Clear, Ok(Answer::ok(json!([]))), 200, false, true),
        (Voice::Clear, Ok(Answer::empty()), 200, false, false),
        (Voice::Clear, Err(unauthorized), 401, false, true),
    ] {
        let empty = answered.as_ref().is_ok_and(|answer| answer.body.is_none());
        let (found, headers, body) = taken(voice.reply(1_700_000_000_000, answered)).await;
        assert_eq!(found, status);
        assert_eq!(headers.contains_key("x-cardsavr-signature"), signed);
        assert_eq!(headers.contains_key(CONTENT_TYPE), json);
        assert_eq!(body.is_empty(), empty);
        let is_sealed = body.starts_with("{\"encrypted_body\":\"");
        assert_eq!(is_sealed, signed && !empty, "{body}");
        if signed {
            let authorization = &headers["x-cardsavr-authorization"];
            let nonce = &headers["x-cardsavr-nonce"];
            let over = Signed {
                target: "/a?q=a b",
                authorization: authorization.to_str().expect("text"),
                nonce: nonce.to_str().expect("text"),
                body: body.as_bytes(),
            };
            let signature = headers["x-cardsavr-signature"].to_str().expect("text");
            assert!(over.is_signed(&Key::padded(b"a key of the tests"), signature));
            assert_eq!(nonce, "01700000000000");
        }
    }
}

#[tokio::test]
async fn what_else_stands_in_the_head() {
    let paging = crate::paging::Paging::parse(Some("{\"page\":2}")).with_total(40);
    let answer = Answer {
        cookie: Some("abc".into()),
        ..Answer::ok(json!([])).paged(paging).no_store()
    };
    let (_, headers, _) = taken(Voice::Clear.reply(0, Ok(answer))).await;
    let paging: Value =
        serde_json::from_slice(headers["x-cardsavr-paging"].as_bytes()).expect("JSON");
    assert_eq!(
        (&paging["page"], &paging["total_results"]),
        (&json!(2), &json!(40))
    );
    assert_eq!(headers[CACHE_CONTROL], "no-store");
    let cookie = headers["set-cookie"].to_str().expect("text");
    assert_eq!(
        cookie,
        "cardsavr_session=abc; Path=/; HttpOnly; SameSite=Strict"
    );
    let (_, headers, _) = taken(Voice::Clear.reply(0, Err(Refused::too_many(7)))).await;
    assert_eq!(headers[RETRY_AFTER], "7");
}

/// Counts what was lost.
fn watched(lost: &Arc<AtomicUsize>, body: Value) -> Answer {
    let lost = lost.clone();
    Answer::ok(body).if_lost(move || {
        lost.fetch_add(1, Ordering::SeqCst);
    })
}

#[tokio::test]
async fn a_body_that_is_taken_is_not_lost() {
    let lost = Arc::<AtomicUsize>::default();
    for body in [json!([]), json!(["x".repeat(100_000)]), json!(1)] {
        let (_, _, text) = taken(Voice::Clear.reply(0, Ok(watched(&lost, body.clone())))).await;
        assert_eq!(text, body.to_string());
    }
    assert_eq!(lost.load(Ordering::SeqCst), 0);
    // Nobody asked for it; nobody asked for the rest of it.
    drop(Voice::Clear.reply(0, Ok(watched(&lost, json!([])))));
    assert_eq!(lost.load(Ordering::SeqCst), 1);
    let mut body = Voice::Clear
        .reply(0, Ok(watched(&lost, json!([]))))
        .into_body();
    assert!(body.frame().await.is_some());
    drop(body);
    assert_eq!(lost.load(Ordering::SeqCst), 2);
}

async fn until(lost: &AtomicUsize, count: usize) {
    let all = async {
        while lost.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(20), all).await;
    assert!(all.is_ok(), "{}", lost.load(Ordering::SeqCst));
}

/// Over HTTP/2: streams that are read, that are reset, and whose connection ends.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the clients are the test's own, and the server's accept loop is not seen from here"
)]
async fn a_stream_that_is_reset_is_noticed() {
    let lost = Arc::<AtomicUsize>::default();
    let counted = lost.clone();
    let act = move || {
        let answer = watched(&counted, json!(["short"]));
        async move { Voice::Clear.reply(0, Ok(answer)) }
    };
    let router = axum::Router::new().fallback(act);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let stream = TcpStream::connect(address).await.expect("connected");
    let stream = stream.into_std().expect("a socket");
    let cable = stream.try_clone().expect("the same one");
    let stream = TcpStream::from_std(stream).expect("a socket");
    let (mut client, connection) = hyper::client::conn::http2::handshake::<_, _, Body>(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut ask = || {
        let uri = format!("http://{address}/");
        let request = tidings_adapter::http::Request::get(uri).body(Body::empty());
        client.send_request(request.expect("a request"))
    };
    // Side by side: one is read, the other is left when all but its last byte is there.
    let (read, left) = tokio::join!(ask(), ask());
    let (read, mut left) = (read.expect("a reply"), left.expect("a reply"));
    let most = left
        .body_mut()
        .frame()
        .await
        .expect("a frame")
        .expect("data");
    assert_eq!(most.into_data().expect("data"), "[\"short\"");
    drop(left);
    let whole = read.into_body().collect().await.expect("a body");
    assert_eq!(whole.to_bytes(), "[\"short\"]");
    until(&lost, 1).await;
    let kept = ask().await.expect("a reply");
    assert_eq!(lost.load(Ordering::SeqCst), 1);
    cable.shutdown(std::net::Shutdown::Both).expect("cut");
    until(&lost, 2).await;
    drop(kept);
    connection.abort();
    serving.abort();
}

/// Over real sockets: clients that read, and clients that are gone before the body is written.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the clients are the test's own, and the server's accept loop is not seen from here"
)]
async fn a_client_that_leaves_is_noticed() {
    let lost = Arc::<AtomicUsize>::default();
    let counted = lost.clone();
    let act = move || {
        let lost = counted.clone();
        // As the front does it: on a task of its own, so that there is an answer to be lost.
        let work = tokio::spawn(async move {
            // The client leaves meanwhile, and is seen to.
            tokio::time::sleep(Duration::from_millis(100)).await;
            watched(&lost, json!(["x".repeat(4_000_000)]))
        });
        async move { Voice::Clear.reply(0, Ok(work.await.expect("an answer"))) }
    };
    let router = axum::Router::new().fallback(act);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

    let mut reads = TcpStream::connect(address).await.expect("connected");
    reads.write_all(request).await.expect("sent");
    let mut all = Vec::new();
    reads.read_to_end(&mut all).await.expect("a reply");
    assert!(all.len() > 4_000_000 && all.ends_with(b"x\"]"));
    assert_eq!(lost.load(Ordering::SeqCst), 0);

    // Reads a little of it, and cuts the connection.
    let mut cuts = TcpStream::connect(address).await.expect("connected");
    cuts.write_all(request).await.expect("sent");
    let mut some = [0; 1000];
    cuts.read_exact(&mut some).await.expect("its beginning");
    drop(cuts);
    // Leaves at once.
    let mut leaves = TcpStream::connect(address).await.expect("connected");
    leaves.write_all(request).await.expect("sent");
    drop(leaves);
    until(&lost, 2).await;
    serving.abort();
}
