//! The end of a chat: it is heard, the stream ends, and its client stops asking (contract 4.6).

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::adapter_exam::wire::{Request, send};

use crate::client::{Listener, begin, cluster, count, done, new_messages, say};

fn leaves(chat: &str) -> Value {
    json!({
        "chatId": chat,
        "event": "client-left",
        "authorTimestamp": "2023-01-18T12:56:52.895Z",
        "authorRole": "end-user",
    })
}

/// C12, B06: the end event, the stream's end after the grace, then 204.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_ends() -> Result<()> {
    let cluster = cluster(json!({"ended_grace": "300ms"})).await?;
    let [one, two] = [0, 1].map(|index| cluster.instance(index).address());
    let chat = begin(one).await?;
    let paths = [new_messages(&chat), format!("/sse/notifications/{chat}")];
    let mut listeners = Vec::new();
    for path in &paths {
        for at in [one, two] {
            listeners.push((path, Listener::ready(at, path).await?));
        }
    }
    let early = say(one, &chat, "x").await?;
    done(two, "/end-chat", leaves(&chat)).await?;
    for (path, listener) in &mut listeners {
        let (before, _) = listener.entry().await?;
        let (_, end) = listener.entry().await?;
        if end.get("event").is_some() {
            ensure!(end["event"] == "client-left", "{end}");
        }
        let began = Instant::now();
        let rest = listener.until_end().await?;
        ensure!(rest.is_empty(), "{rest:?}");
        ensure!(began.elapsed().as_millis() < 5_000, "it lingers");
        for at in [one, two] {
            // At the newest entry, and past it.
            for place in [listener.last_id.clone(), "9999999999999-0".to_owned()] {
                let request = Request::get(*path).header("last-event-id", place);
                let answer = send(at, &request).await?;
                assert_eq!(answer.status, 204, "{path}: {}", answer.text());
                assert_eq!(answer.text(), "");
            }
            // Entries are left: they come, and the stream ends.
            let mut late = Listener::open(at, path, Some(&before)).await?;
            let (_, end) = late.entry().await?;
            ensure!(
                end.get("event").is_none_or(|event| event == "client-left"),
                "{end}"
            );
            let (_, ready) = late.until_ready().await?;
            ensure!(
                ready["resumed"] == true && ready["replayed"] == 1,
                "{ready}"
            );
            ensure!(late.until_end().await?.is_empty());
            // Who never had a place is given one.
            let mut fresh = Listener::ready(at, path).await?;
            fresh.until_end().await?;
            let request = Request::get(*path).header("last-event-id", &fresh.last_id);
            assert_eq!(send(at, &request).await?.status, 204);
        }
    }
    let _ = early;
    Ok(())
}

/// What a message's `event` says ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_end_ends_a_chat() -> Result<()> {
    let cluster = cluster(json!({"ended_grace": "0s"})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let mut listener = Listener::ready(at, &new_messages(&chat)).await?;
    done(at, "/post-message", {
        let mut said = leaves(&chat);
        said["content"] = "".into();
        said
    })
    .await?;
    listener.expect(&[""]).await?;
    count(&cluster, &chat, 0..2).await?;
    listener.expect(&["0", "1"]).await?;
    listener.expect_silence().await
}
