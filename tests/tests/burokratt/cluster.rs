//! Two instances with the dialect, one Redis, and what agents, end users and backends post.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::Instance;
use tidings_tests::http::{self, Answer};

/// Streams come back at once, so that nobody waits for nothing; a test that is about the time itself sets its own.
pub(crate) const QUICK: &str = "retry = \"200ms\"\n";

pub(crate) struct Cluster {
    pub(crate) redis: RedisServer,
    pub(crate) instances: [Instance; 2],
    mounts: [PortLease; 2],
}

impl Cluster {
    /// Starts it without authentication; `options` are lines for `[adapters.burokratt]`.
    pub(crate) async fn start(options: &str) -> Result<Self> {
        Self::with(&format!("auth = \"off\"\n{options}")).await
    }

    /// Starts it; `options` are all lines of `[adapters.burokratt]`.
    pub(crate) async fn with(options: &str) -> Result<Self> {
        let redis = RedisServer::builder().append_only().start().await?;
        let config = |mount| {
            format!(
                "[adapters.burokratt]\n{options}\n[adapters.burokratt.mount]\nlisten = \"{mount}\"\n"
            )
        };
        let (instances, mounts) = Instance::mounted(&["--redis", &redis.url()], config).await?;
        Ok(Self {
            redis,
            instances,
            mounts,
        })
    }

    /// Where the dialect of an instance listens.
    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.mounts[at].address()
    }

    /// The base address of an instance's dialect.
    pub(crate) fn hub(&self, at: usize) -> String {
        format!("http://{}", self.address(at))
    }

    /// Posts through one of the instances; answers whatever the status.
    pub(crate) async fn send(&self, at: usize, path: &str, body: &Value) -> Result<Answer> {
        let headers = [("content-type", "application/json")];
        http::send(self.address(at), "POST", path, &headers, body.to_string()).await
    }

    /// Posts through one of the instances; what stands under the one key of the answer.
    pub(crate) async fn post(&self, at: usize, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send(at, path, body).await?;
        let said = || format!("{path}: {} {:?}", answer.status, answer.body);
        ensure!(answer.status == 200, said());
        value(&answer).with_context(said)
    }

    /// Gets through one of the instances.
    pub(crate) async fn get(&self, at: usize, path: &str) -> Result<Value> {
        let answer = http::send(self.address(at), "GET", path, &[], "").await?;
        let said = || format!("{path}: {} {:?}", answer.status, answer.body);
        ensure!(answer.status == 200, said());
        value(&answer).with_context(said)
    }

    /// A chat that an end user began; answers with its id.
    pub(crate) async fn chat(&self, at: usize) -> Result<String> {
        let body = json!({
            "message": {"content": "hello", "authorTimestamp": "2026-11-21T10:00:00.000Z", "authorRole": "end-user"},
            "endUserTechnicalData": {"endUserOs": "test", "endUserUrl": "https://example.ee"},
        });
        let chat = self.post(at, "/init-chat", &body).await?;
        Ok(chat["id"].as_str().context("an id")?.to_owned())
    }

    /// The end user says something; answers with the message's id.
    pub(crate) async fn say(&self, at: usize, chat: &str, content: &str) -> Result<String> {
        let message = self.post(at, "/post-message", &said(chat, content)).await?;
        Ok(message["id"].as_str().context("an id")?.to_owned())
    }

    /// The agent says something.
    pub(crate) async fn answer(&self, at: usize, chat: &str, content: &str) -> Result<()> {
        let body = json!({
            "chatId": chat, "authorId": "EE30303039914", "authorFirstName": "Mari", "authorRole": "backoffice-user",
            "authorTimestamp": "2026-11-21T10:00:01.000Z", "content": content, "event": "",
        });
        self.post(at, "/cs-post-message", &body).await?;
        Ok(())
    }

    /// The end user leaves.
    pub(crate) async fn end(&self, at: usize, chat: &str) -> Result<()> {
        let body = json!({
            "chatId": chat, "event": "client-left", "authorTimestamp": "2026-11-21T10:00:02.000Z", "authorRole": "end-user",
        });
        self.post(at, "/end-chat", &body).await?;
        Ok(())
    }

    /// What both have printed, for a failure.
    pub(crate) fn printed(&self) -> String {
        let [a, b] = &self.instances;
        format!("{}\n{}", a.printed(), b.printed())
    }
}

/// An end user's message.
pub(crate) fn said(chat: &str, content: &str) -> Value {
    json!({
        "chatId": chat, "authorRole": "end-user", "authorTimestamp": "2026-11-21T10:00:00.500Z",
        "content": content, "event": "",
    })
}

/// What stands under the one key of an answer of either shape.
fn value(answer: &Answer) -> Result<Value> {
    let mut body = answer.json()?;
    if let Some(response) = body.get_mut("response") {
        return Ok(response.take());
    }
    let data = body["data"].as_object().context("data")?;
    Ok(data.values().next().context("one key")?.clone())
}
