//! Coming back: from any place, on any instance, exactly; and what is said when that cannot be
//! (contract section 6, group C).

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use tidings_testkit::adapter_exam::wire::{Line, Request};
use tidings_testkit::adapter_exam::{Cluster, Fault, Setup};

use crate::client::{
    Frame, Heard, Listener, SOON, begin, cluster, cluster_of, count, new_messages, say, texts,
};

/// C01, C04, C08, C09, C13: missed messages once, in order, on alternating instances; from a
/// message's id, from `ready`'s, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_comes_once() -> Result<()> {
    let cluster = cluster(json!({"heartbeat": "50ms"})).await?;
    let chat = begin(cluster.instance(0).address()).await?;
    let path = new_messages(&chat);
    let mut listener = Listener::ready(cluster.instance(0).address(), &path).await?;
    for round in 0..5 {
        let begins = round * 4;
        // A quiet stream is left by its `ready`; another by its last message.
        if round % 2 == 1 {
            count(&cluster, &chat, begins..begins + 1).await?;
            listener.expect(&[&begins.to_string()]).await?;
        } else {
            count(&cluster, &chat, begins..begins + 1).await?;
        }
        let heard = round % 2;
        let place = listener.last_id.clone();
        drop(listener);
        count(&cluster, &chat, begins + 1..begins + 4).await?;
        let at = cluster.instance((round + 1) % 2).address();
        listener = Listener::open(at, &path, Some(&place)).await?;
        let missed = texts(begins + heard..begins + 4);
        listener
            .expect(&missed.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
        let (_, ready) = listener.until_ready().await?;
        ensure!(ready["resumed"] == true, "{ready}");
        ensure!(ready["replayed"] == missed.len(), "{ready}");
    }
    // At the newest id: neither a replay nor a gap, and live goes on.
    let place = listener.last_id.clone();
    let mut again = Listener::open(cluster.instance(0).address(), &path, Some(&place)).await?;
    let (before, ready) = again.until_ready().await?;
    ensure!(
        before.is_empty() && ready["replayed"] == 0,
        "{before:?} {ready}"
    );
    say(cluster.instance(1).address(), &chat, "live").await?;
    again.expect(&["live"]).await
}

/// C03: a page that was loaded anew says its place in the address; the header wins.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_address() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let path = new_messages(&chat);
    let mut listener = Listener::ready(at, &path).await?;
    count(&cluster, &chat, 0..4).await?;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(listener.entry().await?.0);
    }
    let reloaded = format!("{path}&lastEventId={}", ids[1]);
    let mut listener = Listener::open(at, &reloaded, None).await?;
    listener.expect(&["2", "3"]).await?;
    listener.until_ready().await?;
    let mut listener = Listener::open(at, &reloaded, Some(&ids[2])).await?;
    listener.expect(&["3"]).await?;
    listener.until_ready().await?;
    Ok(())
}

/// What a client that comes with this is told: the gap, and the contents that follow it.
async fn told(
    cluster: &Cluster,
    path: &str,
    request: Request,
) -> Result<(Value, Vec<Frame>, Value)> {
    let mut listener = Listener::ask(cluster.instance(1).address(), &request).await?;
    let gap = listener.frame().await?;
    ensure!(gap.event() == "gap", "{path}: instead of a gap: {gap:?}");
    assert_eq!(gap.names(), ["event", "data"], "a gap has no id");
    let (entries, ready) = listener.until_ready().await?;
    ensure!(ready["resumed"] == false, "{ready}");
    ensure!(ready["cursor"] == listener.last_id, "{ready}");
    ensure!(entries.iter().all(|one| one.event() != "gap"), "one gap");
    Ok((gap.json(), entries, ready))
}

