//! The contract's acceptance checks over real sockets, on two instances. Each test says which.

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::*;
use serde_json::{Value, json};
use tidings_adapter_airsend::Span;
use tidings_testkit::adapter_exam::wire::{Message, Request, send};

/// C01–C04: who may connect, and with what.
#[tokio::test(flavor = "multi_thread")]
async fn login_and_connect() -> Result<()> {
    let cluster = cluster(|options| options.connects_per_minute = 4).await?;
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
    let mut two = Rtm::user(b, 2).await?;
    let mut stranger = Rtm::user(b, 3).await?;
    post(a, 11, 1, "hello").await?;
    for client in [&mut one, &mut two] {
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
    ensure!(one.next().await? == json!({"event": "pong"}));
    one.say(&json!({"command": "ws_ephemeral_typing", "channel_id": "11", "user_email": "x@y", "cid": 1})).await?;
    let ack = one.expect("system.ack").await?;
    ensure!(ack == json!({"cid": 1, "ok": true}), "{ack}");
    let typing = two.expect("chat.userTyping").await?;
    ensure!(
        typing["channel_id"] == 11 && typing["user"]["id"] == 1,
        "{typing}"
    );
    for client in [&mut one, &mut two, &mut stranger] {
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

/// E15–E17, M07: order, idempotency, refusals.
#[tokio::test(flavor = "multi_thread")]
async fn the_backend_publishes() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 3).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut one = Rtm::user(a, 1).await?;
    let mut two = Rtm::user(b, 2).await?;
    let post_of =
        |text: &str| json!({"message": {"channel_id": 11, "user_id": 1, "content": text}});
    let mut ids = Vec::new();
    for at in [a, b, a] {
        let answer = send(at, &operation("message.post", post_of("once"), Some("k"))).await?;
        ids.push(parsed(&answer)["result"]["message_id"].clone());
    }
    ensure!(
        ids[0].is_u64() && ids.iter().all(|id| *id == ids[0]),
        "{ids:?}"
    );
    ensure!(
        send(b, &operation("message.post", post_of("other"), Some("k")))
            .await?
            .status
            == 409
    );
    for n in 0..60 {
        post(if n % 2 == 0 { a } else { b }, 11, 1, &n.to_string()).await?;
    }
    for client in [&mut one, &mut two] {
        client.expect_text("once").await?;
        for n in 0..60 {
            client.expect_text(&n.to_string()).await?;
        }
    }
    let unknown =
        Request::post("/api/v1/internal/rtm.publish", "{}").header("authorization", "Bearer no");
    ensure!(send(a, &unknown).await?.status == 401);
    let message = |channel: u64, user: u64| json!({"message": {"channel_id": channel, "user_id": user, "content": "x"}});
    for (op, data, status) in [
        ("what", json!({}), 400),
        ("message.post", json!({}), 400),
        ("message.post", json!({"message": {"channel_id": "x"}}), 400),
        ("message.post", message(99, 1), 404),
        ("message.post", message(11, 3), 403),
        ("message.post", message(11, 99), 404),
        ("message.update", json!({"message_id": 99}), 404),
        ("message.delete", json!({"message_id": 99}), 404),
        (
            "channel.add_user",
            json!({"channel_id": 11, "user_id": 99}),
            404,
        ),
        (
            "channel.add_user",
            json!({"channel_id": 99, "user_id": 1}),
            404,
        ),
        (
            "channel.remove_user",
            json!({"channel_id": 99, "user_id": 1}),
            404,
        ),
        (
            "channel.create",
            json!({"channel": {"id": 11}, "member_ids": [1]}),
            400,
        ),
        (
            "channel.create",
            json!({"channel": {"id": 12}, "member_ids": [99]}),
            404,
        ),
        ("session.revoke", json!({"user_id": 99}), 404),
        (
            "lock.acquire",
            json!({"lock_id": 1, "channel_id": 11, "user_id": 3, "path": "/"}),
            403,
        ),
    ] {
        let got = refused(a, op, data.clone()).await?;
        ensure!(got == status, "{op} {data}: {got}");
    }
    let long = post_of(&"x".repeat(300_000));
    ensure!(
        send(a, &operation("message.post", long, None))
            .await?
            .status
            == 413
    );
    // K16: long messages are in pieces, and whole when they arrive.
    let long = "long ".repeat(40_000);
    post(a, 11, 1, &long).await?;
    two.expect_text(&long).await?;
    one.expect_text(&long).await?;
    Ok(())
}

/// K01–K13: what clients ask for.
#[tokio::test(flavor = "multi_thread")]
async fn commands() -> Result<()> {
    let cluster =
        cluster(|options| options.typing_window = Span(Duration::from_millis(700))).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 3).await?;
    channel(a, 11, &[1, 2]).await?;
    channel(a, 12, &[1, 2]).await?;
    let mut one = Rtm::user(a, 1).await?;
    let mut again = Rtm::user(b, 1).await?;
    let mut two = Rtm::user(b, 2).await?;
    let mut stranger = Rtm::user(a, 3).await?;
    // K01–K03, M03
    for client in [&mut one, &mut again] {
        for _ in 0..8 {
            client
                .say(&json!({"command": "ws_ephemeral_typing", "channel_id": 11}))
                .await?;
        }
    }
    ensure!(two.expect("chat.userTyping").await?["channel_id"] == 11);
    one.say(&json!({"command": "ws_ephemeral_typing", "channel_id": 12}))
        .await?;
    ensure!(two.expect("chat.userTyping").await?["channel_id"] == 12);
    stranger
        .say(&json!({"command": "ws_ephemeral_typing", "channel_id": 11}))
        .await?;
    tokio::time::sleep(Duration::from_millis(800)).await; // the window passes
    one.say(&json!({"command": "ws_ephemeral_typing", "channel_id": 11}))
        .await?;
    ensure!(two.expect("chat.userTyping").await?["channel_id"] == 11);
    two.expect_nothing().await?;
    one.expect_nothing().await?;
    // K04–K08
    let ids = [
        post(a, 11, 2, "a").await?,
        post(a, 11, 2, "b").await?,
        post(a, 12, 2, "c").await?,
    ];
    post(a, 11, 1, "my own").await?;
    op(
        a,
        "message.post_bot",
        json!({"channel_id": 11, "type": 1, "bot_message": "x"}),
    )
    .await?;
    for client in [&mut one, &mut again, &mut two] {
        for _ in 0..5 {
            client.expect("chat.postMessage").await?;
        }
    }
    let read = |channel: u64, message: u64| json!({"command": "ws_read_notification", "channel_id": channel, "message_id": message.to_string()});
    let count = |total: u64, channel: u64, unread: u64, oldest: u64| json!({"total_unread_count": total, "channel_id": channel, "channel_unread_count": unread, "oldest_unread_message_id": oldest});
    for _ in 0..3 {
        one.say(&read(11, ids[0])).await?;
    }
    for client in [&mut one, &mut again, &mut two] {
        let message = client.expect("chat.updateMessage").await?["message"].take();
        ensure!(
            message["read_user_count"] == "1" && message["read_users"][0]["user_id"] == 1,
            "{message}"
        );
    }
    for client in [&mut one, &mut again] {
        for _ in 0..3 {
            let heard = client.expect("chat.unreadCountUpdate").await?;
            ensure!(heard == count(2, 11, 1, ids[1]), "{heard}");
        }
    }
    for command in [read(12, ids[1]), read(11, 99), read(99, ids[1])] {
        one.say(&command).await?;
    }
    stranger.say(&read(11, ids[1])).await?;
    one.say(&json!({"command": "ws_all_read_notification", "channel_id": 11}))
        .await?;
    for client in [&mut one, &mut again] {
        let heard = client.expect("chat.unreadCountUpdate").await?;
        ensure!(heard == count(1, 11, 0, 0), "{heard}");
        client.expect_nothing().await?;
    }
    two.expect_nothing().await?;
    // K09–K13
    let react = |command: &str, message: u64| json!({"command": command, "message_id": message, "emoji_value": "U 1F600"});
    for _ in 0..2 {
        one.say(&react("ws_add_reaction", ids[0])).await?;
    }
    two.say(&react("ws_add_reaction", ids[0])).await?;
    for client in [&mut one, &mut again, &mut two] {
        let mut seen: Vec<Value> = Vec::new();
        while seen.len() < 2 {
            let frame = client.hear().await?;
            match frame["event"].as_str() {
                Some("chat.updateMessage") => {
                    seen.push(frame["payload"]["message"]["emoticons"].clone())
                }
                Some("alert.notification") => {
                    ensure!(frame["payload"]["from"][0]["id"] == 1, "{frame}")
                }
                _ => anyhow::bail!("{frame}"),
            }
        }
        ensure!(seen[1].as_array().map(Vec::len) == Some(2), "{seen:?}");
        ensure!(seen[0][0]["ev"] == "U 1F600");
    }
    two.say(&react("ws_remove_reaction", ids[0])).await?;
    stranger.say(&react("ws_add_reaction", ids[0])).await?;
    stranger.say(&react("ws_add_reaction", 99)).await?;
    for client in [&mut one, &mut again] {
        let message = client.expect("chat.updateMessage").await?["message"].take();
        ensure!(
            message["emoticons"].as_array().map(Vec::len) == Some(1),
            "{message}"
        );
        client.expect_nothing().await?;
    }
    stranger.expect_nothing().await?;
    Ok(())
}

