//! Answers that do not reach their client: connections that are really cut, and instances that die.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tidings_adapter::http::Method;
use tidings_adapter::{From, PageLimit, Topic};
use tidings_adapter_cardsavr::client::Prepared;
use tidings_testkit::adapter_exam::wire::connect;
use tidings_testkit::adapter_exam::{Fault, Logs};
use tidings_testkit::servers::{RedisServer, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{Caller, SOON, Turns, wired};
use crate::play::{both, cluster_on, id, messages, noted};

both! { polls_that_are_cut an_answer_that_is_cut a_long_answer_that_is_cut any_order_of_all_of_it }

/// How much of an answer a client reads before it goes.
#[derive(Debug, Clone, Copy)]
enum Read {
    Nothing,
    FirstByte,
    /// Up to the beginning of the body.
    Head,
}

/// Sends a request, reads so much of the answer, and cuts the connection.
async fn cut(at: SocketAddr, prepared: &Prepared, read: Read, resets: bool) -> Result<()> {
    let mut stream = connect(at).await?;
    stream.write_all(&wired(prepared).bytes()).await?;
    match read {
        Read::Nothing => {}
        Read::FirstByte => drop(stream.read_u8().await?),
        Read::Head => drop(head(&mut stream).await?),
    }
    if resets {
        // What a process that dies with unread bytes does.
        stream.set_zero_linger()?;
    }
    drop(stream);
    Ok(())
}

/// Reads up to the body, and says how long that is.
async fn head(stream: &mut TcpStream) -> Result<usize> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await?);
    }
    let seen = String::from_utf8(seen)?.to_lowercase();
    ensure!(seen.starts_with("http/1.1 200"), "{seen}");
    let length = seen
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    Ok(length.context("a length")?.parse()?)
}

/// Polls until something comes.
async fn something(agent: &Caller<'_>, job: u64, key: &str) -> Result<Vec<String>> {
    wait_for("messages", SOON, || async {
        let got = agent.poll(job, key).await?;
        ensure!(!got.is_empty(), "nothing yet");
        Ok(got)
    })
    .await
}

mod scenes {
    use super::*;
    use tidings_testkit::adapter_exam::Cluster;

    pub(super) async fn polls_that_are_cut(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let made = agent.job("c1").await?;
        let job = id(&made)?;
        let key = agent.register(job).await?;
        let list = format!("/messages/cardholders/{}", made["cardholder_id"]);
        ensure!(agent.get(&list).await??.body == json!([]));
        let mut number = 0;
        for read in [Read::FirstByte, Read::Head, Read::Nothing] {
            for resets in [true, false] {
                let mut expected = Vec::new();
                for _ in 0..3 {
                    number += 1;
                    let status = format!("S{number:02}");
                    vbs.status(job, &status, 1).await?;
                    expected.push(status);
                    cut(turns.next(), &agent.poll_request(job, &key), read, resets).await?;
                    let poll = agent.prepare(Method::GET, &list, None);
                    cut(turns.next(), &poll, read, resets).await?;
                }
                let mut got = Vec::new();
                while got.len() < expected.len() {
                    got.extend(something(&agent, job, &key).await?);
                }
                ensure!(got == expected, "{read:?} {resets}: {got:?}");
                ensure!(agent.poll(job, &key).await?.is_empty());
                let mut of_list = Vec::new();
                while of_list.len() < expected.len() {
                    let part = agent.get(&list).await??.body;
                    of_list.extend(crate::play::statuses(&part, job)?);
                }
                ensure!(of_list == expected, "{read:?} {resets}: {of_list:?}");
            }
        }
        Ok(())
    }

    pub(super) async fn an_answer_that_is_cut(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let request = vbs.asks(job, "tfa_request").await?;
        let said = json!({"envelope_id": request["envelope_id"], "message": "1234"});
        let responses = messages(job, "credential_responses");
        agent.post(&responses, &said).await??;
        for read in [Read::Head, Read::Nothing] {
            let fetch = vbs.prepare(Method::GET, &responses, None);
            cut(turns.next(), &fetch, read, true).await?;
        }
        let answered = wait_for("the answer", SOON, || async {
            let answered = vbs.answered(job).await?;
            ensure!(answered != Value::Null, "nothing yet");
            Ok(answered)
        });
        ensure!(answered.await?["message"] == "1234");
        ensure!(vbs.answered(job).await? == Value::Null);
        Ok(())
    }

