//! What the tests share: an issuer, an adapter that trusts it, and a client that speaks the protocol.
#![expect(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidings_adapter::jwt::{Algorithm, SigningKey};
use tidings_adapter_zaikio::{Zaikio, ZaikioOptions};
use tidings_testkit::adapter_exam::wire::{Answer, Frame, Message, Request, WebSocket, send};
use tidings_testkit::adapter_exam::{Cluster, Logs, Setup};
use uuid::Uuid;

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// An issuer of tokens. Its key is made once for each test binary.
pub(crate) struct Issuer {
    pub(crate) key: SigningKey,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let (key, _) = SigningKey::generate(Algorithm::Rs256).expect("a key");
        let folder = tempfile::tempdir().expect("a folder");
        let jwks = json!({ "keys": [key.public_jwk().expect("a public key")] });
        std::fs::write(folder.path().join("keys.json"), jwks.to_string()).expect("written");
        Issuer { key, folder }
    })
}

pub(crate) fn jwks_file() -> PathBuf {
    issuer().folder.path().join("keys.json")
}

pub(crate) fn unix() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// The organisation behind a name.
pub(crate) fn org(name: &str) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(name).into();
    let half: [u8; 16] = hash[..16].try_into().expect("half of it");
    uuid::Builder::from_random_bytes(half).into_uuid()
}

pub(crate) fn claims(name: &str) -> Value {
    json!({
        "iss": "ZAI",
        "sub": format!("Organization/{}", org(name)),
        "aud": ["my_app/laptop"],
        "jti": Uuid::new_v4().to_string(),
        // The exam puts the clock forward by hours.
        "exp": unix() + 24 * 3600,
        "scope": ["zaikio.jobs.r"],
    })
}

pub(crate) fn mint(claims: &Value) -> String {
    let key = &issuer().key;
    key.sign(claims, key.kid().as_deref()).expect("signed")
}

pub(crate) fn token(name: &str) -> String {
    mint(&claims(name))
}

/// An app `exam` that publishes, and an app `my_app` that receives.
pub(crate) fn adapter(changes: impl FnOnce(&mut ZaikioOptions)) -> Zaikio {
    let mut options: ZaikioOptions = serde_json::from_value(json!({
        "jwks_file": jwks_file(),
        "issuer": "ZAI",
        "apps": {
            "exam": {"password": "secret", "provides": ["said", "done", "hidden"]},
            "other": {"password": "secret", "provides": ["said"]},
            "my_app": {"password": "mine", "subscriptions": ["exam.said", "exam.done", "other.said"]},
        },
    }))
    .expect("good options");
    changes(&mut options);
    Zaikio::new(options).expect("a good adapter")
}

pub(crate) fn basic(app: &str, password: &str) -> String {
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{app}:{password}"));
    format!("Basic {both}")
}

/// An event as a publisher makes it.
pub(crate) fn event(id: Uuid, org_name: &str, event: &str, text: &str) -> Value {
    json!({
        "id": id.to_string(),
        "timestamp": "2026-01-01T01:00:00+01:00",
        "name": event,
        "subject": format!("Org/{}", org(org_name)),
        "version": "1.0",
        "payload": {"text": text},
    })
}

pub(crate) fn post(body: impl ToString) -> Request {
    Request::post("/api/v1/events", body.to_string())
        .header("content-type", "application/json")
        .header("authorization", basic("exam", "secret"))
}

pub(crate) async fn publish(
    at: SocketAddr,
    org_name: &str,
    name: &str,
    text: &str,
) -> Result<Uuid> {
    let id = Uuid::new_v4();
    let body = json!({ "event": event(id, org_name, name, text) });
    let answer: Answer = send(at, &post(body)).await?;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.text());
    Ok(id)
}

/// Two instances over a log in memory, or on the Redis that `TIDINGS_EXAM_REDIS` names.
pub(crate) async fn cluster(changes: impl Fn(&mut ZaikioOptions)) -> Result<Cluster> {
    let setup = Setup {
        logs: Logs::from_env(),
        ..Setup::default()
    };
    Cluster::start(|| Box::new(adapter(&changes)), setup).await
}

