//! Publishing in every content type: what is stored, what comes back, what a failure leaves.

use crate::common::{KEY, Server, open, start};
use crate::moody::Mood;
use tidings_core::{Partitions, Topic};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

#[tokio::test]
async fn one_or_many_come_back_byte_for_byte() {
    let server = start("").await;
    let data = "{\"b\" : [1.0,  1e400],\n \"a\":\"\\u00e4\\ud800\"}";
    let id = server.publish_one("demo/a", data).await;
    let answer = server
        .publish(r#"[{"topic":"demo/a","type":"t","data":"x"},{"topic":"demo/b","type":"t"}]"#)
        .await;
    assert_eq!(answer.status, 201);
    let events = answer.json()["events"].clone();
    assert_eq!(events[0]["topic"], "demo/a");
    assert_eq!(events[1]["topic"], "demo/b");
    assert!(
        events[0]["id"].as_str() > Some(id.as_str()),
        "ids sort as text"
    );
    assert_eq!(events[0].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(server.data("demo/a").await, format!("[{data},\"x\"]"));
    assert_eq!(server.data("demo/b").await, "[null]");
}

#[tokio::test]
async fn cloud_events_in_their_three_forms() {
    let server = start("").await;
    let event = |id: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","topic":"demo/a","subject":"x",
                "time":"2020-01-01T00:00:00Z","data":{{"n":{id}}}}}"#
        )
    };
    let structured = (
        "content-type",
        "application/cloudevents+json; charset=utf-8",
    );
    let answer = server
        .send("POST", "/v1/events", &[structured], &event("1"))
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let batch = format!("[{},{}]", event("2"), event("3"));
    let batched = ("content-type", "application/cloudevents-batch+json");
    let answer = server.send("POST", "/v1/events", &[batched], &batch).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "4"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-topic", "demo/a"),
        ("ce-subject", "%C3%A4"),
    ];
    let answer = server
        .send("POST", "/v1/events", &binary, "{\"n\":4}")
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let read = server.get("/v1/topics/demo/a").await.json();
    let events = read.as_array().expect("an array");
    assert_eq!(events.len(), 4);
    for (n, event) in (1..).zip(events) {
        assert_eq!(event["data"]["n"], n);
        assert_eq!(event["publisherid"], n.to_string());
        assert_eq!(event["source"], "/s");
        assert_eq!(event["specversion"], "1.0");
    }
    assert_eq!(events[0]["time"], "2020-01-01T00:00:00Z");
    assert_eq!(events[3]["subject"], "\u{e4}");
    assert_eq!(events[3]["prev"], events[2]["id"]);
}

#[tokio::test]
async fn the_same_id_is_stored_once() {
    let server = start("").await;
    let event = r#"{"topic":"demo/a","type":"t","source":"/s","id":"7"}"#;
    let first = server.publish(event).await.json();
    let again = server.publish(event).await;
    assert_eq!(again.status, 201);
    assert_eq!(again.json()["events"][0]["id"], first["events"][0]["id"]);
    assert_eq!(again.json()["events"][0]["duplicate"], true);
    for other in [
        r#"{"topic":"demo/b","type":"t","source":"/s","id":"7"}"#,
        r#"{"topic":"demo/a","type":"t","source":"/z","id":"7"}"#,
        r#"{"topic":"demo/a","type":"t","id":"7"}"#,
    ] {
        let answer = server.publish(other).await.json();
        assert_eq!(answer["events"][0].get("duplicate"), None, "{other}");
    }
    let both = server.publish(&format!("[{event},{event}]")).await.json();
    assert_eq!(both["events"][1]["duplicate"], true);
}

/// A topic in partition 0 and one that is not.
fn near_and_far() -> (String, String) {
    let topic = |wanted: bool| {
        (0..)
            .map(|n| format!("demo/{n}"))
            .find(|name| (Partitions::DEFAULT.of(name).0 == 0) == wanted)
            .expect("half a dozen tries find one")
    };
    assert!(Topic::parse(&topic(true)).is_ok());
    (topic(false), topic(true))
}

