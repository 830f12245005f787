//! An instance is killed, and another one while it tells of the first one's users: a third one goes on where it was.

use anyhow::{Context as _, Result, ensure};
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
    let done = swept(&mut backend).await;
    done.with_context(|| backend.printed())
}

async fn swept(backend: &mut Backend) -> Result<()> {
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
    let told = |watching: &Rtm| {
        let offline = |user| watching.presence_of(user).len() > 2;
        (1..=USERS).filter(|user| offline(*user)).count()
    };
    backend.instances[1].kill().await?;
    watching
        .hears("the first to be offline", |frame| {
            frame["event"] == "user.offline"
        })
        .await?;
    backend.instances[2].kill().await?;
    println!(
        "{} of {USERS} were told of when the sweeper was killed",
        told(&watching)
    );
    for user in 1..=USERS {
        let presence = watching.presence(user, 4).await?;
        ensure!(
            presence[2..].iter().all(|(online, ..)| !online),
            "{presence:?}"
        );
        ensure!(presence[2].1 != presence[3].1, "{presence:?}");
    }
    quiet().await;
    for user in 1..=USERS {
        watching.presence(user, 4).await?;
    }
    watching.is_open()
}
