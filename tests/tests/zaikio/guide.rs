//! `docs/zaikio.md`, followed from an empty folder.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tidings_testkit::servers::PortLease;
use tidings_tests::Guide;

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_from_an_empty_folder_to_a_received_event() -> Result<()> {
    let (mount, native) = (PortLease::take()?, PortLease::take()?);
    let addresses = [("127.0.0.1:8081", mount.address().to_string())];
    let guide = Guide::open("zaikio.md", &addresses)?;
    let [keygen, serve, mint, publish] = guide.blocks("console")[..] else {
        bail!("key, serve, token and publish");
    };
    guide.run(keygen).await?;
    guide.save("toml", "config/zaikio.toml")?;
    let _hub = guide.serve(serve, &native, &[]).await?;

    guide.save("js", "client.mjs")?;
    guide.modules()?;
    let mut client = guide.start(&format!("{mint}\nnode client.mjs"))?;
    // The client says nothing before its first event: so it is published until it does.
    let publishing = async {
        loop {
            let answer = guide.run(&format!("{mint}\n{publish}")).await?;
            ensure!(answer.contains("received_at"), "{answer}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let line = tokio::select! {
        line = client.line() => line?,
        published = publishing => return published,
    };
    ensure!(line.starts_with("received"), "{line}");
    Ok(())
}
