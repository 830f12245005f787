//! Coming back, with npm's `eventsource`: contract §6, the rows C and A04, A06, B11.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_testkit::servers::{TcpProxy, wait_for};
use tidings_tests::SOON;

use crate::client::{Client, data};
use crate::cluster::{Cluster, QUICK, said};
use crate::gate::Gate;

/// The stream of an end user.
fn stream(chat: &str) -> String {
    format!("/sse/get-new-messages?chatId={chat}")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_hears_what_was_missed_once_and_in_order() -> Result<()> {
    let cluster = Cluster::start(QUICK).await?;
    let conversation = async {
        tokio::try_join!(
            dropped_and_refused(&cluster),
            cut_inside_a_frame(&cluster),
            quiet_streams(&cluster),
            on_the_other_instance(&cluster),
            bad_places(&cluster),
            to_the_end(&cluster),
        )
    };
    conversation.await.with_context(|| cluster.printed())?;
    Ok(())
}

/// C01, C13: five times the connection is dropped and refused while messages are posted.
async fn dropped_and_refused(cluster: &Cluster) -> Result<()> {
    let proxy = TcpProxy::start(cluster.address(0)).await?;
    let chat = cluster.chat(0).await?;
    let mut client = Client::node()?;
    let url = format!("http://{}{}", proxy.address(), stream(&chat));
    client.open("a", &url).await?;
    client.ready("a").await?;
    let mut all = Vec::new();
    for round in 0..5 {
        for part in ["live", "missed"] {
            if part == "missed" {
                proxy.cut().await?;
                client.about("error", "a").await?;
            }
            for at in 0..2 {
                let text = format!("{part} {round} {at}");
                cluster.say(at, &chat, &text).await?;
                all.push(text);
            }
            if part == "missed" {
                proxy.heal().await?;
            }
            for text in &all[all.len() - 2..] {
                client.hears("a", text).await?;
            }
        }
        let ready = client.ready("a").await?;
        ensure!(
            ready["resumed"] == true && ready["replayed"] == 2,
            "{ready}"
        );
    }
    ensure!(client.contents("a")? == all, "{:?}", client.contents("a"));
    Ok(())
}

/// C02: the connection ends behind the data of a message, before the blank line.
async fn cut_inside_a_frame(cluster: &Cluster) -> Result<()> {
    let gate = Gate::start(cluster.address(0)).await?;
    let chat = cluster.chat(0).await?;
    let mut client = Client::node()?;
    client.open("a", &gate.url(&stream(&chat))).await?;
    client.ready("a").await?;
    cluster.say(0, &chat, "whole").await?;
    client.hears("a", "whole").await?;
    gate.break_behind("in two pieces");
    cluster.say(1, &chat, "in two pieces").await?;
    client.hears("a", "in two pieces").await?;
    ensure!(gate.has_broken(), "it was never cut");
    client.ready("a").await?;
    cluster.say(1, &chat, "after").await?;
    client.hears("a", "after").await?;
    ensure!(client.contents("a")? == ["whole", "in two pieces", "after"]);
    Ok(())
}

/// C04, C08, C09: the place of a stream that was told nothing, and heartbeats that do not move it.
async fn quiet_streams(cluster: &Cluster) -> Result<()> {
    let proxy = TcpProxy::start(cluster.address(1)).await?;
    let chat = cluster.chat(1).await?;
    let mut client = Client::node()?;
    client
        .open("a", &format!("http://{}{}", proxy.address(), stream(&chat)))
        .await?;
    client.ready("a").await?;
    proxy.cut().await?;
    client.about("error", "a").await?;
    cluster.say(0, &chat, "while it was away").await?;
    proxy.heal().await?;
    let id = client.hears("a", "while it was away").await?;
    client.ready("a").await?;

    let again = format!("{}{}&lastEventId={id}", cluster.hub(0), stream(&chat));
    client.open("newest", &again).await?;
    let ready = client.ready("newest").await?;
    ensure!(
        ready["resumed"] == true && ready["replayed"] == 0,
        "{ready}"
    );
    cluster.say(1, &chat, "live goes on").await?;
    client.hears("newest", "live goes on").await?;
    client.hears("a", "live goes on").await?;
    Ok(())
}

/// C03, C11: listens on B to what is posted on A, and goes on with A's id on B.
async fn on_the_other_instance(cluster: &Cluster) -> Result<()> {
    let chat = cluster.chat(0).await?;
    let mut client = Client::node()?;
    for (name, at) in [("first", 0), ("second", 1)] {
        client
            .open(name, &format!("{}{}", cluster.hub(at), stream(&chat)))
            .await?;
        client.ready(name).await?;
    }
    let mut ids = Vec::new();
    for number in 0..10 {
        let text = format!("number {number}");
        cluster.say(number % 2, &chat, &text).await?;
        let id = client.hears("first", &text).await?;
        ensure!(client.hears("second", &text).await? == id, "{id}");
        ids.push(id);
    }
    let place = |id: &str| -> Option<(u64, u64)> {
        let (ms, seq) = id.split_once('-')?;
        Some((ms.parse().ok()?, seq.parse().ok()?))
    };
    let places: Option<Vec<_>> = ids.iter().map(|id| place(id)).collect();
    let places = places.with_context(|| format!("<ms>-<seq>: {ids:?}"))?;
    ensure!(places.is_sorted_by(|a, b| a < b), "{ids:?}");

    let url = format!("{}{}&lastEventId={}", cluster.hub(1), stream(&chat), ids[6]);
    client.open("resumed", &url).await?;
    for number in 7..10 {
        client.hears("resumed", &format!("number {number}")).await?;
    }
    client.ready("resumed").await?;
    Ok(())
}

/// C05, C06: places that nobody gave out.
async fn bad_places(cluster: &Cluster) -> Result<()> {
    let chat = cluster.chat(0).await?;
    cluster.say(0, &chat, "kept").await?;
    let mut client = Client::node()?;
    let long = "9".repeat(3_000);
    let hostile = [
        "junk",
        "1-2-3",
        "-1",
        "%0a%0aevent:%20x",
        "*",
        long.as_str(),
    ];
    for (at, id) in hostile.iter().enumerate() {
        let name = format!("bad {at}");
        let url = format!("{}{}&lastEventId={id}", cluster.hub(at % 2), stream(&chat));
        client.open(&name, &url).await?;
        let gap = client.event(&name, "gap").await?;
        ensure!(
            gap["id"] == "" && data(&gap)?["reason"] == "invalid",
            "{gap}"
        );
        client.hears(&name, "hello").await?;
        client.hears(&name, "kept").await?;
        let ready = client.ready(&name).await?;
        ensure!(ready["resumed"] == false, "{ready}");
    }
    let url = format!(
        "{}{}&lastEventId=99999999999999-0",
        cluster.hub(1),
        stream(&chat)
    );
    client.open("future", &url).await?;
    let gap = data(&client.event("future", "gap").await?)?;
    ensure!(
        gap["reason"] == "unknown" && gap["lastEventId"] == "99999999999999-0",
        "{gap}"
    );
    client.hears("future", "hello").await?;
    Ok(())
}

/// C12: the chat ends, the stream with it, and nobody asks again.
async fn to_the_end(cluster: &Cluster) -> Result<()> {
    let chat = cluster.chat(0).await?;
    let mut client = Client::node()?;
    client
        .open("a", &format!("{}{}", cluster.hub(1), stream(&chat)))
        .await?;
    client.ready("a").await?;
    cluster.end(0, &chat).await?;
    let last = data(&client.event("a", "message").await?)?;
    ensure!(last["event"] == "client-left", "{last}");
    // It ends once, comes back, and is told to stay away.
    let closed = client.until("error", |line| line["as"] == "a" && line["closed"] == true);
    closed.await?;
    let answer = cluster
        .send(1, "/post-message", &said(&chat, "late"))
        .await?;
    ensure!(answer.status == 409, "{} {:?}", answer.status, answer.body);
    Ok(())
}

/// C10: `kill -9` and a restart; ids go on rising.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_killed_is_found_again() -> Result<()> {
    let mut cluster = Cluster::start(QUICK).await?;
    let chat = cluster.chat(0).await?;
    let mut client = Client::node()?;
    client
        .open("a", &format!("{}{}", cluster.hub(0), stream(&chat)))
        .await?;
    client.ready("a").await?;
    cluster.say(0, &chat, "before").await?;
    let before = client.hears("a", "before").await?;
    cluster.instances[0].kill().await?;
    client.about("error", "a").await?;
    cluster.say(1, &chat, "meanwhile").await?;
    cluster.instances[0].restart().await?;
    let after = client.hears("a", "meanwhile").await?;
    client.ready("a").await?;
    ensure!(before < after, "{before} {after}");
    ensure!(client.contents("a")? == ["before", "meanwhile"]);
    ensure!(client.all("event").all(|line| line["type"] != "gap"));
    Ok(())
}

