//! What operators can choose: other issuers of bearers, commands that go to the backend, drafts in
//! place of `rtm.publish`; and what the backend may ask (C01, E11, E16, §1.4, §2.5, §5).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::axum::extract::State;
use tidings_adapter::axum::routing::{get, post as posting};
use tidings_adapter::axum::{self, Json, Router};
use tidings_adapter::http::{HeaderMap, StatusCode};
use tidings_adapter::jwt::{Algorithm, SigningKey, Unverified};
use tidings_adapter::{Dedup, Draft, From, Outcome, PageLimit, PublishError, Topic};
use tidings_testkit::adapter_exam::Cluster;
use tidings_testkit::adapter_exam::wire::{Request, send};
use tokio::sync::mpsc;

use crate::common::*;

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

async fn connect(at: SocketAddr, bearer: &str) -> Result<(u16, Value)> {
    let request =
        Request::get("/api/v1/rtm.connect").header("authorization", format!("Bearer {bearer}"));
    let answer = send(at, &request).await?;
    Ok((answer.status, parsed(&answer)))
}

/// A server of ours on a free port.
#[expect(
    clippy::disallowed_methods,
    reason = "its clients are of these tests, and none is silent"
)]
async fn served(router: Router) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// C01: the bearer and the `ws_token` end together, and not yet.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_with_their_bearer() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    users(at, 1).await?;
    let bearer = login(at, 1).await?;
    let claims = |token: &str| anyhow::Ok(Unverified::parse(token, 8192)?.claims().clone());
    let ends = claims(&bearer)?["exp"].as_u64().context("exp")?;
    ensure!(ends > now() + 60);
    let (_, answer) = connect(at, &bearer).await?;
    let token = answer["rtm"]["ws_token"].as_str().context("a token")?;
    let expiry = claims(token)?["expiry"]
        .as_str()
        .context("expiry")?
        .to_owned();
    // Days and a time of day, in UTC: texts of one length that sort as times do.
    ensure!(
        expiry.len() == 19 && &expiry[4..5] == "-" && &expiry[10..11] == " ",
        "{expiry}"
    );
    let day = i64::try_from(ends / 86_400)?;
    let (hour, minute, second) = (ends / 3600 % 24, ends / 60 % 60, ends % 60);
    ensure!(
        expiry.ends_with(&format!(" {hour:02}:{minute:02}:{second:02}")),
        "{expiry}"
    );
    // Days since 1970 by the civil calendar, as Hinnant has it.
    let (year, month, date): (i64, i64, i64) = (
        expiry[..4].parse()?,
        expiry[5..7].parse()?,
        expiry[8..10].parse()?,
    );
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    ensure!(
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468 == day,
        "{expiry}"
    );
    Ok(())
}

