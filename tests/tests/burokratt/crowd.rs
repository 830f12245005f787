//! Forty readers that come back again and again on either instance while a thousand messages are posted; an instance is
//! killed and Redis restarted meanwhile. All of them, in order, once, and no gap.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, said};

const READERS: usize = 40;
const MESSAGES: usize = 1_000;
/// A reader hangs up after so many messages, a little more or less each.
const HANGS_UP_AFTER: usize = 60;
/// One that was not let in tries again then.
const AGAIN: Duration = Duration::from_millis(100);
/// Nobody reads longer; a busy machine needs half a minute.
const LONGEST: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_and_goes_misses_nothing() -> Result<()> {
    let mut cluster = Cluster::start("").await?;
    let chat = cluster.chat(0).await?;
    let mut readers = JoinSet::new();
    let connections = Arc::new(AtomicUsize::new(0));
    for number in 0..READERS {
        let reader = Reader {
            number,
            hubs: [cluster.address(0), cluster.address(1)],
            path: format!(
                "/sse/get-new-messages?chatId={chat}&timeRangeBegin=2020-01-01T00:00:00Z"
            ),
            last: None,
            heard: Vec::new(),
            connections: connections.clone(),
        };
        readers.spawn(tokio::time::timeout(LONGEST, reader.read()));
    }
    for number in 0..MESSAGES {
        match number {
            300 => cluster.instances[0].kill().await?,
            400 => cluster.instances[0].restart().await?,
            600 => {
                cluster.redis.stop().await?;
                cluster.redis.restart().await?;
            }
            _ => {}
        }
        post(&cluster, &chat, number).await?;
    }
    let expected: Vec<String> = std::iter::once("hello".to_owned())
        .chain((0..MESSAGES).map(|number| number.to_string()))
        .collect();
    while let Some(read) = readers.join_next().await {
        let (number, heard) = read?.context("a reader waits in vain")??;
        ensure!(
            heard == expected,
            "reader {number}: {} messages, {heard:?}",
            heard.len()
        );
    }
    let connections = connections.load(Ordering::Relaxed);
    ensure!(
        connections > READERS * 5,
        "they came back {connections} times"
    );
    Ok(())
}

/// Posts until it is taken, with an id of the client's own: a retry is known by it.
async fn post(cluster: &Cluster, chat: &str, number: usize) -> Result<()> {
    let mut message = said(chat, &number.to_string());
    message["id"] = format!("00000000-0000-4000-8000-{number:012}").into();
    for _ in 0..300 {
        // The first instance is away for a while, Redis for another.
        for at in [number % 2, (number + 1) % 2] {
            if let Ok(answer) = cluster.send(at, "/post-message", &message).await {
                if answer.status == 200 {
                    return Ok(());
                }
                ensure!(answer.status == 503, "{} {:?}", answer.status, answer.body);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
    bail!("{number} was not taken: {}", cluster.printed())
}

struct Reader {
    number: usize,
    hubs: [SocketAddr; 2],
    path: String,
    last: Option<String>,
    heard: Vec<String>,
    connections: Arc<AtomicUsize>,
}

impl Reader {
    /// Reads until it has heard the last message; answers with the contents in order.
    async fn read(mut self) -> Result<(usize, Vec<String>)> {
        let mut turn = self.number;
        loop {
            turn += 1;
            let Ok(mut body) = self.open(self.hubs[turn % 2]).await? else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            self.connections.fetch_add(1, Ordering::Relaxed);
            let stays_for = HANGS_UP_AFTER + self.number * 7 % 50;
            let enough = self.heard.len() + stays_for;
            let mut text = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                text.extend_from_slice(&data);
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let block = String::from_utf8(text.drain(..end + 2).collect())?;
                    self.take(&block).with_context(|| block.clone())?;
                }
                if self.heard.len() > MESSAGES {
                    return Ok((self.number, self.heard));
                }
                if self.heard.len() >= enough {
                    break;
                }
            }
        }
    }

    /// The inner error is a connection that did not come to an answer.
    async fn open(&self, hub: SocketAddr) -> Result<Result<hyper::body::Incoming>> {
        let mut request = http::Request::get(&self.path).header("host", "x");
        if let Some(last) = &self.last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let asked = async {
            let stream = TcpStream::connect(hub).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok(sender.send_request(request).await?)
        };
        let response = match asked.await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        ensure!(response.status() == 200, "{response:?}");
        Ok(Ok(response.into_body()))
    }

    fn take(&mut self, block: &str) -> Result<()> {
        let field = |name: &str| {
            let lines = block.lines();
            lines
                .filter_map(|line| line.strip_prefix(name))
                .map(str::trim_start)
                .next()
        };
        ensure!(field("event:") != Some("gap"), "nothing may be missing");
        if let Some(id) = field("id:") {
            self.last = Some(id.to_owned());
        }
        if let (None, Some(data)) = (field("event:"), field("data:")) {
            let message: Value = serde_json::from_str(data)?;
            self.heard
                .push(message["content"].as_str().unwrap_or_default().to_owned());
        }
        Ok(())
    }
}
