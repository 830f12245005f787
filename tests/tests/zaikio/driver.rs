//! One real client in a process of its own, told what to do and telling what happens, a JSON object a line.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidings_tests::SOON;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

/// A client; dropping it kills it.
pub(crate) struct Driver {
    who: String,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said so far.
    said: Vec<Value>,
    /// By kind, where in it that stands which nobody has waited for yet.
    fresh: HashMap<String, VecDeque<usize>>,
}

impl Driver {
    /// A client from npm: see `tests/js/cable.mjs`.
    pub(crate) fn node(options: &Value) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
        let mut command = Command::new("node");
        command.arg("cable.mjs").current_dir(folder);
        let who = format!("{} {}", options["client"], options["protocol"]);
        Self::start(who, command, options)
    }

    /// A client from PyPI; `None` where their packages are not installed.
    pub(crate) fn python(script: &str, options: &Value) -> Result<Option<Self>> {
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
    pub(crate) async fn tell(&mut self, command: Value) -> Result<()> {
        let line = format!("{command}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.with_context(|| format!("{}: {:?}", self.who, self.last()))
    }

    /// Subscribes, by the name that its lines then have in `as`.
    pub(crate) async fn subscribe(&mut self, name: &str, params: Value) -> Result<()> {
        self.tell(json!({"do": "subscribe", "as": name, "params": params}))
            .await
    }

    /// Calls an action of a subscription.
    pub(crate) async fn perform(&mut self, name: &str, action: &str, data: Value) -> Result<()> {
        self.tell(json!({"do": "perform", "as": name, "action": action, "data": data}))
            .await
    }

    /// The next line of a kind that nobody has waited for yet and that fits.
    pub(crate) async fn until(
        &mut self,
        kind: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
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
    pub(crate) async fn about(&mut self, kind: &str, name: &str) -> Result<Value> {
        self.until(kind, |line| line["as"] == name)
            .await
            .with_context(|| format!("{kind} {name}"))
    }

    /// The next frame of a type.
    pub(crate) async fn frame(&mut self, of_type: &str) -> Result<Value> {
        let line = self.until("frame", |line| line["frame"]["type"] == of_type);
        Ok(line.await.with_context(|| of_type.to_owned())?["frame"].take())
    }

    /// The next event of a subscription must have this number; answers with the event.
    pub(crate) async fn receives(&mut self, name: &str, number: u64) -> Result<Value> {
        let line = self.about("received", name).await?;
        let fits = line["message"]["payload"]["n"] == number;
        ensure!(fits, "{}: {number} is next, and it got {line}", self.who);
        Ok(line)
    }

    /// The next event of a plain websocket must have this number; answers with its frame.
    pub(crate) async fn gets(&mut self, number: u64) -> Result<Value> {
        let mut line = self.until("event", |_| true).await?;
        let fits = line["frame"]["message"]["payload"]["n"] == number;
        ensure!(fits, "{}: {number} is next, and it got {line}", self.who);
        Ok(line["frame"].take())
    }

    /// Listens until this time has come.
    pub(crate) async fn listen_until(&mut self, end: Instant) -> Result<()> {
        while let Ok(read) = timeout_at(end, self.line()).await {
            read?;
        }
        Ok(())
    }

    /// Listens for a while; only where the protocol itself is about time.
    pub(crate) async fn listen(&mut self, time: Duration) -> Result<()> {
        self.listen_until(Instant::now() + time).await
    }

    /// Reads one line; it is there afterwards.
    pub(crate) async fn line(&mut self) -> Result<()> {
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
    pub(crate) fn everything(&self) -> impl Iterator<Item = &Value> {
        self.said.iter()
    }

    /// Everything that it said of a kind, in order.
    pub(crate) fn all<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        let lines = self.said.iter();
        lines.filter(move |line| line["kind"] == kind)
    }

    /// How many lines of a kind there were.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.all(kind).count()
    }

    /// How many lines of a kind there were about a subscription.
    pub(crate) fn count_about(&self, kind: &str, name: &str) -> usize {
        self.all(kind).filter(|line| line["as"] == name).count()
    }

    /// The numbers of all events that a subscription got, in order.
    pub(crate) fn numbers(&self, name: &str) -> Vec<u64> {
        let lines = self.all("received").filter(|line| line["as"] == name);
        lines
            .filter_map(|line| line["message"]["payload"]["n"].as_u64())
            .collect()
    }

    /// One connection all the time, and a ping on it at least every six seconds, where clients give up.
    pub(crate) fn was_never_stale(&self) -> Result<()> {
        ensure!(self.count("open") == 1, "{}: {:?}", self.who, self.last());
        ensure!(self.count("shut") == 0, "{}: {:?}", self.who, self.last());
        let pings: Vec<u64> = self
            .all("ping")
            .filter_map(|line| line["at"].as_u64())
            .collect();
        let gap = pings.windows(2).map(|pair| pair[1] - pair[0]).max();
        ensure!(
            gap.is_some_and(|gap| gap < 6_000),
            "{}: {pings:?}",
            self.who
        );
        Ok(())
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill -9")
    }

    /// The end of what it said, for a failure.
    fn last(&self) -> Vec<String> {
        let from = self.said.len().saturating_sub(30);
        let lines = self.said[from..].iter();
        lines.map(Value::to_string).collect()
    }
}
