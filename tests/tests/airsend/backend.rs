//! Instances with the dialect, an issuer's key, and the backend that publishes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_adapter::jwt::{Algorithm, SigningKey};
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::Instance;
use tidings_tests::http::{self, Answer};

/// The backend's key.
pub(crate) const KEY: &str = "the backend's key";

/// Presence with the hub's defaults: a lease of 10 s.
pub(crate) const USUAL: &str = "";

/// A lease of 3 s, for what is not about how long it is.
pub(crate) const QUICK: &str =
    "[instance]\nbeat_every = \"800ms\"\nlease = \"3s\"\nsweep_every = \"250ms\"\n";

/// Instances on one Redis.
pub(crate) struct Backend {
    pub(crate) instances: Vec<Instance>,
    mounts: Vec<PortLease>,
    issuer: Issuer,
}

/// Who makes bearers: another server than the hub, as with an existing backend.
struct Issuer {
    key: SigningKey,
    folder: TempDir,
}

impl Issuer {
    fn new() -> Result<Self> {
        let (key, _) = SigningKey::generate(Algorithm::Es256)?;
        let folder = TempDir::new()?;
        let keys = json!({ "keys": [key.public_jwk()?] }).to_string();
        std::fs::write(folder.path().join("keys.json"), keys)?;
        Ok(Self { key, folder })
    }

    fn bearer(&self, user: u64) -> Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let claims = json!({"sub": user.to_string(), "exp": now.as_secs() + 3600});
        let kid = self.key.kid();
        Ok(self.key.sign(&claims, kid.as_deref())?)
    }
}

impl Backend {
    /// Two instances.
    pub(crate) async fn start(redis: &str, server: &str) -> Result<Self> {
        Self::with(redis, &[server, server], "").await
    }

    /// An instance for each of these configurations; `options` are lines for `[adapters.airsend]`.
    pub(crate) async fn with(redis: &str, servers: &[&str], options: &str) -> Result<Self> {
        let issuer = Issuer::new()?;
        let mounts: Vec<PortLease> = servers
            .iter()
            .map(|_| PortLease::take())
            .collect::<Result<_>>()?;
        let keys = issuer.folder.path().join("keys.json");
        let starts = servers.iter().zip(&mounts).map(|(server, mount)| {
            let config = config(server, mount.address(), &keys, options);
            async move { Instance::start(&["--redis", redis], &config).await }
        });
        let instances = futures_util::future::try_join_all(starts).await?;
        Ok(Self {
            instances,
            mounts,
            issuer,
        })
    }

    /// Where the dialect of an instance listens.
    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.mounts[at].address()
    }

    /// Users 1 to `count`.
    pub(crate) async fn users(&self, count: u64) -> Result<()> {
        for id in 1..=count {
            let user = json!({"id": id, "email": format!("u{id}@example.com"), "display_name": format!("User {id}")});
            self.op(0, "user.upsert", user).await?;
        }
        Ok(())
    }

    pub(crate) async fn channel(&self, id: u64, members: &[u64]) -> Result<()> {
        let channel =
            json!({"id": id, "channel_name": format!("Channel {id}"), "created_by": members[0]});
        let data = json!({"channel": channel, "member_ids": members});
        self.op(0, "channel.create", data).await.map(drop)
    }

    /// Posts; answers with the message's id.
    pub(crate) async fn post(&self, at: usize, channel: u64, user: u64, text: &str) -> Result<u64> {
        let message = json!({"channel_id": channel, "user_id": user, "content": text});
        let result = self.op(at, "message.post", json!({ "message": message }));
        result.await?["message_id"].as_u64().context("an id")
    }

    /// Performs an operation, which succeeds; its result.
    pub(crate) async fn op(&self, at: usize, op: &str, data: Value) -> Result<Value> {
        let answer = self.publish(at, &json!({"op": op, "data": data})).await?;
        ensure!(answer.status == 200, "{op}: {answer:?}");
        Ok(parsed(&answer)["result"].take())
    }

    /// Asks for an operation; the answer, whatever it is.
    pub(crate) async fn publish(&self, at: usize, body: &Value) -> Result<Answer> {
        let bearer = format!("Bearer {KEY}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let path = "/api/v1/internal/rtm.publish";
        http::send(self.address(at), "POST", path, &headers, body.to_string()).await
    }

    /// A user's bearer, as the issuer makes it.
    pub(crate) fn bearer(&self, user: u64) -> Result<String> {
        self.issuer.bearer(user)
    }

    /// A user's `ws_token`, as an instance makes it.
    pub(crate) async fn token(&self, at: usize, user: u64) -> Result<String> {
        let bearer = format!("Bearer {}", self.issuer.bearer(user)?);
        let headers = [("authorization", bearer.as_str())];
        let answer = http::send(self.address(at), "GET", "/api/v1/rtm.connect", &headers, "");
        let answer = answer.await?;
        ensure!(answer.status == 200, "{answer:?}");
        let token = parsed(&answer)["rtm"]["ws_token"].take();
        Ok(token.as_str().context("a token")?.to_owned())
    }

    /// A number of the metrics of an instance, over all labels.
    pub(crate) async fn metric(&self, at: usize, name: &str) -> Result<f64> {
        let answer = self.instances[at].send("GET", "/metrics", &[], "").await?;
        let text = String::from_utf8(answer.body.to_vec())?;
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        lines
            .filter_map(|line| line.rsplit(' ').next())
            .map(|number| Ok(number.parse::<f64>()?))
            .sum()
    }

    /// What all have printed, for a failure.
    pub(crate) fn printed(&self) -> String {
        let printed: Vec<String> = self.instances.iter().map(Instance::printed).collect();
        printed.join("\n--\n")
    }
}

fn config(server: &str, mount: SocketAddr, keys: &Path, options: &str) -> String {
    format!(
        "{server}\n[adapters.airsend]\nsecret = \"a secret of the tests: 32 bytes and more\"\n\
         ingest_key = \"{KEY}\"\nlogin = false\nbearer_jwks_file = {keys:?}\n\
         connects_per_minute = 10000\n{options}\n[adapters.airsend.mount]\nlisten = \"{mount}\"\n"
    )
}

pub(crate) fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

/// A Redis whose data survive it.
pub(crate) async fn durable() -> Result<RedisServer> {
    RedisServer::builder().append_only().start().await
}

/// How long silence is watched.
pub(crate) const SILENCE: Duration = Duration::from_millis(800);
