//! `docs/zaikio.md`, followed from an empty folder.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, wait_for};
use tidings_tests::instance::binary;
use tidings_tests::{SOON, http};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// What stands between a fence of this language and its end, in order.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let parts = document.split(fence.as_str()).skip(1);
    parts
        .filter_map(|part| part.split("\n```").next())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_from_an_empty_folder_to_a_received_event() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mount, native) = (PortLease::take()?, PortLease::take()?);
    let document = std::fs::read_to_string(root.join("docs/zaikio.md"))?;
    let document = document.replace("127.0.0.1:8081", &mount.address().to_string());
    let commands = blocks(&document, "console");
    let [keygen, serve, mint, publish] = commands[..] else {
        anyhow::bail!("key, serve, token and publish: {commands:?}");
    };

    let folder = TempDir::new()?;
    let path = binary()?;
    let path = path.parent().context("the binary's folder")?.display();
    let path = format!("{path}:{}", std::env::var("PATH")?);
    let shell = |script: String| {
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &script])
            .env("PATH", &path)
            .env("TIDINGS_SERVER__LISTEN", native.address().to_string())
            .current_dir(folder.path())
            .kill_on_drop(true);
        command
    };
    let made = shell(keygen.to_owned()).output().await?;
    ensure!(made.status.success(), "{made:?}");
    std::fs::create_dir(folder.path().join("config"))?;
    let config = blocks(&document, "toml")[0];
    std::fs::write(folder.path().join("config/zaikio.toml"), config)?;
    // Without a shell in between, which would outlive its end.
    let _server = shell(format!("exec {serve}"))
        .stderr(Stdio::null())
        .spawn()?;
    wait_for("the hub to be ready", SOON, || async {
        let answer = http::send(native.address(), "GET", "/readyz", &[], "").await?;
        ensure!(answer.status == 200, "{:?}", answer.body);
        Ok(())
    })
    .await?;

    std::fs::write(folder.path().join("client.mjs"), blocks(&document, "js")[0])?;
    let modules = root.join("tests/js/node_modules").canonicalize()?;
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules"))?;
    let mut client = shell(format!("{mint}\nexec node client.mjs"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(client.stdout.take().context("piped")?).lines();
    // The client says nothing before its first event: so it is published until it does.
    let publishing = async {
        loop {
            let published = shell(format!("{mint}\n{publish}")).output().await?;
            let answer = String::from_utf8_lossy(&published.stdout);
            ensure!(answer.contains("received_at"), "{published:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let line = tokio::select! {
        line = tokio::time::timeout(SOON, lines.next_line()) => line??.context("it has ended")?,
        published = publishing => return published,
    };
    ensure!(line.starts_with("received"), "{line}");
    Ok(())
}
