//! Values: at once, when they change, computed once (contract section 6: D, B05–B07 where they are
//! watched).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::adapter_exam::Cluster;
use tidings_testkit::adapter_exam::wire::{Request, send};

use crate::client::{Listener, SOON, begin, cluster, done, post, say};

/// The next value: plain data without an id.
async fn value(listener: &mut Listener) -> Result<Value> {
    let frame = listener.frame().await?;
    ensure!(frame.names() == ["data"], "{frame:?}");
    Ok(frame.json())
}

/// Waits for a value that fits; those before it are on the way there.
async fn until(listener: &mut Listener, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let began = Instant::now();
    loop {
        let value = value(listener).await?;
        if fits(&value) {
            return Ok(value);
        }
        ensure!(began.elapsed() < SOON, "never, but {value}");
    }
}

/// A value that may be what it was: then nothing is said.
struct Known {
    listener: Listener,
    value: Value,
}

impl Known {
    async fn of(mut listener: Listener) -> Result<Self> {
        let value = value(&mut listener).await?;
        Ok(Self { listener, value })
    }

    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Result<()> {
        if !fits(&self.value) {
            self.value = until(&mut self.listener, fits).await?;
        }
        Ok(())
    }
}

async fn watch(cluster: &Cluster, path: &str) -> Result<[Listener; 2]> {
    let [one, two] = [0, 1].map(|index| cluster.instance(index).address());
    Ok([
        Listener::open(one, path, None).await?,
        Listener::open(two, path, Some("1-1")).await?,
    ])
}

fn claim(chat: &str) -> Value {
    json!({"id": chat, "customerSupportId": "EE1", "customerSupportDisplayName": "A"})
}

/// D02, D03, E06: places move up, on the queue's and the estimate's streams.
#[tokio::test(flavor = "multi_thread")]
async fn the_queue_moves_up() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chats = [begin(at).await?, begin(at).await?, begin(at).await?];
    let mut orders = Vec::new();
    for (index, chat) in chats.iter().enumerate() {
        for listener in watch(&cluster, &format!("/sse/queue/{chat}")).await? {
            let mut known = Known::of(listener).await?;
            known
                .until(|value| *value == json!({"order": index + 1}))
                .await?;
            orders.push((index, known));
        }
    }
    let path = format!("/sse/estimated-waiting-time?chatId={}", chats[2]);
    let mut estimates = Vec::new();
    for listener in watch(&cluster, &path).await? {
        let mut estimate = Known::of(listener).await?;
        let expected = json!({"durationInSeconds": "300", "positionInUnassignedChats": "3"});
        estimate
            .until(|value| *value == json!({"response": expected}))
            .await?;
        estimates.push(estimate);
    }
    let mut expect = async |position: [u64; 3]| {
        for (index, listener) in &mut orders {
            let place = position[*index];
            listener.until(|value| value["order"] == place).await?;
        }
        let place = position[2].to_string();
        for estimate in &mut estimates {
            let fits = |value: &Value| {
                let response = &value["response"];
                let seconds = response["durationInSeconds"].as_str().unwrap_or("-");
                assert!(seconds.bytes().all(|byte| byte.is_ascii_digit()), "{value}");
                response["positionInUnassignedChats"] == place
            };
            estimate.until(fits).await?;
        }
        anyhow::Ok(())
    };
    done(at, "/cs-claim-chat", claim(&chats[0])).await?;
    expect([0, 1, 2]).await?;
    done(at, "/dequeue", json!({"id": chats[1]})).await?;
    expect([0, 0, 1]).await?;
    done(at, "/enqueue", json!({"id": chats[1]})).await?;
    // The last in the queue now; told at once to whoever comes.
    for listener in &mut watch(&cluster, &format!("/sse/queue/{}", chats[1])).await? {
        until(listener, |value| value["order"] == 2).await?;
    }
    let leaves = json!({
        "chatId": chats[2],
        "event": "client-left",
        "authorTimestamp": "2023-01-18T12:56:52.895Z",
        "authorRole": "end-user",
    });
    done(at, "/end-chat", leaves).await?;
    for (index, listener) in &mut orders {
        let place = [0, 1, 0][*index];
        listener.until(|value| value["order"] == place).await?;
    }
    // Of what waits nowhere it is said, too, and at once.
    for listener in &mut watch(&cluster, "/sse/queue/unknown-to-all").await? {
        ensure!(value(listener).await? == json!({"order": 0}));
    }
    let mut enveloped = Listener::open(at, "/ruuter/sse/queue/unknown-to-all", None).await?;
    let frame = value(&mut enveloped).await?;
    ensure!(
        frame["body"]["data"]["queue"] == json!([{"order": 0}]),
        "{frame}"
    );
    Ok(())
}

