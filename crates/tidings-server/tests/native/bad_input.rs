//! Bad input: every cause of the table has a request that meets it. Each shows its status and type,
//! is counted, and changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{KEY, Mood, SMALL_KEY, Server, send, start, start_with};
use tidings_log_memory::MemoryOptions;
use tidings_server::problem::Cause;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");
const CLOUD: (&str, &str) = ("content-type", "application/cloudevents+json");

/// The topic that nothing may be stored in.
const TOPIC: &str = "small/a";

struct Case<'a> {
    slug: &'static str,
    method: &'static str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
}

fn publish<'a>(slug: &'static str, headers: &'a [(&'a str, &'a str)], body: &'a str) -> Case<'a> {
    Case {
        slug,
        method: "POST",
        path: "/v1/events",
        headers,
        body,
    }
}

fn read<'a>(slug: &'static str, path: &'a str) -> Case<'a> {
    Case {
        slug,
        method: "GET",
        path,
        headers: &[],
        body: "",
    }
}

async fn check(server: &Server, case: &Case<'_>) {
    let before = server.refused(case.slug);
    let own_key = case
        .headers
        .iter()
        .any(|(name, _)| *name == "authorization");
    let answer = if own_key || case.path.contains("key=") {
        send(
            server.address,
            case.method,
            case.path,
            case.headers,
            case.body,
        )
        .await
    } else {
        server
            .send(case.method, case.path, case.headers, case.body)
            .await
    };
    let shown = format!(
        "{} {} {:?} {}",
        case.method,
        case.path,
        case.headers,
        &case.body[..case.body.len().min(120)]
    );
    assert_eq!(answer.problem(), case.slug, "{shown}: {}", answer.text());
    let cause = Cause::of_slug(case.slug).expect("in the table");
    assert_eq!(answer.status, cause.status(), "{shown}");
    assert_eq!(answer.json()["title"], cause.title());
    assert!(
        !answer.json()["detail"]
            .as_str()
            .expect("a detail")
            .is_empty()
    );
    assert_eq!(
        answer.header("x-content-type-options"),
        "nosniff",
        "{shown}"
    );
    assert_eq!(answer.header("x-tidings-cause"), "", "{shown}");
    assert_eq!(server.refused(case.slug), before + 1, "{shown}");
}

