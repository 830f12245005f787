//! The example adapter, `examples/ntfy`, as its users meet it: the real binary on two instances with
//! one Redis, and curl; and the documents that show it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tidings_testkit::servers::{RedisServer, wait_for};
use tidings_tests::guide::blocks;
use tidings_tests::{SOON, http};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The example's folder.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/ntfy")
}

/// The example's binary, built now, into this workspace's target directory.
fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BINARY.get() {
        return Ok(built.clone());
    }
    // target/debug/deps/<this test> → target
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("target/<profile>/deps")?;
    let target = profile.parent().context("target/<profile>")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--bin", "tidings-ntfy"])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(folder())
        .status()?;
    ensure!(status.success(), "the example does not build");
    let built = target.join("debug/tidings-ntfy");
    Ok(BINARY.get_or_init(|| built).clone())
}

/// One running `tidings-ntfy`; dropping it kills it.
struct Ntfy {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Ntfy {
    /// Starts it on free ports, and waits until its adapter is ready.
    async fn start(arguments: &[&str]) -> Result<Self> {
        // An empty folder: no configuration file of the checkout is picked up.
        let folder = TempDir::new()?;
        let mut child = Command::new(binary()?)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("TIDINGS_TELEMETRY__FORMAT", "json")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("piped")?).lines();
        let address = tokio::time::timeout(SOON, listening(&mut lines)).await??;
        // Whatever else it prints must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        wait_for("the adapter to be ready", SOON, || async {
            let answer = http::send(address, "GET", "/readyz", &[], "").await?;
            ensure!(answer.status == 200, "{:?}", answer.body);
            Ok(())
        })
        .await?;
        Ok(Self {
            child,
            address,
            _folder: folder,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Publishes a message; answers with its id.
    async fn publish(&self, topic: &str, text: &str) -> Result<String> {
        let answer = curl(&["-f", "-d", text, &self.url(topic)]).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    /// The messages after an id.
    async fn since(&self, topic: &str, id: &str) -> Result<Vec<String>> {
        let answer = curl(&["-f", &self.url(&format!("{topic}/json?poll=1&since={id}"))]).await?;
        let text = |line: &str| {
            let line: Value = serde_json::from_str(line)?;
            ensure!(line["event"] == "message", "{line}");
            Ok(line["message"].as_str().context("a message")?.to_owned())
        };
        answer.lines().map(text).collect()
    }
}

/// Reads log lines until the adapter says where it listens.
async fn listening<R: tokio::io::AsyncRead + Unpin>(
    lines: &mut Lines<BufReader<R>>,
) -> Result<SocketAddr> {
    loop {
        let line = lines.next_line().await?.context("it has ended")?;
        let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        if line["message"] == "listening" && line["name"] == "ntfy" {
            return Ok(line["address"].as_str().context("an address")?.parse()?);
        }
    }
}

async fn curl(arguments: &[&str]) -> Result<String> {
    let running = Command::new("curl")
        .arg("-sS")
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON, running).await??;
    ensure!(output.status.success(), "curl {arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A `curl -N` that follows.
struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(url: &str) -> Result<Self> {
        let mut child = Command::new("curl")
            .args(["-sSN", url])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        Ok(Self { child, lines })
    }

    async fn next(&mut self) -> Result<Value> {
        let line = tokio::time::timeout(SOON, self.lines.next_line()).await??;
        Ok(serde_json::from_str(&line.context("it has ended")?)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn published_on_one_instance_read_on_the_other_and_one_is_killed() -> Result<()> {
    let redis = RedisServer::start().await?;
    let url = redis.url();
    let mut a = Ntfy::start(&["--redis", &url]).await?;
    let mut b = Ntfy::start(&["--redis", &url]).await?;
    let mut follower = Follower::start(&b.url("/alerts,backups/json"))?;
    ensure!(follower.next().await?["event"] == "open");

    let first = a.publish("/alerts", "1").await?;
    let second = b.publish("/backups", "2").await?;
    let third = a.publish("/alerts", "3").await?;
    // An id of either topic is a place in both.
    ensure!(b.since("/alerts,backups", &first).await? == ["2", "3"]);
    ensure!(b.since("/alerts,backups", &second).await? == ["3"]);
    ensure!(a.since("/alerts", &first).await? == ["3"]);

    a.child.kill().await.context("kill -9")?;
    for text in ["4", "5"] {
        b.publish("/alerts", text).await?;
    }
    ensure!(b.since("/alerts", &third).await? == ["4", "5"]);
    ensure!(b.since("/alerts", "all").await? == ["1", "3", "4", "5"]);
    for expected in ["1", "2", "3", "4", "5"] {
        let line = follower.next().await?;
        ensure!(line["message"] == expected, "{expected} is next: {line}");
    }

    // The other one leaves in good order: the stream ends, and curl is content.
    let pid = b.child.id().context("it runs")?.to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().await?;
    ensure!(told.success(), "kill -TERM");
    let ended = tokio::time::timeout(SOON, follower.child.wait()).await??;
    ensure!(ended.success(), "the stream is broken off: {ended}");
    let left = tokio::time::timeout(SOON, b.child.wait()).await??;
    ensure!(left.success(), "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_s_readme_works_as_printed() -> Result<()> {
    let ntfy = Ntfy::start(&[]).await?;
    let readme = std::fs::read_to_string(folder().join("README.md"))?;
    let blocks = blocks(&readme);
    let examples = blocks.windows(2).filter(|pair| pair[0].0 == "sh");
    for pair in examples {
        let script = pair[0]
            .1
            .replace("127.0.0.1:8081", &ntfy.address.to_string());
        let running = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(SOON, running).await??;
        ensure!(output.status.success(), "{script}\n{output:?}");
        let printed = String::from_utf8(output.stdout)?;
        ensure!(pair[1].0 == "text", "what comes out stands behind it");
        // `…` stands for anything.
        let mut rest = printed.as_str();
        for part in pair[1].1.lines().flat_map(|line| line.split('…')) {
            let at = rest
                .find(part)
                .with_context(|| format!("{script}\nprints\n{printed}\nwithout {part:?}"))?;
            rest = &rest[at + part.len()..];
        }
    }
    Ok(())
}

/// What the guide shows is compiled: every block stands word for word in a file of the example,
/// or in the test of what the example has no use for.
#[test]
fn the_guide_s_snippets_are_the_example_s() -> Result<()> {
    let guide = folder().join("../../docs/writing-an-adapter.md");
    let guide = std::fs::read_to_string(guide)?;
    let mut files = Vec::new();
    for name in [
        "Cargo.toml",
        "src/lib.rs",
        "src/main.rs",
        "src/subscription.rs",
        "tests/exam.rs",
        "tests/transcripts/json.txt",
        "../../crates/tidings-adapter/tests/guide.rs",
    ] {
        files.push(std::fs::read_to_string(folder().join(name))?);
    }
    let blocks = blocks(&guide);
    let shown = |language: &str| ["rust", "toml", "text"].contains(&language);
    let shown: Vec<_> = blocks.iter().filter(|(name, _)| shown(name)).collect();
    ensure!(shown.len() > 8, "the guide shows how it is done");
    for (_, block) in shown {
        let block: Vec<&str> = block.lines().collect();
        let stands = files.iter().any(|file| {
            let lines: Vec<&str> = file.lines().collect();
            lines.windows(block.len()).any(|lines| lines == &block[..])
        });
        ensure!(stands, "not in the example:\n{}", block.join("\n"));
    }
    Ok(())
}
