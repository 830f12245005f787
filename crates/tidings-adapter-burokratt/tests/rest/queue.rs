//! The queue, the estimate, and the list of active chats (contract section 6, D01 to D04).

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::{Hub, refused, until};

fn response(seconds: &str, place: &str) -> Value {
    json!({"response": {"durationInSeconds": seconds, "positionInUnassignedChats": place}})
}

/// D01: digits, with and without a chat, GET and POST.
#[tokio::test(flavor = "multi_thread")]
async fn the_estimate_is_digits() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let path = "/estimated-waiting-time";
    assert_eq!(hub.got(0, path).await?, response("100", "0"));
    assert_eq!(hub.posted(0, path, &json!({})).await?, response("100", "0"));
    hub.chat().await?;
    hub.chat().await?;
    let third = hub.chat().await?;
    let named = format!("/ruuter{path}?chatId={third}");
    assert_eq!(hub.got(1, &named).await?, response("300", "3"));
    let body = json!({"chatId": third});
    assert_eq!(hub.posted(1, path, &body).await?, response("300", "3"));
    assert_eq!(hub.got(1, path).await?, response("100", "0"));
    refused(&hub.post(1, path, &json!({"chatId": "123"})).await?, 404)?;
    Ok(())
}

/// D02, D03, E06: who is claimed, ends or is taken out leaves, and those behind move up.
#[tokio::test(flavor = "multi_thread")]
async fn those_behind_move_up() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(hub.chat().await?);
    }
    let chats: Vec<&str> = ids.iter().map(String::as_str).collect();
    let all = |instance| hub.places(instance, &chats);
    assert_eq!(all(1).await?, ["1", "2", "3", "4", "5"]);
    let claim =
        json!({"id": chats[1], "customerSupportId": "EE1", "customerSupportDisplayName": "Mary"});
    let claimed = hub.posted(0, "/cs-claim-chat", &claim).await?;
    let chat = &claimed["data"]["get_claimed_chat"];
    assert_eq!(
        (&chat["customerSupportId"], &chat["status"]),
        (&json!("EE1"), &json!("OPEN"))
    );
    assert_eq!(all(1).await?, ["1", "0", "2", "3", "4"]);
    hub.posted(1, "/end-chat", &json!({"chatId": chats[0]}))
        .await?;
    assert_eq!(all(0).await?, ["0", "0", "1", "2", "3"]);
    let redirect = json!({"id": chats[3], "customerSupportId": "EE2"});
    hub.posted(0, "/cs-redirect-chat", &redirect).await?;
    assert_eq!(all(1).await?, ["0", "0", "1", "0", "2"]);
    let answer = hub.posted(0, "/dequeue", &json!({"id": chats[2]})).await?;
    assert_eq!(answer, json!({"response": "dequeued successfully"}));
    assert_eq!(all(1).await?, ["0", "0", "0", "0", "1"]);
    for _ in 0..2 {
        let answer = hub.posted(1, "/enqueue", &json!({"id": chats[2]})).await?;
        assert_eq!(answer, json!({"response": "enqueued successfully"}));
        assert_eq!(all(0).await?, ["0", "0", "2", "0", "1"]);
    }
    // What is no chat may wait, too.
    hub.posted(0, "/enqueue", &json!({"id": "visitor"})).await?;
    assert_eq!(hub.places(1, &["visitor"]).await?, ["3"]);
    hub.posted(0, "/dequeue", &json!({"id": "visitor"})).await?;
    hub.posted(0, "/dequeue", &json!({"id": "nobody"})).await?;
    refused(
        &hub.post(0, "/enqueue", &json!({"id": chats[0]})).await?,
        409,
    )?;
    Ok(())
}

/// The estimate is the mean of the last waits times the place.
#[tokio::test(flavor = "multi_thread")]
async fn the_estimate_learns() -> Result<()> {
    let hub = Hub::start(json!({"wait_default": "1000s"})).await?;
    let (one, two) = (hub.chat().await?, hub.chat().await?);
    assert_eq!(
        hub.got(0, "/estimated-waiting-time").await?,
        response("1000", "0")
    );
    hub.cluster.pass(std::time::Duration::from_secs(3)).await;
    let claim = json!({"id": one, "customerSupportId": "EE1"});
    hub.posted(0, "/cs-claim-chat", &claim).await?;
    let seconds = async || {
        let answer = hub
            .got(1, &format!("/estimated-waiting-time?chatId={two}"))
            .await?;
        let text = answer["response"]["durationInSeconds"]
            .as_str()
            .context("digits")?;
        let seconds: u64 = text.parse()?;
        // What passed, and what the test took.
        Ok((3..60).contains(&seconds))
    };
    until(true, seconds).await
}

/// D04: appears, has an owner, was redirected, disappears.
#[tokio::test(flavor = "multi_thread")]
async fn active_chats_are_listed() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let (one, two) = (hub.chat().await?, hub.chat().await?);
    let list = async |instance| {
        let answer = hub.got(instance, "/cs-get-all-active-chats").await?;
        let list = answer["data"]["get_all_active_chats"]
            .as_array()
            .context("a list")?;
        anyhow::Ok(list.clone())
    };
    let ids = |list: &[Value]| {
        list.iter()
            .map(|chat| chat["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&list(1).await?), [json!(one), json!(two)]);
    let claim = json!({"id": one, "customerSupportId": "EE1"});
    hub.posted(0, "/cs-claim-chat", &claim).await?;
    assert_eq!(list(1).await?[0]["customerSupportId"], "EE1");
    let redirect = json!({"id": one, "forwardedToCsa": "EE2"});
    hub.posted(1, "/cs-redirect-chat", &redirect).await?;
    let chat = list(0).await?.swap_remove(0);
    assert_eq!(
        (&chat["event"], &chat["customerSupportId"]),
        (&json!("redirected"), &json!("EE2"))
    );
    hub.posted(0, "/cs-end-chat", &json!({"chatId": one}))
        .await?;
    assert_eq!(ids(&list(1).await?), [json!(two)]);
    Ok(())
}