/// C05, C06, K06: what is no place, in every shape, and one from the future.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_place_is_said_to_be_none() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    count(&cluster, &chat, 0..3).await?;
    // The instance that is asked has seen all of it.
    let since = format!(
        "{}&timeRangeBegin=1970-01-01T00:00:00Z",
        new_messages(&chat)
    );
    let mut all = Listener::open(cluster.instance(1).address(), &since, None).await?;
    all.expect(&["tere", "0", "1", "2"]).await?;
    let long = "9".repeat(4000);
    let hostile = [
        ("", "invalid"),
        ("abc", "invalid"),
        ("$", "invalid"),
        ("(1-1", "invalid"),
        ("1-1 data: x", "invalid"),
        ("-1-1", "invalid"),
        ("18446744073709551616-0", "invalid"),
        (long.as_str(), "invalid"),
        ("18446744073709551615-18446744073709551615", "unknown"),
        ("9999999999999-0", "unknown"),
        ("2100000000000-0", "unknown"),
    ];
    for (place, reason) in hostile {
        let request = Request::get(new_messages(&chat)).header("last-event-id", place);
        let (gap, entries, _) = told(&cluster, place, request).await?;
        assert_eq!(gap["reason"], reason, "{place}");
        assert_eq!(gap["lastEventId"], place);
        assert_eq!(gap["type"], "gap");
        let said: Vec<_> = entries
            .iter()
            .map(|one| one.json()["content"].clone())
            .collect();
        assert_eq!(said, ["tere", "0", "1", "2"], "{place}");
        let (first, last) = (
            entries.first().expect("four"),
            entries.last().expect("four"),
        );
        assert_eq!(gap["oldest"].as_str(), first.get("id"));
        ensure!(gap["newest"].as_str() >= last.get("id"), "{gap}");
    }
    // A client that knows of no gaps is nudged to look.
    let request = Request::get(format!("/sse/notifications/{chat}?lastEventId=x"));
    let (_, entries, _) = told(&cluster, "x", request).await?;
    let [nudge, rest @ ..] = &entries[..] else {
        bail!("no nudge");
    };
    assert_eq!(
        nudge.fields,
        [(
            "data".to_owned(),
            "{\"type\":\"message\",\"messageId\":\"\"}".to_owned()
        )]
    );
    assert_eq!(rest.len(), 4);
    let request = Request::get("/sse/notifications/chat-list?lastEventId=x");
    let (_, entries, _) = told(&cluster, "x", request).await?;
    assert_eq!(
        entries[0].json(),
        json!({"status": "Chat Status Changed", "chatId": ""})
    );
    assert_eq!(entries[0].names(), ["data"]);
    Ok(())
}

/// C07: older than what is retained; and nothing to say where nothing was missed.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_place() -> Result<()> {
    let retention = match tidings_testkit::adapter_exam::Logs::from_env() {
        tidings_testkit::adapter_exam::Logs::Memory => Duration::from_secs(3600),
        tidings_testkit::adapter_exam::Logs::Redis(_) => Duration::from_secs(3),
    };
    let setup = Setup {
        retention,
        ..Setup::default()
    };
    let cluster = cluster_of(json!({}), setup).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let path = new_messages(&chat);
    let mut listener = Listener::ready(at, &path).await?;
    count(&cluster, &chat, 0..2).await?;
    let missed = listener.entry().await?.0;
    let newest = listener.entry().await?.0;
    drop(listener);
    cluster.pass(retention + Duration::from_secs(1)).await;
    // All is gone, but this client had it all.
    let mut listener = Listener::open(at, &path, Some(&newest)).await?;
    let (before, ready) = listener.until_ready().await?;
    ensure!(
        before.is_empty() && ready["resumed"] == true,
        "{before:?} {ready}"
    );
    let request = Request::get(&path).header("last-event-id", &missed);
    let (gap, entries, _) = told(&cluster, "expired", request).await?;
    ensure!(
        gap["reason"] == "expired" && gap["oldest"] == json!(null),
        "{gap}"
    );
    ensure!(entries.is_empty(), "{entries:?}");
    count(&cluster, &chat, 2..3).await?;
    let request = Request::get(&path).header("last-event-id", &missed);
    let (gap, entries, _) = told(&cluster, "expired", request).await?;
    assert_eq!(gap["oldest"].as_str(), entries[0].get("id"));
    assert_eq!(entries[0].json()["content"], "2");
    let mut listener = Listener::open(at, &path, Some(&newest)).await?;
    listener.expect(&["2"]).await?;
    let (_, ready) = listener.until_ready().await?;
    ensure!(ready["resumed"] == true, "{ready}");
    Ok(())
}

/// B13: forty clients come back again and again, on alternating instances, while there is talk.
#[tokio::test(flavor = "multi_thread")]
async fn forty_come_back_while_there_is_talk() -> Result<()> {
    const CLIENTS: usize = 40;
    const ALL: usize = 120;
    let cluster = cluster(json!({})).await?;
    let ats = [0, 1].map(|index| cluster.instance(index).address());
    let chat = begin(ats[0]).await?;
    let path = new_messages(&chat);
    let expected = &texts(0..ALL);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut listener = Listener::ready(ats[number % 2], &path).await?;
        let path = &path;
        clients.push(async move {
            let mut next = 0;
            for visit in 0.. {
                let until = ALL.min(next + 7 + (number + visit) % 11);
                while next < until {
                    let frame = listener.frame().await?;
                    if frame.event() == "ready" {
                        continue;
                    }
                    ensure!(frame.event().is_empty(), "client {number}: {frame:?}");
                    let message = frame.json();
                    ensure!(
                        message["content"] == expected[next],
                        "{next} is next: {message}"
                    );
                    next += 1;
                }
                if next == ALL {
                    break;
                }
                let place = listener.last_id.clone();
                let at = ats[(number + visit + 1) % 2];
                listener = Listener::open(at, path, Some(&place)).await?;
            }
            anyhow::Ok(())
        });
    }
    let all = futures_util::future::try_join_all(clients);
    tokio::try_join!(count(&cluster, &chat, 0..ALL), all)?;
    Ok(())
}

