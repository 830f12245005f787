//! The notification-server's endpoints (contract section 6, E04, E05, E07, and 1.4).

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidings_testkit::adapter_exam::wire::Request;

use crate::client::{Hub, post, refused, until};

/// E04: payloads verbatim, each on its channel only.
#[tokio::test(flavor = "multi_thread")]
async fn payloads_go_to_their_channels() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let text = "{\"operations\":[{\"index\":{\"_index\":\"notifications\"}},\n\
        {\"channelId\":\"a\",\"timestamp\":1,\"payload\":{\"type\":\"message\",\"messageId\":\"7\"}},\n\
        {\"index\":{}},{\"channelId\":\"chat-list\",\"payload\":{\"b\":1.50,\n\"a\":[]}},\
        {\"channelId\":\"a\",\"payload\":\"x\"}]}";
    let request =
        Request::post("/bulk-notifications", text).header("content-type", "application/json");
    let answer = hub.send(0, &request).await?;
    assert_eq!(
        (answer.status, answer.text()),
        (200, r#"{"response":"sent successfully"}"#.into())
    );
    let raw = |text: &str| ("raw".to_owned(), text.to_owned());
    assert_eq!(
        hub.log("a").await?,
        [raw(r#"{"type":"message","messageId":"7"}"#), raw("\"x\"")]
    );
    assert_eq!(hub.log("chat-list").await?, [raw("{\"b\":1.50,\"a\":[]}")]);
    let none = json!({"operations": []});
    assert_eq!(
        hub.posted(1, "/ruuter/bulk-notifications", &none).await?,
        json!({"response": "sent successfully"})
    );
    for bad in [
        json!({}),
        json!({"operations": 3}),
        json!({"operations": [{"channelId": "a b", "payload": 1}]}),
        json!({"operations": [1]}),
    ] {
        refused(&hub.post(0, "/bulk-notifications", &bad).await?, 400)?;
    }
    let many = vec![json!({"channelId": "many", "payload": 1}); 1_001];
    let many = json!({"operations": many});
    refused(&hub.post(0, "/bulk-notifications", &many).await?, 413)?;
    assert_eq!(hub.log("many").await?, []);
    // A chat's own messages are not among them.
    let chat = hub.chat().await?;
    let one = json!({"operations": [{"channelId": chat, "payload": {"type": "stream_chunk"}}]});
    hub.posted(1, "/bulk-notifications", &one).await?;
    assert_eq!(hub.messages(0, &chat).await?.len(), 1);
    Ok(())
}

/// E05: as templates write into OpenSearch.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_notifications() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    for prefix in ["/notifications", "/opensearch/notifications"] {
        let query = json!({"query": {"match": {"channelId": "a"}}});
        let answer = hub
            .posted(0, &format!("{prefix}/_delete_by_query"), &query)
            .await?;
        assert_eq!(answer, json!({"deleted": 0}));
        let body = json!({"channelId": "a", "timestamp": 5, "payload": {"type": "preview", "messageId": ""}});
        let answer = hub.post(1, &format!("{prefix}/_doc"), &body).await?;
        let created: Value = serde_json::from_slice(&answer.body)?;
        assert_eq!(
            (answer.status, &created["result"]),
            (201, &json!("created"))
        );
        assert!(created["_id"].is_string());
    }
    let log = hub.log("a").await?;
    assert_eq!(log.len(), 2);
    assert_eq!(log[0].1, r#"{"messageId":"","type":"preview"}"#);
    refused(
        &hub.post(0, "/notifications/_doc", &json!({"payload": 1}))
            .await?,
        400,
    )?;
    Ok(())
}

/// The hub's own nudges on chat-list.
#[tokio::test(flavor = "multi_thread")]
async fn chat_list_is_nudged() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    hub.posted(0, "/post-message", &json!({"chatId": chat, "content": "a"}))
        .await?;
    hub.posted(
        0,
        "/cs-claim-chat",
        &json!({"id": chat, "customerSupportId": "x"}),
    )
    .await?;
    hub.posted(
        0,
        "/cs-redirect-chat",
        &json!({"id": chat, "customerSupportId": "y"}),
    )
    .await?;
    hub.posted(0, "/cs-end-chat", &json!({"chatId": chat}))
        .await?;
    let nudge = format!(r#"{{"status":"Chat Status Changed","chatId":"{chat}"}}"#);
    let five = vec![("nudge".to_owned(), nudge); 5];
    until(five, async || hub.log("chat-list").await).await
}

/// E07: the beacon of a page that goes; and one that was only loaded anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_ends_when_its_page_goes() -> Result<()> {
    let mut hub = Hub::start(json!({})).await?;
    let (gone, back) = (hub.chat().await?, hub.chat().await?);
    for chat in [&gone, &back] {
        let body = json!({"chatId": chat, "timeout": 1}).to_string();
        let beacon = Request::post("/add-chat-to-termination-queue", body)
            .header("content-type", "text/plain;charset=UTF-8");
        let answer = hub.send(0, &beacon).await?;
        assert_eq!(
            (answer.status, answer.text()),
            (200, r#"{"response":"Chat will be terminated soon"}"#.into())
        );
    }
    let path = "/remove-chat-from-termination-queue";
    let spared = hub.posted(1, path, &json!({"chatId": back})).await?;
    assert_eq!(
        spared,
        json!({"response": "Chat termination will be canceled"})
    );
    // Whoever set the timer need not be there when it is due.
    hub.cluster.kill(0);
    let status = async |chat: &str| {
        let answer = hub.got(1, &format!("/get-chat-by-id?id={chat}")).await?;
        let status = &answer["data"]["get_chat_by_id"]["status"];
        anyhow::Ok(status.as_str().context("a status")?.to_owned())
    };
    until("ENDED".to_owned(), async || status(&gone).await).await?;
    let last = hub.messages(1, &gone).await?.pop().context("a message")?;
    assert_eq!(last["event"], "CLIENT_LEFT_FOR_UNKNOWN_REASONS");
    assert_eq!(last["authorRole"], "end-user");
    assert_eq!(status(&back).await?, "OPEN");
    for (body, code) in [(json!({}), 400), (json!({"chatId": "nobody"}), 404)] {
        refused(&hub.post(1, path, &body).await?, code)?;
    }
    // After the end it does no harm.
    hub.posted(
        1,
        "/add-chat-to-termination-queue",
        &json!({"chatId": gone}),
    )
    .await?;
    Ok(())
}

/// Logouts are reported with their cookies, unless they are taken back.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "a stand-in that one test talks to"
)]
async fn logouts_are_reported() -> Result<()> {
    use tidings_adapter::axum::{Router, routing::get, serve};
    use tidings_adapter::http::HeaderMap;

    let (heard, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let report = get(async move |headers: HeaderMap| {
        let cookie = headers.get("cookie").and_then(|text| text.to_str().ok());
        let _ = heard.send(cookie.unwrap_or_default().to_owned());
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!(
        "http://{}/backoffice/accounts/logout",
        listener.local_addr()?
    );
    let router = Router::new().route("/backoffice/accounts/logout", report);
    tokio::spawn(async move { serve(listener, router).await });
    let hub = Hub::start(json!({"logout_url": url, "logout_after": "1s"})).await?;
    let add = |cookie: &str| Request::post("/add-to-logout-queue", "").header("cookie", cookie);
    for cookie in ["customJwtCookie=a; x=1", "customJwtCookie=b; x=1"] {
        let answer = hub.send(0, &add(cookie)).await?;
        assert_eq!((answer.status, answer.text()), (200, "OK".into()));
    }
    // Another cookie has changed since.
    let request =
        Request::post("/remove-from-logout-queue", "").header("cookie", "x=2; customJwtCookie=a");
    let answer = hub.send(1, &request).await?;
    assert_eq!(answer.text(), r#"{"response":"Logout would be canceled"}"#);
    let report = tokio::time::timeout(crate::client::SOON, reports.recv()).await?;
    assert_eq!(report.as_deref(), Some("customJwtCookie=b; x=1"));
    let more = tokio::time::timeout(Duration::from_millis(700), reports.recv()).await;
    assert!(more.is_err(), "{more:?}");
    // Without cookies there is nothing to report.
    assert_eq!(
        hub.send(0, &Request::post("/add-to-logout-queue", ""))
            .await?
            .status,
        200
    );
    Ok(())
}

/// What streams an LLM's words elsewhere, and what is refused by its method.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_table() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    for (path, needs) in [
        ("/channels/a/stream", "messages"),
        ("/channels/a/llm-stream", "message"),
    ] {
        let answer = hub.post(0, path, &json!({needs: ["x"]})).await?;
        assert_eq!(
            (answer.status, answer.text()),
            (202, r#"{"response":"stream triggered"}"#.into())
        );
        let answer = hub.post(0, path, &json!({})).await?;
        assert_eq!(
            (answer.status, answer.text()),
            (400, format!(r#"{{"error":"{needs} is required"}}"#))
        );
    }
    let answer = hub
        .send(0, &post("/channels/a/stream/stop", &json!({})))
        .await?;
    assert_eq!((answer.status, answer.text()), (200, String::new()));
    for method in ["PUT", "PATCH", "DELETE"] {
        for path in [
            "/enqueue",
            "/bulk-notifications",
            "/ruuter/notifications/_doc",
        ] {
            refused(&hub.send(0, &Request::new(method, path)).await?, 403)?;
        }
    }
    refused(&hub.send(0, &Request::get("/enqueue")).await?, 405)?;
    Ok(())
}
