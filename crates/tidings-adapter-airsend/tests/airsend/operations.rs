//! Operations to the letter: what an event has, which ids are free, what comes of a key (§2, §5).

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_testkit::adapter_exam::wire::send;

use crate::common::*;

/// 1.7: what is never replayed is not retained either when the backend sends it, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn live_only_whatever_is_asked() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    channel(at, 11, &[1]).await?;
    let mut client = Rtm::with(at, &minted(1)).await?;
    for audience in [json!({"channel_id": 11}), json!({"user_ids": [1]})] {
        let data =
            json!({"event": "system.news", "payload": {}, "audience": audience, "retained": true});
        op(at, "event.emit", data).await?;
        // `next` sees to it that it has no `event_id`.
        ensure!(client.expect("system.news").await? == json!({}));
    }
    Ok(())
}

/// A message that was refused, or is deleted, does not keep its id from the one that is meant.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_free_where_there_is_no_message() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 2).await?;
    channel(at, 11, &[1, 2]).await?;
    channel(at, 12, &[1, 2]).await?;
    let with_id = |channel: u64| {
        let mut data = post_of(channel, 1, "x");
        data["message"]["id"] = 500.into();
        data
    };
    ensure!(refused(at, "message.post", with_id(99)).await? == 404);
    op(at, "message.post", with_id(11)).await?;
    for taken in [11, 12] {
        ensure!(refused(at, "message.post", with_id(taken)).await? == 400);
    }
    op(at, "message.delete", json!({"message_id": 500})).await?;
    op(at, "message.post", with_id(12)).await?;
    let mut client = Rtm::with(at, &minted(2)).await?;
    let react = json!({"command": "ws_add_reaction", "message_id": 500, "emoji_value": "x"});
    client.say(&react).await?;
    let message = client.expect("chat.updateMessage").await?["message"].take();
    ensure!(message["channel_id"] == 12, "{message}");
    Ok(())
}

/// 2: an Action object is whole, and its ids are numbers, whatever of it the backend says.
#[tokio::test(flavor = "multi_thread")]
async fn actions_are_whole() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    channel(at, 11, &[1]).await?;
    let mut client = Rtm::with(at, &minted(1)).await?;
    let action = json!({"channel_id": "11", "action_name": "Call", "created_by": "1", "x": 1});
    op(at, "action.create", json!({ "action": action })).await?;
    let payload = client.expect("action.create").await?;
    let action = payload["action"].as_object().context("an object")?;
    for field in [
        "id",
        "channel_id",
        "action_name",
        "action_desc",
        "action_type",
        "action_status",
        "due_on",
        "created_on",
        "created_by",
        "updated_on",
        "updated_by",
        "x",
    ] {
        ensure!(action.contains_key(field), "{field}: {payload}");
    }
    ensure!(action["channel_id"] == 11 && action["created_by"] == 1 && action["id"].is_u64());
    let wrong = json!({"action": {"channel_id": 11, "created_by": "x"}});
    ensure!(refused(at, "action.create", wrong).await? == 400);
    Ok(())
}

/// E16: a channel that is made under a key is made, once, and open; so with who comes and goes.
#[tokio::test(flavor = "multi_thread")]
async fn memberships_under_keys() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 3).await?;
    let mut clients = [
        Rtm::with(a, &minted(1)).await?,
        Rtm::with(b, &minted(2)).await?,
    ];
    let create =
        json!({"channel": {"id": 11, "channel_name": "x", "created_by": 1}, "member_ids": [1, 2]});
    let add = json!({"channel_id": 11, "user_id": 3});
    let remove = json!({"channel_id": 11, "user_id": 3, "removed_by": 1});
    for (op, data, result) in [
        ("channel.create", create, json!({"channel_id": 11})),
        ("channel.add_user", add, json!({})),
        ("channel.remove_user", remove, json!({})),
    ] {
        for at in [a, b, a] {
            let answer = send(at, &operation(op, data.clone(), Some(op))).await?;
            ensure!(answer.status == 200, "{op}: {}", answer.text());
            ensure!(
                parsed(&answer)["result"] == result,
                "{op}: {}",
                answer.text()
            );
        }
    }
    post(b, 11, 1, "open").await?;
    for client in &mut clients {
        client.expect("channel.create").await?;
        client.expect("user_added.channel").await?;
        client.expect("channel.update").await?;
        client.expect("user_removed.channel").await?;
        client.expect("channel.update").await?;
        client.expect_text("open").await?;
    }
    Ok(())
}
