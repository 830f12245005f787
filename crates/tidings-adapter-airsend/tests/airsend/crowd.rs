//! Many at once: counts, bursts, stuck members, drops (E01, K14–K16, M02, S03, S06, 1.8).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::common::raw::Raw;
use crate::common::*;

/// E01: every socket of every member, the author's too, once each; nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn every_socket_once() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 3).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut sockets = Vec::new();
    for (at, user) in [(a, 1), (a, 1), (b, 1), (a, 2), (b, 2)] {
        sockets.push(Rtm::with(at, &minted(user)).await?);
    }
    let mut stranger = Rtm::with(b, &minted(3)).await?;
    post(b, 11, 1, "to all").await?;
    for socket in &mut sockets {
        socket.expect_text("to all").await?;
    }
    for socket in sockets.iter_mut().chain([&mut stranger]) {
        socket.expect_nothing().await?;
    }
    Ok(())
}

/// K14: twelve react and read at once over both instances: 24 updates on both, each one larger by
/// one, in one order, and in the end everything is there.
#[tokio::test(flavor = "multi_thread")]
async fn twelve_at_once() -> Result<()> {
    const MEMBERS: u64 = 12;
    let cluster = cluster(|_| ()).await?;
    let at = [cluster.instance(0).address(), cluster.instance(1).address()];
    people(at[0], MEMBERS + 2).await?;
    let all: Vec<u64> = (1..=MEMBERS + 2).collect();
    channel(at[0], 11, &all).await?;
    let id = post(at[0], 11, MEMBERS + 1, "read me").await?;
    let mut watchers = [
        Rtm::with(at[0], &minted(MEMBERS + 1)).await?,
        Rtm::with(at[1], &minted(MEMBERS + 2)).await?,
    ];
    let asking = (1..=MEMBERS).map(|user| {
        tokio::spawn(async move {
            let mut client = Rtm::with(at[(user % 2) as usize], &minted(user)).await?;
            let react = json!({"command": "ws_add_reaction", "message_id": id, "emoji_value": format!("e{user}"), "cid": "r"});
            let read = json!({"command": "ws_read_notification", "channel_id": 11, "message_id": id, "cid": "s"});
            client.say(&react).await?;
            client.say(&read).await?;
            let mut acks = 0;
            while acks < 2 {
                let frame = client.hear().await?;
                if frame["event"] == "system.ack" {
                    ensure!(frame["payload"]["ok"] == true, "{frame}");
                    acks += 1;
                }
            }
            anyhow::Ok(client)
        })
    });
    let asking: Vec<_> = asking.collect();
    let mut seen: [Vec<Value>; 2] = Default::default();
    for (watcher, seen) in watchers.iter_mut().zip(&mut seen) {
        while seen.len() < 24 {
            let mut frame = watcher.hear().await?;
            if frame["event"] != "chat.updateMessage" {
                continue;
            }
            let message = frame["payload"]["message"].take();
            let of = |name: &str| message[name].as_array().map_or(0, Vec::len);
            let size = of("emoticons") + of("read_users");
            ensure!(size == seen.len() + 1, "{message}");
            ensure!(message["read_user_count"] == of("read_users").to_string());
            seen.push(message);
        }
    }
    for one in asking {
        one.await??;
    }
    ensure!(seen[0] == seen[1], "one order for all");
    let last = seen[0].last().context("24 updates")?;
    let mut names: Vec<_> = (1..=MEMBERS).map(|user| format!("e{user}")).collect();
    let emoticons = last["emoticons"].as_array().context("a list")?;
    let mut reacted: Vec<_> = emoticons
        .iter()
        .filter_map(|one| one["ev"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    reacted.sort();
    ensure!(reacted == names);
    let readers = last["read_users"].as_array().context("a list")?;
    let mut readers: Vec<_> = readers
        .iter()
        .filter_map(|one| one["user_id"].as_u64())
        .collect();
    readers.sort_unstable();
    ensure!(readers == (1..=MEMBERS).collect::<Vec<_>>());
    Ok(())
}

/// K15: a client that reads 150 messages at once has read them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_reads() -> Result<()> {
    const MESSAGES: usize = 150;
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut ids = Vec::new();
    for n in 0..MESSAGES {
        ids.push(post(a, 11, 2, &n.to_string()).await?);
    }
    let mut watcher = Rtm::with(a, &minted(2)).await?;
    let mut client = Rtm::with(b, &minted(1)).await?;
    for id in &ids {
        let read = json!({"command": "ws_read_notification", "channel_id": 11, "message_id": id});
        client.say(&read).await?;
    }
    client.say(&json!({"command": "ws_ping"})).await?;
    let (mut counts, mut updates, mut pongs) = (Vec::new(), 0, 0);
    while counts.len() < MESSAGES || updates < MESSAGES || pongs < 1 {
        let frame = client.hear().await?;
        match frame["event"].as_str() {
            Some("chat.unreadCountUpdate") => {
                counts.push(frame["payload"]["total_unread_count"].as_u64());
            }
            Some("chat.updateMessage") => updates += 1,
            Some("pong") => pongs += 1,
            _ => anyhow::bail!("{frame}"),
        }
    }
    let expected: Vec<_> = (0..MESSAGES as u64).rev().map(Some).collect();
    ensure!(counts == expected, "{counts:?}");
    for id in ids {
        let message = watcher.expect("chat.updateMessage").await?["message"].take();
        ensure!(message["id"] == id && message["read_user_count"] == "1");
    }
    Ok(())
}

/// K16: a member who stops reading holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_member() -> Result<()> {
    const POSTS: usize = 600;
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 4).await?;
    channel(a, 11, &[1, 2, 3, 4]).await?;
    let _stuck = [
        Raw::with(a, &minted(1)).await?,
        Raw::with(b, &minted(1)).await?,
    ];
    let mut readers = Vec::new();
    for (at, user) in [(a, 2), (b, 3), (a, 4)] {
        let mut reader = Rtm::with(at, &minted(user)).await?;
        readers.push(tokio::spawn(async move {
            let mut last = Instant::now();
            let mut longest = Duration::ZERO;
            for n in 0..POSTS {
                let message = reader.expect("chat.postMessage").await?["message"].take();
                let text = message["content"].as_str().unwrap_or_default();
                ensure!(text.starts_with(&format!("{n} ")) && text.len() > 30_000);
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            anyhow::Ok(longest)
        }));
    }
    for n in 0..POSTS {
        let text = format!("{n} {}", "x".repeat(30_000));
        post(if n % 2 == 0 { a } else { b }, 11, 2, &text).await?;
    }
    for reader in readers {
        let longest = reader.await??;
        ensure!(longest < Duration::from_secs(10), "{longest:?}");
    }
    Ok(())
}

