//! Broadcasts, keys and cardholders' lists: the contract's checks 10 to 14 and 20 to 22.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::sdk::Sdk;

pub(crate) async fn all(cluster: &Cluster, which: &'static str) -> Result<()> {
    let mut sdk = Sdk::start(which).await?;
    let sdk = &mut sdk;
    for who in ["agent1", "agent2", "customer1", "browser1"] {
        cluster.log_in(sdk, who).await?;
    }
    let job = cluster.create(sdk, "agent1").await?;
    let id = job["id"].as_u64().context("an id")?;
    let (first, second) = registers(sdk, id).await.context("10")?;
    polls(sdk, id, &first, &second).await.context("11 to 13")?;
    keys(cluster, sdk, id, &first).await.context("14")?;
    ends(sdk, id, &first, &second).await.context("20, 21")?;
    cardholders(cluster, sdk).await.context("22")?;
    overlapping(cluster, sdk)
        .await
        .context("polls of one millisecond")?;
    grants(cluster, sdk).await.context("row 17")?;
    both_in_one(cluster, sdk).await.context("row 14")
}

/// Says statuses as the virtual browser.
pub(crate) async fn say(sdk: &mut Sdk, job: u64, statuses: &[Value]) -> Result<()> {
    for status in statuses {
        sdk.call("browser1", "updateSingleSiteJob", json!([job, status]))
            .await?;
    }
    Ok(())
}

pub(crate) async fn register(sdk: &mut Sdk, session: &str, job: u64) -> Result<String> {
    let key = sdk
        .body(session, "registerForJobStatusUpdates", json!([job]))
        .await?;
    let key = key["access_key"]
        .as_str()
        .with_context(|| key.to_string())?;
    // 16 bytes in base64
    ensure!(key.len() == 24 && key.ends_with("=="), "{key}");
    Ok(key.to_owned())
}

/// What a key's poll brings: nothing, or an array.
pub(crate) async fn poll(sdk: &mut Sdk, session: &str, job: u64, key: &str) -> Result<Vec<Value>> {
    let body = sdk
        .body(session, "getJobStatusUpdate", json!([job, key]))
        .await?;
    match body {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items),
        other => anyhow::bail!("{other}"),
    }
}

fn statuses(items: &[Value]) -> Vec<&str> {
    let statuses = items.iter().map(|item| item["message"]["status"].as_str());
    statuses.flatten().collect()
}

/// 10: each registration has a key of its own; those who do not see the job have none.
async fn registers(sdk: &mut Sdk, id: u64) -> Result<(String, String)> {
    let first = register(sdk, "agent1", id).await?;
    let second = register(sdk, "customer1", id).await?;
    let third = register(sdk, "agent1", id).await?;
    ensure!(first != second && first != third && second != third);
    sdk.refused(
        "agent2",
        "registerForJobStatusUpdates",
        json!([id]),
        &[403, 404],
    )
    .await?;
    sdk.refused(
        "agent1",
        "registerForJobStatusUpdates",
        json!([9_007_199_254_740_991_u64]),
        &[404],
    )
    .await?;
    Ok((first, second))
}

/// 11 to 13: nothing; three in one array, in order, once for each key.
async fn polls(sdk: &mut Sdk, id: u64, first: &str, second: &str) -> Result<()> {
    ensure!(poll(sdk, "agent1", id, first).await?.is_empty());
    let said = [
        json!({"status": "AUTH", "percent_complete": 30}),
        json!({"status": "LOGIN_SUBMITTED", "percent_complete": 41.5, "auth_percent_complete": 50}),
        json!({"status": "UPDATING", "percent_complete": 54, "status_message": "Updating."}),
    ];
    say(sdk, id, &said).await?;
    let got = poll(sdk, "agent1", id, first).await?;
    ensure!(
        statuses(&got) == ["AUTH", "LOGIN_SUBMITTED", "UPDATING"],
        "{got:?}"
    );
    for (item, said) in got.iter().zip(&said) {
        ensure!(
            item["type"] == "job_status" && item["job_id"].as_u64() == Some(id),
            "{item}"
        );
        let message = &item["message"];
        ensure!(
            message["percent_complete"].as_f64() == said["percent_complete"].as_f64(),
            "{item}"
        );
        ensure!(
            message["job_timeout"].is_u64() && message.get("termination_type").is_none(),
            "{item}"
        );
    }
    ensure!(got[1]["message"]["auth_percent_complete"] == 50, "{got:?}");
    ensure!(
        got[2]["message"]["status_message"] == "Updating.",
        "{got:?}"
    );
    ensure!(poll(sdk, "agent1", id, first).await?.is_empty(), "once");
    let other = poll(sdk, "customer1", id, second).await?;
    ensure!(other == got, "{other:?}");
    ensure!(poll(sdk, "customer1", id, second).await?.is_empty(), "once");
    Ok(())
}

