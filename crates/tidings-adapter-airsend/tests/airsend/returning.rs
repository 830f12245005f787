//! Resuming, presence, pings and killed instances (S, R, P, F).

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::jwt::Unverified;
use tidings_adapter_airsend::Span;
use tidings_testkit::adapter_exam::{Cluster, Fault, Logs, Setup};

use crate::common::*;

/// S01, S02, S04, S05, S07: coming back.
#[tokio::test(flavor = "multi_thread")]
async fn resuming() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 2).await?;
    for id in 11..=30 {
        channel(a, id, &[1, 2]).await?;
    }
    let token = ws_token(a, 1).await?;
    let (mut client, hello) = Rtm::hello(a, &token, None).await?;
    ensure!(
        hello["gap"] == false && hello["user_id"] == 1 && hello["ping_interval_s"] == 25,
        "{hello}"
    );
    post(a, 11, 2, "heard").await?;
    client.expect_text("heard").await?;
    let cursor = client.cursor.clone();
    drop(client);
    for id in 11..=30 {
        post(b, id, 2, &format!("missed {id}")).await?;
    }
    op(
        a,
        "channel.remove_user",
        json!({"channel_id": 12, "user_id": 1, "removed_by": 2}),
    )
    .await?;
    channel(b, 31, &[1, 2]).await?;
    post(b, 12, 2, "not his any more").await?;
    post(b, 31, 2, "new").await?;
    // From the same place twice, on either instance.
    for at in [b, a] {
        let (mut client, hello) = Rtm::hello(at, &ws_token(at, 1).await?, Some(&cursor)).await?;
        ensure!(hello["resumed"] == true && hello["gap"] == false, "{hello}");
        let mut heard: Vec<String> = Vec::new();
        while heard.len() < 23 {
            let frame = client.hear().await?;
            heard.push(match frame["event"].as_str() {
                Some("chat.postMessage") => frame["payload"]["message"]["content"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                other => other.unwrap_or_default().to_owned(),
            });
        }
        client.expect_nothing().await?;
        let mut expected: Vec<String> = (11..=30).map(|id| format!("missed {id}")).collect();
        expected.extend(["user_removed.channel", "channel.create", "new"].map(str::to_owned));
        heard.sort();
        expected.sort();
        ensure!(heard == expected, "{heard:?}");
        post(a, 31, 2, "live").await?;
        client.expect_text("live").await?;
        let (mut level, hello) =
            Rtm::hello(b, &ws_token(b, 1).await?, Some(&client.cursor)).await?;
        ensure!(hello["resumed"] == true, "{hello}");
        level.expect_nothing().await?;
        // The other client of this round is level with `live`, too: leave both behind.
        let cursor_now = level.cursor.clone();
        ensure!(!cursor_now.is_empty());
        op(
            a,
            "message.post",
            json!({"message": {"channel_id": 31, "user_id": 2, "content": "last"}}),
        )
        .await?;
        client.expect_text("last").await?;
        level.expect_text("last").await?;
        if at == b {
            // The second round's client hears these as well.
            op(
                a,
                "channel.remove_user",
                json!({"channel_id": 31, "user_id": 1, "removed_by": 2}),
            )
            .await?;
            client.expect("user_removed.channel").await?;
            break;
        }
    }
    for bad in ["", "junk", "AAAA", &cursor[1..]] {
        let (mut client, hello) = Rtm::hello(b, &ws_token(b, 1).await?, Some(bad)).await?;
        ensure!(hello["resumed"] == false && hello["gap"] == true, "{hello}");
        post(a, 11, 2, "after a gap").await?;
        client.expect_text("after a gap").await?;
    }
    Ok(())
}

