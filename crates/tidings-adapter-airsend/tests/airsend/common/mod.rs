//! What the tests share: a backend, clients, and what each hears.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidings_adapter::jwt::SigningKey;
use tidings_adapter_airsend::{Airsend, AirsendOptions};
use tidings_testkit::adapter_exam::wire::{Answer, Frame, Message, Request, WebSocket, send};
use tidings_testkit::adapter_exam::{Cluster, Logs, Setup};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How long silence is watched.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

pub(crate) const SECRET: &str = "a secret of the tests: 32 bytes and more";
pub(crate) const KEY: &str = "the backend's key";

pub(crate) fn adapter(changes: impl FnOnce(&mut AirsendOptions)) -> Airsend {
    let mut options: AirsendOptions =
        serde_json::from_value(json!({"secret": SECRET, "ingest_key": KEY})).expect("good options");
    changes(&mut options);
    Airsend::new(options).expect("a good adapter")
}

pub(crate) async fn cluster(changes: impl Fn(&mut AirsendOptions)) -> Result<Cluster> {
    let setup = Setup {
        logs: Logs::from_env(),
        ..Setup::default()
    };
    Cluster::start(|| Box::new(adapter(&changes)), setup).await
}

/// The backend's request.
pub(crate) fn operation(op: &str, data: Value, key: Option<&str>) -> Request {
    let mut body = json!({"op": op, "data": data});
    if let Some(key) = key {
        body["idempotency_key"] = key.into();
    }
    Request::post("/api/v1/internal/rtm.publish", body.to_string())
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {KEY}"))
}

/// Anything in an operation's place.
pub(crate) fn operation_of(body: &str) -> Request {
    Request {
        body: body.to_owned().into(),
        ..operation("", Value::Null, None)
    }
}

/// What `message.post` takes.
pub(crate) fn post_of(channel: u64, user: u64, content: &str) -> Value {
    json!({"message": {"channel_id": channel, "user_id": user, "content": content}})
}

pub(crate) fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text()).unwrap_or(Value::Null)
}

/// Performs an operation, which succeeds; its result.
pub(crate) async fn op(at: SocketAddr, op: &str, data: Value) -> Result<Value> {
    let answer = send(at, &operation(op, data, None)).await?;
    ensure!(
        answer.status == 200,
        "{op}: {} {}",
        answer.status,
        answer.text()
    );
    Ok(parsed(&answer)["result"].take())
}

/// Performs an operation that is refused; the status.
pub(crate) async fn refused(at: SocketAddr, op: &str, data: Value) -> Result<u16> {
    let answer = send(at, &operation(op, data, None)).await?;
    ensure!(parsed(&answer)["meta"]["ok"] == false, "{}", answer.text());
    ensure!(
        parsed(&answer)["meta"]["error"].is_string(),
        "{}",
        answer.text()
    );
    Ok(answer.status)
}

/// Users 1 to `count` with the password `secret`.
pub(crate) async fn users(at: SocketAddr, count: u64) -> Result<()> {
    for id in 1..=count {
        let user = json!({"id": id, "email": format!("u{id}@example.com"), "display_name": format!("User {id}"), "password": "secret"});
        op(at, "user.upsert", user).await?;
    }
    Ok(())
}

/// A user without a password, which takes its time.
pub(crate) async fn upsert(at: SocketAddr, id: u64) -> Result<()> {
    let user = json!({"id": id, "email": format!("u{id}@example.com"), "display_name": format!("User {id}")});
    op(at, "user.upsert", user).await?;
    Ok(())
}

/// A token like those of `rtm.connect`, good for years, with a finger print of its own.
pub(crate) fn minted(user: u64) -> String {
    let print: String = (0..12)
        .map(|_| char::from(b'a' + rand::random::<u8>() % 26))
        .collect();
    minted_as(user, &print, "2099-01-01 00:00:00")
}

pub(crate) fn minted_as(user: u64, finger_print: &str, expiry: &str) -> String {
    let claims = json!({"user_id": user, "finger_print": finger_print, "expiry": expiry});
    let key = SigningKey::secret(SECRET.as_bytes()).expect("long enough");
    key.sign(&claims, None).expect("signed")
}

pub(crate) async fn channel(at: SocketAddr, id: u64, members: &[u64]) -> Result<()> {
    let data = json!({"channel": {"id": id, "channel_name": format!("Channel {id}"), "created_by": members[0]}, "member_ids": members});
    op(at, "channel.create", data).await?;
    Ok(())
}

pub(crate) async fn post(at: SocketAddr, channel: u64, user: u64, text: &str) -> Result<u64> {
    let message = json!({"channel_id": channel, "user_id": user, "content": text});
    let result = op(at, "message.post", json!({ "message": message })).await?;
    result["message_id"].as_u64().context("an id")
}

pub(crate) async fn login(at: SocketAddr, user: u64) -> Result<String> {
    let body = format!("user=u{user}%40example.com&password=secret");
    let request = Request::post("/api/v1/user.login", body)
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = send(at, &request).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(parsed(&answer)["token"]
        .as_str()
        .context("a token")?
        .to_owned())
}