    /// Registrations, statuses, polls and cut polls in any order: each key gets what was published
    /// since it was registered, once.
    pub(super) async fn any_order_of_all_of_it(cluster: Cluster) -> Result<()> {
        const STEPS: usize = 150;
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let seed: u64 = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        let mut published: Vec<String> = Vec::new();
        // Of each key: where it began, and what it got.
        let mut keys = vec![(agent.register(job).await?, 0, Vec::new())];
        for _ in 0..STEPS {
            let index = random.random_range(0..keys.len());
            match random.random_range(0..10) {
                0 if keys.len() < 5 => {
                    keys.push((agent.register(job).await?, published.len(), Vec::new()));
                }
                0..5 => {
                    let status = format!("S{:03}", published.len());
                    vbs.status(job, &status, 1).await?;
                    published.push(status);
                }
                5..7 => {
                    let poll = agent.poll_request(job, &keys[index].0);
                    cut(turns.next(), &poll, Read::Head, random.random()).await?;
                }
                _ => {
                    let got = agent.poll(job, &keys[index].0).await?;
                    keys[index].2.extend(got);
                }
            }
        }
        for (key, began, got) in &mut keys {
            let expected = &published[*began..];
            while got.len() < expected.len() {
                got.extend(something(&agent, job, key).await?);
            }
            got.extend(agent.poll(job, key).await?);
            let mut sorted = got.clone();
            sorted.sort();
            // What comes back may follow what a poll got before it was back.
            ensure!(sorted == expected, "seed {seed}: {got:?}");
        }
        Ok(())
    }

    /// Far more than the buffers between the two hold.
    pub(super) async fn a_long_answer_that_is_cut(cluster: Cluster) -> Result<()> {
        const STATUSES: usize = 1_200;
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let key = agent.register(job).await?;
        let words = "x".repeat(1_000);
        for _ in 0..STATUSES {
            let said = json!({"status": "AUTH", "status_message": words});
            vbs.says(job, &said).await?;
        }
        for _ in 0..3 {
            let long = wait_for("a long answer", SOON, || async {
                let mut stream = connect(turns.next()).await?;
                let request = wired(&agent.poll_request(job, &key)).bytes();
                stream.write_all(&request).await?;
                let length = head(&mut stream).await?;
                ensure!(length > 500_000, "the one before has not come back yet");
                Ok(stream)
            });
            let mut stream = long.await?;
            let mut some = vec![0; 50_000];
            stream.read_exact(&mut some).await?;
            // It waits for this client to read on.
            tokio::time::sleep(Duration::from_millis(300)).await;
            stream.set_zero_linger()?;
        }
        let mut count = 0;
        while count < STATUSES {
            count += something(&agent, job, &key).await?.len();
        }
        ensure!(
            count == STATUSES && agent.poll(job, &key).await?.is_empty(),
            "{count}"
        );
        Ok(())
    }
}

/// An instance dies while the answer is written: after a while another one gives it out again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_dies_with_an_answer() -> Result<()> {
    let mut cluster = cluster_on(Logs::Memory, |_| {}).await?;
    let (dies, lives) = (cluster.instance(0).address(), Turns::only(&cluster, 1));
    let agent = Caller::new(&lives, "agent1").await?;
    let vbs = Caller::new(&lives, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let key = agent.register(job).await?;
    vbs.status(job, "AUTH", 1).await?;
    let mut stream = connect(dies).await?;
    let request = agent.poll_request(job, &key);
    stream.write_all(&wired(&request).bytes()).await?;
    head(&mut stream).await?;
    cluster.kill(0);
    let mut rest = Vec::new();
    // It ends, one way or the other, before its end.
    let _ = stream.read_to_end(&mut rest).await;
    ensure!(!rest.ends_with(b"}"), "it was quicker: {rest:?}");
    // Others get what follows.
    vbs.status(job, "UPDATING", 2).await?;
    ensure!(agent.poll(job, &key).await? == ["UPDATING"]);
    noted(&cluster.instances()[1..]).await?;
    cluster.pass(Duration::from_secs(15)).await;
    ensure!(agent.poll(job, &key).await? == ["AUTH"]);
    noted(&cluster.instances()[1..]).await?;
    cluster.pass(Duration::from_secs(60)).await;
    ensure!(agent.poll(job, &key).await?.is_empty());
    Ok(())
}

