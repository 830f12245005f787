//! Logins: T1 and checks 1 and 2 of the contract.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_adapter::http::Method;
use tidings_adapter_cardsavr::client::Client;

use crate::common::{APP, Caller, KEY, Turns, cluster, is_documented, now_ms, refusal, wired};

const SHORT: &str = "YWJj";

#[tokio::test]
async fn a_login_as_it_was_recorded() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let mut client = Client::new(APP, KEY)?;
    let (prepared, login) = client.login("agent1", "pw-agent1", now_ms())?;
    ensure!(prepared.headers["x-cardsavr-session-jwt"] == "null");
    let answer = turns.send(&wired(&prepared)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    ensure!(answer.header("content-type") == "application/json; charset=utf-8");
    ensure!(answer.header("x-cardsavr-authorization") == "SWCH-HMAC-SHA256 Credentials=acme-app");
    let nonce: u64 = answer.header("x-cardsavr-nonce").parse()?;
    ensure!(nonce.abs_diff(now_ms()) < 60_000);
    ensure!(answer.header("x-cardsavr-signature").len() == 44);
    // Compact, and nothing beside the sealed body: `ciphertext$iv`.
    let text = answer.text();
    let sealed = text
        .strip_prefix("{\"encrypted_body\":\"")
        .context(text.clone())?;
    let (_, iv) = sealed.split_once('$').context("two parts")?;
    ensure!(iv.len() == 24 + 2 && iv.ends_with("\"}"), "{text}");
    // The signature over exactly these bytes is verified here.
    let status = tidings_adapter::http::StatusCode::OK;
    let reply = client.logged_in(&login, status, &answer.headers, &answer.body)?;
    let public = reply.body["server_public_key"].as_str().context("a key")?;
    ensure!(
        public.len() == 88 && public.starts_with('B'),
        "65 bytes, the first is 4"
    );
    ensure!(
        reply.body["session_token"]
            .as_str()
            .is_some_and(|text| text.len() >= 32)
    );
    ensure!(reply.body["user_id"] == 11);
    ensure!(
        reply.body["user"] == json!({"id": 11, "username": "agent1", "role": "cardholder_agent"})
    );
    Ok(())
}

#[tokio::test]
async fn who_is_not_let_in_is_told_one_thing() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let mut told = Vec::new();
    for (app, key, username, password) in [
        (APP, KEY, "agent1", "wrong"),
        (APP, KEY, "nobody", "pw-agent1"),
        (APP, KEY, "agent2", "pw-agent1"),
        (APP, SHORT, "agent1", "wrong"),
        (APP, "AAAA", "agent1", "pw-agent1"),
        ("other-app", KEY, "agent1", "pw-agent1"),
        ("acme", KEY, "agent1", "pw-agent1"),
    ] {
        let client = Client::new(app, key)?;
        let mut caller = Caller {
            turns: &turns,
            client,
        };
        let (status, body) = refusal(caller.login(username, password).await?)?;
        ensure!(
            status == 401 && is_documented(&body),
            "{app} {username}: {status} {body}"
        );
        told.push(body);
    }
    ensure!(told.iter().all(|one| *one == told[0]), "{told:?}");
    // An older key of the integrator holds, filled up with zeros.
    let client = Client::new(APP, SHORT)?;
    Caller::with(&turns, client, "agent1").await?;
    Ok(())
}

#[tokio::test]
async fn a_login_that_lacks_something_is_told_what() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let client = Client::new(APP, KEY)?;
    let caller = Caller {
        turns: &turns,
        client,
    };
    let proof = "xuxKYH3IKbIlRkqDyl3Uf1L/W8QEysVnDCOQ6fGK5G8=";
    let point =
        "BG/wO5SSQc4drdQ1GeaWDgqFtBppoFwygQOqK84VlMoWPE91OlW/AdxT9sCwx+7ni0DG/30lqW4igrmJzvccFEo=";
    let long = "x".repeat(2000);
    for (body, property) in [
        (json!({}), "username"),
        (json!([]), "username"),
        (json!("x"), "username"),
        (json!({"username": 3}), "username"),
        (json!({"username": long}), "username"),
        (json!({"username": "agent1"}), "password_proof"),
        (
            json!({"username": "agent1", "password_proof": proof}),
            "client_public_key",
        ),
        (
            json!({"username": "agent1", "password_proof": proof, "client_public_key": "BAAA"}),
            "client_public_key",
        ),
    ] {
        let refused = caller
            .call(Method::POST, "/session/login", Some(&body))
            .await?;
        let (status, told) = refusal(refused)?;
        ensure!(
            status == 400 && is_documented(&told),
            "{body}: {status} {told}"
        );
        ensure!(told["_errors"][0]["property"] == property, "{body}: {told}");
    }
    // The vector's own proof and key let in.
    let body = json!({"username": "agent1", "password_proof": proof, "client_public_key": point});
    let reply = caller
        .call(Method::POST, "/session/login", Some(&body))
        .await??;
    ensure!(reply.body["user_id"] == 11);
    Ok(())
}

#[tokio::test]
async fn passwords_are_not_guessed() -> Result<()> {
    let cluster = cluster(|options| options.failed_logins = 3).await?;
    let turns = Turns::of(&cluster);
    let mut caller = Caller {
        turns: &turns,
        client: Client::new(APP, KEY)?,
    };
    for username in ["agent1", "nobody"] {
        let mut statuses = Vec::new();
        // Each instance counts for itself; a window may end in between.
        for _ in 0..16 {
            let (status, body) = refusal(caller.login(username, "wrong").await?)?;
            ensure!(is_documented(&body));
            statuses.push(status);
        }
        ensure!(
            statuses[0] == 401 && statuses.contains(&429),
            "{statuses:?}"
        );
    }
    // Others are not kept out.
    Caller::new(&turns, "agent2").await?;
    Ok(())
}
