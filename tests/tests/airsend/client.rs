//! A client on a websocket, which reads all the time and remembers all that it heard.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidings_tests::SOON;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::backend::{Backend, SILENCE};

type Socket = WebSocketStream<TcpStream>;

/// One frame and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) frame: Value,
    pub(crate) at: Instant,
}

/// All that was heard.
#[derive(Debug, Default)]
struct Record {
    frames: Vec<Heard>,
    /// The close code, 1006 without one; and when.
    closed: Option<(u16, Instant)>,
    /// A frame that is none.
    broken: Option<String>,
}

pub(crate) struct Rtm {
    /// For failures.
    who: String,
    record: watch::Receiver<Record>,
    sink: SplitSink<Socket, Message>,
    /// How far the test has read.
    read: usize,
    /// Where to resume from, as of what the test has read.
    pub(crate) cursor: String,
    _reading: JoinSet<()>,
}

impl Rtm {
    /// Connects, and says nothing.
    pub(crate) async fn open(who: &str, at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = client_async(format!("ws://{at}"), stream).await?;
        let (sink, stream) = socket.split();
        let (writer, record) = watch::channel(Record::default());
        let mut reading = JoinSet::new();
        reading.spawn(read(stream, writer));
        Ok(Self {
            who: who.to_owned(),
            record,
            sink,
            read: 0,
            cursor: String::new(),
            _reading: reading,
        })
    }

    /// A user's new client, as soon as it is served.
    pub(crate) async fn user(backend: &Backend, at: usize, user: u64) -> Result<Self> {
        let token = backend.token(at, user).await?;
        let (client, hello) = Self::hello(backend, at, user, &token, None).await?;
        ensure!(
            hello["resumed"] == false && hello["gap"] == false,
            "{hello}"
        );
        Ok(client)
    }

    /// A user's new client that hears all of these channels, as it shows: presence is only for those
    /// who are there.
    pub(crate) async fn watcher(
        backend: &Backend,
        at: usize,
        user: u64,
        channels: &[u64],
    ) -> Result<Self> {
        let mut client = Self::user(backend, at, user).await?;
        for channel in channels {
            backend.post(at, *channel, user, "ready").await?;
        }
        for _ in channels {
            client.expect_text("ready").await?;
        }
        Ok(client)
    }

    /// A user's client that comes back with a new token; and the hello.
    pub(crate) async fn back(
        backend: &Backend,
        at: usize,
        user: u64,
        cursor: &str,
    ) -> Result<(Self, Value)> {
        let token = backend.token(at, user).await?;
        Self::hello(backend, at, user, &token, Some(cursor)).await
    }

    /// A client with `ack`, perhaps with a cursor; and the hello.
    pub(crate) async fn hello(
        backend: &Backend,
        at: usize,
        user: u64,
        token: &str,
        cursor: Option<&str>,
    ) -> Result<(Self, Value)> {
        let mut client = Self::open(&format!("user {user} at {at}"), backend.address(at)).await?;
        let mut auth = json!({"command": "ws_auth", "auth_token": token, "ack": true});
        if let Some(cursor) = cursor {
            auth["resume"] = json!({ "last_event_id": cursor });
        }
        client.say(&auth).await?;
        let hello = client.next().await?;
        ensure!(
            hello["event"] == "system.hello",
            "{}: {hello} instead of a hello",
            client.who
        );
        let payload = hello["payload"].clone();
        payload["last_event_id"]
            .as_str()
            .context("a cursor")?
            .clone_into(&mut client.cursor);
        Ok((client, payload))
    }

    pub(crate) async fn say(&mut self, command: &Value) -> Result<()> {
        let sent = self.sink.send(Message::text(command.to_string())).await;
        sent.with_context(|| self.who.clone())
    }

