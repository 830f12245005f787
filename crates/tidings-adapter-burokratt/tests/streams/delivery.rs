//! What is heard live: the head, order, ids, heartbeats, and that texts stay texts (contract section
//! 6, groups A and B).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_testkit::adapter_exam::wire::Request;

use crate::client::{Heard, Listener, begin, cluster, count, done, new_messages, say, texts};

/// A01, A02.
#[tokio::test(flavor = "multi_thread")]
async fn the_answers_head_and_first_frames() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let paths = [
        new_messages(&chat),
        format!("/ruuter/sse/cs-get-new-messages?chatId={chat}"),
        format!("/sse/notifications/{chat}"),
        "/sse/notifications/chat-list".to_owned(),
        format!("/sse/events?chatId={chat}&list=1"),
    ];
    for path in paths {
        let request = Request::get(&path)
            .header("accept-encoding", "gzip, br")
            .header("accept", "application/json");
        let began = Instant::now();
        let mut listener = Listener::ask(at, &request).await?;
        for (header, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("content-length", ""),
            ("content-encoding", ""),
        ] {
            assert_eq!(listener.stream.header(header), value, "{path} {header}");
        }
        let Heard::Frame(retry) = listener.hear().await? else {
            panic!("{path} ends");
        };
        let ms: u64 = retry.get("retry").expect("retry is first").parse()?;
        ensure!((2400..=3600).contains(&ms), "{ms} is 3000 ±20 %");
        let (before, ready) = listener.until_ready().await?;
        ensure!(
            began.elapsed() < Duration::from_secs(1),
            "it takes its time"
        );
        ensure!(
            before.is_empty() && ready["replayed"] == 0,
            "{before:?} {ready}"
        );
        assert_eq!(ready["resumed"], false);
        assert_eq!(ready["cursor"], listener.last_id, "{path}");
    }
    Ok(())
}

/// A03, I03: one `id` line, one `data` line, and the text as it was.
#[tokio::test(flavor = "multi_thread")]
async fn texts_stay_texts() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let mut bare = Listener::ready(cluster.instance(1).address(), &new_messages(&chat)).await?;
    let path = format!("/ruuter/sse/get-new-messages?chatId={chat}");
    let mut enveloped = Listener::ready(at, &path).await?;
    let long = "õ".repeat(3000);
    for text in [
        "two\nlines\r\nand\rmore",
        "\"quotes\" and back\\slashes",
        "\u{2028}\u{2029}\u{85}",
        "\u{0}\u{1}\u{7f}",
        "🎉 Grüße",
        "data: x\n\nevent: gap\ndata: {}\n\nid: 9-9\n\nretry: 1\n\n: hb\n\n",
        "\n\n\n",
        long.as_str(),
    ] {
        let said = say(at, &chat, text).await?;
        let frame = bare.frame().await?;
        assert_eq!(frame.names(), ["id", "data"]);
        assert_eq!(frame.json()["content"], text);
        assert_eq!(frame.json()["id"], said["id"]);
        let same = enveloped.frame().await?;
        assert_eq!(same.names(), ["id", "data"]);
        assert_eq!(same.get("id"), frame.get("id"));
        let body = &same.json()["body"];
        assert_eq!(body["data"]["get_new_messages"][0], frame.json());
        assert_eq!(body["error"], json!(null));
    }
    Ok(())
}

/// A04, A06, C11: ids rise strictly, and each is on the wire soon after the reply, on either
/// instance.
#[tokio::test(flavor = "multi_thread")]
async fn ids_rise_and_all_hear_soon() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let [one, two] = [0, 1].map(|index| cluster.instance(index).address());
    let chat = begin(one).await?;
    let mut listener = Listener::ready(two, &new_messages(&chat)).await?;
    let mut last = String::new();
    for number in 0..10 {
        let text = number.to_string();
        say(one, &chat, &text).await?;
        let answered = Instant::now();
        let (id, message) = listener.entry().await?;
        ensure!(answered.elapsed() < Duration::from_secs(1), "late");
        ensure!(message["content"] == text, "{message}");
        let (ms, seq) = id.split_once('-').expect("<ms>-<seq>");
        ensure!(ms.parse::<u64>().is_ok() && seq.parse::<u64>().is_ok());
        ensure!(id > last, "{id} after {last}");
        last = id;
    }
    Ok(())
}

