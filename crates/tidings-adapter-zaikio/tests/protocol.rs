//! The contract over real sockets, on two instances: handshake, tokens, publishing, history, acks.
//! What a session says to each input stands in its transcripts; here is what lies around it.

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::*;
use serde_json::{Value, json};
use tidings_adapter_zaikio::ZaikioOptions;
use tidings_testkit::adapter_exam::wire::{Frame, Message, Request, WebSocket, send};
use tidings_testkit::adapter_exam::{Cluster, Setup};
use uuid::Uuid;

const EXTENDED: &str = "actioncable-v1-ext-json";

async fn cluster(changes: impl Fn(&mut ZaikioOptions)) -> Result<Cluster> {
    Cluster::start(|| Box::new(adapter(&changes)), Setup::default()).await
}

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
    let forged = tidings_adapter::jwt::SigningKey::generate(tidings_adapter::jwt::Algorithm::Rs256)?;
    let secret = tidings_adapter::jwt::SigningKey::secret(&std::fs::read(jwks_file())?)?;
    let unauthorized = r#"{"type":"disconnect","reason":"unauthorized","reconnect":false}"#;
    let expired = r#"{"type":"disconnect","reason":"token_expired","reconnect":false}"#;
    for (what, token, frame) in [
        ("none at all", None, unauthorized),
        ("garbage", Some("garbage".to_owned()), unauthorized),
        ("empty", Some(String::new()), unauthorized),
        ("forged", Some(forged.0.sign(&claims("a"), issuer().key.kid().as_deref())?), unauthorized),
        ("tampered", Some(format!("{head}x.{signature}")), unauthorized),
        ("HS256", Some(secret.sign(&claims("a"), None)?), unauthorized),
        ("alg none", Some(format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap_or_default())), unauthorized),
        ("expired", Some(with("exp", json!(unix() - 60))), expired),
        ("no exp", Some(mint(&no_exp)), unauthorized),
        ("not yet", Some(with("nbf", json!(unix() + 600))), unauthorized),
        ("a person's", Some(with("sub", json!(format!("Person/{}", org("a"))))), unauthorized),
        ("of nobody", Some(with("sub", json!(null))), unauthorized),
        ("another issuer's", Some(with("iss", json!("CP"))), unauthorized),
        ("of no app", Some(with("aud", json!([]))), unauthorized),
        ("of an unknown app", Some(with("aud", json!(["nobody"]))), unauthorized),
        ("revoked", Some(with("jti", json!("gone"))), unauthorized),
    ] {
        let mut request = Request::get("/websocket").header("sec-websocket-protocol", "actioncable-v1-json");
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
    let unknown = get("/websocket").header("sec-websocket-protocol", "graphql-ws").header("x-jid", &token);
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
    ensure!(send(at, &Request::new("DELETE", "/api/v1/events")).await?.status == 405);
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

/// D1: every 3 s, whatever else is sent.
#[tokio::test(flavor = "multi_thread")]
async fn pings_come_while_events_do() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    let mut cable = Cable::connect(at, &token("ping"), "").await?;
    let welcomed = tokio::time::Instant::now();
    cable.subscribe(&identifier("exam.said")).await?;
    let publishing = async {
        for number in 0..160 {
            publish(at, "ping", "exam.said", &number.to_string()).await?;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        anyhow::Ok(())
    };
    let listening = async {
        let mut pings = Vec::new();
        while pings.len() < 3 {
            if let Frame::Message(Message::Text(text)) = cable.frame().await? {
                let frame: Value = serde_json::from_str(&text)?;
                if frame["type"] == "ping" {
                    ensure!(frame.as_object().is_some_and(|ping| ping.len() == 2));
                    let said = frame["message"].as_u64().unwrap_or_default();
                    ensure!(said.abs_diff(unix()) <= 2, "{text}");
                    pings.push(welcomed.elapsed());
                }
            }
        }
        anyhow::Ok(pings)
    };
    let (_, pings) = tokio::try_join!(publishing, listening)?;
    for (number, at) in (1_u32..).zip(&pings) {
        let due = Duration::from_secs(3) * number;
        ensure!(at.abs_diff(due) < Duration::from_millis(1_500), "{pings:?}");
    }
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
    ensure!(stored["timestamp"] == "2026-01-01T00:00:00.000Z" && stored["payload"] == body["payload"]);
    ensure!(stored["received_at"].as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')));
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
        let texts = events.iter().map(|event| event["payload"]["text"].as_str().unwrap_or_default().to_owned());
        anyhow::Ok((texts.collect::<Vec<_>>().join(" "), answer.header("total-count").to_owned()))
    };
    let all = pull("", "my_app", "mine").await?;
    ensure!(all == ("hello person done last".into(), "4".into()), "{all:?}");
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
        let rate = serde_json::from_value(json!("3reqs/86400s")).expect("a rate");
        options.publish_rate = Some(rate);
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
    ensure!(!matches!(huge.frame().await?, Frame::Message(Message::Binary(_))));
    Ok(())
}

/// B10–B13, G8: organisations apart; rewinding by time and by id, on either instance.
#[tokio::test(flavor = "multi_thread")]
async fn rewinding_in_the_base_protocol() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let first = publish(one, "tape", "exam.said", "0").await?;
    publish(one, "elsewhere", "exam.said", "not yours").await?;
    for text in ["1", "2", "3"] {
        publish(one, "tape", "exam.said", text).await?;
    }
    publish(two, "tape", "exam.done", "another name").await?;
    let mut cable = Cable::connect(two, &token("tape"), "actioncable-v1-json").await?;
    let i = identifier("exam.said");
    cable.subscribe(&i).await?;
    let confirm = json!({"identifier": i, "type": "confirm_history"});
    let perform = |data: Value| json!({"command": "message", "identifier": i, "data": data.to_string()});
    cable.say(&perform(json!({"action": "rewind", "after": first.to_string()}))).await?;
    cable.expect_texts(&["1", "2", "3"]).await?;
    cable.expect(&confirm).await?;
    cable.say(&perform(json!({"action": "history", "since": "2023-07-23T22:00:00Z"}))).await?;
    cable.expect_texts(&["0", "1", "2", "3"]).await?;
    cable.expect(&confirm).await?;
    cable.say(&perform(json!({"action": "rewind", "id": Uuid::new_v4().to_string()}))).await?;
    let reason = "unknown_position";
    cable.expect(&json!({"identifier": i, "type": "reject_history", "reason": reason})).await?;
    publish(one, "tape", "exam.said", "live").await?;
    cable.expect_texts(&["live"]).await?;
    Ok(())
}

