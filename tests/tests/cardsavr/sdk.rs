//! Strivve's SDK in a process of its own, told what to do and telling what comes of it, a JSON object a line: see
//! `tests/js/cardsavr.mjs`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidings_tests::SOON;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

/// The SDKs that everything must work with: the newest, 3.3.4, and the newest in a browser's page.
pub(crate) const ALL: [&str; 3] = ["3.4", "3.3", "page"];

/// One SDK; dropping it kills it.
pub(crate) struct Sdk {
    pub(crate) which: &'static str,
    _child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    commands: u64,
    /// What listeners heard and nobody has waited for.
    events: Vec<Value>,
}

impl Sdk {
    pub(crate) async fn start(which: &'static str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
        let mut child = Command::new("node")
            .arg("cardsavr.mjs")
            .arg(json!({ "sdk": which }).to_string())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node is needed; `cargo xtask ci` says how to get it")?;
        let input = child.stdin.take().context("piped")?;
        let output = child.stdout.take().context("piped")?;
        let mut sdk = Self {
            which,
            _child: child,
            input,
            lines: BufReader::new(output).lines(),
            commands: 0,
            events: Vec::new(),
        };
        let ready = sdk.line(Instant::now() + SOON).await?;
        ensure!(ready["kind"] == "ready", "{ready}");
        Ok(sdk)
    }

    /// Tells it to do something; answers with what came of it, `done` or `failed`.
    pub(crate) async fn tell(&mut self, command: Value) -> Result<Value> {
        let number = self.send(&command).await?;
        let deadline = Instant::now() + SOON;
        loop {
            let line = self.line(deadline).await;
            let line = line.with_context(|| command.to_string())?;
            if line["kind"] == "event" {
                self.events.push(line);
            } else if line["n"] == number {
                return Ok(line);
            } else {
                bail!("{}: {command} is answered with {line}", self.which);
            }
        }
    }

    async fn send(&mut self, command: &Value) -> Result<u64> {
        self.commands += 1;
        let mut command = command.clone();
        command["n"] = self.commands.into();
        self.input
            .write_all(format!("{command}\n").as_bytes())
            .await
            .context("it has ended")?;
        Ok(self.commands)
    }

    /// The next line; one that tells of a promise which nobody caught is a failure anywhere.
    async fn line(&mut self, deadline: Instant) -> Result<Value> {
        let line = timeout_at(deadline, self.lines.next_line()).await;
        let line = line.with_context(|| format!("{} says nothing", self.which))??;
        let line = line.with_context(|| format!("{} has ended", self.which))?;
        let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let fatal = line["kind"] == "unhandled" || line["kind"] == "fatal";
        ensure!(!fatal, "{}: {line}", self.which);
        Ok(line)
    }

    /// Tells it to do something that succeeds.
    pub(crate) async fn done(&mut self, command: Value) -> Result<Value> {
        let done = self.tell(command.clone()).await?;
        ensure!(done["kind"] == "done", "{}: {command}: {done}", self.which);
        Ok(done)
    }

    /// Calls a method of a session, which succeeds; answers with status, body and headers.
    pub(crate) async fn call(&mut self, session: &str, method: &str, args: Value) -> Result<Value> {
        self.done(json!({"do": "call", "as": session, "method": method, "args": args}))
            .await
    }

    /// As [`Sdk::call`], with the body alone.
    pub(crate) async fn body(&mut self, session: &str, method: &str, args: Value) -> Result<Value> {
        Ok(self.call(session, method, args).await?["body"].take())
    }

    /// Calls a method of a session, which is refused with one of these statuses and the documented body.
    pub(crate) async fn refused(
        &mut self,
        session: &str,
        method: &str,
        args: Value,
        statuses: &[u16],
    ) -> Result<Value> {
        let command = json!({"do": "call", "as": session, "method": method, "args": args});
        let failed = self.tell(command.clone()).await?;
        let told = format!("{}: {command}: {failed}", self.which);
        ensure!(failed["kind"] == "failed", "{told}");
        ensure!(failed["name"] == "CardsavrRestError", "{told}");
        let fits = statuses.iter().any(|status| failed["status"] == *status);
        ensure!(fits, "not {statuses:?}: {told}");
        let errors = failed["errors"].as_array().with_context(|| told.clone())?;
        ensure!(!errors.is_empty(), "{told}");
        for error in errors {
            for member in ["name", "message", "property"] {
                ensure!(error[member].is_string(), "{member}: {told}");
            }
        }
        Ok(failed)
    }

    /// A request that was signed by the SDK and changed since; answers with its status, headers and text.
    pub(crate) async fn raw(&mut self, session: &str, change: Value) -> Result<Value> {
        let mut command = change;
        command["do"] = "raw".into();
        command["as"] = session.into();
        Ok(self.done(command).await?["value"].take())
    }

    /// What a listener hears next that fits.
    pub(crate) async fn hears(
        &mut self,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + SOON;
        if let Some(at) = self.events.iter().position(&fits) {
            return Ok(self.events.remove(at));
        }
        loop {
            let line = self.line(deadline).await;
            let line = line.with_context(|| format!("{what}; heard: {:?}", self.events))?;
            if fits(&line) {
                return Ok(line);
            }
            ensure!(line["kind"] == "event", "{line}");
            self.events.push(line);
        }
    }

    /// What was heard and not waited for.
    pub(crate) fn heard(&self) -> &[Value] {
        &self.events
    }

    /// Hears whatever comes for a while; where nothing may come.
    pub(crate) async fn listen(&mut self, time: std::time::Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while let Ok(line) = timeout_at(deadline, self.lines.next_line()).await {
            let line: Value = serde_json::from_str(&line?.context("it has ended")?)?;
            ensure!(line["kind"] == "event", "{line}");
            self.events.push(line);
        }
        Ok(())
    }
}