#[tokio::test]
async fn every_cause_is_met_counted_and_harmless() {
    let server = start("[server]\nbody_max = \"64KiB\"\n[limits]\nbatch_events = 2\n").await;
    let long_line = format!(
        r#"{{"topic":"{TOPIC}","type":"t","data":"{}"}}"#,
        "x".repeat(70_000)
    );
    let long_kind = format!(r#"{{"topic":"{TOPIC}","type":"{}"}}"#, "k".repeat(200));
    let three = format!("[{0},{0},{0}]", r#"{"topic":"small/a","type":"t"}"#);
    let topics: Vec<String> = (0..101).map(|n| format!("topic=t/{n}")).collect();
    let topics = format!("/v1/events?{}", topics.join("&"));
    let small = [("authorization", "Bearer small"), JSON];
    let cases = [
        publish(
            "malformed-json",
            &[JSON],
            r#"{"topic":"small/a","type":"t""#,
        ),
        publish("malformed-json", &[JSON], ""),
        publish("malformed-json", &[JSON], "\u{feff}{}"),
        publish("malformed-json", &[LINES], "nonsense"),
        publish("malformed-json", &[CLOUD], "{"),
        publish("invalid-body", &[JSON], "[]"),
        publish("invalid-body", &[JSON], "7"),
        publish("invalid-body", &[LINES], "\n\n"),
        publish(
            "invalid-topic",
            &[JSON],
            r#"{"topic":"small//a","type":"t"}"#,
        ),
        publish(
            "unknown-field",
            &[JSON],
            r#"{"topic":"small/a","type":"t","colour":1}"#,
        ),
        publish(
            "unknown-field",
            &[JSON],
            r#"{"topic":"small/a","type":"t","data_base64":"AA=="}"#,
        ),
        publish("missing-field", &[JSON], r#"{"topic":"small/a"}"#),
        publish(
            "missing-field",
            &[CLOUD],
            r#"{"topic":"small/a","type":"t","id":"1","source":"/s"}"#,
        ),
        publish(
            "invalid-field",
            &[JSON],
            r#"{"topic":"small/a","type":"t","time":"now"}"#,
        ),
        publish(
            "invalid-field",
            &[JSON],
            r#"[{"topic":"small/a","type":"t"},{"topic":"small/a","type":"\n"}]"#,
        ),
        publish("too-large", &[JSON], &long_kind),
        publish("body-too-large", &[JSON], &long_line),
        publish("body-too-large", &[LINES], &long_line),
        publish("too-many-events", &[JSON], &three),
        publish(
            "unsupported-media-type",
            &[("content-type", "text/plain")],
            "{}",
        ),
        publish(
            "unsupported-media-type",
            &[("content-type", "application/x-www-form-urlencoded")],
            "{}",
        ),
        publish(
            "unsupported-media-type",
            &[JSON, ("content-encoding", "gzip")],
            "{}",
        ),
        publish("unsupported-media-type", &[], "{}"),
        publish(
            "unauthenticated",
            &[("authorization", "Bearer wrong"), JSON],
            "{}",
        ),
        publish(
            "unauthenticated",
            &[("authorization", "Basic c206"), JSON],
            "{}",
        ),
        publish("forbidden", &small, r#"{"topic":"other/a","type":"t"}"#),
        publish(
            "forbidden",
            &small,
            r#"[{"topic":"small/a","type":"t"},{"topic":"other/a","type":"t"}]"#,
        ),
        publish(
            "forbidden-topic",
            &[JSON],
            r#"{"topic":"toy/a","type":"t"}"#,
        ),
        Case {
            slug: "unauthenticated",
            ..read("", "/v1/topics/small/a?key=wrong")
        },
        Case {
            headers: &small,
            ..read("forbidden", "/v1/topics/other/a")
        },
        Case {
            headers: &small,
            ..read("forbidden", "/v1/events?topic=small/a&topic=other/a")
        },
        read("invalid-topic", "/v1/topics/small//a"),
        read("invalid-topic", "/v1/topics/small%20a"),
        read("invalid-topic", "/v1/topics/%ff"),
        read("invalid-topic", "/v1/events?topic="),
        read("invalid-cursor", "/v1/topics/small/a?offset=garbage"),
        read("invalid-cursor", "/v1/topics/small/a?offset="),
        read(
            "invalid-cursor",
            "/v1/topics/small/a?offset=garbage&live=sse",
        ),
        read(
            "invalid-cursor",
            "/v1/events?topic=small/a&lastEventId=garbage",
        ),
        Case {
            headers: &[("last-event-id", "\u{ff}")],
            ..read("invalid-cursor", "/v1/events?topic=small/a")
        },
        read(
            "cursor-of-other-topics",
            "/v1/events?topic=small/a&topic=b&lastEventId=1732161600000-0001",
        ),
        read("invalid-parameter", "/v1/topics/small/a?live=sse"),
        read(
            "invalid-parameter",
            "/v1/topics/small/a?offset=-1&live=maybe",
        ),
        read(
            "invalid-parameter",
            "/v1/topics/small/a?offset=-1&offset=-1",
        ),
        read("invalid-parameter", "/v1/topics/small/a?view=half"),
        read(
            "invalid-parameter",
            "/v1/events?topic=small/a&since=yesterday",
        ),
        read("too-many-topics", "/v1/events"),
        read("too-many-topics", &topics),
        read(
            "cursor-ahead",
            "/v1/topics/small/a?offset=1999999999999-0000",
        ),
        read(
            "cursor-ahead",
            "/v1/topics/small/a?offset=1999999999999-0000&live=long-poll",
        ),
        read(
            "cursor-ahead",
            "/v1/topics/small/a?offset=1999999999999-0000&live=sse",
        ),
        Case {
            headers: &[("accept", "text/html")],
            ..read("not-acceptable", "/v1/events?topic=small/a")
        },
        read("not-found", "/v1/nothing"),
        read("not-found", "/v1/topics/"),
        Case {
            method: "DELETE",
            ..read("method-not-allowed", "/v1/events")
        },
        Case {
            method: "POST",
            ..read("method-not-allowed", "/v1/topics/small/a")
        },
    ];
    let mut met: BTreeSet<&str> = cases.iter().map(|case| case.slug).collect();
    for case in &cases {
        check(&server, case).await;
    }
    assert_eq!(server.data(TOPIC).await, "[]", "nothing was stored");
    assert_eq!(
        server
            .log
            .appends
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );

    // What the log says no to.
    let event = r#"{"topic":"small/a","type":"t"}"#;
    for (mood, slug) in [
        (Mood::Unavailable, "log-unavailable"),
        (Mood::Full, "log-full"),
        (Mood::FateUnknown, "fate-unknown"),
        (Mood::Refused, "internal"),
        (Mood::Panics, "internal"),
    ] {
        server.log.set(mood);
        let case = publish(slug, &[JSON], event);
        check(&server, &case).await;
        let answer = server.publish(event).await;
        assert_eq!(
            answer.headers.contains_key("retry-after"),
            answer.status == 503
        );
        assert!(
            !answer.text().contains("internal:6379"),
            "{}",
            answer.text()
        );
        if mood == Mood::Unavailable {
            check(&server, &read(slug, "/v1/topics/small/a")).await;
            check(
                &server,
                &read(slug, "/v1/topics/small/a?offset=-1&live=long-poll"),
            )
            .await;
        }
        met.insert(slug);
    }
    server.log.set(Mood::Good);
    assert_eq!(server.data(TOPIC).await, "[]", "nothing was stored");

    // Cursors that were good once.
    let first = server.publish_one(TOPIC, "1").await;
    server.clock.advance(Duration::from_millis(10));
    server.publish_one(TOPIC, "2").await;
    let between = format!("{}-0000", first[..13].parse::<u64>().expect("a time") + 5);
    for live in ["", "&live=long-poll", "&live=sse"] {
        let path = format!("/v1/topics/small/a?offset={between}{live}");
        check(&server, &read("cursor-diverged", &path)).await;
    }
    server.clock.advance(Duration::from_secs(3700));
    // Within a second the window lets go of what is no longer retained; until then a stream from
    // there opens, and ends at once.
    let path = format!("/v1/topics/small/a?offset={first}&live=sse");
    let let_go = async { while server.get(&path).await.status == 200 {} };
    tokio::time::timeout(crate::common::SOON, let_go)
        .await
        .expect("the window lets go");
    for live in ["", "&live=long-poll", "&live=sse"] {
        let path = format!("/v1/topics/small/a?offset={first}{live}");
        check(&server, &read("cursor-expired", &path)).await;
        let answer = server.get(&path).await;
        assert_eq!(answer.json()["reload"], "/v1/topics/small/a?offset=-1");
    }
    met.extend(["cursor-diverged", "cursor-expired"]);

    // The others are met below, and `draining` where publishing answers.
    met.extend(["body-timeout", "too-many-connections", "draining"]);
    let all: BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.slug()).collect();
    assert_eq!(met, all, "a cause has no case");
}

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
