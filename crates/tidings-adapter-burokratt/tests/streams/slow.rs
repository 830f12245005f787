//! Readers that stop reading, and crowds that come and go (contract section 6, I01 and I02).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::{Listener, begin, cluster, new_messages, say};

/// I01: five readers stop reading while 1,500 messages of 3,000 characters are said; the others hear
/// each of them soon, and the five come back to all of it.
#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_delays_nobody() -> Result<()> {
    const ALL: usize = 1500;
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    let path = new_messages(&chat);
    let mut stopped = Vec::new();
    for _ in 0..5 {
        stopped.push(Listener::ready(at, &path).await?);
    }
    let mut quick = Listener::ready(at, &path).await?;
    let text = |number: usize| format!("{number}:{}", "x".repeat(3000));
    let (sender, mut said) = tokio::sync::mpsc::channel(ALL);
    let says = async {
        for number in 0..ALL {
            say(at, &chat, &text(number)).await?;
            sender.try_send(Instant::now())?;
        }
        anyhow::Ok(())
    };
    let hears = async {
        let mut slowest = Duration::ZERO;
        for number in 0..ALL {
            let (_, message) = quick.entry().await?;
            ensure!(message["content"] == text(number), "{number} is next");
            // It may be heard before its author is answered.
            if let Ok(answered) = said.try_recv() {
                slowest = slowest.max(answered.elapsed());
            }
        }
        anyhow::Ok(slowest)
    };
    let ((), slowest) = tokio::try_join!(says, hears)?;
    ensure!(
        slowest < Duration::from_secs(2),
        "somebody waits {slowest:?}"
    );
    for (number, mut listener) in stopped.into_iter().enumerate() {
        let mut next = 0;
        while next < ALL {
            match listener.entry().await {
                Ok((_, message)) => {
                    ensure!(message["content"] == text(next), "{number}: {next} is next");
                    next += 1;
                }
                // It was dropped, and comes back.
                Err(_) => {
                    let place = listener.last_id.clone();
                    listener = Listener::open(at, &path, Some(&place)).await?;
                }
            }
        }
    }
    Ok(())
}

/// I02: two hundred come, and go at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_comes_and_goes() -> Result<()> {
    let cluster = cluster(json!({})).await?;
    let at = cluster.instance(0).address();
    let chat = begin(at).await?;
    for _ in 0..20 {
        let crowd = (0..10).map(|_| Listener::ready(at, "/sse/notifications/chat-list"));
        drop(futures_util::future::try_join_all(crowd).await?);
    }
    let mut listener = Listener::ready(at, &new_messages(&chat)).await?;
    say(at, &chat, "alive").await?;
    listener.expect(&["alive"]).await?;
    for instance in cluster.instances() {
        ensure!(instance.panics().is_empty(), "{:?}", instance.panics());
    }
    Ok(())
}
