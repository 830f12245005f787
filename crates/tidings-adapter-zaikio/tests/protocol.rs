//! The contract over real sockets, on two instances: handshake, tokens, publishing.
//! What a session says to each input stands in its transcripts; here is what lies around it.

mod common;

use anyhow::{Result, ensure};
use common::*;
use serde_json::{Value, json};
use tidings_adapter_zaikio::Rate;
use tidings_testkit::adapter_exam::Cluster;
use tidings_testkit::adapter_exam::wire::{Frame, Message, Request, WebSocket, send};
use uuid::Uuid;

/// Frames that a client with this request is sent, until it is closed; and the code.
async fn refused(cluster: &Cluster, request: &Request) -> Result<(Vec<String>, u16)> {
    let mut cable = Cable::open(cluster.instance(0).address(), request).await?;
    let mut frames = Vec::new();
    loop {
        match cable.frame().await? {
            Frame::Message(Message::Text(text)) => frames.push(text),
            Frame::Close(code, reason) => {
                ensure!(reason.is_empty());
                return Ok((frames, code));
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
}

/// E1–E7: 101, then one frame, then the close.
#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_refused_in_band() -> Result<()> {
    let cluster = cluster(|options| options.revoked = vec!["gone".into()]).await?;
    let with = |member: &str, value: Value| {
        let mut claims = claims("a");
        claims[member] = value;
        mint(&claims)
    };
    let mut no_exp = claims("a");
    no_exp.as_object_mut().expect("an object").remove("exp");
    let good = token("a");
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let forged =
        tidings_adapter::jwt::SigningKey::generate(tidings_adapter::jwt::Algorithm::Rs256)?;
    let secret = tidings_adapter::jwt::SigningKey::secret(&std::fs::read(jwks_file())?)?;
    let unauthorized = r#"{"type":"disconnect","reason":"unauthorized","reconnect":false}"#;
    let expired = r#"{"type":"disconnect","reason":"token_expired","reconnect":false}"#;
    for (what, token, frame) in [
        ("none at all", None, unauthorized),
        ("garbage", Some("garbage".to_owned()), unauthorized),
        ("empty", Some(String::new()), unauthorized),
        (
            "forged",
            Some(forged.0.sign(&claims("a"), issuer().key.kid().as_deref())?),
            unauthorized,
        ),
        (
            "tampered",
            Some(format!("{head}x.{signature}")),
            unauthorized,
        ),
        (
            "HS256",
            Some(secret.sign(&claims("a"), None)?),
            unauthorized,
        ),
        (
            "alg none",
            Some(format!(
                "eyJhbGciOiJub25lIn0.{}.",
                good.split('.').nth(1).unwrap_or_default()
            )),
            unauthorized,
        ),
        ("expired", Some(with("exp", json!(unix() - 60))), expired),
        ("no exp", Some(mint(&no_exp)), unauthorized),
        (
            "not yet",
            Some(with("nbf", json!(unix() + 600))),
            unauthorized,
        ),
        (
            "a person's",
            Some(with("sub", json!(format!("Person/{}", org("a"))))),
            unauthorized,
        ),
        ("of nobody", Some(with("sub", json!(null))), unauthorized),
        (
            "another issuer's",
            Some(with("iss", json!("CP"))),
            unauthorized,
        ),
        ("of no app", Some(with("aud", json!([]))), unauthorized),
        (
            "of an unknown app",
            Some(with("aud", json!(["nobody"]))),
            unauthorized,
        ),
        ("revoked", Some(with("jti", json!("gone"))), unauthorized),
    ] {
        let mut request =
            Request::get("/websocket").header("sec-websocket-protocol", "actioncable-v1-json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let heard = refused(&cluster, &request).await?;
        ensure!(heard == (vec![frame.to_owned()], 1000), "{what}: {heard:?}");
    }
    Ok(())
}

/// E8–E10, A1–A4: every place for a token, every answer to an offer of protocols.
#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_are_taken_wherever_they_stand() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(1).address();
    let on_behalf = {
        let mut claims = claims("a");
        claims["sub"] = json!(format!("Person/{}>Organization/{}", org("p"), org("a")));
        claims["aud"] = json!(["my_app/credentials", "other"]);
        // A key of another name: all are tried.
        issuer().key.sign(&claims, Some("rotated"))?
    };
    let token = token("a");
    let get = Request::get;
    for request in [
        get("/websocket").header("authorization", format!("bearer {token}")),
        get("/cable").header("authorization", format!("Bearer {on_behalf}")),
        get("/websocket").header("x-jid", &token),
        Request::get(format!("/websocket?jid={token}")),
        get("/websocket").header(
            "sec-websocket-protocol",
            format!("anycable-token.{token}, actioncable-v1-json"),
        ),
    ] {
        let mut cable = Cable::open(at, &request).await?;
        cable.expect(&json!({"type": "welcome"})).await?;
        cable.subscribe(&identifier("exam.said")).await?;
    }
    // Nothing is selected where nothing is known: the client then fails by itself.
    let unknown = get("/websocket")
        .header("sec-websocket-protocol", "graphql-ws")
        .header("x-jid", &token);
    ensure!(WebSocket::open(at, &unknown).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_and_plain_requests() -> Result<()> {
    let cluster = cluster(|options| options.origins = vec!["https://good.example".into()]).await?;
    let at = cluster.instance(0).address();
    let with = |origin: &str| {
        let request = Request::get("/websocket").header("x-jid", token("a"));
        request.header("origin", origin)
    };
    Cable::open(at, &with("https://good.example")).await?;
    let answer = WebSocket::open(at, &with("https://bad.example")).await?;
    ensure!(answer.is_err_and(|answer| answer.status == 403));
    ensure!(send(at, &Request::get("/websocket")).await?.status == 426);
    let other = send(at, &Request::get("/elsewhere")).await?;
    ensure!((other.status, other.text().as_str()) == (404, "Page not found"));
    ensure!(
        send(at, &Request::new("DELETE", "/api/v1/events"))
            .await?
            .status
            == 405
    );
    Ok(())
}

/// E11: a connection ends with its token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires_on_a_live_connection() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let mut claims = claims("a");
    claims["exp"] = json!(unix() + 2);
    let at = cluster.instance(0).address();
    let mut cable = Cable::connect(at, &mint(&claims), "").await?;
    let end = json!({"type": "disconnect", "reason": "token_expired", "reconnect": false});
    cable.expect(&end).await?;
    ensure!(cable.expect_close().await? == 1000);
    Ok(())
}

/// F1–F9, and the pull API.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_delivered_and_pulled() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let mut cable = Cable::connect(two, &token("shop"), "actioncable-v1-json").await?;
    cable.subscribe(&identifier("exam.said")).await?;
    let id = Uuid::new_v4();
    let mut body = event(id, "shop", "exam.said", "hello");
    body["payload"] = json!({"text": "hello", "_meta": {"a": [1.5]}});
    body["link"] = json!("https://shop.example/1");
    body["receiver"] = json!("x");
    let answer = send(one, &post(json!({"event": body}))).await?;
    ensure!(answer.status == 201, "{}", answer.text());
    let stored: Value = serde_json::from_slice(&answer.body)?;
    let (_, frame) = cable.event().await?;
    let event_members = frame.as_object().map_or(0, serde_json::Map::len);
    ensure!(event_members == 2 && frame["message"] == stored, "{frame}");
    ensure!(stored.as_object().map_or(0, serde_json::Map::len) == 8);
    ensure!(
        stored["timestamp"] == "2026-01-01T00:00:00.000Z" && stored["payload"] == body["payload"]
    );
    ensure!(
        stored["received_at"]
            .as_str()
            .is_some_and(|at| at.len() == 24 && at.ends_with('Z'))
    );
    // Again, also in upper case and on the other instance: 422 on the id, and nobody hears it.
    for (at, id) in [(one, id.to_string()), (two, id.to_string().to_uppercase())] {
        body["id"] = json!(id);
        let again = send(at, &post(&body)).await?;
        ensure!(again.status == 422, "{}", again.text());
        let errors: Value = serde_json::from_slice(&again.body)?;
        ensure!(errors["errors"]["id"][0].is_string(), "{errors}");
    }
    ensure!(cable.barrier().await?.is_empty());
    // Of a person: kept, never delivered.
    let mut person = event(Uuid::new_v4(), "shop", "exam.said", "person");
    person["subject"] = json!(format!("Per/{}", org("shop")));
    ensure!(send(one, &post(person)).await?.status == 201);
    publish(one, "shop", "exam.done", "done").await?;
    publish(one, "shop", "exam.said", "last").await?;
    cable.expect_texts(&["last"]).await?;

    let pull = async |query: &str, app: &str, password: &str| {
        let request = Request::get(format!("/api/v1/events?{query}"));
        let answer = send(two, &request.header("authorization", basic(app, password))).await?;
        let events: Vec<Value> = serde_json::from_slice(&answer.body)?;
        let texts = events.iter().map(|event| {
            event["payload"]["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        anyhow::Ok((
            texts.collect::<Vec<_>>().join(" "),
            answer.header("total-count").to_owned(),
        ))
    };
    let all = pull("", "my_app", "mine").await?;
    ensure!(
        all == ("hello person done last".into(), "4".into()),
        "{all:?}"
    );
    let named = pull("filter[name]=exam.done", "exam", "secret").await?;
    ensure!(named == ("done".into(), "1".into()), "{named:?}");
    let later = pull("filter[from]=2999-01-01T00:00:00Z", "my_app", "mine").await?;
    ensure!(later == (String::new(), "0".into()), "{later:?}");
    let strangers = pull("", "other", "secret").await?;
    ensure!(strangers.1 == "0", "{strangers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_publishes_too_much_is_told_until_when() -> Result<()> {
    let cluster = cluster(|options| {
        options.publish_rate = Some(Rate {
            requests: 3,
            seconds: 86_400,
        });
    })
    .await?;
    let at = cluster.instance(0).address();
    for text in ["1", "2", "3"] {
        publish(at, "rate", "exam.said", text).await?;
    }
    let answer = send(at, &post(event(Uuid::new_v4(), "rate", "exam.said", "4"))).await?;
    ensure!(answer.status == 429 && answer.header("ratelimit-rule") == "3reqs/86400s");
    ensure!(answer.header("ratelimit-reset").parse::<u64>()? > unix());
    Ok(())
}

/// C5: what is too large ends its own connection, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_command_is_its_senders_problem() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    let mut witness = Cable::connect(at, &token("huge"), "").await?;
    witness.subscribe(&identifier("exam.said")).await?;
    let mut huge = Cable::connect(at, &token("huge"), "").await?;
    // It may be thrown out before it has sent all of it.
    let _ = huge.text("x".repeat(2 * 1024 * 1024)).await;
    publish(at, "huge", "exam.said", "fine").await?;
    witness.expect_texts(&["fine"]).await?;
    ensure!(!matches!(
        huge.frame().await?,
        Frame::Message(Message::Binary(_))
    ));
    Ok(())
}