#[tokio::test]
async fn a_batch_that_the_log_takes_in_part_says_which() {
    let server = start("").await;
    let (near, far) = near_and_far();
    server.log.set(Mood::HalfAway);
    let event = |topic: &str| format!(r#"{{"topic":"{topic}","type":"t","data":1}}"#);
    let batch = format!("[{},{},{}]", event(&near), event(&far), event(&near));
    let answer = server.publish(&batch).await;
    assert_eq!(answer.problem(), "log-unavailable");
    let document = answer.json();
    let index = |member: &str, at: usize| document[member][at]["index"].clone();
    assert_eq!(
        (index("stored", 0), index("stored", 1)),
        (0.into(), 2.into())
    );
    assert_eq!(document["stored"][0]["topic"], near);
    assert!(document["stored"][0]["id"].is_string());
    assert_eq!(
        document["failed"],
        serde_json::json!([{ "index": 1, "cause": "log-unavailable" }])
    );
    server.log.set(Mood::Good);
    assert_eq!(server.data(&near).await, "[1,1]");
    assert_eq!(server.data(&far).await, "[]");
}

fn line(topic: &str, data: usize) -> String {
    format!("{{\"topic\":\"{topic}\",\"type\":\"t\",\"data\":{data}}}\n")
}

#[tokio::test]
async fn lines_are_stored_in_order_however_many() {
    let server = start("").await;
    let body: String = (0..12_000).map(|n| line("demo/a", n)).collect();
    let answer = server.send("POST", "/v1/events", &[LINES], &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let document = answer.json();
    assert_eq!(document["count"], 12_000);
    assert_eq!(
        document["events"].as_array().map(Vec::len),
        Some(10_000),
        "the answer is bounded"
    );
    let (mut offset, mut next) = ("-1".to_owned(), 0);
    loop {
        let page = server
            .get(&format!("/v1/topics/demo/a?view=data&offset={offset}"))
            .await;
        let numbers: Vec<usize> = serde_json::from_slice(&page.body).expect("numbers");
        for number in numbers {
            assert_eq!(number, next);
            next += 1;
        }
        if page.header("stream-up-to-date") == "true" {
            break;
        }
        page.header("stream-next-offset").clone_into(&mut offset);
    }
    assert_eq!(next, 12_000);
}

#[tokio::test]
async fn the_first_bad_line_ends_it_and_what_was_before_is_stored() {
    let server = start("").await;
    for (bad, slug) in [
        ("nonsense\n", "malformed-json"),
        ("{\"topic\":\"demo/a\"}\n", "missing-field"),
        ("{\"topic\":\"demo a\",\"type\":\"t\"}\n", "invalid-topic"),
        ("{\"topic\":\"toy/a\",\"type\":\"t\"}\n", "forbidden-topic"),
        ("[]\n", "invalid-body"),
    ] {
        let topic = format!("demo/{slug}");
        let body = format!(
            "{}\n{}{bad}{}",
            line(&topic, 1),
            line(&topic, 3),
            line(&topic, 5)
        );
        let answer = server.send("POST", "/v1/events", &[LINES], &body).await;
        assert_eq!(answer.problem(), slug);
        let document = answer.json();
        assert_eq!(document["line"], 4, "blank lines count");
        assert_eq!(document["stored"][0]["line"], 1);
        assert_eq!(document["stored"][1]["line"], 3);
        assert_eq!(document["stored_count"], 2);
        assert_eq!(document["stored"][1]["topic"], topic);
        assert_eq!(server.data(&topic).await, "[1,3]");
    }
}

#[tokio::test]
async fn lines_that_the_log_does_not_take_are_named() {
    let server = start("").await;
    let (near, far) = near_and_far();
    server.log.set(Mood::HalfAway);
    let body = format!("{}{}{}", line(&near, 1), line(&far, 2), line(&near, 3));
    let answer = server.send("POST", "/v1/events", &[LINES], &body).await;
    assert_eq!(answer.problem(), "log-unavailable");
    let document = answer.json();
    assert_eq!(document["line"], 2);
    let lines: Vec<_> = document["stored"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["line"].clone())
        .collect();
    server.log.set(Mood::Good);
    // What is said to be stored is exactly what is.
    let stored = server
        .get(&format!("/v1/topics/{near}?view=data"))
        .await
        .json();
    assert_eq!(serde_json::Value::from(lines), stored);
    assert_eq!(server.data(&far).await, "[]");
}

#[tokio::test]
async fn lines_are_stored_while_the_upload_goes_on() {
    let server = start("").await;
    let mut upload = slow_upload(&server).await;
    for n in 0..3 {
        let text = line("demo/a", n);
        upload
            .write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
            .await
            .expect("sent");
        let stored = async {
            while server
                .data("demo/a")
                .await
                .split(',')
                .filter(|one| *one != "[]")
                .count()
                <= n
            {}
        };
        tokio::time::timeout(crate::common::SOON, stored)
            .await
            .expect("it is stored before the next is sent");
    }
    upload.write_all(b"0\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 12];
    upload.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 201");
}

async fn slow_upload(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

#[tokio::test]
async fn an_announced_length_is_refused_before_it_is_sent() {
    let server = start("[server]\nbody_max = \"1KiB\"\n").await;
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_page_of_another_origin_may_publish_where_it_is_allowed() {
    let server = start("[api]\ncors_origins = [\"https://app.example\"]\n").await;
    let ask = |origin: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,content-type,ce-topic,last-event-id",
            ),
        ];
        let address = server.address;
        async move { open(address, "OPTIONS", "/v1/events", &headers, "").await }
    };
    let answer = ask("https://app.example").await;
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .map_or("", |v| v.to_str().expect("text"))
    };
    assert_eq!(header("access-control-allow-origin"), "https://app.example");
    assert!(header("access-control-allow-headers").contains("ce-topic"));
    assert!(header("access-control-allow-methods").contains("POST"));
    let answer = ask("https://evil.example").await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let read = server
        .send(
            "GET",
            "/v1/topics/a",
            &[("origin", "https://app.example")],
            "",
        )
        .await;
    assert!(
        read.header("access-control-expose-headers")
            .contains("stream-next-offset")
    );
    let refused = server
        .send(
            "GET",
            "/v1/topics/a?offset=x",
            &[("origin", "https://app.example")],
            "",
        )
        .await;
    assert_eq!(
        refused.header("access-control-allow-origin"),
        "https://app.example"
    );
}
