//! What is said and done in a chat, as npm's `eventsource` hears it on the instance that was not told: contract §6, the
//! rows B and E04, E05.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Client, data};
use crate::cluster::{Cluster, QUICK};

/// The fields of a message, in the page's order.
const FIELDS: [&str; 15] = [
    "id",
    "chatid",
    "content",
    "event",
    "authorId",
    "authorTimestamp",
    "authorFirstName",
    "authorLastName",
    "authorRole",
    "forwardedByUser",
    "forwardedFromCsa",
    "forwardedToCsa",
    "rating",
    "created",
    "updated",
];

/// One client with the streams of both sides of a chat; posts go to the other instance.
struct Sides<'a> {
    cluster: &'a Cluster,
    client: Client,
    chat: String,
}

impl<'a> Sides<'a> {
    async fn of(cluster: &'a Cluster) -> Result<Self> {
        let (chat, mut client) = (cluster.chat(0).await?, Client::node()?);
        for (side, prefix) in [("user", ""), ("agent", "cs-")] {
            let url = format!(
                "{}/sse/{prefix}get-new-messages?chatId={chat}",
                cluster.hub(1)
            );
            client.open(side, &url).await?;
            client.ready(side).await?;
        }
        Ok(Self {
            cluster,
            client,
            chat,
        })
    }

    /// Posts with this chat's id, and answers with what both sides hear, which must be the same.
    async fn heard(&mut self, path: &str, mut body: Value) -> Result<Value> {
        let name = if path.contains("redirect") {
            "id"
        } else {
            "chatId"
        };
        body[name] = self.chat.as_str().into();
        self.cluster.post(0, path, &body).await?;
        let user = self.client.event("user", "message").await?;
        let agent = self.client.event("agent", "message").await?;
        ensure!(
            user["id"] == agent["id"] && user["data"] == agent["data"],
            "{user} {agent}"
        );
        data(&user)
    }
}