/// 14: a wrong, a missing, a foreign key; the session lives. The three names of the header.
async fn keys(cluster: &Cluster, sdk: &mut Sdk, id: u64, first: &str) -> Result<()> {
    let other = cluster.create(sdk, "agent1").await?;
    let other = other["id"].as_u64().context("an id")?;
    let foreign = register(sdk, "agent1", other).await?;
    let theirs = cluster.create(sdk, "agent2").await?;
    let theirs = theirs["id"].as_u64().context("an id")?;
    let theirs = (theirs, register(sdk, "agent2", theirs).await?);
    for (job, key) in [
        (id, "erz5nk219FPZNWGv3AbHdA=="),
        (id, foreign.as_str()),
        (id, theirs.1.as_str()),
        (id, "garbage"),
        (id, "ä"),
    ] {
        if !key.is_ascii() {
            continue; // no client can send it
        }
        sdk.refused("agent1", "getJobStatusUpdate", json!([job, key]), &[401])
            .await
            .context(key.to_owned())?;
    }
    sdk.refused(
        "agent1",
        "getJobStatusUpdate",
        json!([theirs.0, theirs.1]),
        &[401, 403, 404],
    )
    .await?;
    let path = format!("/messages/place_card_on_single_site_jobs/{id}/broadcasts");
    let answer = sdk.raw("agent1", json!({ "path": path })).await?;
    ensure!(answer["status"] == 401, "{answer}");
    for name in [
        "cardsavr-messaging-access-key",
        "x-cardsavr-messaging-access-key",
        "x-cardsavr-cardsavr-messaging-access-key",
    ] {
        let answer = sdk
            .raw("agent1", json!({"path": path, "headers": {name: first}}))
            .await?;
        ensure!(
            answer["status"] == 200 && answer["json"] == json!([]),
            "{name}: {answer}"
        );
    }
    // The object forgets its token and goes on sending it: the session is good.
    ensure!(poll(sdk, "agent1", id, first).await?.is_empty());
    Ok(())
}

/// 20 and 21: the documented loop ends by itself; who comes later is told at once.
async fn ends(sdk: &mut Sdk, id: u64, first: &str, second: &str) -> Result<()> {
    let last = json!({"status": "SUCCESSFUL", "termination_type": "BILLABLE",
        "status_message": "Your card has been placed successfully."});
    say(sdk, id, &[last]).await?;
    for (who, key) in [("agent1", first), ("customer1", second)] {
        let looped = json!({"do": "loop", "as": who, "job": id, "key": key, "every": 100});
        let looped = sdk.done(looped).await?["value"].take();
        let items = looped.as_array().context("items")?;
        let item = items.last().context("the last one")?;
        ensure!(
            items.len() == 1 && item["message"]["status"] == "SUCCESSFUL",
            "{looped}"
        );
        ensure!(
            item["message"]["termination_type"] == "BILLABLE",
            "{looped}"
        );
        ensure!(item["message"]["percent_complete"] == 100, "{looped}");
    }
    let job = sdk.body("agent1", "getSingleSiteJobs", json!([id])).await?;
    ensure!(
        job["termination_type"] == "BILLABLE" && job["percent_complete"] == 100,
        "{job}"
    );
    ensure!(job["completed_on"].is_string(), "{job}");
    // It stays ended.
    let again = json!([id, {"status": "UPDATING", "percent_complete": 10}]);
    sdk.refused("browser1", "updateSingleSiteJob", again, &[400, 404, 409])
        .await?;
    let late = register(sdk, "agent1", id).await?;
    let got = poll(sdk, "agent1", id, &late).await?;
    ensure!(statuses(&got) == ["SUCCESSFUL"], "{got:?}");
    ensure!(
        got[0]["message"]["termination_type"] == "BILLABLE",
        "{got:?}"
    );
    ensure!(poll(sdk, "agent1", id, &late).await?.is_empty(), "once");
    Ok(())
}

/// 22: the jobs of one cardholder in one list, for each session once; nobody else's.
async fn cardholders(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let cuid = cluster.cuid();
    let mut ids = Vec::new();
    let mut cardholder = Value::Null;
    for _ in 0..2 {
        let job = cluster.job(&cuid, "good_email", "tfa");
        let mut job = sdk
            .body("agent1", "createSingleSiteJob", json!([job]))
            .await?;
        ids.push(job["id"].as_u64().context("an id")?);
        cardholder = job["cardholder_id"].take();
    }
    for status in ["QUEUED", "AUTH", "UPDATING"] {
        for id in &ids {
            say(sdk, *id, &[json!({"status": status})]).await?;
        }
    }
    cluster.log_in_as(sdk, "twin", "agent1").await?;
    for session in ["agent1", "twin"] {
        let got = sdk
            .body(session, "getCardholderMessages", json!([cardholder]))
            .await?;
        let got = got.as_array().with_context(|| got.to_string())?;
        for id in &ids {
            let own: Vec<Value> = got
                .iter()
                .filter(|item| item["job_id"].as_u64() == Some(*id))
                .cloned()
                .collect();
            let mut own = statuses(&own);
            // Its creation may be said, too.
            own.retain(|status| *status != "REQUESTED");
            ensure!(own == ["QUEUED", "AUTH", "UPDATING"], "{session}: {got:?}");
        }
        ensure!(
            got.iter().all(|item| item["type"] == "job_status"),
            "{got:?}"
        );
        let again = sdk
            .body(session, "getCardholderMessages", json!([cardholder]))
            .await?;
        ensure!(again == json!([]), "{session}: {again}");
    }
    sdk.refused(
        "agent2",
        "getCardholderMessages",
        json!([cardholder]),
        &[401, 403, 404],
    )
    .await?;
    Ok(())
}