fn acking(events: &str, consumer: &str) -> String {
    json!({"channel": "EventChannel", "events": events, "ack": true, "consumer": consumer}).to_string()
}

/// H1, H4, H5, H8: killed, and back on the other instance; then the first instance is killed too.
#[tokio::test(flavor = "multi_thread")]
async fn acks_survive_their_client_and_their_instance() -> Result<()> {
    let mut cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let token = token("acks");
    let (i, j) = (acking("exam.said", "worker"), acking("exam.said", "auditor"));
    publish(one, "acks", "exam.said", "before").await?;
    let mut cable = Cable::connect(one, &token, EXTENDED).await?;
    cable.subscribe(&i).await?;
    ensure!(cable.barrier().await?.is_empty(), "a new consumer is sent nothing old");
    let mut auditor = Cable::connect(two, &token, EXTENDED).await?;
    auditor.subscribe(&j).await?;
    let mut ids = Vec::new();
    for text in ["0", "1", "2"] {
        ids.push(publish(two, "acks", "exam.said", text).await?.to_string());
    }
    cable.expect_texts(&["0", "1", "2"]).await?;
    let ack = |ids: &[&String]| json!({"command": "ack", "identifier": i, "ack": {"ids": ids}});
    cable.say(&ack(&[&ids[2], &ids[0]])).await?;
    let confirmed = json!({"identifier": i, "type": "confirm_ack", "ack": {"ids": [ids[2], ids[0]]}});
    cable.expect(&confirmed).await?;
    drop(cable);
    cluster.kill(0);
    publish(two, "acks", "exam.said", "3").await?;
    let mut cable = Cable::connect(two, &token, EXTENDED).await?;
    cable.subscribe(&i).await?;
    cable.expect_texts(&["1", "3"]).await?;
    ensure!(cable.barrier().await?.is_empty());
    // Up to here, by position; what the other one has not acked stays its own.
    let (_, event) = {
        publish(two, "acks", "exam.said", "4").await?;
        cable.event().await?
    };
    let position = json!({event["stream_id"].as_str().unwrap_or_default(): {"epoch": event["epoch"], "offset": event["offset"]}});
    cable.say(&json!({"command": "ack", "identifier": i, "ack": {"streams": position}})).await?;
    cable.expect(&json!({"identifier": i, "type": "confirm_ack", "ack": {"streams": position}})).await?;
    drop(cable);
    let mut cable = Cable::connect(two, &token, EXTENDED).await?;
    cable.subscribe(&i).await?;
    ensure!(cable.barrier().await?.is_empty(), "everything is acked");
    auditor.expect_texts(&["0", "1", "2", "3", "4"]).await?;
    // History is history, acked or not.
    let since = json!({"command": "history", "identifier": i, "history": {"since": 1}});
    cable.say(&since).await?;
    cable.expect_texts(&["before", "0", "1", "2", "3", "4"]).await?;
    Ok(())
}

