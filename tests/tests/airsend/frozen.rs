//! An instance is frozen for longer than its lease: the others go on, and it finds out.

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::RedisServer;

use crate::backend::{Backend, QUICK};
use crate::client::{Rtm, quiet};

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_instance_closes_its_clients_and_starts_anew() -> Result<()> {
    let redis = RedisServer::start().await?;
    let backend = Backend::start(&redis.url(), QUICK).await?;
    let done = frozen(&backend).await;
    done.with_context(|| backend.printed())
}

async fn frozen(backend: &Backend) -> Result<()> {
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
    backend.instances[1].freeze().await?;
    let offline = watching.presence(2, 4).await?;
    ensure!(offline[2..].iter().all(|(online, ..)| !online));
    backend.post(0, 11, 1, "meanwhile").await?;
    for client in [&mut watching, &mut here] {
        client.expect_text("meanwhile").await?;
    }

    backend.instances[1].thaw().await?;
    for client in [&mut only, &mut there] {
        let (code, _) = client.closed().await?;
        ensure!(code == 1012, "{code}");
    }
    ensure!(
        backend
            .metric(1, "tidings_incarnations_fenced_total")
            .await?
            == 1.0
    );
    // They come back to the same instance, which is another incarnation.
    let (mut only, hello) = Rtm::back(backend, 1, 2, &only.cursor).await?;
    ensure!(hello["resumed"] == true, "{hello}");
    let (mut there, hello) = Rtm::back(backend, 1, 3, &there.cursor).await?;
    ensure!(hello["resumed"] == true, "{hello}");
    // What a closed client had got before it was closed is in its cursor, and the rest comes now.
    for (client, heard) in [(&mut only, 2), (&mut there, 3)] {
        client
            .expect_text("meanwhile")
            .await
            .with_context(|| format!("user {heard}"))?;
    }
    let online = watching.presence(2, 6).await?;
    ensure!(online[4..].iter().all(|(online, ..)| *online));
    backend.post(1, 12, 2, "anew").await?;
    for client in [&mut watching, &mut here, &mut only, &mut there] {
        client.expect_text("anew").await?;
    }
    quiet().await;
    watching.presence(2, 6).await?;
    watching.presence(3, 2).await?;
    // And it is believed again when one of its clients goes.
    only.leave().await?;
    let offline = watching.presence(2, 8).await?;
    ensure!(offline[6..].iter().all(|(online, ..)| !online));
    here.is_open()?;
    there.is_open()
}
