//! TLS: certificates that change while clients are connected, handshakes that come to nothing, and
//! websockets.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::get;
use futures_util::{SinkExt as _, StreamExt as _};
use tidings_adapter::{Adapter, Hub};
use tidings_log_memory::MemoryOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::common::{SOON, Server, launch, send, start};
use crate::tls_client::Pair;

/// An adapter that echoes over a websocket.
struct Echo;

impl Adapter for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn router(self: Box<Self>, _hub: Hub) -> Router {
        let echo = |upgrade: WebSocketUpgrade| async move {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(Message::Text(text))) = socket.recv().await {
                    if socket.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
            })
        };
        Router::new().route("/echo", get(echo))
    }
}

/// The native API over TLS; the adapter's port, which nothing else is said of, as well.
async fn start_tls(pair: &Pair, more: &str) -> Server {
    let config = format!("[server]\n{}{more}", pair.members());
    launch(&config, MemoryOptions::default(), vec![Box::new(Echo)]).await
}

async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"}") {
            let byte = stream.read_u8().await.expect("more of the answer");
            answer.push(byte);
        }
    };
    tokio::time::timeout(SOON, read).await.expect("in time");
    String::from_utf8(answer).expect("text")
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let certificates = stream.get_ref().1.peer_certificates().expect("shown");
    certificates[0].to_vec()
}

#[tokio::test]
async fn a_new_certificate_is_shown_while_old_connections_stay() {
    let pair = Pair::new();
    let server = start_tls(&pair, "header_timeout = \"20s\"\n").await;
    let mut old = pair.connect(server.address, "http/1.1").await;
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(ask(&mut old, "/healthz").await.starts_with("HTTP/1.1 200"));

    let before = std::fs::read(pair.cert()).expect("there");
    let first = shown(&old);
    let second = pair.renew();
    assert_ne!(first, second.to_vec());
    // Nobody says so: the files are looked at.
    let seen = async {
        loop {
            let shaken = std::panic::AssertUnwindSafe(pair.connect(server.address, "http/1.1"));
            let shaken = futures_util::FutureExt::catch_unwind(shaken).await;
            if let Ok(new) = shaken {
                return shown(&new);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let seen = tokio::time::timeout(SOON, seen).await.expect("it is seen");
    assert_eq!(seen, second.to_vec());
    assert!(
        ask(&mut old, "/healthz").await.starts_with("HTTP/1.1 200"),
        "the old one stands"
    );

    // What is no certificate changes nothing, and a good one is shown at once when somebody says so.
    std::fs::write(pair.cert(), "garbage").expect("written");
    server.instance.certificates().reload();
    std::fs::write(pair.cert(), &before).expect("written");
    server.instance.certificates().reload();
    pair.renew();
    server.instance.certificates().reload();
    let new = pair.connect(server.address, "http/1.1").await;
    assert_ne!(shown(&new), second.to_vec());
}

#[tokio::test]
async fn a_development_certificate_is_for_localhost() {
    let server = start("[server]\ntls_self_signed = true\n").await;
    // Its maker is nobody, so only its presence can be seen from here.
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(SOON, read)
        .await
        .expect("it is closed");
    assert!(!answer.starts_with(b"HTTP"), "nothing is said in the clear");
}

#[tokio::test]
async fn handshakes_that_come_to_nothing() {
    let pair = Pair::new();
    let server = start_tls(&pair, "header_timeout = \"400ms\"\n").await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address)
            .await
            .expect("a connection");
        // The first bytes of a ClientHello, and then nothing.
        stream
            .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
            .await
            .expect("sent");
        silent.push(stream);
    }
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0; 64],
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(server.address)
            .await
            .expect("a connection");
        let _ = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(SOON, read)
            .await
            .expect("it is closed");
        assert!(answer.len() < 64, "an alert at the most");
    }
    // Meanwhile others are served.
    let mut other = pair.connect(server.address, "http/1.1").await;
    assert!(
        ask(&mut other, "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    for mut stream in silent {
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(SOON, read)
            .await
            .expect("it is closed");
    }
    drop(other);
    server.connections(0).await;
    assert_eq!(server.turned_away("tls-handshake-timeout"), 20);
    assert_eq!(server.turned_away("tls-handshake"), 3);
}

#[tokio::test]
async fn websockets_go_through_and_keep_their_place() {
    let pair = Pair::new();
    let server = start_tls(&pair, "connections_max = 2\n").await;
    let address = server.instance.addresses()[1].1;
    // What browsers offer for a websocket.
    let stream = pair.connect(address, "http/1.1").await;
    let (mut socket, _) = tokio_tungstenite::client_async("wss://localhost/echo", stream)
        .await
        .expect("upgraded");
    for n in 0..3 {
        socket.send(format!("{n}").into()).await.expect("sent");
        let echoed = socket.next().await.expect("more").expect("good");
        assert_eq!(echoed.into_text().expect("text").as_str(), format!("{n}"));
    }
    server.connections(1).await;
    let other = pair.connect(address, "http/1.1").await;
    server.connections(2).await;
    let full = server.turned_away("connections-max");
    let mut third = TcpStream::connect(address).await.expect("a connection");
    let mut answer = Vec::new();
    let read = third.read_to_end(&mut answer);
    let _ = tokio::time::timeout(SOON, read)
        .await
        .expect("it is closed");
    assert_eq!(
        server.turned_away("connections-max"),
        full + 1,
        "a websocket holds its place"
    );
    drop((socket, other));
    server.connections(0).await;
}

#[tokio::test]
async fn plain_and_encrypted_listeners_stand_side_by_side() {
    let pair = Pair::new();
    let config = format!(
        "[adapters.echo.mount]\nlisten = \"127.0.0.1:0\"\n{}",
        pair.members()
    );
    let server = launch(&config, MemoryOptions::default(), vec![Box::new(Echo)]).await;
    let health = send(server.address, "GET", "/healthz", &[], "").await;
    assert_eq!(health.status, 200);
    let mut stream = pair
        .connect(server.instance.addresses()[1].1, "h2 http/1.1")
        .await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream.shutdown().await.expect("closed");
    drop(stream);
    server.connections(0).await;
}