/// S08: who comes back after the retention is told of the gap, and served from then on.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_retention() -> Result<()> {
    let setup = Setup {
        logs: Logs::from_env(),
        retention: Duration::from_secs(3),
        ..Setup::default()
    };
    let cluster = Cluster::start(|| Box::new(adapter(|_| ())), setup).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let (mut client, hello) = Rtm::hello(a, &minted(1), None).await?;
    ensure!(hello["retention_s"] == 3, "{hello}");
    post(a, 11, 2, "heard").await?;
    client.expect_text("heard").await?;
    let cursor = client.cursor.clone();
    drop(client);
    post(a, 11, 2, "missed").await?;
    cluster.pass(cluster.retention() * 2).await;
    post(a, 11, 2, "missed, too").await?;
    let (mut client, hello) = Rtm::hello(b, &minted(1), Some(&cursor)).await?;
    ensure!(hello["resumed"] == false && hello["gap"] == true, "{hello}");
    post(b, 11, 2, "live").await?;
    client.expect_text("live").await?;
    Ok(())
}

/// R01–R03: presence.
#[tokio::test(flavor = "multi_thread")]
async fn presence() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    channel(a, 12, &[1, 2]).await?;
    let mut watcher = Rtm::user(b, 2).await?;
    let about_one = async |watcher: &mut Rtm, event: &str| -> Result<()> {
        let mut channels = Vec::new();
        while channels.len() < 2 {
            let frame = watcher.next().await?;
            if frame["payload"]["user"]["id"] == 1 {
                ensure!(frame["event"] == event, "{frame}");
                ensure!(frame["payload"]["user"]["online_status"] == (event == "user.online"));
                channels.push(frame["payload"]["channel_id"].as_u64());
            }
        }
        channels.sort();
        ensure!(channels == [Some(11), Some(12)]);
        Ok(())
    };
    let first = Rtm::user(a, 1).await?;
    about_one(&mut watcher, "user.online").await?;
    let second = Rtm::user(b, 1).await?;
    drop(first);
    post(a, 11, 1, "still").await?;
    ensure!(watcher.next().await?["event"] == "chat.postMessage");
    drop(second);
    about_one(&mut watcher, "user.offline").await?;
    let third = Rtm::user(b, 1).await?;
    about_one(&mut watcher, "user.online").await?;
    drop(third);
    about_one(&mut watcher, "user.offline").await?;
    Ok(())
}

/// P01–P04, C21: pings, pongs, and a token that expires.
#[tokio::test(flavor = "multi_thread")]
async fn pings_and_expiry() -> Result<()> {
    let cluster = cluster(|options| {
        options.ping = Span(Duration::from_millis(300));
        options.login_lifetime = Span(Duration::from_secs(3));
    })
    .await?;
    let at = cluster.instance(0).address();
    users(at, 1).await?;
    // The library answers pings by itself as long as it is read.
    let mut client = Rtm::user(at, 1).await?;
    ensure!(client.expect_close().await? == 4009);
    // Who does not read does not answer, whatever he says.
    let mut deaf = Rtm::user(at, 1).await?;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        deaf.say(&json!({"command": "ws_ping"})).await.ok();
    }
    ensure!(deaf.expect_close().await? == 4011);
    Ok(())
}

/// C21: a token that ends ends its connection then, and within an interval of the pings.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_in_time() -> Result<()> {
    let interval = Duration::from_secs(8);
    let cluster = cluster(|options| {
        options.ping = Span(interval);
        options.login_lifetime = Span(Duration::from_secs(5));
    })
    .await?;
    let at = cluster.instance(0).address();
    users(at, 1).await?;
    let token = ws_token(at, 1).await?;
    let claims = Unverified::parse(&token, 8192)?.claims().clone();
    let expiry = claims["expiry"].as_str().context("expiry")?;
    let (_, ends) = expiry.split_once(' ').context("a day and a time")?;
    let mut ends_s = 0;
    for part in ends.split(':') {
        ends_s = ends_s * 60 + part.parse::<u128>()?;
    }
    let mut client = Rtm::with(at, &token).await?;
    ensure!(client.expect_close().await? == 4009);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    // By the time of day; had it been closed too early, this would be nearly a day.
    let day = 86_400_000;
    let after = (now.as_millis() % day + day - ends_s * 1000) % day;
    ensure!(after <= interval.as_millis(), "{after} ms");
    Ok(())
}

