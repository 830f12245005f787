//! Two instances, and a client that calls them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::{From, Limits, PageLimit, Topic};
use tidings_adapter_burokratt::{Burokratt, BurokrattOptions};
use tidings_testkit::adapter_exam::wire::{Answer, Request, send};
use tidings_testkit::adapter_exam::{Cluster, Logs, Setup};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The hub, as a test talks to it.
pub(crate) struct Hub {
    pub(crate) cluster: Cluster,
}

impl Hub {
    /// For everybody, but for what a test changes. On the Redis that `TIDINGS_EXAM_REDIS` names, else
    /// in memory.
    pub(crate) async fn start(changes: Value) -> Result<Self> {
        let mut options = json!({"auth": "off", "origins": ["https://chat.example"]});
        if let (Value::Object(all), Value::Object(changes)) = (&mut options, changes) {
            all.extend(changes);
            all.retain(|_, value| !value.is_null());
        }
        let options: BurokrattOptions = serde_json::from_value(options)?;
        let setup = Setup {
            logs: Logs::from_env(),
            limits: Limits {
                // Not more often than a test is long.
                probe_every: Duration::from_secs(3600),
                ..Limits::default()
            },
            ..Setup::default()
        };
        let adapter = || {
            let adapter = Burokratt::new(options.clone()).expect("good options");
            Box::new(adapter) as Box<dyn tidings_adapter::Adapter>
        };
        let cluster = Cluster::start(adapter, setup).await?;
        Ok(Self { cluster })
    }

    pub(crate) fn at(&self, instance: usize) -> SocketAddr {
        self.cluster.instance(instance).address()
    }

    /// Sends a request to one of the instances.
    pub(crate) async fn send(&self, instance: usize, request: &Request) -> Result<Answer> {
        let answer = tokio::time::timeout(SOON, send(self.at(instance), request)).await;
        answer.context("no answer")?
    }

    /// Posts JSON to one of the instances.
    pub(crate) async fn post(&self, instance: usize, path: &str, body: &Value) -> Result<Answer> {
        self.send(instance, &post(path, body)).await
    }

    /// The JSON of an answer that must be 200.
    pub(crate) async fn posted(&self, instance: usize, path: &str, body: &Value) -> Result<Value> {
        let answer = self.post(instance, path, body).await?;
        good(path, &answer)
    }

    pub(crate) async fn got(&self, instance: usize, path: &str) -> Result<Value> {
        let answer = self.send(instance, &Request::get(path)).await?;
        good(path, &answer)
    }

    /// A new chat; its id.
    pub(crate) async fn chat(&self) -> Result<String> {
        let body = json!({"message": {"content": "hello", "authorRole": "end-user"}});
        let chat = self.posted(0, "/init-chat", &body).await?;
        let id = &chat["data"]["get_inserted_chat"]["id"];
        Ok(id.as_str().context("an id")?.to_owned())
    }

    /// The messages of a chat.
    pub(crate) async fn messages(&self, instance: usize, chat: &str) -> Result<Vec<Value>> {
        let path = format!("/cs-get-messages-by-chat-id?chatId={chat}");
        let answer = self.got(instance, &path).await?;
        let list = &answer["data"]["cs_get_messages_by_chat_id"];
        Ok(list.as_array().context("a list")?.clone())
    }

    /// What the log of a channel holds: kinds and data.
    pub(crate) async fn log(&self, channel: &str) -> Result<Vec<(String, String)>> {
        let topic = Topic::parse(&format!("burokratt/channel/{channel}"))?;
        let hub = self.cluster.instance(0).hub();
        let page = hub.read(&topic, From::Oldest, PageLimit::default()).await?;
        let events = page.events.iter().map(|printed| printed.event());
        let pairs = events.map(|event| {
            let data = String::from_utf8_lossy(&event.data).into_owned();
            (event.kind.to_string(), data)
        });
        Ok(pairs.collect())
    }

    /// The places in the queue, by their estimates.
    pub(crate) async fn places(&self, instance: usize, chats: &[&str]) -> Result<Vec<String>> {
        let mut places = Vec::new();
        for chat in chats {
            let path = format!("/estimated-waiting-time?chatId={chat}");
            let answer = self.got(instance, &path).await?;
            let place = &answer["response"]["positionInUnassignedChats"];
            places.push(place.as_str().context("digits")?.to_owned());
        }
        Ok(places)
    }
}

pub(crate) fn post(path: &str, body: &Value) -> Request {
    Request::post(path, body.to_string()).header("content-type", "application/json")
}

fn good(path: &str, answer: &Answer) -> Result<Value> {
    let text = answer.text();
    ensure!(answer.status == 200, "{path}: {} {text}", answer.status);
    ensure!(
        answer.header("content-type") == "application/json",
        "{path}"
    );
    Ok(serde_json::from_slice(&answer.body)?)
}

/// The error of an answer that must have this status.
pub(crate) fn refused(answer: &Answer, status: u16) -> Result<String> {
    let text = answer.text();
    ensure!(answer.status == status, "{} {text}", answer.status);
    ensure!(
        answer.header("content-type") == "application/json",
        "{text}"
    );
    let body: Value = serde_json::from_slice(&answer.body)?;
    ensure!(
        body["data"].is_null() && body.get("data").is_some(),
        "{text}"
    );
    Ok(body["error"].as_str().context("an error")?.to_owned())
}

/// Asks again and again until the answer is the one that is waited for.
pub(crate) async fn until<T: PartialEq + std::fmt::Debug>(
    expected: T,
    ask: impl AsyncFn() -> Result<T>,
) -> Result<()> {
    let since = Instant::now();
    loop {
        let answer = ask().await?;
        if answer == expected {
            return Ok(());
        }
        ensure!(since.elapsed() < SOON, "still {answer:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