/// 1.1: bearers of another issuer, by its public keys.
#[tokio::test(flavor = "multi_thread")]
async fn bearers_of_another_issuer() -> Result<()> {
    let (key, _) = SigningKey::generate(Algorithm::Es256)?;
    let (other, _) = SigningKey::generate(Algorithm::Es256)?;
    let set = json!({"keys": [key.public_jwk()?]});
    let file = std::env::temp_dir().join(format!("airsend-jwks-{}-{}", std::process::id(), now()));
    std::fs::write(&file, set.to_string())?;
    let keys_at =
        served(Router::new().route("/jwks", get(move || async move { Json(set) }))).await?;
    for by_file in [true, false] {
        let cluster = cluster(|options| {
            options.login = false;
            match by_file {
                true => options.bearer_jwks_file = Some(file.clone()),
                false => options.bearer_jwks_url = Some(format!("http://{keys_at}/jwks")),
            }
            options.bearer_issuer = Some("https://id.example".into());
            options.bearer_audience = Some("airsend".into());
        })
        .await?;
        let at = cluster.instance(0).address();
        people(at, 2).await?;
        let claims = |more: Value| {
            let mut claims = json!({
                "sub": "1", "iss": "https://id.example", "aud": "airsend",
                "iat": now() - 5, "exp": now() + 600,
            });
            if let (Some(claims), Some(more)) = (claims.as_object_mut(), more.as_object()) {
                claims.extend(more.clone());
            }
            claims
        };
        let kid = key.kid();
        let sign = |claims: &Value| key.sign(claims, kid.as_deref());
        // Keys by address come a moment after the start.
        let good = sign(&claims(json!({})))?;
        let mut tries = 0;
        let answer = loop {
            let (status, answer) = connect(at, &good).await?;
            if status == 200 {
                break answer;
            }
            tries += 1;
            ensure!(tries < 200, "{status} {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let token = answer["rtm"]["ws_token"].as_str().context("a token")?;
        drop(Rtm::with(at, token).await?);
        let confused =
            SigningKey::secret(SECRET.as_bytes())?.sign(&claims(json!({})), kid.as_deref())?;
        for (bad, why) in [
            (
                other.sign(&claims(json!({})), kid.as_deref())?,
                "another key",
            ),
            (confused, "another algorithm"),
            (
                sign(&claims(json!({"iss": "https://other"})))?,
                "another issuer",
            ),
            (sign(&claims(json!({"aud": "other"})))?, "another audience"),
            (sign(&claims(json!({"exp": now() - 600})))?, "expired"),
            (sign(&claims(json!({"sub": "99"})))?, "nobody"),
            (sign(&claims(json!({"sub": "x"})))?, "no id"),
            ("junk".to_owned(), "junk"),
        ] {
            ensure!(connect(at, &bad).await?.0 == 401, "{why}");
        }
        // Its issuer knows nothing of a revocation: what was made before it is void.
        op(at, "session.revoke", json!({"user_id": 1})).await?;
        ensure!(connect(at, &good).await?.0 == 401);
        // Made in a later second it is good.
        let mut tries = 0;
        while connect(at, &sign(&claims(json!({"iat": now()})))?).await?.0 != 200 {
            tries += 1;
            ensure!(tries < 200, "never good again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let login = Request::post("/api/v1/user.login", "user=x&password=y")
            .header("content-type", "application/x-www-form-urlencoded");
        ensure!(send(at, &login).await?.status == 404);
    }
    std::fs::remove_file(&file)?;
    Ok(())
}

/// 1.1: bearers that the backend is asked about.
#[tokio::test(flavor = "multi_thread")]
async fn the_backend_says_whose_a_bearer_is() -> Result<()> {
    let whose = |headers: HeaderMap| async move {
        let bearer = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        match bearer {
            Some("Bearer good") => Ok(Json(json!({"user": {"id": "1"}}))),
            Some("Bearer nobody") => Ok(Json(json!({"user": {"id": 99}}))),
            Some("Bearer empty") => Ok(Json(json!({}))),
            Some("Bearer broken") => Err(StatusCode::BAD_GATEWAY),
            _ => Err(StatusCode::FORBIDDEN),
        }
    };
    let backend = served(Router::new().route("/me", get(whose))).await?;
    let cluster = cluster(|options| {
        options.login = false;
        options.bearer_url = Some(format!("http://{backend}/me"));
    })
    .await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    for (bearer, status) in [
        ("good", 200),
        ("nobody", 401),
        ("empty", 401),
        ("bad", 401),
        ("broken", 503),
    ] {
        let (got, answer) = connect(at, bearer).await?;
        ensure!(
            got == status && answer["meta"]["ok"] == (status == 200),
            "{bearer}: {got} {answer}"
        );
    }
    let (_, answer) = connect(at, "good").await?;
    let token = answer["rtm"]["ws_token"].as_str().context("a token")?;
    Rtm::with(at, token).await?;
    Ok(())
}

/// Commands as events that a backend consumes, in their order, with or without being applied.
#[tokio::test(flavor = "multi_thread")]
async fn commands_go_to_a_topic() -> Result<()> {
    for apply in [true, false] {
        let cluster = cluster(|options| {
            (options.forward_to_topic, options.apply_commands) = (true, apply);
        })
        .await?;
        let at = cluster.instance(0).address();
        people(at, 2).await?;
        channel(at, 11, &[1, 2]).await?;
        let id = post(at, 11, 2, "x").await?;
        let mut client = Rtm::with(at, &minted(1)).await?;
        let commands = [
            json!({"command": "ws_read_notification", "channel_id": 11, "message_id": id}),
            json!({"command": "ws_add_reaction", "message_id": id, "emoji_value": "U 1F600"}),
            json!({"command": "ws_remove_reaction", "message_id": id, "emoji_value": "U 1F600"}),
            json!({"command": "ws_all_read_notification", "channel_id": 11}),
            json!({"command": "ws_ephemeral_typing", "channel_id": 11}),
        ];
        for (n, command) in commands.iter().enumerate() {
            let mut command = command.clone();
            command["cid"] = n.into();
            client.say(&command).await?;
        }
        let (mut acks, mut events) = (0, 0);
        while acks < commands.len() {
            let frame = client.hear().await?;
            match frame["event"] == "system.ack" {
                true => {
                    ensure!(
                        frame["payload"] == json!({"cid": acks, "ok": true}),
                        "{frame}"
                    );
                    acks += 1;
                }
                false => events += 1,
            }
        }
        ensure!(apply == (events > 0), "{events}");
        let topic = Topic::parse("airsend/commands")?;
        let hub = cluster.instance(0).hub();
        let page = hub.read(&topic, From::Oldest, PageLimit::default()).await?;
        ensure!(page.events.len() == commands.len());
        for (event, command) in page.events.iter().zip(&commands) {
            let data: Value = serde_json::from_slice(&event.event().data)?;
            for (name, value) in command.as_object().context("an object")? {
                ensure!(&data[name] == value, "{data}");
            }
            ensure!(data["user_id"] == 1 && data["ts"].is_u64(), "{data}");
            ensure!(*event.event().kind == *command["command"].as_str().unwrap_or_default());
        }
    }
    Ok(())
}

/// Commands as calls: instead of being applied, acknowledged when the backend has them.
#[tokio::test(flavor = "multi_thread")]
async fn commands_go_to_an_address() -> Result<()> {
    let (told, mut heard) = mpsc::channel::<Value>(100);
    let take = |State(told): State<mpsc::Sender<Value>>, Json(body): Json<Value>| async move {
        let refused = body["channel_id"] == 13;
        // Nobody listens when the test is over.
        let _ = told.send(body).await;
        match refused {
            true => StatusCode::INTERNAL_SERVER_ERROR,
            false => StatusCode::NO_CONTENT,
        }
    };
    let backend = served(Router::new().route("/take", posting(take)).with_state(told)).await?;
    let cluster = cluster(|options| {
        options.forward_to_url = Some(format!("http://{backend}/take"));
        options.apply_commands = false;
    })
    .await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    let mut client = Rtm::with(at, &minted(1)).await?;
    for channel in 11..=14 {
        let read =
            json!({"command": "ws_all_read_notification", "channel_id": channel, "cid": channel});
        client.say(&read).await?;
    }
    for channel in 11..=14 {
        let ack = client.expect("system.ack").await?;
        ensure!(
            ack["cid"] == channel && ack["ok"] == (channel != 13),
            "{ack}"
        );
        let body = heard.recv().await.context("a call")?;
        ensure!(
            body["channel_id"] == channel
                && body["user_id"] == 1
                && body["command"] == "ws_all_read_notification",
            "{body}"
        );
    }
    Ok(())
}

async fn drafted(
    cluster: &Cluster,
    topic: &str,
    kind: &str,
    data: Value,
    id: &str,
) -> Result<Outcome, PublishError> {
    let topic = Topic::parse(topic).expect("a topic");
    let hub = cluster.instance(1).hub();
    let draft = Draft {
        dedup: Some(Dedup::by_source(&topic, Some("/backend"), id)),
        ..Draft::new(topic, kind, data.to_string())
    };
    let judged = hub.ingested(draft)?;
    let stored = hub.ingest(vec![judged]).await.pop().expect("one result");
    stored.map(|appended| appended.outcome)
}

/// DESIGN §2.5: operations that come as events pass through the same rules.
#[tokio::test(flavor = "multi_thread")]
async fn operations_as_events() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 2).await?;
    channel(at, 11, &[1, 2]).await?;
    let (channel, user) = ("airsend/channel/11", "airsend/user/1");
    let mut client = Rtm::with(at, &minted(1)).await?;
    let message = json!({"message": {"user_id": 2, "id": 500, "content": "drafted"}});
    let outcome = drafted(&cluster, channel, "message.post", message.clone(), "1").await?;
    ensure!(outcome == Outcome::New);
    let again = drafted(&cluster, channel, "message.post", message, "1").await?;
    ensure!(again == Outcome::Duplicate, "{again:?}");
    client.expect_text("drafted").await?;
    client
        .say(
            &json!({"command": "ws_add_reaction", "message_id": 500, "emoji_value": "x", "cid": 1}),
        )
        .await?;
    // Within a moment it may not be known by its id yet.
    let mut frame = client.hear().await?;
    while frame["payload"]["error"]["code"] == "not_found" {
        client.say(&json!({"command": "ws_add_reaction", "message_id": 500, "emoji_value": "x", "cid": 1})).await?;
        frame = client.hear().await?;
    }
    while frame["event"] != "chat.updateMessage" {
        frame = client.hear().await?;
    }
    let alert = json!({"from": [{"id": 2}], "alert_text": "@", "channel_id": 11});
    drafted(&cluster, user, "alert.notify", alert, "2").await?;
    while client.hear().await?["event"] != "alert.notification" {}
    drafted(
        &cluster,
        user,
        "user.profile_update",
        json!({"display_name": "One"}),
        "3",
    )
    .await?;
    let profile = client.expect("user.profileUpdate").await?;
    ensure!(profile["user"]["display_name"] == "One", "{profile}");
    for (topic, kind, data, word) in [
        (
            channel,
            "channel.add_user",
            json!({"user_id": 2}),
            "more than one step",
        ),
        (
            channel,
            "message.post",
            json!({"message": {"user_id": 9, "content": "x"}}),
            "not a member",
        ),
        (
            "airsend/channel/12",
            "channel.update",
            json!({"set": {}}),
            "unknown channel",
        ),
        ("airsend/out", "receipt", json!({}), "topic"),
    ] {
        let refused = drafted(&cluster, topic, kind, data, "4").await;
        let Err(PublishError::NotTaken(why)) = refused else {
            anyhow::bail!("{topic} {kind}: {refused:?}")
        };
        ensure!(why.contains(word), "{why}");
    }
    drafted(&cluster, user, "session.revoke", json!({}), "5").await?;
    ensure!(client.expect_close().await? == 4009);
    Ok(())
}

/// 2.5: events to single users, retained or not; once for each key; to all or to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn events_to_single_users() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 3).await?;
    let mut clients = [
        Rtm::with(a, &minted(1)).await?,
        Rtm::with(b, &minted(2)).await?,
        Rtm::with(b, &minted(3)).await?,
    ];
    for retained in [true, false] {
        let emit = |users: Value| json!({"event": "fs.add", "payload": {"kept": retained}, "audience": {"user_ids": users}, "retained": retained});
        let unknown = emit(json!([1, 99]));
        ensure!(refused(a, "event.emit", unknown).await? == 404);
        let mut but = emit(json!([1, 2, 2, 3]));
        but["except_user_id"] = json!("3");
        for at in [a, b, a] {
            let request = operation("event.emit", but.clone(), Some(&format!("{retained}")));
            ensure!(send(at, &request).await?.status == 200);
        }
        let other = operation("event.emit", emit(json!([1])), Some(&format!("{retained}")));
        ensure!(send(b, &other).await?.status == 409);
        for client in &mut clients[..2] {
            ensure!(client.expect("fs.add").await? == json!({"kept": retained}));
        }
    }
    for client in &mut clients {
        client.expect_nothing().await?;
    }
    let long = json!({"event": "x", "payload": {"x": "x".repeat(70_000)}, "audience": {"user_ids": [1]}, "retained": false});
    ensure!(refused(a, "event.emit", long).await? == 400);
    let text = json!({"event": "x", "payload": "x", "audience": {"user_ids": [1]}});
    ensure!(refused(a, "event.emit", text).await? == 400);
    let many = json!({"event": "x", "payload": {}, "audience": {"user_ids": (1..=1001).collect::<Vec<_>>()}});
    ensure!(refused(a, "event.emit", many).await? == 400);
    Ok(())
}

/// 1.4: `system.ping` goes to the one connection of a finger print.
#[tokio::test(flavor = "multi_thread")]
async fn a_ping_by_another_way() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 1).await?;
    let bearer = login(a, 1).await?;
    let token = minted_as(1, "abcdefghijkl", "2099-01-01 00:00:00");
    let mut pinged = Rtm::with(b, &token).await?;
    let mut other = Rtm::with(a, &minted(1)).await?;
    let ping = |print: &str| {
        let body = json!({"finger_print": print, "ping_token": "t-1"});
        Request::post("/api/v1/system.ping", body.to_string())
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {bearer}"))
    };
    ensure!(send(a, &ping("abcdefghijkl")).await?.status == 200);
    ensure!(pinged.expect("system.ping").await? == json!({"ping_token": "t-1"}));
    ensure!(send(a, &ping("lkjihgfedcba")).await?.status == 404);
    other.expect_nothing().await?;
    pinged.expect_nothing().await?;
    Ok(())
}
