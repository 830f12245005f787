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
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use prometheus::Registry;
use serde::de::DeserializeOwned;
use tidings_adapter::Adapter;
use tidings_core::LogError;
use tidings_log_memory::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::auth;
use crate::cli::client::ClientError;
use crate::cli::{self, Cli, Command, ConfigCommand, ServeArgs, TokenCommand};
use crate::config::layers::USUAL_FILE;
use crate::config::{Config, Loaded, Mistakes, Sources, load};
use crate::dialects;
use crate::edge::tls::Certificates;
use crate::instance::{Instance, StartError, Waiting};
use crate::limits::INGEST_GOODBYE;
use crate::log;
use crate::telemetry::{Spans, log_lines};

/// A command line, an environment, and adapters.
pub struct App {
    cli: Cli,
    environment: Vec<(String, String)>,
    adapters: Vec<Part>,
}

/// An adapter, or how it is made of its part of the configuration.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) make: Box<Make>,
}

/// Makes an adapter of the configuration, or says what is wrong there.
pub(crate) type Make = dyn FnOnce(&Loaded) -> Result<Box<dyn Adapter>, Mistakes> + Send;

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.adapters.iter().map(|one| one.name).collect();
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
    /// A token is not good, or cannot be made.
    #[error(transparent)]
    Token(#[from] cli::token::TokenFailure),
    /// The doctor found something.
    #[error(transparent)]
    Diagnosis(#[from] cli::doctor::Diagnosis),
    /// An instance is not healthy.
    #[error(transparent)]
    Unwell(#[from] cli::health::Unwell),
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
            Self::Token(error) => error.code(),
            Self::Diagnosis(diagnosis) => diagnosis.code(),
            Self::Log(_) | Self::Start(_) | Self::Unwell(_) | Self::Io(_) => 1,
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
        self.adapters.push(Part {
            name: adapter.name(),
            make: Box::new(|_| Ok(Box::new(adapter))),
        });
        self
    }

    /// Adds the adapter of this name, made of `[adapters.<name>]` when the server starts: what is
    /// wrong there is then said with everything else, and commands that serve nothing need none of
    /// it. `T` must say `deny_unknown_fields`, or a misspelt key is passed over.
    ///
    /// ```no_run
    /// # struct Options;
    /// # impl<'de> serde::Deserialize<'de> for Options {
    /// #     fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> { Ok(Self) }
    /// # }
    /// # struct Push;
    /// # impl Push { fn new(_: Options) -> Self { Self } }
    /// # impl tidings_adapter::Adapter for Push {
    /// #     fn name(&self) -> &'static str { "push" }
    /// #     fn router(self: Box<Self>, _: tidings_adapter::Hub) -> axum::Router { axum::Router::new() }
    /// # }
    /// # fn main() -> Result<(), tidings_server::AppError> {
    /// let app = tidings_server::App::from_env()?.adapter_from("push", |options: Options| Push::new(options));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn adapter_from<T, A>(
        mut self,
        name: &'static str,
        make: impl FnOnce(T) -> A + Send + 'static,
    ) -> Self
    where
        T: DeserializeOwned,
        A: Adapter,
    {
        self.adapters.push(Part {
            name,
            make: Box::new(move |loaded| Ok(Box::new(make(loaded.options::<T>(name)?)))),
        });
        self
    }

    /// What `[adapters.<name>]` says, without its `mount`. [`App::adapter_from`] is for adapters;
    /// this is for a `main` that needs it earlier.
    ///
    /// # Errors
    /// [`AppError::Config`], with everything that is wrong.
    pub fn options<T: DeserializeOwned>(&self, adapter: &str) -> Result<T, AppError> {
        let args = match &self.cli.command {
            None => &self.cli.serve,
            Some(
                Command::Serve(args)
                | Command::Config {
                    command: ConfigCommand::Check(args) | ConfigCommand::Show(args),
                },
            ) => args,
            Some(_) => &ServeArgs::default(),
        };
        let mut sources = sources(args, self.environment.clone(), vec![adapter.to_owned()]);
        sources.other_adapters = true;
        Ok(load(&sources)?.options(adapter)?)
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
        let mut adapters = std::mem::take(&mut self.adapters);
        let environment = std::mem::take(&mut self.environment);
        let names: Vec<_> = adapters.iter().map(|one| one.name.to_owned()).collect();
        let sources = |args: &ServeArgs| sources(args, environment.clone(), names.clone());
        adapters.extend(dialects::parts());
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
                        made(adapters, &load(&sources(&args))?)?;
                        writeln!(out, "the configuration is good")?;
                    }
                    ConfigCommand::Show(args) => write!(out, "{}", load(&sources(&args))?)?,
                }
                Ok(())
            }
            Some(Command::Publish(args)) => cli::publish::run(&args).await,
            Some(Command::Tail(args)) => cli::tail::run(&args).await,
            Some(Command::Doctor(args)) => {
                cli::doctor::run(&args, &load(&sources(&args.serve()))?.config).await
            }
            Some(Command::Cardsavr { command }) => cli::cardsavr::run(&command).await,
            Some(Command::Health(args)) => Ok(cli::health::run(&args).await?),
            Some(Command::Token { command }) => match command {
                TokenCommand::Mint(args) => cli::token::mint(&args),
                TokenCommand::Inspect(args) => {
                    cli::token::inspect(&args, &load(&sources(&args.serve))?.config).await
                }
                TokenCommand::Keygen(args) => cli::token::keygen(&args),
            },
        }
    }
}

