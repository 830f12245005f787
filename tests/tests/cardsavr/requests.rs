//! Credential requests and what answers them: the contract's checks 15 to 19.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::sdk::Sdk;

const HYDRATED: &str = r#"["credential_requests"]"#;

pub(crate) async fn all(cluster: &Cluster, which: &'static str) -> Result<()> {
    let mut sdk = Sdk::start(which).await?;
    let sdk = &mut sdk;
    for who in ["agent1", "agent2", "customer1", "browser1"] {
        cluster.log_in(sdk, who).await?;
    }
    let job = cluster.create(sdk, "agent1").await?;
    let id = &job["id"];
    nothing(sdk, id).await.context("15")?;
    let request = asks(sdk, id).await.context("16")?;
    strangers(sdk, id, &request).await.context("17")?;
    answers(sdk, id, &request).await.context("18")?;
    otherwise(sdk, &job).await.context("19")
}

/// 15: nothing is no body, for both sides.
async fn nothing(sdk: &mut Sdk, id: &Value) -> Result<()> {
    for (who, method) in [
        ("agent1", "getJobInformationRequest"),
        ("browser1", "getJobInformationResponse"),
    ] {
        let answer = sdk.call(who, method, json!([id])).await?;
        ensure!(answer["body"].is_null(), "{method}: {answer}");
    }
    Ok(())
}

/// Asks for something as the virtual browser; answers with the request that the owner finds.
async fn ask(sdk: &mut Sdk, id: &Value, kind: &str, names: &[&str]) -> Result<Value> {
    let link: Vec<Value> = names
        .iter()
        .map(|name| json!({"key_name": name, "label": name, "secret": false}))
        .collect();
    let args = json!([id, kind, "Please enter it", link]);
    let made = sdk.body("browser1", "requestJobInformation", args).await?;
    let found = sdk
        .body("agent1", "getJobInformationRequest", json!([id]))
        .await?;
    ensure!(
        found["envelope_id"] == made["envelope_id"],
        "{made} {found}"
    );
    Ok(found)
}

/// 16: the same each time, and in the job.
async fn asks(sdk: &mut Sdk, id: &Value) -> Result<Value> {
    let first = ask(sdk, id, "tfa_request", &["tfa"]).await?;
    let second = sdk
        .body("agent1", "getJobInformationRequest", json!([id]))
        .await?;
    ensure!(first == second, "{first} {second}");
    ensure!(
        first["type"] == "tfa_request" && first["job_id"] == *id && id.is_u64(),
        "{first}"
    );
    ensure!(first["message"] == "Please enter it", "{first}");
    ensure!(first["account_link"][0]["key_name"] == "tfa", "{first}");
    let envelope = first["envelope_id"].as_str().context("an envelope")?;
    ensure!(
        envelope.len() == 24 && envelope.ends_with("=="),
        "{envelope}"
    );
    let hydration = json!({"x-cardsavr-hydration": HYDRATED});
    let job = sdk
        .body("agent1", "getSingleSiteJobs", json!([id, {}, hydration]))
        .await?;
    ensure!(job["credential_requests"] == json!([first]), "{job}");
    Ok(first)
}

/// 17: nobody but the owner, and not with another envelope.
async fn strangers(sdk: &mut Sdk, id: &Value, request: &Value) -> Result<()> {
    let wrong = json!([id, "AAAAAAAAAAAAAAAAAAAAAA==", "tfa_response", "1234"]);
    sdk.refused("agent1", "sendJobInformation", wrong, &[404, 409])
        .await?;
    let without = json!([id, null, "tfa_response", "1234"]);
    sdk.refused("agent1", "sendJobInformation", without, &[400])
        .await?;
    let right = json!([id, request["envelope_id"], "tfa_response", "1234"]);
    for who in ["agent2", "customer1"] {
        sdk.refused(
            who,
            "getJobInformationRequest",
            json!([id]),
            &[401, 403, 404],
        )
        .await?;
        sdk.refused(who, "sendJobInformation", right.clone(), &[401, 403, 404])
            .await?;
    }
    let still = sdk
        .body("agent1", "getJobInformationRequest", json!([id]))
        .await?;
    ensure!(still == *request, "{still}");
    Ok(())
}

