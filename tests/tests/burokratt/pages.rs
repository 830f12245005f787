//! Pages in Chromium on an origin of their own: contract §6, the rows K.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::servers::{PortLease, TcpProxy};

use crate::client::{Client, data};
use crate::cluster::{Cluster, said};
use crate::gate::Gate;

/// What browsers are told to wait; each a fifth more or less (contract §4.2).
const RETRY_MS: u64 = 1_000;

/// Short, so that a silent stream has several of them (contract §4.5).
const HEARTBEAT_MS: u64 = 300;

/// The hub with one page's origin on its list, and Chromium with that page.
async fn start() -> Result<(Cluster, Client)> {
    let origin = PortLease::take()?;
    let options = format!(
        "retry = \"{RETRY_MS}ms\"\nheartbeat = \"{HEARTBEAT_MS}ms\"\norigins = [\"http://{}\"]",
        origin.address()
    );
    let cluster = Cluster::start(&options).await?;
    let client = Client::chromium(origin).await?;
    Ok((cluster, client))
}

fn stream(chat: &str) -> String {
    format!("/sse/get-new-messages?chatId={chat}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_everything_once_through_drops_reloads_and_an_absent_hub() -> Result<()> {
    let (cluster, mut page) = start().await?;
    origins(&cluster, &mut page).await?;
    drops(&cluster, &mut page).await?;
    cut_inside_a_frame(&cluster, &mut page).await?;
    reload(&cluster, &mut page).await?;
    bad_place(&cluster, &mut page).await?;
    unreachable_at_first(&cluster, &mut page).await?;
    to_the_end(&cluster, &mut page)
        .await
        .with_context(|| format!("{:?}", page.last()))
}

/// K01, K13, K12: with credentials, preflighted, and from an origin that is not on the list.
async fn origins(cluster: &Cluster, page: &mut Client) -> Result<()> {
    let chat = cluster.chat(0).await?;
    let url = format!("{}{}", cluster.hub(0), stream(&chat));
    page.tell(json!({"do": "open", "as": "listed", "url": url, "credentials": true}))
        .await?;
    page.ready("listed").await?;
    // The widget's axios sends `Cache-Control` on every call.
    let post = |name: &str, tab: &str| {
        json!({
            "do": "request", "as": name, "tab": tab, "url": format!("{}/post-message", cluster.hub(1)), "method": "POST",
            "credentials": true, "body": said(&chat, "across origins").to_string(),
            "headers": {"content-type": "application/json", "cache-control": "no-cache"},
        })
    };
    page.tell(post("posted", "main")).await?;
    let answer = page.about("answer", "posted").await?;
    ensure!(answer["status"] == 200, "{answer}");
    page.hears("listed", "across origins").await?;

    let foreign = format!("http://127.0.0.1:{}/blank", page.foreign());
    page.tell(json!({"do": "tab", "tab": "foreign", "url": foreign}))
        .await?;
    page.about("tab", "foreign").await?;
    page.tell(json!({"do": "open", "as": "refused", "tab": "foreign", "url": url}))
        .await?;
    let error = page.about("error", "refused").await?;
    ensure!(error["closed"] == true, "{error}");
    page.tell(post("unheard", "foreign")).await?;
    page.about("failed", "unheard").await?;
    Ok(())
}

/// K02, K04, K05: a drop after heartbeats; back after the hub's time, not before; nothing twice.
async fn drops(cluster: &Cluster, page: &mut Client) -> Result<()> {
    let proxy = TcpProxy::start(cluster.address(0)).await?;
    let chat = cluster.chat(1).await?;
    page.open(
        "dropped",
        &format!("http://{}{}", proxy.address(), stream(&chat)),
    )
    .await?;
    page.ready("dropped").await?;
    cluster.say(0, &chat, "first").await?;
    page.hears("dropped", "first").await?;
    // Two heartbeats, of which a page sees nothing: were they to move its place, the next message would be lost.
    page.listen(Duration::from_millis(5 * HEARTBEAT_MS / 2))
        .await?;
    proxy.cut().await?;
    let away = page.about("error", "dropped").await?;
    proxy.heal().await?;
    cluster.say(1, &chat, "missed").await?;
    page.about("open", "dropped").await?;
    let back = page.about("open", "dropped").await?;
    page.hears("dropped", "missed").await?;
    let ready = page.ready("dropped").await?;
    ensure!(
        ready["resumed"] == true && ready["replayed"] == 1,
        "{ready}"
    );
    let at = |line: &Value| line["at"].as_u64().context("a time");
    let waited = at(&back)? - at(&away)?;
    ensure!(
        waited >= RETRY_MS * 8 / 10,
        "it came back after {waited} ms"
    );
    ensure!(page.contents("dropped")? == ["first", "missed"]);
    Ok(())
}

/// K03, and of K02 what the browser asks: its place in a header, without a preflight.
async fn cut_inside_a_frame(cluster: &Cluster, page: &mut Client) -> Result<()> {
    let gate = Gate::start(cluster.address(1)).await?;
    let chat = cluster.chat(0).await?;
    page.open("cut", &gate.url(&stream(&chat))).await?;
    page.ready("cut").await?;
    cluster.say(1, &chat, "whole").await?;
    let place = page.hears("cut", "whole").await?;
    gate.break_behind("in two pieces");
    cluster.say(0, &chat, "in two pieces").await?;
    page.hears("cut", "in two pieces").await?;
    ensure!(gate.has_broken(), "it was never cut");
    page.ready("cut").await?;
    ensure!(page.contents("cut")? == ["whole", "in two pieces"]);
    let asked = gate.asked();
    let [first, again] = &asked[..] else {
        anyhow::bail!("two requests, {asked:?}");
    };
    ensure!(
        first.starts_with("GET ") && again.starts_with("GET "),
        "{asked:?}"
    );
    let header = format!("last-event-id: {place}\r\n");
    ensure!(
        !first.contains("last-event-id") && again.contains(&header),
        "{again}"
    );
    Ok(())
}

/// K07: a reload forgets EventSource's memory; the address has it. Later the header wins.
async fn reload(cluster: &Cluster, page: &mut Client) -> Result<()> {
    let proxy = TcpProxy::start(cluster.address(0)).await?;
    let chat = cluster.chat(0).await?;
    page.open(
        "old",
        &format!("http://{}{}", proxy.address(), stream(&chat)),
    )
    .await?;
    page.ready("old").await?;
    cluster.say(0, &chat, "one").await?;
    let id = page.hears("old", "one").await?;
    page.tell(json!({"do": "reload", "tab": "main"})).await?;
    page.about("done", "main").await?;
    cluster.say(1, &chat, "two").await?;
    let url = format!(
        "http://{}{}&lastEventId={id}",
        proxy.address(),
        stream(&chat)
    );
    page.open("new", &url).await?;
    page.hears("new", "two").await?;
    page.ready("new").await?;
    // The address still says `id`; the header says more.
    proxy.cut().await?;
    page.about("error", "new").await?;
    proxy.heal().await?;
    let ready = page.ready("new").await?;
    ensure!(ready["replayed"] == 0, "{ready}");
    ensure!(page.contents("new")? == ["two"]);
    Ok(())
}

/// K06.
async fn bad_place(cluster: &Cluster, page: &mut Client) -> Result<()> {
    let chat = cluster.chat(0).await?;
    let url = format!(
        "{}{}&lastEventId=hostile%0Aevent:x",
        cluster.hub(1),
        stream(&chat)
    );
    page.open("bad", &url).await?;
    let gap = page.event("bad", "gap").await?;
    ensure!(data(&gap)?["reason"] == "invalid", "{gap}");
    page.hears("bad", "hello").await?;
    page.ready("bad").await?;
    Ok(())
}

/// K15: nobody listens at first.
async fn unreachable_at_first(cluster: &Cluster, page: &mut Client) -> Result<()> {
    let proxy = TcpProxy::start(cluster.address(0)).await?;
    proxy.cut().await?;
    let chat = cluster.chat(0).await?;
    let since = "timeRangeBegin=2020-01-01T00:00:00.000%2B00:00";
    let url = format!("http://{}{}&{since}", proxy.address(), stream(&chat));
    page.open("early", &url).await?;
    let error = page.about("error", "early").await?;
    ensure!(error["closed"] == false, "{error}");
    cluster.say(1, &chat, "anybody there?").await?;
    proxy.heal().await?;
    page.hears("early", "hello").await?;
    page.hears("early", "anybody there?").await?;
    Ok(())
}

/// K10.
async fn to_the_end(cluster: &Cluster, page: &mut Client) -> Result<()> {
    let chat = cluster.chat(0).await?;
    page.open("ended", &format!("{}{}", cluster.hub(1), stream(&chat)))
        .await?;
    page.ready("ended").await?;
    cluster.end(0, &chat).await?;
    let last = data(&page.event("ended", "message").await?)?;
    ensure!(last["event"] == "client-left", "{last}");
    let closed = page.until("error", |line| {
        line["as"] == "ended" && line["closed"] == true
    });
    closed.await?;
    Ok(())
}
