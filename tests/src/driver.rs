//! One real client in a process of its own, told what to do and telling what happens, a JSON object a line.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::SOON;

/// A client; dropping it kills it.
#[derive(Debug)]
pub struct Driver {
    /// For failures.
    pub who: String,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said so far.
    said: Vec<Value>,
    /// By kind, where in it that stands which nobody has waited for yet.
    fresh: HashMap<String, VecDeque<usize>>,
}

impl Driver {
    /// A script of `tests/js`.
    ///
    /// # Errors
    /// When node is not there.
    pub fn node(script: &str, options: &Value) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
        let mut command = Command::new("node");
        command.arg(script).current_dir(folder);
        let who = format!("{script} {}", options["client"]);
        Self::start(who, command, options)
    }

    /// A client from PyPI; `None` where their packages are not installed.
    #[expect(clippy::print_stdout, reason = "a test that looked at nothing says so")]
    pub fn python(script: &str, options: &Value) -> Result<Option<Self>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = root.join("target/python/bin/python");
        if !python.exists() {
            println!(
                "skipped: the clients from PyPI are not in target/python; `cargo xtask ci` puts them there"
            );
            return Ok(None);
        }
        let mut command = Command::new(python);
        command.arg("-B").arg(script);
        command.current_dir(root.join("tests/python"));
        Self::start(script.to_owned(), command, options).map(Some)
    }

    fn start(who: String, mut command: Command, options: &Value) -> Result<Self> {
        let mut child = command
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| who.clone())?;
        let input = child.stdin.take().context("piped")?;
        let output = child.stdout.take().context("piped")?;
        Ok(Self {
            who,
            child,
            input,
            lines: BufReader::new(output).lines(),
            said: Vec::new(),
            fresh: HashMap::new(),
        })
    }

    /// Tells it to do something.
    pub async fn tell(&mut self, command: Value) -> Result<()> {
        let line = format!("{command}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.with_context(|| format!("{}: {:?}", self.who, self.last()))
    }

    /// The next line of a kind that nobody has waited for yet and that fits.
    pub async fn until(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + SOON;
        let mut seen = 0;
        loop {
            if let Some(fresh) = self.fresh.get_mut(kind) {
                let mut places = fresh.iter().enumerate().skip(seen);
                if let Some((at, place)) = places.find(|(_, place)| fits(&self.said[**place])) {
                    let place = *place;
                    fresh.remove(at);
                    return Ok(self.said[place].clone());
                }
                seen = fresh.len();
            }
            match timeout_at(deadline, self.line()).await {
                Ok(read) => read?,
                Err(_) => bail!("{} waits in vain for {kind}: {:?}", self.who, self.last()),
            }
        }
    }

    /// The next line of a kind about a subscription.
    pub async fn about(&mut self, kind: &str, name: &str) -> Result<Value> {
        self.until(kind, |line| line["as"] == name)
            .await
            .with_context(|| format!("{kind} {name}"))
    }

    /// Listens until this time has come.
    pub async fn listen_until(&mut self, end: Instant) -> Result<()> {
        while let Ok(read) = timeout_at(end, self.line()).await {
            read?;
        }
        Ok(())
    }

    /// Listens for a while; only where the protocol itself is about time.
    pub async fn listen(&mut self, time: Duration) -> Result<()> {
        self.listen_until(Instant::now() + time).await
    }

    /// Reads one line; it is there afterwards.
    pub async fn line(&mut self) -> Result<()> {
        match self.lines.next_line().await? {
            Some(line) => {
                let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
                ensure!(line["kind"] != "fatal", "{}: {line}", self.who);
                let kind = line["kind"].as_str().unwrap_or_default().to_owned();
                self.fresh
                    .entry(kind)
                    .or_default()
                    .push_back(self.said.len());
                self.said.push(line);
                Ok(())
            }
            None => bail!("{} has ended: {:?}", self.who, self.last()),
        }
    }

    /// Everything that it said, in order.
    pub fn everything(&self) -> impl Iterator<Item = &Value> {
        self.said.iter()
    }

    /// Everything that it said of a kind, in order.
    pub fn all<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        let lines = self.said.iter();
        lines.filter(move |line| line["kind"] == kind)
    }

    /// How many lines of a kind there were.
    pub fn count(&self, kind: &str) -> usize {
        self.all(kind).count()
    }

    /// How many lines of a kind there were about a subscription.
    pub fn count_about(&self, kind: &str, name: &str) -> usize {
        self.all(kind).filter(|line| line["as"] == name).count()
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill -9")
    }

    /// The end of what it said, for a failure.
    #[must_use]
    pub fn last(&self) -> Vec<String> {
        let from = self.said.len().saturating_sub(30);
        let lines = self.said[from..].iter();
        lines.map(Value::to_string).collect()
    }
}
