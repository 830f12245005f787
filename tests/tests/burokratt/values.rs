//! Values (the queue, the estimate, active chats, a chat, its messages, components) over two processes: contract §6, the
//! rows D and E06; one computation for each change and instance; and what becomes of a stream whose instance dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::servers::wait_for;
use tidings_tests::SOON;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::client::{Client, data};
use crate::cluster::{Cluster, QUICK};

/// Streams of each value on each instance.
const WATCHERS: usize = 10;

/// A component whose health changes: what it answers stands in the number.
struct Component {
    url: String,
    version: Arc<AtomicU8>,
    task: tokio::task::JoinHandle<()>,
}

impl Component {
    /// Answers with 503 as long as the version is 0.
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/healthz", listener.local_addr()?);
        let version = Arc::new(AtomicU8::new(1));
        let shared = version.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let version = shared.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    // The head of a request without a body comes in one piece.
                    let _ = stream.read(&mut [0; 4096]).await?;
                    let (status, body) = match version {
                        0 => ("503 Service Unavailable", String::new()),
                        version => (
                            "200 OK",
                            json!({"version": format!("{version}.0")}).to_string(),
                        ),
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).await
                });
            }
        });
        Ok(Self { url, version, task })
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The newest value of a source that fits; those before it are on the way there.
async fn until(client: &mut Client, name: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let found = client.until("event", |line| {
        line["as"] == name
            && line["type"] == "message"
            && data(line).is_ok_and(|value| fits(&value))
    });
    let line = found.await.with_context(|| name.to_owned())?;
    ensure!(line["id"] == "", "a value has no id: {line}");
    data(&line)
}

/// How often an instance has computed each view.
async fn computed(cluster: &Cluster, at: usize) -> Result<BTreeMap<String, f64>> {
    let metrics = cluster.instances[at]
        .send("GET", "/metrics", &[], "")
        .await?;
    let text = String::from_utf8(metrics.body.to_vec())?;
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("tidings_view_computations_total{") else {
            continue;
        };
        let view = rest.split("view=\"").nth(1);
        let view = view.and_then(|rest| rest.split('"').next());
        let number = line.rsplit(' ').next().context("a number")?;
        *counts
            .entry(view.with_context(|| line.to_owned())?.to_owned())
            .or_default() += number.parse::<f64>()?;
    }
    Ok(counts)
}

