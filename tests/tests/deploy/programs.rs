//! The programs that the files of `deploy/` are written for, where they are at hand.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidings_testkit::servers::wait_for;
use tidings_tests::SOON;
use tokio::process::Command;

use crate::files::{deploy, text};

/// What somebody has built with `docker build -f deploy/Dockerfile -t tidings:local .`
const IMAGE: &str = "tidings:local";

/// Runs a program in `deploy/`; `None`, and a line that says so, when it is not there.
async fn run(program: &str, arguments: &[&str]) -> Result<Option<Output>> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(deploy())
        .env_remove("TIDINGS_SECRETS")
        .kill_on_drop(true);
    match tokio::time::timeout(SOON, command.output())
        .await
        .with_context(|| format!("{program} does not end"))?
    {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skipped(&format!("{program} is not installed"));
            Ok(None)
        }
        Err(error) => Err(error).context(program.to_owned()),
    }
}

#[expect(clippy::print_stdout, reason = "a test that looked at nothing says so")]
fn skipped(why: &str) {
    println!("skipped: {why}");
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

async fn accepted(program: &str, arguments: &[&str]) -> Result<()> {
    if let Some(output) = run(program, arguments).await? {
        ensure!(output.status.success(), "{program}: {}", said(&output));
    }
    Ok(())
}

#[tokio::test]
async fn kubectl_builds_the_kustomization() -> Result<()> {
    accepted("kubectl", &["kustomize", "kubernetes"]).await
}

#[tokio::test]
async fn promtool_accepts_the_alerts() -> Result<()> {
    accepted("promtool", &["check", "rules", "grafana/alerts.yaml"]).await
}

#[tokio::test]
async fn haproxy_accepts_its_configuration() -> Result<()> {
    accepted("haproxy", &["-c", "-f", "compose/haproxy.cfg"]).await
}

#[tokio::test]
async fn compose_demands_the_secrets_and_takes_the_file() -> Result<()> {
    let Some(version) = run("docker", &["compose", "version"]).await? else {
        return Ok(());
    };
    if !version.status.success() {
        skipped("docker has no compose plugin");
        return Ok(());
    }
    // `--env-file` of nothing: an operator's own .env is none of this test's.
    let without = ["compose", "--env-file", "/dev/null", "config", "--quiet"];
    let output = run("docker", &without).await?.context("docker was here")?;
    ensure!(
        !output.status.success() && said(&output).contains("TIDINGS_SECRETS"),
        "{}",
        said(&output)
    );
    let with = [
        "compose",
        "--env-file",
        ".env.example",
        "--profile",
        "*",
        "config",
        "--quiet",
    ];
    accepted("docker", &with).await
}

/// Docker's answer, or `None` when there is no docker, no daemon, or no image.
async fn image() -> Result<Option<Value>> {
    let Some(info) = run("docker", &["info"]).await? else {
        return Ok(None);
    };
    if !info.status.success() {
        skipped("no docker daemon answers");
        return Ok(None);
    }
    let output = run("docker", &["image", "inspect", IMAGE]).await?;
    match output {
        Some(output) if output.status.success() => {
            let images: Value = serde_json::from_slice(&output.stdout)?;
            Ok(images.get(0).cloned())
        }
        _ => {
            skipped(&format!(
                "there is no image {IMAGE}: docker build -f deploy/Dockerfile -t {IMAGE} ."
            ));
            Ok(None)
        }
    }
}

/// A container; it is taken away in the end.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let arguments = ["rm", "--force", "--volumes", &self.0];
        // Nothing is to be done when docker has gone meanwhile.
        let _ = std::process::Command::new("docker")
            .args(arguments)
            .output();
    }
}

#[tokio::test]
async fn the_image_is_small_runs_without_root_and_becomes_healthy() -> Result<()> {
    /// The base is 75 MB; the rest is one binary.
    const BYTES_MAX: u64 = 150_000_000;
    let Some(image) = image().await? else {
        return Ok(());
    };
    let config = &image["Config"];
    ensure!(config["User"] == "10001:10001", "{config}");
    ensure!(config["StopSignal"] == "SIGTERM", "{config}");
    let size = image["Size"].as_u64().context("Size")?;
    ensure!(size < BYTES_MAX, "{size} bytes");

    // Nothing of this machine is needed: no network, nothing to write to, no right.
    let words = "run --detach --network none --read-only --cap-drop ALL --health-interval 1s";
    let arguments: Vec<&str> = words.split(' ').chain([IMAGE]).collect();
    let output = run("docker", &arguments)
        .await?
        .context("docker was here")?;
    ensure!(output.status.success(), "{}", said(&output));
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let container = Container(id.clone());
    let ask = ["inspect", "--format", "{{.State.Health.Status}}", &id];
    wait_for("the container to be healthy", SOON, || async {
        let output = run("docker", &ask).await?.context("docker was here")?;
        ensure!(said(&output).trim() == "healthy", "{}", said(&output));
        Ok(())
    })
    .await?;
    // It leaves by itself: docker would kill it after the 30 s.
    let began = std::time::Instant::now();
    accepted("docker", &["stop", "--time", "30", &id]).await?;
    ensure!(
        began.elapsed() < Duration::from_secs(25),
        "it had to be killed"
    );
    let ask = ["inspect", "--format", "{{.State.ExitCode}}", &id];
    let output = run("docker", &ask).await?.context("docker was here")?;
    ensure!(said(&output).trim() == "0", "{}", said(&output));
    drop(container);
    Ok(())
}

#[test]
fn the_image_is_built_from_this_workspace_alone() -> Result<()> {
    let root = deploy().join("..");
    let ignored = std::fs::read_to_string(root.join(".dockerignore"))?;
    let first = ignored.lines().find(|line| !line.starts_with('#'));
    ensure!(
        first == Some("*"),
        "everything is left out first: {first:?}"
    );
    let dockerfile = text("Dockerfile")?;
    for line in dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
    {
        if line.starts_with("--from=") {
            continue;
        }
        let mut words: Vec<&str> = line.split(' ').collect();
        words.pop();
        for word in words {
            ensure!(root.join(word).exists(), "COPY {word}");
            ensure!(
                ignored.contains(&format!("!{word}")),
                "{word} is copied, and .dockerignore leaves it out"
            );
        }
    }
    Ok(())
}
