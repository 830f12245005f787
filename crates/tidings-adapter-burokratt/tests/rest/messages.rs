//! What is said, and how it is read again (contract section 6, group B, and 1.2).

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::adapter_exam::wire::Request;

use crate::client::{Hub, post, refused};

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

/// B01, B02: what one says, the other reads, with the members of the page in their order.
#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let read = json!({
        "chatId": chat,
        "authorRole": "end-user",
        "authorTimestamp": "2023-01-13T14:23:52.953Z",
        "content": "",
        "event": "message-read",
    });
    let answer = hub.posted(0, "/post-message", &read).await?;
    let message = &answer["data"]["post_message"];
    assert_eq!(answer["error"], Value::Null);
    assert_eq!(message["authorTimestamp"], "2023-01-13T14:23:52.953+00:00");
    let words = json!({
        "chatId": chat,
        "authorId": "EE49003106521",
        "authorFirstName": "Mary-Änn",
        "authorRole": "backoffice-user",
        "authorTimestamp": "2023-02-02T07:44:42.612Z",
        "content": "Tere! \u{2028}\n\"õ\" 🙂\u{0}",
        "event": "",
        "buttons": [{"title": "Jah"}],
    });
    hub.posted(1, "/cs-post-message", &words).await?;
    for (instance, path) in [(0, "/cs-get-new-messages"), (1, "/ruuter/get-new-messages")] {
        let path = format!("{path}?chatId={chat}");
        let answer = hub.send(instance, &Request::get(path.as_str())).await?;
        let text = answer.text();
        let body: Value = serde_json::from_str(&text)?;
        let list = body["data"]["cs_get_new_messages"]
            .as_array()
            .context("a list")?;
        assert_eq!(list.len(), 3);
        assert_eq!(list[1]["event"], "message-read");
        assert_eq!(list[1]["chatid"], chat);
        assert_eq!(list[1]["forwardedByUser"], Value::Null);
        assert_eq!(list[1]["rating"], "");
        assert_eq!(list[2]["content"], words["content"]);
        assert_eq!(list[2]["authorFirstName"], "Mary-Änn");
        assert_eq!(list[2]["buttons"], words["buttons"]);
        let start = text.find(r#"{"id""#).context("a message")?;
        let mut at = start;
        for field in FIELDS {
            let found = text[at..].find(&format!("\"{field}\":"));
            at += found.with_context(|| format!("{field} is not in its place"))?;
        }
    }
    Ok(())
}

/// B09: what an event is called means nothing to the hub.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_verbatim() -> Result<()> {
    let events = [
        "",
        "message-read",
        "message-delivered",
        "message-preview",
        "greeting",
        "emergency-notice",
        "rating",
        "client-left",
        "client_left",
        "client_left_with_accepted",
        "client_left_with_no_resolution",
        "CLIENT_LEFT_FOR_UNKNOWN_REASONS",
        "ACCEPTED",
        "HATE_SPEECH",
        "OTHER",
        "RESPONSE_SENT_TO_CLIENT_EMAIL",
        "chat_sent_to_csa_email",
        "answered",
        "terminated",
        "inactive-chat-ended",
        "requested-authentication",
        "authentication_failed",
        "user-authenticated",
        "ask-permission",
        "contact-information",
        "redirected",
        "taken-over",
        "requested-chat-forward",
        "ask_to_forward_to_csa",
        "redirectedMessageByOwner",
        "Invented_by-ÕUR test",
    ];
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    for (index, event) in events.iter().enumerate() {
        let path = if index % 2 == 0 {
            "/cs-post-event-message"
        } else {
            "/post-message"
        };
        let body = json!({"chatId": chat, "event": event, "content": index});
        let answer = hub.posted(index % 2, path, &body).await?;
        assert_eq!(answer["data"]["post_message"]["event"], *event);
    }
    let messages = hub.messages(1, &chat).await?;
    let heard: Vec<&Value> = messages[1..].iter().map(|one| &one["event"]).collect();
    assert_eq!(heard, events);
    let state = hub.got(0, &format!("/get-chat-by-id?id={chat}")).await?;
    assert_eq!(state["data"]["get_chat_by_id"]["status"], "OPEN");
    Ok(())
}