/// C17–C19, C22, M05: refreshed, another's, replaced, revoked.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_connections() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let auth = |token: &str| json!({"command": "ws_auth", "auth_token": token, "cid": 1});
    let mut watcher = Rtm::user(b, 2).await?;
    let token = ws_token(a, 1).await?;
    let mut older = Rtm::with(a, &token).await?;
    // It may hear of itself, as everybody does.
    while watcher.next().await?["payload"]["user"]["id"] != 1 {}
    let mut newer = Rtm::with(b, &token).await?;
    ensure!(older.expect_close().await? == 4005);
    newer.say(&auth(&ws_token(a, 1).await?)).await?;
    newer.expect("system.ack").await?;
    post(a, 11, 1, "still here").await?;
    newer.expect_text("still here").await?;
    // Nobody went, nobody came.
    let frame = watcher.next().await?;
    ensure!(frame["event"] == "chat.postMessage", "{frame}");
    op(a, "session.revoke", json!({"user_id": 1})).await?;
    ensure!(newer.expect_close().await? == 4009);
    let frame = watcher.next().await?;
    ensure!(frame["event"] == "user.offline", "{frame}");
    let mut refused = Rtm::open(a).await?;
    refused.say(&auth(&token)).await?;
    ensure!(refused.expect_close().await? == 4004);
    watcher.say(&auth(&ws_token(a, 1).await?)).await?;
    ensure!(watcher.expect_close().await? == 4004);
    Ok(())
}