    /// Says goodbye, as a client that leaves on purpose does.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.sink.close().await?;
        self.closed().await.map(drop)
    }

    /// Waits for what is true of all that was heard.
    async fn wait<T>(&mut self, mut what: impl FnMut(&Record) -> Option<T>) -> Result<T> {
        let mut found = None;
        let is_there = self.record.wait_for(|record| {
            found = what(record);
            found.is_some() || record.broken.is_some()
        });
        let ended = timeout(SOON, is_there)
            .await
            .is_ok_and(|waited| waited.is_err());
        if ended {
            // The reader has ended: what is there, is there.
            found = found.or_else(|| what(&self.record.borrow()));
        }
        let record = self.record.borrow();
        if let Some(broken) = &record.broken {
            bail!("{}: {broken}", self.who);
        }
        let last = &record.frames[record.frames.len().saturating_sub(12)..];
        found.with_context(|| {
            let closed = record.closed;
            format!(
                "{} waits in vain; closed: {closed:?}; heard last: {last:?}",
                self.who
            )
        })
    }

    /// The next frame, presence too.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        let read = self.read;
        let frame = self
            .wait(|record| record.frames.get(read).map(|heard| heard.frame.clone()))
            .await?;
        self.read += 1;
        if let Some(id) = frame["meta"]["event_id"].as_str() {
            id.clone_into(&mut self.cursor);
        }
        Ok(frame)
    }

    /// The next frame that is not about presence.
    pub(crate) async fn hear(&mut self) -> Result<Value> {
        loop {
            let frame = self.next().await?;
            if !is_presence(&frame) {
                return Ok(frame);
            }
        }
    }

    /// The next frame but presence is this event; its payload.
    pub(crate) async fn expect(&mut self, event: &str) -> Result<Value> {
        let mut frame = self.hear().await?;
        ensure!(
            frame["event"] == event,
            "{}: {frame} instead of {event}",
            self.who
        );
        Ok(frame["payload"].take())
    }

    /// The next frame but presence is a message with this text.
    pub(crate) async fn expect_text(&mut self, text: &str) -> Result<Value> {
        let mut payload = self.expect("chat.postMessage").await?;
        ensure!(
            payload["message"]["content"] == text,
            "{}: {payload} instead of {text}",
            self.who
        );
        Ok(payload["message"].take())
    }

    /// Nothing but presence is heard for a while.
    pub(crate) async fn expect_nothing(&mut self) -> Result<()> {
        match timeout(SILENCE, self.hear()).await {
            Err(_) => self.is_open(),
            Ok(frame) => bail!("{}: {} instead of silence", self.who, frame?),
        }
    }

    /// Still connected.
    pub(crate) fn is_open(&self) -> Result<()> {
        let closed = self.record.borrow().closed;
        ensure!(closed.is_none(), "{} was closed: {closed:?}", self.who);
        Ok(())
    }

    /// Waits until such a frame was heard, whatever the test has read.
    pub(crate) async fn hears(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = |record: &Record| {
            let mut frames = record.frames.iter().map(|heard| &heard.frame);
            frames.find(|frame| is(frame)).cloned()
        };
        self.wait(found).await.with_context(|| what.to_owned())
    }

    /// The code with which the server closes, and when it did.
    pub(crate) async fn closed(&mut self) -> Result<(u16, Instant)> {
        self.wait(|record| record.closed).await
    }

    /// What was heard of a user's presence so far: online or not, in which channel, and when.
    pub(crate) fn presence_of(&self, user: u64) -> Vec<(bool, u64, Instant)> {
        presence_of(&self.record.borrow(), user)
    }

    /// Waits until so much was heard of a user's presence.
    pub(crate) async fn presence(
        &mut self,
        user: u64,
        count: usize,
    ) -> Result<Vec<(bool, u64, Instant)>> {
        let heard = self
            .wait(|record| Some(presence_of(record, user)).filter(|all| all.len() >= count))
            .await
            .with_context(|| format!("{count} events of user {user}'s presence"))?;
        ensure!(heard.len() == count, "user {user}: {heard:?}");
        Ok(heard)
    }

    /// Waits until more than so much was heard of a user's presence.
    pub(crate) async fn presence_more(&mut self, user: u64, than: usize) -> Result<()> {
        self.wait(|record| (presence_of(record, user).len() > than).then_some(()))
            .await
    }
}

fn is_presence(frame: &Value) -> bool {
    matches!(
        frame["event"].as_str(),
        Some("user.online" | "user.offline")
    )
}

fn presence_of(record: &Record, user: u64) -> Vec<(bool, u64, Instant)> {
    let about = record
        .frames
        .iter()
        .filter(|heard| is_presence(&heard.frame) && heard.frame["payload"]["user"]["id"] == user);
    about
        .map(|heard| {
            let online = heard.frame["event"] == "user.online";
            let channel = heard.frame["payload"]["channel_id"].as_u64();
            (online, channel.unwrap_or_default(), heard.at)
        })
        .collect()
}

/// Reads until the end. Pings are answered by themselves.
async fn read(mut stream: SplitStream<Socket>, record: watch::Sender<Record>) {
    let close = |code| {
        record.send_modify(|record| {
            record.closed.get_or_insert((code, Instant::now()));
        });
    };
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => {
                let frame = envelope(&text);
                record.send_modify(|record| match frame {
                    Ok(frame) => record.frames.push(Heard {
                        frame,
                        at: Instant::now(),
                    }),
                    Err(error) => record.broken = Some(format!("{error:#}")),
                });
            }
            Some(Ok(Message::Close(frame))) => {
                // A close without a code is never sent.
                close(frame.map_or(1005, |frame| frame.code.into()));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return close(1006),
        }
    }
}

/// Every frame has a valid envelope (X01).
fn envelope(text: &str) -> Result<Value> {
    let frame: Value = serde_json::from_str(text)?;
    let good = frame["meta"]["api"] == "v1"
        && frame["event"].is_string()
        && frame["payload"].is_object()
        && (frame["meta"]["emitted_on"].is_f64() || is_system(&frame));
    ensure!(
        good || frame == json!({"event": "pong"}),
        "no envelope: {text}"
    );
    let retained = !is_presence(&frame)
        && !is_system(&frame)
        && frame["event"] != "chat.userTyping"
        && frame["event"] != "pong";
    ensure!(
        frame["meta"]["event_id"].is_string() == retained,
        "`event_id` on what is retained, and there alone: {text}"
    );
    Ok(frame)
}

fn is_system(frame: &Value) -> bool {
    let name = frame["event"].as_str().unwrap_or_default();
    name.starts_with("system.")
}

/// Nothing changes for a while; for what must not come.
pub(crate) async fn quiet() {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}
