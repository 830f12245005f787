//! Logging in, signatures, keys: the contract's checks 1 to 7, 28 and the preflights of 29.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::sdk::Sdk;

/// A key that is nobody's.
const STRANGE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

pub(crate) async fn all(cluster: &Cluster, which: &'static str) -> Result<()> {
    let mut sdk = Sdk::start(which).await?;
    let sdk = &mut sdk;
    logs_in(cluster, sdk).await.context("1")?;
    does_not_log_in(cluster, sdk).await.context("2")?;
    strangers(cluster, sdk).await.context("3")?;
    restores_and_ends(cluster, sdk).await.context("4")?;
    bursts(sdk).await.context("5")?;
    changed(cluster, sdk).await.context("6")?;
    signed_answers(sdk).await.context("7")?;
    bad_requests(sdk).await.context("28")
}

/// 1: the right proof is answered with a key, a token and a number; the derived key works.
async fn logs_in(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    cluster.session(sdk, "agent1", json!({})).await?;
    let answer = sdk.call("agent1", "init", json!(["agent1", "pw-agent1"]));
    let answer = answer.await?;
    ensure!(answer["status"] == 200, "{answer}");
    let body = &answer["body"];
    // 65 bytes in base64, the first of them 0x04
    let key = body["server_public_key"].as_str().context("a key")?;
    ensure!(key.len() == 88 && key.starts_with('B'), "{body}");
    let token = body["session_token"].as_str().context("a token")?;
    ensure!(!token.is_empty() && token.is_ascii(), "{body}");
    ensure!(body["user_id"] == 11, "{body}");
    ensure!(
        body["user"]["username"] == "agent1" && body["user"]["role"] == "cardholder_agent",
        "{body}"
    );
    let jobs = sdk.body("agent1", "getSingleSiteJobs", json!([{}])).await?;
    ensure!(jobs.is_array(), "{jobs}");
    Ok(())
}

/// 2: whoever is wrong reads why without a key, and does not learn what was wrong.
async fn does_not_log_in(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let mut said = Vec::new();
    for (change, user, password) in [
        (json!({}), "agent1", "wrong"),
        (json!({}), "nobody", "pw-agent1"),
        (json!({"key": STRANGE}), "agent1", "pw-agent1"),
        (json!({"app": "other-app"}), "agent1", "pw-agent1"),
    ] {
        cluster.session(sdk, "stranger", change).await?;
        let failed = sdk.refused("stranger", "init", json!([user, password]), &[401]);
        said.push(failed.await?["body"].take());
    }
    ensure!(
        said[0] == said[1],
        "it tells a bad user from a bad password: {said:?}"
    );
    Ok(())
}

/// 3: a key or a token of nobody's.
async fn strangers(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    cluster.log_in_as(sdk, "stranger", "agent1").await?;
    sdk.done(json!({"do": "rekey", "as": "stranger", "key": STRANGE}))
        .await?;
    sdk.refused("stranger", "getSingleSiteJobs", json!([{}]), &[401])
        .await?;
    cluster.log_in_as(sdk, "stranger", "agent1").await?;
    let headers = json!({"x-cardsavr-session-jwt": "nobodys"});
    sdk.refused(
        "stranger",
        "getSingleSiteJobs",
        json!([{}, {}, headers]),
        &[401],
    )
    .await?;
    let answer = sdk
        .raw(
            "stranger",
            json!({"path": "/place_card_on_single_site_jobs", "headers": headers}),
        )
        .await?;
    ensure!(
        answer["status"] == 401 && answer["json"]["_errors"].is_array(),
        "{answer}"
    );
    ensure!(
        !answer["text"].to_string().contains("encrypted_body"),
        "{answer}"
    );
    Ok(())
}

/// 4: a session as it was stored works in another object, after `refresh`; after `end` it does not.
async fn restores_and_ends(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    cluster.log_in_as(sdk, "first", "agent1").await?;
    let mut restore = cluster.hub();
    restore["do"] = "restore".into();
    restore["as"] = "second".into();
    restore["from"] = "first".into();
    sdk.done(restore).await?;
    let refreshed = sdk.call("second", "refresh", json!([])).await?;
    ensure!(refreshed["status"] == 200, "{refreshed}");
    sdk.call("second", "getSingleSiteJobs", json!([{}])).await?;
    let ended = sdk.raw("first", json!({"path": "/session/end"})).await?;
    ensure!(ended["status"] == 200 && ended["text"] == "", "{ended}");
    // At once, and at both: what one instance ended the other does not take.
    for _ in 0..4 {
        let answer = sdk
            .raw("second", json!({"path": "/place_card_on_single_site_jobs"}))
            .await?;
        ensure!(answer["status"] == 401, "{answer}");
    }
    sdk.refused("second", "getSingleSiteJobs", json!([{}]), &[401])
        .await?;
    sdk.refused("first", "refresh", json!([]), &[401]).await?;
    let end = sdk.call("first", "end", json!([])).await?;
    ensure!(end["value"].is_null(), "{end}");
    Ok(())
}

