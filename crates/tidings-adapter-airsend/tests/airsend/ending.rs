//! What ends a connection and what does not, to the letter (C05–C20, P, R03, R04, and 4008, 4010).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter_airsend::Span;
use tidings_testkit::adapter_exam::wire::{Message, Request, WebSocket};

use crate::common::raw::{CONTINUATION, Got, PING, PONG, Raw, TEXT};
use crate::common::*;

/// C05: success is silent, and from then on events flow.
#[tokio::test(flavor = "multi_thread")]
async fn success_is_silent() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut watcher = Rtm::with(b, &minted(2)).await?;
    let mut silent = Raw::open(a).await?;
    silent
        .say(&json!({"command": "ws_auth", "auth_token": minted(1)}))
        .await?;
    // That he is there is all that shows that it was heard.
    while watcher.next().await?["payload"]["user"]["id"] != 1 {}
    post(b, 11, 2, "first").await?;
    let mut frame = silent.json().await?;
    // He may hear of himself.
    while frame["event"] == "user.online" {
        frame = silent.json().await?;
    }
    ensure!(frame["payload"]["message"]["content"] == "first", "{frame}");
    Ok(())
}

/// C06: nothing before `ws_auth`, and the end at the deadline, not before.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline() -> Result<()> {
    let deadline = Duration::from_millis(1_200);
    let cluster = cluster(|options| options.auth_deadline = Span(deadline)).await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    channel(at, 11, &[1]).await?;
    let opened = Instant::now();
    let mut silent = Raw::open(at).await?;
    post(at, 11, 1, "nobody hears it").await?;
    silent.send(PONG, b"").await?;
    ensure!(silent.next().await? == Got::Close(4006));
    ensure!(opened.elapsed() >= deadline / 2, "{:?}", opened.elapsed());
    Ok(())
}

/// C07, C08, C09: who is not let in, and R04: nobody hears of him.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_let_in() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 2).await?;
    channel(at, 11, &[1, 2]).await?;
    let mut watcher = Rtm::with(at, &minted(2)).await?;
    let good = minted(1);
    let parts: Vec<&str> = good.split('.').collect();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let before = minted_as(1, "abcdefghijkl", "2020-01-01 00:00:00");
    let tokens = [
        json!(before),
        json!(format!("{none}.{}.", parts[1])),
        json!(format!("{none}.{}.{}", parts[1], parts[2])),
        json!(format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..])),
        json!(format!("{}.{}x.{}", parts[0], parts[1], parts[2])),
        json!("x".repeat(10_000)),
        json!(""),
        json!(null),
        json!(["x"]),
    ];
    for token in tokens {
        let mut client = Raw::open(at).await?;
        let auth = json!({"command": "ws_auth", "auth_token": token, "ack": true, "cid": 1});
        client.say(&auth).await?;
        ensure!(client.next().await? == Got::Close(4004), "{token}");
    }
    for command in [
        json!({"command": "ws_ephemeral_typing", "channel_id": 11, "cid": 1}),
        json!({"command": "ws_all_read_notification", "channel_id": 11}),
        json!({"command": "ws_ping"}),
    ] {
        let mut client = Raw::open(at).await?;
        client.say(&command).await?;
        ensure!(client.next().await? == Got::Close(4003), "{command}");
    }
    let open = Raw::open(at).await?;
    ensure!(
        tokio::time::timeout(SILENCE, not_about(&mut watcher, 2))
            .await
            .is_err()
    );
    drop(open);
    ensure!(
        tokio::time::timeout(SILENCE, not_about(&mut watcher, 2))
            .await
            .is_err()
    );
    Ok(())
}

/// The next frame that is not about this user.
async fn not_about(watcher: &mut Rtm, user: u64) -> Result<Value> {
    loop {
        let frame = watcher.next().await?;
        if frame["payload"]["user"]["id"] != user {
            return Ok(frame);
        }
    }
}

