//! Delivery over real sockets, on two instances: pings, history, acks, slow clients.

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::*;
use serde_json::{Value, json};
use tidings_adapter_zaikio::ZaikioOptions;
use tidings_testkit::adapter_exam::Logs;
use tidings_testkit::adapter_exam::wire::{Frame, Message};
use uuid::Uuid;

const EXTENDED: &str = "actioncable-v1-ext-json";

fn acking(events: &str, consumer: &str) -> String {
    json!({"channel": "EventChannel", "events": events, "ack": true, "consumer": consumer})
        .to_string()
}

/// D1: every 3 s, whatever else is sent.
#[tokio::test(flavor = "multi_thread")]
async fn pings_come_while_events_do() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let at = cluster.instance(0).address();
    let mut cable = Cable::connect(at, &token("ping"), "").await?;
    let welcomed = tokio::time::Instant::now();
    cable.subscribe(&identifier("exam.said")).await?;
    let publishing = async {
        for number in 0..160 {
            publish(at, "ping", "exam.said", &number.to_string()).await?;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        anyhow::Ok(())
    };
    let listening = async {
        let mut pings = Vec::new();
        while pings.len() < 3 {
            if let Frame::Message(Message::Text(text)) = cable.frame().await? {
                let frame: Value = serde_json::from_str(&text)?;
                if frame["type"] == "ping" {
                    ensure!(frame.as_object().is_some_and(|ping| ping.len() == 2));
                    let said = frame["message"].as_u64().unwrap_or_default();
                    ensure!(said.abs_diff(unix()) <= 2, "{text}");
                    pings.push(welcomed.elapsed());
                }
            }
        }
        anyhow::Ok(pings)
    };
    let (_, pings) = tokio::try_join!(publishing, listening)?;
    for (number, at) in (1_u32..).zip(&pings) {
        let due = Duration::from_secs(3) * number;
        ensure!(at.abs_diff(due) < Duration::from_millis(1_500), "{pings:?}");
    }
    Ok(())
}

/// B10–B13, G8: organisations apart; rewinding by time and by id, on either instance.
#[tokio::test(flavor = "multi_thread")]
async fn rewinding_in_the_base_protocol() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let first = publish(one, "tape", "exam.said", "0").await?;
    publish(one, "elsewhere", "exam.said", "not yours").await?;
    for text in ["1", "2", "3"] {
        publish(one, "tape", "exam.said", text).await?;
    }
    publish(two, "tape", "exam.done", "another name").await?;
    let mut cable = Cable::connect(two, &token("tape"), "actioncable-v1-json").await?;
    let i = identifier("exam.said");
    cable.subscribe(&i).await?;
    let confirm = json!({"identifier": i, "type": "confirm_history"});
    let perform =
        |data: Value| json!({"command": "message", "identifier": i, "data": data.to_string()});
    cable
        .say(&perform(
            json!({"action": "rewind", "after": first.to_string()}),
        ))
        .await?;
    cable.expect_texts(&["1", "2", "3"]).await?;
    cable.expect(&confirm).await?;
    cable
        .say(&perform(
            json!({"action": "history", "since": "2023-07-23T22:00:00Z"}),
        ))
        .await?;
    cable.expect_texts(&["0", "1", "2", "3"]).await?;
    cable.expect(&confirm).await?;
    cable
        .say(&perform(
            json!({"action": "rewind", "id": Uuid::new_v4().to_string()}),
        ))
        .await?;
    let reason = "unknown_position";
    cable
        .expect(&json!({"identifier": i, "type": "reject_history", "reason": reason}))
        .await?;
    publish(one, "tape", "exam.said", "live").await?;
    cable.expect_texts(&["live"]).await?;
    Ok(())
}