/// D01–D06, D08, E06: told at once, and after each change, on both instances. While ten streams watch each value on each
/// instance, a change is computed about once on each.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "a measurement is reported")]
async fn a_change_is_told_to_all_and_computed_once_on_each_instance() -> Result<()> {
    const CHANGES: usize = 10;
    let cluster = Cluster::start(QUICK).await?;
    let chat = cluster.chat(0).await?;
    let last = cluster.chat(1).await?;
    let mut client = Client::node()?;
    let paths = [
        (
            "burokratt.active",
            "/sse/cs-get-all-active-chats".to_owned(),
        ),
        ("burokratt.chat", format!("/sse/get-chat-by-id?id={chat}")),
        (
            "burokratt.messages",
            format!("/sse/cs-get-messages-by-chat-id?chatId={chat}"),
        ),
        ("burokratt.order", format!("/sse/queue/{last}")),
        (
            "burokratt.estimate",
            format!("/sse/estimated-waiting-time?chatId={last}"),
        ),
        (
            "burokratt.health",
            "/sse/cs-get-components-healthz-status".to_owned(),
        ),
    ];
    let name = |view: &str, at: usize, number: usize| format!("{view} {at} {number}");
    for at in 0..2 {
        for (view, path) in &paths {
            for number in 0..WATCHERS {
                let name = name(view, at, number);
                client
                    .open(&name, &format!("{}{path}", cluster.hub(at)))
                    .await?;
                until(&mut client, &name, |_| true).await?;
            }
        }
    }
    let before = [computed(&cluster, 0).await?, computed(&cluster, 1).await?];
    let mut slowest = Duration::ZERO;
    for number in 0..CHANGES {
        let text = format!("change {number}");
        cluster.say(number % 2, &chat, &text).await?;
        let said = Instant::now();
        for at in 0..2 {
            for (view, _) in &paths[..3] {
                for number in 0..WATCHERS {
                    until(&mut client, &name(view, at, number), |value| {
                        value.to_string().contains(&text)
                    })
                    .await?;
                }
            }
        }
        slowest = slowest.max(said.elapsed());
    }
    println!(
        "the last of {} streams had a message {slowest:?} after its answer",
        6 * WATCHERS
    );
    for (at, before) in before.iter().enumerate() {
        let after = computed(&cluster, at).await?;
        for (view, _) in &paths {
            let count = after.get(*view).context(*view)? - before.get(*view).unwrap_or(&0.0);
            println!("{view} on {at}: {count} computations for {CHANGES} changes");
            // Once per change; now and then it is looked at again by itself, every ten seconds.
            let changes = if paths[..3].iter().any(|(one, _)| one == view) {
                CHANGES
            } else {
                0 // a message changes neither the queue nor a component
            };
            let most = changes + changes / 2 + 6;
            ensure!(count <= most as f64, "{view} on {at}: {count} computations");
        }
    }

    // A claim: he is 0, who is behind him moves up; both sides of each value.
    let claim =
        json!({"id": chat, "customerSupportId": "EE1", "customerSupportDisplayName": "Mari"});
    cluster.post(0, "/cs-claim-chat", &claim).await?;
    for at in 0..2 {
        until(&mut client, &name("burokratt.order", at, 0), |value| {
            value["order"] == 1
        })
        .await?;
        until(&mut client, &name("burokratt.estimate", at, 0), |value| {
            let response = &value["response"];
            let seconds = response["durationInSeconds"].as_str().unwrap_or("-");
            response["positionInUnassignedChats"] == "1"
                && seconds.bytes().all(|b| b.is_ascii_digit())
        })
        .await?;
        until(&mut client, &name("burokratt.active", at, 0), |value| {
            value.to_string().contains("\"EE1\"")
        })
        .await?;
    }
    // D05: the others hear of the claim, too; then nothing more happens, and nothing is said.
    client.listen(Duration::from_secs(1)).await?;
    let sent = client.count("event");
    client.listen(Duration::from_secs(1)).await?;
    ensure!(client.count("event") == sent, "{:?}", client.last());
    Ok(())
}

/// A question right after an answer sees what was answered, on the other instance, too: requests read by themselves and
/// not from a view.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_after_an_answer_sees_it_on_the_other_instance() -> Result<()> {
    let cluster = Cluster::start("backend_open = true").await?;
    // Views of both are live, and must not answer for it.
    let mut client = Client::node()?;
    for at in 0..2 {
        client
            .open(
                &at.to_string(),
                &format!("{}/sse/cs-get-all-active-chats", cluster.hub(at)),
            )
            .await?;
        until(&mut client, &at.to_string(), |_| true).await?;
    }
    let mut before: Option<String> = None;
    for round in 0..20 {
        let (here, there) = (round % 2, (round + 1) % 2);
        let chat = cluster.chat(here).await?;
        let active = cluster.get(there, "/cs-get-all-active-chats").await?;
        let ids: Vec<&Value> = active
            .as_array()
            .context("a list")?
            .iter()
            .map(|one| &one["id"])
            .collect();
        ensure!(
            ids.contains(&&json!(chat)),
            "{round}: {chat} is not among {ids:?}"
        );
        let path = format!("/estimated-waiting-time?chatId={chat}");
        let place = cluster.get(there, &path).await?;
        ensure!(
            place["positionInUnassignedChats"] == if before.is_some() { "2" } else { "1" },
            "{place}"
        );
        if let Some(before) = before.replace(chat.clone()) {
            let claim = json!({"id": before, "customerSupportId": "EE1"});
            cluster.post(here, "/cs-claim-chat", &claim).await?;
            let place = cluster.get(there, &path).await?;
            ensure!(place["positionInUnassignedChats"] == "1", "{place}");
            cluster.end(here, &before).await?;
            let active = cluster.get(there, "/cs-get-all-active-chats").await?;
            ensure!(!active.to_string().contains(&before), "{active}");
        }
        cluster.say(here, &chat, "hear, hear").await?;
        let list = cluster
            .get(there, &format!("/get-messages-by-chat-id?chatId={chat}"))
            .await?;
        ensure!(list[1]["content"] == "hear, hear", "{list}");
    }
    Ok(())
}

