//! Readers that stop reading, on real processes: contract §6, I01. What others wait is compared with the same talk without
//! such readers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tidings_tests::SOON;
use tokio::net::TcpSocket;

use crate::cluster::Cluster;

const STALLED: usize = 5;
const MESSAGES: usize = 1_500;
const CHARACTERS: usize = 3_000;
/// Of the comparison.
const CONTROL: usize = 300;
/// A stalled reader's socket takes as little as a kernel allows; otherwise it would take all of it unread.
const TAKES: u32 = 4 * 1024;

/// One stream, read message by message.
struct Reader {
    body: Incoming,
    text: Vec<u8>,
    last: String,
}

impl Reader {
    async fn open(
        hub: SocketAddr,
        chat: &str,
        last: Option<&str>,
        takes: Option<u32>,
    ) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(takes) = takes {
            socket.set_recv_buffer_size(takes)?;
        }
        let stream = socket.connect(hub).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request =
            http::Request::get(format!("/sse/get-new-messages?chatId={chat}")).header("host", "x");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        ensure!(response.status() == 200, "{response:?}");
        Ok(Self {
            body: response.into_body(),
            text: Vec::new(),
            last: last.unwrap_or_default().to_owned(),
        })
    }

    /// The next frame with data: its `event`, its content. `None`: the stream has ended.
    async fn next(&mut self) -> Result<Option<(String, Value)>> {
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block = String::from_utf8(self.text.drain(..end + 2).collect())?;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(id) = field("id: ") {
                    self.last = id.to_owned();
                }
                if let Some(data) = field("data: ") {
                    let event = field("event: ").unwrap_or_default().to_owned();
                    return Ok(Some((event, serde_json::from_str(data)?)));
                }
            }
            match tokio::time::timeout(SOON, self.body.frame())
                .await
                .context("a reader waits in vain")?
            {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.text.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    async fn ready(mut self) -> Result<Self> {
        while let Some((event, _)) = self.next().await? {
            if event == "ready" {
                return Ok(self);
            }
        }
        bail!("it has ended before it was ready")
    }
}

fn text(number: usize) -> String {
    format!("{number}:{}", "x".repeat(CHARACTERS))
}

/// Says so many messages while two read them, one on each instance; what these waited, the shortest first.
async fn talk(cluster: &Cluster, chat: &str, messages: usize) -> Result<Vec<Duration>> {
    let said: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let lock = || said.lock().unwrap_or_else(PoisonError::into_inner);
    let read = async |at: usize| {
        let mut reader = Reader::open(cluster.address(at), chat, None, None)
            .await?
            .ready()
            .await?;
        let mut waited = Vec::new();
        // Ready: the talk may begin.
        cluster.say(at, chat, &format!("reader {at}")).await?;
        while waited.len() < messages {
            let (_, message) = reader
                .next()
                .await?
                .context("a quick reader's stream has ended")?;
            let content = message["content"].as_str().unwrap_or_default();
            if content.starts_with("reader") {
                continue;
            }
            ensure!(content == text(waited.len()), "{} is next", waited.len());
            waited.push(lock()[waited.len()].elapsed());
        }
        anyhow::Ok(waited)
    };
    let speak = async {
        for number in 0..messages {
            lock().push(Instant::now());
            cluster.say(number % 2, chat, &text(number)).await?;
        }
        anyhow::Ok(())
    };
    let begins = async {
        // Both are ready when each has said so.
        let path = format!("/get-messages-by-chat-id?chatId={chat}");
        tidings_testkit::servers::wait_for("two readers", SOON, || async {
            let list = cluster.get(0, &path).await?.to_string();
            ensure!(list.contains("reader 0") && list.contains("reader 1"));
            Ok(())
        })
        .await?;
        speak.await
    };
    let (one, two, ()) = tokio::try_join!(read(0), read(1), begins)?;
    let mut all = [one, two].concat();
    all.sort_unstable();
    Ok(all)
}

fn share(sorted: &[Duration], of_a_hundred: usize) -> Duration {
    sorted[(sorted.len() - 1) * of_a_hundred / 100]
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "a measurement is reported")]
async fn five_that_stop_reading_delay_nobody() -> Result<()> {
    let cluster = Cluster::start("").await?;
    let quiet = cluster.chat(0).await?;
    let control = talk(&cluster, &quiet, CONTROL).await?;

    let chat = cluster.chat(0).await?;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let reader = Reader::open(cluster.address(0), &chat, None, Some(TAKES)).await?;
        stalled.push(reader.ready().await?);
    }
    let waited = talk(&cluster, &chat, MESSAGES).await?;
    for (name, all) in [("without", &control), ("with", &waited)] {
        println!(
            "{name} stalled readers: half within {:?}, 99 % within {:?}, all within {:?}",
            share(all, 50),
            share(all, 99),
            share(all, 100)
        );
    }
    // A wide margin for a busy machine: one that waited for a stalled reader would wait for ever, or for `write_stall`.
    let most = share(&control, 99).max(Duration::from_millis(50)) * 10;
    ensure!(
        share(&waited, 99) < most,
        "{:?} of {most:?}",
        share(&waited, 99)
    );

    // They read on, or come back with their places, and miss nothing.
    for (number, mut reader) in stalled.into_iter().enumerate() {
        let mut next = 0;
        while next < MESSAGES {
            match reader.next().await? {
                Some((event, message)) if event.is_empty() => {
                    let content = message["content"].as_str().unwrap_or_default();
                    if !content.starts_with("reader") {
                        ensure!(content == text(next), "reader {number}: {next} is next");
                        next += 1;
                    }
                }
                Some((event, data)) => ensure!(event == "ready", "reader {number}: {event} {data}"),
                None => {
                    let last = reader.last.clone();
                    reader = Reader::open(cluster.address(1), &chat, Some(&last), None).await?;
                }
            }
        }
    }
    Ok(())
}
