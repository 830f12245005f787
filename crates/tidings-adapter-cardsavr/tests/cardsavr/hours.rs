//! Time: checks 25 and 26 of the contract. The log's clock is put forward; nothing waits.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tidings_adapter::Span;
use tidings_adapter_cardsavr::CardsavrOptions;
use tidings_testkit::adapter_exam::{Cluster, Logs};
use tidings_testkit::servers::{RedisServer, wait_for};

use crate::common::{Caller, SOON, Turns, refusal};
use crate::play::{JOBS, cluster_on, id, messages, noted};

const MINUTE: Duration = Duration::from_secs(60);

/// Sessions and jobs that outlive the hour that is looked at.
fn long(options: &mut CardsavrOptions) {
    options.session_idle = Span(Duration::from_secs(24 * 3600));
    options.timers.job = Span(Duration::from_secs(24 * 3600));
    options.nonce_window = Span(Duration::ZERO);
}

async fn hours() -> Result<Cluster> {
    cluster_on(Logs::Memory, long).await
}

#[tokio::test]
async fn a_message_is_there_at_59_minutes_and_gone_at_61() -> Result<()> {
    let cluster = hours().await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let (polled, left) = (agent.register(job).await?, agent.register(job).await?);
    vbs.status(job, "AUTH", 1).await?;
    cluster.pass(59 * MINUTE).await;
    // Used, so that the key itself goes on; the message was handed out to nobody before.
    ensure!(agent.poll(job, &polled).await? == ["AUTH"]);
    vbs.status(job, "UPDATING", 2).await?;
    cluster.pass(2 * MINUTE).await;
    // Nobody used this one for an hour: it is gone, and with it what it had not read.
    let answer = agent.raw(&agent.poll_request(job, &left)).await?;
    ensure!(answer.status == 401, "{}", answer.text());
    ensure!(agent.poll(job, &polled).await? == ["UPDATING"]);
    // A key that is used keeps its hour, a message does not.
    vbs.status(job, "QUEUED", 3).await?;
    cluster.pass(40 * MINUTE).await;
    vbs.status(job, "LATER", 3).await?;
    cluster.pass(21 * MINUTE - Duration::from_secs(60)).await;
    let key = agent.register(job).await?;
    cluster.pass(MINUTE + Duration::from_secs(1)).await;
    ensure!(agent.poll(job, &key).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn unread_messages_of_a_session_that_goes_on_are_gone_after_an_hour() -> Result<()> {
    let cluster = hours().await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let made = agent.job("c1").await?;
    let job = id(&made)?;
    let target = format!("/messages/cardholders/{}", made["cardholder_id"]);
    vbs.status(job, "AUTH", 1).await?;
    cluster.pass(30 * MINUTE).await;
    vbs.status(job, "UPDATING", 2).await?;
    cluster.pass(31 * MINUTE).await;
    let list = agent.get(&target).await??.body;
    ensure!(crate::play::statuses(&list, job)? == ["UPDATING"], "{list}");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_polled_lives_until_an_hour_after_its_jobs_end() -> Result<()> {
    let cluster = hours().await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let key = agent.register(job).await?;
    for _ in 0..4 {
        cluster.pass(50 * MINUTE).await;
        ensure!(agent.poll(job, &key).await?.is_empty());
    }
    vbs.status(job, "SUCCESSFUL", 100).await?;
    ensure!(agent.poll(job, &key).await? == ["SUCCESSFUL"]);
    // Else it would be fifteen seconds later, and nobody had said that it arrived.
    noted(cluster.instances()).await?;
    cluster.pass(59 * MINUTE).await;
    ensure!(agent.poll(job, &key).await?.is_empty());
    let late = agent.register(job).await?;
    ensure!(agent.poll(job, &late).await? == ["SUCCESSFUL"]);
    cluster.pass(2 * MINUTE).await;
    for key in [&key, &late] {
        let answer = agent.raw(&agent.poll_request(job, key)).await?;
        ensure!(answer.status == 401, "{}", answer.text());
    }
    let (status, _) = refusal(agent.get(&format!("{JOBS}/{job}")).await?)?;
    ensure!(status == 404);
    Ok(())
}

/// Waits for a job's end, and looks that it came once.
async fn ends_once(agent: &Caller<'_>, job: u64, key: &str, end: &str) -> Result<()> {
    let polled = wait_for("the job's end", SOON, || async {
        let got = agent.poll(job, key).await?;
        ensure!(!got.is_empty(), "nothing yet");
        Ok(got)
    });
    ensure!(polled.await? == [end]);
    // Two looks of each instance for deadlines.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    ensure!(agent.poll(job, key).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_request_that_nobody_answers_ends_the_job_once() -> Result<()> {
    let cluster = cluster_on(Logs::Memory, |_| {}).await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    vbs.status(job, "AUTH", 1).await?;
    let request = vbs.asks(job, "tfa_request").await?;
    let key = agent.register(job).await?;
    cluster.pass(4 * MINUTE - Duration::from_secs(2)).await;
    ensure!(agent.asked(job).await? == request);
    cluster.pass(Duration::from_secs(2)).await;
    ends_once(&agent, job, &key, "TIMEOUT_TFA").await?;
    let read = agent.read_job(job).await?;
    ensure!(read["termination_type"] == "USER_DATA_FAILURE");
    ensure!(
        read["credential_requests"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    ensure!(agent.asked(job).await? == Value::Null);
    let late = serde_json::json!({"envelope_id": request["envelope_id"], "message": "1234"});
    let (status, _) = refusal(
        agent
            .post(&messages(job, "credential_responses"), &late)
            .await?,
    )?;
    ensure!((400..500).contains(&status));
    Ok(())
}

/// The same by Redis' own clock, which cannot be put forward: with short timers.
#[tokio::test]
async fn on_redis_too() -> Result<()> {
    let redis = RedisServer::start().await?;
    let short = |options: &mut CardsavrOptions| {
        options.timers.tfa = Span(Duration::from_secs(1));
        options.timers.job = Span(Duration::from_secs(2));
    };
    let cluster = cluster_on(Logs::Redis(redis.url()), short).await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let (job, idle) = (id(&agent.job("c1").await?)?, id(&agent.job("c1").await?)?);
    let (key, second) = (agent.register(job).await?, agent.register(idle).await?);
    vbs.asks(job, "tfa_request").await?;
    ends_once(&agent, job, &key, "TIMEOUT_TFA").await?;
    ends_once(&agent, idle, &second, "ABANDONED").await?;
    Ok(())
}