/// M02: online once and offline once, to observers on both instances, whatever the number of
/// connections.
#[tokio::test(flavor = "multi_thread")]
async fn observers_on_both() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 3).await?;
    channel(a, 11, &[1, 2, 3]).await?;
    let mut observers = [
        Rtm::with(a, &minted(2)).await?,
        Rtm::with(b, &minted(3)).await?,
    ];
    let connections = [
        Rtm::with(a, &minted(1)).await?,
        Rtm::with(b, &minted(1)).await?,
        Rtm::with(b, &minted(1)).await?,
    ];
    drop(connections);
    for observer in &mut observers {
        for event in ["user.online", "user.offline"] {
            let frame = loop {
                let frame = observer.next().await?;
                if frame["payload"]["user"]["id"] == 1 {
                    break frame;
                }
            };
            ensure!(
                frame["event"] == event && frame["payload"]["channel_id"] == 11,
                "{frame}"
            );
        }
        let more = tokio::time::timeout(SILENCE, observer.next()).await;
        ensure!(more.is_err(), "{more:?}");
    }
    Ok(())
}

/// R: the grace hides that a page is loaded again, and no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn the_grace() -> Result<()> {
    let grace = Duration::from_millis(1_500);
    let cluster =
        cluster(|options| options.presence_grace = tidings_adapter_airsend::Span(grace)).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut watcher = Rtm::with(b, &minted(2)).await?;
    let first = Rtm::with(a, &minted(1)).await?;
    while watcher.next().await?["payload"]["user"]["id"] != 1 {}
    drop(first);
    let second = Rtm::with(b, &minted(1)).await?;
    let more = tokio::time::timeout(grace * 2, watcher.next()).await;
    ensure!(more.is_err(), "{more:?}");
    let left = Instant::now();
    drop(second);
    let frame = watcher.next().await?;
    ensure!(frame["event"] == "user.offline", "{frame}");
    ensure!(left.elapsed() >= grace / 2, "{:?}", left.elapsed());
    Ok(())
}

/// 1.8, DESIGN §5.3: nobody is a member of more channels than can be followed; what is refused is
/// not half done.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_channels() -> Result<()> {
    const CHANNELS: u64 = 500;
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    for id in 1..=CHANNELS {
        channel(a, id, &[1]).await?;
    }
    channel(a, 901, &[2]).await?;
    let mut watcher = Rtm::with(b, &minted(2)).await?;
    let mut full = Rtm::with(a, &minted(1)).await?;
    let add = json!({"channel_id": 901, "user_id": 1});
    ensure!(refused(a, "channel.add_user", add).await? == 400);
    let create = json!({"channel": {"id": 902}, "member_ids": [2, 1]});
    ensure!(refused(b, "channel.create", create.clone()).await? == 400);
    ensure!(refused(a, "message.post", post_of(902, 2, "x")).await? == 404);
    watcher.expect_nothing().await?;
    // Where he is a member already nothing is to be done; and where one goes another can come.
    op(
        a,
        "channel.add_user",
        json!({"channel_id": 7, "user_id": 1}),
    )
    .await?;
    for id in [1, CHANNELS / 2, CHANNELS] {
        post(b, id, 1, "here").await?;
        full.expect_text("here").await?;
    }
    op(
        b,
        "channel.remove_user",
        json!({"channel_id": 7, "user_id": 1, "removed_by": 1}),
    )
    .await?;
    full.expect("user_removed.channel").await?;
    op(a, "channel.create", create).await?;
    full.expect("channel.create").await?;
    watcher.expect("channel.create").await?;
    Ok(())
}

