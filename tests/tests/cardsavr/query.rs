//! `CardsavrHelper` and `CardholderQuery` from a job's start to its end, with the simulator at the other side: the
//! contract's checks 23 and 24.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_tests::SOON;

use crate::cluster::Cluster;
use crate::sdk::{ALL, Sdk};

/// Milliseconds between two polls of the query; the SDK's own 2,000 would only take longer.
const EVERY: u64 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn the_helper_leads_a_job_to_its_end() -> Result<()> {
    let cluster = Cluster::start("origins = [\"*\"]").await?;
    let _simulator = cluster.simulator(&[])?;
    let done = tokio::try_join!(
        stories(&cluster, ALL[0]),
        stories(&cluster, ALL[1]),
        stories(&cluster, ALL[2]),
    );
    done.map(drop).with_context(|| cluster.printed())
}

async fn stories(cluster: &Cluster, which: &'static str) -> Result<()> {
    let mut sdk = Sdk::start(which).await?;
    let sdk = &mut sdk;
    let mut helper = cluster.hub();
    helper["do"] = "helper".into();
    helper["as"] = "h".into();
    sdk.done(helper).await?;
    let user = help(sdk, "loginAndCreateSession", json!(["agent1", "pw-agent1"])).await?;
    ensure!(user["user"] == 11, "{user}");
    to_billable(cluster, sdk).await.context("23")?;
    fails(cluster, sdk).await.context("too many failures")?;
    otherwise(cluster, sdk).await.context("otherwise")?;
    if which == "page" {
        comes_back(cluster, sdk)
            .await
            .context("a page that is loaded again")?;
    }
    gives_up(cluster, sdk).await.context("24")
}

async fn help(sdk: &mut Sdk, method: &str, args: Value) -> Result<Value> {
    let command = json!({"do": "help", "as": "h", "method": method, "args": args});
    Ok(sdk.done(command).await?["value"].take())
}

/// Creates a job with the helper and listens to all of it.
async fn begin(cluster: &Cluster, sdk: &mut Sdk, name: &str, login: [&str; 2]) -> Result<u64> {
    let mut job = cluster.job(&cluster.cuid(), login[0], login[1]);
    if login[0].is_empty() {
        job["account"]["account_link"].take();
    }
    let config = json!([{"username": "agent1", "job_data": job, "safe_key": null}]);
    let job = help(sdk, "placeCardOnSiteSingleCall", config).await?;
    let id = job["id"].as_u64().with_context(|| job.to_string())?;
    let query = json!({"do": "query", "as": name, "helper": "h", "username": "agent1",
        "cardholder": job["cardholder_id"], "every": EVERY});
    sdk.done(query).await?;
    for kind in [
        Value::Null,
        "pending_creds".into(),
        "pending_newcreds".into(),
        "pending_tfa".into(),
    ] {
        let listen = json!({"do": "listen", "as": name, "job": id, "type": kind});
        sdk.done(listen).await?;
    }
    Ok(id)
}

/// The request that a listener for it gets.
async fn asked(sdk: &mut Sdk, name: &str, kind: &str) -> Result<Value> {
    let heard = sdk.hears(kind, |line| line["as"] == name && line["type"] == kind);
    Ok(heard.await?["message"].take())
}

/// The last status; all events of the query until then stay in order.
async fn ended(sdk: &mut Sdk, name: &str) -> Result<Value> {
    let last = |line: &Value| {
        line["as"] == name
            && line["type"].is_null()
            && line["message"]["message"]["termination_type"].is_string()
    };
    Ok(sdk.hears("the end", last).await?["message"].take())
}

fn statuses(sdk: &Sdk, name: &str) -> Vec<String> {
    let own = sdk
        .heard()
        .iter()
        .filter(|line| line["as"] == name && line["type"].is_null());
    let statuses = own.filter_map(|line| line["message"]["message"]["status"].as_str());
    statuses.map(str::to_owned).collect()
}

fn post_creds(job: u64, request: &Value, account_link: Value) -> Value {
    json!([{"username": "agent1", "account_link": account_link, "job_id": job,
        "envelope_id": request["envelope_id"]}])
}