fn is(message: &Value, fields: &Value) -> Result<()> {
    for (name, value) in fields.as_object().into_iter().flatten() {
        ensure!(message[name] == *value, "{name}: {message}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_hear_what_is_said_and_done() -> Result<()> {
    let options = format!("{QUICK}backend_open = true\n");
    let cluster = Cluster::start(&options).await?;
    let parts = async {
        tokio::try_join!(
            said(&cluster),
            redirected(&cluster),
            events(&cluster),
            ended(&cluster),
            payloads(&cluster),
        )
    };
    parts.await.with_context(|| cluster.printed())?;
    Ok(())
}

/// B01, B02, B08: `message-read`, an agent's words, a login.
async fn said(cluster: &Cluster) -> Result<()> {
    let mut sides = Sides::of(cluster).await?;
    let read = json!({
        "authorRole": "end-user", "authorTimestamp": "2023-01-13T14:23:52.953Z", "content": "", "event": "message-read",
    });
    let message = sides.heard("/post-message", read).await?;
    let line = sides.client.all("event").next_back().context("a line")?;
    let text = line["data"].as_str().unwrap_or_default();
    let places: Option<Vec<usize>> = FIELDS
        .iter()
        .map(|name| text.find(&format!("\"{name}\":")))
        .collect();
    let in_order = places.is_some_and(|places| places.is_sorted());
    ensure!(in_order, "the 15 fields in their order: {text}");
    let members = message.as_object().map_or(0, serde_json::Map::len);
    ensure!(members == FIELDS.len(), "{text}");
    let fields = json!({
        "chatid": sides.chat, "event": "message-read", "content": "", "authorRole": "end-user",
        "authorTimestamp": "2023-01-13T14:23:52.953+00:00", "forwardedByUser": null, "rating": "",
    });
    is(&message, &fields)?;
    let words = json!({
        "authorId": "EE30303039914", "authorFirstName": "Mari-Änn", "authorRole": "backoffice-user",
        "authorTimestamp": "2023-02-02T07:44:42.612Z", "content": "Tere! õ \u{2028} 🙂\n", "event": "",
    });
    let message = sides.heard("/cs-post-message", words).await?;
    let fields = json!({"content": "Tere! õ \u{2028} 🙂\n", "authorFirstName": "Mari-Änn", "authorId": "EE30303039914"});
    is(&message, &fields)?;
    let message = sides.heard("/login-with-tara-jwt", json!({})).await?;
    let fields = json!({"event": "authentication_successful", "authorRole": "backoffice-user", "content": ""});
    is(&message, &fields)
}

/// B05: as in the seed, on both streams and in the list.
async fn redirected(cluster: &Cluster) -> Result<()> {
    let mut sides = Sides::of(cluster).await?;
    let forwarded =
        json!({"forwardedByUser": "true", "forwardedFromCsa": "EE1", "forwardedToCsa": "EE2"});
    let mut body = forwarded.clone();
    body["customerSupportDisplayName"] = "Mari".into();
    body["customerSupportId"] = "EE1".into();
    let message = sides.heard("/cs-redirect-chat", body).await?;
    is(&message, &forwarded)?;
    let fields = json!({"event": "redirected", "authorRole": "buerokratt", "content": ""});
    is(&message, &fields)?;
    let path = format!("/cs-get-messages-by-chat-id?chatId={}", sides.chat);
    let list = cluster.get(1, &path).await?;
    is(&list[1], &forwarded)?;
    is(&list[1], &json!({"chatId": sides.chat}))
}

/// B09: what an event is called means nothing to the hub.
async fn events(cluster: &Cluster) -> Result<()> {
    let mut sides = Sides::of(cluster).await?;
    for event in [
        "client-left",
        "client_left",
        "CLIENT_LEFT_WITH_ACCEPTED",
        "ACCEPTED",
        "HATE_SPEECH",
        "requested-authentication",
        "ask-permission",
        "contact-information",
        "requested-chat-forward",
        "unavailable_holiday_ask_contacts",
        "redirectedMessageByOwner",
        "Invented_by-ÕUR test: x",
    ] {
        let body = json!({"event": event, "content": "", "authorRole": "backoffice-user"});
        let message = sides.heard("/cs-post-event-message", body).await?;
        is(&message, &json!({"event": event}))?;
    }
    Ok(())
}

/// B06, B07: the end is heard, and the chat leaves the list.
async fn ended(cluster: &Cluster) -> Result<()> {
    let table = [
        (
            "/end-chat",
            json!({"event": "client-left", "authorRole": "end-user"}),
        ),
        (
            "/cs-end-chat",
            json!({"event": "ACCEPTED", "authorRole": "backoffice-user", "authorId": "EE1", "authorFirstName": "Mari"}),
        ),
    ];
    for (path, mut body) in table {
        let mut sides = Sides::of(cluster).await?;
        body["authorTimestamp"] = "2023-01-18T12:56:52.895Z".into();
        let message = sides.heard(path, body.clone()).await?;
        body["authorTimestamp"] = "2023-01-18T12:56:52.895+00:00".into();
        if let Some(body) = body.as_object_mut() {
            body.remove("chatId");
        }
        is(&message, &body)?;
        // Asked after the answer, on the other instance: it is gone at once.
        let active = cluster.get(1, "/cs-get-all-active-chats").await?;
        ensure!(!active.to_string().contains(&sides.chat), "{path}");
    }
    Ok(())
}

/// E04, E05: payloads of others, through either door, verbatim on their channel and nowhere else.
async fn payloads(cluster: &Cluster) -> Result<()> {
    let mut sides = Sides::of(cluster).await?;
    let (chat, client) = (sides.chat.clone(), &mut sides.client);
    for channel in [chat.as_str(), "elsewhere"] {
        let url = format!("{}/sse/notifications/{channel}", cluster.hub(1));
        client.open(channel, &url).await?;
        client.ready(channel).await?;
    }
    let payload = |number: usize| {
        let text = format!("{number}\n\nid: 9-9\ndata: no");
        json!({"type": "stream_chunk", "content": text, "nested": {"b": [1.5, null]}})
    };
    let operations = json!({"operations": [
        {"index": {"_index": "notifications"}},
        {"channelId": chat, "timestamp": 1, "payload": payload(0)},
    ]});
    cluster.post(0, "/bulk-notifications", &operations).await?;
    for (number, prefix) in ["", "/opensearch", "/ruuter"].iter().enumerate() {
        let query = json!({"query": {"match": {"channelId": {"query": chat}}}});
        let path = format!("{prefix}/notifications/_delete_by_query");
        let answer = cluster.send(0, &path, &query).await?;
        ensure!(
            answer.status == 200 && answer.json()?["deleted"] == 0,
            "{:?}",
            answer.body
        );
        let document = json!({"channelId": chat, "timestamp": 2, "payload": payload(number + 1)});
        let path = format!("{prefix}/notifications/_doc");
        let answer = cluster.send(0, &path, &document).await?;
        ensure!(
            answer.status == 201 && answer.json()?["result"] == "created",
            "{:?}",
            answer.body
        );
    }
    for number in 0..4 {
        let heard = client.event(&chat, "message").await?;
        ensure!(data(&heard)? == payload(number), "{heard}");
        ensure!(heard["id"] != "", "{heard}");
    }
    // Nobody else has heard any of it: what is said next is what is heard next.
    cluster.say(0, &chat, "the end").await?;
    for side in ["user", "agent"] {
        client.hears(side, "the end").await?;
    }
    ensure!(client.count_about("event", "elsewhere") == 1, "ready alone");
    Ok(())
}
