//! An instance as a whole: its routes and their description, its sockets, and how it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::{SOON, Stream, send, start};
use serde_json::Value;
use tidings_server::native::{OPENAPI, ROUTES};
use tidings_server::problem::Cause;
use tidings_server::wire::NAMES;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn openapi() -> Value {
    serde_json::from_str(OPENAPI).expect("JSON")
}

#[tokio::test]
async fn the_description_has_every_route_and_no_other() {
    let server = start("").await;
    let served = server.get("/openapi.json").await;
    assert_eq!(served.json(), openapi());
    let methods = ["get", "head", "post", "put", "delete", "patch"];
    let described: BTreeMap<String, BTreeSet<String>> = openapi()["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .map(|(path, item)| {
            let named = item.as_object().expect("an item").keys();
            let named = named.filter(|name| methods.contains(&name.as_str()));
            (path.clone(), named.cloned().collect())
        })
        .collect();
    let routes: BTreeMap<String, BTreeSet<String>> = ROUTES
        .iter()
        .map(|(path, methods)| {
            (
                (*path).to_owned(),
                methods.iter().map(|m| (*m).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(described, routes);
    for (path, described) in &routes {
        let path = path.replace("{topic}", "demo/a");
        for method in methods {
            let answer = server.send(&method.to_uppercase(), &path, &[], "").await;
            // A route for GET answers HEAD as well; only where that is more it is described.
            let known =
                described.contains(method) || (method == "head" && described.contains("get"));
            let refused = answer.status == 405 || answer.status == 404;
            assert_eq!(!refused, known, "{method} {path}: {}", answer.status);
            if answer.status == 405 {
                assert!(answer.header("allow").contains("GET"), "{method} {path}");
            }
        }
    }
}

#[test]
fn the_description_has_every_cause_and_every_field() {
    let document = openapi();
    let listed: BTreeSet<&str> = document["components"]["schemas"]["Problem"]["properties"]["type"]
        ["enum"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let uris: Vec<String> = Cause::ALL.iter().map(|cause| cause.uri()).collect();
    assert_eq!(listed, uris.iter().map(String::as_str).collect());
    let responses = document["components"]["responses"]
        .as_object()
        .expect("responses");
    let described: Vec<&str> = responses
        .values()
        .filter_map(|one| one["description"].as_str())
        .collect();
    for cause in Cause::ALL {
        let text = format!("`{}`: {}", cause.slug(), cause.title());
        assert!(described.iter().any(|one| one.contains(&text)), "{text}");
    }
    let fields = document["components"]["schemas"]["Draft"]["properties"]
        .as_object()
        .expect("fields");
    let fields: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
    assert_eq!(fields, NAMES.into_iter().chain(["data"]).collect());
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    fn walk(document: &Value, value: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    let pointer = target.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{target}");
                }
                members.values().for_each(|member| walk(document, member));
            }
            Value::Array(elements) => elements.iter().for_each(|one| walk(document, one)),
            _ => {}
        }
    }
    walk(&openapi(), &openapi());
}

#[tokio::test]
async fn health_is_open_and_says_how_it_stands() {
    let server = start("").await;
    for (path, member) in [("/healthz", "alive"), ("/readyz", "ready")] {
        let answer = send(server.address, "GET", path, &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()[member].clone()),
            (200, true.into())
        );
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let metrics = send(server.address, "GET", "/metrics", &[], "").await;
    assert!(metrics.header("content-type").starts_with("text/plain"));
    for name in [
        "tidings_refused_total",
        "tidings_connections",
        "tidings_window_bytes",
    ] {
        assert!(metrics.text().contains(name), "{name}");
    }
}

#[tokio::test]
async fn an_adapter_has_a_listener_of_its_own() {
    let server = start("").await;
    let (name, address) = &server.instance.addresses()[1];
    assert_eq!(name, "toy");
    assert_eq!(send(*address, "GET", "/toy", &[], "").await.text(), "toy");
    assert_eq!(send(*address, "GET", "/healthz", &[], "").await.status, 200);
    assert_eq!(
        send(server.address, "GET", "/toy", &[], "").await.status,
        404
    );
}

/// Writes what a client sends and reads until the server closes.
async fn until_closed(server: &crate::common::Server, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    stream.write_all(sent).await.expect("sent");
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .expect("it is closed in time")
        .expect("no reset");
    answer
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_closed() {
    let server = start("[server]\nheader_timeout = \"200ms\"\n").await;
    assert_eq!(until_closed(&server, b"").await, b"");
    until_closed(&server, b"GET / HT").await;
    let idle = until_closed(&server, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(
        idle.starts_with(b"HTTP/1.1 200"),
        "answered, then closed when it stays idle"
    );
}

#[tokio::test]
async fn a_head_is_bounded() {
    let server = start("").await;
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn leaving_ends_streams_and_polls_and_loses_no_answer() {
    let server = start("[server]\ndrain_spread = \"1s\"\nshutdown_grace = \"8s\"\n").await;
    let mut stream = Stream::open(&server, "/v1/events?topic=a", &[]).await;
    stream.until("id: ").await;
    let address = server.address;
    let poll = tokio::spawn(async move {
        send(
            address,
            "GET",
            "/v1/topics/a?offset=now&live=long-poll&key=all",
            &[],
            "",
        )
        .await
    });
    let mut tail = Stream::open(&server, "/v1/topics/a?offset=now&live=sse", &[]).await;
    tail.until("upToDate").await;
    // The poll stands when its reader does: two streams and the poll.
    let readers = async {
        while !server
            .get("/metrics")
            .await
            .text()
            .contains("tidings_readers{adapter=\"native\"} 3")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, readers)
        .await
        .expect("the poll stands");
    let started = std::time::Instant::now();
    tokio::time::timeout(SOON, server.instance.leave())
        .await
        .expect("it leaves");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "nobody had to be ended"
    );
    assert_eq!(poll.await.expect("no panic").status, 204);
    stream.rest().await;
    tail.rest().await;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}