/// 23: a wrong login, a code, and the card is placed.
async fn to_billable(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let id = begin(cluster, sdk, "good", ["bad_email", "x"]).await?;
    let request = asked(sdk, "good", "pending_newcreds").await?;
    ensure!(
        request["type"] == "credential_request" && request["job_id"] == id,
        "{request}"
    );
    let login = json!({"username": "good_email", "password": "tfa"});
    help(sdk, "postCreds", post_creds(id, &request, login)).await?;
    let request = asked(sdk, "good", "pending_tfa").await?;
    ensure!(
        request["type"] == "tfa_request" && request["account_link"][0]["key_name"] == "tfa",
        "{request}"
    );
    help(
        sdk,
        "postCreds",
        post_creds(id, &request, json!({"tfa": "1234"})),
    )
    .await?;
    let last = ended(sdk, "good").await?;
    ensure!(last["message"]["status"] == "SUCCESSFUL", "{last}");
    ensure!(last["message"]["termination_type"] == "BILLABLE", "{last}");
    ensure!(
        last["message"]["percent_complete"] == 100 && last["job_id"] == id,
        "{last}"
    );
    sdk.done(json!({"do": "unlisten", "as": "good", "job": id}))
        .await?;
    let mut seen = statuses(sdk, "good");
    seen.retain(|status| status != "REQUESTED");
    let order = [
        "QUEUED",
        "IN_PROGRESS",
        "AUTH",
        "LOGIN_SUBMITTED",
        "PENDING_NEWCREDS",
        "NEWCREDS_RECEIVED",
        "LOGIN_RESUBMITTED",
        "PENDING_TFA",
        "TFA_RECEIVED",
        "TFA_SUBMITTED",
        "UPDATING",
    ];
    ensure!(seen == order, "{seen:?}");
    // Each request was told once.
    let more = sdk
        .heard()
        .iter()
        .find(|line| line["as"] == "good" && !line["type"].is_null());
    ensure!(more.is_none(), "{more:?}");
    Ok(())
}

/// The first wrong code ends a job, and so does the second wrong login.
async fn fails(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let code = begin(cluster, sdk, "code", ["good_email", "tfa"]).await?;
    let login = begin(cluster, sdk, "login", ["bad_email", "x"]).await?;
    let request = asked(sdk, "code", "pending_tfa").await?;
    let args = json!([code, request["envelope_id"], "tfa_response", "0000"]);
    sdk.call("h/agent1", "sendJobInformation", args).await?;
    let request = asked(sdk, "login", "pending_newcreds").await?;
    let wrong = json!({"username": "bad_email", "password": "y"});
    help(sdk, "postCreds", post_creds(login, &request, wrong)).await?;
    for (name, job, status) in [
        ("code", code, "TOO_MANY_TFA_FAILURES"),
        ("login", login, "TOO_MANY_LOGIN_FAILURES"),
    ] {
        let last = ended(sdk, name).await?;
        ensure!(last["message"]["status"] == status, "{last}");
        ensure!(
            last["message"]["termination_type"] == "USER_DATA_FAILURE",
            "{last}"
        );
        ensure!(last["message"]["percent_complete"] == 100, "{last}");
        sdk.done(json!({"do": "unlisten", "as": name, "job": job}))
            .await?;
    }
    Ok(())
}

