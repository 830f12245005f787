//! Servers for a measurement: a Redis without persistence and one hub, on free ports of this
//! machine, pinned to a core, in a folder of their own, and gone when the measurement is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::http::{Exchange, get};

/// How long a server may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The hub's binary.
    pub(crate) tidings: &'a Path,
    /// Redis' binary; without it the hub's log is in memory.
    pub(crate) redis_server: Option<&'a Path>,
    /// The core of both.
    pub(crate) core: u32,
    /// The hub's configuration, where its defaults do not do.
    pub(crate) config: Option<&'a str>,
    /// Topics that everybody may publish to and read.
    pub(crate) open_topics: &'a str,
}

/// A hub and its Redis.
#[derive(Debug)]
pub(crate) struct Servers {
    // Ended in this order: the hub first, so that it does not complain about Redis.
    pub(crate) hub: Server,
    pub(crate) redis: Option<Server>,
    _folder: Folder,
}

/// A process that was started here, and ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Servers {
    /// Starts fresh ones, so that no row sees another's events or memory.
    ///
    /// # Errors
    /// When one of them does not answer in time; its output is part of the error.
    pub(crate) async fn start(plan: &Plan<'_>) -> Result<Self> {
        let folder = Folder::new()?;
        let core = plan.core.to_string();
        let redis = match plan.redis_server {
            Some(program) => Some(start_redis(program, &core, &folder.0).await?),
            None => None,
        };
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        // Started in a folder of its own, where a relative path would lead nowhere.
        let tidings = fs::canonicalize(plan.tidings)
            .with_context(|| format!("there is no {}", plan.tidings.display()))?;
        let mut command = pinned(&core, &tidings);
        command.args(["serve", "--listen", &listen]);
        if let Some(redis) = &redis {
            command.args(["--redis", &format!("redis://127.0.0.1:{}", redis.port)]);
        }
        if let Some(config) = plan.config {
            let file = folder.0.join("hub.toml");
            fs::write(&file, config)?;
            command.arg("--config").arg(file);
        }
        for (name, _) in std::env::vars_os() {
            // Whatever is set for another hub on this machine is not meant for this one.
            if name.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(name);
            }
        }
        command
            .env("TIDINGS_API__ANONYMOUS_PUBLISH", plan.open_topics)
            .env("TIDINGS_API__ANONYMOUS_READ", plan.open_topics)
            // Measurements need 10,000 readers, and publishers beside them.
            .env("TIDINGS_SERVER__CONNECTIONS_MAX", "20000")
            .env("TIDINGS_TELEMETRY__LEVEL", "warn");
        let mut hub = Server::start(command, port, &folder.0, "hub")?;
        hub.answers().await?;
        Ok(Self {
            hub,
            redis,
            _folder: folder,
        })
    }
}

async fn start_redis(program: &Path, core: &str, folder: &Path) -> Result<Server> {
    let port = free_port()?;
    // A bare name is looked for in PATH, anything else is a path.
    let program = match program.components().count() {
        1 => program.to_owned(),
        _ => fs::canonicalize(program)
            .with_context(|| format!("there is no {}", program.display()))?,
    };
    let mut command = pinned(core, &program);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder);
    let mut redis = Server::start(command, port, folder, "redis")?;
    redis
        .wait(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        .await?;
    Ok(redis)
}

/// The program on one core: it sees a machine with one core, as the peers did when they were
/// measured.
fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// Pins this process to a core.
///
/// # Errors
/// When there is no such core, or no `taskset`.
pub(crate) fn pin_self(core: u32) -> Result<()> {
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string()])
        .arg(std::process::id().to_string())
        .stdout(Stdio::null())
        .status()
        .context("`taskset` (util-linux) cannot be started")?;
    if !pinned.success() {
        bail!("this process cannot be pinned to core {core}");
    }
    Ok(())
}

/// Raises this process' limit of open files, which the servers started here inherit, to the highest
/// that the system allows it: 10,000 connections are more than the usual 1,024.
///
/// # Errors
/// When `prlimit` is missing or refuses.
pub(crate) fn raise_open_files() -> Result<()> {
    let hard = limit_of_open_files().context("/proc says no limit of open files")?;
    let raised = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string()])
        .arg(format!("--nofile={hard}:{hard}"))
        .stdout(Stdio::null())
        .status()
        .context("`prlimit` (util-linux) cannot be started")?;
    if !raised.success() {
        bail!("the limit of open files cannot be raised to {hard}");
    }
    Ok(())
}

/// The hard limit, as it is written there.
fn limit_of_open_files() -> Option<String> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().nth(1).map(str::to_owned)
}

/// A port that is free now. Somebody else may take it before we do; then the start fails and says so.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

impl Server {
    fn start(mut command: Command, port: u16, folder: &Path, name: &str) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let program = command
            .get_args()
            .nth(2)
            .unwrap_or(OsStr::new("?"))
            .to_owned();
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self { child, port, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        // `taskset` becomes the program: it keeps the id.
        self.child.id()
    }

    /// Waits until the hub says that it is ready.
    async fn answers(&mut self) -> Result<()> {
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        let request = get("/readyz", &[]);
        let end = Instant::now() + START_WITHIN;
        loop {
            if let Ok(mut exchange) = Exchange::open(address).await
                && let Ok(answer) = exchange.ask(&request).await
                && answer.head.status == 200
            {
                return Ok(());
            }
            self.still_starting(end)?;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait(&mut self, is_up: impl Fn(u16) -> bool) -> Result<()> {
        let end = Instant::now() + START_WITHIN;
        while !is_up(self.port) {
            self.still_starting(end)?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn still_starting(&mut self, end: Instant) -> Result<()> {
        let why = match self.child.try_wait()? {
            Some(status) => format!("ended with {status}"),
            None if Instant::now() >= end => format!("does not answer after {START_WITHIN:?}"),
            None => return Ok(()),
        };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        bail!("a server {why}; it said:\n{}", said.trim());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is worth keeping, so it need not say goodbye.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Folder {
    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidings-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