/// What was heard of each channel, in its order.
type Heard = BTreeMap<u64, Vec<String>>;

fn note(heard: &mut Heard, frame: &Value) {
    let message = &frame["payload"]["message"];
    if let (Some(channel), Some(text)) =
        (message["channel_id"].as_u64(), message["content"].as_str())
    {
        heard.entry(channel).or_default().push(text.to_owned());
    }
}

fn total(heard: &Heard) -> usize {
    heard.values().map(Vec::len).sum()
}

/// S03, S04, S06: sixteen clients are dropped fifteen times each while four publish, and come back
/// to either instance: against an observer who stays nothing is lost, doubled or reordered, and
/// nothing that was only for those who were there is heard later.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_clients_and_fifteen_drops() -> Result<()> {
    const CLIENTS: u64 = 16;
    const DROPS: usize = 15;
    const POSTS: usize = 60;
    let cluster = cluster(|_| ()).await?;
    let at = [cluster.instance(0).address(), cluster.instance(1).address()];
    people(at[0], CLIENTS + 1).await?;
    let all: Vec<u64> = (1..=CLIENTS + 1).collect();
    for id in 11..=14 {
        channel(at[0], id, &all).await?;
    }
    let mut observer = Rtm::with(at[1], &minted(CLIENTS + 1)).await?;
    let mut clients = Vec::new();
    for user in 1..=CLIENTS {
        clients.push(
            Rtm::hello(at[(user % 2) as usize], &minted(user), None)
                .await?
                .0,
        );
    }
    let publishers: Vec<_> = (0..4_u64)
        .map(|publisher| tokio::spawn(publish(at, publisher, POSTS)))
        .collect();
    let clients: Vec<_> = clients
        .into_iter()
        .zip(1_u64..)
        .map(|(client, user)| tokio::spawn(dropped(at, user, client, 4 * POSTS, DROPS)))
        .collect();
    let mut expected = Heard::new();
    while total(&expected) < 4 * POSTS {
        note(&mut expected, &observer.hear().await?);
    }
    for publisher in publishers {
        publisher.await??;
    }
    for client in clients {
        let heard = client.await??;
        ensure!(heard == expected);
    }
    Ok(())
}

async fn publish(at: [SocketAddr; 2], publisher: u64, posts: usize) -> Result<()> {
    for n in 0..posts {
        post(at[n % 2], 11 + publisher, 17, &format!("{publisher}-{n}")).await?;
    }
    Ok(())
}

/// A client that is dropped as often, evenly over all that it is to hear.
async fn dropped(
    at: [SocketAddr; 2],
    user: u64,
    mut client: Rtm,
    messages: usize,
    drops: usize,
) -> Result<Heard> {
    let (mut heard, mut dropped) = (Heard::new(), 0);
    while total(&heard) < messages {
        let frame = client.hear().await?;
        note(&mut heard, &frame);
        if dropped < drops && total(&heard) > (dropped + 1) * messages / (drops + 2) {
            dropped += 1;
            let cursor = client.cursor.clone();
            drop(client);
            let to = at[(dropped + user as usize) % 2];
            let (again, hello) = Rtm::hello(to, &minted(user), Some(&cursor)).await?;
            ensure!(hello["resumed"] == true, "{hello}");
            client = again;
        }
    }
    ensure!(dropped == drops, "{dropped}");
    client.expect_nothing().await?;
    Ok(heard)
}

/// S06: typing and presence are for those who are there.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_fleeting_is_replayed() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 3).await?;
    channel(a, 11, &[1, 2, 3]).await?;
    let (mut client, _) = Rtm::hello(a, &minted(1), None).await?;
    post(a, 11, 2, "heard").await?;
    client.expect_text("heard").await?;
    let cursor = client.cursor.clone();
    drop(client);
    let mut two = Rtm::with(b, &minted(2)).await?;
    two.say(&json!({"command": "ws_ephemeral_typing", "channel_id": 11, "cid": 1}))
        .await?;
    two.expect("system.ack").await?;
    let emit =
        json!({"event": "x", "payload": {}, "audience": {"channel_id": 11}, "retained": false});
    op(a, "event.emit", emit).await?;
    drop(Rtm::with(b, &minted(3)).await?);
    post(a, 11, 2, "missed").await?;
    let (mut client, hello) = Rtm::hello(b, &minted(1), Some(&cursor)).await?;
    ensure!(hello["resumed"] == true, "{hello}");
    // The first that is not about himself is what he missed.
    loop {
        let frame = client.next().await?;
        if frame["payload"]["user"]["id"] == 1 {
            continue;
        }
        ensure!(
            frame["payload"]["message"]["content"] == "missed",
            "{frame}"
        );
        break;
    }
    client.expect_nothing().await?;
    Ok(())
}
