//! `docs/burokratt.md`, followed from an empty folder; its page in Chromium, through a restart of the hub.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, RedisServer, wait_for};
use tidings_tests::instance::binary;
use tidings_tests::{SOON, http};
use tokio::process::{Child, Command};

use crate::client::Client;

/// What stands between a fence of this language and its end, in order.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let parts = document.split(fence.as_str()).skip(1);
    parts
        .filter_map(|part| part.split("\n```").next())
        .collect()
}

/// The guide in a folder of its own.
struct Guide {
    folder: TempDir,
    path: String,
    serve: String,
    native: PortLease,
}

impl Guide {
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", script])
            .env("PATH", &self.path)
            .env("TIDINGS_SERVER__LISTEN", self.native.address().to_string())
            .current_dir(self.folder.path())
            .kill_on_drop(true);
        command
    }

    async fn serve(&self) -> Result<Child> {
        // Without a shell in between, which would outlive its end.
        let hub = self
            .shell(&format!("exec {}", self.serve))
            .stderr(Stdio::null())
            .spawn()?;
        wait_for("the hub to be ready", SOON, || async {
            let answer = http::send(self.native.address(), "GET", "/readyz", &[], "").await?;
            ensure!(answer.status == 200, "{:?}", answer.body);
            Ok(())
        })
        .await?;
        Ok(hub)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_to_a_chat_that_survives_a_restart() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let redis = RedisServer::start().await?;
    let (mount, native) = (PortLease::take()?, PortLease::take()?);
    let document = std::fs::read_to_string(root.join("docs/burokratt.md"))?;
    let document = document
        .replace("127.0.0.1:8083", &mount.address().to_string())
        .replace("redis://127.0.0.1:6379", &redis.url());
    let commands = blocks(&document, "console");
    let [serve, conversation] = commands[..] else {
        anyhow::bail!("serve and a conversation: {commands:?}");
    };
    let program = binary()?;
    let program = program.parent().context("the binary's folder")?.display();
    let guide = Guide {
        folder: TempDir::new()?,
        path: format!("{program}:{}", std::env::var("PATH")?),
        serve: serve.to_owned(),
        native,
    };
    std::fs::create_dir(guide.folder.path().join("config"))?;
    let config = blocks(&document, "toml")[0];
    std::fs::write(guide.folder.path().join("config/burokratt.toml"), config)?;
    let mut hub = guide.serve().await?;

    // From a terminal; curl ends with 28 when its time is over, as it should here.
    let script = format!("{conversation} || [ $? = 28 ]");
    let output = guide.shell(&script).output().await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    for part in [
        "retry: ",
        r#""content":"Hello""#,
        r#""content":"Good day""#,
        "event: ready",
    ] {
        ensure!(printed.contains(part), "{part} is missing: {output:?}");
    }

    let mut browser = Client::chromium(PortLease::take()?).await?;
    let demo = format!("http://{}/demo", mount.address());
    chats(&mut browser, &demo).await?;
    hub.kill().await?;
    for side in ["visitor", "agent"] {
        browser.see(side, "#line", "connecting").await?;
    }
    hub = guide.serve().await?;
    for side in ["visitor", "agent"] {
        browser.see(side, "#line", "connected").await?;
    }
    goes_on(&mut browser).await?;
    ensure!(browser.count("threw") == 0, "{:?}", browser.last());
    hub.kill().await?;
    Ok(())
}

async fn open(browser: &mut Client, tab: &str, url: &str) -> Result<()> {
    browser
        .tell(json!({"do": "tab", "tab": tab, "url": url}))
        .await?;
    browser.about("tab", tab).await?;
    Ok(())
}

async fn write(browser: &mut Client, tab: &str, text: &str) -> Result<()> {
    let command =
        json!({"do": "fill", "tab": tab, "selector": "#text", "text": text, "enter": true});
    browser.perform(command, text).await?;
    Ok(())
}

/// All that a side shows, once it shows this.
async fn shown(browser: &mut Client, tab: &str, text: &str) -> Result<Vec<String>> {
    let line = browser.see(tab, "#messages li", text).await?;
    let texts = line["texts"].as_array().context("texts")?;
    Ok(texts
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

/// An end user asks, an agent answers.
async fn chats(browser: &mut Client, demo: &str) -> Result<()> {
    open(browser, "agent", &format!("{demo}?as=agent")).await?;
    open(browser, "visitor", &format!("{demo}?as=visitor")).await?;
    browser.see("agent", "#health", "TIM").await?;
    write(browser, "visitor", "Where is my parcel?").await?;
    shown(browser, "visitor", "Where is my parcel?").await?;
    browser.see("visitor", "#hint", "You are number").await?;
    browser
        .see("agent", "#chats button", "Where is my parcel?")
        .await?;
    let choose = json!({"do": "click", "tab": "agent", "selector": "#chats button:has-text('Where is my parcel?')"});
    browser.perform(choose, "choose").await?;
    shown(browser, "agent", "Where is my parcel?").await?;
    write(browser, "agent", "Let me see.").await?;
    let both = shown(browser, "visitor", "Let me see.").await?;
    ensure!(both == ["Where is my parcel?", "Let me see."], "{both:?}");
    Ok(())
}

/// After the restart, and after a reload: everything is there, once.
async fn goes_on(browser: &mut Client) -> Result<()> {
    write(browser, "agent", "It is in Tartu.").await?;
    let all = ["Where is my parcel?", "Let me see.", "It is in Tartu."];
    for side in ["visitor", "agent"] {
        let texts = shown(browser, side, "It is in Tartu.").await?;
        ensure!(texts == all, "{side}: {texts:?}");
    }
    browser
        .perform(json!({"do": "reload", "tab": "visitor"}), "visitor")
        .await?;
    let texts = shown(browser, "visitor", "It is in Tartu.").await?;
    ensure!(texts == all, "{texts:?}");
    browser
        .perform(
            json!({"do": "click", "tab": "agent", "selector": "#end"}),
            "end",
        )
        .await?;
    browser.see("visitor", "#line", "ended").await?;
    Ok(())
}