/// 18: the answer comes to the virtual browser, once, and the envelope is used up.
async fn answers(sdk: &mut Sdk, id: &Value, request: &Value) -> Result<()> {
    let envelope = &request["envelope_id"];
    let right = json!([id, envelope, "tfa_response", "1234"]);
    let answer = sdk
        .call("agent1", "sendJobInformation", right.clone())
        .await?;
    ensure!(
        answer["status"] == 200 || answer["status"] == 201,
        "{answer}"
    );
    let body = &answer["body"];
    ensure!(
        body["type"] == "tfa_response" && body["message"] == "submitted",
        "{body}"
    );
    ensure!(
        body["job_id"] == *id && body["envelope_id"] == *envelope,
        "{body}"
    );
    let gone = sdk
        .body("agent1", "getJobInformationRequest", json!([id]))
        .await?;
    ensure!(gone.is_null(), "{gone}");
    sdk.refused("agent1", "sendJobInformation", right, &[404, 409])
        .await?;
    sdk.refused("agent1", "getJobInformationResponse", json!([id]), &[403])
        .await?;
    let came = sdk
        .body("browser1", "getJobInformationResponse", json!([id]))
        .await?;
    ensure!(
        came["message"] == "1234" && came["envelope_id"] == *envelope,
        "{came}"
    );
    ensure!(
        came["type"] == "tfa_response" && came["job_id"] == *id,
        "{came}"
    );
    let taken = sdk
        .body("browser1", "getJobInformationResponse", json!([id]))
        .await?;
    ensure!(taken.is_null(), "{taken}");
    Ok(())
}

/// 19: as the documents' curl answers, as the newer documents do, and by putting a job or an account.
async fn otherwise(sdk: &mut Sdk, job: &Value) -> Result<()> {
    let id = &job["id"];
    let request = ask(sdk, id, "credential_request", &["username", "password"]).await?;
    let args = json!([id, request["envelope_id"], "credential_request", "success"]);
    sdk.body("agent1", "sendJobInformation", args).await?;
    let came = sdk
        .body("browser1", "getJobInformationResponse", json!([id]))
        .await?;
    ensure!(came["message"] == "success", "{came}");

    let request = ask(sdk, id, "credential_request", &["username", "password"]).await?;
    let envelope = json!({"x-cardsavr-envelope-id": request["envelope_id"]});
    let login = json!({"username": "good_email", "password": "good_password"});
    let put = json!([id, {"account": {"account_link": login}}, null, envelope]);
    let put = sdk.call("agent1", "updateSingleSiteJob", put).await?;
    ensure!(put["body"]["id"] == *id, "{put}");
    let came = sdk
        .body("browser1", "getJobInformationResponse", json!([id]))
        .await?;
    ensure!(came["envelope_id"] == request["envelope_id"], "{came}");
    let hydration = json!({"x-cardsavr-hydration": r#"["account"]"#});
    let safe = sdk
        .body("browser1", "getSingleSiteJobs", json!([id, {}, hydration]))
        .await?;
    ensure!(safe["account"]["account_link"] == login, "{safe}");
    let shown = sdk
        .body("agent1", "getSingleSiteJobs", json!([id, {}, hydration]))
        .await?;
    ensure!(!shown.to_string().contains("good_password"), "{shown}");

    let request = ask(sdk, id, "tfa_request", &["tfa"]).await?;
    let body = json!({"job_id": id, "envelope_id": request["envelope_id"], "account_link": {"tfa": "1234"}});
    let path = format!("/messages/place_card_on_single_site_jobs/{id}/credential_responses");
    let answer = sdk
        .raw(
            "agent1",
            json!({"method": "POST", "path": path, "body": body}),
        )
        .await?;
    ensure!(
        answer["status"] == 200 || answer["status"] == 201,
        "{answer}"
    );
    let came = sdk
        .body("browser1", "getJobInformationResponse", json!([id]))
        .await?;
    ensure!(
        came["account_link"]["tfa"] == "1234" || came["message"] == "1234",
        "{came}"
    );

    let request = ask(sdk, id, "credential_request", &["username", "password"]).await?;
    let args = json!([job["account_id"], {"account_link": login}, request["envelope_id"]]);
    let account = sdk.call("agent1", "updateAccount", args).await?;
    ensure!(account["body"]["id"] == job["account_id"], "{account}");
    let came = sdk
        .body("browser1", "getJobInformationResponse", json!([id]))
        .await?;
    ensure!(came["envelope_id"] == request["envelope_id"], "{came}");
    Ok(())
}