/// The adapters, made of their parts of the configuration; or all that is wrong there.
fn made(adapters: Vec<Part>, loaded: &Loaded) -> Result<Vec<Box<dyn Adapter>>, Mistakes> {
    let (mut made, mut mistakes) = (Vec::new(), Vec::new());
    let there = |part: &Part| loaded.adapters.iter().any(|name| name == part.name);
    for part in adapters.into_iter().filter(there) {
        match (part.make)(loaded) {
            Ok(adapter) => made.push(adapter),
            Err(wrong) => mistakes.extend(wrong.0),
        }
    }
    if mistakes.is_empty() {
        Ok(made)
    } else {
        Err(Mistakes(mistakes))
    }
}

fn sources(args: &ServeArgs, environment: Vec<(String, String)>, adapters: Vec<String>) -> Sources {
    let flag = |key, flag, value: &Option<String>| value.clone().map(|value| (key, flag, value));
    let listen = flag("server.listen", "--listen", &args.listen);
    let redis = flag("redis.url", "--redis", &args.redis);
    Sources {
        usual_file: Some(PathBuf::from(USUAL_FILE)),
        dev: args.dev,
        file: args.config.clone(),
        environment,
        adapters,
        dialects: dialects::NAMES.map(str::to_owned).to_vec(),
        other_adapters: false,
        flags: listen.into_iter().chain(redis).collect(),
    }
}

/// Serves until the process is told to leave.
async fn serve(loaded: &Loaded, dev: bool, adapters: Vec<Part>) -> Result<(), AppError> {
    let config = &loaded.config;
    let adapters = made(adapters, loaded)?;
    log_lines(&config.telemetry);
    // Before anything listens: a signal that comes meanwhile is not lost.
    let mut leaving = Leaving::listen()?;
    let registry = Registry::new();
    let spans = Spans::start(&config.telemetry, &registry).map_err(StartError::from)?;
    let clock = Arc::new(SystemClock);
    let waiting = Waiting::bind(config, adapters, registry.clone())?;
    tokio::spawn(read_again(waiting.certificates().clone(), hangups()?));
    let log = tokio::select! {
        log = log::open(config, clock.clone(), &registry) => log?,
        signal = leaving.signal() => {
            tracing::info!(signal, "leaving before there was a log");
            return Ok(());
        }
    };
    let instance = waiting.start(log.events(), clock)?;
    if let Some(spans) = &spans {
        instance.hub().observe(spans.observer());
    }
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
    let ingest = async {
        if let Some(ingest) = ingest {
            // Its batch is finished or comes again at another instance: nothing is lost by not waiting.
            let _ = tokio::time::timeout(INGEST_GOODBYE, ingest).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(ingest, instance.leave()) } => tracing::info!("left"),
        // Told twice: whoever is still connected finds the connection closed, and comes back.
        signal = leaving.signal() => tracing::warn!(signal, "told again, left at once"),
    }
    if let Some(spans) = spans {
        spans.flush().await;
    }
    Ok(())
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
            "DEVELOPMENT MODE: every dialect is on, the public key `dev-key` opens every topic, to \
             pages of every origin (config/tidings.dev.toml has all sample keys)"
        );
    } else if auth::is_closed(config) {
        tracing::warn!(
            "nobody may publish or read: no key is configured. Make one with \
             `openssl rand -hex 24` and put it under [[keys]] in {USUAL_FILE}, or try --dev"
        );
    }
}

/// SIGHUP, which ends a process that does not listen for it.
fn hangups() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
}

/// On SIGHUP the certificates are read again at once.
async fn read_again(certificates: Certificates, mut hangups: tokio::signal::unix::Signal) {
    while hangups.recv().await.is_some() {
        tracing::info!("SIGHUP: looking at the certificates");
        let certificates = certificates.clone();
        // Files may be on a network; what a look came to, it says itself.
        let _ = tokio::task::spawn_blocking(move || certificates.reload()).await;
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
