//! Reading: catch-up, long-poll and both event streams, over real sockets.

use std::time::Duration;

use crate::common::{Stream, start};

#[tokio::test]
async fn a_topic_that_never_had_an_event_is_empty() {
    let server = start("").await;
    let answer = server.get("/v1/topics/never/was").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "[]")
    );
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("stream-up-to-date"), "true");
    let offset = answer.header("stream-next-offset").to_owned();
    assert!(!offset.is_empty() && offset != "-1" && offset != "now");
    let id = server.publish_one("never/was", "1").await;
    let answer = server
        .get(&format!("/v1/topics/never/was?offset={offset}&view=data"))
        .await;
    assert_eq!(
        (answer.text().as_str(), answer.header("stream-next-offset")),
        ("[1]", id.as_str())
    );
}

#[tokio::test]
async fn pages_follow_each_other_without_gap() {
    let server = start("[limits]\npage_events = 2\n").await;
    for n in 0..5 {
        server.publish_one("demo/a", &n.to_string()).await;
    }
    let (mut offset, mut pages) = ("-1".to_owned(), Vec::new());
    loop {
        let page = server
            .get(&format!("/v1/topics/demo/a?view=data&offset={offset}"))
            .await;
        pages.push(page.text());
        let next = page.header("stream-next-offset").to_owned();
        assert!(next > offset, "offsets sort as text");
        offset = next;
        if page.header("stream-up-to-date") == "true" {
            break;
        }
    }
    assert_eq!(pages, ["[0,1]", "[2,3]", "[4]"]);
    let tail = server.get("/v1/topics/demo/a?offset=now").await;
    assert_eq!(
        (tail.text().as_str(), tail.header("cache-control")),
        ("[]", "no-store")
    );
    assert!(tail.header("etag").is_empty());
    let head = server.send("HEAD", "/v1/topics/demo/a", &[], "").await;
    assert_eq!(
        (head.status.as_u16(), head.header("cache-control")),
        (200, "no-store")
    );
    assert_eq!(head.header("stream-next-offset"), offset);
    assert_eq!(head.header("content-type"), "application/json");
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let server = start("").await;
    server.publish_one("demo/a", "1").await;
    let first = server.get("/v1/topics/demo/a").await;
    let etag = first.header("etag").to_owned();
    let again = server
        .send("GET", "/v1/topics/demo/a", &[("if-none-match", &etag)], "")
        .await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    assert_eq!(
        again.header("stream-next-offset"),
        first.header("stream-next-offset")
    );
    server.publish_one("demo/a", "2").await;
    let later = server
        .send("GET", "/v1/topics/demo/a", &[("if-none-match", &etag)], "")
        .await;
    assert_eq!(later.status, 200);
    assert_ne!(later.header("etag"), etag);
    assert_eq!(later.header("cross-origin-resource-policy"), "cross-origin");
}

#[tokio::test]
async fn a_long_poll_waits_for_the_event_or_says_204() {
    let server = start("[api]\nlong_poll_timeout = \"200ms\"\n").await;
    server.publish_one("demo/a", "0").await;
    let waited = server
        .get("/v1/topics/demo/a?offset=now&live=long-poll")
        .await;
    assert_eq!((waited.status.as_u16(), waited.body.len()), (204, 0));
    assert_eq!(waited.header("stream-up-to-date"), "true");
    let cursor: u64 = waited.header("stream-cursor").parse().expect("a number");
    let offset = waited.header("stream-next-offset").to_owned();
    let path =
        format!("/v1/topics/demo/a?offset={offset}&live=long-poll&view=data&cursor={cursor}");
    let publish = async {
        tokio::task::yield_now().await;
        server.publish_one("demo/a", "1").await
    };
    let (answer, id) = tokio::join!(server.get(&path), publish);
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "[1]")
    );
    assert_eq!(answer.header("stream-next-offset"), id);
    assert!(
        answer
            .header("stream-cursor")
            .parse::<u64>()
            .expect("a number")
            > cursor
    );
    assert_eq!(answer.header("content-type"), "application/json");
    let at_once = server
        .get("/v1/topics/demo/a?offset=-1&live=long-poll&view=data")
        .await;
    assert_eq!(at_once.text(), "[0,1]");
    assert_eq!(at_once.header("stream-up-to-date"), "true");
}

