//! The adapter sits the exam that every adapter passes: in the extended protocol, where clients come
//! back with a position, and in the base protocol, where they rewind by time.

mod common;

use std::net::SocketAddr;

use common::{Cable, adapter, basic, claims, event, identifier, mint, org, post, token};
use serde_json::{Value, json};
use tidings_adapter::{Adapter, BoxFuture, Draft, Topic};
use tidings_testkit::adapter_exam::wire::{Frame, Message, Request, send};
use tidings_testkit::adapter_exam::{
    Bad, Client, Dialect, Features, Heard, Logs, Place, Published, run,
};
use tidings_testkit::servers::RedisServer;
use uuid::Uuid;

mod extended {
    tidings_testkit::adapter_exam!(super::Protocol::new(super::EXTENDED));
}

mod base {
    tidings_testkit::adapter_exam!(super::Protocol::new(super::BASE));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_exam_on_redis() -> anyhow::Result<()> {
    let redis = RedisServer::start().await?;
    let logs = Logs::Redis(redis.url());
    run(
        &Protocol {
            name: EXTENDED,
            logs,
        },
        "",
    )
    .await
}

const BASE: &str = "actioncable-v1-json";
const EXTENDED: &str = "actioncable-v1-ext-json";

struct Protocol {
    name: &'static str,
    logs: Logs,
}

impl Protocol {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            logs: Logs::from_env(),
        }
    }
}

impl Dialect for Protocol {
    fn features(&self) -> Features {
        Features {
            publishes: true,
            greets: true,
            history: true,
            // In the base protocol an event's id is a place only as long as the event is there.
            resumes: self.name == EXTENDED,
            several: false,
            frames: true,
            farewell: true,
        }
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        Box::new(adapter(|_| ()))
    }

    fn logs(&self) -> Logs {
        self.logs.clone()
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::parse(&format!("zaikio/org/{}", org(name))).expect("a topic")
    }

    fn draft(&self, name: &str, text: &str) -> Draft {
        // As it is stored: the id first.
        let mut stored = format!("{{\"id\":\"{}\"", Uuid::new_v4());
        let all = event(Uuid::nil(), name, "exam.said", text);
        for (member, value) in all.as_object().expect("an object") {
            if member != "id" {
                stored.push_str(&format!(",\"{member}\":{value}"));
            }
        }
        Draft::new(self.topic(name), "exam.said", stored + "}")
    }