/// H1, H4, H5, H8: killed, and back on the other instance; then the first instance is killed too.
#[tokio::test(flavor = "multi_thread")]
async fn acks_survive_their_client_and_their_instance() -> Result<()> {
    let mut cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let token = token("acks");
    let (i, j) = (
        acking("exam.said", "worker"),
        acking("exam.said", "auditor"),
    );
    publish(one, "acks", "exam.said", "before").await?;
    let mut cable = Cable::connect(one, &token, EXTENDED).await?;
    cable.subscribe(&i).await?;
    ensure!(
        cable.barrier().await?.is_empty(),
        "a new consumer is sent nothing old"
    );
    let mut auditor = Cable::connect(two, &token, EXTENDED).await?;
    auditor.subscribe(&j).await?;
    let mut ids = Vec::new();
    for text in ["0", "1", "2"] {
        ids.push(publish(two, "acks", "exam.said", text).await?.to_string());
    }
    cable.expect_texts(&["0", "1", "2"]).await?;
    let ack = |ids: &[&String]| json!({"command": "ack", "identifier": i, "ack": {"ids": ids}});
    cable.say(&ack(&[&ids[2], &ids[0]])).await?;
    let confirmed =
        json!({"identifier": i, "type": "confirm_ack", "ack": {"ids": [ids[2], ids[0]]}});
    cable.expect(&confirmed).await?;
    drop(cable);
    cluster.kill(0);
    publish(two, "acks", "exam.said", "3").await?;
    let mut cable = Cable::connect(two, &token, EXTENDED).await?;
    cable.subscribe(&i).await?;
    cable.expect_texts(&["1", "3"]).await?;
    ensure!(cable.barrier().await?.is_empty());
    // Up to here, by position; what the other one has not acked stays its own.
    let (_, event) = {
        publish(two, "acks", "exam.said", "4").await?;
        cable.event().await?
    };
    let position = json!({event["stream_id"].as_str().unwrap_or_default(): {"epoch": event["epoch"], "offset": event["offset"]}});
    cable
        .say(&json!({"command": "ack", "identifier": i, "ack": {"streams": position}}))
        .await?;
    cable
        .expect(&json!({"identifier": i, "type": "confirm_ack", "ack": {"streams": position}}))
        .await?;
    drop(cable);
    let mut cable = Cable::connect(two, &token, EXTENDED).await?;
    cable.subscribe(&i).await?;
    ensure!(cable.barrier().await?.is_empty(), "everything is acked");
    auditor.expect_texts(&["0", "1", "2", "3", "4"]).await?;
    // History is history, acked or not.
    let since = json!({"command": "history", "identifier": i, "history": {"since": 1}});
    cable.say(&since).await?;
    cable
        .expect_texts(&["before", "0", "1", "2", "3", "4"])
        .await?;
    Ok(())
}

/// H2, H3: what is unknown, foreign or no ack at all.
#[tokio::test(flavor = "multi_thread")]
async fn acks_of_what_is_not_ones_own_are_refused() -> Result<()> {
    let cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let foreign = publish(one, "b", "exam.said", "b").await?.to_string();
    let other_name = publish(one, "a", "exam.done", "done").await?.to_string();
    let mine = publish(one, "a", "exam.said", "a").await?.to_string();
    let mut cable = Cable::connect(two, &token("a"), "actioncable-v1-json").await?;
    // It has not said that it acks: its acks are recorded all the same.
    let i = identifier("exam.said");
    cable.subscribe(&i).await?;
    let unknown = Uuid::new_v4().to_string();
    let ids = json!([
        mine,
        foreign,
        "no id",
        other_name,
        unknown,
        mine.to_uppercase()
    ]);
    cable
        .say(&json!({"command": "ack", "identifier": i, "ack": {"ids": ids}}))
        .await?;
    cable.expect(&json!({"identifier": i, "type": "confirm_ack", "ack": {"ids": [mine, mine.to_uppercase()]}})).await?;
    let refused = json!([foreign, "no id", other_name, unknown]);
    cable.expect(&json!({"identifier": i, "type": "reject_ack", "ack": {"ids": refused}, "reason": "unknown_event"})).await?;
    let perform =
        |data: Value| json!({"command": "message", "identifier": i, "data": data.to_string()});
    cable
        .say(&perform(json!({"action": "ack", "id": unknown})))
        .await?;
    cable
        .say(&perform(json!({"action": "ack", "id": mine})))
        .await?;
    ensure!(
        cable.barrier().await?.is_empty(),
        "an action is not answered"
    );
    cable
        .say(&perform(
            json!({"action": "ack", "id": mine, "reply": true}),
        ))
        .await?;
    cable
        .expect(&json!({"identifier": i, "type": "confirm_ack", "ack": {"ids": [mine]}}))
        .await?;
    cable
        .say(&json!({"command": "ack", "identifier": i, "ack": {"ids": 3}}))
        .await?;
    cable.expect(&json!({"identifier": i, "type": "reject_ack", "ack": {"ids": 3}, "reason": "malformed"})).await?;
    cable
        .say(&json!({"command": "ack", "identifier": "none", "ack": {"id": mine}}))
        .await?;
    cable.expect(&json!({"identifier": "none", "type": "reject_ack", "ack": {"ids": [mine]}, "reason": "not_subscribed"})).await?;
    Ok(())
}

/// H7: un-acked events come again on a live connection, unless another one of the consumer acked.
#[tokio::test(flavor = "multi_thread")]
async fn unacked_events_come_again() -> Result<()> {
    let short = |options: &mut ZaikioOptions| {
        options.ack_wait = serde_json::from_value(json!("500ms")).expect("a span");
    };
    let cluster = cluster(short).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let i = acking("exam.said", "c");
    let mut cables = Vec::new();
    for at in [one, two] {
        let mut cable = Cable::connect(at, &token("again"), EXTENDED).await?;
        cable.subscribe(&i).await?;
        cables.push(cable);
    }
    let ids = [
        publish(one, "again", "exam.said", "0").await?,
        publish(one, "again", "exam.said", "1").await?,
    ];
    cables[0].expect_texts(&["0", "1"]).await?;
    let ack = json!({"command": "ack", "identifier": i, "ack": {"id": ids[0].to_string()}});
    cables[0].say(&ack).await?;
    ensure!(cables[0].hear().await?["type"] == "confirm_ack");
    cables[1].expect_texts(&["0", "1"]).await?;
    for cable in &mut cables {
        let (text, event) = cable.event().await?;
        ensure!(text == "1" && event["redelivered"] == true, "{event}");
        ensure!(event["offset"].is_u64() && event["epoch"].is_string());
    }
    Ok(())
}

