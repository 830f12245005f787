//! A deploy: three instances are replaced one after the other, under thousands of readers and a
//! publisher. Nothing is lost, doubled or out of order, nobody is answered with an error, and Redis
//! is not read for those who come back.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::RedisServer;
use tidings_tests::follower::Stream;
use tidings_tests::http::send;
use tidings_tests::instance::KEY;
use tidings_tests::{Balancer, Follower, Instance, Ledger, SOON};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const READERS: usize = 2_000;
const TOPICS: usize = 20;
/// The publisher's pace: each event goes to 290 readers, so this is 5,800 deliveries a second, which
/// three unoptimised instances and their readers manage on two cores.
const PACE: Duration = Duration::from_millis(50);
/// What each topic's last event says.
const END: &str = "\"end\"";

/// The spread is what a deploy is made of here. The delay lets the balancer notice: it asks ten
/// times in it. Everybody comes from the balancer's address.
const CONFIG: &str =
    "[server]\ndrain_delay = \"1s\"\ndrain_spread = \"2s\"\nconnections_per_address = 0\n";

/// File descriptors: one for a reader, and two for it at the balancer.
const FILES: usize = 3 * READERS + 1_000;

/// Range reads of three new instances: for each of 16 partitions what fills the window, its place and
/// that of its flash events; and room for tails that look at their places again.
const FILLING: u64 = 3 * 3 * 16 + 100;
/// Scripts that run with the clock while instances are rolled: direct ingest, leases, settings.
const HOUSEKEEPING: usize = 500;

/// Raises this process' limit of open files, which what it starts inherits.
fn raise_the_limit_of_files() -> Result<()> {
    let mine = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &mine, &format!("--nofile={FILES}:")])
        .output()
        .context("prlimit is part of util-linux")?;
    ensure!(
        raised.status.success(),
        "{READERS} readers need {FILES} open files, and the limit cannot be raised so far: {}",
        String::from_utf8_lossy(&raised.stderr)
    );
    Ok(())
}

fn topic(n: usize) -> String {
    format!("rolling/{}", n % TOPICS)
}

/// Most follow several topics, every twentieth reads one.
fn stream(n: usize) -> Stream {
    match n % 20 {
        19 => Stream::Topic(topic(n / 20)),
        _ => Stream::Events([n, n + 7, n + 13].map(topic).to_vec()),
    }
}

/// Publishes one event, again with the same id until it is acknowledged.
async fn publish(balancer: &Balancer, ledger: &mut Ledger, topic: &str, data: &str) -> Result<()> {
    let id = ledger.count(topic).to_string();
    let body = format!(
        r#"{{"topic":"{topic}","type":"count","source":"/deploy","id":"{id}","data":{data}}}"#
    );
    let bearer = format!("Bearer {KEY}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let started = Instant::now();
    loop {
        let answer = send(
            balancer.address(),
            "POST",
            "/v1/events",
            &headers,
            body.clone(),
        )
        .await;
        match answer {
            Ok(answer) if answer.status == 201 => break,
            answer => ensure!(started.elapsed() < SOON, "{answer:?}"),
        }
    }
    ledger.note(topic, &id, data);
    Ok(())
}

/// Publishes to all topics in turn until told to stop; then to each its last event.
async fn publish_until(balancer: &Balancer, stop: watch::Receiver<bool>) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    let mut pace = tokio::time::interval(PACE);
    for n in 0.. {
        // Each topic has an event before anybody looks for the end.
        if n >= TOPICS {
            if *stop.borrow() {
                break;
            }
            pace.tick().await;
        }
        publish(balancer, &mut ledger, &topic(n), &n.to_string()).await?;
    }
    for n in 0..TOPICS {
        publish(balancer, &mut ledger, &topic(n), END).await?;
    }
    Ok(ledger)
}

/// How often Redis was asked for each command since `before`.
async fn asked(
    redis: &RedisServer,
    before: &BTreeMap<String, u64>,
) -> Result<BTreeMap<String, u64>> {
    let after = redis.command_stats().await?.into_iter();
    Ok(after
        .map(|(name, calls)| {
            let since = calls - before.get(&name).copied().unwrap_or(0);
            (name, since)
        })
        .filter(|(_, calls)| *calls > 0)
        .collect())
}