/// 5: identical requests of one millisecond have one nonce and one signature.
async fn bursts(sdk: &mut Sdk) -> Result<()> {
    let args = json!([{}]);
    let burst = json!({"do": "burst", "as": "agent1", "method": "getSingleSiteJobs", "args": args, "times": 25});
    let done = sdk.done(burst).await?;
    let statuses = done["value"].as_array().context("statuses")?;
    ensure!(
        statuses.len() == 25 && statuses.iter().all(|one| one["status"] == 200),
        "{done}"
    );
    Ok(())
}

/// 6: what was changed under its signature, and what is too old.
async fn changed(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let jobs = "/place_card_on_single_site_jobs";
    let job = cluster.job(&cluster.cuid(), "good_email", "good_password");
    let day = 24 * 3_600_000;
    let spoilt = json!({"method": "POST", "path": jobs, "body": job, "spoilt": true});
    for (change, expected) in [
        (json!({"path": jobs}), 200),
        (json!({"path": format!("{jobs}/")}), 200),
        (spoilt, 401),
        (
            json!({"path": jobs, "signed": "/messages/cardholders/1"}),
            401,
        ),
        (
            json!({"path": format!("{jobs}?ids=1"), "signed": format!("{jobs}?ids=2")}),
            401,
        ),
        (json!({"path": jobs, "shift": -day}), 401),
        (json!({"path": jobs, "shift": day}), 401),
        (
            json!({"path": jobs, "headers": {"x-cardsavr-nonce": "now"}}),
            401,
        ),
        (
            json!({"path": jobs, "headers": {"x-cardsavr-signature": null}}),
            401,
        ),
        (
            json!({"path": jobs, "headers": {"x-cardsavr-signature": ""}}),
            401,
        ),
        (
            json!({"path": jobs, "headers": {"x-cardsavr-authorization": null}}),
            401,
        ),
        (
            json!({"path": jobs, "headers": {"x-cardsavr-authorization": "Basic x"}}),
            401,
        ),
    ] {
        let answer = sdk.raw("agent1", change.clone()).await?;
        ensure!(answer["status"] == expected, "{change}: {answer}");
        if expected == 401 {
            ensure!(
                answer["json"]["_errors"][0]["message"].is_string(),
                "{change}: {answer}"
            );
        }
    }
    Ok(())
}

/// 7: an answer is one encrypted body, and says who signed it. That the signature is right, the SDK sees to.
async fn signed_answers(sdk: &mut Sdk) -> Result<()> {
    let answer = sdk
        .raw("agent1", json!({"path": "/place_card_on_single_site_jobs"}))
        .await?;
    let headers = &answer["headers"];
    for name in [
        "x-cardsavr-authorization",
        "x-cardsavr-nonce",
        "x-cardsavr-signature",
    ] {
        ensure!(headers[name].is_string(), "{name}: {answer}");
    }
    let wire: Value = serde_json::from_str(answer["text"].as_str().context("a text")?)?;
    let members: Vec<_> = wire.as_object().context("an object")?.keys().collect();
    ensure!(members == ["encrypted_body"], "{wire}");
    let body = wire["encrypted_body"].as_str().context("a body")?;
    let iv = body.split('$').nth(1).context("an IV")?;
    ensure!(iv.len() == 24 && body.split('$').count() == 2, "{wire}");
    ensure!(answer["json"].is_array(), "{answer}");
    Ok(())
}

/// 28: what is no request gets the status that says so.
async fn bad_requests(sdk: &mut Sdk) -> Result<()> {
    let jobs = "/place_card_on_single_site_jobs";
    for (change, expected) in [
        (json!({"path": "/no/such/path"}), 404),
        (
            json!({"method": "PUT", "path": "/messages/cardholders/1"}),
            405,
        ),
        (json!({"method": "POST", "path": jobs, "body": "text"}), 400),
    ] {
        let answer = sdk.raw("agent1", change.clone()).await?;
        ensure!(answer["status"] == expected, "{change}: {answer}");
        ensure!(
            answer["json"]["_errors"][0]["name"].is_string(),
            "{change}: {answer}"
        );
    }
    Ok(())
}