/// A client on a websocket.
pub(crate) struct Cable {
    socket: WebSocket,
    /// The identifier that `subscribe` used last.
    pub(crate) identifier: String,
}

pub(crate) fn identifier(events: &str) -> String {
    json!({ "channel": "EventChannel", "events": events }).to_string()
}

impl Cable {
    pub(crate) async fn open(at: SocketAddr, request: &Request) -> Result<Self> {
        match WebSocket::open(at, request).await? {
            Ok(socket) => Ok(Self {
                socket,
                identifier: String::new(),
            }),
            Err(answer) => bail!("not upgraded: {} {}", answer.status, answer.text()),
        }
    }

    /// Connects, and is welcomed.
    pub(crate) async fn connect(at: SocketAddr, token: &str, protocol: &str) -> Result<Self> {
        let mut request =
            Request::get("/websocket").header("authorization", format!("Bearer {token}"));
        if !protocol.is_empty() {
            request = request.header("sec-websocket-protocol", protocol);
        }
        let mut cable = Self::open(at, &request).await?;
        cable.expect(&json!({"type": "welcome"})).await?;
        Ok(cable)
    }

    pub(crate) async fn say(&mut self, command: &Value) -> Result<()> {
        self.text(command.to_string()).await
    }

    pub(crate) async fn text(&mut self, text: impl Into<String>) -> Result<()> {
        self.socket.send(Message::Text(text.into())).await
    }

    pub(crate) async fn raw(&mut self, message: Message) -> Result<()> {
        self.socket.send(message).await
    }

    /// Subscribes, and is confirmed.
    pub(crate) async fn subscribe(&mut self, identifier: &str) -> Result<()> {
        self.identifier = identifier.to_owned();
        self.say(&json!({"command": "subscribe", "identifier": identifier}))
            .await?;
        self.expect(&json!({"identifier": identifier, "type": "confirm_subscription"}))
            .await
    }

    /// The next frame, pings too.
    pub(crate) async fn frame(&mut self) -> Result<Frame> {
        let next = tokio::time::timeout(SOON, self.socket.next()).await;
        next.context("a client waits in vain")
    }

    /// The next frame that is no ping.
    pub(crate) async fn hear(&mut self) -> Result<Value> {
        loop {
            match self.frame().await? {
                Frame::Message(Message::Text(text)) => {
                    let json: Value = serde_json::from_str(&text)?;
                    if json["type"] != "ping" {
                        return Ok(json);
                    }
                }
                other => bail!("instead of a frame a client hears {other:?}"),
            }
        }
    }

    pub(crate) async fn expect(&mut self, frame: &Value) -> Result<()> {
        let heard = self.hear().await?;
        ensure!(heard == *frame, "expecting {frame}, a client hears {heard}");
        Ok(())
    }

    /// The next frame is an event; its text, and all of it.
    pub(crate) async fn event(&mut self) -> Result<(String, Value)> {
        let heard = self.hear().await?;
        let text = heard["message"]["payload"]["text"].as_str();
        let text = text.with_context(|| format!("instead of an event: {heard}"))?;
        Ok((text.to_owned(), heard.clone()))
    }

    pub(crate) async fn expect_texts(&mut self, texts: &[&str]) -> Result<()> {
        for text in texts {
            let (heard, _) = self.event().await?;
            ensure!(
                heard == *text,
                "expecting {texts:?}, at {text} a client hears {heard}"
            );
        }
        Ok(())
    }

    /// The server closes, with this code.
    pub(crate) async fn expect_close(&mut self) -> Result<u16> {
        loop {
            match self.frame().await? {
                Frame::Close(code, _) => return Ok(code),
                Frame::Message(Message::Text(text)) if text.contains("\"ping\"") => {}
                other => bail!("instead of a close a client hears {other:?}"),
            }
        }
    }

    /// Everything that was said before is done: what was heard until then.
    pub(crate) async fn barrier(&mut self) -> Result<Vec<Value>> {
        self.say(&json!({"command": "history", "identifier": "barrier", "history": {}}))
            .await?;
        let mut heard = Vec::new();
        loop {
            let frame = self.hear().await?;
            if frame["identifier"] == "barrier" {
                return Ok(heard);
            }
            heard.push(frame);
        }
    }
}