/// D04: a chat appears among the active ones, is taken, redirected, and disappears.
#[tokio::test(flavor = "multi_thread")]
async fn active_chats() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let mut all = Vec::from(watch(&cluster, "/sse/cs-get-all-active-chats").await?);
    for listener in &mut all {
        let frame = value(listener).await?;
        let empty = json!({"data": {"get_all_active_chats": []}, "error": null});
        ensure!(frame == empty, "{frame}");
    }
    all.push(Listener::open(at, "/ruuter/sse/cs-get-all-active-chats", None).await?);
    value(&mut all[2]).await?;
    let chat = begin(at).await?;
    let mut expect = async |fits: &dyn Fn(&Value) -> bool| {
        for listener in &mut all {
            let fits = |value: &Value| {
                let body = value.get("body").unwrap_or(value);
                fits(&body["data"]["get_all_active_chats"])
            };
            until(listener, fits).await?;
        }
        anyhow::Ok(())
    };
    expect(&|chats| chats[0]["id"] == chat && chats[0]["customerSupportId"] == "").await?;
    done(at, "/cs-claim-chat", claim(&chat)).await?;
    expect(&|chats| chats[0]["customerSupportId"] == "EE1").await?;
    say(at, &chat, "kuidas läheb").await?;
    expect(&|chats| chats[0]["lastMessage"] == "kuidas läheb").await?;
    let redirect = json!({
        "id": chat,
        "customerSupportDisplayName": "B",
        "customerSupportId": "EE1",
        "forwardedByUser": "true",
        "forwardedFromCsa": "EE1",
        "forwardedToCsa": "EE2",
    });
    done(at, "/cs-redirect-chat", redirect).await?;
    expect(&|chats| chats[0]["event"] == "redirected" && chats[0]["customerSupportId"] == "EE2")
        .await?;
    let ends = json!({
        "chatId": chat,
        "event": "ACCEPTED",
        "authorTimestamp": "2023-01-18T12:56:52.895Z",
        "authorFirstName": "A",
        "authorId": "EE2",
        "authorRole": "backoffice-user",
    });
    let path = format!("/sse/get-chat-by-id?id={chat}");
    let mut one = watch(&cluster, &path).await?;
    for listener in &mut one {
        let frame = value(listener).await?;
        ensure!(frame["data"]["get_chat_by_id"]["id"] == chat, "{frame}");
    }
    done(at, "/cs-end-chat", ends).await?;
    expect(&|chats| *chats == json!([])).await?;
    for listener in &mut one {
        until(listener, |value| {
            value["data"]["get_chat_by_id"]["status"] == "ENDED"
        })
        .await?;
    }
    Ok(())
}

/// D08: the whole list now and after each message, as REST answers it.
#[tokio::test(flavor = "multi_thread")]
async fn all_messages_of_a_chat() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let mut listeners = Vec::new();
    for side in ["", "cs-"] {
        let path = format!("/sse/{side}get-messages-by-chat-id?chatId={chat}");
        listeners.extend(watch(&cluster, &path).await?);
    }
    let list = |value: &Value| {
        let list = value["data"]["cs_get_messages_by_chat_id"].as_array();
        list.map_or(0, Vec::len)
    };
    for listener in &mut listeners {
        ensure!(list(&value(listener).await?) == 1);
    }
    for number in 0..3 {
        let text = number.to_string();
        say(at, &chat, &text).await?;
        let mut last = Value::Null;
        for listener in &mut listeners {
            last = until(listener, |value| list(value) == number + 2).await?;
            let newest = &last["data"]["cs_get_messages_by_chat_id"][number + 1];
            ensure!(newest["content"] == text, "{newest}");
            ensure!(newest["chatId"] == chat, "{newest}");
        }
        let request = Request::get(format!("/cs-get-messages-by-chat-id?chatId={chat}"));
        let answer = send(at, &request).await?;
        let same: Value = serde_json::from_slice(&answer.body)?;
        assert_eq!(same, last);
    }
    Ok(())
}

