//! The native API sits the exam that every adapter passes, as `EventSource` and as a long-poll read
//! it: an adapter written elsewhere owes its clients no more than this server's own routes do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use prometheus::Registry;
use serde_json::{Value, json};
use tidings_adapter::{Adapter, Hub};
use tidings_core::{BoxFuture, Draft, Topic, Verdict};
use tidings_server::config::{Config, Sources, load};
use tidings_server::native::{self, Refused};
use tidings_testkit::adapter_exam::wire::{Request, ServerSent, Stream, send};
use tidings_testkit::adapter_exam::{
    Bad, Client, Dialect, Features, Heard, Logs, Place, Published, refused, run,
};
use tidings_testkit::servers::RedisServer;

mod event_source {
    use super::*;

    tidings_testkit::adapter_exam!(Native::reads(Reads::Stream));
}

mod long_poll {
    use super::*;

    tidings_testkit::adapter_exam!(Native::reads(Reads::LongPoll));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_exam_on_redis() -> anyhow::Result<()> {
    let redis = RedisServer::start().await?;
    let logs = Logs::Redis(redis.url());
    let reads = Reads::Stream;
    run(&Native { reads, logs }, "").await
}

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
        native::Native::new(hub, &config, registry, refused)
            .expect("no issuer is configured")
            .router(&config)
    }
}

/// A backend that publishes with `POST /v1/events`, and those who read.
struct Native {
    reads: Reads,
    logs: Logs,
}

/// How clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// `GET /v1/events`, as `EventSource` does.
    Stream,
    /// `GET /v1/topics/<topic>?live=long-poll`.
    LongPoll,
}

impl Native {
    fn reads(reads: Reads) -> Self {
        let logs = Logs::from_env();
        Self { reads, logs }
    }
}

const JSON: &str = "application/json";

fn publish(body: impl Into<String>) -> Request {
    Request::post("/v1/events", body.into()).header("content-type", JSON)
}

fn event(name: &str, text: &str) -> String {
    json!({ "topic": format!("exam/{name}"), "type": "text", "data": text }).to_string()
}

impl Dialect for Native {
    fn features(&self) -> Features {
        Features {
            publishes: true,
            greets: true,
            history: true,
            resumes: true,
            several: self.reads == Reads::Stream,
            // A stream that ends in good order is how an `EventSource` is told: it comes back.
            ..Features::default()
        }
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        Box::new(Mounted)
    }

    fn logs(&self) -> Logs {
        self.logs.clone()
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
            match self.reads {
                Reads::Stream => stream(at, names, from).await,
                Reads::LongPoll => Ok(poll(at, names, from)),
            }
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

async fn stream(at: SocketAddr, names: &[&str], from: &Place) -> anyhow::Result<Box<dyn Client>> {
    let topics = names.iter().map(|name| format!("topic=exam/{name}"));
    let mut request = Request::get(format!(
        "/v1/events?{}",
        topics.collect::<Vec<_>>().join("&")
    ));
    match from {
        Place::Newest => {}
        Place::Oldest => request.target.push_str("&offset=-1"),
        Place::After(cursor) => request = request.header("last-event-id", cursor),
    }
    let stream = Stream::open(at, &request).await?;
    Ok(match stream.status {
        200 => Box::new(Reader(stream)),
        status => refused(status.to_string()),
    })
}

struct Reader(Stream);

impl Client for Reader {
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
        Box::pin(async move {
            match self.0.event().await {
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
        "reset" => lost(&data),
        "text" => Heard::Event {
            name: member("topic").replacen("exam/", "", 1),
            text: member("data"),
            cursor: event.id.unwrap_or_default(),
        },
        _ => Heard::Nothing,
    })
}

/// The verdict in a `reset` or in a problem.
fn lost(data: &Value) -> Heard {
    let all = [Verdict::Expired, Verdict::Diverged, Verdict::Ahead];
    let said = data["verdict"].as_str();
    Heard::Lost(all.into_iter().find(|one| Some(one.as_str()) == said))
}

fn poll(at: SocketAddr, names: &[&str], from: &Place) -> Box<dyn Client> {
    let offset = match from {
        Place::Newest => "now",
        Place::Oldest => "-1",
        Place::After(cursor) => cursor,
    };
    Box::new(Poller {
        at,
        name: names.concat(),
        offset: offset.to_owned(),
        waits: false,
        heard: VecDeque::new(),
    })
}

/// Asks for what there is, and then again and again for what comes.
struct Poller {
    at: SocketAddr,
    name: String,
    offset: String,
    waits: bool,
    heard: VecDeque<Heard>,
}

impl Poller {
    async fn ask(&mut self) -> anyhow::Result<()> {
        let live = if self.waits { "&live=long-poll" } else { "" };
        let target = format!(
            "/v1/topics/exam/{}?view=event&offset={}{live}",
            self.name, self.offset
        );
        let Ok(answer) = send(self.at, &Request::get(target)).await else {
            // Between two polls nothing is broken off: the instance is gone.
            self.heard.push_back(Heard::Ended { clean: true });
            return Ok(());
        };
        let problem = || serde_json::from_slice::<Value>(&answer.body);
        match answer.status {
            200 | 204 => {}
            410 => {
                self.heard.push_back(lost(&problem()?));
                self.heard.push_back(Heard::Ended { clean: true });
                return Ok(());
            }
            503 => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Ok(());
            }
            status => {
                self.heard.push_back(Heard::Refused(status.to_string()));
                return Ok(());
            }
        }
        self.offset = answer.header("stream-next-offset").to_owned();
        if !self.waits {
            self.heard.push_back(Heard::Open(None));
        }
        self.waits = true;
        if answer.status == 200 {
            let events: Vec<Value> = serde_json::from_slice(&answer.body)?;
            for event in events {
                let member = |name: &str| event[name].as_str().map(str::to_owned);
                let topic = member("topic").context("a topic")?;
                self.heard.push_back(Heard::Event {
                    name: topic.replacen("exam/", "", 1),
                    text: member("data").context("data")?,
                    cursor: member("id").context("an id")?,
                });
            }
        }
        Ok(())
    }
}

impl Client for Poller {
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
        Box::pin(async move {
            loop {
                if let Some(heard) = self.heard.pop_front() {
                    return Ok(heard);
                }
                self.ask().await?;
            }
        })
    }
}
