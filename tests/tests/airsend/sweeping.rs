//! An instance is killed, and another one while it tells of the first one's users: a third one goes on where it was.
//!
//! What the second one had begun to deliver waits for its relay lease (15 s), so this takes some twenty seconds.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidings_testkit::servers::RedisServer;

use crate::backend::Backend;
use crate::client::{Rtm, quiet};

/// Looks all the time.
const EAGER: &str = "[instance]\nbeat_every = \"800ms\"\nlease = \"3s\"\nsweep_every = \"50ms\"\n";

/// Looks so seldom that somebody else begins.
const LAZY: &str = "[instance]\nbeat_every = \"800ms\"\nlease = \"3s\"\nsweep_every = \"3s\"\n";

/// Of the instance that is killed first; the last one is the watcher.
const USERS: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_that_is_killed_is_taken_over_from() -> Result<()> {
    let redis = RedisServer::start().await?;
    let mut backend = Backend::with(&redis.url(), &[LAZY, LAZY, EAGER], "").await?;
    let done = swept(&mut backend, true).await;
    done.with_context(|| backend.printed())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sweepers_tell_of_everybody_once() -> Result<()> {
    let redis = RedisServer::start().await?;
    let mut backend = Backend::with(&redis.url(), &[EAGER; 3], "").await?;
    let done = swept(&mut backend, false).await;
    done.with_context(|| backend.printed())
}

/// The second instance is killed, and when its first user is told to be gone, perhaps the third, too.
async fn swept(backend: &mut Backend, again: bool) -> Result<()> {
    let watcher = USERS + 1;
    backend.users(watcher).await?;
    let everybody: Vec<u64> = (1..=watcher).collect();
    for channel in [11, 12] {
        backend.channel(channel, &everybody).await?;
    }
    let mut watching = Rtm::watcher(backend, 0, watcher, &[11, 12]).await?;
    let mut clients = Vec::new();
    for user in 1..=USERS {
        clients.push(Rtm::user(backend, 1, user).await?);
    }
    for user in 1..=USERS {
        watching.presence(user, 2).await?;
    }
    // What it relayed is given back by then: no lease of an outbox dies with it.
    quiet().await;
    backend.instances[1].kill().await?;
    let is_first = |frame: &Value| frame["event"] == "user.offline";
    watching.hears("the first to be offline", is_first).await?;
    if again {
        backend.instances[2].kill().await?;
        let offline = |user: &u64| watching.presence_of(*user).len() > 2;
        // Otherwise this test would show nothing.
        let told = (1..=USERS).filter(offline).count();
        ensure!(told < USERS as usize, "the sweeper had done all of it");
    }
    for user in 1..=USERS {
        let presence = watching.presence(user, 4).await?;
        let offline = presence[2..].iter().all(|(online, ..)| !online);
        // Once for each channel.
        ensure!(offline && presence[2].1 != presence[3].1, "{presence:?}");
    }
    quiet().await;
    for user in 1..=USERS {
        watching.presence(user, 4).await?;
    }
    watching.is_open()
}
