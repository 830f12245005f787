//! A client that reads a stream frame by frame, as it stands on the wire; and one that posts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidings_adapter::Limits;
use tidings_adapter_burokratt::{Burokratt, BurokrattOptions};
use tidings_testkit::adapter_exam::wire::{Answer, Line, Request, Stream, send};
use tidings_testkit::adapter_exam::{Cluster, Logs, Setup};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How long silence is listened to.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

/// The adapter for development, but for what a test changes.
pub(crate) fn adapter(changes: &Value) -> Burokratt {
    let mut options = json!({"auth": "off", "origins": ["*"], "backend_open": true});
    if let (Value::Object(all), Value::Object(changes)) = (&mut options, changes) {
        all.extend(changes.clone());
    }
    let options: BurokrattOptions = serde_json::from_value(options).expect("good options");
    Burokratt::new(options).expect("a good adapter")
}

/// Two instances over a log in memory, or on the Redis that `TIDINGS_EXAM_REDIS` names.
pub(crate) async fn cluster(changes: Value) -> Result<Cluster> {
    cluster_of(changes, Setup::default()).await
}

pub(crate) async fn cluster_of(changes: Value, setup: Setup) -> Result<Cluster> {
    let setup = Setup {
        logs: Logs::from_env(),
        limits: Limits {
            // Not more often than a test is long: probes move partitions on.
            probe_every: Duration::from_secs(3600),
            ..setup.limits
        },
        ..setup
    };
    Cluster::start(|| Box::new(adapter(&changes)), setup).await
}

/// One frame: the fields of each name, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fields: Vec<(String, String)>,
}

impl Frame {
    /// The value of a field that stands there once at most.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.fields.iter().filter(|(one, _)| one == name);
        let (_, value) = named.next()?;
        assert!(named.next().is_none(), "twice {name}: {self:?}");
        Some(value)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let data = self.get("data").unwrap_or_default();
        serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// `""` for a plain event.
    pub(crate) fn event(&self) -> &str {
        self.get("event").unwrap_or_default()
    }
}

/// What is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Frame(Frame),
    Ended { clean: bool },
}

/// A stream that stands.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) stream: Stream,
    /// As an `EventSource` keeps it.
    pub(crate) last_id: String,
    half: Frame,
}

impl Listener {
    /// Opens a stream, from a place if there is one.
    pub(crate) async fn open(at: SocketAddr, path: &str, from: Option<&str>) -> Result<Self> {
        let mut request = Request::get(path);
        if let Some(place) = from {
            request = request.header("last-event-id", place);
        }
        Self::ask(at, &request).await
    }

    pub(crate) async fn ask(at: SocketAddr, request: &Request) -> Result<Self> {
        let opened = tokio::time::timeout(SOON, Stream::open(at, request)).await;
        let stream = opened.context("no answer")??;
        if stream.status != 200 {
            let status = stream.status;
            let body = stream.rest().await?;
            bail!("{status} {}", String::from_utf8_lossy(&body));
        }
        Ok(Self {
            stream,
            last_id: String::new(),
            half: Frame::default(),
        })
    }

    /// Opens a stream and waits until it is ready; gives that frame's data.
    pub(crate) async fn ready(at: SocketAddr, path: &str) -> Result<Self> {
        let mut listener = Self::open(at, path, None).await?;
        listener.until_ready().await?;
        Ok(listener)
    }