/// A05, C09: a comment with neither id nor data.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_says_that_it_lives() -> Result<()> {
    let cluster = cluster(json!({"heartbeat": "200ms"})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let paths = [
        new_messages(&chat),
        format!("/sse/queue/{chat}"),
        format!("/sse/events?chatId={chat}"),
    ];
    for path in paths {
        let mut listener = Listener::open(at, &path, None).await?;
        // `ready`, or the first value.
        listener.frame().await?;
        let before = listener.last_id.clone();
        let silent = Instant::now();
        for _ in 0..2 {
            let Heard::Frame(heartbeat) = listener.hear().await? else {
                panic!("{path} ends");
            };
            assert_eq!(heartbeat.fields, [(String::new(), "hb".to_owned())]);
        }
        ensure!(silent.elapsed() < Duration::from_secs(2), "late");
        assert_eq!(listener.last_id, before);
    }
    Ok(())
}

/// B03, B04, B12: all hear the same, and nothing of another chat.
#[tokio::test(flavor = "multi_thread")]
async fn all_hear_the_same_and_nothing_of_others() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let (chat, other) = (begin(at).await?, begin(at).await?);
    let mut listeners = Vec::new();
    for number in 0..30 {
        let side = ["", "cs-"][number % 2];
        let path = format!("/sse/{side}get-new-messages?chatId={chat}");
        let at = cluster.instance(number / 2 % 2).address();
        listeners.push(Listener::ready(at, &path).await?);
    }
    for number in 0..20 {
        say(at, &other, "not for you").await?;
        count(&cluster, &chat, number..number + 1).await?;
    }
    let mut first = None;
    for listener in &mut listeners {
        let mut heard = Vec::new();
        for text in texts(0..20) {
            let frame = listener.frame().await?;
            ensure!(frame.json()["content"] == text, "{text}: {frame:?}");
            ensure!(frame.json()["chatid"] == chat, "{frame:?}");
            heard.push(frame);
        }
        assert_eq!(first.get_or_insert_with(|| heard.clone()), &heard);
    }
    Ok(())
}

/// B10: strictly later than a time, in three spellings, and then live.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_a_time() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let mut messages = Vec::new();
    for text in texts(0..4) {
        messages.push(say(at, &chat, &text).await?);
    }
    let updated = messages[1]["updated"].as_str().expect("a time");
    let plain = updated.trim_end_matches("+00:00");
    let spellings = [
        // Not encoded, the plus is a blank to whoever reads the query.
        updated.to_owned(),
        updated.replace('+', "%2B"),
        format!("{plain}Z"),
        plain.to_owned(),
    ];
    for spelling in spellings {
        for (side, name) in [("", "timeRangeBegin"), ("cs-", "lastRead")] {
            let path = format!("/sse/{side}get-new-messages?chatId={chat}&{name}={spelling}");
            let mut listener = Listener::open(cluster.instance(1).address(), &path, None).await?;
            listener.expect(&["2", "3"]).await?;
            let (_, ready) = listener.until_ready().await?;
            ensure!(
                ready["replayed"] == 2 && ready["resumed"] == false,
                "{ready}"
            );
        }
    }
    // What is no time is none.
    let path = format!("/sse/get-new-messages?chatId={chat}&timeRangeBegin=undefined");
    let mut listener = Listener::ready(at, &path).await?;
    say(at, &chat, "live").await?;
    listener.expect(&["live"]).await?;
    // A place wins over a time.
    let from = format!(
        "{}&timeRangeBegin=1970-01-01T00:00:00Z",
        new_messages(&chat)
    );
    let mut listener = Listener::open(at, &from, Some(&listener.last_id)).await?;
    let (before, ready) = listener.until_ready().await?;
    ensure!(
        before.is_empty() && ready["resumed"] == true,
        "{before:?} {ready}"
    );
    Ok(())
}

