//! Sessions and signatures: T17 to T19 and checks 3 to 7 and 24 of the contract.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::http::Method;
use tidings_adapter_cardsavr::client::Client;
use tidings_testkit::adapter_exam::Logs;
use tidings_testkit::servers::wait_for;

use crate::common::{
    APP, Caller, KEY, SOON, Turns, cluster, is_documented, now_ms, refusal, wired,
};

#[tokio::test]
async fn a_session_holds_on_both_instances_until_it_ends() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let caller = Caller::new(&turns, "agent1").await?;
    // T17, several times on each instance.
    for _ in 0..6 {
        let reply = caller.refresh().await??;
        ensure!(reply.status == 200 && reply.body == json!({"success": true}));
        ensure!(caller.get("/session/refresh").await??.status == 200);
    }
    // T18: signed, no body, no content type.
    let answer = caller
        .raw(&caller.prepare(Method::GET, "/session/end", None))
        .await?;
    ensure!(
        answer.status == 200 && answer.body.is_empty(),
        "{}",
        answer.text()
    );
    ensure!(answer.header("content-length") == "0" && answer.header("content-type").is_empty());
    ensure!(caller.read("/session/end", &answer)?.body == Value::Null);
    // T19, on both: it was remembered there a moment ago.
    for _ in 0..2 {
        let at = turns.next();
        wait_for("the end on this instance", Duration::from_secs(5), || async {
            let prepared = caller.prepare(Method::GET, "/session/end", None);
            let answer = tidings_testkit::adapter_exam::wire::send(at, &wired(&prepared)).await?;
            ensure!(answer.status == 401, "{}", answer.status);
            ensure!(
                answer.text()
                    == r#"{"_errors":[{"entity_name":"","message":"no session","name":"Unauthorized","property":"","property_name":""}],"message":"no session"}"#,
                "{}",
                answer.text()
            );
            ensure!(answer.header("x-cardsavr-signature").is_empty(), "in clear");
            Ok(())
        })
        .await?;
    }
    // Another session of the same user lives on.
    let other = Caller::new(&turns, "agent1").await?;
    ensure!(other.refresh().await?.is_ok());
    Ok(())
}

#[tokio::test]
async fn what_was_not_signed_so_is_refused_in_clear() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let caller = Caller::new(&turns, "agent1").await?;
    let other = Caller::new(&turns, "agent1").await?;
    let body = json!({});
    let good = || caller.prepare(Method::PUT, "/session/refresh", Some(&body));
    let mut bad = Vec::new();
    // The key of another session; no such session; the word of a login; another app's name.
    let mut request = other.prepare(Method::PUT, "/session/refresh", Some(&body));
    let token = caller.client.token().context("a token")?.parse()?;
    request.headers.insert("x-cardsavr-session-jwt", token);
    bad.push(("a foreign key", request));
    for token in ["unknown", "null", ""] {
        let mut request = good();
        request
            .headers
            .insert("x-cardsavr-session-jwt", token.parse()?);
        bad.push(("a token that is none", request));
    }
    let mut request = good();
    request.target = "/session/end".to_owned();
    request.method = Method::GET;
    bad.push(("another path", request));
    let mut request = good();
    request.body = caller
        .prepare(Method::PUT, "/session/refresh", Some(&json!({"a": 1})))
        .body;
    bad.push(("another body", request));
    let mut request = good();
    request.body = Default::default();
    bad.push(("no body", request));
    for (name, value) in [
        ("x-cardsavr-signature", "AAAA"),
        ("x-cardsavr-signature", ""),
        ("x-cardsavr-nonce", "1"),
        (
            "x-cardsavr-authorization",
            "SWCH-HMAC-SHA256 Credentials=other-app",
        ),
        ("x-cardsavr-authorization", "Basic YWJj"),
    ] {
        let mut request = good();
        request.headers.insert(name, value.parse()?);
        bad.push((name, request));
    }
    let mut request = good();
    request.headers.remove("x-cardsavr-authorization");
    bad.push(("no signature", request));
    // Signed well, but a day ago.
    let day = 24 * 3600 * 1000;
    let target = "/session/refresh";
    for nonce in [now_ms() - day, now_ms() + day] {
        let request = caller
            .client
            .prepare(Method::PUT, target, Some(&body), &[], nonce)?;
        bad.push(("a nonce out of the window", request));
    }
    // A GET that was recorded a day ago, the last digit of its nonce as a body.
    let old = (now_ms() - day).to_string();
    let mut request = caller
        .client
        .prepare(Method::GET, target, None, &[], now_ms() - day)?;
    let (short, rest) = old.split_at(old.len() - 1);
    request.headers.insert("x-cardsavr-nonce", short.parse()?);
    request.body = rest.to_owned().into();
    bad.push(("an old nonce made short", request));
    for (what, request) in &bad {
        let answer = caller.raw(request).await?;
        ensure!(answer.status == 401, "{what}: {}", answer.status);
        let told: Value = serde_json::from_slice(&answer.body).context(*what)?;
        ensure!(is_documented(&told), "{what}: {told}");
        ensure!(answer.header("x-cardsavr-signature").is_empty(), "{what}");
    }
    // Within the window, or no time at all; and the session still holds.
    for nonce in [now_ms() - 200_000, now_ms() + 200_000, 999] {
        let request = caller
            .client
            .prepare(Method::PUT, target, Some(&body), &[], nonce)?;
        ensure!(caller.raw(&request).await?.status == 200, "{nonce}");
    }
    ensure!(caller.refresh().await?.is_ok());
    Ok(())
}

