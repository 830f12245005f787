//! What a post costs Redis: the same in every channel.
//!
//! The test takes a size of seconds. Ten thousand members, with the figures printed (`docs/airsend.md`), are asked for:
//! `cargo test -p tidings-tests --test airsend -- --ignored --nocapture ten_thousand`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tidings_testkit::servers::{RedisServer, wait_for};
use tidings_tests::SOON;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::backend::Backend;

/// Requests under way while something is set up.
const AT_ONCE: usize = 16;

const ROOM: &str = "[server]\nconnections_max = 20000\n";

/// One post costs Redis the same in a channel of 10 and in one of very many members.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_costs_redis_the_same_in_a_large_channel() -> Result<()> {
    let [small, large] = posts(400, 40, 150).await?;
    ensure!(
        (large.total - small.total).abs() < small.total / 4.0,
        "{small} in a small channel, {large} in a large one"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_post_to_ten_thousand_members() -> Result<()> {
    let [small, large] = posts(10_000, 1_000, 300).await?;
    show(&format!(
        "10 members: {small}\n10,000 members, 1,000 connected: {large}"
    ));
    Ok(())
}

/// Redis commands of one post.
struct Cost {
    /// All, those inside scripts too.
    total: f64,
    by_command: BTreeMap<String, f64>,
    redis_cpu_us: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} commands, {:.0} µs of CPU (",
            self.total, self.redis_cpu_us
        )?;
        for (name, count) in &self.by_command {
            write!(f, "{name} {count:.1}, ")?;
        }
        f.write_str("the hub's own idle ones taken off)")
    }
}

async fn posts(members: u64, connected: u64, posts: u32) -> Result<[Cost; 2]> {
    let redis = RedisServer::start().await?;
    let backend = Backend::with(&redis.url(), &[ROOM, ROOM], "").await?;
    users(&backend, members).await?;
    let everybody: Vec<u64> = (1..=members).collect();
    backend.channel(11, &everybody[..10]).await?;
    backend.channel(12, &everybody).await?;
    let readers = Readers::default();
    let connecting = stream::iter(1..=connected).map(|user| readers.connect(&backend, user));
    let tasks: Vec<JoinSet<()>> = connecting.buffer_unordered(AT_ONCE).try_collect().await?;
    let mut costs = Vec::new();
    for channel in [11, 12] {
        settled(&redis).await?;
        let (idle, seconds) = (spent(&redis).await?, 5);
        sleep(Duration::from_secs(seconds)).await;
        let idle = difference(&spent(&redis).await?, &idle, 1.0 / seconds as f64);
        let (before, began) = (spent(&redis).await?, Instant::now());
        for n in 0..posts {
            backend.post(n as usize % 2, channel, 1, "hello").await?;
        }
        let took = began.elapsed().as_secs_f64();
        let mut cost = difference(&spent(&redis).await?, &before, 1.0);
        for (name, count) in &mut cost {
            *count = (*count - idle.get(name).copied().unwrap_or(0.0) * took) / f64::from(posts);
        }
        let redis_cpu_us = cost.remove("cpu").unwrap_or(0.0) * 1e6;
        cost.retain(|_, count| *count > 0.05);
        let total = cost.values().sum();
        costs.push(Cost {
            total,
            by_command: cost,
            redis_cpu_us,
        });
    }
    let heard = connected as usize * posts as usize;
    wait_for("all to be delivered", SOON, || async {
        let now = readers.heard.load(Ordering::Relaxed);
        ensure!(now >= heard, "{now} of {heard}");
        Ok(())
    })
    .await?;
    drop(tasks);
    costs.try_into().ok().context("two")
}

/// Clients as small as they can be.
#[derive(Debug, Default)]
struct Readers {
    /// Posts, over all.
    heard: Arc<AtomicUsize>,
}

impl Readers {
    /// Connects one, as soon as it is served.
    async fn connect(&self, backend: &Backend, user: u64) -> Result<JoinSet<()>> {
        let token = backend.token(0, user).await?;
        let at = backend.address(0);
        let small = WebSocketConfig::default().read_buffer_size(4 * 1024);
        let tcp = TcpStream::connect(at).await?;
        let socket = client_async_with_config(format!("ws://{at}"), tcp, Some(small));
        let (mut socket, _) = socket.await?;
        let auth = json!({"command": "ws_auth", "auth_token": token, "ack": true});
        socket.send(Message::text(auth.to_string())).await?;
        let hello = socket.next().await.context("a hello")??;
        let hello: Value = serde_json::from_str(hello.to_text()?)?;
        ensure!(hello["event"] == "system.hello", "{hello}");
        let heard = self.heard.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { count(socket, &heard).await });
        Ok(task)
    }
}

async fn count(mut socket: WebSocketStream<TcpStream>, heard: &AtomicUsize) {
    while let Some(Ok(message)) = socket.next().await {
        // Its name stands before the payload.
        let head = |text: &str| text.chars().take(300).collect::<String>();
        let post = |text: &str| head(text).contains("\"chat.postMessage\"");
        if message.is_text() && message.to_text().is_ok_and(post) {
            heard.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What was set up has come everywhere: nothing is written any more but what an idle hub writes.
async fn settled(redis: &RedisServer) -> Result<()> {
    let end = Instant::now() + 2 * SOON;
    let mut written = spent(redis).await?;
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = spent(redis).await?;
        let fresh = difference(&now, &written, 1.0);
        // Records; beats and probes write none.
        let records = fresh.get("hset").copied().unwrap_or(0.0);
        if records < 10.0 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{fresh:?} in a second, and no end");
        written = now;
    }
}

async fn users(backend: &Backend, count: u64) -> Result<()> {
    stream::iter(1..=count)
        .map(async |id: u64| {
            let email = format!("u{id}@example.com");
            let user = json!({"id": id, "email": email, "display_name": format!("User {id}")});
            backend.op(0, "user.upsert", user).await.map(drop)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Calls of each command so far, and `cpu`: seconds.
async fn spent(redis: &RedisServer) -> Result<BTreeMap<String, f64>> {
    let stats = redis.command_stats().await?.into_iter();
    let mut spent: BTreeMap<String, f64> =
        stats.map(|(name, calls)| (name, calls as f64)).collect();
    spent.insert("cpu".to_owned(), redis.cpu_seconds().await?);
    Ok(spent)
}

fn difference(
    now: &BTreeMap<String, f64>,
    before: &BTreeMap<String, f64>,
    times: f64,
) -> BTreeMap<String, f64> {
    let before = |name: &str| before.get(name).copied().unwrap_or(0.0);
    now.iter()
        .map(|(name, count)| (name.clone(), (count - before(name)) * times))
        .collect()
}

#[expect(clippy::print_stdout, reason = "they are what was asked for")]
fn show(figures: &str) {
    println!("{figures}");
}