/// The same, and the client (or what stands between) tries the very same request again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_again() -> Result<()> {
    let mut cluster = cluster_on(Logs::Memory, |_| {}).await?;
    let (dies, lives) = (cluster.instance(0).address(), Turns::only(&cluster, 1));
    let agent = Caller::new(&lives, "agent1").await?;
    let vbs = Caller::new(&lives, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let key = agent.register(job).await?;
    vbs.status(job, "AUTH", 1).await?;
    let mut stream = connect(dies).await?;
    let request = agent.poll_request(job, &key);
    stream.write_all(&wired(&request).bytes()).await?;
    head(&mut stream).await?;
    cluster.kill(0);
    cluster.pass(Duration::from_secs(3)).await;
    ensure!(agent.poll(job, &key).await?.is_empty(), "another request");
    let answer = agent.raw(&request).await?;
    let list = agent.read(&messages(job, "broadcasts"), &answer)?.body;
    ensure!(crate::play::statuses(&list, job)? == ["AUTH"]);
    Ok(())
}

/// Check 30: what was acknowledged is there when every instance has died and others have come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_everything_between_a_publish_and_a_poll() -> Result<()> {
    let redis = RedisServer::start().await?;
    let mut cluster = cluster_on(Logs::Redis(redis.url()), |_| {}).await?;
    let first = Turns::only(&cluster, 0);
    let agent = Caller::new(&first, "agent1").await?;
    let vbs = Caller::new(&first, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let key = agent.register(job).await?;
    vbs.status(job, "AUTH", 1).await?;
    let request = vbs.asks(job, "tfa_request").await?;
    cluster.kill(0);
    // The same clients, and an instance that they never met.
    let second = Turns::only(&cluster, 1);
    let (agent, vbs) = (agent.at(&second), vbs.at(&second));
    ensure!(agent.poll(job, &key).await? == ["AUTH"]);
    ensure!(agent.asked(job).await? == request);
    let said = json!({"envelope_id": request["envelope_id"], "message": "1234"});
    agent
        .post(&messages(job, "credential_responses"), &said)
        .await??;
    ensure!(vbs.answered(job).await?["message"] == "1234");
    vbs.status(job, "SUCCESSFUL", 100).await?;
    let left = agent.poll(job, &key).await?;
    ensure!(
        left.last().map(String::as_str) == Some("SUCCESSFUL"),
        "{left:?}"
    );
    redis
        .is_running()
        .await
        .then_some(())
        .context("Redis is gone")
}

/// The log loses what was published last, as in a failover: what comes then is not passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_what_was_read() -> Result<()> {
    let cluster = cluster_on(Logs::Memory, |_| {}).await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let (key, other) = (agent.register(job).await?, agent.register(job).await?);
    vbs.status(job, "KEPT", 1).await?;
    let topic = Topic::parse(&format!("cardsavr/job/{job}"))?;
    let hub = cluster.instance(0).hub();
    let kept = hub
        .read(&topic, From::Newest, PageLimit::default())
        .await?
        .next;
    vbs.status(job, "LOST", 2).await?;
    ensure!(agent.poll(job, &key).await? == ["KEPT", "LOST"]);
    cluster.lose_suffix(hub.placed(topic).partition, kept)?;
    let polled = wait_for("a poll", SOON, || async { agent.poll(job, &key).await });
    ensure!(polled.await?.is_empty());
    vbs.status(job, "AFTER", 3).await?;
    ensure!(something(&agent, job, &key).await? == ["AFTER"]);
    ensure!(something(&agent, job, &other).await? == ["KEPT", "AFTER"]);
    Ok(())
}

/// The log is away when an answer has arrived: it is noted later, and does not come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_away_when_an_answer_arrives() -> Result<()> {
    let cluster = cluster_on(Logs::Memory, |_| {}).await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let key = agent.register(job).await?;
    vbs.status(job, "AUTH", 1).await?;
    let mut stream = connect(turns.next()).await?;
    let poll = agent.poll_request(job, &key);
    stream.write_all(&wired(&poll).bytes()).await?;
    let mut rest = vec![0; head(&mut stream).await?];
    // All but the last byte is there: the batch is handed out, and not yet noted as taken.
    cluster.fault(Fault::Away);
    stream.read_exact(&mut rest).await?;
    // What is being noted counts as a connection of its instance.
    let noting = |some: bool| {
        let cluster = &cluster;
        wait_for("what arrived to be noted", SOON, move || async move {
            let mut hubs = cluster.instances().iter().map(|one| one.hub());
            let any = hubs.any(|hub| !hub.connections().is_empty());
            ensure!(any == some, "not yet");
            Ok(())
        })
    };
    noting(true).await?;
    cluster.fault(Fault::None);
    noting(false).await?;
    vbs.status(job, "LATER", 2).await?;
    ensure!(something(&agent, job, &key).await? == ["LATER"]);
    noting(false).await?;
    cluster.pass(Duration::from_secs(20)).await;
    ensure!(agent.poll(job, &key).await?.is_empty());
    Ok(())
}
