//! One `redis-server`: its options, its life and death, and questions to it.
//!
//! Every method takes `&self`, so that a test can kill and restart the server under load that other tasks make. The
//! configuration is written once: what Redis itself writes into it (`CONFIG REWRITE` of a Sentinel) outlives a restart,
//! as it does in production.

mod access;
mod builder;

pub use builder::RedisServerBuilder;

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use redis::{
    AsyncConnectionConfig, FromRedisValue, ToRedisArgs, Value, aio::MultiplexedConnection,
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use self::access::Access;
use super::{
    Certificates, PortLease, READY_DEADLINE, TcpProxy,
    process::{self, Process},
    wait_for,
};

/// For connecting and, again, for the answer. A healthy server on a busy machine answers within milliseconds; the
/// longest single command of the tests (a `MIGRATE` of a page of keys) stays far below.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// A sentinel's own periods, which no configuration file sets and no restart keeps. It asks servers for their role every
/// second, not every ten; corrects a wrong role after two seconds of its sight, not eight (four times the period of
/// publishing itself); and after a halt of its own (a busy machine, a `pause`) acts again after one second, not thirty.
const SENTINEL_TEMPO: &[&str] = &[
    "SENTINEL",
    "DEBUG",
    "INFO-PERIOD",
    "1000",
    "PUBLISH-PERIOD",
    "500",
    "TILT-PERIOD",
    "1000",
];

/// One server that runs, is paused, or is dead and can be restarted with what it has on disk. `Drop` kills it.
#[derive(Debug)]
pub struct RedisServer {
    // First, so that it is dead before its directory goes.
    process: Mutex<Option<Process>>,
    access: Access,
    kind: Kind,
    proxy: Option<TcpProxy>,
    lease: PortLease,
    dir: TempDir,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Plain,
    ClusterNode,
    Sentinel,
}

impl RedisServer {
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// A server with the defaults: free port, nothing kept on disk, no password.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// What a client is to be given, with user and password: `redis://…` or `rediss://…`, through the proxy if there is
    /// one.
    pub fn url(&self) -> String {
        self.access.url(self.address())
    }

    /// Where clients connect to: the proxy if there is one, else the server.
    pub fn address(&self) -> SocketAddr {
        self.proxy
            .as_ref()
            .map_or_else(|| self.lease.address(), TcpProxy::address)
    }

    /// The port that the server itself listens on.
    pub fn port(&self) -> u16 {
        self.lease.port()
    }

    /// The directory with `redis.conf`, `redis.log`, the append-only files and, with TLS, `ca.pem`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// With TLS: the authority to trust.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.access.certificates.as_ref()
    }

    /// The proxy of [`RedisServerBuilder::proxied`].
    pub fn proxy(&self) -> Result<&TcpProxy> {
        self.proxy
            .as_ref()
            .context("this server was built without .proxied()")
    }

    /// See [`TcpProxy::cut`].
    pub async fn cut(&self) -> Result<()> {
        self.proxy()?.cut().await
    }

    /// See [`TcpProxy::cut_from`].
    pub async fn cut_from(&self, source: IpAddr) -> Result<()> {
        self.proxy()?.cut_from(source).await
    }

    /// See [`TcpProxy::stall`].
    pub fn stall(&self) -> Result<()> {
        self.proxy()?.stall();
        Ok(())
    }

    /// See [`TcpProxy::heal`].
    pub async fn heal(&self) -> Result<()> {
        self.proxy()?.heal().await
    }

    /// SIGKILL; back when the process is gone. Nothing happens to a server that is dead already.
    pub async fn kill(&self) -> Result<()> {
        match self.process.lock().await.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM; back when the process has written what it has to and is gone.
    pub async fn stop(&self) -> Result<()> {
        match self.process.lock().await.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Starts the server again on the same port and directory, after a `stop` if it still runs. Back when it answers
    /// PING and has finished loading.
    pub async fn restart(&self) -> Result<()> {
        let mut running = self.process.lock().await;
        if let Some(process) = running.take()
            && !process.has_exited()
        {
            process.stop().await?;
        }
        let binary =
            env::var_os("TIDINGS_REDIS_SERVER").unwrap_or_else(|| OsString::from("redis-server"));
        let mut args = vec![self.config_path().into_os_string()];
        if self.kind == Kind::Sentinel {
            args.push("--sentinel".into());
        }
        let process = Process::spawn(&binary, &args, self.dir.path(), &self.log_path())?;
        let ready = self.wait_until_ready(&process).await;
        if ready.is_ok() {
            *running = Some(process);
        }
        ready.with_context(|| {
            format!(
                "redis-server on port {} did not start; its log:\n{}",
                self.port(),
                self.log_tail()
            )
        })
    }

    /// SIGSTOP: connections stay open, the kernel still accepts new ones, nothing is answered.
    pub async fn pause(&self) -> Result<()> {
        self.process
            .lock()
            .await
            .as_mut()
            .context("the server is dead")?
            .pause()
            .await
    }

    /// SIGCONT after `pause`.
    pub async fn resume(&self) -> Result<()> {
        self.process
            .lock()
            .await
            .as_mut()
            .context("the server is dead")?
            .resume()
            .await
    }

    /// Whether the process is there (running or paused).
    pub async fn is_running(&self) -> bool {
        self.process
            .lock()
            .await
            .as_ref()
            .is_some_and(|process| !process.has_exited())
    }

    /// Processor time that the running process has used, user and system, in seconds (to 10 ms).
    pub async fn cpu_seconds(&self) -> Result<f64> {
        self.process
            .lock()
            .await
            .as_ref()
            .context("the server is dead")?
            .cpu_seconds()
    }

    /// Sends one command over a connection of its own, past the proxy. An error that Redis answers is found in the
    /// result with `downcast_ref::<redis::RedisError>()`. Not for commands that block longer than four seconds.
    pub async fn command<Word: ToRedisArgs>(&self, words: &[Word]) -> Result<Value> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        let mut connection = self.connect().await?;
        let answer = command.query_async(&mut connection).await;
        answer.with_context(|| {
            format!(
                "the server on port {} refused or lost a command",
                self.port()
            )
        })
    }

    /// A new connection, past the proxy, with explicit time-outs.
    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        let times = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let connection = self
            .access
            .client(self.lease.address())?
            .get_multiplexed_async_connection_with_config(&times)
            .await;
        connection.with_context(|| format!("cannot connect to the server on port {}", self.port()))
    }

    /// Calls per command since the process started, by `INFO commandstats`; a subcommand reads `client|kill`.
    pub async fn command_stats(&self) -> Result<BTreeMap<String, u64>> {
        let mut stats = BTreeMap::new();
        for (name, value) in self.info("commandstats").await? {
            let calls = value
                .split(',')
                .find_map(|part| part.strip_prefix("calls="));
            if let (Some(command), Some(calls)) = (name.strip_prefix("cmdstat_"), calls) {
                stats.insert(command.to_owned(), calls.parse()?);
            }
        }
        Ok(stats)
    }

    /// The lines of one section of INFO.
    pub async fn info(&self, section: &str) -> Result<BTreeMap<String, String>> {
        let text = String::from_redis_value(self.command(&["INFO", section]).await?)?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// Closes the connections of all ordinary clients; answers how many.
    pub async fn kill_clients(&self) -> Result<u64> {
        Ok(u64::from_redis_value(
            self.command(&["CLIENT", "KILL", "TYPE", "normal"]).await?,
        )?)
    }

    /// `master` or `slave`, as the server itself says.
    pub async fn role(&self) -> Result<String> {
        match self.command(&["ROLE"]).await? {
            Value::Array(fields) => {
                let role = fields.into_iter().next().context("ROLE answered nothing")?;
                Ok(String::from_redis_value(role)?)
            }
            other => bail!("ROLE answered {other:?}"),
        }
    }

    /// As a primary: waits until `replica` has everything that was written here before this call. (`WAIT` would not
    /// do: it speaks of the writes of its own connection.)
    pub async fn wait_for_replica(&self, replica: &Self) -> Result<()> {
        let written = offset(&self.info("replication").await?, "master_repl_offset")?;
        wait_for("a replica to be in step", READY_DEADLINE, || async {
            let info = replica.info("replication").await?;
            let link = info
                .get("master_link_status")
                .map_or("absent", String::as_str);
            ensure!(link == "up", "its link is {link}");
            let arrived = offset(&info, "slave_repl_offset")?;
            ensure!(arrived >= written, "it is at {arrived} of {written} bytes");
            Ok(())
        })
        .await
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        process::tail(&self.log_path())
    }

    async fn wait_until_ready(&self, process: &Process) -> Result<()> {
        let ready = wait_for("the server to answer", READY_DEADLINE, || async {
            if process.has_exited() {
                return Ok(Err(anyhow::anyhow!("it exited")));
            }
            self.command(&["PING"]).await?;
            let info = self.info("server").await?;
            // Another server may sit on the port, with ours about to find out that it cannot bind.
            let pid = info.get("process_id").context("INFO names no process")?;
            ensure!(
                *pid == process.pid().to_string(),
                "process {pid} answers on the port"
            );
            let loading = self.info("persistence").await?.remove("loading");
            ensure!(
                loading.is_none_or(|loading| loading == "0"),
                "it is loading"
            );
            if self.kind == Kind::Sentinel {
                self.command(SENTINEL_TEMPO).await?;
            }
            Ok(Ok(()))
        });
        ready.await?
    }

    fn could_not_bind(&self) -> bool {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).contains("Address already in use")
    }

    fn config_path(&self) -> PathBuf {
        self.dir.path().join("redis.conf")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("redis.log")
    }
}

fn offset(info: &BTreeMap<String, String>, name: &str) -> Result<u64> {
    let text = info
        .get(name)
        .with_context(|| format!("INFO names no {name}"))?;
    Ok(text.parse()?)
}
