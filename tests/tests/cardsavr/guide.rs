//! `docs/cardsavr.md`, followed from an empty folder.

use std::path::Path;
use std::process::Stdio;

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
async fn the_guide_leads_from_an_empty_folder_to_billable() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mount, native, development) = (PortLease::take()?, PortLease::take()?, PortLease::take()?);
    let document = std::fs::read_to_string(root.join("docs/cardsavr.md"))?;
    let document = document
        .replace("127.0.0.1:8443", &mount.address().to_string())
        .replace("127.0.0.1:8084", &development.address().to_string());
    let commands = blocks(&document, "console");
    let [key, users, serve, simulate, client] = commands[..] else {
        anyhow::bail!("key, users, serve, simulate and client: {commands:?}");
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
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command
    };
    let made = shell(key.to_owned()).output().await?;
    ensure!(made.status.success(), "{made:?}");
    let config = blocks(&document, "toml")[0];
    std::fs::write(
        folder.path().join("config/cardsavr.toml"),
        format!("{config}\n"),
    )?;
    let made = shell(users.to_owned()).output().await?;
    ensure!(made.status.success(), "{made:?}");
    // Without a shell in between, which would outlive its end.
    let server = shell(format!("exec {serve}")).spawn()?;
    ready(&native).await?;
    let mut simulator = shell(format!("exec {simulate}"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(simulator.stdout.take().context("piped")?).lines();
    ensure!(said.next_line().await?.as_deref() == Some("logged in"));

    std::fs::write(folder.path().join("client.mjs"), blocks(&document, "js")[0])?;
    let modules = root.join("tests/js/node_modules").canonicalize()?;
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules"))?;
    let client = tokio::time::timeout(SOON, shell(format!("exec {client}")).output()).await??;
    let printed = String::from_utf8_lossy(&client.stdout);
    ensure!(client.status.success(), "{client:?}");
    ensure!(printed.contains("asked for tfa_request\n"), "{printed}");
    ensure!(printed.ends_with("SUCCESSFUL 100 BILLABLE\n"), "{printed}");

    // Told to leave, the simulator ends its session and says so.
    let pid = simulator.id().context("it runs")?.to_string();
    ensure!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await?
            .success()
    );
    let mut last = String::new();
    while let Some(line) = said.next_line().await? {
        last = line;
    }
    ensure!(last == "left", "{last}");
    let status = tokio::time::timeout(SOON, simulator.wait()).await??;
    ensure!(status.success(), "{status}");
    drop(server);
    curl(&document, &development, &shell).await
}

async fn ready(native: &PortLease) -> Result<()> {
    wait_for("the hub to be ready", SOON, || async {
        let answer = http::send(native.address(), "GET", "/readyz", &[], "").await?;
        ensure!(answer.status == 200, "{:?}", answer.body);
        Ok(())
    })
    .await
}

/// The lines of development mode, at a hub of the test's own.
async fn curl(
    document: &str,
    development: &PortLease,
    shell: &impl Fn(String) -> Command,
) -> Result<()> {
    let lines = blocks(document, "sh")[0];
    let lines = lines.strip_prefix("tidings serve --dev &\n");
    let lines = lines.context("it begins with the hub")?;
    let native = PortLease::take()?;
    let _hub = shell("exec tidings serve --dev".to_owned())
        .env("TIDINGS_SERVER__LISTEN", native.address().to_string())
        .env("TIDINGS_ADAPTERS__ZAIKIO__MOUNT__LISTEN", "127.0.0.1:0")
        .env(
            "TIDINGS_ADAPTERS__CARDSAVR__MOUNT__LISTEN",
            development.address().to_string(),
        )
        .spawn()?;
    ready(&native).await?;
    let done = shell(lines.to_owned()).output().await?;
    let printed = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success() && printed.contains("\"status\":\"REQUESTED\""),
        "{done:?}"
    );
    Ok(())
}
