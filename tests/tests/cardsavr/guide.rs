//! `docs/cardsavr.md`, followed from an empty folder.

use anyhow::{Context as _, Result, bail, ensure};
use tidings_testkit::servers::PortLease;
use tidings_tests::Guide;

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_from_an_empty_folder_to_billable() -> Result<()> {
    let (mount, native, development) = (PortLease::take()?, PortLease::take()?, PortLease::take()?);
    let addresses = [
        ("127.0.0.1:8443", mount.address().to_string()),
        ("127.0.0.1:8084", development.address().to_string()),
    ];
    let guide = Guide::open("cardsavr.md", &addresses)?;
    let [key, users, serve, simulate, client] = guide.blocks("console")[..] else {
        bail!("key, users, serve, simulate and client");
    };
    guide.run(key).await?;
    guide.save("toml", "config/cardsavr.toml")?;
    guide.run(users).await?;
    let hub = guide.serve(serve, &native, &[]).await?;
    let mut simulator = guide.start(simulate)?;
    ensure!(simulator.line().await? == "logged in");

    guide.save("js", "client.mjs")?;
    guide.modules()?;
    let printed = guide.run(client).await?;
    ensure!(printed.contains("asked for tfa_request\n"), "{printed}");
    ensure!(printed.ends_with("SUCCESSFUL 100 BILLABLE\n"), "{printed}");

    // Told to leave, the simulator ends its session and says so.
    let last = simulator.interrupt().await?;
    ensure!(last == "left", "{last}");
    drop(hub);
    curl(&guide, &development).await
}

/// The lines of development mode, at a hub of the test's own.
async fn curl(guide: &Guide, development: &PortLease) -> Result<()> {
    let lines = guide.blocks("sh")[0];
    let lines = lines.strip_prefix("tidings serve --dev &\n");
    let lines = lines.context("it begins with the hub")?;
    let native = PortLease::take()?;
    let anywhere = || "127.0.0.1:0".to_owned();
    let settings = [
        ("TIDINGS_ADAPTERS__ZAIKIO__MOUNT__LISTEN", anywhere()),
        ("TIDINGS_ADAPTERS__AIRSEND__MOUNT__LISTEN", anywhere()),
        ("TIDINGS_ADAPTERS__BUROKRATT__MOUNT__LISTEN", anywhere()),
        (
            "TIDINGS_ADAPTERS__CARDSAVR__MOUNT__LISTEN",
            development.address().to_string(),
        ),
    ];
    let _hub = guide
        .serve("tidings serve --dev", &native, &settings)
        .await?;
    let printed = guide.run(lines).await?;
    ensure!(printed.contains("\"status\":\"REQUESTED\""), "{printed}");
    Ok(())
}
