//! Chats from their beginning to their end (contract section 6, group B, and 1.2).

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::Hub;

/// B05: a redirect as the page has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_redirected() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let id = hub.chat().await?;
    let body = json!({
        "id": id,
        "customerSupportDisplayName": "someCsaAgent",
        "customerSupportId": "EE123Csa1Id",
        "forwardedByUser": "EE123AdminId",
        "forwardedFromCsa": "EE123Csa1Id",
        "forwardedToCsa": "EE123Csa2Id",
    });
    for (path, instance) in [
        ("/cs-redirect-chat", 0),
        ("/ruuter/cs-admin-redirect-chat", 1),
    ] {
        let answer = hub.posted(instance, path, &body).await?;
        let chat = &answer["data"]["get_claimed_chat"];
        assert_eq!(chat["status"], "REDIRECTED");
        assert_eq!(chat["customerSupportId"], "EE123Csa2Id");
        assert_eq!(chat["customerSupportDisplayName"], "someCsaAgent");
        assert_eq!(
            (&chat["event"], &chat["lastMessageEvent"]),
            (&json!("redirected"), &json!("redirected"))
        );
    }
    let messages = hub.messages(1, &id).await?;
    assert_eq!(messages.len(), 3);
    for message in &messages[1..] {
        assert_eq!(message["event"], "redirected");
        assert_eq!(message["chatId"], id);
        assert_eq!(message["authorRole"], "buerokratt");
        assert_eq!(message["content"], "");
        assert_eq!(message["forwardedByUser"], "EE123AdminId");
        assert_eq!(message["forwardedFromCsa"], "EE123Csa1Id");
        assert_eq!(message["forwardedToCsa"], "EE123Csa2Id");
    }
    Ok(())
}

/// B06, B07: both ends, as the page has them.
#[tokio::test(flavor = "multi_thread")]
async fn chats_end() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let (one, other) = (hub.chat().await?, hub.chat().await?);
    let left = json!({
        "chatId": one,
        "event": "client-left",
        "authorTimestamp": "2023-02-02T07:49:41.133Z",
        "authorRole": "end-user",
    });
    let answer = hub.posted(0, "/end-chat", &left).await?;
    let message = &answer["data"]["end_chat"];
    assert_eq!(
        (&message["event"], &message["authorRole"]),
        (&json!("client-left"), &json!("end-user"))
    );
    let accepted = json!({
        "chatId": other,
        "event": "ACCEPTED",
        "authorTimestamp": "2023-02-02T07:44:42.612Z",
        "authorFirstName": "Mary-Änn",
        "authorId": "EE49003106521",
        "authorRole": "backoffice-user",
    });
    let answer = hub.posted(1, "/cs-end-chat", &accepted).await?;
    let chat = &answer["data"]["get_chat_by_id"];
    assert_eq!(
        (&chat["status"], &chat["event"]),
        (&json!("ENDED"), &json!("ACCEPTED"))
    );
    assert!(chat["ended"].is_string());
    let active = hub.got(0, "/cs-get-all-active-chats").await?;
    assert_eq!(
        active,
        json!({"data": {"get_all_active_chats": []}, "error": null})
    );
    for (instance, id) in [(1, &one), (0, &other)] {
        let messages = hub.messages(instance, id).await?;
        assert_eq!(messages.len(), 2);
        let chat = hub
            .got(instance, &format!("/get-chat-by-id?id={id}"))
            .await?;
        assert_eq!(chat["data"]["get_chat_by_id"]["status"], "ENDED");
    }
    Ok(())
}

/// B08: a login without TIM is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_told() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let answer = hub
        .posted(0, "/login-with-tara-jwt", &json!({"chatId": chat}))
        .await?;
    assert_eq!(
        answer,
        json!({"data": {"blacklist_tara_jwt": ""}, "error": null})
    );
    let last = hub.messages(1, &chat).await?.pop().context("a message")?;
    assert_eq!(last["event"], "authentication_successful");
    assert_eq!(last["authorRole"], "backoffice-user");
    assert_eq!(last["content"], "");
    Ok(())
}

/// What init-chat takes, nested and flat, and what it makes.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_begins() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let nested = json!({
        "message": {"content": "hi", "authorTimestamp": "2023-02-02T07:44:42.612Z", "authorRole": "end-user"},
        "endUserTechnicalData": {"endUserOs": "Linux", "endUserUrl": "https://a.example/?b=c"},
    });
    let flat = json!({
        "content": "hi", "authorTimestamp": "2023-02-02T07:44:42.612Z", "authorRole": "end-user",
        "endUserOs": "Linux", "endUserUrl": "https://a.example/?b=c", "event": "greeting",
    });
    for (body, path) in [(nested, "/init-chat"), (flat, "/ruuter/init-chat")] {
        let answer = hub.posted(0, path, &body).await?;
        let chat = &answer["data"]["get_inserted_chat"];
        assert_eq!(chat["status"], "OPEN");
        assert_eq!(
            (&chat["customerSupportId"], &chat["ended"]),
            (&json!(""), &Value::Null)
        );
        assert_eq!(
            (&chat["endUserOs"], &chat["lastMessage"]),
            (&json!("Linux"), &json!("hi"))
        );
        let id = chat["id"].as_str().context("an id")?;
        assert!(uuid::Uuid::parse_str(id).is_ok());
        let by_id = hub.got(1, &format!("/get-chat-by-id?chatid={id}")).await?;
        assert_eq!(by_id["data"]["get_chat_by_id"], *chat);
        let messages = hub.messages(1, id).await?;
        assert_eq!(
            (&messages[0]["event"], &messages[0]["content"]),
            (&json!(""), &json!("hi"))
        );
    }
    Ok(())
}
