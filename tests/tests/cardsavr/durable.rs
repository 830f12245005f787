//! What must outlive processes and races: the contract's check 30.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_testkit::servers::wait_for;
use tidings_tests::SOON;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::messages::{poll, register, say};
use crate::plain::Plain;
use crate::sdk::Sdk;

/// Registrations on one job.
const KEYS: usize = 1_000;

/// Pollers that race for each of them, over both instances.
const RACERS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_get_everything_once_while_twenty_race_for_each() -> Result<()> {
    let cluster = Cluster::unsigned("session_requests = 0").await?;
    let addresses = [cluster.address(0), cluster.address(1)];
    let mut agent = Plain::log_in(addresses[0], "agent1").await?;
    let mut browser = Plain::log_in(addresses[1], "browser1").await?;
    let job = agent.create().await?;

    // Registered at both, by many at a time.
    let mut registering = JoinSet::new();
    for racer in 0..RACERS {
        let mut plain = Plain::connect(addresses[racer % 2], &agent.token).await?;
        registering.spawn(async move {
            let mut keys = Vec::new();
            for _ in 0..KEYS / RACERS {
                keys.push(plain.register(job).await?);
            }
            anyhow::Ok(keys)
        });
    }
    let mut keys = Vec::new();
    while let Some(some) = registering.join_next().await {
        keys.extend(some??);
    }
    let mut distinct = keys.clone();
    distinct.sort_unstable();
    distinct.dedup();
    ensure!(distinct.len() == KEYS);

    let keys = Arc::new(keys);
    for number in 0..5 {
        browser.say(job, number, "before").await?;
    }
    // They all go the same way, so that each key is asked for by all at about the same time.
    let mut racing = JoinSet::new();
    for racer in 0..RACERS {
        let mut plain = Plain::connect(addresses[racer % 2], &agent.token).await?;
        let keys = keys.clone();
        racing.spawn(async move {
            let mut got = Vec::new();
            for key in keys.iter() {
                let numbers = plain.poll(job, key).await?;
                ensure!(numbers.is_sorted(), "{key}: {numbers:?}");
                got.push(numbers);
            }
            anyhow::Ok(got)
        });
    }
    let during = tokio::spawn(async move {
        for number in 5..10 {
            browser.say(job, number, "while they race").await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(browser)
    });
    let mut got = vec![Vec::new(); KEYS];
    while let Some(one) = racing.join_next().await {
        for (all, numbers) in got.iter_mut().zip(one??) {
            all.extend(numbers);
        }
    }
    during.await??;
    // What was said after the last of them had passed.
    for (at, (key, all)) in keys.iter().zip(&mut got).enumerate() {
        let address = addresses[at % 2];
        if at < 2 {
            agent = Plain::connect(address, &agent.token).await?;
        }
        all.extend(agent.poll(job, key).await?);
        all.sort_unstable();
        ensure!(*all == (0..10).collect::<Vec<_>>(), "key {at}: {all:?}");
    }
    Ok(())
}

/// A poll whose answer is cut off on its way can be had again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_cut_off_comes_again() -> Result<()> {
    let cluster = Cluster::unsigned("session_requests = 0").await?;
    let mut agent = Plain::log_in(cluster.address(0), "agent1").await?;
    let mut browser = Plain::log_in(cluster.address(1), "browser1").await?;
    let job = agent.create().await?;
    let key = agent.register(job).await?;
    // More than the buffers between the two hold.
    let (count, words) = (500, "x".repeat(1_000));
    for number in 0..count {
        browser.say(job, number, &words).await?;
    }
    for at in 0..2 {
        // The second finds them when the first is known not to have got them.
        wait_for("an answer with messages", SOON, || {
            cut_off(cluster.address(at), job, &key, &agent.token)
        })
        .await?;
    }
    let got = tokio::sync::Mutex::new((agent, Vec::new()));
    let key = &key;
    wait_for("what was cut off", SOON, || async {
        let mut got = got.lock().await;
        let (agent, all) = &mut *got;
        let numbers = agent.poll(job, key).await?;
        all.extend(numbers);
        ensure!(all.len() >= count, "{} of {count}", all.len());
        Ok(())
    })
    .await?;
    let (mut agent, all) = got.into_inner();
    ensure!(all == (0..count).collect::<Vec<_>>(), "{all:?}");
    ensure!(agent.poll(job, key).await?.is_empty(), "once");
    Ok(())
}