/// S01, S02, S04, S05, S07: coming back.
#[tokio::test(flavor = "multi_thread")]
async fn resuming() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 2).await?;
    for id in 11..=30 {
        channel(a, id, &[1, 2]).await?;
    }
    let token = ws_token(a, 1).await?;
    let (mut client, hello) = Rtm::hello(a, &token, None).await?;
    ensure!(
        hello["gap"] == false && hello["user_id"] == 1 && hello["ping_interval_s"] == 25,
        "{hello}"
    );
    post(a, 11, 2, "heard").await?;
    client.expect_text("heard").await?;
    let cursor = client.cursor.clone();
    drop(client);
    for id in 11..=30 {
        post(b, id, 2, &format!("missed {id}")).await?;
    }
    op(
        a,
        "channel.remove_user",
        json!({"channel_id": 12, "user_id": 1, "removed_by": 2}),
    )
    .await?;
    channel(b, 31, &[1, 2]).await?;
    post(b, 12, 2, "not his any more").await?;
    post(b, 31, 2, "new").await?;
    // From the same place twice, on either instance.
    for at in [b, a] {
        let (mut client, hello) = Rtm::hello(at, &ws_token(at, 1).await?, Some(&cursor)).await?;
        ensure!(hello["resumed"] == true && hello["gap"] == false, "{hello}");
        let mut heard: Vec<String> = Vec::new();
        while heard.len() < 23 {
            let frame = client.hear().await?;
            heard.push(match frame["event"].as_str() {
                Some("chat.postMessage") => frame["payload"]["message"]["content"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                other => other.unwrap_or_default().to_owned(),
            });
        }
        client.expect_nothing().await?;
        let mut expected: Vec<String> = (11..=30).map(|id| format!("missed {id}")).collect();
        expected.extend(["user_removed.channel", "channel.create", "new"].map(str::to_owned));
        heard.sort();
        expected.sort();
        ensure!(heard == expected, "{heard:?}");
        post(a, 31, 2, "live").await?;
        client.expect_text("live").await?;
        let (mut level, hello) =
            Rtm::hello(b, &ws_token(b, 1).await?, Some(&client.cursor)).await?;
        ensure!(hello["resumed"] == true, "{hello}");
        level.expect_nothing().await?;
        // The other client of this round is level with `live`, too: leave both behind.
        let cursor_now = level.cursor.clone();
        ensure!(!cursor_now.is_empty());
        op(
            a,
            "message.post",
            json!({"message": {"channel_id": 31, "user_id": 2, "content": "last"}}),
        )
        .await?;
        client.expect_text("last").await?;
        level.expect_text("last").await?;
        if at == b {
            // The second round's client hears these as well.
            op(
                a,
                "channel.remove_user",
                json!({"channel_id": 31, "user_id": 1, "removed_by": 2}),
            )
            .await?;
            client.expect("user_removed.channel").await?;
            break;
        }
    }
    for bad in ["", "junk", "AAAA", &cursor[1..]] {
        let (mut client, hello) = Rtm::hello(b, &ws_token(b, 1).await?, Some(bad)).await?;
        ensure!(hello["resumed"] == false && hello["gap"] == true, "{hello}");
        post(a, 11, 2, "after a gap").await?;
        client.expect_text("after a gap").await?;
    }
    Ok(())
}

