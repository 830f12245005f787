//! Pages that behave as the widgets of 2026 and 2023 do: contract §6, K08, K09, K11, K14, F01, F02, E01–E04.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::servers::{PortLease, TcpProxy};

use crate::client::{Client, data};
use crate::cluster::Cluster;

async fn start() -> Result<(Cluster, Client)> {
    let origin = PortLease::take()?;
    let options = format!(
        "retry = \"200ms\"\nbackend_open = true\norigins = [\"http://{}\"]",
        origin.address()
    );
    let cluster = Cluster::start(&options).await?;
    let client = Client::chromium(origin).await?;
    Ok((cluster, client))
}

/// The next picture of a tab that has these texts.
async fn shows(page: &mut Client, tab: &str, texts: &[&str]) -> Result<()> {
    let texts: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    let shown = page.until("shown", |line| {
        line["tab"] == tab && line["texts"] == json!(texts)
    });
    shown.await?;
    Ok(())
}

async fn widget(page: &mut Client, tab: &str, name: &str, hub: &str, chat: &str) -> Result<()> {
    page.tab(tab, &format!("{name}?hub={hub}&chat={chat}"))
        .await
}

/// K08: the widget goes offline, a message is sent, and it is there after the reconnect without
/// anybody's doing.
#[tokio::test(flavor = "multi_thread")]
async fn todays_widget_shows_what_it_missed() -> Result<()> {
    let (cluster, mut page) = start().await?;
    let proxy = TcpProxy::start(cluster.address(0)).await?;
    let hub = format!("http://{}", proxy.address());
    let chat = cluster.chat(1).await?;
    widget(&mut page, "widget", "widget", &hub, &chat).await?;
    for path in [
        &format!("/sse/notifications/{chat}"),
        "/sse/notifications/chat-list",
        &format!("/sse/queue/{chat}"),
    ] {
        page.about("open", path).await?;
    }
    let waiting = page.until("queue", |line| line["order"] == 1);
    waiting.await?;

    cluster.answer(1, &chat, "good morning").await?;
    shows(&mut page, "widget", &["good morning"]).await?;
    let list = page.until("list", |line| line["nudge"]["chatId"] == chat.as_str());
    ensure!(list.await?["nudge"]["status"] == "Chat Status Changed");

    proxy.cut().await?;
    page.about("error", &format!("/sse/notifications/{chat}"))
        .await?;
    cluster.answer(1, &chat, "are you there?").await?;
    let claim =
        json!({"id": chat, "customerSupportId": "EE1", "customerSupportDisplayName": "Mari"});
    cluster.post(1, "/cs-claim-chat", &claim).await?;
    proxy.heal().await?;
    shows(&mut page, "widget", &["good morning", "are you there?"]).await?;
    let claimed = page.until("queue", |line| line["order"] == 0);
    claimed.await?;

    // E04: what another backend says goes through as it is.
    let payload = json!({"type": "stream_chunk", "content": "word"});
    let operations = json!({"operations": [
        {"index": {"_index": "notifications"}},
        {"channelId": chat, "timestamp": 1, "payload": payload},
    ]});
    cluster.post(0, "/bulk-notifications", &operations).await?;
    let nudge = page.until("nudge", |line| line["nudge"]["type"] == "stream_chunk");
    ensure!(nudge.await?["nudge"] == payload);
    ensure!(page.count("threw") == 0, "{:?}", page.last());
    Ok(())
}

/// K11: two tabs with three streams each, over six connections of one origin.
#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_three_streams_live_on_six_connections() -> Result<()> {
    let (cluster, mut page) = start().await?;
    let chats = [cluster.chat(0).await?, cluster.chat(1).await?];
    for (at, chat) in chats.iter().enumerate() {
        let tab = format!("tab {at}");
        page.tab(&tab, "blank").await?;
        for (name, path) in [
            ("messages", format!("/sse/notifications/{chat}")),
            ("list", "/sse/notifications/chat-list".to_owned()),
            ("queue", format!("/sse/queue/{chat}")),
        ] {
            let url = format!("{}{path}", cluster.hub(0));
            let name = format!("{name} {at}");
            page.tell(json!({"do": "open", "as": name, "tab": tab, "url": url}))
                .await?;
            page.about("open", &name).await?;
        }
    }
    for (at, chat) in chats.iter().enumerate() {
        let id = cluster.say(1, chat, "hello").await?;
        let nudge = page.until("event", |line| {
            line["as"] == format!("messages {at}")
                && line["data"].as_str().is_some_and(|text| text.contains(&id))
        });
        let nudge = nudge.await?;
        ensure!(
            nudge["data"]
                .as_str()
                .is_some_and(|text| text.starts_with(r#"{"type":"message""#)),
            "{nudge}"
        );
        for tab in 0..2 {
            let list = page.until("event", |line| {
                line["as"] == format!("list {tab}")
                    && line["data"]
                        .as_str()
                        .is_some_and(|text| text.contains(chat))
            });
            list.await?;
        }
    }
    Ok(())
}

/// K14: a page that goes says so with a beacon, which is text; one that was only loaded anew takes it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_ends_the_chat_of_a_page_that_went() -> Result<()> {
    let (cluster, mut page) = start().await?;
    let (gone, back) = (cluster.chat(0).await?, cluster.chat(1).await?);
    for chat in [&gone, &back] {
        let path = format!("/sse/get-new-messages?chatId={chat}");
        page.open(chat, &format!("{}{path}", cluster.hub(1)))
            .await?;
        page.ready(chat).await?;
    }
    let beacon = |path: &str, body: Value| {
        let url = format!("{}/{path}", cluster.hub(0));
        json!({"do": "beacon", "url": url, "body": body.to_string()})
    };
    for chat in [&gone, &back] {
        let adds = beacon(
            "add-chat-to-termination-queue",
            json!({"chatId": chat, "timeout": 2}),
        );
        let line = page.perform(adds, "adds").await?;
        ensure!(line["sent"] == true, "{line}");
    }
    let removes = beacon(
        "remove-chat-from-termination-queue",
        json!({"chatId": back}),
    );
    page.perform(removes, "removes").await?;
    let last = data(&page.event(&gone, "message").await?)?;
    ensure!(
        last["event"] == "CLIENT_LEFT_FOR_UNKNOWN_REASONS" && last["authorRole"] == "end-user",
        "{last}"
    );
    // The other's time passes as well.
    page.listen(std::time::Duration::from_secs(2)).await?;
    cluster.say(0, &back, "I am back").await?;
    page.hears(&back, "I am back").await?;
    Ok(())
}

/// K09: the envelope, with a list in it; nothing while idle breaks a page that throws on everything else.
#[tokio::test(flavor = "multi_thread")]
async fn the_widget_of_2023_reads_the_envelope() -> Result<()> {
    let origin = PortLease::take()?;
    let options = format!(
        "heartbeat = \"1s\"\norigins = [\"http://{}\"]",
        origin.address()
    );
    let cluster = Cluster::start(&options).await?;
    let mut page = Client::chromium(origin).await?;
    let chat = cluster.chat(0).await?;
    widget(&mut page, "widget", "widget-2023", &cluster.hub(1), &chat).await?;
    shows(&mut page, "widget", &["hello"]).await?;
    // Heartbeats, which it must not notice.
    page.listen(std::time::Duration::from_secs(3)).await?;
    cluster.answer(0, &chat, "good morning").await?;
    shows(&mut page, "widget", &["hello", "good morning"]).await?;
    ensure!(
        page.count("threw") == 0 && page.count("error") == 0,
        "{:?}",
        page.last()
    );
    Ok(())
}
