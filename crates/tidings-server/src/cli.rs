//! The command line, with help that teaches.

pub mod client;
pub mod publish;
pub mod sse;
pub mod tail;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A notification hub: publish once; read over polling, long-poll and Server-Sent Events, from any
/// of several instances, again for one hour.
#[derive(Debug, Parser)]
#[command(
    name = "tidings",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Try it:\n  \
        tidings serve --dev\n  \
        tidings publish demo/a greeting '{\"hello\":\"world\"}' --key dev-key\n  \
        tidings tail demo/a --from -1 --key dev-key\n\n\
        Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration,\n\
        3 the server was not reached or has no log for the moment (trying again may help)."
)]
pub struct Cli {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The arguments of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default).
    #[command(after_help = "Examples:\n  \
        tidings serve --dev                     events in memory, the sample key `dev-key`\n  \
        tidings serve --redis redis://host:6379 one of several instances\n  \
        TIDINGS_SERVER__LISTEN=0.0.0.0:80 tidings serve --config /etc/tidings.toml\n\n\
        Every key of the configuration, its default and where it comes from: tidings config show")]
    Serve(ServeArgs),
    /// Publish one event, or one a line.
    #[command(after_help = "Examples:\n  \
        tidings publish demo/a greeting '{\"hello\":\"world\"}'\n  \
        echo '[1,2]' | tidings publish demo/a numbers -\n  \
        tidings publish demo/a order '{\"n\":7}' --source /shop --id order-7   safe to repeat\n  \
        tidings publish --ndjson < events.ndjson       {\"topic\":…,\"type\":…,\"data\":…} a line\n\n\
        Prints the ids of what was stored.")]
    Publish(PublishArgs),
    /// Follow topics: one event a line, resuming by itself.
    #[command(after_help = "Examples:\n  \
        tidings tail demo/a                     from now on\n  \
        tidings tail demo/a demo/b --from -1    everything retained, then live\n  \
        tidings tail demo/a --since 2026-11-21T08:00:00Z --format data\n\n\
        A lost connection is made again and resumed by cursor; if events may have been missed,\n\
        that is said on standard error and everything retained comes again.")]
    Tail(TailArgs),
    /// Look at the configuration.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// `tidings config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with it: the key, its value, where it comes from, what is allowed.
    Check(ServeArgs),
    /// Print every key, its value and where it comes from; secrets are not shown.
    Show(ServeArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Address to listen on, e.g. 0.0.0.0:8080.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Keep events in this Redis; without it they are in memory.
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Configuration file, on top of config/tidings.toml.
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Development mode: adds what config/tidings.dev.toml says, a key that opens everything.
    #[arg(long)]
    pub dev: bool,
}

/// Which server, and who asks.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(
        long,
        value_name = "URL",
        env = "TIDINGS_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub url: String,
    /// The API key.
    #[arg(long, value_name = "KEY", env = "TIDINGS_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

/// `tidings publish`.
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    /// Where to, e.g. demo/a.
    #[arg(required_unless_present = "ndjson")]
    pub topic: Option<String>,
    /// What happened, e.g. greeting.
    #[arg(value_name = "TYPE", required_unless_present = "ndjson")]
    pub kind: Option<String>,
    /// JSON; `-` reads it from standard input. Nothing means null.
    pub data: Option<String>,
    /// Your own id: publishing it again stores nothing.
    #[arg(long)]
    pub id: Option<String>,
    /// Who you are, e.g. /shop. An id counts within its source.
    #[arg(long)]
    pub source: Option<String>,
    /// Publish standard input, one event a line.
    #[arg(long, conflicts_with_all = ["topic", "kind", "data", "id", "source"])]
    pub ndjson: bool,
    /// Which server, and who asks.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `tidings tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// Topics to follow.
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Where to start: `now`, `-1` for everything retained, or a cursor over exactly these topics.
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "now",
        allow_hyphen_values = true
    )]
    pub from: String,
    /// Start at this time (RFC 3339).
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    pub since: Option<String>,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// What to print of each event.
    #[arg(long, default_value = "json")]
    pub format: Format,
    /// Which server, and who asks.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// What `tail` prints of each event, one a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The whole event.
    Json,
    /// Its data alone.
    Data,
}