/// B10: later than a time, in three spellings, over GET and POST.
#[tokio::test(flavor = "multi_thread")]
async fn new_messages_are_later_than_a_time() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    for text in ["one", "two"] {
        hub.posted(
            0,
            "/post-message",
            &json!({"chatId": chat, "content": text}),
        )
        .await?;
    }
    let messages = hub.messages(0, &chat).await?;
    let updated = messages[1]["updated"].as_str().context("a time")?;
    let bare = updated.trim_end_matches("+00:00");
    let spellings = [
        updated.replace('+', "%2B"),
        updated.to_owned(), // the query decodes the plus to a blank
        format!("{bare}Z"),
        bare.to_owned(),
    ];
    for (name, path) in [
        ("lastRead", "/cs-get-new-messages"),
        ("timeRangeBegin", "/get-new-messages"),
    ] {
        for time in &spellings {
            let answer = hub
                .got(1, &format!("{path}?chatId={chat}&{name}={time}"))
                .await?;
            let list = answer["data"]["cs_get_new_messages"]
                .as_array()
                .context("a list")?;
            assert_eq!(list.len(), 1, "{time}");
            assert_eq!(
                (&list[0]["content"], &list[0]["chatid"]),
                (&json!("two"), &json!(chat))
            );
            assert_eq!(list[0].get("chatId"), None);
        }
        let body = json!({"chatid": chat, name: updated});
        let answer = hub.posted(1, path, &body).await?;
        assert_eq!(
            answer["data"]["cs_get_new_messages"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        let answer = hub
            .got(1, &format!("{path}?chatid={chat}&{name}=yesterday"))
            .await?;
        assert_eq!(
            answer["data"]["cs_get_new_messages"]
                .as_array()
                .map(Vec::len),
            Some(3)
        );
    }
    Ok(())
}

/// B11: replies carry ids, and nothing is lost or doubled when many speak at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_speak_at_once() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let mut ids = Vec::new();
    for round in 0..10 {
        let posts = (0..10).map(|n| {
            let body = json!({"chatId": chat, "content": format!("{round}-{n}")});
            let hub = &hub;
            async move { hub.posted(n % 2, "/post-message", &body).await }
        });
        for answer in futures_util::future::join_all(posts).await {
            let id = answer?["data"]["post_message"]["id"].clone();
            ids.push(id.as_str().context("an id")?.to_owned());
        }
    }
    let messages = hub.messages(0, &chat).await?;
    assert_eq!(messages.len(), 101);
    let mut stored: Vec<&str> = messages[1..]
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    stored.sort_unstable();
    ids.sort_unstable();
    assert_eq!(stored, ids);
    let times: Vec<&str> = messages
        .iter()
        .filter_map(|one| one["created"].as_str())
        .collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    Ok(())
}

/// New words for a message: found by its id alone, said again under it, listed once.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_gets_a_new_event() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let ask = json!({"chatId": chat, "content": "May I?", "event": "ask-permission"});
    let asked = hub.posted(0, "/cs-post-message", &ask).await?;
    let id = &asked["data"]["post_message"]["id"];
    hub.posted(
        0,
        "/post-message",
        &json!({"chatId": chat, "content": "later"}),
    )
    .await?;
    let body = json!({"id": id, "event": "ask-permission-accepted", "authorTimestamp": "2023-02-02T07:44:42.612Z"});
    let answer = hub.posted(1, "/post-message-with-new-event", &body).await?;
    let message = &answer["data"]["post_message"];
    assert_eq!(
        (&message["id"], &message["content"]),
        (id, &json!("May I?"))
    );
    assert_eq!(message["created"], asked["data"]["post_message"]["created"]);
    assert_ne!(message["updated"], message["created"]);
    let body = json!({"id": id, "chatId": chat, "event": "x", "content": "new"});
    hub.posted(0, "/cs-post-message-with-new-event", &body)
        .await?;
    let messages = hub.messages(1, &chat).await?;
    assert_eq!(messages.len(), 3);
    assert_eq!(
        (&messages[1]["event"], &messages[1]["content"]),
        (&json!("x"), &json!("new"))
    );
    assert_eq!(hub.log(&chat).await?.len(), 5);
    for (body, status) in [
        (json!({"id": "unknown", "event": "x"}), 404),
        (json!({"id": id, "chatId": "other", "event": "x"}), 404),
        (json!({"event": "x"}), 400),
    ] {
        let answer = hub.post(0, "/post-message-with-new-event", &body).await?;
        refused(&answer, status)?;
    }
    Ok(())
}