/// C13, C20 and fragments: what a message may be.
#[tokio::test(flavor = "multi_thread")]
async fn messages() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    let sized = |bytes: usize| {
        let empty = r#"{"command":"ws_ping","x":""}"#;
        empty.replace(
            "\"\"}",
            &format!("\"{}\"}}", "x".repeat(bytes - empty.len())),
        )
    };
    let mut client = Raw::with(at, &minted(1)).await?;
    client.part(false, TEXT, br#"{"command":"#).await?;
    client.send(PONG, b"in between").await?;
    client.part(true, CONTINUATION, br#""ws_ping"}"#).await?;
    ensure!(client.json().await? == json!({"event": "pong"}));
    client.send(TEXT, sized(16 * 1024).as_bytes()).await?;
    ensure!(client.json().await? == json!({"event": "pong"}));
    client.send(TEXT, sized(16 * 1024 + 1).as_bytes()).await?;
    ensure!(client.closed().await? == Got::Close(1009));
    let mut client = Raw::with(at, &minted(1)).await?;
    client.send(TEXT, b"{\"command\":\"ws_\xff\xfe\"}").await?;
    ensure!(client.closed().await? == Got::Close(1007));
    let mut client = Raw::with(at, &minted(1)).await?;
    client.send(0x2, b"{\"command\":\"ws_ping\"}").await?;
    ensure!(client.closed().await? == Got::Close(4002));
    Ok(())
}

/// C14: fields of commands that cannot be used: no event, no answer, no end.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_fields() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 2).await?;
    channel(at, 11, &[1, 2]).await?;
    let id = post(at, 11, 2, "x").await?;
    let mut watcher = Rtm::with(at, &minted(2)).await?;
    let mut client = Raw::with(at, &minted(1)).await?;
    let typing = |channel: Value| json!({"command": "ws_ephemeral_typing", "channel_id": channel});
    let read = |channel: Value, message: Value| json!({"command": "ws_read_notification", "channel_id": channel, "message_id": message});
    let react = |message: Value, emoji: Value| json!({"command": "ws_add_reaction", "message_id": message, "emoji_value": emoji});
    let variants = [
        json!({"command": "ws_ephemeral_typing"}),
        typing(json!(null)),
        typing(json!("12x")),
        typing(json!(11.5)),
        typing(json!(-11)),
        typing(json!([11])),
        typing(json!(u64::MAX)),
        json!({"command": "ws_all_read_notification", "channel_id": true}),
        json!({"command": "ws_read_notification", "channel_id": 11}),
        json!({"command": "ws_read_notification", "message_id": id}),
        read(json!({}), json!(id)),
        read(json!(11), json!("")),
        react(json!(id), json!("")),
        react(json!(id), json!("x".repeat(65))),
        react(json!(id), json!(7)),
        react(json!("0"), json!("x")),
        json!({"command": "ws_remove_reaction", "message_id": id}),
        // Without `cid` an unknown id is dropped in silence, too.
        typing(json!(99)),
        read(json!(11), json!(99)),
        react(json!(99), json!("x")),
    ];
    for command in variants {
        client.say(&command).await?;
        client.say(&json!({"command": "ws_ping"})).await?;
        let mut frame = client.json().await?;
        if frame["event"] == "user.online" {
            frame = client.json().await?;
        }
        ensure!(frame == json!({"event": "pong"}), "{command}: {frame}");
    }
    watcher.expect_nothing().await?;
    Ok(())
}

/// 1.8: a flood ends with 4008; whoever sends in bursts and then rests does not.
#[tokio::test(flavor = "multi_thread")]
async fn floods() -> Result<()> {
    let cluster = cluster(|options| {
        options.command_burst = 50;
        options.commands_per_second = 5;
    })
    .await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    let mut client = Raw::with(at, &minted(1)).await?;
    for _ in 0..45 {
        client.say(&json!({"command": "ws_ping"})).await?;
        ensure!(client.json().await? == json!({"event": "pong"}));
    }
    let mut flood = Raw::with(at, &minted(1)).await?;
    for n in 0..200 {
        let typing = json!({"command": "ws_ephemeral_typing", "channel_id": 11, "cid": n});
        if flood.say(&typing).await.is_err() {
            break; // closed before all of it was sent
        }
    }
    let end = flood.closed().await?;
    // What a flood still sends may reset the connection over the close.
    ensure!(matches!(end, Got::Close(4008) | Got::Gone), "{end:?}");
    client.say(&json!({"command": "ws_ping"})).await?;
    ensure!(client.json().await? == json!({"event": "pong"}));
    Ok(())
}

/// 1.8: a client that takes nothing is closed with 4010, and is offline.
#[tokio::test(flavor = "multi_thread")]
async fn too_slow() -> Result<()> {
    let cluster = cluster(|options| options.write_stall = Span(Duration::from_millis(500))).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut watcher = Rtm::with(b, &minted(2)).await?;
    let mut stuck = Raw::with(a, &minted(1)).await?;
    for n in 0..60 {
        post(b, 11, 2, &format!("{n} {}", "x".repeat(30_000))).await?;
    }
    loop {
        let frame = watcher.next().await?;
        if frame["event"] == "user.offline" && frame["payload"]["user"]["id"] == 1 {
            break;
        }
    }
    ensure!(stuck.closed().await? == Got::Close(4010));
    Ok(())
}

