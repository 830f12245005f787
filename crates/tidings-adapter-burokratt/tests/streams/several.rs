//! One stream for all that a page needs (contract 1.6).

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::{Listener, begin, cluster, done, say, texts};

/// Several chats, the list and the queue over one connection; left and taken up again at its id, in
/// the middle of it, on the other instance.
#[tokio::test(flavor = "multi_thread")]
async fn several_chats_resume_each_at_its_place() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let ats = [0, 1].map(|index| cluster.instance(index).address());
    let mut chats = Vec::new();
    for _ in 0..4 {
        chats.push(begin(ats[0]).await?);
    }
    let ids: Vec<String> = chats.iter().map(|chat| format!("chatId={chat}")).collect();
    let path = format!("/sse/events?{}", ids.join("&"));
    let mut listener = Listener::ready(ats[0], &path).await?;
    let (mut next, texts) = ([0; 4], texts(0..24));
    for round in 0..6 {
        for number in round * 4..round * 4 + 4 {
            for chat in &chats {
                say(ats[number % 2], chat, &number.to_string()).await?;
            }
        }
        let until = (round + 1) * 16 - if round == 5 { 0 } else { 7 };
        while next.iter().sum::<usize>() < until {
            let frame = listener.frame().await?;
            if frame.event() == "ready" {
                continue;
            }
            ensure!(frame.event() == "message", "{frame:?}");
            let message = frame.json();
            let chat = chats.iter().position(|chat| message["chatId"] == *chat);
            let chat = chat.unwrap_or_else(|| panic!("whose is {message}"));
            ensure!(message["content"] == texts[next[chat]], "{message}");
            next[chat] += 1;
        }
        let place = listener.last_id.clone();
        listener = Listener::open(ats[(round + 1) % 2], &path, Some(&place)).await?;
    }
    assert_eq!(next, [24; 4]);
    let (before, ready) = listener.until_ready().await?;
    ensure!(
        before.is_empty() && ready["resumed"] == true,
        "{before:?} {ready}"
    );
    Ok(())
}

/// Named events: entries with an id, values without one.
#[tokio::test(flavor = "multi_thread")]
async fn entries_and_values() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let path = format!("/sse/events?chatId={chat}&list=1&queue=1&active=1&health=1");
    let mut listener = Listener::open(cluster.instance(1).address(), &path, None).await?;
    let (mut seen, mut count) = (std::collections::BTreeMap::new(), 0);
    while seen.len() < 4 {
        let frame = listener.frame().await?;
        if frame.event() == "chat-list" {
            continue; // that the chat has begun may be told only now
        }
        ensure!(
            frame.get("id").is_some() == (frame.event() == "ready"),
            "{frame:?}"
        );
        seen.insert(frame.event().to_owned(), frame.json());
        count += 1;
    }
    ensure!(count == 4, "each once");
    assert_eq!(seen["queue"], json!({"chatId": chat, "order": 1}));
    assert_eq!(
        seen["active-chats"]["data"]["get_all_active_chats"][0]["id"],
        chat
    );
    ensure!(seen["health"]["data"]["set_healthz_response"].is_object());
    let claim = json!({"id": chat, "customerSupportId": "EE1", "customerSupportDisplayName": "A"});
    done(at, "/cs-claim-chat", claim).await?;
    say(at, &chat, "x").await?;
    let (mut order, mut message, mut list) = (None, None, 0);
    while order.is_none() || message.is_none() || list < 2 {
        let frame = listener.frame().await?;
        match frame.event() {
            "queue" => order = Some(frame.json()),
            "message" => message = Some(frame),
            "chat-list" => {
                list += 1;
                ensure!(
                    frame.get("id").is_some() && frame.json()["chatId"] == chat,
                    "{frame:?}"
                );
            }
            "active-chats" => {}
            other => panic!("{other}: {frame:?}"),
        }
    }
    assert_eq!(order, Some(json!({"chatId": chat, "order": 0})));
    let message = message.expect("it came");
    assert_eq!(message.names(), ["id", "event", "data"]);
    assert_eq!(message.json()["content"], "x");
    // A place of another stream is none here: one gap, and all that is retained.
    let mut other = Listener::open(
        at,
        &format!("/sse/events?chatId={chat}"),
        Some(&listener.last_id),
    )
    .await?;
    let gap = other.frame().await?;
    ensure!(
        gap.event() == "gap" && gap.json()["reason"] == "invalid",
        "{gap:?}"
    );
    let (entries, _) = other.until_ready().await?;
    let contents: Vec<_> = entries
        .iter()
        .map(|one| one.json()["content"].clone())
        .collect();
    assert_eq!(contents, ["tere", "x"]);
    // Values alone have nothing to resume.
    let mut values = Listener::open(at, "/sse/events?active=1", None).await?;
    let mut names =
        [values.frame().await?, values.frame().await?].map(|one| one.event().to_owned());
    names.sort();
    assert_eq!(names, ["active-chats", "ready"]);
    assert_eq!(values.last_id, "");
    Ok(())
}
