//! Several adapters and the native API: on listeners of their own, or by host and path on one.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, OriginalUri};
use axum::routing::{get, post};
use http::{StatusCode, Uri};
use tidings_adapter::{Adapter, Hub};
use tidings_log_memory::MemoryOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{SOON, Server, launch, send};

/// An adapter with a 404 of its own.
struct Named(&'static str);

impl Adapter for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn router(self: Box<Self>, _hub: Hub) -> Router {
        let name = self.0;
        let seen = move |uri: Uri,
                         OriginalUri(whole): OriginalUri,
                         ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>| async move {
            assert!(peer.ip().is_loopback());
            format!("{name} {} {}", uri, whole.path())
        };
        Router::new()
            .route("/", get(seen))
            .route("/seen", get(seen))
            .route(
                "/post",
                post(
                    |body: Result<Bytes, axum::extract::rejection::BytesRejection>| async move {
                        body.map(|_| StatusCode::OK)
                            .map_err(|_| StatusCode::BAD_REQUEST)
                    },
                ),
            )
            .route("/panics", get(panics))
            .fallback(move || async move { (StatusCode::NOT_FOUND, format!("not in {name}")) })
    }
}

async fn panics() -> StatusCode {
    panic!("an adapter's mistake")
}

async fn two(config: &str) -> Server {
    let adapters: Vec<Box<dyn Adapter>> = vec![Box::new(Named("a")), Box::new(Named("b"))];
    launch(config, MemoryOptions::default(), adapters).await
}

async fn get_from(server: &Server, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(SOON, read)
        .await
        .expect("in time")
        .expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

#[tokio::test]
async fn by_host_and_path_on_one_listener() {
    let server = two("[adapters.a.mount]\npath = \"/a/1\"\n\
         [adapters.b.mount]\nhost = \"b.example\"\n")
    .await;
    let names: Vec<_> = server
        .instance
        .addresses()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["native", "a", "b"]);
    assert!(
        server
            .instance
            .addresses()
            .iter()
            .all(|(_, address)| *address == server.address)
    );
    let table = [
        ("x", "/a/1/seen?q=1", 200, "a /seen?q=1 /a/1/seen"),
        ("x", "/a/1", 200, "a / /a/1"),
        ("x", "/a/1/", 200, "a / /a/1/"),
        ("x", "/a/1/v1/events", 404, "not in a"),
        ("b.example", "/seen", 200, "b /seen /seen"),
        ("B.EXAMPLE:8080", "/a/1/seen", 404, "not in b"),
        ("b.example", "/v1/events", 404, "not in b"),
        ("b.example", "/healthz", 200, "{\"alive\":true}"),
    ];
    for (host, path, status, body) in table {
        assert_eq!(
            get_from(&server, host, path).await,
            (status, body.to_owned()),
            "{host}{path}"
        );
    }
    for (host, path) in [("x", "/a/12"), ("x", "/seen"), ("other.b.example", "/a")] {
        let (status, body) = get_from(&server, host, path).await;
        assert_eq!(status, 404);
        assert!(
            body.contains("urn:tidings:problem:not-found"),
            "the native API's: {body}"
        );
    }
    let wrong = send(server.address, "POST", "/a/1/seen", &[], "").await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.header("allow")),
        (405, "GET,HEAD")
    );
}

#[tokio::test]
async fn on_a_listener_that_two_adapters_share() {
    // A port that is free now; the two name it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let server = two(&format!(
        "[adapters.a.mount]\nlisten = \"{address}\"\npath = \"/a\"\n\
         [adapters.b.mount]\nlisten = \"{address}\"\nhost = \"b.example\"\npath = \"/b\"\n"
    ))
    .await;
    assert_eq!(server.instance.addresses()[2].1, address);
    assert_eq!(
        send(address, "GET", "/a/seen", &[], "").await.text(),
        "a /seen /a/seen"
    );
    for path in ["/b/seen", "/", "/v1/events"] {
        let answer = send(address, "GET", path, &[], "").await;
        assert_eq!(answer.problem(), "not-found", "nobody is there: {path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            send(address, "GET", path, &[], "").await.status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        send(server.address, "GET", "/a/seen", &[], "").await.status,
        404
    );
}

#[tokio::test]
async fn an_adapter_that_panics_or_waits_for_a_body_hurts_nobody() {
    let server =
        two("[server]\nbody_timeout = \"200ms\"\n[adapters.a.mount]\npath = \"/a\"\n").await;
    let panicked = send(server.address, "GET", "/a/panics", &[], "").await;
    assert_eq!(panicked.status, 500);
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let head = "POST /a/post HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    let read = stream.read_exact(&mut answer);
    tokio::time::timeout(SOON, read)
        .await
        .expect("in time")
        .expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 400");
    server.serves().await;
    drop(stream);
    server.connections(0).await;
}