/// B11: 200 messages, ten in parallel, through both instances.
#[tokio::test(flavor = "multi_thread")]
async fn what_many_post_at_once_is_heard_once_each() -> Result<()> {
    let cluster = Cluster::start(QUICK).await?;
    let chat = cluster.chat(0).await?;
    let mut client = Client::node()?;
    client
        .open("a", &format!("{}{}", cluster.hub(0), stream(&chat)))
        .await?;
    client.ready("a").await?;
    let posters = (0..10).map(|poster| {
        let (cluster, chat) = (&cluster, &chat);
        async move {
            let mut ids = Vec::new();
            for number in 0..20 {
                ids.push(
                    cluster
                        .say(poster % 2, chat, &format!("{poster} {number}"))
                        .await?,
                );
            }
            anyhow::Ok(ids)
        }
    });
    let mut posted: Vec<String> = futures_util::future::try_join_all(posters).await?.concat();
    while client.count("event") < 201 {
        client.line().await?;
    }
    let mut heard = Vec::new();
    for line in client.all("event").filter(|line| line["type"] == "message") {
        let id = data(line)?["id"].as_str().context("an id")?.to_owned();
        heard.push(id);
    }
    heard.sort();
    posted.sort();
    ensure!(heard == posted, "{} {}", heard.len(), posted.len());
    Ok(())
}

/// Redis is restarted, and an open stream goes on; posting says 503 while it is away.
#[tokio::test(flavor = "multi_thread")]
async fn redis_may_be_restarted_below_an_open_stream() -> Result<()> {
    let cluster = Cluster::start(QUICK).await?;
    let chat = cluster.chat(0).await?;
    let mut client = Client::node()?;
    client
        .open("a", &format!("{}{}", cluster.hub(0), stream(&chat)))
        .await?;
    client.ready("a").await?;
    cluster.redis.stop().await?;
    let message = said(&chat, "not now");
    let answer = cluster.send(0, "/post-message", &message).await?;
    ensure!(answer.status == 503, "{} {:?}", answer.status, answer.body);
    ensure!(answer.json()?["data"] == json!(null), "{:?}", answer.body);
    cluster.redis.restart().await?;
    wait_for("a message to be taken", SOON, || async {
        cluster.say(1, &chat, "again").await?;
        Ok(())
    })
    .await?;
    client.hears("a", "again").await?;
    ensure!(client.count("error") == 0, "{:?}", client.last());
    Ok(())
}
