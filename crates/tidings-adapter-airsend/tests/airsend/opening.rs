//! Logging in, connecting, and who is told of what (contract §6, C and E).

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_adapter_airsend::Span;
use tidings_testkit::adapter_exam::wire::{Message, Request, send};

use crate::common::*;

/// C01–C04: who may connect, and with what.
#[tokio::test(flavor = "multi_thread")]
async fn login_and_connect() -> Result<()> {
    let cluster = cluster(|options| {
        options.connects_per_minute = 5;
        options.ws_endpoints = vec!["wss://b.example:8443".into()];
    })
    .await?;
    let at = cluster.instance(0).address();
    users(at, 1).await?;
    let form = |body: &str| {
        Request::post("/api/v1/user.login", body.to_owned())
            .header("content-type", "application/x-www-form-urlencoded")
    };
    for (body, status) in [
        ("user=u1%40example.com&password=wrong", 401),
        ("user=nobody%40example.com&password=secret", 401),
        ("user=u1%40example.com", 422),
        ("password=secret", 422),
    ] {
        let answer = send(at, &form(body)).await?;
        ensure!(answer.status == status, "{body}: {}", answer.text());
        ensure!(parsed(&answer)["meta"]["ok"] == false, "{}", answer.text());
    }
    // JSON will do as well.
    let object = |body: &str| {
        Request::post("/api/v1/user.login", body.to_owned())
            .header("content-type", "application/json")
    };
    for (body, status) in [
        (
            r#"{"user":"u1@example.com","password":"secret","remember_me":true}"#,
            200,
        ),
        (r#"{"user":"u1@example.com","password":"wrong"}"#, 401),
        (r#"{"user":"u1@example.com","password":7}"#, 422),
        (r#"{"user":"u1@example.com"}"#, 422),
        ("[]", 400),
    ] {
        let answer = send(at, &object(body)).await?;
        ensure!(answer.status == status, "{body}: {}", answer.text());
        let answer = parsed(&answer);
        ensure!(answer["meta"]["ok"] == (status == 200), "{answer}");
        ensure!(answer["token"].is_string() == (status == 200), "{answer}");
        ensure!(answer["user"]["id"].is_u64() == (status == 200), "{answer}");
    }
    let bearer = login(at, 1).await?;
    let connect = |bearer: &str, query: &str| {
        Request::get(format!("/api/v1/rtm.connect{query}"))
            .header("authorization", format!("Bearer {bearer}"))
    };
    for request in [
        Request::get("/api/v1/rtm.connect"),
        connect("junk", ""),
        connect(&format!("{bearer}x"), ""),
    ] {
        let answer = send(at, &request).await?;
        ensure!(answer.status == 401, "{}", answer.text());
        ensure!(parsed(&answer)["meta"]["ok"] == false, "{}", answer.text());
    }
    let mut prints = Vec::new();
    for _ in 0..3 {
        let answer = parsed(&send(at, &connect(&bearer, "")).await?);
        ensure!(
            answer["meta"]["ok"] == true && answer["rtm"]["ws_endpoint"] == format!("ws://{at}"),
            "{answer}"
        );
        let token = answer["rtm"]["ws_token"].as_str().unwrap_or_default();
        let claims = tidings_adapter::jwt::Unverified::parse(token, 8192)?;
        ensure!(claims.claims()["user_id"] == 1);
        let print = claims.claims()["finger_print"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(print.len() == 12);
        prints.push(print);
    }
    prints.sort();
    prints.dedup();
    ensure!(prints.len() == 3);
    ensure!(
        send(at, &connect(&bearer, "?rtm_endpoint=ws://other:1"))
            .await?
            .status
            == 404
    );
    let wanted = connect(&bearer, "?rtm_endpoint=wss%3A%2F%2Fb.example%3A8443%2F");
    let answer = parsed(&send(at, &wanted).await?);
    ensure!(
        answer["rtm"]["ws_endpoint"] == "wss://b.example:8443",
        "{answer}"
    );
    let answer = send(at, &connect(&bearer, "")).await?;
    ensure!(
        answer.status == 429 && !answer.header("retry-after").is_empty(),
        "{}",
        answer.status
    );
    ensure!(!answer.header("retryafter").is_empty());
    Ok(())
}

/// C06–C13: what ends a connection, with which code.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_connection() -> Result<()> {
    let cluster =
        cluster(|options| options.auth_deadline = Span(Duration::from_millis(600))).await?;
    let at = cluster.instance(0).address();
    users(at, 2).await?;
    channel(at, 11, &[1, 2]).await?;
    let text = |text: &str| Message::Text(text.to_owned());
    // C06
    let mut silent = Rtm::open(at).await?;
    post(at, 11, 1, "nobody hears it").await?;
    ensure!(silent.expect_close().await? == 4006);
    // C07, C08
    for (frame, code) in [
        (r#"{"command":"ws_ping"}"#, 4003),
        (r#"{"command":"ws_ephemeral_typing","channel_id":11}"#, 4003),
        (r#"{"command":"what"}"#, 4003),
        (r#"{"command":"ws_auth"}"#, 4004),
        (r#"{"command":"ws_auth","auth_token":"junk"}"#, 4004),
        (r#"{"command":"ws_auth","auth_token":7}"#, 4004),
    ] {
        let mut client = Rtm::open(at).await?;
        client.raw(text(frame)).await?;
        ensure!(client.expect_close().await? == code, "{frame}");
    }
    // C10–C13, C20
    let big = format!(
        r#"{{"command":"ws_ping","x":"{}"}}"#,
        "x".repeat(1024 * 1024)
    );
    for (frame, codes) in [
        (text(r#"{"command":"what"}"#), &[4001][..]),
        (text(r#"{"command":""}"#), &[4001]),
        (text(r#"{"command":"WS_PING"}"#), &[4001]),
        (text("{'command':'ws_ping'}"), &[4002]),
        (text(r#"{"command":"ws_ping",}"#), &[4002]),
        (text("[]"), &[4002]),
        (text("null"), &[4002]),
        (text("{}"), &[4002]),
        (text(r#"{"command":5}"#), &[4002]),
        (Message::Binary(b"{}".to_vec().into()), &[4002, 1003]),
        (text(&big), &[1009, 1006]),
    ] {
        let mut client = Rtm::user(at, 1).await?;
        client.raw(frame.clone()).await.ok();
        let code = client.expect_close().await?;
        ensure!(codes.contains(&code), "{code}");
    }
    Ok(())
}

/// C05, C14–C16, E01: silent success, ids as text or number, bad fields ignored.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 3).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut one = Rtm::user(a, 1).await?;
    let mut again = Rtm::user(b, 1).await?;
    let mut two = Rtm::user(b, 2).await?;
    let mut stranger = Rtm::user(b, 3).await?;
    post(a, 11, 1, "hello").await?;
    for client in [&mut one, &mut again, &mut two] {
        let message = client.expect_text("hello").await?;
        for field in [
            "id",
            "user_id",
            "channel_id",
            "display_name",
            "attachments",
            "message_type",
            "is_edited",
            "parent_message",
            "emoticons",
            "created_on",
            "created_on_ts",
            "content_text",
            "read_user_count",
            "read_users",
        ] {
            ensure!(!message[field].is_null(), "{field}: {message}");
        }
        ensure!(message["read_user_count"] == "0" && message["display_name"] == "User 1");
    }
    for id in [
        "null", "-1", "1.5", "true", "[]", "{}", "\"\"", "\"12x\"", "0",
    ] {
        for command in ["ws_ephemeral_typing", "ws_all_read_notification"] {
            let text = format!(r#"{{"command":"{command}","channel_id":{id}}}"#);
            one.raw(Message::Text(text)).await?;
        }
    }
    one.say(&json!({"command": "ws_ping"})).await?;
    ensure!(one.hear().await? == json!({"event": "pong"}));
    // C16: there, and nowhere else.
    for client in [&mut one, &mut again, &mut two, &mut stranger] {
        client.expect_nothing().await?;
    }
    one.say(&json!({"command": "ws_ephemeral_typing", "channel_id": "11", "user_email": "x@y", "cid": 1})).await?;
    let ack = one.expect("system.ack").await?;
    ensure!(ack == json!({"cid": 1, "ok": true}), "{ack}");
    let typing = two.expect("chat.userTyping").await?;
    ensure!(
        typing["channel_id"] == 11 && typing["user"]["id"] == 1,
        "{typing}"
    );
    for client in [&mut one, &mut again, &mut two, &mut stranger] {
        client.expect_nothing().await?;
    }
    Ok(())
}

/// E02–E14: every event, its audience and its payload.
#[tokio::test(flavor = "multi_thread")]
async fn events_and_their_audiences() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 4).await?;
    let mut one = Rtm::user(a, 1).await?;
    let mut two = Rtm::user(b, 2).await?;
    let mut three = Rtm::user(b, 3).await?;
    let mut stranger = Rtm::user(a, 4).await?;
    // E04
    channel(a, 11, &[1, 2]).await?;
    for client in [&mut one, &mut two] {
        let payload = client.expect("channel.create").await?;
        ensure!(
            payload["channel"]["members"].as_array().map(Vec::len) == Some(2),
            "{payload}"
        );
        ensure!(
            payload["channel"]["created_by"] == 1 && payload["channel"]["latest_message"].is_null()
        );
    }
    // E02, E03
    let id = post(b, 11, 2, "first").await?;
    op(
        a,
        "message.update",
        json!({"message_id": id, "content": "second"}),
    )
    .await?;
    op(b, "message.delete", json!({"message_id": id})).await?;
    for client in [&mut one, &mut two] {
        client.expect_text("first").await?;
        let message = client.expect("chat.updateMessage").await?["message"].take();
        ensure!(
            message["content"] == "second" && message["is_edited"] == true,
            "{message}"
        );
        let deleted = client.expect("chat.deleteMessage").await?;
        ensure!(
            deleted == json!({"message_id": id, "channel_id": 11}),
            "{deleted}"
        );
    }
    // E05
    op(
        b,
        "channel.add_user",
        json!({"channel_id": 11, "user_id": 3}),
    )
    .await?;
    op(
        a,
        "channel.add_user",
        json!({"channel_id": 11, "user_id": 3}),
    )
    .await?;
    post(a, 11, 1, "welcome").await?;
    for client in [&mut one, &mut two, &mut three] {
        let added = client.expect("user_added.channel").await?;
        ensure!(
            added["user"]["id"] == 3 && added["channel_id"] == 11,
            "{added}"
        );
        let update = client.expect("channel.update").await?;
        ensure!(
            update["channel"]["members"].as_array().map(Vec::len) == Some(3),
            "{update}"
        );
        client.expect_text("welcome").await?;
    }
    // E06
    op(
        a,
        "channel.remove_user",
        json!({"channel_id": 11, "user_id": 2, "removed_by": 1}),
    )
    .await?;
    post(b, 11, 1, "without two").await?;
    let gone = json!({"removed_user_id": 2, "removed_by_user_id": 1, "channel_id": 11});
    ensure!(two.expect("user_removed.channel").await? == gone);
    for client in [&mut one, &mut three] {
        ensure!(client.expect("user_removed.channel").await? == gone);
        client.expect("channel.update").await?;
        client.expect_text("without two").await?;
    }
    two.say(&json!({"command": "ws_ephemeral_typing", "channel_id": 11, "cid": "x"}))
        .await?;
    ensure!(two.expect("system.ack").await?["error"]["code"] == "not_member");
    // E07
    op(
        a,
        "channel.remove_user",
        json!({"channel_id": 11, "user_id": 3, "removed_by": 3}),
    )
    .await?;
    let left = three.expect("user_removed.channel").await?;
    ensure!(left["removed_user_id"] == left["removed_by_user_id"]);
    one.expect("user_removed.channel").await?;
    one.expect("channel.update").await?;
    // Back again: he hears it from there on.
    op(
        a,
        "channel.add_user",
        json!({"channel_id": 11, "user_id": 2}),
    )
    .await?;
    for client in [&mut one, &mut two] {
        client.expect("user_added.channel").await?;
        client.expect("channel.update").await?;
    }
    // E08, E12–E14
    op(
        a,
        "channel.update",
        json!({"channel_id": 11, "set": {"channel_name": "New", "created_by": "1"}}),
    )
    .await?;
    op(
        a,
        "action.create",
        json!({"action": {"channel_id": 11, "action_name": "x", "created_by": 1}}),
    )
    .await?;
    let lock = json!({"lock_id": 5, "channel_id": 11, "user_id": 1, "path": "/a b/\u{e4}\"\\"});
    op(a, "lock.acquire", lock.clone()).await?;
    op(a, "lock.release", lock.clone()).await?;
    op(
        a,
        "message.post_bot",
        json!({"channel_id": 11, "type": 2, "bot_message": "hi"}),
    )
    .await?;
    op(
        a,
        "event.emit",
        json!({"event": "fs.add", "payload": {"x": 1}, "audience": {"channel_id": 11}}),
    )
    .await?;
    for client in [&mut one, &mut two] {
        let update = client.expect("channel.update").await?;
        ensure!(
            update["channel"]["channel_name"] == "New" && update["channel"]["created_by"] == 1,
            "{update}"
        );
        let action = client.expect("action.create").await?;
        ensure!(
            action["action"]["updated_by"].is_null() && action["action"]["id"].is_u64(),
            "{action}"
        );
        ensure!(client.expect("lock.acquire").await? == lock);
        ensure!(client.expect("lock.release").await? == lock);
        let bot = client.expect("chat.postMessage").await?["message"].take();
        ensure!(
            bot["message_type"] == 5 && bot["content"] == json!({"type": 2, "bot_message": "hi"}),
            "{bot}"
        );
        ensure!(
            bot["display_name"] == "AirBot" && bot["user_id"] == 91_000_001,
            "{bot}"
        );
        ensure!(client.expect("fs.add").await? == json!({"x": 1}));
    }
    // E10, E11
    op(
        b,
        "user.profile_update",
        json!({"user_id": 2, "display_name": "Second"}),
    )
    .await?;
    op(
        b,
        "alert.notify",
        json!({"user_id": 1, "from": [2], "message_id": 7, "channel_id": 11, "alert_text": "@1"}),
    )
    .await?;
    let mut heard = [one.hear().await?, one.hear().await?];
    heard.sort_by_key(|frame| frame["event"].as_str().map(str::to_owned));
    ensure!(
        heard[0]["event"] == "alert.notification"
            && heard[0]["payload"]["from"][0]["display_name"] == "Second",
        "{heard:?}"
    );
    ensure!(
        heard[1]["payload"]["user"]["display_name"] == "Second",
        "{heard:?}"
    );
    two.expect("user.profileUpdate").await?;
    // E09
    op(a, "channel.remove", json!({"channel_id": 11})).await?;
    for client in [&mut one, &mut two] {
        ensure!(client.expect("channel.remove").await? == json!({"channel_id": 11}));
    }
    let message = json!({"message": {"channel_id": 11, "user_id": 1, "content": "x"}});
    ensure!(refused(a, "message.post", message).await? == 404);
    for client in [&mut one, &mut two, &mut three, &mut stranger] {
        client.expect_nothing().await?;
    }
    Ok(())
}
