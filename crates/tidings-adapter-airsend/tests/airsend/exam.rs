//! The adapter sits the exam that every adapter passes: with clients that follow channels, whose
//! events stand in the log, and with clients that follow what is published to a user.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::{Adapter, BoxFuture, Draft, Topic};
use tidings_testkit::adapter_exam::wire::{Frame, Message, Request, send};
use tidings_testkit::adapter_exam::{
    Bad, Client, Dialect, Features, Heard, Logs, Place, Published, run,
};
use tidings_testkit::servers::RedisServer;

use crate::common::{Rtm, adapter, minted, op, operation, operation_of, post_of, upsert};

mod channels {
    tidings_testkit::adapter_exam!(super::Protocol::new(super::Follows::Channels));
}

mod users {
    tidings_testkit::adapter_exam!(super::Protocol::new(super::Follows::Users));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_exam_on_redis() -> Result<()> {
    let redis = RedisServer::start().await?;
    for follows in [Follows::Channels, Follows::Users] {
        let logs = Logs::Redis(redis.url());
        run(&Protocol { follows, logs }, "").await?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    Channels,
    Users,
}

struct Protocol {
    follows: Follows,
    logs: Logs,
}

/// A number for a name, the same in every process.
fn number(name: &str) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    1 + name.bytes().fold(0xcbf2_9ce4_8422_2325, hash) % 1_000_000_000
}

impl Protocol {
    fn new(follows: Follows) -> Self {
        let logs = Logs::from_env();
        Self { follows, logs }
    }

    /// A user of these channels: those that are not there are made.
    async fn member(at: SocketAddr, names: &[&str]) -> Result<u64> {
        let user = 1_000_000_001 + u64::from(rand::random::<u32>());
        upsert(at, user).await?;
        for name in names {
            let channel = number(name);
            let add = json!({"channel_id": channel, "user_id": user});
            let answer = send(at, &operation("channel.add_user", add.clone(), None)).await?;
            if answer.status == 404 {
                let create = json!({"channel": {"id": channel}, "member_ids": [user]});
                let created = send(at, &operation("channel.create", create, None)).await?;
                if created.status == 200 {
                    continue;
                }
                op(at, "channel.add_user", add).await?;
            } else {
                ensure!(answer.status == 200, "{}", answer.text());
            }
        }
        Ok(user)
    }
}

impl Dialect for Protocol {
    fn features(&self) -> Features {
        Features {
            publishes: self.follows == Follows::Users,
            greets: true,
            history: false,
            resumes: true,
            several: self.follows == Follows::Channels,
            frames: true,
            farewell: true,
        }
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        Box::new(adapter(|options| options.connects_per_minute = 1_000))
    }

    fn logs(&self) -> Logs {
        self.logs.clone()
    }

    fn topic(&self, name: &str) -> Topic {
        let whose = match self.follows {
            Follows::Channels => "channel",
            Follows::Users => "user",
        };
        Topic::parse(&format!("airsend/{whose}/{}", number(name))).expect("a topic")
    }

    fn draft(&self, name: &str, text: &str) -> Draft {
        let payload = json!({"name": name, "text": text});
        Draft::new(self.topic(name), "exam.said", payload.to_string())
    }

