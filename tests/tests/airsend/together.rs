//! M01–M07, K14, R05: two instances are one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tidings_testkit::servers::RedisServer;
use tokio::time::timeout;

use crate::backend::{Backend, USUAL};
use crate::client::Rtm;

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_are_one() -> Result<()> {
    let redis = RedisServer::start().await?;
    let backend = Backend::start(&redis.url(), USUAL).await?;
    let done = one(&backend).await;
    done.with_context(|| backend.printed())
}

async fn one(backend: &Backend) -> Result<()> {
    backend.users(60).await?;
    tokio::try_join!(
        conversation(backend),
        many_at_once(backend),
        races(backend, 30, 31),
        same_order(backend),
    )?;
    Ok(())
}

/// M01–M06, in one conversation of users 1 to 4.
async fn conversation(backend: &Backend) -> Result<()> {
    backend.channel(11, &[1, 2, 3]).await?;
    // M01: a token of one is good on the other.
    let (mut ann, hello) = {
        let token = backend.token(0, 1).await?;
        Rtm::hello(backend, 1, 1, &token, None).await?
    };
    ensure!(hello["user_id"] == 1, "{hello}");
    let mut watchers = [
        Rtm::watcher(backend, 0, 3, &[11]).await?,
        Rtm::user(backend, 1, 3).await?,
    ];
    ann.expect_text("ready").await?;
    for at in [0, 1] {
        let text = format!("posted on {at}");
        backend.post(at, 11, 1, &text).await?;
        ann.expect_text(&text).await?;
        for watcher in &mut watchers {
            watcher.expect_text(&text).await?;
        }
    }
    // M02: online once, offline once.
    let mut bob = [
        Rtm::user(backend, 0, 2).await?,
        Rtm::user(backend, 1, 2).await?,
    ];
    for watcher in &mut watchers {
        let online = watcher.presence(2, 1).await?;
        ensure!(online[0].0);
    }
    // M03: one throttle.
    for client in &mut bob {
        for _ in 0..8 {
            let typing = json!({"command": "ws_ephemeral_typing", "channel_id": 11});
            client.say(&typing).await?;
        }
    }
    for client in watchers.iter_mut().chain([&mut ann]) {
        let typing = client.expect("chat.userTyping").await?;
        ensure!(
            typing["user"]["id"] == 2 && typing["channel_id"] == 11,
            "{typing}"
        );
        client.expect_nothing().await?;
    }
    for client in &mut bob {
        client.expect_nothing().await?;
    }
    // M04: read on one, seen on the other, counted on both.
    let message = backend.post(0, 11, 1, "read me").await?;
    for client in bob.iter_mut().chain(&mut watchers).chain([&mut ann]) {
        client.expect_text("read me").await?;
    }
    let read =
        json!({"command": "ws_read_notification", "channel_id": "11", "message_id": message});
    bob[1].say(&read).await?;
    for client in bob.iter_mut().chain(&mut watchers).chain([&mut ann]) {
        let read = client.expect("chat.updateMessage").await?["message"].take();
        ensure!(
            read["read_users"][0]["user_id"] == 2 && read["read_user_count"] == "1",
            "{read}"
        );
    }
    for client in &mut bob {
        let count = client.expect("chat.unreadCountUpdate").await?;
        // Three before it were never read.
        ensure!(count["channel_unread_count"] == 3, "{count}");
    }
    ann.expect_nothing().await?;
    // M05: the newest of one token wins, wherever it is.
    let token = backend.token(0, 2).await?;
    let (mut older, _) = Rtm::hello(backend, 0, 2, &token, None).await?;
    let (mut newer, _) = Rtm::hello(backend, 1, 2, &token, None).await?;
    ensure!(older.closed().await?.0 == 4005);
    backend.post(0, 11, 1, "to the newer").await?;
    for client in bob
        .iter_mut()
        .chain(&mut watchers)
        .chain([&mut ann, &mut newer])
    {
        client.expect_text("to the newer").await?;
    }
    newer.leave().await?;
    for client in bob {
        client.leave().await?;
    }
    for watcher in &mut watchers {
        let presence = watcher.presence(2, 2).await?;
        ensure!(!presence[1].0, "{presence:?}");
    }
    // M06: who is added on one hears and acts on the other at once, and no more when removed.
    let mut dan = Rtm::user(backend, 1, 4).await?;
    let change = json!({"channel_id": 11, "user_id": 4, "removed_by": 1});
    backend.op(0, "channel.add_user", change.clone()).await?;
    backend.post(0, 11, 1, "welcome").await?;
    for client in watchers.iter_mut().chain([&mut ann, &mut dan]) {
        let added = client.expect("user_added.channel").await?;
        ensure!(added["user"]["id"] == 4, "{added}");
        let members = client.expect("channel.update").await?["channel"]["members"].take();
        ensure!(
            members.as_array().is_some_and(|all| all.len() == 4),
            "{members}"
        );
        client.expect_text("welcome").await?;
    }
    backend.op(1, "channel.remove_user", change).await?;
    backend.post(1, 11, 1, "among us").await?;
    let typing = json!({"command": "ws_ephemeral_typing", "channel_id": 11, "cid": "t"});
    dan.say(&typing).await?;
    let mut heard = Vec::new();
    for _ in 0..2 {
        // The answer is his connection's, the event the channel's: in whichever order.
        heard.push(dan.hear().await?);
    }
    let of = |name: &str| heard.iter().find(|frame| frame["event"] == name);
    ensure!(of("user_removed.channel").is_some(), "{heard:?}");
    let refused = of("system.ack").context("an answer")?;
    ensure!(
        refused["payload"]["error"]["code"] == "not_member",
        "{refused}"
    );
    dan.expect_nothing().await?;
    for client in watchers.iter_mut().chain([&mut ann]) {
        client.expect("user_removed.channel").await?;
        client.expect("channel.update").await?;
        client.expect_text("among us").await?;
        client.expect_nothing().await?;
    }
    Ok(())
}