/// E02: a nudge that was missed comes with the reconnect.
#[tokio::test(flavor = "multi_thread")]
async fn a_missed_nudge_comes_later() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let path = format!("/sse/notifications/{chat}");
    let listener = Listener::ready(at, &path).await?;
    let place = listener.last_id.clone();
    drop(listener);
    let said = say(at, &chat, "x").await?;
    let mut listener = Listener::open(cluster.instance(1).address(), &path, Some(&place)).await?;
    // The other instance may not have heard of it by then: it comes behind `ready`.
    let (before, _) = listener.until_ready().await?;
    let nudge = match before.first() {
        Some(frame) => frame.json(),
        None => listener.entry().await?.1,
    };
    assert_eq!(nudge["messageId"], said["id"]);
    Ok(())
}

/// C10: an instance is killed; its clients come back to the other one, and miss nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_killed() -> Result<()> {
    let mut cluster = cluster(json!({})).await?;
    let [one, two] = [0, 1].map(|index| cluster.instance(index).address());
    let chat = begin(one).await?;
    let path = new_messages(&chat);
    let mut listener = Listener::ready(one, &path).await?;
    count(&cluster, &chat, 0..4).await?;
    listener.expect(&["0", "1"]).await?;
    let place = listener.last_id.clone();
    cluster.kill(0);
    for text in texts(4..6) {
        say(two, &chat, &text).await?;
    }
    let mut listener = Listener::open(two, &path, Some(&place)).await?;
    let ready = listener.expect_around_ready(&["2", "3", "4", "5"]).await?;
    ensure!(ready["resumed"] == true, "{ready}");
    Ok(())
}

/// C02: a frame that was cut before its blank line was not heard: its id is not the client's place.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_was_cut_comes_again() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let path = new_messages(&chat);
    let mut listener = Listener::ready(at, &path).await?;
    count(&cluster, &chat, 0..2).await?;
    listener.expect(&["0"]).await?;
    let Line::Text(cut) = listener.stream.line().await else {
        bail!("the stream ends");
    };
    ensure!(
        cut.starts_with("id: ") && !cut.contains(&listener.last_id),
        "{cut}"
    );
    let place = listener.last_id.clone();
    drop(listener);
    let mut listener = Listener::open(at, &path, Some(&place)).await?;
    listener.expect(&["1"]).await?;
    listener.until_ready().await?;
    listener.expect_silence().await
}

/// The log is away: who is there stays and is told that the stream lives; who comes is told when to
/// come back, with 200, and misses nothing then.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_away() -> Result<()> {
    let cluster = cluster(json!({"heartbeat": "200ms"})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let path = new_messages(&chat);
    let mut there = Listener::ready(at, &path).await?;
    let mut watches = Listener::open(at, &format!("/sse/queue/{chat}"), None).await?;
    watches.frame().await?;
    say(at, &chat, "0").await?;
    there.expect(&["0"]).await?;
    cluster.fault(Fault::Away);
    let refused = crate::client::post(at, "/post-message", json!({"chatId": chat, "content": "x"}));
    assert_eq!(refused.await?.status, 503);
    let paths = [
        path.clone(),
        format!("/sse/notifications/{chat}"),
        format!("/sse/get-chat-by-id?id={chat}"),
    ];
    let place = there.last_id.clone();
    let place = &place;
    let comes = paths.iter().map(|path| async move {
        let mut comes = Listener::open(at, path, Some(place)).await?;
        let heard = comes.until_end().await?;
        ensure!(
            heard.len() == 1 && heard[0].get("retry").is_some(),
            "{path}: {heard:?}"
        );
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(comes).await?;
    for listener in [&mut there, &mut watches] {
        let heard = listener.hear().await?;
        ensure!(
            matches!(&heard, Heard::Frame(frame) if frame.names() == [""]),
            "{heard:?}"
        );
    }
    cluster.fault(Fault::None);
    let posted = async { while say(at, &chat, "1").await.is_err() {} };
    tokio::time::timeout(SOON, posted).await?;
    there.expect(&["1"]).await?;
    let mut comes = Listener::open(at, &path, Some(place)).await?;
    comes.expect(&["1"]).await
}
