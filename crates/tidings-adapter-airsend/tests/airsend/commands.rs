//! What the backend publishes and clients command (E, K, C17–C22).

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_adapter_airsend::Span;
use tidings_testkit::adapter_exam::wire::{Request, send};

use crate::common::*;

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
