//! Event streams that leave the HTTP library, as raw bytes on the wire.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{KEY, SOON, Server, start};

/// A socket and everything that has come on it.
struct Raw {
    socket: TcpStream,
    text: String,
}

impl Raw {
    async fn open(server: &Server, request: &str) -> Self {
        let mut socket = TcpStream::connect(server.address).await.expect("a socket");
        socket.write_all(request.as_bytes()).await.expect("room");
        let text = String::new();
        Self { socket, text }
    }

    /// Reads until this has come.
    async fn until(&mut self, wanted: &str) -> &str {
        let read = async {
            let mut some = [0; 4096];
            while !self.text.contains(wanted) {
                let count = self.socket.read(&mut some).await.expect("readable");
                assert_ne!(count, 0, "ended before `{wanted}`: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&some[..count]));
            }
        };
        timeout(SOON, read).await.expect(wanted);
        &self.text
    }
}

fn stream(version: &str) -> String {
    format!(
        "GET /v1/events?topic=small/a&view=data HTTP/{version}\r\nhost: here\r\n\
         authorization: Bearer {KEY}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_stream_on_a_connection_that_was_used_before_says_that_it_is_the_last() {
    let server = start("").await;
    let first = format!(
        "GET /v1/topics/small/a HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {KEY}\r\n\r\n"
    );
    let mut raw = Raw::open(&server, &first).await;
    let head = raw.until("\r\n\r\n").await;
    assert!(!head.contains("connection: close"), "{head}");
    raw.text.clear();
    let request = stream("1.1");
    raw.socket
        .write_all(request.as_bytes())
        .await
        .expect("room");
    let head = raw.until("id: ").await;
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    server.publish_one("small/a", "1").await;
    // A chunk's size, the block, a chunk's end.
    let text = raw.until("data: 1\n\n\r\n").await;
    let (head, _) = text.rsplit_once("\r\nid: ").expect("a chunk's head");
    let (_, size) = head.rsplit_once("\r\n").expect("a chunk's size");
    let block = &text[head.len() + 2..text.len() - 2];
    assert_eq!(usize::from_str_radix(size, 16), Ok(block.len()), "{text}");
    drop(raw);
    server.connections(0).await;
}

#[tokio::test]
async fn what_is_sent_behind_the_request_is_not_answered_and_disturbs_nothing() {
    let server = start("").await;
    let mut raw = Raw::open(&server, &stream("1.1").repeat(3)).await;
    raw.until("id: ").await;
    raw.socket.write_all(&[b'x'; 20_000]).await.expect("room");
    server.publish_one("small/a", "1").await;
    let text = raw.until("data: 1\n\n").await;
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
}

#[tokio::test]
async fn an_old_client_gets_no_chunks() {
    let server = start("").await;
    let mut raw = Raw::open(&server, &stream("1.0")).await;
    let head = raw.until("id: ").await;
    assert!(!head.contains("chunked"), "{head}");
    server.publish_one("small/a", "1").await;
    let text = raw.until("data: 1\n\n").await;
    assert!(text.contains("\n\nid: "), "one after the other: {text}");
}