    fn publish<'a>(
        &'a self,
        at: SocketAddr,
        name: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, anyhow::Result<Published>> {
        Box::pin(async move {
            let body = event(Uuid::new_v4(), name, "exam.said", text);
            let answer = send(at, &post(body)).await?;
            Ok(match answer.status {
                201 => Published::Stored,
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
            let mut cable = Cable::connect(at, &token(&name), self.name).await?;
            let identifier = identifier("exam.said");
            let mut subscribe = json!({"command": "subscribe", "identifier": identifier});
            let streams = |cursor: &str| {
                let (epoch, offset) = cursor.split_once(':').unwrap_or(("none", cursor));
                let offset = offset
                    .parse::<u64>()
                    .map_or(json!(offset), |offset| json!(offset));
                json!({format!("Org/{}", org(&name)): {"epoch": epoch, "offset": offset}})
            };
            match (from, self.name) {
                (Place::Newest, _) => {}
                (Place::Oldest, BASE) => {
                    cable.say(&subscribe).await?;
                    let data = json!({"action": "rewind", "since": 1}).to_string();
                    subscribe =
                        json!({"command": "message", "identifier": identifier, "data": data});
                }
                (Place::Oldest, _) => subscribe["history"] = json!({"since": 1}),
                (Place::After(cursor), _) => {
                    subscribe["history"] = json!({"streams": streams(cursor)});
                }
            }
            cable.say(&subscribe).await?;
            let follower = Follower {
                cable,
                name,
                over: false,
            };
            Ok(Box::new(follower) as Box<dyn Client>)
        })
    }

    fn bad(&self) -> Vec<Bad> {
        let with = |field: &str, value: Value| {
            let mut event = event(Uuid::new_v4(), "bad", "exam.said", "x");
            event[field] = value;
            post(event)
        };
        let subscribe = |identifier: Value| {
            let command = json!({"command": "subscribe", "identifier": identifier.to_string()});
            Message::Text(command.to_string())
        };
        let pull = |query: &str| {
            let request = Request::get(format!("/api/v1/events?{query}"));
            request.header("authorization", basic("exam", "secret"))
        };
        let invalid = |what, field: &'static str, value| {
            Bad::request(what, with(field, value), 422, format!("\"{field}\""))
        };
        let mut other = post("{}");
        other.headers[1].1 = basic("exam", "wrong");
        vec![
            Bad::request("no JSON", post("{"), 400, "errors"),
            Bad::request("no object", post("[]"), 400, "errors"),
            Bad::request("nothing", post("{}"), 422, "can't be blank"),
            Bad::request("a wrong password", other, 401, "unauthorized"),
            Bad::request(
                "nobody",
                Request::post("/api/v1/events", "{}"),
                401,
                "unauthorized",
            ),
            Bad::request("too large", post("x".repeat(70_000)), 413, "too large"),
            invalid("no id", "id", json!("1")),
            invalid("no time", "timestamp", json!("yesterday")),
            invalid("another's name", "name", json!("other.said")),
            invalid("no subject", "subject", json!("Org/1")),
            invalid("a large payload", "payload", json!({"a": "x".repeat(256)})),
            invalid("no link", "link", json!("ftp")),
            Bad::request("a page too low", pull("page=0"), 400, "page"),
            Bad::request(
                "no time to pull from",
                pull("filter[from]=x"),
                400,
                "filter[from]",
            ),
            Bad::request("no upgrade", Request::get("/websocket"), 426, "websocket"),
            Bad::frame(
                "no name of theirs",
                subscribe(json!({"channel": "EventChannel", "events": "exam.hidden"})),
                "reject_subscription",
            ),
            Bad::frame(
                "another channel",
                subscribe(json!({"channel": "ChatChannel", "events": "exam.said"})),
                "reject_subscription",
            ),
        ]
    }

    fn requests(&self) -> Vec<Request> {
        let mint = mint(&claims("fuzz"));
        vec![
            post(event(Uuid::new_v4(), "fuzz", "exam.said", "text")),
            post(json!({"event": event(Uuid::new_v4(), "fuzz", "exam.said", "text")})),
            Request::get("/api/v1/events?filter[name]=exam.said&filter[from]=1&page=1")
                .header("authorization", basic("exam", "secret")),
            Request::get(format!("/cable?jid={mint}"))
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]
    }
}

struct Follower {
    cable: Cable,
    name: String,
    over: bool,
}

impl Client for Follower {
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
        Box::pin(async move {
            if self.over {
                return Ok(Heard::Ended { clean: true });
            }
            Ok(match self.cable.frame().await? {
                Frame::Message(Message::Text(text)) => self.heard(&text)?,
                Frame::Message(Message::Binary(_)) => Heard::Nothing,
                Frame::Close(..) => Heard::Ended { clean: true },
                Frame::Ended => Heard::Ended { clean: false },
            })
        })
    }

    fn send(&mut self, frame: Message) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(self.cable.raw(frame))
    }
}

impl Follower {
    fn heard(&mut self, text: &str) -> anyhow::Result<Heard> {
        let frame: Value = serde_json::from_str(text)?;
        if let Some(text) = frame["message"]["payload"]["text"].as_str() {
            let cursor = match frame["epoch"].as_str() {
                Some(epoch) => format!("{epoch}:{}", frame["offset"]),
                None => String::new(),
            };
            return Ok(Heard::Event {
                name: self.name.clone(),
                text: text.to_owned(),
                cursor,
            });
        }
        Ok(match frame["type"].as_str() {
            Some("confirm_subscription") => Heard::Open(None),
            Some("reject_subscription") => Heard::Refused(text.to_owned()),
            // Its client then reloads: here, by starting anew.
            Some("reject_history") => {
                self.over = true;
                Heard::Lost(None)
            }
            Some("disconnect") => match frame["reason"].as_str() {
                Some("server_restart") => Heard::ComeBack,
                // It comes back with its position and hears what became of it.
                Some("remote") => {
                    self.over = true;
                    Heard::Lost(None)
                }
                _ => Heard::Refused(text.to_owned()),
            },
            _ => Heard::Nothing,
        })
    }
}
