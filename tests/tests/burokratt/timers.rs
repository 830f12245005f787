//! The termination queue: a chat ends after all, whoever lives or dies; contract §6, E07 and K14.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_testkit::servers::wait_for;
use tidings_tests::{SOON, http};

use crate::client::{Client, data};
use crate::cluster::{Cluster, QUICK};

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_ends_on_time_when_the_instance_that_was_told_is_dead() -> Result<()> {
    let mut cluster = Cluster::start(QUICK).await?;
    let (gone, stays) = (cluster.chat(0).await?, cluster.chat(0).await?);
    let mut client = Client::node()?;
    let stream = |chat: &str| format!("{}/sse/cs-get-new-messages?chatId={chat}", cluster.hub(1));
    client.open("gone", &stream(&gone)).await?;
    client.open("stays", &stream(&stays)).await?;
    client.ready("gone").await?;
    client.ready("stays").await?;
    for chat in [&gone, &stays] {
        // As `navigator.sendBeacon` sends it.
        let headers = [("content-type", "text/plain;charset=UTF-8")];
        let body = json!({"chatId": chat, "timeout": 3}).to_string();
        let path = "/add-chat-to-termination-queue";
        let answer = http::send(cluster.address(0), "POST", path, &headers, body).await?;
        ensure!(answer.status == 200, "{:?}", answer.body);
        ensure!(answer.json()?["response"] == "Chat will be terminated soon");
    }
    cluster.instances[0].kill().await?;
    let body = json!({"chatId": stays});
    let path = "/remove-chat-from-termination-queue";
    cluster.post(1, path, &body).await?;

    let last = data(&client.event("gone", "message").await?)?;
    ensure!(last["event"] == "CLIENT_LEFT_FOR_UNKNOWN_REASONS", "{last}");
    ensure!(last["authorRole"] == "end-user", "{last}");
    cluster.say(1, &stays, "I am still here").await?;
    client.hears("stays", "I am still here").await?;
    wait_for("the list to be without it", SOON, || async {
        let active = cluster
            .get(1, "/cs-get-all-active-chats")
            .await?
            .to_string();
        ensure!(
            !active.contains(&gone) && active.contains(&stays),
            "{active}"
        );
        Ok(())
    })
    .await?;
    // Its time passes, too: it was taken back.
    client.listen(Duration::from_secs(3)).await?;
    ensure!(client.contents("stays")? == ["I am still here"]);
    Ok(())
}
