//! HTTP/2 used against the server: each attack is over soon, others are served meanwhile, and nothing
//! of it is left.

use crate::common::Server;
use crate::http2::start_http2;
use crate::tls_client::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, Pair, RST_STREAM, SETTINGS, get,
};

const ENHANCE_YOUR_CALM: u32 = 0xb;

async fn served_over_http2(pair: &Pair, server: &Server) {
    let mut client = pair.http2(server.address).await;
    assert_eq!(client.send("GET", "/healthz", "").await.status(), 200);
}

#[tokio::test]
async fn rapid_reset() {
    let pair = Pair::new();
    let server = start_http2(&pair, "header_timeout = \"1s\"\n").await;
    let mut frames = pair.frames(server.address).await;
    let request = get("/v1/events?topic=a&key=all");
    let mut sent = 0;
    for n in 0..50_000_u32 {
        let id = 2 * n + 1;
        let asked = frames
            .send(HEADERS, END_STREAM | END_HEADERS, id, &request)
            .await;
        let taken_back = frames.send(RST_STREAM, 0, id, &8_u32.to_be_bytes()).await;
        if asked.is_err() || taken_back.is_err() {
            break;
        }
        sent = n;
        if n == 100 {
            served_over_http2(&pair, &server).await;
        }
    }
    assert!(sent < 49_999, "it was ended before it was through");
    let codes = frames.until_over().await;
    assert!(
        codes.contains(&ENHANCE_YOUR_CALM) || server.turned_away("http2-resets") == 1,
        "it was ended for that: {codes:?}"
    );
    served_over_http2(&pair, &server).await;
    server.connections(0).await;
    assert_eq!(server.metric("tidings_http2_streams", ""), 0);
}

#[tokio::test]
async fn requests_taken_back_while_they_are_answered() {
    let pair = Pair::new();
    let server = start_http2(&pair, "header_timeout = \"20s\"\n").await;
    let mut frames = pair.frames(server.address).await;
    // Each is accepted and waits for an event before it is taken back.
    let request = get("/v1/topics/a?offset=now&live=long-poll&key=all");
    let mut over = false;
    for n in 0..2_000_u32 {
        let id = 2 * n + 1;
        over |= frames
            .send(HEADERS, END_STREAM | END_HEADERS, id, &request)
            .await
            .is_err();
        tokio::task::yield_now().await;
        over |= frames
            .send(RST_STREAM, 0, id, &8_u32.to_be_bytes())
            .await
            .is_err();
        if over {
            break;
        }
    }
    let codes = frames.until_over().await;
    assert!(
        codes.contains(&ENHANCE_YOUR_CALM) || server.turned_away("http2-resets") == 1,
        "it was ended for that: {codes:?}"
    );
    served_over_http2(&pair, &server).await;
    server.connections(0).await;
}

#[tokio::test]
async fn headers_without_end() {
    let pair = Pair::new();
    let server = start_http2(&pair, "").await;
    // Fields of 1 KiB in frames that never end the block: by size.
    let mut frames = pair.frames(server.address).await;
    frames
        .send(HEADERS, END_STREAM, 1, &get("/healthz"))
        .await
        .expect("sent");
    let mut field = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x07];
    field.extend([b'y'; 1024]);
    let mut over = false;
    for _ in 0..10_000 {
        if frames.send(CONTINUATION, 0, 1, &field).await.is_err() {
            over = true;
            break;
        }
    }
    let codes = frames.until_over().await;
    assert!(over || codes.contains(&ENHANCE_YOUR_CALM), "{codes:?}");
    // Empty frames: by their number.
    let mut frames = pair.frames(server.address).await;
    frames
        .send(HEADERS, END_STREAM, 1, &get("/healthz"))
        .await
        .expect("sent");
    let mut over = false;
    for _ in 0..100_000 {
        if frames.send(CONTINUATION, 0, 1, &[]).await.is_err() {
            over = true;
            break;
        }
    }
    let codes = frames.until_over().await;
    assert!(over || codes.contains(&ENHANCE_YOUR_CALM), "{codes:?}");
    served_over_http2(&pair, &server).await;
    server.connections(0).await;
}

#[tokio::test]
async fn garbage_after_the_preface() {
    let pair = Pair::new();
    let server = start_http2(&pair, "").await;
    let cases: [(u8, u8, u32, &[u8]); 5] = [
        (0xff, 0xff, 0xffff_ffff, &[0xff; 100]),
        (HEADERS, END_STREAM | END_HEADERS, 0, &[0x82]),
        (HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 64]),
        (SETTINGS, 0, 0, &[1, 2, 3]),
        (CONTINUATION, END_HEADERS, 1, &[0x82]),
    ];
    for (kind, flags, id, payload) in cases {
        let mut frames = pair.frames(server.address).await;
        let _ = frames.send(kind, flags, id, payload).await;
        if kind == 0xff {
            // A kind that nobody knows is passed over (RFC 9113 §5.5): what follows is not a frame.
            use tokio::io::AsyncWriteExt as _;
            let _ = frames.stream.write_all(&[0xff; 4096]).await;
        }
        let codes = frames.until_over().await;
        assert!(codes.iter().any(|code| *code != 0), "{kind} {codes:?}");
    }
    server.connections(0).await;
}