/// The retry of a POST, also after the chat ended: the same reply, and one entry.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_the_same_message() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let id = "f25ea8f0-ed23-4abf-9f76-d99b21094d69";
    let body = json!({"chatId": chat, "id": id, "content": "once", "authorRole": "end-user"});
    let first = hub.posted(0, "/post-message", &body).await?;
    assert_eq!(first["data"]["post_message"]["id"], id);
    assert_eq!(hub.posted(1, "/post-message", &body).await?, first);
    let other = json!({"chatId": chat, "id": id, "content": "twice"});
    refused(&hub.post(1, "/post-message", &other).await?, 409)?;
    let end = json!({"chatId": chat, "id": "e1", "event": "ACCEPTED"});
    let ended = hub.posted(0, "/cs-end-chat", &end).await?;
    assert_eq!(hub.posted(1, "/cs-end-chat", &end).await?, ended);
    assert_eq!(hub.posted(0, "/post-message", &body).await?, first);
    refused(&hub.post(0, "/post-message", &other).await?, 409)?;
    assert_eq!(hub.log(&chat).await?.len(), 3);
    Ok(())
}

/// A preview is told to who listens, and kept nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_not_kept() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let body = json!({"chatId": chat, "content": "I am typi"});
    let answer = hub.posted(0, "/post-message-preview", &body).await?;
    assert_eq!(
        answer,
        json!({"response": "Message Event Sent Successfully"})
    );
    assert_eq!(hub.log(&chat).await?.len(), 1);
    Ok(())
}

/// Whoever opens a stream behind a list misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_where_its_stream_goes_on() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let path = format!("/ruuter/cs-get-messages-by-chat-id?id={chat}");
    let request = Request::get(path).header("origin", "https://chat.example");
    let answer = hub.send(1, &request).await?;
    let place = answer.header("x-last-event-id");
    ensure!(tidings_adapter::EventId::parse(place).is_some(), "{place}");
    assert_eq!(
        answer.header("access-control-expose-headers"),
        "x-last-event-id"
    );
    Ok(())
}

/// Messages that come another way pass through the same rules.
#[tokio::test(flavor = "multi_thread")]
async fn drafts_become_messages() -> Result<()> {
    use tidings_adapter::{Draft, Topic};

    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let there = hub.cluster.instance(1).hub();
    let offer = async |channel: &str, kind: &str, data: Value| {
        let topic = Topic::parse(&format!("burokratt/channel/{channel}"))?;
        let judged = there.ingested(Draft::new(topic, kind, data.to_string()))?;
        let stored = there
            .ingest(vec![judged])
            .await
            .pop()
            .context("an answer")?;
        anyhow::Ok(stored?)
    };
    offer(
        &chat,
        "message",
        json!({"content": "from elsewhere", "id": "m7"}),
    )
    .await?;
    offer(&chat, "raw", json!({"type": "stream_chunk"})).await?;
    let messages = hub.messages(0, &chat).await?;
    assert_eq!(
        (messages.len(), &messages[1]["content"]),
        (2, &json!("from elsewhere"))
    );
    assert_eq!(hub.log(&chat).await?.len(), 3);
    for (channel, kind, words) in [
        ("unknown", "message", "no such chat"),
        (&chat, "nudge", "neither"),
    ] {
        let error = offer(channel, kind, json!({})).await.expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
    // It is found by its id, which is noted behind it.
    let body = json!({"id": "m7", "event": "x"});
    crate::client::until(200, async || {
        Ok(hub
            .send(0, &post("/post-message-with-new-event", &body))
            .await?
            .status)
    })
    .await
}
