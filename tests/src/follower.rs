//! A reader of an event stream that comes back with its cursor whenever its connection ends, as
//! `EventSource` does, but small enough that thousands of them fit one test.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::instance::KEY;
use crate::ledger::Received;

/// What somebody who was not let in waits before the next try; a reader whose stream ended comes
/// back at once.
const AGAIN: Duration = Duration::from_millis(100);

/// Which stream is followed.
#[derive(Debug, Clone)]
pub enum Stream {
    /// `/v1/events` over these topics.
    Events(Vec<String>),
    /// `/v1/topics/<topic>?live=sse`.
    Topic(String),
}

/// One reader and what it has got.
#[derive(Debug)]
pub struct Follower {
    stream: Stream,
    cursor: Option<String>,
    /// A `data` event whose `control` event has not come: without it, it comes again.
    pending: Option<String>,
    /// What it has got.
    pub received: Received,
    /// How often it was let in.
    pub connections: usize,
    /// How often it was not, because nobody listened or the connection broke before the answer.
    pub shut_out: usize,
}

impl Follower {
    /// One that has read nothing yet and starts at the oldest event.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            cursor: None,
            pending: None,
            received: Received::default(),
            connections: 0,
            shut_out: 0,
        }
    }

    /// The topics it follows.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        match &self.stream {
            Stream::Events(topics) => topics.iter().map(String::as_str).collect(),
            Stream::Topic(topic) => vec![topic],
        }
    }

    /// Follows until `enough` says so; it is asked after every block of the stream.
    ///
    /// # Errors
    /// When an answer is not 200, or the stream says that something was lost.
    pub async fn follow(
        &mut self,
        address: SocketAddr,
        mut enough: impl FnMut(&Received) -> bool,
    ) -> Result<()> {
        loop {
            let Ok(mut body) = self.open(address).await? else {
                self.shut_out += 1;
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            self.connections += 1;
            self.pending = None;
            let mut text = Vec::new();
            // A stream that breaks off is one that ends: what is not whole comes again.
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                text.extend_from_slice(&data);
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let block = String::from_utf8(text.drain(..end + 2).collect())?;
                    self.take(&block).with_context(|| block.clone())?;
                    if enough(&self.received) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Asks for the stream; the inner error is a connection that did not come to an answer.
    async fn open(&self, address: SocketAddr) -> Result<Result<hyper::body::Incoming>> {
        let path = match (&self.stream, &self.cursor) {
            (Stream::Events(topics), _) => {
                format!("/v1/events?topic={}&offset=-1", topics.join("&topic="))
            }
            (Stream::Topic(topic), cursor) => {
                let offset = cursor.as_deref().unwrap_or("-1");
                format!("/v1/topics/{topic}?live=sse&offset={offset}")
            }
        };
        let mut request = http::Request::get(path)
            .header("host", "x")
            .header("authorization", format!("Bearer {KEY}"));
        if let (Stream::Events(_), Some(cursor)) = (&self.stream, &self.cursor) {
            request = request.header("last-event-id", cursor);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let asked = async {
            let stream = TcpStream::connect(address).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok(sender.send_request(request).await?)
        };
        let response = match asked.await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        // Any other status would end a browser's EventSource for good.
        ensure!(response.status() == 200, "{response:?}");
        Ok(Ok(response.into_body()))
    }

    /// Takes one block of the stream.
    fn take(&mut self, block: &str) -> Result<()> {
        let (mut kind, mut data, mut id) = ("message", Vec::new(), None);
        for line in block.lines() {
            match line.split_once(':') {
                Some(("event", value)) => kind = value.trim_start(),
                Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value)),
                Some(("id", value)) => id = Some(value.trim_start().to_owned()),
                _ => {}
            }
        }
        let data = data.join("\n");
        match (&self.stream, kind) {
            (_, "reset") => bail!("it was told that events are lost"),
            (Stream::Events(_), _) => {
                if !data.is_empty() {
                    self.received.take(&data)?;
                }
                self.cursor = id.or(self.cursor.take());
            }
            (Stream::Topic(_), "data") => {
                ensure!(self.pending.is_none(), "two data events, no control event");
                self.pending = Some(data);
            }
            (Stream::Topic(_), "control") => {
                let control: serde_json::Value = serde_json::from_str(&data)?;
                let next = control["streamNextOffset"].as_str().context("an offset")?;
                self.cursor = Some(next.to_owned());
                if let Some(array) = self.pending.take() {
                    self.received.take_array(&array)?;
                }
            }
            (Stream::Topic(_), _) => {}
        }
        Ok(())
    }
}