/// P01, P04, R03: pings come in time, a client that answers lives, and one that is reset is gone.
#[tokio::test(flavor = "multi_thread")]
async fn pings() -> Result<()> {
    let interval = Duration::from_millis(800);
    let cluster = cluster(|options| options.ping = Span(interval)).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    let mut watcher = Rtm::with(b, &minted(2)).await?;
    let mut client = Raw::with(a, &minted(1)).await?;
    while not_about(&mut watcher, 2).await?["event"] != "user.online" {}
    let watching = tokio::spawn(async move {
        let gone = not_about(&mut watcher, 2).await;
        (watcher, gone)
    });
    client.send(PING, b"the same").await?;
    let mut last: Option<Instant> = None;
    let (mut intervals, mut answered) = (0, false);
    while intervals < 4 || !answered {
        match client.next().await? {
            Got::Frame(PING, payload) => {
                if let Some(last) = last {
                    let passed = last.elapsed();
                    let off = passed.abs_diff(interval);
                    ensure!(off < interval.mul_f64(0.3), "{passed:?}");
                    intervals += 1;
                }
                last = Some(Instant::now());
                client.send(PONG, &payload).await?;
            }
            Got::Frame(PONG, payload) => {
                ensure!(payload == b"the same");
                answered = true;
            }
            Got::Frame(..) => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    ensure!(!watching.is_finished(), "somebody came or went");
    client.reset()?;
    let (_, gone) = watching.await?;
    let gone = gone?;
    ensure!(
        gone["event"] == "user.offline" && gone["payload"]["user"]["id"] == 1,
        "{gone}"
    );
    Ok(())
}

/// P02, P03: without pongs it ends within an interval of the ping, whatever else is said.
#[tokio::test(flavor = "multi_thread")]
async fn no_pongs() -> Result<()> {
    let interval = Duration::from_millis(700);
    let cluster = cluster(|options| options.ping = Span(interval)).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 2).await?;
    channel(a, 11, &[1, 2]).await?;
    // Always read: who does not read does not answer pings.
    let mut watcher = Rtm::with(b, &minted(2)).await?;
    let (told, mut heard) = tokio::sync::mpsc::channel(1_000);
    tokio::spawn(async move {
        while let Ok(frame) = watcher.next().await
            && told.send(frame).await.is_ok()
        {}
    });
    for talks in [false, true] {
        let mut client = Raw::with(a, &minted(1)).await?;
        let mut pinged = None;
        let end = loop {
            match client.next().await? {
                Got::Frame(PING, _) => {
                    pinged = Some(Instant::now());
                    if talks {
                        client.say(&json!({"command": "ws_ping"})).await?;
                    }
                }
                Got::Frame(..) => {}
                end => break end,
            }
        };
        ensure!(end == Got::Close(4011), "{end:?}");
        let after = pinged.map_or(Duration::MAX, |pinged| pinged.elapsed());
        ensure!(after < interval.mul_f64(1.5), "{after:?}");
        let gone = async {
            loop {
                let frame = heard.recv().await;
                let frame = frame.context("the watcher is gone")?;
                if frame["event"] == "user.offline" && frame["payload"]["user"]["id"] == 1 {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(SOON, gone).await??;
    }
    Ok(())
}

/// 1.8: one connection more than a user may have closes his oldest one, on whichever instance.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_too_many() -> Result<()> {
    let cluster = cluster(|options| options.connections_per_user = 2).await?;
    let (a, b) = (cluster.instance(0).address(), cluster.instance(1).address());
    people(a, 1).await?;
    let mut first = Rtm::with(a, &minted(1)).await?;
    let mut second = Rtm::with(b, &minted(1)).await?;
    let _third = Rtm::with(b, &minted(1)).await?;
    ensure!(first.expect_close().await? == 4005);
    second.say(&json!({"command": "ws_ping"})).await?;
    ensure!(second.next().await? == json!({"event": "pong"}));
    Ok(())
}

/// Origins: browsers' pages of others are turned away; who is no browser sends none.
#[tokio::test(flavor = "multi_thread")]
async fn origins() -> Result<()> {
    let cluster = cluster(|options| options.origins = vec!["https://app.example".into()]).await?;
    let at = cluster.instance(0).address();
    for (origin, welcome) in [
        (None, true),
        (Some("https://app.example"), true),
        (Some("https://other.example"), false),
        (Some("null"), false),
    ] {
        let mut request = Request::get("/");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        match WebSocket::open(at, &request).await? {
            Ok(_) => ensure!(welcome, "{origin:?}"),
            Err(answer) => ensure!(!welcome && answer.status == 403, "{origin:?}"),
        }
    }
    Ok(())
}

/// 1.3: a refresh with `ack` is told so, and nothing of it shows elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_says_hello() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    people(at, 1).await?;
    channel(at, 11, &[1]).await?;
    let (mut client, first) = Rtm::hello(at, &minted(1), None).await?;
    post(at, 11, 1, "before").await?;
    client.expect_text("before").await?;
    let auth = json!({"command": "ws_auth", "auth_token": minted(1), "ack": true, "cid": "r"});
    client.raw(Message::Text(auth.to_string())).await?;
    let again = client.expect("system.hello").await?;
    ensure!(
        again["connection_id"] == first["connection_id"]
            && again["last_event_id"] == client.cursor.as_str(),
        "{again}"
    );
    ensure!(client.expect("system.ack").await? == json!({"cid": "r", "ok": true}));
    post(at, 11, 1, "after").await?;
    client.expect_text("after").await?;
    Ok(())
}