pub(crate) async fn ws_token(at: SocketAddr, user: u64) -> Result<String> {
    let bearer = login(at, user).await?;
    let request =
        Request::get("/api/v1/rtm.connect").header("authorization", format!("Bearer {bearer}"));
    let answer = send(at, &request).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(parsed(&answer)["rtm"]["ws_token"]
        .as_str()
        .context("a token")?
        .to_owned())
}

/// A client on a websocket.
pub(crate) struct Rtm {
    socket: WebSocket,
    /// The last `event_id` that it heard.
    pub(crate) cursor: String,
}

impl Rtm {
    /// Connects, and says nothing.
    pub(crate) async fn open(at: SocketAddr) -> Result<Self> {
        match WebSocket::open(at, &Request::get("/")).await? {
            Ok(socket) => Ok(Self {
                socket,
                cursor: String::new(),
            }),
            Err(answer) => bail!("not upgraded: {} {}", answer.status, answer.text()),
        }
    }

    /// Connects with a token, as clients of old do, and waits until it is served.
    pub(crate) async fn with(at: SocketAddr, token: &str) -> Result<Self> {
        let (client, hello) = Self::hello(at, token, None).await?;
        ensure!(hello["resumed"] == false, "{hello}");
        Ok(client)
    }

    /// Connects as a user.
    pub(crate) async fn user(at: SocketAddr, user: u64) -> Result<Self> {
        Self::with(at, &ws_token(at, user).await?).await
    }

    /// Connects with `ack`, perhaps with a cursor; and the hello.
    pub(crate) async fn hello(
        at: SocketAddr,
        token: &str,
        cursor: Option<&str>,
    ) -> Result<(Self, Value)> {
        let mut client = Self::open(at).await?;
        let mut auth = json!({"command": "ws_auth", "auth_token": token, "ack": true});
        if let Some(cursor) = cursor {
            auth["resume"] = json!({"last_event_id": cursor});
        }
        client.say(&auth).await?;
        let hello = client.next().await?;
        ensure!(hello["event"] == "system.hello", "{hello}");
        let payload = hello["payload"].clone();
        client.cursor = payload["last_event_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok((client, payload))
    }

    pub(crate) async fn say(&mut self, command: &Value) -> Result<()> {
        self.raw(Message::Text(command.to_string())).await
    }

    pub(crate) async fn raw(&mut self, message: Message) -> Result<()> {
        self.socket.send(message).await
    }

    /// What comes next, whatever it is.
    pub(crate) async fn frame(&mut self) -> Frame {
        self.socket.next().await
    }

    /// The next frame, presence too.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        let frame = tokio::time::timeout(SOON, self.socket.next()).await;
        match frame.context("a client waits in vain")? {
            Frame::Message(Message::Text(text)) => self.take(&text),
            other => bail!("instead of a frame a client hears {other:?}"),
        }
    }

    fn take(&mut self, text: &str) -> Result<Value> {
        let frame: Value = serde_json::from_str(text)?;
        // X01: every frame has a valid envelope.
        let pong = frame == json!({"event": "pong"});
        let good = frame["meta"]["api"] == "v1" && frame["event"].is_string();
        ensure!(pong || (good && frame["payload"].is_object()), "{frame}");
        if let Some(id) = frame["meta"]["event_id"].as_str() {
            id.clone_into(&mut self.cursor);
        }
        Ok(frame)
    }

    /// The next frame that is not about presence.
    pub(crate) async fn hear(&mut self) -> Result<Value> {
        loop {
            let frame = self.next().await?;
            let name = frame["event"].as_str().unwrap_or_default();
            if !matches!(name, "user.online" | "user.offline") {
                return Ok(frame);
            }
        }
    }

    /// The next frame is this event; its payload.
    pub(crate) async fn expect(&mut self, event: &str) -> Result<Value> {
        let mut frame = self.hear().await?;
        ensure!(
            frame["event"] == event,
            "expecting {event}, a client hears {frame}"
        );
        Ok(frame["payload"].take())
    }

    /// The next frame is a message with this text.
    pub(crate) async fn expect_text(&mut self, text: &str) -> Result<Value> {
        let mut payload = self.expect("chat.postMessage").await?;
        ensure!(
            payload["message"]["content"] == text,
            "expecting {text}: {payload}"
        );
        Ok(payload["message"].take())
    }

    /// What was asked before is done, and nothing else was heard.
    pub(crate) async fn expect_nothing(&mut self) -> Result<()> {
        match tokio::time::timeout(SILENCE, self.hear()).await {
            Err(_) => Ok(()),
            Ok(frame) => bail!("instead of silence a client hears {:?}", frame?),
        }
    }

    /// The server closes, with this code.
    pub(crate) async fn expect_close(&mut self) -> Result<u16> {
        loop {
            let frame = tokio::time::timeout(SOON, self.socket.next()).await;
            match frame.context("a client is not closed")? {
                Frame::Close(code, _) => return Ok(code),
                Frame::Message(_) => {}
                Frame::Ended => return Ok(1006),
            }
        }
    }
}