/// K14: 12 react and read at once over both.
async fn many_at_once(backend: &Backend) -> Result<()> {
    let users: Vec<u64> = (10..=22).collect();
    backend.channel(12, &users).await?;
    let mut watchers = [
        Rtm::user(backend, 0, 22).await?,
        Rtm::user(backend, 1, 22).await?,
    ];
    let clients = (10..22).map(|user| Rtm::user(backend, user as usize % 2, user));
    let clients = try_join_all(clients).await?;
    let message = backend.post(0, 12, 22, "all of you").await?;
    let acting = clients.into_iter().map(async |mut client| {
        client.expect_text("all of you").await?;
        let react = json!({"command": "ws_add_reaction", "message_id": message, "emoji_value": "U 1F600", "cid": 1});
        let read = json!({"command": "ws_read_notification", "channel_id": 12, "message_id": message, "cid": 2});
        client.say(&react).await?;
        client.say(&read).await?;
        let mut done = 0;
        while done < 2 {
            let frame = client.hear().await?;
            if frame["event"] == "system.ack" {
                ensure!(frame["payload"]["ok"] == true, "{frame}");
                done += 1;
            }
        }
        Ok(client)
    });
    let _clients = try_join_all(acting).await?;
    let mut last: Option<Vec<Value>> = None;
    for watcher in &mut watchers {
        watcher.expect_text("all of you").await?;
        let (mut updates, mut alerts) = (Vec::new(), 0);
        while updates.len() < 24 || alerts < 12 {
            let frame = watcher.hear().await?;
            match frame["event"].as_str() {
                Some("chat.updateMessage") => updates.push(frame["payload"]["message"].clone()),
                Some("alert.notification") => alerts += 1,
                _ => anyhow::bail!("{frame}"),
            }
        }
        let length = |message: &Value, list: &str| message[list].as_array().map_or(0, Vec::len);
        let mut before = [0, 0];
        for update in &updates {
            let now = [length(update, "emoticons"), length(update, "read_users")];
            // One more of one of them.
            ensure!(
                now.iter().sum::<usize>() == before.iter().sum::<usize>() + 1,
                "{update}"
            );
            ensure!(
                now.iter().zip(before).all(|(now, before)| *now >= before),
                "{update}"
            );
            ensure!(update["read_user_count"] == now[1].to_string(), "{update}");
            before = now;
        }
        ensure!(before == [12, 12]);
        let same = last.get_or_insert_with(|| updates.clone());
        ensure!(*same == updates, "the two instances differ");
        watcher.expect_nothing().await?;
    }
    Ok(())
}

/// R05: 16 clients of a user come and go over both; what is told alternates, and the last is true.
async fn races(backend: &Backend, user: u64, watcher: u64) -> Result<()> {
    backend.channel(13, &[user, watcher]).await?;
    let mut watchers = [
        Rtm::watcher(backend, 0, watcher, &[13]).await?,
        Rtm::watcher(backend, 1, watcher, &[13]).await?,
    ];
    for stays in [false, true] {
        let racing = (0..16).map(async |racer: usize| {
            let mut left = None;
            for round in 0..3 {
                let at = (racer + round) % 2;
                let client = Rtm::user(backend, at, user).await?;
                match (racer + round) % 3 {
                    0 => client.leave().await?,
                    // Without a goodbye.
                    1 => drop(client),
                    _ => left = Some(client),
                }
            }
            anyhow::Ok(left.filter(|_| stays && racer == 7))
        });
        let last = try_join_all(racing).await?;
        let is_there = last.iter().any(Option::is_some);
        ensure!(is_there == stays, "the seventh stays");
        for watching in &mut watchers {
            // What comes last is true; then nothing comes any more.
            loop {
                let heard = watching.presence_of(user).len();
                let more = watching.presence_more(user, heard);
                if timeout(Duration::from_secs(2), more).await.is_err() {
                    break;
                }
            }
            let heard = watching.presence_of(user);
            let alternates = heard.windows(2).all(|pair| pair[0].0 != pair[1].0);
            ensure!(
                alternates && heard.first().is_some_and(|first| first.0),
                "{heard:?}"
            );
            ensure!(
                heard.last().is_some_and(|last| last.0 == stays),
                "{stays}: {heard:?}"
            );
        }
    }
    Ok(())
}

/// M07: posts by both instances at once come in one order.
async fn same_order(backend: &Backend) -> Result<()> {
    const POSTS: usize = 60;
    backend.channel(14, &[50, 51]).await?;
    let mut clients = [
        Rtm::user(backend, 0, 50).await?,
        Rtm::user(backend, 1, 51).await?,
    ];
    let posting = [0, 1].map(async |at: usize| {
        for n in (at..POSTS).step_by(2) {
            backend.post(at, 14, 50, &n.to_string()).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(posting).await?;
    let mut orders = Vec::new();
    for client in &mut clients {
        let mut order = Vec::new();
        for _ in 0..POSTS {
            let message = client.expect("chat.postMessage").await?["message"].take();
            let text = message["content"].as_str().context("text")?;
            order.push(text.parse::<usize>()?);
        }
        orders.push(order);
    }
    ensure!(orders[0] == orders[1], "{orders:?}");
    for at in [0, 1] {
        // Each instance's own are in the order in which they were answered.
        let own: Vec<usize> = orders[0].iter().copied().filter(|n| n % 2 == at).collect();
        ensure!(own == (at..POSTS).step_by(2).collect::<Vec<_>>(), "{own:?}");
    }
    Ok(())
}
