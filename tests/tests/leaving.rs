//! How one instance leaves: in which order, what its clients see, and what a second signal does.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tidings_testkit::servers::wait_for;
use tidings_tests::http::send;
use tidings_tests::instance::KEY;
use tidings_tests::{Instance, SOON};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const EVENT: &str = r#"{"topic":"demo/a","type":"greeting","data":1}"#;

/// A connection that asks for something and goes on reading.
struct Asked {
    stream: TcpStream,
    read: String,
}

impl Asked {
    async fn get(address: SocketAddr, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(Self {
            stream,
            read: String::new(),
        })
    }

    /// Reads until this text has come.
    async fn until(&mut self, text: &str) -> Result<()> {
        while !self.read.contains(text) {
            let ended = self.more().await? == 0;
            ensure!(!ended, "ended after {:?}", self.read);
        }
        Ok(())
    }

    /// Reads until the other side ends.
    async fn rest(mut self) -> Result<String> {
        while self.more().await? > 0 {}
        Ok(self.read)
    }

    async fn more(&mut self) -> Result<usize> {
        let mut bytes = Vec::new();
        let count = tokio::time::timeout(SOON, self.stream.read_buf(&mut bytes))
            .await
            .with_context(|| format!("nothing comes after {:?}", self.read))??;
        self.read.push_str(&String::from_utf8_lossy(&bytes));
        Ok(count)
    }
}

async fn becomes_unready(instance: &Instance) -> Result<()> {
    wait_for("the instance to be unready", SOON, || async {
        let answer = instance.send("GET", "/readyz", &[], "").await?;
        ensure!(answer.status == 503, "{}", answer.status);
        ensure!(answer.json()?["draining"] == true, "{:?}", answer.body);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn first_it_is_not_ready_then_its_door_is_closed_then_clients_are_told() -> Result<()> {
    let config = "[server]\ndrain_delay = \"3s\"\ndrain_spread = \"2s\"\n";
    let mut instance = Instance::start(&[], config).await?;
    let mut stream = Asked::get(instance.address(), "/v1/events?topic=demo/a").await?;
    stream.until("id: ").await?;
    instance.tell_to_leave().await?;
    becomes_unready(&instance).await?;
    // Nothing else has changed: whoever does not know it yet is served.
    let answer = instance.send("POST", "/v1/events", &JSON, EVENT).await?;
    ensure!(answer.status == 201, "{:?}", answer.body);
    stream.until("greeting").await?;
    let alive = instance.send("GET", "/healthz", &[], "").await?;
    ensure!(alive.status == 200, "a busy instance is not to be killed");
    wait_for("the door to be closed", SOON, || async {
        match TcpStream::connect(instance.address()).await {
            Ok(_) => bail!("it is open"),
            Err(_) => Ok(()),
        }
    })
    .await?;
    // The body ends as a whole one does: EventSource comes back.
    let read = stream.rest().await?;
    ensure!(read.ends_with("\r\n0\r\n\r\n"), "{read:?}");
    instance.left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_poll_is_answered_at_once_and_its_connection_closed() -> Result<()> {
    // So long that whoever waits for a share of it is found out.
    let config = "[server]\ndrain_spread = \"50s\"\nshutdown_grace = \"55s\"\n";
    let mut instance = Instance::start(&[], config).await?;
    let address = instance.address();
    let mut polls = Vec::new();
    for _ in 0..8 {
        polls.push(Asked::get(address, "/v1/topics/demo/a?offset=now&live=long-poll").await?);
    }
    // Answered, and kept for the next request.
    let mut idle = Asked::get(address, "/healthz").await?;
    idle.until("alive").await?;
    wait_for("the polls to stand", SOON, || async {
        let metrics = send(address, "GET", "/metrics", &[], "").await?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let readers: f64 = text
            .lines()
            .filter(|line| line.starts_with("tidings_readers"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        ensure!(readers >= 8.0, "{readers}");
        Ok(())
    })
    .await?;
    let started = std::time::Instant::now();
    instance.tell_to_leave().await?;
    for poll in polls {
        let answer = poll.rest().await?;
        ensure!(answer.starts_with("HTTP/1.1 204"), "{answer:?}");
        ensure!(answer.contains("connection: close"), "{answer:?}");
    }
    ensure!(idle.rest().await?.contains("alive"));
    instance.left().await?;
    ensure!(
        started.elapsed().as_secs() < 25,
        "nobody waits for a share of the spread: {:?}",
        started.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn told_twice_it_leaves_at_once() -> Result<()> {
    let config = "[server]\ndrain_delay = \"10m\"\n";
    let mut instance = Instance::start(&[], config).await?;
    let mut stream = Asked::get(instance.address(), "/v1/events?topic=demo/a").await?;
    stream.until("id: ").await?;
    instance.tell_to_leave().await?;
    becomes_unready(&instance).await?;
    instance.tell_to_leave().await?;
    instance.left().await?;
    // Broken off or ended: either way the client comes back.
    let _ = stream.rest().await;
    Ok(())
}
