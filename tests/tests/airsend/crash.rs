//! F01, F02: an instance is killed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::RedisServer;
use tokio::time::Instant;

use crate::backend::{Backend, USUAL};
use crate::client::{Rtm, quiet};

/// Lease, sweep and delivery make 12 s; a busy machine gets 30.
const OFFLINE_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn who_was_only_on_a_killed_instance_goes_offline_once() -> Result<()> {
    let redis = RedisServer::start().await?;
    let mut backend = Backend::start(&redis.url(), USUAL).await?;
    let done = killed(&mut backend).await;
    done.with_context(|| backend.printed())
}

async fn killed(backend: &mut Backend) -> Result<()> {
    let (watcher, only, both, returning) = (1, 2, 3, 4);
    backend.users(4).await?;
    for channel in [11, 12] {
        backend.channel(channel, &[1, 2, 3, 4]).await?;
    }
    let mut watching = Rtm::watcher(backend, 0, watcher, &[11, 12]).await?;
    let mut gone = Rtm::user(backend, 1, only).await?;
    let mut first = Rtm::user(backend, 0, both).await?;
    let mut second = Rtm::user(backend, 1, both).await?;
    let mut leaving = Rtm::user(backend, 1, returning).await?;
    for user in [only, both, returning] {
        watching.presence(user, 2).await?;
    }
    // What he had before he was cut off.
    backend.post(0, 11, watcher, "before").await?;
    for client in [
        &mut watching,
        &mut first,
        &mut second,
        &mut leaving,
        &mut gone,
    ] {
        client.expect_text("before").await?;
    }

    backend.instances[1].kill().await?;
    let killed = Instant::now();
    for client in [&mut gone, &mut second, &mut leaving] {
        ensure!(client.closed().await?.0 == 1006);
    }
    backend.post(0, 11, watcher, "missed").await?;
    let (mut back, hello) = Rtm::back(backend, 0, returning, &leaving.cursor).await?;
    ensure!(hello["resumed"] == true && hello["gap"] == false, "{hello}");
    back.expect_text("missed").await?;
    first.expect_text("missed").await?;
    watching.expect_text("missed").await?;

    let offline = watching.presence(only, 4).await?;
    let mut channels = Vec::new();
    for (online, channel, at) in &offline[2..] {
        ensure!(!online, "{offline:?}");
        ensure!(*at - killed < OFFLINE_WITHIN, "{:?}", *at - killed);
        channels.push(*channel);
    }
    println!("offline {:?} after the kill", offline[3].2 - killed);
    channels.sort_unstable();
    ensure!(channels == [11, 12], "{offline:?}");
    // Long enough for a second sweep, and one of somebody else.
    quiet().await;
    watching.presence(only, 4).await?;
    watching.presence(both, 2).await?;
    watching.presence(returning, 2).await?;
    back.expect_nothing().await?;

    // Later closes are seen: at once, not after a lease.
    let left = Instant::now();
    back.leave().await?;
    first.leave().await?;
    for user in [both, returning] {
        let offline = watching.presence(user, 4).await?;
        ensure!(offline[2..].iter().all(|(online, ..)| !online));
        ensure!(offline[3].2 - left < Duration::from_secs(5), "{offline:?}");
    }

    // F02: it comes back, and serves.
    backend.instances[1].restart().await?;
    let mut only_again = Rtm::user(backend, 1, only).await?;
    let online = watching.presence(only, 6).await?;
    ensure!(online[4..].iter().all(|(online, ..)| *online));
    backend.post(1, 12, only, "back").await?;
    only_again.expect_text("back").await?;
    watching.expect_text("back").await?;
    only_again.leave().await?;
    let offline = watching.presence(only, 8).await?;
    ensure!(offline[6..].iter().all(|(online, ..)| !online));
    Ok(())
}