/// A login that is given later, questions that are answered, a job that is called off while it waits.
async fn otherwise(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let late = begin(cluster, sdk, "late", ["", ""]).await?;
    let off = begin(cluster, sdk, "off", ["good_email", "tfa"]).await?;
    let request = asked(sdk, "late", "pending_creds").await?;
    ensure!(request["type"] == "initial_account_link", "{request}");
    let login = json!({"username": "good_email", "password": "security"});
    help(sdk, "postCreds", post_creds(late, &request, login)).await?;
    let request = asked(sdk, "late", "pending_tfa").await?;
    ensure!(request["type"] == "security", "{request}");
    let answers = json!({"security_1": "Max", "security_2": "Smith"});
    help(sdk, "postCreds", post_creds(late, &request, answers)).await?;
    asked(sdk, "off", "pending_tfa").await?;
    let cancel = json!([off, {"status": "CANCEL_REQUESTED"}]);
    sdk.call("h/agent1", "updateSingleSiteJob", cancel).await?;
    for (name, job, status, termination) in [
        ("late", late, "SUCCESSFUL", "BILLABLE"),
        ("off", off, "CANCELLED", "NEVER_STARTED"),
    ] {
        let last = ended(sdk, name).await?;
        ensure!(last["message"]["status"] == status, "{last}");
        ensure!(last["message"]["termination_type"] == termination, "{last}");
        sdk.done(json!({"do": "unlisten", "as": name, "job": job}))
            .await?;
    }
    Ok(())
}

/// Jobs go on while instances die under the simulator.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_outlives_instances() -> Result<()> {
    const JOBS: usize = 24;
    let mut cluster = Cluster::start("").await?;
    let mut sdk = Sdk::start("3.4").await?;
    let sdk = &mut sdk;
    cluster.log_in(sdk, "agent1").await?;
    let jobs: Vec<Value> = (0..JOBS)
        .map(|_| cluster.job(&cluster.cuid(), "good_email", "good_password"))
        .collect();
    let made = sdk
        .body("agent1", "createSingleSiteJobs", json!([jobs]))
        .await?;
    let ids = made
        .as_array()
        .context("jobs")?
        .iter()
        .filter_map(|job| job["id"].as_u64());
    let ids: Vec<u64> = ids.collect();
    ensure!(ids.len() == JOBS, "{made}");
    let mut simulator = cluster.simulator(&["--count", &JOBS.to_string()])?;
    for at in [0, 1] {
        tokio::time::sleep(Duration::from_millis(400)).await;
        cluster.instances[at].kill().await?;
        cluster.instances[at].restart().await?;
    }
    let status = tokio::time::timeout(SOON, simulator.wait()).await;
    let status = status.with_context(|| cluster.printed())??;
    ensure!(status.success(), "{}", cluster.printed());
    for id in ids {
        let job = sdk.body("agent1", "getSingleSiteJobs", json!([id])).await?;
        ensure!(
            job["termination_type"] == "BILLABLE",
            "{job}\n{}",
            cluster.printed()
        );
    }
    Ok(())
}

/// A helper in a page finds the session that another one stored, and refreshes it.
async fn comes_back(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let mut helper = cluster.hub();
    helper["do"] = "helper".into();
    helper["as"] = "reloaded".into();
    sdk.done(helper).await?;
    let command = json!({"do": "help", "as": "reloaded", "method": "loginAndCreateSession",
        "args": ["agent1", "not the password"]});
    let found = sdk.done(command).await?;
    ensure!(found["value"]["user"] == 11, "{found}");
    sdk.call("reloaded/agent1", "getSingleSiteJobs", json!([{}]))
        .await
        .map(drop)
}

/// 24: the session ends under the query; twelve polls fail, then it says so, once, and stops.
async fn gives_up(cluster: &Cluster, sdk: &mut Sdk) -> Result<()> {
    let id = begin(cluster, sdk, "orphan", ["good_email", "security"]).await?;
    let request = asked(sdk, "orphan", "pending_tfa").await?;
    ensure!(request["type"] == "security", "{request}");
    let mut copy = cluster.hub();
    copy["do"] = "restore".into();
    copy["as"] = "copy".into();
    copy["from"] = "h/agent1".into();
    sdk.done(copy).await?;
    sdk.call("copy", "end", json!([])).await?;
    let error = |line: &Value| line["as"] == "orphan" && line["message"]["type"] == "error";
    let heard = sdk.hears("the error", error).await?;
    ensure!(heard["message"]["job_id"] == -1, "{heard}");
    sdk.listen(Duration::from_millis(4 * EVERY)).await?;
    // Each listener is told once, and there are four.
    let errors = sdk.heard().iter().filter(|line| error(line));
    ensure!(errors.count() == 3, "{id}: {:?}", sdk.heard());
    Ok(())
}
