//! Bad input: every cause of the table has a request that meets it. Each shows its status and type,
//! is counted, and changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{Server, send, start};
use crate::moody::Mood;
use tidings_server::problem::Cause;

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

    // The others are met in `refusals`, and `draining` where publishing answers.
    met.extend(["body-timeout", "too-many-connections", "draining"]);
    // Those about tokens and rates in `identity`.
    met.extend(["invalid-token", "token-expired"]);
    met.extend(["issuer-unavailable", "rate-limited"]);
    let all: BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.slug()).collect();
    assert_eq!(met, all, "a cause has no case");
}