    fn publish<'a>(
        &'a self,
        at: SocketAddr,
        name: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<Published>> {
        Box::pin(async move {
            let user = number(name);
            let data = json!({
                "event": "exam.said",
                "payload": {"name": name, "text": text},
                "audience": {"user_ids": [user]},
            });
            let request = operation("event.emit", data, None);
            let mut answer = send(at, &request).await?;
            if answer.status == 404 {
                upsert(at, user).await?;
                answer = send(at, &request).await?;
            }
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
    ) -> BoxFuture<'a, Result<Box<dyn Client>>> {
        Box::pin(async move {
            let (user, cursor) = match from {
                Place::After(place) => match place.split_once(':') {
                    Some((user, cursor)) => (user.parse().ok(), Some(cursor)),
                    None => (None, Some(place.as_str())),
                },
                Place::Newest | Place::Oldest => (None, None),
            };
            let user = match (user, self.follows) {
                (Some(user), _) => user,
                (None, Follows::Channels) => Self::member(at, names).await?,
                (None, Follows::Users) => {
                    let user = number(&names.concat());
                    upsert(at, user).await?;
                    user
                }
            };
            let mut rtm = Rtm::open(at).await?;
            let mut auth = json!({"command": "ws_auth", "auth_token": minted(user), "ack": true});
            if let Some(cursor) = cursor {
                auth["resume"] = json!({"last_event_id": cursor});
            }
            rtm.say(&auth).await?;
            let over = false;
            Ok(Box::new(Follower { rtm, user, over }) as Box<dyn Client>)
        })
    }

    fn bad(&self) -> Vec<Bad> {
        let text = |text: &str| Message::Text(text.to_owned());
        let wrong = |op: &str, data: Value| operation(op, data, None);
        let mut other = operation("message.post", json!({}), None);
        other.headers[1].1 = "Bearer wrong".to_owned();
        let form = "application/x-www-form-urlencoded";
        let login = |body: &'static str| {
            Request::post("/api/v1/user.login", body).header("content-type", form)
        };
        vec![
            Bad::request("no JSON", operation_of("{"), 400, "not JSON"),
            Bad::request("no object", operation_of("[]"), 400, "no object"),
            Bad::request("no op", operation_of("{}"), 400, "`op` is missing"),
            Bad::request("no such op", wrong("what", json!({})), 400, "unknown `op`"),
            Bad::request("another's key", other, 401, "unauthorized"),
            Bad::request(
                "no message",
                wrong("message.post", json!({})),
                400,
                "`message` is missing",
            ),
            Bad::request(
                "no channel",
                wrong("message.post", post_of(0, 1, "x")),
                400,
                "channel_id",
            ),
            Bad::request(
                "an unknown channel",
                wrong("message.post", post_of(999, 1, "x")),
                404,
                "unknown channel",
            ),
            Bad::request(
                "too large",
                operation_of(&"x".repeat(300_000)),
                413,
                "large",
            ),
            Bad::request("no user", login("password=x"), 422, "`user` is missing"),
            Bad::request("nobody", login("user=x&password=x"), 401, "wrong user"),
            Bad::request(
                "no bearer",
                Request::get("/api/v1/rtm.connect"),
                401,
                "unauthorized",
            ),
            Bad::request(
                "no bearer to ping with",
                Request::post("/api/v1/system.ping", "{}"),
                401,
                "unauthorized",
            ),
            Bad::request("no upgrade", Request::get("/"), 426, "websocket"),
            Bad::frame("no JSON", text("{'command':'ws_ping'}"), "4002"),
            Bad::frame("no object", text("[]"), "4002"),
            Bad::frame("no command", text("{}"), "4002"),
            Bad::frame("unknown", text(r#"{"command":"what"}"#), "4001"),
            Bad::frame("binary", Message::Binary("{}".into()), "4002"),
            Bad::frame(
                "another's token",
                text(r#"{"command":"ws_auth","auth_token":"x"}"#),
                "4004",
            ),
        ]
    }

    fn requests(&self) -> Vec<Request> {
        let user = json!({"id": 7, "email": "fuzz@example.com", "display_name": "Fuzz"});
        vec![
            operation("user.upsert", user, None),
            operation(
                "channel.create",
                json!({"channel": {"id": 7}, "member_ids": [7]}),
                Some("k"),
            ),
            operation("message.post", post_of(7, 7, "text"), None),
            operation(
                "event.emit",
                json!({"event": "x", "payload": {}, "audience": {"user_ids": [7]}, "retained": false}),
                None,
            ),
            operation(
                "alert.notify",
                json!({"user_id": 7, "from": [7], "alert_text": "x", "channel_id": 7}),
                None,
            ),
            Request::post(
                "/api/v1/user.login",
                r#"{"user":"fuzz@example.com","password":"x"}"#,
            )
            .header("content-type", "application/json"),
            Request::get("/api/v1/rtm.connect?rtm_endpoint=ws://a")
                .header("authorization", format!("Bearer {}", minted(7))),
            Request::get("/")
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]
    }
}

struct Follower {
    rtm: Rtm,
    user: u64,
    over: bool,
}

impl Client for Follower {
    fn next(&mut self) -> BoxFuture<'_, Result<Heard>> {
        Box::pin(async move {
            if self.over {
                return Ok(Heard::Ended { clean: true });
            }
            Ok(match self.rtm.frame().await {
                Frame::Message(Message::Text(text)) => self.heard(&text)?,
                Frame::Message(Message::Binary(_)) => Heard::Nothing,
                Frame::Close(1001, _) => Heard::ComeBack,
                // It comes back with its place, and hears what became of it.
                Frame::Close(1012, _) => self.lost(),
                Frame::Close(code, reason) => Heard::Refused(format!("{code} {reason}")),
                Frame::Ended => Heard::Ended { clean: false },
            })
        })
    }

    fn send(&mut self, frame: Message) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.rtm.raw(frame))
    }
}

impl Follower {
    /// What a client then does is to load everything by HTTP, and to begin anew.
    fn lost(&mut self) -> Heard {
        self.over = true;
        Heard::Lost(None)
    }

    fn heard(&mut self, text: &str) -> Result<Heard> {
        let frame: Value = serde_json::from_str(text)?;
        let place = |id: &Value| {
            let id = id.as_str().context("a place")?;
            anyhow::Ok(format!("{}:{id}", self.user))
        };
        let payload = &frame["payload"];
        Ok(match frame["event"].as_str() {
            Some("exam.said") => Heard::Event {
                name: payload["name"].as_str().unwrap_or_default().to_owned(),
                text: payload["text"].as_str().unwrap_or_default().to_owned(),
                cursor: place(&frame["meta"]["event_id"])?,
            },
            Some("system.hello") if payload["gap"] == true => self.lost(),
            Some("system.hello") => Heard::Open(Some(place(&payload["last_event_id"])?)),
            _ => Heard::Nothing,
        })
    }
}