/// Polls of one millisecond have one nonce and one signature, and none of them is a retry: they share what there is.
async fn overlapping(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let job = cluster.create(sdk, "agent1").await?;
    let id = job["id"].as_u64().context("an id")?;
    let key = register(sdk, "agent1", id).await?;
    let said: Vec<String> = (0..10).map(|number| format!("STEP_{number}")).collect();
    let mut got = Vec::new();
    for statuses in said.chunks(5) {
        let all: Vec<Value> = statuses
            .iter()
            .map(|one| json!({ "status": one }))
            .collect();
        say(sdk, id, &all).await?;
        let burst = json!({"do": "burst", "as": "agent1", "method": "getJobStatusUpdate",
            "args": [id, key], "times": 12});
        let done = sdk.done(burst).await?;
        for one in done["value"].as_array().context("answers")? {
            ensure!(one["status"] == 200, "{done}");
            let items = one["body"].as_array().into_iter().flatten();
            got.extend(
                items.filter_map(|item| item["message"]["status"].as_str().map(str::to_owned)),
            );
        }
    }
    got.sort_unstable();
    ensure!(got == said, "{got:?}");
    Ok(())
}

/// Row 17: whoever is given the grant of a new cardholder may read what becomes of him.
async fn grants(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let job = cluster.job(&cluster.cuid(), "good_email", "tfa");
    let hydration = json!({"x-cardsavr-hydration": r#"["cardholder"]"#});
    let job = json!([job, null, hydration]);
    let job = sdk.body("agent1", "createSingleSiteJob", job).await?;
    let id = job["id"].as_u64().context("an id")?;
    say(sdk, id, &[json!({"status": "AUTH"})]).await?;
    let list = json!([job["cardholder_id"]]);
    // A session of its own: others of this user have no part in it.
    cluster.log_in_as(sdk, "friend", "agent2").await?;
    sdk.refused("friend", "getCardholderMessages", list.clone(), &[403, 404])
        .await?;
    let wrong = json!([format!("{}.AAAAAAAAAAAAAAAAAAAAAA==", job["cardholder_id"])]);
    sdk.refused(
        "friend",
        "authorizeCardholder",
        wrong,
        &[400, 401, 403, 404],
    )
    .await?;
    let grant = &job["cardholder"]["grant"];
    ensure!(grant.is_string(), "{job}");
    let granted = sdk
        .call("friend", "authorizeCardholder", json!([grant]))
        .await?;
    ensure!(granted["status"] == 200, "{granted}");
    let got = sdk
        .body("friend", "getCardholderMessages", list.clone())
        .await?;
    let got = got.as_array().with_context(|| got.to_string())?;
    ensure!(statuses(got).contains(&"AUTH"), "{got:?}");
    sdk.refused("agent2", "getCardholderMessages", list, &[403, 404])
        .await?;
    Ok(())
}

/// Row 14: statuses, taken once, and what its user is asked, which stays.
async fn both_in_one(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let job = cluster.create(sdk, "agent1").await?;
    let id = job["id"].as_u64().context("an id")?;
    say(sdk, id, &[json!({"status": "AUTH"})]).await?;
    let link = json!([{"key_name": "tfa", "label": "Code", "secret": false}]);
    sdk.call(
        "browser1",
        "requestJobInformation",
        json!([id, "tfa_request", "Code?", link]),
    )
    .await?;
    let path = format!("/messages/place_card_on_single_site_jobs/{id}");
    let kinds = |answer: &Value| -> Vec<String> {
        let items = answer["json"].as_array().into_iter().flatten();
        items
            .filter_map(|item| item["type"].as_str().map(str::to_owned))
            .collect()
    };
    let answer = sdk.raw("agent1", json!({ "path": path })).await?;
    let found = kinds(&answer);
    ensure!(
        found.first().is_some_and(|kind| kind == "job_status"),
        "{answer}"
    );
    ensure!(
        found.last().is_some_and(|kind| kind == "tfa_request"),
        "{answer}"
    );
    let answer = sdk.raw("agent1", json!({ "path": path })).await?;
    ensure!(kinds(&answer) == ["tfa_request"], "{answer}");
    Ok(())
}