/// R01–R03: presence.
#[tokio::test(flavor = "multi_thread")]
async fn presence() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    channel(a, 12, &[1, 2]).await?;
    let mut watcher = Rtm::user(b, 2).await?;
    let about_one = async |watcher: &mut Rtm, event: &str| -> Result<()> {
        let mut channels = Vec::new();
        while channels.len() < 2 {
            let frame = watcher.next().await?;
            if frame["payload"]["user"]["id"] == 1 {
                ensure!(frame["event"] == event, "{frame}");
                ensure!(frame["payload"]["user"]["online_status"] == (event == "user.online"));
                channels.push(frame["payload"]["channel_id"].as_u64());
            }
        }
        channels.sort();
        ensure!(channels == [Some(11), Some(12)]);
        Ok(())
    };
    let first = Rtm::user(a, 1).await?;
    about_one(&mut watcher, "user.online").await?;
    let second = Rtm::user(b, 1).await?;
    drop(first);
    post(a, 11, 1, "still").await?;
    ensure!(watcher.next().await?["event"] == "chat.postMessage");
    drop(second);
    about_one(&mut watcher, "user.offline").await?;
    let third = Rtm::user(b, 1).await?;
    about_one(&mut watcher, "user.online").await?;
    drop(third);
    about_one(&mut watcher, "user.offline").await?;
    Ok(())
}