/// H2, H3: what is unknown, foreign or no ack at all.
#[tokio::test(flavor = "multi_thread")]
async fn acks_of_what_is_not_ones_own_are_refused() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let foreign = publish(one, "b", "exam.said", "b").await?.to_string();
    let other_name = publish(one, "a", "exam.done", "done").await?.to_string();
    let mine = publish(one, "a", "exam.said", "a").await?.to_string();
    let mut cable = Cable::connect(two, &token("a"), "actioncable-v1-json").await?;
    // It has not said that it acks: its acks are recorded all the same.
    let i = identifier("exam.said");
    cable.subscribe(&i).await?;
    let unknown = Uuid::new_v4().to_string();
    let ids = json!([mine, foreign, "no id", other_name, unknown, mine.to_uppercase()]);
    cable.say(&json!({"command": "ack", "identifier": i, "ack": {"ids": ids}})).await?;
    cable.expect(&json!({"identifier": i, "type": "confirm_ack", "ack": {"ids": [mine, mine.to_uppercase()]}})).await?;
    let refused = json!([foreign, "no id", other_name, unknown]);
    cable.expect(&json!({"identifier": i, "type": "reject_ack", "ack": {"ids": refused}, "reason": "unknown_event"})).await?;
    let perform = |data: Value| json!({"command": "message", "identifier": i, "data": data.to_string()});
    cable.say(&perform(json!({"action": "ack", "id": unknown}))).await?;
    cable.say(&perform(json!({"action": "ack", "id": mine}))).await?;
    ensure!(cable.barrier().await?.is_empty(), "an action is not answered");
    cable.say(&perform(json!({"action": "ack", "id": mine, "reply": true}))).await?;
    cable.expect(&json!({"identifier": i, "type": "confirm_ack", "ack": {"ids": [mine]}})).await?;
    cable.say(&json!({"command": "ack", "identifier": i, "ack": {"ids": 3}})).await?;
    cable.expect(&json!({"identifier": i, "type": "reject_ack", "ack": {"ids": 3}, "reason": "malformed"})).await?;
    cable.say(&json!({"command": "ack", "identifier": "none", "ack": {"id": mine}})).await?;
    cable.expect(&json!({"identifier": "none", "type": "reject_ack", "ack": {"ids": [mine]}, "reason": "not_subscribed"})).await?;
    Ok(())
}

/// H7: un-acked events come again on a live connection, unless another one of the consumer acked.
#[tokio::test(flavor = "multi_thread")]
async fn unacked_events_come_again() -> Result<()> {
    let short = |options: &mut ZaikioOptions| {
        options.ack_wait = serde_json::from_value(json!("500ms")).expect("a span");
    };
    let cluster = cluster(short).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let i = acking("exam.said", "c");
    let mut cables = Vec::new();
    for at in [one, two] {
        let mut cable = Cable::connect(at, &token("again"), EXTENDED).await?;
        cable.subscribe(&i).await?;
        cables.push(cable);
    }
    let ids = [publish(one, "again", "exam.said", "0").await?, publish(one, "again", "exam.said", "1").await?];
    cables[0].expect_texts(&["0", "1"]).await?;
    let ack = json!({"command": "ack", "identifier": i, "ack": {"id": ids[0].to_string()}});
    cables[0].say(&ack).await?;
    ensure!(cables[0].hear().await?["type"] == "confirm_ack");
    cables[1].expect_texts(&["0", "1"]).await?;
    for cable in &mut cables {
        let (text, event) = cable.event().await?;
        ensure!(text == "1" && event["redelivered"] == true, "{event}");
        ensure!(event["offset"].is_u64() && event["epoch"].is_string());
    }
    Ok(())
}
