//! F03: an instance is told to leave.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::RedisServer;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::client::{Rtm, quiet};

/// Far below the lease (10 s).
const PROMPTLY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_leaves_says_so_and_nobody_waits_for_its_lease() -> Result<()> {
    let redis = RedisServer::start().await?;
    let server = "[server]\ndrain_spread = \"500ms\"\n";
    let mut backend = Backend::start(&redis.url(), server).await?;
    let done = leaves(&mut backend).await;
    done.with_context(|| backend.printed())
}

async fn leaves(backend: &mut Backend) -> Result<()> {
    backend.users(3).await?;
    for channel in [11, 12] {
        backend.channel(channel, &[1, 2, 3]).await?;
    }
    let mut watching = Rtm::watcher(backend, 0, 1, &[11, 12]).await?;
    let mut only = Rtm::user(backend, 1, 2).await?;
    let (mut here, mut there) = (
        Rtm::user(backend, 0, 3).await?,
        Rtm::user(backend, 1, 3).await?,
    );
    for user in [2, 3] {
        watching.presence(user, 2).await?;
    }
    let told = Instant::now();
    backend.instances[1].tell_to_leave().await?;
    for client in [&mut only, &mut there] {
        let (code, at) = client.closed().await?;
        ensure!(code == 1001, "{code}");
        ensure!(at - told < PROMPTLY, "{:?}", at - told);
    }
    let offline = watching.presence(2, 4).await?;
    for (online, _, at) in &offline[2..] {
        ensure!(!online && *at - told < PROMPTLY, "{offline:?}");
    }
    backend.instances[1].left().await?;
    // He comes back to the one that is left, with what he missed meanwhile.
    backend.post(0, 11, 1, "missed").await?;
    let (mut back, hello) = Rtm::back(backend, 0, 2, &only.cursor).await?;
    ensure!(hello["resumed"] == true, "{hello}");
    back.expect_text("missed").await?;
    for client in [&mut watching, &mut here] {
        client.expect_text("missed").await?;
    }
    quiet().await;
    watching.presence(2, 6).await?;
    watching.presence(3, 2).await?;
    Ok(())
}