/// P01–P04, C21: pings, pongs, and a token that expires.
#[tokio::test(flavor = "multi_thread")]
async fn pings_and_expiry() -> Result<()> {
    let cluster = cluster(|options| {
        options.ping = Span(Duration::from_millis(300));
        options.login_lifetime = Span(Duration::from_secs(3));
    })
    .await?;
    let at = cluster.instance(0).address();
    users(at, 1).await?;
    // The library answers pings by itself as long as it is read.
    let mut client = Rtm::user(at, 1).await?;
    ensure!(client.expect_close().await? == 4009);
    // Who does not read does not answer, whatever he says.
    let mut deaf = Rtm::user(at, 1).await?;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        deaf.say(&json!({"command": "ws_ping"})).await.ok();
    }
    ensure!(deaf.expect_close().await? == 4011);
    Ok(())
}

/// K14: many react and read at once, over both instances.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 13).await?;
    channel(a, 11, &(1..=13).collect::<Vec<_>>()).await?;
    let mut watcher = Rtm::user(a, 13).await?;
    let id = post(a, 11, 13, "read me").await?;
    watcher.expect_text("read me").await?;
    let mut clients = Vec::new();
    for user in 1..=12 {
        clients.push(Rtm::user(if user % 2 == 0 { a } else { b }, user).await?);
    }
    for client in &mut clients {
        client
            .say(&json!({"command": "ws_add_reaction", "message_id": id, "emoji_value": "x"}))
            .await?;
        client
            .say(&json!({"command": "ws_read_notification", "channel_id": 11, "message_id": id}))
            .await?;
    }
    let (mut size, mut updates) = (0, 0);
    while updates < 24 {
        let frame = watcher.hear().await?;
        if frame["event"] == "chat.updateMessage" {
            let message = &frame["payload"]["message"];
            let of = |name: &str| message[name].as_array().map_or(0, Vec::len);
            let now = of("emoticons") + of("read_users");
            ensure!(now == size + 1, "{message}");
            (size, updates) = (now, updates + 1);
        }
    }
    Ok(())
}

/// F01, F02: an instance is killed; who was only there goes offline, once for each channel.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_killed() -> Result<()> {
    let mut cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 4).await?;
    channel(a, 11, &[1, 2, 3, 4]).await?;
    let mut watcher = Rtm::user(a, 1).await?;
    // Two is only there, three on both, four comes back in time.
    let _two = Rtm::user(b, 2).await?;
    let (mut three, _three) = (Rtm::user(a, 3).await?, Rtm::user(b, 3).await?);
    let four = Rtm::user(b, 4).await?;
    let mut online = std::collections::BTreeSet::new();
    while online.len() < 3 {
        let frame = watcher.next().await?;
        online.extend(frame["payload"]["user"]["id"].as_u64().filter(|id| *id > 1));
    }
    cluster.kill(1);
    post(a, 11, 1, "missed").await?;
    let (mut four, hello) = Rtm::hello(a, &ws_token(a, 4).await?, Some(&four.cursor)).await?;
    ensure!(hello["resumed"] == true, "{hello}");
    four.expect_text("missed").await?;
    watcher.expect_text("missed").await?;
    three.expect_text("missed").await?;
    let frame = watcher.next().await?;
    ensure!(
        frame["event"] == "user.offline" && frame["payload"]["user"]["id"] == 2,
        "{frame}"
    );
    four.expect_nothing().await?;
    ensure!(tokio::time::timeout(SILENCE, watcher.next()).await.is_err());
    drop(four);
    let frame = watcher.next().await?;
    ensure!(
        frame["event"] == "user.offline" && frame["payload"]["user"]["id"] == 4,
        "{frame}"
    );
    Ok(())
}