/// B11: two hundred messages, ten at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_messages_comes_once_each_in_order() -> Result<()> {
    const ALL: usize = 200;
    let cluster = cluster(json!({})).await?;
    let [one, two] = [0, 1].map(|index| cluster.instance(index).address());
    let chat = begin(one).await?;
    let mut listener = Listener::ready(two, &new_messages(&chat)).await?;
    let posts = async {
        let mut ids = Vec::new();
        for group in 0..ALL / 10 {
            let said = (0..10).map(|number| {
                let (at, chat) = ([one, two][number % 2], &chat);
                async move { say(at, chat, &format!("{group}:{number}")).await }
            });
            for message in futures_util::future::join_all(said).await {
                ids.push(message?["id"].as_str().unwrap_or_default().to_owned());
            }
        }
        anyhow::Ok(ids)
    };
    let hears = async {
        let (mut ids, mut last) = (Vec::new(), String::new());
        while ids.len() < ALL {
            let (id, message) = listener.entry().await?;
            ensure!(id > last, "{id} after {last}");
            last = id;
            ids.push(message["id"].as_str().unwrap_or_default().to_owned());
        }
        anyhow::Ok(ids)
    };
    let (mut posted, mut heard) = tokio::try_join!(posts, hears)?;
    posted.sort();
    heard.sort();
    assert_eq!(posted, heard);
    listener.expect_silence().await
}

/// E01, E03: nudges on the channel of a chat and on `chat-list`.
#[tokio::test(flavor = "multi_thread")]
async fn nudges() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let mut list = Listener::ready(at, "/sse/notifications/chat-list").await?;
    let chat = begin(at).await?;
    let path = format!("/sse/notifications/{chat}");
    let mut nudged = Listener::ready(cluster.instance(1).address(), &path).await?;
    let mut changed = async || {
        let (id, nudge) = list.entry().await?;
        ensure!(!id.is_empty(), "{nudge}");
        ensure!(
            nudge == json!({"status": "Chat Status Changed", "chatId": chat}),
            "{nudge}"
        );
        anyhow::Ok(())
    };
    changed().await?;
    let said = say(at, &chat, "x").await?;
    changed().await?;
    let frame = nudged.frame().await?;
    let id = said["id"].as_str().unwrap_or_default();
    let expected = format!("{{\"type\":\"message\",\"messageId\":\"{id}\"}}");
    assert_eq!(frame.get("data"), Some(expected.as_str()));
    assert_eq!(frame.names(), ["id", "data"]);
    let claim = json!({"id": chat, "customerSupportId": "EE1", "customerSupportDisplayName": "A"});
    done(at, "/cs-claim-chat", claim).await?;
    changed().await?;
    // Somebody types: not an entry, and not for those who read messages.
    let mut reads = Listener::ready(at, &new_messages(&chat)).await?;
    done(
        at,
        "/post-message-preview",
        json!({"chatId": chat, "content": "te"}),
    )
    .await?;
    let frame = nudged.frame().await?;
    assert_eq!(frame.names(), ["data"]);
    assert_eq!(
        frame.get("data"),
        Some("{\"type\":\"preview\",\"messageId\":\"\"}")
    );
    reads.expect_silence().await?;
    // A payload of another's is verbatim, and only there.
    let operation = json!({"index": {"_index": "notifications"}});
    let notice = json!({"channelId": chat, "timestamp": 1, "payload": {"b": [1], "a": null}});
    done(
        at,
        "/bulk-notifications",
        json!({"operations": [operation, notice]}),
    )
    .await?;
    let (_, payload) = nudged.entry().await?;
    assert_eq!(payload, json!({"b": [1], "a": null}));
    reads.expect_silence().await
}
