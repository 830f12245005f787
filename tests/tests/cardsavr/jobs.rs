//! Jobs: the contract's checks 8 and 9, lists, and who may see them.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::cluster::Cluster;
use crate::sdk::Sdk;

const HYDRATED: &str = r#"["credential_requests"]"#;

pub(crate) async fn all(cluster: &Cluster, which: &'static str) -> Result<()> {
    let mut sdk = Sdk::start(which).await?;
    let sdk = &mut sdk;
    for who in ["agent1", "agent2", "customer1", "admin1", "browser1"] {
        cluster.log_in(sdk, who).await?;
    }
    creates(cluster, sdk).await.context("8")?;
    reads(cluster, sdk).await.context("9")?;
    lists(cluster, sdk).await.context("lists")?;
    roles(cluster, sdk).await.context("roles")
}

/// 8: nested bodies and an encrypted header.
async fn creates(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let job = cluster.job(&cluster.cuid(), "good_email", "tfa");
    let safe_key = "MBNL8Chib96EYdXNt3+etblMg2RAHUYM1d7ScSd8nf8=";
    let hydration = json!({"x-cardsavr-hydration": r#"["cardholder","account","card"]"#});
    let created = sdk
        .call(
            "agent1",
            "createSingleSiteJob",
            json!([job, safe_key, hydration]),
        )
        .await?;
    ensure!(created["status"] == 201, "{created}");
    let body = &created["body"];
    for id in ["id", "cardholder_id", "card_id", "account_id"] {
        ensure!(body[id].is_u64(), "{id}: {body}");
    }
    ensure!(
        body["status"] == "REQUESTED" && body["type"] == "CARD_PLACEMENT",
        "{body}"
    );
    ensure!(
        body["termination_type"].is_null() && body["completed_on"].is_null(),
        "{body}"
    );
    ensure!(
        body["cardholder"]["cuid"] == job["cardholder"]["cuid"],
        "{body}"
    );
    for part in ["account", "card"] {
        ensure!(
            body[part]["id"] == body[format!("{part}_id")],
            "{part}: {body}"
        );
    }
    // Nothing of the card or the login comes back.
    let text = body.to_string();
    ensure!(
        !text.contains("4111111111111111") && !text.contains("good_email"),
        "{body}"
    );

    // The same customer key is the same cardholder.
    let again = sdk
        .body("agent1", "createSingleSiteJob", json!([job]))
        .await?;
    ensure!(
        again["cardholder_id"] == body["cardholder_id"] && again["id"] != body["id"],
        "{again}"
    );

    // Several at once, by ids.
    let one = json!({"cardholder_id": body["cardholder_id"], "card_id": body["card_id"],
        "account": {"cardholder_id": body["cardholder_id"], "merchant_site_id": 1}});
    let both = sdk
        .call("agent1", "createSingleSiteJobs", json!([[one, one]]))
        .await?;
    let both = both["body"].as_array().context("an array")?;
    ensure!(
        both.len() == 2 && both[0]["id"] != both[1]["id"],
        "{both:?}"
    );
    ensure!(
        both.iter()
            .all(|job| job["cardholder_id"] == body["cardholder_id"]),
        "{both:?}"
    );
    Ok(())
}

/// 9: hydration, and a job that is not there.
async fn reads(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let job = cluster.create(sdk, "agent1").await?;
    let id = &job["id"];
    let hydration = json!({"x-cardsavr-hydration": HYDRATED});
    let read = sdk
        .body("agent1", "getSingleSiteJobs", json!([id, {}, hydration]))
        .await?;
    ensure!(
        read["credential_requests"] == json!([]) && read["id"] == *id,
        "{read}"
    );
    let read = sdk.body("agent1", "getSingleSiteJobs", json!([id])).await?;
    ensure!(read.get("credential_requests").is_none(), "{read}");
    sdk.refused(
        "agent1",
        "getSingleSiteJobs",
        json!([9_007_199_254_740_991_u64]),
        &[404],
    )
    .await?;
    Ok(())
}

/// Row 6: filters and pages.
async fn lists(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let cuid = cluster.cuid();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let job = cluster.job(&cuid, "good_email", "tfa");
        let job = sdk
            .body("agent1", "createSingleSiteJob", json!([job]))
            .await?;
        ids.push(job["id"].as_u64().context("an id")?);
    }
    // Each instance has numbers of its own to give away.
    ids.sort_unstable();
    let comma = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let got = |answer: &serde_json::Value| -> Vec<u64> {
        let jobs = answer["body"].as_array().into_iter().flatten();
        jobs.filter_map(|job| job["id"].as_u64()).collect()
    };
    let all = sdk
        .call("agent1", "getSingleSiteJobs", json!([{"ids": comma}]))
        .await?;
    ensure!(got(&all) == ids, "{all}");
    let page = json!({"page": 2, "page_length": "2"});
    let second = sdk
        .call("agent1", "getSingleSiteJobs", json!([{"ids": comma}, page]))
        .await?;
    ensure!(got(&second) == ids[2..], "{second}");
    let paging = second["headers"]["x-cardsavr-paging"]
        .as_str()
        .context("paging")?;
    let paging: serde_json::Value = serde_json::from_str(paging)?;
    ensure!(
        paging["page"] == 2 && paging["page_length"] == 2 && paging["total_results"] == 3,
        "{paging}"
    );
    // Somebody else's are not there.
    let other = sdk
        .call("agent2", "getSingleSiteJobs", json!([{"ids": comma}]))
        .await?;
    ensure!(got(&other).is_empty(), "{other}");
    Ok(())
}

/// Section 1.3, permissions.
async fn roles(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let job = cluster.create(sdk, "agent1").await?;
    let id = &job["id"];
    for (who, sees) in [
        ("agent2", false),
        ("customer1", true),
        ("admin1", true),
        ("browser1", true),
    ] {
        let read = json!([id]);
        if sees {
            let read = sdk
                .body(who, "getSingleSiteJobs", read)
                .await
                .context(who)?;
            ensure!(read["id"] == *id, "{who}: {read}");
        } else {
            sdk.refused(who, "getSingleSiteJobs", read, &[403, 404])
                .await?;
        }
    }
    // Agents set what is an agent's; they do not say that a job has succeeded.
    let billable = json!({"status": "SUCCESSFUL", "termination_type": "BILLABLE"});
    sdk.refused(
        "agent1",
        "updateSingleSiteJob",
        json!([id, billable]),
        &[400, 403],
    )
    .await?;
    let cancel = json!({"status": "CANCEL_REQUESTED"});
    sdk.refused(
        "agent2",
        "updateSingleSiteJob",
        json!([id, cancel]),
        &[403, 404],
    )
    .await?;
    let updated = sdk
        .body("agent1", "updateSingleSiteJob", json!([id, cancel]))
        .await?;
    ensure!(updated["status"] == "CANCEL_REQUESTED", "{updated}");
    // Only a virtual browser asks.
    let link = json!([{"key_name": "tfa", "label": "Code", "secret": false}]);
    for who in ["agent1", "agent2"] {
        let args = json!([id, "tfa_request", "Code?", link]);
        sdk.refused(who, "requestJobInformation", args, &[403, 404])
            .await?;
    }
    let own = cluster.job(&cluster.cuid(), "good_email", "tfa");
    sdk.refused("browser1", "createSingleSiteJob", json!([own]), &[403])
        .await?;
    Ok(())
}
