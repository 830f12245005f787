//! A client from npm that behaves as the shipped web client does, with its figures.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidings_testkit::servers::RedisServer;
use tidings_tests::SOON;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::backend::Backend;
use crate::client::Rtm;

/// A running `tests/js/airsend.mjs`.
struct Shipped {
    _child: Child,
    says: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Lines that were not looked for when they came.
    passed: Vec<Value>,
}

impl Shipped {
    fn start(options: &Value) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
        let mut child = Command::new("node")
            .args(["airsend.mjs", &options.to_string()])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node is needed; `cargo xtask ci` says how to get it")?;
        Ok(Self {
            says: child.stdin.take().context("piped")?,
            lines: BufReader::new(child.stdout.take().context("piped")?).lines(),
            _child: child,
            passed: Vec::new(),
        })
    }

    /// Waits for such a line; of those that came before it, none counts any more.
    async fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let waiting = async {
            while let Some(line) = self.lines.next_line().await? {
                let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
                self.passed.push(line.clone());
                if is(&line) {
                    return Ok(line);
                }
            }
            bail!("the client has ended")
        };
        let found = tokio::time::timeout(SOON, waiting).await;
        found
            .with_context(|| format!("in vain: {what}"))?
            .with_context(|| format!("{what}; {:?}", self.passed))
    }

    async fn event(&mut self, name: &str) -> Result<Value> {
        let mut line = self
            .until(name, |line| line["frame"]["event"] == name)
            .await?;
        Ok(line["frame"].take())
    }

    async fn kind(&mut self, kind: &str) -> Result<Value> {
        self.until(kind, |line| line["kind"] == kind).await
    }

    async fn say(&mut self, command: &Value) -> Result<()> {
        self.says
            .write_all(format!("{command}\n").as_bytes())
            .await?;
        Ok(self.says.flush().await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shipped_client_works_as_it_is() -> Result<()> {
    let redis = RedisServer::start().await?;
    let server = "[server]\ndrain_spread = \"0s\"\n";
    let mut backend = Backend::with(&redis.url(), &[server; 2], "ping = \"3s\"\n").await?;
    let done = works(&mut backend).await;
    done.with_context(|| backend.printed())
}

async fn works(backend: &mut Backend) -> Result<()> {
    backend.users(2).await?;
    backend.channel(11, &[1, 2]).await?;
    let mut other = Rtm::watcher(backend, 1, 2, &[11]).await?;
    let bases = [0, 1].map(|at| format!("http://{}", backend.address(at)));
    let mut client = Shipped::start(&json!({
        "bases": bases, "bearer": backend.bearer(1)?, "user_email": "u2@example.com",
    }))?;
    // It knows nothing of acks: what it hears first is what happens first.
    client.kind("open").await?;
    let pinged = client.event("system.ping").await?;
    ensure!(pinged["payload"]["ping_token"] == "around", "{pinged}");
    other.presence(1, 1).await?;
    let message = backend.post(1, 11, 2, "to the shipped one").await?;
    other.expect_text("to the shipped one").await?;
    let heard = client.event("chat.postMessage").await?;
    ensure!(heard["payload"]["message"]["id"] == message, "{heard}");

    // Another one's address in `user_email` changes nothing; ids may be texts.
    client
        .say(&json!({"command": "ws_ephemeral_typing", "channel_id": "11"}))
        .await?;
    let typing = other.expect("chat.userTyping").await?;
    ensure!(typing["user"]["id"] == 1, "{typing}");
    let read = json!({"command": "ws_read_notification", "channel_id": 11, "message_id": message.to_string()});
    client.say(&read).await?;
    let read = other.expect("chat.updateMessage").await?["message"].take();
    ensure!(read["read_users"][0]["user_id"] == 1, "{read}");
    let count = client.event("chat.unreadCountUpdate").await?;
    ensure!(count["payload"]["channel_id"] == 11, "{count}");

    // Its own ping after ten seconds, and the server's frames meanwhile.
    let pong = client.event("pong").await?;
    ensure!(pong == json!({"event": "pong"}), "{pong}");
    let pings = client.passed.iter().filter(|line| line["kind"] == "ping");
    ensure!((2..=4).contains(&pings.count()), "{:?}", client.passed);

    // The instance leaves: the client takes it for no close on purpose, and comes back to the other one.
    backend.instances[0].terminate().await?;
    let closed = client.kind("closed").await?;
    ensure!(closed["code"] == 1001, "{closed}");
    let open = client.kind("open").await?;
    ensure!(open["base"] == bases[1], "{open}");
    client.event("system.ping").await?;
    backend.post(1, 11, 2, "still there").await?;
    let heard = client.event("chat.postMessage").await?;
    ensure!(
        heard["payload"]["message"]["content"] == "still there",
        "{heard}"
    );
    for line in &client.passed {
        let fine = !matches!(line["kind"].as_str(), Some("late" | "error"));
        ensure!(fine && line["isBinary"] != true, "{line}");
        let frame = &line["frame"];
        ensure!(
            frame["event"] != "system.hello" && frame["event"] != "system.ack",
            "nothing is sent unasked: {line}"
        );
    }
    Ok(())
}
