//! The log is away: nothing is said to be stored that is not.

use anyhow::Result;
use serde_json::json;
use tidings_testkit::adapter_exam::Fault;
use tidings_testkit::adapter_exam::wire::Request;

use crate::client::{Hub, refused};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_that_is_not_stored() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let body = json!({"chatId": chat, "id": chat, "content": "a", "customerSupportId": "x",
        "operations": [{"channelId": chat, "payload": 1}], "channelId": chat});
    for fault in [Fault::Away, Fault::Full] {
        hub.cluster.fault(fault);
        for path in [
            "/init-chat",
            "/post-message",
            "/cs-end-chat",
            "/cs-claim-chat",
            "/bulk-notifications",
            "/notifications/_doc",
            "/enqueue",
            "/dequeue",
            "/add-chat-to-termination-queue",
        ] {
            let answer = hub.post(0, path, &body).await?;
            if fault == Fault::Full && answer.status == 200 {
                // Enqueued already: there was nothing to store.
                assert_eq!(path, "/enqueue");
                continue;
            }
            refused(&answer, 503)?;
            assert_eq!(answer.header("retry-after"), "2", "{path}");
        }
    }
    hub.cluster.fault(Fault::Away);
    for path in [
        "/cs-get-all-active-chats",
        "/estimated-waiting-time?chatId=x",
        "/get-chat-by-id?id=x",
    ] {
        refused(&hub.send(0, &Request::get(path)).await?, 503)?;
    }
    hub.cluster.fault(Fault::None);
    assert_eq!(hub.messages(1, &chat).await?.len(), 1);
    Ok(())
}

/// The answer to a commit is lost: the client hears 503, tries again, and said it once.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_a_lost_answer_says_it_once() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let body = json!({"chatId": chat, "id": "m1", "content": "once"});
    hub.cluster.fault(Fault::Unsure);
    refused(&hub.post(0, "/post-message", &body).await?, 503)?;
    hub.cluster.fault(Fault::None);
    let answer = hub.posted(1, "/post-message", &body).await?;
    assert_eq!(answer["data"]["post_message"]["id"], "m1");
    assert_eq!(hub.messages(0, &chat).await?.len(), 2);
    Ok(())
}