/// D01, D05, D06: snapshots of what nobody changes, then silence; components in their order.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_change_is_not_said_again() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let health = "/sse/cs-get-components-healthz-status";
    let paths = [
        "/sse/estimated-waiting-time".to_owned(),
        health.to_owned(),
        "/sse/cs-get-all-active-chats".to_owned(),
        format!("/sse/queue/{chat}"),
        format!("/sse/get-chat-by-id?id={chat}"),
    ];
    for path in paths {
        for listener in &mut watch(&cluster, &path).await? {
            let value = value(listener).await?;
            if path == health {
                let rows = value["data"]["set_healthz_response"]["data"].as_array();
                let names = rows.into_iter().flatten().map(|row| &row["name"]);
                assert_eq!(
                    names.collect::<Vec<_>>(),
                    ["TIM", "RUUTER", "DMAPPER", "RESQL"]
                );
            }
            if path.ends_with("waiting-time") {
                let response =
                    json!({"durationInSeconds": "100", "positionInUnassignedChats": "0"});
                ensure!(value == json!({"response": response}), "{value}");
            }
            listener.expect_silence().await?;
        }
    }
    Ok(())
}

/// One computation for each change and instance, however many watch; and the last value within 250
/// milliseconds of the change.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_computed_once() -> Result<()> {
    const WATCHERS: usize = 30;
    const CHANGES: usize = 10;
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let mut watchers = Vec::new();
    for number in 0..WATCHERS {
        let at = cluster.instance(number % 2).address();
        let mut listener = Listener::open(at, "/sse/cs-get-all-active-chats", None).await?;
        value(&mut listener).await?;
        watchers.push(listener);
    }
    let computed = || {
        let counts = cluster.instances().iter();
        counts
            .map(|one| one.counted("tidings_view_computations_total", "burokratt.active"))
            .sum::<f64>()
    };
    let before = computed();
    let mut slowest = Duration::ZERO;
    for number in 0..CHANGES {
        begin(at).await?;
        let changed = Instant::now();
        for listener in &mut watchers {
            let all = |value: &Value| {
                value["data"]["get_all_active_chats"]
                    .as_array()
                    .map(Vec::len)
            };
            until(listener, |value| all(value) == Some(number + 1)).await?;
        }
        slowest = slowest.max(changed.elapsed());
    }
    let each = (computed() - before) / (2 * CHANGES) as f64;
    // One; and now and then one that no change asked for.
    ensure!(
        each <= 1.5,
        "{each} computations for each change and instance"
    );
    ensure!(slowest < Duration::from_secs(1), "{slowest:?}");
    Ok(())
}

/// G01, G02, G07: what is refused, in JSON, with a status that ends an `EventSource`.
#[tokio::test(flavor = "multi_thread")]
async fn refusals() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let table = [
        ("/sse/get-new-messages?chatId=nobody", 404),
        ("/sse/cs-get-new-messages?chatId=nobody", 404),
        ("/sse/get-messages-by-chat-id?chatId=nobody", 404),
        ("/sse/get-chat-by-id?id=nobody", 404),
        ("/sse/estimated-waiting-time?chatId=nobody", 404),
        ("/sse/events?chatId=nobody", 404),
        ("/sse/get-new-messages", 400),
        ("/sse/cs-get-new-messages?chatId=", 400),
        ("/sse/cs-get-messages-by-chat-id", 400),
        ("/sse/get-chat-by-id", 400),
        ("/sse/events", 400),
        ("/sse/get-new-messages?chatId=a%2Fb", 400),
        ("/sse/notifications/a%20b", 400),
        ("/sse/queue/%ff", 400),
        ("/sse/init-chat", 404),
        ("/sse/end-chat", 404),
        ("/ruuter/sse/login-with-tara-jwt", 404),
        ("/sse", 404),
    ];
    for (path, status) in table {
        let answer = send(at, &Request::get(path)).await?;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        let body: Value = serde_json::from_slice(&answer.body)?;
        ensure!(
            body["data"].is_null() && body["error"].is_string(),
            "{body}"
        );
    }
    let answer = post(at, "/sse/get-new-messages?chatId=x", json!({})).await?;
    assert_eq!(answer.status, 405);
    let body: Value = serde_json::from_slice(&answer.body)?;
    ensure!(body["error"].is_string(), "{body}");
    // `chatid`, and what means nothing here.
    let chat = begin(at).await?;
    for name in ["chatId", "chatid", "id"] {
        let path = format!("/sse/get-new-messages?{name}={chat}&x=1&x=2");
        Listener::ready(at, &path).await?;
    }
    Ok(())
}
