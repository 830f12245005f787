//! The development mode of the documents' curl lines: check 27 of the contract.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::adapter_exam::wire::{Answer, Request};

use crate::common::{Caller, Turns, cluster, is_documented};

fn login(name: &str) -> Request {
    let body = json!({"password": "pw-agent1", name: "agent1"});
    Request::post("/session/login", body.to_string()).header("content-type", "application/json")
}

fn parsed(answer: &Answer) -> Result<Value> {
    serde_json::from_slice(&answer.body).with_context(|| answer.text())
}

#[tokio::test]
async fn curl_logs_in_with_a_cookie_or_a_token() -> Result<()> {
    let cluster = cluster(|options| options.unsigned = true).await?;
    let turns = Turns::of(&cluster);
    let start = turns.send(&Request::get("/session/start")).await?;
    let salt = parsed(&start)?;
    ensure!(
        salt["sessionSalt"]
            .as_str()
            .is_some_and(|text| text.len() == 44),
        "{salt}"
    );
    for name in ["userName", "username"] {
        let answer = turns.send(&login(name)).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let body = parsed(&answer)?;
        ensure!(body["status"] == "valid_cleartext" && body["success"] == true);
        ensure!(body["user_id"] == 11 && body["user"]["username"] == "agent1");
        let token = body["session_token"].as_str().context("a token")?;
        let cookie = answer.header("set-cookie");
        let cookie = cookie.split(';').next().context("a cookie")?.to_owned();
        ensure!(cookie.ends_with(token), "{cookie}");
        for request in [
            Request::get("/session/refresh").header("cookie", cookie.clone()),
            Request::get("/session/refresh/").header("x-cardsavr-session-jwt", token),
            Request::new("PUT", "/session/refresh")
                .header("trace", "{\"key\": \"my_trace\"}")
                .header("cookie", format!("a=b; {cookie}")),
        ] {
            for _ in 0..2 {
                let answer = turns.send(&request).await?;
                ensure!(answer.status == 200, "{}", answer.text());
                ensure!(parsed(&answer)? == json!({"success": true}), "in clear");
                ensure!(answer.header("x-cardsavr-signature").is_empty());
            }
        }
        for request in [
            Request::get("/session/refresh"),
            Request::get("/session/refresh").header("cookie", "cardsavr_session=x"),
            Request::post(
                "/session/login",
                json!({"userName": "agent1", "password": "x"}).to_string(),
            ),
            Request::post(
                "/session/login",
                json!({"userName": "nobody", "password": "x"}).to_string(),
            ),
        ] {
            let answer = turns.send(&request).await?;
            ensure!(answer.status == 401 && is_documented(&parsed(&answer)?));
        }
        let broken = turns
            .send(&Request::post("/session/login", "{\"a\""))
            .await?;
        ensure!(broken.status == 400 && is_documented(&parsed(&broken)?));
    }
    Ok(())
}

#[tokio::test]
async fn the_modes_do_not_mix() -> Result<()> {
    let cluster = cluster(|options| options.unsigned = true).await?;
    let turns = Turns::of(&cluster);
    let signed = Caller::new(&turns, "agent1").await?;
    // A signed session is not used without its signature.
    let token = signed.client.token().context("a token")?;
    let request = Request::get("/session/refresh").header("x-cardsavr-session-jwt", token);
    ensure!(turns.send(&request).await?.status == 401);
    ensure!(signed.refresh().await?.is_ok());
    // And one that was begun in clear is not signed.
    let answer = parsed(&turns.send(&login("username")).await?)?;
    let token = answer["session_token"]
        .as_str()
        .context("a token")?
        .parse()?;
    let mut prepared = signed.prepare(tidings_adapter::http::Method::GET, "/session/refresh", None);
    prepared.headers.insert("x-cardsavr-session-jwt", token);
    ensure!(signed.raw(&prepared).await?.status == 401);
    Ok(())
}

#[tokio::test]
async fn in_production_it_is_off() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    for request in [
        login("userName"),
        login("username"),
        Request::get("/session/start"),
        Request::get("/session/refresh").header("cookie", "cardsavr_session=x"),
        Request::get("/messages/place_card_on_single_site_jobs/1/broadcasts/"),
    ] {
        let answer = turns.send(&request).await?;
        ensure!(
            answer.status == 401 && is_documented(&parsed(&answer)?),
            "{}",
            answer.text()
        );
        ensure!(answer.header("set-cookie").is_empty());
    }
    Ok(())
}