/// R02, F04: who goes while the log is away is offline when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_the_log_is_away_is_gone() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut watcher = Rtm::with(b, &minted(2)).await?;
    let goes = Rtm::with(a, &minted(1)).await?;
    while watcher.next().await?["payload"]["user"]["id"] != 1 {}
    cluster.fault(Fault::Away);
    drop(goes);
    // What it said last has come to nothing by then.
    ensure!(tokio::time::timeout(SILENCE, watcher.next()).await.is_err());
    cluster.fault(Fault::None);
    let frame = watcher.next().await?;
    ensure!(
        frame["event"] == "user.offline" && frame["payload"]["user"]["id"] == 1,
        "{frame}"
    );
    Ok(())
}

/// K14: many react and read at once, over both instances.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 13).await?;
    channel(a, 11, &(1..=13).collect::<Vec<_>>()).await?;
    let mut watcher = Rtm::user(a, 13).await?;
    let id = post(a, 11, 13, "read me").await?;
    watcher.expect_text("read me").await?;
    let mut clients = Vec::new();
    for user in 1..=12 {
        clients.push(Rtm::user(if user % 2 == 0 { a } else { b }, user).await?);
    }
    for client in &mut clients {
        client
            .say(&json!({"command": "ws_add_reaction", "message_id": id, "emoji_value": "x"}))
            .await?;
        client
            .say(&json!({"command": "ws_read_notification", "channel_id": 11, "message_id": id}))
            .await?;
    }
    let (mut size, mut updates) = (0, 0);
    while updates < 24 {
        let frame = watcher.hear().await?;
        if frame["event"] == "chat.updateMessage" {
            let message = &frame["payload"]["message"];
            let of = |name: &str| message[name].as_array().map_or(0, Vec::len);
            let now = of("emoticons") + of("read_users");
            ensure!(now == size + 1, "{message}");
            (size, updates) = (now, updates + 1);
        }
    }
    Ok(())
}

/// F01, F02: an instance is killed; who was only there goes offline, once for each channel.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_killed() -> Result<()> {
    let mut cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    users(a, 4).await?;
    channel(a, 11, &[1, 2, 3, 4]).await?;
    let mut watcher = Rtm::user(a, 1).await?;
    // Two is only there, three on both, four comes back in time.
    let _two = Rtm::user(b, 2).await?;
    let (mut three, _three) = (Rtm::user(a, 3).await?, Rtm::user(b, 3).await?);
    let four = Rtm::user(b, 4).await?;
    let mut online = std::collections::BTreeSet::new();
    while online.len() < 3 {
        let frame = watcher.next().await?;
        online.extend(frame["payload"]["user"]["id"].as_u64().filter(|id| *id > 1));
    }
    cluster.kill(1);
    post(a, 11, 1, "missed").await?;
    let (mut four, hello) = Rtm::hello(a, &ws_token(a, 4).await?, Some(&four.cursor)).await?;
    ensure!(hello["resumed"] == true, "{hello}");
    four.expect_text("missed").await?;
    watcher.expect_text("missed").await?;
    three.expect_text("missed").await?;
    let frame = watcher.next().await?;
    ensure!(
        frame["event"] == "user.offline" && frame["payload"]["user"]["id"] == 2,
        "{frame}"
    );
    four.expect_nothing().await?;
    ensure!(tokio::time::timeout(SILENCE, watcher.next()).await.is_err());
    drop(four);
    let frame = watcher.next().await?;
    ensure!(
        frame["event"] == "user.offline" && frame["payload"]["user"]["id"] == 4,
        "{frame}"
    );
    Ok(())
}