/// Pollers at both instances while one of them dies and comes again: every key gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_an_instance_dies_under_its_pollers() -> Result<()> {
    const DYING: usize = 100;
    let mut cluster = Cluster::unsigned("session_requests = 0").await?;
    let addresses = [cluster.address(0), cluster.address(1)];
    let mut agent = Plain::log_in(addresses[1], "agent1").await?;
    let mut browser = Plain::log_in(addresses[1], "browser1").await?;
    let job = agent.create().await?;
    let mut keys = Vec::new();
    for _ in 0..DYING {
        keys.push((agent.register(job).await?, vec![0_u32; 60]));
    }
    let saying = tokio::spawn(async move {
        for number in 0..60 {
            browser.say(job, number, "while they poll").await?;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        anyhow::Ok(())
    });
    let mut polling = JoinSet::new();
    let token: Arc<str> = agent.token.into();
    for (at, (key, mut got)) in keys.into_iter().enumerate() {
        let token = token.clone();
        polling.spawn(async move {
            // Each goes on at the other instance when its own is gone.
            let mut turn = at;
            let mut plain = None;
            let end = tokio::time::Instant::now() + SOON;
            while got.contains(&0) {
                ensure!(tokio::time::Instant::now() < end, "{key}: {got:?}");
                if plain.is_none() {
                    turn += 1;
                    plain = Plain::connect(addresses[turn % 2], &token).await.ok();
                }
                let Some(poller) = &mut plain else { continue };
                match poller.poll(job, &key).await {
                    Ok(numbers) => numbers.into_iter().for_each(|number| got[number] += 1),
                    Err(_) => plain = None,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(got.into_iter().filter(|times| *times > 1).count())
        });
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.instances[0].kill().await?;
        cluster.instances[0].restart().await?;
    }
    saying.await??;
    let mut twice = 0;
    while let Some(one) = polling.join_next().await {
        twice += one??;
    }
    // Only what was on its way when the instance died may come again.
    ensure!(twice <= DYING, "{twice} messages came twice");
    Ok(())
}

/// Polls, and closes when the answer has begun. Fails when there is nothing in it.
async fn cut_off(address: SocketAddr, job: u64, key: &str, token: &str) -> Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!(
        "GET /messages/place_card_on_single_site_jobs/{job}/broadcasts HTTP/1.1\r\nhost: hub\r\n\
         x-cardsavr-session-jwt: {token}\r\ncardsavr-messaging-access-key: {key}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut beginning = vec![0; 1024];
    let length = socket.read(&mut beginning).await?;
    let beginning = String::from_utf8_lossy(&beginning[..length]);
    ensure!(beginning.starts_with("HTTP/1.1 200"), "{beginning}");
    ensure!(!beginning.contains("content-length: 2\r"), "{beginning}");
    // Most of it is unread: the other side sees a reset.
    drop(socket);
    Ok(())
}

/// 30: instances die between a publish and a poll.
#[tokio::test(flavor = "multi_thread")]
async fn instances_are_killed_between_a_publish_and_a_poll() -> Result<()> {
    let mut cluster = Cluster::start("").await?;
    let mut sdk = Sdk::start("3.4").await?;
    let sdk = &mut sdk;
    for who in ["agent1", "browser1"] {
        cluster.log_in(sdk, who).await?;
    }
    let job = cluster.create(sdk, "agent1").await?;
    let id = job["id"].as_u64().context("an id")?;
    let key = register(sdk, "agent1", id).await?;
    say(
        sdk,
        id,
        &[
            json!({"status": "AUTH"}),
            json!({"status": "LOGIN_SUBMITTED"}),
        ],
    )
    .await?;
    let link = json!([{"key_name": "tfa", "label": "Code", "secret": false}]);
    let args = json!([id, "tfa_request", "Code?", link]);
    let request = sdk.body("browser1", "requestJobInformation", args).await?;

    cluster.instances[0].kill().await?;
    let got = poll(sdk, "agent1", id, &key).await?;
    let statuses: Vec<&str> = got
        .iter()
        .filter_map(|item| item["message"]["status"].as_str())
        .collect();
    ensure!(statuses == ["AUTH", "LOGIN_SUBMITTED"], "{got:?}");
    cluster.instances[0].restart().await?;
    cluster.instances[1].kill().await?;

    // The session, the key, the request and what was taken are known to the one that has just begun.
    let still = sdk
        .body("agent1", "getJobInformationRequest", json!([id]))
        .await?;
    ensure!(still["envelope_id"] == request["envelope_id"], "{still}");
    ensure!(poll(sdk, "agent1", id, &key).await?.is_empty(), "once");
    let answer = json!([id, request["envelope_id"], "tfa_response", "1234"]);
    sdk.call("agent1", "sendJobInformation", answer).await?;
    cluster.instances[1].restart().await?;
    cluster.instances[0].kill().await?;
    let came = sdk
        .body("browser1", "getJobInformationResponse", json!([id]))
        .await?;
    ensure!(came["message"] == "1234", "{came}");
    say(sdk, id, &[json!({"status": "SUCCESSFUL"})]).await?;
    cluster.instances[0].restart().await?;
    cluster.instances[1].kill().await?;
    let last = poll(sdk, "agent1", id, &key).await?;
    ensure!(
        last.len() == 1 && last[0]["message"]["termination_type"] == "BILLABLE",
        "{last:?}"
    );
    Ok(())
}