#[tokio::test]
async fn a_topic_streams_data_and_control_and_ends_by_age() {
    let server = start("[api]\ntopic_sse_age = \"1s\"\n").await;
    server.publish_one("demo/a", "{\"x\":\n1}").await;
    let mut stream = Stream::open(
        &server,
        "/v1/topics/demo/a?offset=-1&live=sse&view=data",
        &[],
    )
    .await;
    let text = stream.until("upToDate").await.to_owned();
    assert!(
        text.starts_with(
            "event: data\ndata: [\ndata: {\"x\":\ndata: 1}\ndata: ]\n\nevent: control\ndata:{"
        ),
        "{text}"
    );
    let id = server.publish_one("demo/a", "2").await;
    stream.until(&id).await;
    let text = stream.rest().await;
    assert!(text.contains("data: 2\n"), "{text}");
    assert_eq!(text.matches("event: data").count(), 2, "{text}");
}

#[tokio::test]
async fn an_event_source_over_several_topics_resumes_without_gap() {
    let server = start("").await;
    server.publish_one("demo/a", "1").await;
    server.publish_one("demo/b", "2").await;
    let path = "/v1/events?topic=demo/a&topic=demo/b&view=data&offset=-1";
    let mut stream = Stream::open(&server, path, &[]).await;
    assert_eq!(stream.headers["cache-control"], "no-cache");
    assert_eq!(stream.headers["x-content-type-options"], "nosniff");
    stream.until("data: 2\n\n").await;
    let text = stream.until("data: 1\n\n").await;
    assert!(text.contains("retry: 2000"), "{text}");
    assert!(text.contains("event: t\n"), "{text}");
    let cursor = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .next_back()
        .expect("a cursor")
        .to_owned();
    drop(stream);
    server.publish_one("demo/b", "3").await;
    server.publish_one("demo/a", "4").await;
    let mut stream = Stream::open(&server, path, &[("last-event-id", &cursor)]).await;
    stream.until("data: 3\n\n").await;
    let text = stream.until("data: 4\n\n").await;
    for old in ["data: 1\n", "data: 2\n", "reset"] {
        assert!(!text.contains(old), "{text}");
    }
    server.publish_one("demo/a", "5").await;
    stream.until("data: 5\n\n").await;
    let by_url = format!("/v1/events?topic=demo/b&topic=demo/a&view=data&lastEventId={cursor}");
    let mut other = Stream::open(&server, &by_url, &[]).await;
    other.until("data: 5\n\n").await;
}

#[tokio::test]
async fn a_stream_from_now_on_has_a_cursor_before_its_first_event() {
    let server = start("").await;
    server.publish_one("demo/a", "1").await;
    let mut stream = Stream::open(&server, "/v1/events?topic=demo/a", &[]).await;
    let text = stream.until("id: ").await.to_owned();
    assert!(!text.contains("data:"), "{text}");
    let id = text
        .split("id: ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .expect("an id")
        .to_owned();
    drop(stream);
    server.publish_one("demo/a", "2").await;
    let mut stream = Stream::open(
        &server,
        "/v1/events?topic=demo/a",
        &[("last-event-id", &id)],
    )
    .await;
    let text = stream.until("\"data\":2}").await;
    assert!(!text.contains("\"data\":1}"), "{text}");
}

#[tokio::test]
async fn since_a_time_brings_what_came_after_it() {
    let server = start("").await;
    server.publish_one("demo/a", "1").await;
    server.clock.advance(Duration::from_secs(10));
    server.publish_one("demo/a", "2").await;
    let path = "/v1/events?topic=demo/a&view=data&since=2024-11-21T04:00:05Z";
    let text = Stream::open(&server, path, &[])
        .await
        .until("data: 2\n")
        .await
        .to_owned();
    assert!(!text.contains("data: 1\n"), "{text}");
}

#[tokio::test]
async fn a_lost_cursor_is_said_in_band_and_everything_follows() {
    let server = start("").await;
    server.publish_one("demo/a", "1").await;
    let path = "/v1/events?topic=demo/a&view=data";
    let lost = [("last-event-id", "1999999999999-0000")];
    let mut stream = Stream::open(&server, path, &lost).await;
    let text = stream.until("data: 1\n\n").await;
    let reset = text.split("event: reset\ndata: ").nth(1).expect("a reset");
    let data: serde_json::Value =
        serde_json::from_str(reset.lines().next().expect("data")).expect("JSON");
    assert_eq!(
        data,
        serde_json::json!({ "topic": "demo/a", "verdict": "ahead", "reload": "/v1/topics/demo/a?offset=-1" })
    );
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives() {
    let server = start("[api]\nheartbeat = \"50ms\"\n").await;
    for path in ["/v1/events?topic=a", "/v1/topics/a?offset=now&live=sse"] {
        let mut stream = Stream::open(&server, path, &[]).await;
        stream.until(":\n\n").await;
    }
}
