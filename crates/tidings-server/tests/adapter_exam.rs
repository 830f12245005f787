//! The native API sits the exam that every adapter passes, as `EventSource` reads it: an adapter
//! written elsewhere owes its clients no more than this server's own routes do.

use std::net::SocketAddr;

use axum::Router;
use prometheus::Registry;
use serde_json::{Value, json};
use tidings_adapter::{Adapter, Hub};
use tidings_core::{BoxFuture, Draft, Topic, Verdict};
use tidings_server::config::{Config, Sources, load};
use tidings_server::native::{Native, Refused};
use tidings_testkit::adapter_exam::wire::{Request, ServerSent, Stream, send};
use tidings_testkit::adapter_exam::{Bad, Client, Dialect, Features, Heard, Place, Published};

tidings_testkit::adapter_exam!(EventSource);

/// The native API, mounted like any adapter.
struct Mounted;

fn config() -> Config {
    let open = |name: &str| (name.to_owned(), "exam/**".to_owned());
    let sources = Sources {
        environment: vec![
            open("TIDINGS_API__ANONYMOUS_PUBLISH"),
            open("TIDINGS_API__ANONYMOUS_READ"),
        ],
        ..Sources::default()
    };
    load(&sources).expect("a good configuration").config
}

impl Adapter for Mounted {
    fn name(&self) -> &'static str {
        "native"
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        let (config, registry) = (config(), Registry::new());
        let refused = Refused::register(&registry).expect("a fresh registry");
        Native::new(hub, &config, Vec::new(), registry, refused).router(&config)
    }
}

/// A browser's `EventSource`, and a backend that publishes with `POST /v1/events`.
struct EventSource;

const JSON: &str = "application/json";

fn publish(body: impl Into<String>) -> Request {
    Request::post("/v1/events", body.into()).header("content-type", JSON)
}

fn event(name: &str, text: &str) -> String {
    json!({ "topic": format!("exam/{name}"), "type": "text", "data": text }).to_string()
}

impl Dialect for EventSource {
    fn features(&self) -> Features {
        Features {
            publishes: true,
            greets: true,
            history: true,
            resumes: true,
            several: true,
            // A stream that ends in good order is how an `EventSource` is told: it comes back.
            ..Features::default()
        }
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        Box::new(Mounted)
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::parse(&format!("exam/{name}")).expect("a topic")
    }

    fn draft(&self, name: &str, text: &str) -> Draft {
        Draft::new(self.topic(name), "text", json!(text).to_string())
    }

    fn publish<'a>(
        &'a self,
        at: SocketAddr,
        name: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, anyhow::Result<Published>> {
        Box::pin(async move {
            let answer = send(at, &publish(event(name, text))).await?;
            Ok(match answer.status {
                201 => Published::Stored,
                _ => Published::Refused {
                    retry: answer.status == 503 && !answer.header("retry-after").is_empty(),
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
            let topics: Vec<_> = names
                .iter()
                .map(|name| format!("topic=exam/{name}"))
                .collect();
            let request = Request::get(format!("/v1/events?{}", topics.join("&")));
            let request = match from {
                Place::Newest => request,
                Place::Oldest => Request::get(format!("{}&offset=-1", request.target)),
                Place::After(cursor) => request.header("last-event-id", cursor),
            };
            let stream = Stream::open(at, &request).await?;
            Ok(Box::new(Reader { stream }) as Box<dyn Client>)
        })
    }

    fn bad(&self) -> Vec<Bad> {
        let read = |query: &str| Request::get(format!("/v1/events?{query}"));
        vec![
            Bad::request("no JSON", publish("{"), 400, "malformed-json"),
            Bad::request("no topic", publish("{\"type\":\"a\"}"), 400, "topic"),
            Bad::request(
                "a bad topic",
                publish(event("a//b", "x")),
                400,
                "invalid-topic",
            ),
            Bad::request("no such topic", read("topic=%20"), 400, "invalid-topic"),
            Bad::request("no topics", read(""), 400, "too-many-topics"),
            Bad::request(
                "not their topic",
                read("topic=other/a"),
                401,
                "unauthenticated",
            ),
            Bad::request(
                "no cursor",
                read("topic=exam/a&lastEventId=x"),
                400,
                "invalid-cursor",
            ),
            Bad::request(
                "no JSON by its type",
                Request::post("/v1/events", "x").header("content-type", "text/plain"),
                415,
                "unsupported-media-type",
            ),
        ]
    }

    fn requests(&self) -> Vec<Request> {
        let two = [event("fuzz", "1"), event("fuzz", "2")];
        vec![
            publish(event("fuzz", "text")),
            publish(format!("[{}]", two.join(","))),
            Request::post("/v1/events", two.join("\n"))
                .header("content-type", "application/x-ndjson"),
            Request::get("/v1/events?topic=exam/a&topic=exam/b&since=2026-01-01T00:00:00Z"),
            Request::get("/v1/topics/exam/fuzz?offset=1767225600000-0000&view=data"),
            Request::get("/v1/topics/exam/fuzz?offset=-1&live=sse&cursor=12"),
        ]
    }
}

struct Reader {
    stream: Stream,
}

impl Client for Reader {
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
        Box::pin(async move {
            if self.stream.status != 200 {
                return Ok(Heard::Refused(self.stream.status.to_string()));
            }
            match self.stream.event().await {
                Ok(event) => heard(event),
                Err(clean) => Ok(Heard::Ended { clean }),
            }
        })
    }
}

fn heard(event: ServerSent) -> anyhow::Result<Heard> {
    if event.data.is_empty() {
        return Ok(Heard::Open(event.id));
    }
    let data: Value = serde_json::from_str(&event.data)?;
    let member = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    Ok(match event.event.as_str() {
        "reset" => Heard::Lost(
            [Verdict::Expired, Verdict::Diverged, Verdict::Ahead]
                .into_iter()
                .find(|verdict| verdict.as_str() == member("verdict")),
        ),
        "text" => Heard::Event {
            name: member("topic").replacen("exam/", "", 1),
            text: member("data"),
            cursor: event.id.unwrap_or_default(),
        },
        _ => Heard::Nothing,
    })
}
