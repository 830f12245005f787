//! The application: what a `main` starts, with as many adapters as it likes.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use tidings_server::{App, AppError};
//!
//! #[tokio::main]
//! async fn main() -> Result<ExitCode, AppError> {
//!     Ok(App::from_env()?.run().await) // or: .adapter(MyAdapter::new()).run()
//! }
//! ```

use std::ffi::OsString;
use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use prometheus::Registry;
use tidings_adapter::Adapter;
use tidings_core::LogError;
use tidings_log_memory::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::auth::Keyring;
use crate::cli::client::ClientError;
use crate::cli::{self, Cli, Command, ConfigCommand, ServeArgs};
use crate::config::layers::USUAL_FILE;
use crate::config::{Config, Loaded, LogFormat, Mistakes, Sources, load};
use crate::instance::{Instance, StartError, Waiting};
use crate::limits::INGEST_GOODBYE;
use crate::log;

/// A command line, an environment, and adapters.
pub struct App {
    cli: Cli,
    environment: Vec<(String, String)>,
    adapters: Vec<Box<dyn Adapter>>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.adapters.iter().map(|one| one.name()).collect();
        f.debug_struct("App").field("adapters", &names).finish()
    }
}

/// Why the application ended. What it prints is meant for the one who started it.
#[derive(thiserror::Error)]
pub enum AppError {
    /// A variable of ours is not text.
    #[error("the environment variable {0:?} is not UTF-8")]
    Environment(OsString),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The log cannot be used.
    #[error("the log cannot be used: {0}")]
    Log(#[from] LogError),
    /// The instance does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A server was not reached, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output or input, or a signal.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl fmt::Debug for AppError {
    /// A `main` that returns this prints it so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AppError {
    /// The exit code, as `tidings --help` lists them.
    fn code(&self) -> u8 {
        match self {
            Self::Environment(_) | Self::Config(_) => 2,
            Self::Client(error) => error.code(),
            Self::Log(_) | Self::Start(_) | Self::Io(_) => 1,
        }
    }
}

impl App {
    /// Takes the process' command line and environment. A command line that is not understood ends
    /// the process with a usage message.
    ///
    /// # Errors
    /// [`AppError::Environment`].
    pub fn from_env() -> Result<Self, AppError> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => environment.push((name, value)),
                (Ok(name), Err(_)) if name.starts_with("TIDINGS_") => {
                    return Err(AppError::Environment(name.into()));
                }
                _ => {}
            }
        }
        Ok(Self {
            cli: Cli::parse(),
            environment,
            adapters: Vec::new(),
        })
    }

    /// Adds an adapter.
    #[must_use]
    pub fn adapter(mut self, adapter: impl Adapter) -> Self {
        self.adapters.push(Box::new(adapter));
        self
    }

    /// Does what the command line says.
    pub async fn run(self) -> ExitCode {
        match self.perform().await {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever read our output has seen enough (`tidings tail … | head -1`).
            Err(AppError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "tidings: {error}");
                ExitCode::from(error.code())
            }
        }
    }

    async fn perform(mut self) -> Result<(), AppError> {
        let adapters = std::mem::take(&mut self.adapters);
        let environment = std::mem::take(&mut self.environment);
        let sources = |args: &ServeArgs| sources(args, environment.clone());
        match self.cli.command {
            None => {
                serve(
                    &load(&sources(&self.cli.serve))?,
                    self.cli.serve.dev,
                    adapters,
                )
                .await
            }
            Some(Command::Serve(args)) => serve(&load(&sources(&args))?, args.dev, adapters).await,
            Some(Command::Config { command }) => {
                let mut out = std::io::stdout();
                match command {
                    ConfigCommand::Check(args) => {
                        load(&sources(&args))?;
                        writeln!(out, "the configuration is good")?;
                    }
                    ConfigCommand::Show(args) => write!(out, "{}", load(&sources(&args))?)?,
                }
                Ok(())
            }
            Some(Command::Publish(args)) => cli::publish::run(&args).await,
            Some(Command::Tail(args)) => cli::tail::run(&args).await,
        }
    }
}

fn sources(args: &ServeArgs, environment: Vec<(String, String)>) -> Sources {
    let flag = |key, flag, value: &Option<String>| value.clone().map(|value| (key, flag, value));
    let listen = flag("server.listen", "--listen", &args.listen);
    let redis = flag("redis.url", "--redis", &args.redis);
    Sources {
        usual_file: Some(PathBuf::from(USUAL_FILE)),
        dev: args.dev,
        file: args.config.clone(),
        environment,
        flags: listen.into_iter().chain(redis).collect(),
    }
}

/// Serves until the process is told to leave.
async fn serve(
    loaded: &Loaded,
    dev: bool,
    adapters: Vec<Box<dyn Adapter>>,
) -> Result<(), AppError> {
    let config = &loaded.config;
    telemetry(config);
    // Before anything listens: a signal that comes meanwhile is not lost.
    let mut leaving = Leaving::listen()?;
    let registry = Registry::new();
    let clock = Arc::new(SystemClock);
    let waiting = Waiting::bind(config, adapters, registry.clone())?;
    let log = tokio::select! {
        log = log::open(config, clock.clone(), &registry) => log?,
        signal = leaving.signal() => {
            tracing::info!(signal, "leaving before there was a log");
            return Ok(());
        }
    };
    let instance = waiting.start(log.events(), clock)?;
    announce(config, &instance, dev);
    let hub = instance.hub().clone();
    let told_ready = tokio::spawn(async move {
        hub.ready().await;
        tracing::info!("ready");
    });
    let stop = CancellationToken::new();
    let ingest = log
        .ingest(config, &instance)
        .map(|ingest| tokio::spawn(ingest.run(stop.clone())));
    let signal = leaving.signal().await;
    tracing::info!(signal, "leaving");
    told_ready.abort();
    stop.cancel();
    if let Some(ingest) = ingest {
        // Its batch is finished or comes again at another instance: nothing is lost by not waiting.
        let _ = tokio::time::timeout(INGEST_GOODBYE, ingest).await;
    }
    instance.leave().await;
    tracing::info!("left");
    Ok(())
}

fn telemetry(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.telemetry.level.0);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Only the first one of a process can be installed; a second App in one process shares it.
    let _ = match config.telemetry.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Says what runs where, and what is open.
fn announce(config: &Config, instance: &Instance, dev: bool) {
    for (name, address) in instance.addresses() {
        tracing::info!(name, %address, "listening");
    }
    match &config.redis.url {
        Some(url) => {
            let redis = crate::config::report::without_password(url.expose());
            tracing::info!(%redis, "events are kept in Redis");
        }
        None => tracing::warn!(
            "events are kept in memory: for one instance only, and gone when it ends \
             (set redis.url, or start with --redis URL)"
        ),
    }
    if dev {
        let keys: Vec<_> = config.keys.iter().map(|key| key.name.as_str()).collect();
        tracing::warn!(
            ?keys,
            "DEVELOPMENT MODE: the public key `dev-key` opens every topic, to pages of every origin"
        );
    } else if Keyring::new(config).is_closed() {
        tracing::warn!(
            "nobody may publish or read: no key is configured. Make one with \
             `openssl rand -hex 24` and put it under [[keys]] in {USUAL_FILE}, or try --dev"
        );
    }
}

/// SIGTERM and SIGINT.
struct Leaving {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Leaving {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