/// D06, D07: the seed's shape and order; a component fails, and is back with another version; one instance looks for both.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_fails_and_comes_back() -> Result<()> {
    let component = Component::start().await?;
    let options = format!(
        "components = [{{ name = \"TIM\", url = \"{}\" }}]\ncomponent_every = \"300ms\"\n",
        component.url
    );
    let mut cluster = Cluster::start(&options).await?;
    let mut client = Client::node()?;
    for at in 0..2 {
        let path = "/sse/cs-get-components-healthz-status";
        client
            .open(&at.to_string(), &format!("{}{path}", cluster.hub(at)))
            .await?;
    }
    let rows = |value: &Value| value["data"]["set_healthz_response"]["data"].clone();
    let tim =
        |status: &str, version: Value| json!({"name": "TIM", "version": version, "status": status});
    let (up, down) = (tim("up", json!("1.0")), tim("down", Value::Null));
    for at in 0..2 {
        let value = until(&mut client, &at.to_string(), |value| rows(value)[0] == up).await?;
        let names: Vec<Value> = (0..4)
            .map(|row| rows(&value)[row]["name"].clone())
            .collect();
        ensure!(names == ["TIM", "RUUTER", "DMAPPER", "RESQL"], "{value}");
    }
    component.version.store(0, Ordering::SeqCst);
    for at in 0..2 {
        until(&mut client, &at.to_string(), |value| rows(value)[0] == down).await?;
    }
    // Whoever has the turn dies; the other one looks.
    cluster.instances[0].kill().await?;
    component.version.store(2, Ordering::SeqCst);
    let back = tim("up", json!("2.0"));
    until(&mut client, "1", |value| rows(value)[0] == back).await?;
    let rest = cluster.get(1, "/cs-get-components-healthz-status").await?;
    ensure!(rest["data"][0] == back, "{rest}");
    Ok(())
}

/// `kill -9` of the instance of a value's stream: the client is back by itself and is told what it is now, whatever
/// happened meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_told_anew_after_a_kill() -> Result<()> {
    let mut cluster = Cluster::start(QUICK).await?;
    let (first, second) = (cluster.chat(0).await?, cluster.chat(0).await?);
    let mut client = Client::node()?;
    let paths = [
        ("queue", format!("/sse/queue/{second}")),
        (
            "estimate",
            format!("/sse/estimated-waiting-time?chatId={second}"),
        ),
        ("active", "/sse/cs-get-all-active-chats".to_owned()),
        ("chat", format!("/sse/get-chat-by-id?id={first}")),
        (
            "messages",
            format!("/sse/get-messages-by-chat-id?chatId={first}"),
        ),
    ];
    for (name, path) in &paths {
        client
            .open(name, &format!("{}{path}", cluster.hub(0)))
            .await?;
        until(&mut client, name, |_| true).await?;
    }
    cluster.instances[0].kill().await?;
    for (name, _) in &paths {
        client.about("error", name).await?;
    }
    cluster.say(1, &first, "meanwhile").await?;
    cluster.end(1, &first).await?;
    cluster.instances[0].restart().await?;
    until(&mut client, "queue", |value| value["order"] == 1).await?;
    until(&mut client, "estimate", |value| {
        value["response"]["positionInUnassignedChats"] == "1"
    })
    .await?;
    until(&mut client, "active", |value| {
        !value.to_string().contains(&first)
    })
    .await?;
    until(&mut client, "chat", |value| {
        value["data"]["get_chat_by_id"]["status"] == "ENDED"
    })
    .await?;
    until(&mut client, "messages", |value| {
        value.to_string().contains("meanwhile")
    })
    .await?;
    // And it is live again.
    wait_for("a claim to be taken", SOON, || async {
        let claim = json!({"id": second, "customerSupportId": "EE1"});
        cluster.post(1, "/cs-claim-chat", &claim).await.map(drop)
    })
    .await?;
    until(&mut client, "queue", |value| value["order"] == 0).await?;
    Ok(())
}
