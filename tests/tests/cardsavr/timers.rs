//! Time that runs out, at two instances that both see it: the contract's checks 25 and 26.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::messages::{poll, register, say};
use crate::sdk::Sdk;

/// What stands for the hour.
const RETENTION: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn time_runs_out_once() -> Result<()> {
    let options = "[adapters.cardsavr.timers]\ntfa = \"2s\"\ncredentials = \"1s\"\njob = \"5s\"\n\
         job_timeout_unit = \"s\"\nretention = \"8s\"\n";
    let cluster = Cluster::start(options).await?;
    let done = tokio::try_join!(
        unanswered(&cluster, "tfa_request", "TIMEOUT_TFA"),
        unanswered(&cluster, "credential_request", "TIMEOUT_CREDENTIALS"),
        not_polled(&cluster),
        stuck(&cluster),
    );
    done.map(drop).with_context(|| cluster.printed())
}

async fn people(cluster: &Cluster) -> Result<(Sdk, u64)> {
    let mut sdk = Sdk::start("3.4").await?;
    for who in ["agent1", "browser1"] {
        cluster.log_in(&mut sdk, who).await?;
    }
    let job = cluster.create(&mut sdk, "agent1").await?;
    Ok((sdk, job["id"].as_u64().context("an id")?))
}

/// Polls until a message ends the job; answers with all messages.
async fn until_the_end(sdk: &mut Sdk, id: u64, key: &str) -> Result<Vec<Value>> {
    let looped = json!({"do": "loop", "as": "agent1", "job": id, "key": key, "every": 200});
    let looped = sdk.done(looped).await?["value"].take();
    Ok(looped.as_array().context("messages")?.clone())
}

/// 25: a request that nobody answers ends the job, once, and cannot be answered any more.
async fn unanswered(cluster: &Cluster, kind: &str, expected: &str) -> Result<()> {
    let (mut sdk, id) = people(cluster).await?;
    let sdk = &mut sdk;
    let (first, second) = (
        register(sdk, "agent1", id).await?,
        register(sdk, "agent1", id).await?,
    );
    let link = json!([{"key_name": "tfa", "label": "Code", "secret": false}]);
    let args = json!([id, kind, "Please", link]);
    let request = sdk.body("browser1", "requestJobInformation", args).await?;
    let messages = until_the_end(sdk, id, &first).await?;
    let last = &messages.last().context("one")?["message"];
    ensure!(last["status"] == expected, "{messages:?}");
    ensure!(
        last["termination_type"] == "USER_DATA_FAILURE",
        "{messages:?}"
    );
    ensure!(last["percent_complete"] == 100, "{messages:?}");
    let other = poll(sdk, "agent1", id, &second).await?;
    let ends = other
        .iter()
        .filter(|item| item["message"]["termination_type"].is_string());
    ensure!(ends.count() == 1, "{other:?}");
    let gone = sdk
        .body("agent1", "getJobInformationRequest", json!([id]))
        .await?;
    ensure!(gone.is_null(), "{gone}");
    let late = json!([id, request["envelope_id"], "tfa_response", "1234"]);
    sdk.refused("agent1", "sendJobInformation", late, &[400, 404, 409])
        .await?;
    // The other instance's clock has rung, too: nothing more comes of it.
    sdk.listen(Duration::from_secs(2)).await?;
    for key in [&first, &second] {
        let more = poll(sdk, "agent1", id, key).await?;
        ensure!(more.is_empty(), "{more:?}");
    }
    let job = sdk.body("agent1", "getSingleSiteJobs", json!([id])).await?;
    ensure!(
        job["status"] == expected && job["completed_on"].is_string(),
        "{job}"
    );
    Ok(())
}

/// 26: what nobody polled within the retention is gone, for keys and for sessions.
async fn not_polled(cluster: &Cluster) -> Result<()> {
    let (mut sdk, id) = people(cluster).await?;
    let sdk = &mut sdk;
    let key = register(sdk, "agent1", id).await?;
    say(sdk, id, &[json!({"status": "AUTH"})]).await?;
    let fresh = poll(sdk, "agent1", id, &key).await?;
    ensure!(fresh.len() == 1, "{fresh:?}");
    say(sdk, id, &[json!({"status": "UPDATING"})]).await?;
    sdk.listen(RETENTION + Duration::from_secs(1)).await?;
    let command =
        json!({"do": "call", "as": "agent1", "method": "getJobStatusUpdate", "args": [id, key]});
    let answer = sdk.tell(command).await?;
    let gone = answer["status"] == 401
        || answer["body"].as_array().is_some_and(|items| {
            items
                .iter()
                .all(|item| item["message"]["status"] != "UPDATING")
        });
    ensure!(gone, "{answer}");
    Ok(())
}

/// A job that nobody brings to its end is ended; until then its time runs down, in seconds here.
async fn stuck(cluster: &Cluster) -> Result<()> {
    let (mut sdk, id) = people(cluster).await?;
    let sdk = &mut sdk;
    let key = register(sdk, "agent1", id).await?;
    say(sdk, id, &[json!({"status": "IN_PROGRESS"})]).await?;
    let messages = until_the_end(sdk, id, &key).await?;
    let first = &messages[0]["message"]["job_timeout"];
    ensure!(first.as_u64().is_some_and(|left| left <= 5), "{messages:?}");
    let last = &messages.last().context("one")?["message"];
    ensure!(
        last["termination_type"] == "PROCESS_FAILURE",
        "{messages:?}"
    );
    ensure!(
        last["status"] == "VBS_TIMEOUT" && last["percent_complete"] == 100,
        "{messages:?}"
    );
    Ok(())
}