#[tokio::test]
async fn one_millisecond_has_room_for_many() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let caller = Caller::new(&turns, "agent1").await?;
    let same = caller.prepare(Method::GET, "/session/refresh", None);
    for answer in futures_util::future::join_all((0..25).map(|_| caller.raw(&same))).await {
        let answer = answer?;
        ensure!(answer.status == 200, "{}", answer.text());
        ensure!(caller.read("/session/refresh", &answer)?.body["success"] == true);
    }
    Ok(())
}

#[tokio::test]
async fn a_client_of_gcm_is_answered_in_kind() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let client = Client::new(APP, KEY)?.with_gcm();
    let caller = Caller::with(&turns, client, "agent1").await?;
    let body = json!({});
    for prepared in [
        caller.prepare(Method::PUT, "/session/refresh", Some(&body)),
        // No body says how this client encrypts; its login did.
        caller.prepare(Method::GET, "/session/refresh", None),
    ] {
        let answer = caller.raw(&prepared).await?;
        ensure!(
            answer.text().ends_with("$aes-256-gcm\"}"),
            "{}",
            answer.text()
        );
        ensure!(caller.read("/session/refresh", &answer)?.body["success"] == true);
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_session_is_over_and_a_used_one_is_not() -> Result<()> {
    if Logs::from_env() != Logs::Memory {
        // Redis has a clock of its own, and nobody waits for twenty minutes.
        return Ok(());
    }
    let cluster = cluster(|options| options.nonce_window = parse("0s")).await?;
    let turns = Turns::of(&cluster);
    let (used, idle) = (
        Caller::new(&turns, "agent1").await?,
        Caller::new(&turns, "agent2").await?,
    );
    for _ in 0..4 {
        cluster.pass(Duration::from_secs(5 * 60)).await;
        // A plain request on either instance keeps it alive, though that is written beside it.
        let prepared = used.prepare(Method::GET, "/session/refresh/", None);
        ensure!(used.raw(&prepared).await?.status == 200);
        ensure!(used.refresh().await?.is_ok());
    }
    for _ in 0..2 {
        let (status, _) = refusal(idle.refresh().await?)?;
        ensure!(status == 401);
    }
    Ok(())
}

#[tokio::test]
async fn sessions_outlive_the_instance_that_began_them() -> Result<()> {
    let mut cluster = cluster(|_| {}).await?;
    let first = cluster.instance(0).address();
    let turns = Turns::of(&cluster);
    let caller = Caller::new(&turns, "agent1").await?;
    ensure!(caller.refresh().await?.is_ok());
    cluster.kill(0);
    let second = cluster.instance(1).address();
    ensure!(first != second);
    let prepared = caller.prepare(Method::GET, "/session/refresh", None);
    let answer = tidings_testkit::adapter_exam::wire::send(second, &wired(&prepared)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    // Somebody who stored his session and took it up again has no more than its token and key.
    let restored = caller.client.clone();
    let prepared = restored.prepare(Method::GET, "/session/refresh", None, &[], now_ms())?;
    let answer = tidings_testkit::adapter_exam::wire::send(second, &wired(&prepared)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_poller_whose_session_ends_is_told_every_time() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let poller = Caller::new(&turns, "agent1").await?;
    ensure!(poller.get("/session/end").await?.is_ok());
    wait_for("both instances", SOON, || async {
        for _ in 0..2 {
            ensure!(refusal(poller.refresh().await?)?.0 == 401);
        }
        Ok(())
    })
    .await?;
    for _ in 0..12 {
        let (status, body) = refusal(poller.get("/messages/cardholders/1").await?)?;
        ensure!(
            status == 401 && body["message"] == "no session",
            "{status} {body}"
        );
    }
    Ok(())
}

fn parse(text: &str) -> tidings_adapter::Span {
    serde_json::from_value(json!(text)).expect("a span")
}

#[tokio::test]
async fn a_grant_opens_a_cardholder_on_both_instances() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let owner = Caller::new(&turns, "agent1").await?;
    let other = Caller::new(&turns, "agent2").await?;
    let job = json!({"cardholder": {"cuid": "c1"}, "account": {"cardholder_ref": {"cuid": "c1"}, "merchant_site_id": 1}});
    let target = "/place_card_on_single_site_jobs";
    let headers = [("x-cardsavr-hydration", "[\"cardholder\"]")];
    let prepared = owner
        .client
        .prepare(Method::POST, target, Some(&job), &headers, now_ms())?;
    let made = owner.read(target, &owner.raw(&prepared).await?)?.body;
    let grant = made["cardholder"]["grant"].as_str().context("a grant")?;
    let target = format!("/messages/cardholders/{}", made["cardholder_id"]);
    // Both instances remember the session as it is without.
    for _ in 0..2 {
        let (status, _) = refusal(other.get(&target).await?)?;
        ensure!(status == 403 || status == 404, "{status}");
    }
    let authorize = |grant: &str| json!({"grant": grant, "source": "here"});
    for bad in ["x", "1.x", &grant[..grant.len() - 1], ""] {
        let body = authorize(bad);
        let refused = other
            .call(Method::POST, "/cardholders/authorize", Some(&body))
            .await?;
        let (status, told) = refusal(refused)?;
        ensure!(
            (status == 403 || status == 400) && is_documented(&told),
            "{told}"
        );
    }
    let body = authorize(grant);
    let reply = other
        .call(Method::POST, "/cardholders/authorize", Some(&body))
        .await??;
    ensure!(reply.status == 200 && reply.body["cardholder_id"] == made["cardholder_id"]);
    for _ in 0..4 {
        let reply = other.get(&target).await??;
        ensure!(reply.body.is_array(), "{}", reply.body);
    }
    Ok(())
}
