//! What others publish under `cardsavr/job/<id>`, and what polls cost.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::{Dedup, Draft, Hub, Outcome, PublishError, Topic};
use tidings_testkit::adapter_exam::Logs;
use tidings_testkit::servers::RedisServer;

use crate::common::{Caller, Turns};
use crate::play::{both, cluster_on, id};

both! { drafts_pass_the_same_rules }

async fn publish(hub: &Hub, draft: Draft) -> Result<Outcome, String> {
    let judged = hub.ingested(draft).map_err(|error| error.to_string())?;
    match hub.ingest(vec![judged]).await.pop() {
        Some(Ok(appended)) => Ok(appended.outcome),
        Some(Err(PublishError::NotTaken(words))) => Err(words),
        other => Err(format!("{other:?}")),
    }
}

fn draft(job: u64, kind: &str, data: &Value) -> Draft {
    let topic = Topic::parse(&format!("cardsavr/job/{job}")).expect("a topic");
    let mut draft = Draft::new(topic, kind, data.to_string());
    draft.dedup = data["id"]
        .as_str()
        .map(|id| Dedup::by_source(&draft.topic, None, id));
    draft
}

mod scenes {
    use super::*;
    use tidings_testkit::adapter_exam::Cluster;

    pub(super) async fn drafts_pass_the_same_rules(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let job = id(&agent.job("c1").await?)?;
        let key = agent.register(job).await?;
        let (one, two) = (cluster.instance(0).hub(), cluster.instance(1).hub());
        let auth = draft(
            job,
            "job_status",
            &json!({"id": "a", "message": {"status": "AUTH"}}),
        );
        ensure!(publish(one, auth.clone()).await == Ok(Outcome::New));
        ensure!(publish(two, auth).await == Ok(Outcome::Duplicate));
        let ask = json!({"id": "b", "message": "code?", "account_link": [{"key_name": "tfa"}]});
        ensure!(publish(two, draft(job, "tfa_request", &ask)).await == Ok(Outcome::New));
        ensure!(agent.asked(job).await?["message"] == "code?");
        ensure!(agent.poll(job, &key).await? == ["AUTH", "PENDING_TFA"]);
        let end = json!({"status": "SUCCESSFUL"});
        ensure!(publish(one, draft(job, "job_status", &end)).await == Ok(Outcome::New));
        ensure!(agent.poll(job, &key).await? == ["SUCCESSFUL"]);
        ensure!(agent.read_job(job).await?["termination_type"] == "BILLABLE");
        for (draft, words) in [
            (draft(job, "job_status", &end), "the job has ended"),
            (draft(1, "job_status", &end), "no such job"),
            (
                draft(job, "job_status", &json!({})),
                "message: says nothing of the job",
            ),
        ] {
            ensure!(publish(one, draft).await == Err(words.to_owned()));
        }
        Ok(())
    }
}

/// What Redis was asked by a scene, by command.
async fn asked<R>(redis: &RedisServer, scene: R) -> Result<BTreeMap<String, u64>>
where
    R: Future<Output = Result<()>>,
{
    let before = redis.command_stats().await?;
    scene.await?;
    let mut after = redis.command_stats().await?;
    for (name, count) in &mut after {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    Ok(after)
}

/// A poll that finds nothing reads no log: it loads one record, and shares a look at heads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_poll_reads_no_log() -> Result<()> {
    const POLLS: u64 = 400;
    let redis = RedisServer::start().await?;
    let cluster = cluster_on(Logs::Redis(redis.url()), |_| {}).await?;
    let turns = Turns::of(&cluster);
    let agent = Caller::new(&turns, "agent1").await?;
    let vbs = Caller::new(&turns, "vbs").await?;
    let job = id(&agent.job("c1").await?)?;
    let key = agent.register(job).await?;
    // In most partitions, also in such as never had an event.
    let mut quiet = Vec::new();
    for _ in 0..20 {
        let job = id(&agent.job("c1").await?)?;
        quiet.push((job, agent.register(job).await?));
    }
    vbs.status(job, "AUTH", 1).await?;
    ensure!(agent.poll(job, &key).await? == ["AUTH"]);
    let calls = asked(&redis, async {
        for number in 0..POLLS / 2 {
            ensure!(agent.poll(job, &key).await?.is_empty());
            // Each on both instances.
            let (quiet, silent) = &quiet[usize::try_from(number / 2)? % quiet.len()];
            ensure!(agent.poll(*quiet, silent).await?.is_empty());
        }
        Ok(())
    });
    let calls = calls.await?;
    let scripts = calls.get("evalsha").copied().context("scripts")?;
    // One for the record, one for the head; and what instances do all the time besides.
    ensure!(scripts <= POLLS * 2 + 200, "{calls:?}");
    for read in ["xrange", "lrange", "lindex"] {
        let count = calls.get(read).copied().unwrap_or_default();
        ensure!(count == 0, "{read}: {calls:?}");
    }
    Ok(())
}