/// G9: rewinds while events are being published: no gap, nothing twice, in order.
#[tokio::test(flavor = "multi_thread")]
async fn rewinding_while_events_are_published() -> Result<()> {
    const BEFORE: usize = 600;
    const MEANWHILE: usize = 200;
    let cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    for number in 0..BEFORE {
        publish(one, "g9", "exam.said", &number.to_string()).await?;
    }
    let mut cable = Cable::connect(two, &token("g9"), EXTENDED).await?;
    let i = identifier("exam.said");
    cable.subscribe(&i).await?;
    let publishing = async {
        for number in BEFORE..BEFORE + MEANWHILE {
            let at = if number % 2 == 0 { one } else { two };
            publish(at, "g9", "exam.said", &number.to_string()).await?;
        }
        anyhow::Ok(())
    };
    let listening = async {
        // Live or again: after the last rewind everything stands in one run.
        let since = json!({"command": "history", "identifier": i, "history": {"since": 1}});
        let (mut rewinds, mut run) = (0, Vec::<usize>::new());
        cable.say(&since).await?;
        loop {
            let frame = cable.hear().await?;
            if frame["type"] == "confirm_history" {
                rewinds += 1;
                // The end of what was heard is all from the beginning.
                let begin = run
                    .iter()
                    .rposition(|number| *number == 0)
                    .unwrap_or(run.len());
                run.drain(..begin);
                ensure!(run.iter().copied().eq(0..run.len()), "a replay: {run:?}");
                ensure!(run.len() >= BEFORE, "a replay stops at {}", run.len());
                if rewinds < 4 {
                    cable.say(&since).await?;
                }
                continue;
            }
            let text = frame["message"]["payload"]["text"]
                .as_str()
                .unwrap_or_default();
            run.push(text.parse()?);
            if rewinds == 4 && run.len() >= BEFORE + MEANWHILE {
                ensure!(run.iter().copied().eq(0..BEFORE + MEANWHILE), "{run:?}");
                return anyhow::Ok(());
            }
        }
    };
    tokio::try_join!(publishing, listening)?;
    ensure!(cable.barrier().await?.is_empty());
    Ok(())
}

/// C6: who does not read is dropped, and nobody else notices.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_dropped() -> Result<()> {
    let cluster = cluster(|options| {
        options.write_stall = serde_json::from_value(json!("500ms")).expect("a span");
    })
    .await?;
    let at = cluster.instance(0).address();
    for number in 0..300 {
        publish(
            at,
            "idle",
            "exam.said",
            &format!("{number}:{}", "x".repeat(200)),
        )
        .await?;
    }
    let i = identifier("exam.said");
    let mut idle = Cable::connect(at, &token("idle"), "").await?;
    idle.subscribe(&i).await?;
    let since = json!({"command": "history", "identifier": i, "history": {"since": 1}});
    for _ in 0..100 {
        idle.say(&since).await?;
    }
    let mut witness = Cable::connect(at, &token("idle"), "").await?;
    witness.subscribe(&i).await?;
    for text in ["a", "b", "c"] {
        let begun = tokio::time::Instant::now();
        publish(at, "idle", "exam.said", text).await?;
        witness.expect_texts(&[text]).await?;
        ensure!(begun.elapsed() < Duration::from_secs(2));
    }
    let dropped = async {
        while cluster.instance(0).hub().connections().len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, dropped).await?;
    Ok(())
}

/// A head that is older than retention is a good place to go on from, also in a topic that never had
/// an event.
#[tokio::test(flavor = "multi_thread")]
async fn newcomers_are_served_after_hours_of_silence() -> Result<()> {
    if Logs::from_env() != Logs::Memory {
        return Ok(()); // Redis' clock is its own: the hours would have to be waited for
    }
    let cluster = cluster(|_| ()).await?;
    let (one, two) = (cluster.instance(0).address(), cluster.instance(1).address());
    let (old, new) = (
        (0..24).map(|n| format!("old{n}")),
        (0..24).map(|n| format!("new{n}")),
    );
    let names: Vec<String> = old.clone().chain(new).collect();
    for name in old {
        publish(one, &name, "exam.said", "long ago").await?;
    }
    cluster.pass(Duration::from_secs(2 * 3600)).await;
    for name in &names {
        let mut cable = Cable::connect(two, &token(name), EXTENDED).await?;
        cable.subscribe(&acking("exam.said", "c")).await?;
        publish(one, name, "exam.said", "now").await?;
        cable.expect_texts(&["now"]).await?;
        let since =
            json!({"command": "history", "identifier": cable.identifier, "history": {"since": 1}});
        cable.say(&since).await?;
        cable.expect_texts(&["now"]).await?;
    }
    Ok(())
}