#[expect(clippy::print_stdout, reason = "the figures are what this test is for")]
#[tokio::test(flavor = "multi_thread")]
async fn three_instances_are_rolled_and_no_reader_notices() -> Result<()> {
    raise_the_limit_of_files()?;
    let redis = RedisServer::start().await?;
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(Instance::start(&["--redis", &redis.url()], CONFIG).await?);
    }
    let addresses = instances.iter().map(Instance::address).collect();
    let balancer = Balancer::checking(addresses).await?;
    let address = balancer.address();

    let (stop, stopped) = watch::channel(false);
    let (connected, mut connections) = mpsc::channel(READERS);
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let connected = connected.clone();
        readers.spawn(async move {
            let mut follower = Follower::new(stream(n));
            let topics: Vec<String> = follower.topics().into_iter().map(str::to_owned).collect();
            let mut connected = Some(connected);
            let followed = follower.follow(address, |received| {
                if let Some(connected) = connected.take() {
                    // There is room for every reader's word.
                    let _ = connected.try_send(());
                }
                topics.iter().all(|topic| received.last(topic) == Some(END))
            });
            let followed = followed.await;
            followed.with_context(|| format!("reader {n}"))?;
            anyhow::Ok((n, follower))
        });
    }
    for count in 0..READERS {
        let word = tokio::time::timeout(SOON, connections.recv()).await;
        word.with_context(|| format!("{count} readers are connected"))?;
    }

    let before = redis.command_stats().await?;
    let started = Instant::now();
    let rolling = async {
        for instance in &mut instances {
            instance.terminate().await?;
            instance.restart().await?;
        }
        stop.send_replace(true);
        anyhow::Ok(started.elapsed())
    };
    let (took, ledger) = tokio::try_join!(rolling, publish_until(&balancer, stopped))?;
    let (mut events, mut returns, mut topic_returns, mut shut_out) = (0, 0, 0, 0);
    let ended = async {
        while let Some(reader) = readers.join_next().await {
            let (n, follower) = reader??;
            ledger.check(
                &format!("reader {n}"),
                &follower.received,
                &follower.topics(),
            )?;
            events += follower.received.len();
            returns += follower.connections - 1;
            shut_out += follower.shut_out;
            if follower.topics().len() == 1 {
                topic_returns += follower.connections - 1;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, ended)
        .await
        .context("not every reader came to the end")??;
    let asked = asked(&redis, &before).await?;
    println!(
        "{READERS} readers came back {returns} times ({topic_returns} to one topic, {shut_out} tries \
         more) while three instances were rolled in {took:?}; {} events, {events} deliveries. Redis \
         was asked: {asked:?}",
        ledger.len()
    );
    // Everybody was sent away once, and those of the first two instances perhaps again.
    ensure!(returns >= READERS, "{returns} returns");
    let calls = |command: &str| asked.get(command).copied().unwrap_or(0);
    // Each new instance fills its window, and looks once for where each partition stands.
    let ranges = calls("xrange") + calls("xrevrange");
    ensure!(ranges <= FILLING, "{ranges} range reads: {asked:?}");
    // A script for each publish, and what goes with the seconds. A read of one topic asks for its
    // head besides, perhaps twice, because it answers with everything that was acknowledged before,
    // on any instance. Readers of `/v1/events` wait for what comes, and ask nothing.
    let scripts = calls("evalsha");
    let expected = ledger.len() + 2 * topic_returns + HOUSEKEEPING;
    ensure!(scripts <= expected as u64, "{scripts} scripts: {asked:?}");
    let indexed = calls("lrange");
    ensure!(
        indexed <= topic_returns as u64,
        "{indexed} pages: {asked:?}"
    );
    ensure!(
        expected < returns,
        "{returns} returns are too few to tell: {asked:?}"
    );
    Ok(())
}