/// S03, S04, S06: drops while four publish; per channel nothing lost, doubled or reordered.
#[tokio::test(flavor = "multi_thread")]
async fn drops_under_load() -> Result<()> {
    const POSTS: usize = 60;
    let cluster = cluster(|options| options.connects_per_minute = 1_000).await?;
    let at = [cluster.instance(0).address(), cluster.instance(1).address()];
    users(at[0], 2).await?;
    for id in 11..=14 {
        channel(at[0], id, &[1, 2]).await?;
    }
    let token = ws_token(at[0], 1).await?;
    let mut observer = Rtm::user(at[1], 2).await?;
    let (mut client, _) = Rtm::hello(at[0], &token, None).await?;
    let publishers = (0..4_u64).map(|publisher| {
        tokio::spawn(async move {
            for n in 0..POSTS {
                let text = format!("{publisher}-{n}");
                post(at[n % 2], 11 + publisher, 2, &text).await?;
            }
            anyhow::Ok(())
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut heard: [Vec<Vec<String>>; 2] = [vec![Vec::new(); 4], vec![Vec::new(); 4]];
    let note = |heard: &mut Vec<Vec<String>>, frame: &Value| {
        if frame["event"] == "chat.postMessage" {
            let channel = frame["payload"]["message"]["channel_id"]
                .as_u64()
                .unwrap_or(11);
            let text = frame["payload"]["message"]["content"]
                .as_str()
                .unwrap_or_default();
            heard[(channel - 11) as usize].push(text.to_owned());
        }
    };
    let total = |heard: &Vec<Vec<String>>| heard.iter().map(Vec::len).sum::<usize>();
    let mut drops = 0;
    while total(&heard[0]) < 4 * POSTS {
        let frame = client.hear().await?;
        note(&mut heard[0], &frame);
        if drops < 15 && total(&heard[0]) > 12 * (drops + 1) {
            drops += 1;
            let (again, hello) = Rtm::hello(at[drops % 2], &token, Some(&client.cursor)).await?;
            ensure!(hello["resumed"] == true, "{hello}");
            client = again;
        }
    }
    ensure!(drops == 15);
    while total(&heard[1]) < 4 * POSTS {
        let frame = observer.hear().await?;
        note(&mut heard[1], &frame);
    }
    for publisher in publishers {
        publisher.await??;
    }
    ensure!(heard[0] == heard[1]);
    client.expect_nothing().await?;
    Ok(())
}

/// R05: racing connects and disconnects; online and offline alternate, the last one is true.
#[tokio::test(flavor = "multi_thread")]
async fn racing_presence() -> Result<()> {
    let cluster = cluster(|options| options.connects_per_minute = 1_000).await?;
    let at = [cluster.instance(0).address(), cluster.instance(1).address()];
    users(at[0], 2).await?;
    channel(at[0], 11, &[1, 2]).await?;
    let mut watcher = Rtm::user(at[0], 2).await?;
    let mut tokens = Vec::new();
    for _ in 0..16 {
        tokens.push(ws_token(at[0], 1).await?);
    }
    let racers = tokens.into_iter().enumerate().map(|(n, token)| {
        tokio::spawn(async move {
            for round in 0..3 {
                let (client, _) = Rtm::hello(at[(n + round) % 2], &token, None).await?;
                drop(client);
            }
            anyhow::Ok(())
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await??;
    }
    let last = Rtm::user(at[1], 1).await?;
    drop(last);
    let mut states: Vec<bool> = Vec::new();
    while let Ok(frame) = tokio::time::timeout(Duration::from_secs(2), watcher.next()).await {
        let user = &frame?["payload"]["user"];
        if user["id"] == 1 {
            states.push(user["online_status"] == true);
        }
    }
    ensure!(
        states.first() == Some(&true) && states.last() == Some(&false),
        "{states:?}"
    );
    ensure!(
        states.windows(2).all(|pair| pair[0] != pair[1]),
        "{states:?}"
    );
    Ok(())
}
