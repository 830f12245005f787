//! The real clients in `tests/js`, each a process that speaks one JSON object per line.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A client that says nothing for so long has nothing more to say: a heartbeat of the hub comes every
/// 15 s, and a busy machine with a browser on it needs a few more.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A running client; dropping it kills it.
#[derive(Debug)]
pub struct Client {
    script: &'static str,
    _child: Child,
    /// The client ends when this is closed.
    _input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// One line of a client.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    /// What it tells of: `open`, `event`, `reset`, `raw`, `item`, `error`, …
    pub kind: String,
    /// The event's name.
    #[serde(rename = "type")]
    pub event: String,
    /// `lastEventId`.
    pub id: String,
    /// The event's data.
    pub data: String,
    /// A chunk as the client handed it out.
    pub text: String,
    /// The place to go on from.
    pub offset: String,
    /// What went wrong.
    pub message: String,
}

impl Client {
    /// Starts `node <script> <arguments>`.
    ///
    /// # Errors
    /// When node is not there.
    pub fn start(script: &'static str, arguments: &[&str]) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
        let mut child = Command::new("node")
            .arg(script)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node is needed; `cargo xtask ci` says how to get it")?;
        let input = child.stdin.take().context("piped")?;
        let output = child.stdout.take().context("piped")?;
        Ok(Self {
            script,
            _child: child,
            _input: input,
            lines: BufReader::new(output).lines(),
        })
    }

    /// Its next line.
    ///
    /// # Errors
    /// When none comes in time, or it has ended.
    pub async fn line(&mut self) -> Result<Line> {
        let script = self.script;
        let line = tokio::time::timeout(SILENCE, self.lines.next_line()).await;
        match line.with_context(|| format!("{script} says nothing"))?? {
            Some(line) => serde_json::from_str(&line).with_context(|| line.clone()),
            None => bail!("{script} has ended"),
        }
    }

    /// Waits for a line of this kind.
    ///
    /// # Errors
    /// As [`Client::line`].
    pub async fn wait_for(&mut self, kind: &str) -> Result<Line> {
        loop {
            let line = self.line().await?;
            if line.kind == kind {
                return Ok(line);
            }
        }
    }
}