/// S03, S04, S06: drops while four publish; per channel nothing lost, doubled or reordered.
#[tokio::test(flavor = "multi_thread")]
async fn drops_under_load() -> Result<()> {
    const POSTS: usize = 60;
    let cluster = cluster(|options| options.connects_per_minute = 1_000).await?;
    let at = [cluster.instance(0).address(), cluster.instance(1).address()];
    users(at[0], 2).await?;
    for id in 11..=14 {
        channel(at[0], id, &[1, 2]).await?;
    }
    let token = ws_token(at[0], 1).await?;
    let mut observer = Rtm::user(at[1], 2).await?;
    let (mut client, _) = Rtm::hello(at[0], &token, None).await?;
    let publishers = (0..4_u64).map(|publisher| {
        tokio::spawn(async move {
            for n in 0..POSTS {
                let text = format!("{publisher}-{n}");
                post(at[n % 2], 11 + publisher, 2, &text).await?;
            }
            anyhow::Ok(())
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut heard: [Vec<Vec<String>>; 2] = [vec![Vec::new(); 4], vec![Vec::new(); 4]];
    let note = |heard: &mut Vec<Vec<String>>, frame: &Value| {
        if frame["event"] == "chat.postMessage" {
            let channel = frame["payload"]["message"]["channel_id"]
                .as_u64()
                .unwrap_or(11);
            let text = frame["payload"]["message"]["content"]
                .as_str()
                .unwrap_or_default();
            heard[(channel - 11) as usize].push(text.to_owned());
        }
    };
    let total = |heard: &Vec<Vec<String>>| heard.iter().map(Vec::len).sum::<usize>();
    let mut drops = 0;
    while total(&heard[0]) < 4 * POSTS {
        let frame = client.hear().await?;
        note(&mut heard[0], &frame);
        if drops < 15 && total(&heard[0]) > 12 * (drops + 1) {
            drops += 1;
            let (again, hello) = Rtm::hello(at[drops % 2], &token, Some(&client.cursor)).await?;
            ensure!(hello["resumed"] == true, "{hello}");
            client = again;
        }
    }
    ensure!(drops == 15);
    while total(&heard[1]) < 4 * POSTS {
        let frame = observer.hear().await?;
        note(&mut heard[1], &frame);
    }
    for publisher in publishers {
        publisher.await??;
    }
    ensure!(heard[0] == heard[1]);
    client.expect_nothing().await?;
    Ok(())
}

/// R05: racing connects and disconnects; online and offline alternate, the last one is true.
#[tokio::test(flavor = "multi_thread")]
async fn racing_presence() -> Result<()> {
    let cluster = cluster(|options| options.connects_per_minute = 1_000).await?;
    let at = [cluster.instance(0).address(), cluster.instance(1).address()];
    users(at[0], 2).await?;
    channel(at[0], 11, &[1, 2]).await?;
    let mut watcher = Rtm::user(at[0], 2).await?;
    let mut tokens = Vec::new();
    for _ in 0..16 {
        tokens.push(ws_token(at[0], 1).await?);
    }
    let racers = tokens.into_iter().enumerate().map(|(n, token)| {
        tokio::spawn(async move {
            for round in 0..3 {
                let (client, _) = Rtm::hello(at[(n + round) % 2], &token, None).await?;
                drop(client);
            }
            anyhow::Ok(())
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await??;
    }
    let last = Rtm::user(at[1], 1).await?;
    drop(last);
    let mut states: Vec<bool> = Vec::new();
    while let Ok(frame) = tokio::time::timeout(Duration::from_secs(2), watcher.next()).await {
        let user = &frame?["payload"]["user"];
        if user["id"] == 1 {
            states.push(user["online_status"] == true);
        }
    }
    ensure!(
        states.first() == Some(&true) && states.last() == Some(&false),
        "{states:?}"
    );
    ensure!(
        states.windows(2).all(|pair| pair[0] != pair[1]),
        "{states:?}"
    );
    Ok(())
}
