//! One running `tidings`: the real binary, as its own process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, wait_for};
use tokio::process::{Child, Command};

use crate::SOON;
use crate::http::{self, Answer};

/// The key that [`Instance`]s know, with every right.
pub const KEY: &str = "test-key-with-every-right";

/// A running instance; dropping it kills it.
#[derive(Debug)]
pub struct Instance {
    child: Child,
    port: PortLease,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Instance {
    /// Starts an instance on a free port and waits until it is ready. `arguments` go behind
    /// `serve`, e.g. `--redis URL`; the configuration gives every right to [`KEY`], and has
    /// `config` behind it.
    ///
    /// # Errors
    /// When it does not become ready; with what it printed.
    pub async fn start(arguments: &[&str], config: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("tidings.toml");
        let key = format!(
            "[[keys]]\nname = \"test\"\nkey = \"{KEY}\"\npublish = [\"**\"]\nread = [\"**\"]\n"
        );
        std::fs::write(&file, format!("{config}\n{key}"))?;
        let file = file.display().to_string();
        Self::launch(folder, &[&["--config", &file], arguments].concat()).await
    }

    /// Starts an instance in development mode, without a configuration of its own.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub async fn start_dev(arguments: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        // Whose ports the ones after this instance's are, is not known here.
        let file = folder.path().join("dialects.toml");
        let mounts = ["zaikio", "airsend", "burokratt", "cardsavr"]
            .map(|name| format!("[adapters.{name}.mount]\nlisten = \"127.0.0.1:0\"\n"));
        std::fs::write(&file, mounts.concat())?;
        let file = file.display().to_string();
        let dev = ["--dev", "--config", &file];
        Self::launch(folder, &[&dev[..], arguments].concat()).await
    }

    async fn launch(folder: TempDir, arguments: &[&str]) -> Result<Self> {
        let port = PortLease::take()?;
        let listen = port.address().to_string();
        let arguments = [&["serve", "--listen", &listen], arguments].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let child = spawn(&arguments, folder.path())?;
        let mut instance = Self {
            child,
            port,
            folder,
            arguments,
        };
        instance.ready().await?;
        Ok(instance)
    }

    /// Starts two instances on one Redis.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub async fn pair(redis: &str, config: &str) -> Result<[Self; 2]> {
        Ok([
            Self::start(&["--redis", redis], config).await?,
            Self::start(&["--redis", redis], config).await?,
        ])
    }

    /// Starts two instances, each with a dialect on a port of its own: `config` is told where that is.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub async fn mounted(
        arguments: &[&str],
        config: impl Fn(SocketAddr) -> String,
    ) -> Result<([Self; 2], [PortLease; 2])> {
        let mounts = [PortLease::take()?, PortLease::take()?];
        let [a, b] = [&mounts[0], &mounts[1]].map(|mount| config(mount.address()));
        let (a, b) = tokio::try_join!(Self::start(arguments, &a), Self::start(arguments, &b))?;
        Ok(([a, b], mounts))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When it does not in time, or has ended; with what it printed.
    pub async fn ready(&mut self) -> Result<()> {
        let address = self.address();
        let ready = wait_for("an instance to be ready", SOON, || async {
            let answer = http::send(address, "GET", "/readyz", &[], "").await?;
            ensure!(answer.status == 200, "{:?}", answer.body);
            Ok(())
        });
        tokio::select! {
            ready = ready => ready.with_context(|| self.printed()),
            status = self.child.wait() => bail!("it ended with {status:?}: {}", self.printed()),
        }
    }

    /// Sends a request with [`KEY`].
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let bearer = format!("Bearer {KEY}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        http::send(self.address(), method, path, &all, body).await
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill -9")
    }

    /// SIGTERM, and waits until it has left by itself.
    ///
    /// # Errors
    /// When it does not leave in time or not with status 0.
    pub async fn terminate(&mut self) -> Result<()> {
        self.tell_to_leave().await?;
        self.left().await
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn tell_to_leave(&self) -> Result<()> {
        self.signal("-TERM").await
    }

    /// SIGSTOP: its sockets stay, and nothing happens in it until [`Instance::thaw`].
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn freeze(&self) -> Result<()> {
        self.signal("-STOP").await
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn thaw(&self) -> Result<()> {
        self.signal("-CONT").await
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().context("it has ended already")?.to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await?;
        ensure!(sent.success(), "kill {signal} failed");
        Ok(())
    }

    /// Waits until it has left by itself.
    ///
    /// # Errors
    /// When it does not leave in time or not with status 0.
    pub async fn left(&mut self) -> Result<()> {
        let status = tokio::time::timeout(SOON, self.child.wait())
            .await
            .with_context(|| self.printed())??;
        ensure!(status.success(), "{status}: {}", self.printed());
        Ok(())
    }

    /// Starts it again on its port, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.child = spawn(&self.arguments, self.folder.path())?;
        self.ready().await
    }
}

fn spawn(arguments: &[String], folder: &Path) -> Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    Command::new(binary()?)
        .args(arguments)
        // An empty folder: no configuration file of the checkout is picked up.
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("the binary does not start")
}

/// The binary: `TIDINGS_BIN`, or this workspace's own, built now.
///
/// # Errors
/// When it does not build.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = std::env::var_os("TIDINGS_BIN") {
        return Ok(found.into());
    }
    if let Some(built) = BINARY.get() {
        return Ok(built.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = [
        "build",
        "--quiet",
        "--package",
        "tidings-server",
        "--bin",
        "tidings",
    ];
    let status = std::process::Command::new(cargo)
        .args(build)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    ensure!(status.success(), "the binary does not build");
    // target/debug/deps/<this test> → target/debug/tidings
    let test = std::env::current_exe()?;
    let folder = test
        .ancestors()
        .nth(2)
        .context("a test runs from target/<profile>/deps")?;
    Ok(BINARY.get_or_init(|| folder.join("tidings")).clone())
}