    /// What comes next, comments too (as a field without a name). Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Result<Heard> {
        let next = async {
            loop {
                match self.stream.line().await {
                    Line::Ended { clean } => return Heard::Ended { clean },
                    Line::Text(line) if line.is_empty() => {
                        let frame = std::mem::take(&mut self.half);
                        if !frame.fields.is_empty() {
                            return Heard::Frame(frame);
                        }
                    }
                    Line::Text(line) => {
                        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                        let value = value.strip_prefix(' ').unwrap_or(value);
                        self.half.fields.push((name.to_owned(), value.to_owned()));
                    }
                }
            }
        };
        let heard = tokio::time::timeout(SOON, next).await;
        let heard = heard.context("a client waits in vain")?;
        if let Heard::Frame(frame) = &heard
            && let Some(id) = frame.get("id")
        {
            self.last_id = id.to_owned();
        }
        Ok(heard)
    }

    /// The next frame that is neither a comment nor `retry`.
    pub(crate) async fn frame(&mut self) -> Result<Frame> {
        let next = async {
            loop {
                match self.hear().await? {
                    Heard::Frame(frame) if frame.get("data").is_some() => return Ok(frame),
                    Heard::Frame(_) => {}
                    Heard::Ended { clean } => bail!("the stream ends, in good order: {clean}"),
                }
            }
        };
        let heard = tokio::time::timeout(SOON, next).await;
        heard.context("a client hears nothing but heartbeats")?
    }

    /// Waits for `ready`, and gives its data and what came before it.
    pub(crate) async fn until_ready(&mut self) -> Result<(Vec<Frame>, Value)> {
        let mut before = Vec::new();
        loop {
            let frame = self.frame().await?;
            if frame.event() == "ready" {
                return Ok((before, frame.json()));
            }
            before.push(frame);
        }
    }

    /// Exactly these messages come, before `ready` what this instance had heard of by then; gives
    /// what `ready` says.
    pub(crate) async fn expect_around_ready(&mut self, contents: &[&str]) -> Result<Value> {
        let (before, ready) = self.until_ready().await?;
        let split = before.len().min(contents.len());
        for (frame, content) in before.iter().zip(contents) {
            let message = frame.json();
            ensure!(
                message["content"] == *content,
                "expecting {content:?}: {message}"
            );
        }
        ensure!(before.len() == split, "more than {contents:?}: {before:?}");
        self.expect(&contents[split..]).await?;
        Ok(ready)
    }

    /// The next plain frame; control frames in between are an error.
    pub(crate) async fn entry(&mut self) -> Result<(String, Value)> {
        let frame = self.frame().await?;
        ensure!(frame.event().is_empty(), "instead of an entry: {frame:?}");
        Ok((frame.get("id").unwrap_or_default().to_owned(), frame.json()))
    }

    /// Exactly these contents come next, each with an id.
    pub(crate) async fn expect(&mut self, contents: &[&str]) -> Result<()> {
        for content in contents {
            let (id, message) = self.entry().await?;
            ensure!(!id.is_empty(), "no id: {message}");
            ensure!(
                message["content"] == *content,
                "expecting {content:?} of {contents:?}: {message}"
            );
        }
        Ok(())
    }

    /// The stream ends; gives what was heard until then.
    pub(crate) async fn until_end(&mut self) -> Result<Vec<Frame>> {
        let mut heard = Vec::new();
        loop {
            match self.hear().await? {
                Heard::Frame(frame) => heard.push(frame),
                Heard::Ended { clean } => {
                    ensure!(clean, "it is broken off");
                    return Ok(heard);
                }
            }
        }
    }

    /// Nothing but comments comes for a while.
    pub(crate) async fn expect_silence(&mut self) -> Result<()> {
        let listen = async {
            loop {
                match self.hear().await? {
                    Heard::Frame(frame) if frame.names() == [""] => {}
                    other => bail!("instead of silence: {other:?}"),
                }
            }
        };
        match tokio::time::timeout(QUIET, listen).await {
            Ok(heard) => heard,
            Err(_) => Ok(()),
        }
    }
}

pub(crate) async fn post(at: SocketAddr, path: &str, body: Value) -> Result<Answer> {
    let request = Request::post(path, body.to_string()).header("content-type", "application/json");
    let answer = tokio::time::timeout(SOON, send(at, &request)).await;
    answer.with_context(|| format!("{path} is not answered"))?
}

/// Posts what must be taken; the answer's JSON.
pub(crate) async fn done(at: SocketAddr, path: &str, body: Value) -> Result<Value> {
    let answer = post(at, path, body).await?;
    ensure!(
        answer.status == 200,
        "{path}: {} {}",
        answer.status,
        answer.text()
    );
    Ok(serde_json::from_slice(&answer.body)?)
}

/// Begins a chat; its id.
pub(crate) async fn begin(at: SocketAddr) -> Result<String> {
    let message = json!({
        "content": "tere",
        "authorTimestamp": "2023-01-18T12:56:52.895Z",
        "authorRole": "end-user",
    });
    let technical = json!({"endUserOs": "Linux", "endUserUrl": "https://example.ee/"});
    let body = json!({"message": message, "endUserTechnicalData": technical});
    let answer = done(at, "/init-chat", body).await?;
    let id = answer["data"]["get_inserted_chat"]["id"].as_str();
    Ok(id.with_context(|| format!("no chat: {answer}"))?.to_owned())
}

/// The end user says something; the message as it was answered.
pub(crate) async fn say(at: SocketAddr, chat: &str, content: &str) -> Result<Value> {
    let body = json!({
        "chatId": chat,
        "authorRole": "end-user",
        "authorTimestamp": "2023-01-18T12:56:52.895Z",
        "content": content,
        "event": "",
    });
    let mut answer = done(at, "/post-message", body).await?;
    Ok(answer["data"]["post_message"].take())
}

/// Says the numbers of a range, in turn on both instances.
pub(crate) async fn count(
    cluster: &Cluster,
    chat: &str,
    numbers: std::ops::Range<usize>,
) -> Result<()> {
    for number in numbers {
        let at = cluster.instance(number % 2).address();
        say(at, chat, &number.to_string()).await?;
    }
    Ok(())
}

/// A range as texts.
pub(crate) fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

/// The path of a chat's stream, as its end user opens it.
pub(crate) fn new_messages(chat: &str) -> String {
    format!("/sse/get-new-messages?chatId={chat}")
}
