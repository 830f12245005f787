//! The adapter sits the exam that every adapter passes, as those who notify and those who are
//! notified see it.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};
use tidings_adapter::{Adapter, BoxFuture, Draft, Topic, Verdict};
use tidings_testkit::adapter_exam::wire::{Request, ServerSent, Stream, send};
use tidings_testkit::adapter_exam::{
    Bad, Client, Dialect, Features, Heard, Logs, Place, Published, refused, run,
};
use tidings_testkit::servers::RedisServer;

use crate::client::adapter;

mod notifications {
    tidings_testkit::adapter_exam!(super::Notifications(super::Logs::from_env()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_exam_on_redis() -> anyhow::Result<()> {
    let redis = RedisServer::start().await?;
    run(&Notifications(Logs::Redis(redis.url())), "").await
}

/// A backend that notifies channels, and those who listen to them.
struct Notifications(Logs);

fn payload(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn notify(name: &str, text: &str) -> Request {
    let operation = json!({"index": {"_index": "notifications"}});
    let notice = json!({"channelId": name, "timestamp": 1, "payload": payload(text)});
    let body = json!({"operations": [operation, notice]});
    post("/bulk-notifications", body.to_string())
}

fn post(path: &str, body: impl Into<String>) -> Request {
    Request::post(path, body.into()).header("content-type", "application/json")
}

impl Dialect for Notifications {
    fn features(&self) -> Features {
        Features {
            publishes: true,
            greets: true,
            history: true,
            resumes: true,
            // A stream that ends in good order is how an `EventSource` is told: it comes back.
            ..Features::default()
        }
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        Box::new(adapter(&json!({})))
    }

    fn logs(&self) -> Logs {
        self.0.clone()
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::parse(&format!("burokratt/channel/{name}")).expect("a topic")
    }

    fn draft(&self, name: &str, text: &str) -> Draft {
        Draft::new(self.topic(name), "raw", payload(text).to_string())
    }

    fn publish<'a>(
        &'a self,
        at: SocketAddr,
        name: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, anyhow::Result<Published>> {
        Box::pin(async move {
            let answer = send(at, &notify(name, text)).await?;
            Ok(match answer.status {
                200 => Published::Stored,
                status => Published::Refused {
                    retry: status == 503 && !answer.header("retry-after").is_empty(),
                    words: answer.text(),
                },
            })
        })
    }

    fn follow<'a>(
        &'a self,
        at: SocketAddr,
        names: &'a [&'a str],
        from: &'a Place,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        Box::pin(async move {
            let name = names.concat();
            let mut request = Request::get(format!("/sse/notifications/{name}"));
            match from {
                Place::Newest => {}
                Place::Oldest => request
                    .target
                    .push_str("?timeRangeBegin=1970-01-01T00:00:00Z"),
                Place::After(cursor) => request = request.header("last-event-id", cursor),
            }
            let stream = Stream::open(at, &request).await?;
            Ok(match stream.status {
                200 => Box::new(Listener { stream, name }) as Box<dyn Client>,
                status => refused(status.to_string()),
            })
        })
    }

    fn bad(&self) -> Vec<Bad> {
        let nudge = |body: &str| post("/bulk-notifications", body);
        let read = |path: &str| Request::get(path);
        vec![
            Bad::request("no JSON", nudge("{"), 400, "error"),
            Bad::request("no object", nudge("[]"), 400, "error"),
            Bad::request("no channel", read("/sse/notifications/a%20b"), 400, "error"),
            Bad::request(
                "no chat",
                read("/sse/get-new-messages?chatId=x"),
                404,
                "no such chat",
            ),
            Bad::request("nothing", read("/sse/get-new-messages"), 400, "required"),
            Bad::request(
                "another method",
                post("/sse/notifications/bad", "{}"),
                405,
                "error",
            ),
        ]
    }

    fn requests(&self) -> Vec<Request> {
        vec![
            notify("fuzz", "text"),
            post(
                "/init-chat",
                r#"{"message":{"content":"x"},"endUserTechnicalData":{}}"#,
            ),
            post(
                "/post-message",
                r#"{"chatId":"fuzz","content":"x","event":""}"#,
            ),
            post("/enqueue", r#"{"id":"fuzz"}"#),
            Request::get("/sse/notifications/fuzz?lastEventId=1767225600000-0000"),
            Request::get("/sse/events?list=1&queue=1&active=1&health=1&lastEventId=AAAA"),
            Request::get("/ruuter/sse/queue/fuzz"),
            Request::get("/estimated-waiting-time?chatId=fuzz"),
        ]
    }
}

struct Listener {
    stream: Stream,
    name: String,
}

impl Client for Listener {
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
        Box::pin(async move {
            match self.stream.event().await {
                Ok(event) => self.heard(&event),
                Err(clean) => Ok(Heard::Ended { clean }),
            }
        })
    }
}

impl Listener {
    fn heard(&self, event: &ServerSent) -> anyhow::Result<Heard> {
        if event.data.is_empty() {
            return Ok(Heard::Nothing); // `retry`
        }
        let data: Value = serde_json::from_str(&event.data)?;
        Ok(match (event.event.as_str(), data["text"].as_str()) {
            ("ready", _) => Heard::Open(event.id.clone()),
            ("gap", _) => Heard::Lost(match data["reason"].as_str() {
                Some("expired") => Some(Verdict::Expired),
                // Ahead or diverged: the dialect has one word for both.
                _ => None,
            }),
            ("", Some(text)) => Heard::Event {
                name: self.name.clone(),
                text: text.to_owned(),
                cursor: event.id.clone().context("an entry has an id")?,
            },
            // The nudge behind a gap.
            _ => Heard::Nothing,
        })
    }
}
