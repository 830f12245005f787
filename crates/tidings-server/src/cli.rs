//! The command line, with help that teaches.

pub mod cardsavr;
pub mod client;
pub mod doctor;
pub mod health;
pub mod publish;
pub mod sse;
pub mod tail;
pub mod token;

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
        tidings publish --ndjson < events.ndjson       {\"topic\":…,\"type\":…,\"data\":…} a line\n  \
        tidings publish demo/a order 7 --durability replicated   waits for a replica\n\n\
        Prints the ids of what was stored, and how safe it is. Less than --durability asks for is said\n\
        on standard error and is no failure: the events are stored.")]
    Publish(PublishArgs),
    /// Follow topics: one event a line, resuming by itself.
    #[command(after_help = "Examples:\n  \
        tidings tail demo/a                     from now on\n  \
        tidings tail demo/a demo/b --from -1    everything retained, then live\n  \
        tidings tail demo/a --since 2026-11-21T08:00:00Z --format data\n\n\
        A lost connection is made again and resumed by cursor; if events may have been missed,\n\
        that is said on standard error and everything retained comes again.")]
    Tail(TailArgs),
    /// Make and look into tokens of development.
    Token {
        /// What to do.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Say what the configured Redis can lose or cost, and what to set.
    #[command(after_help = "Examples:\n  \
        tidings doctor --redis redis://host:6379\n  \
        tidings doctor --config /etc/tidings.toml --json\n\n\
        Looks at every primary and sentinel for about two seconds; sets nothing, and writes one key\n\
        that lives for five seconds (to see what the user may do).\n\n\
        Exit codes: 0 nothing above a note, 4 warnings, 5 problems; 1 Redis refuses, 2 wrong usage or\n\
        configuration, 3 Redis was not reached.")]
    Doctor(DoctorArgs),
    /// Ask an instance whether it is alive; for container health checks.
    #[command(after_help = "Examples:\n  \
        tidings health             alive: does not change when Redis is away\n  \
        tidings health --ready     clients should be sent there\n\n\
        Exit codes: 0 it is, 1 it is not, or does not answer within 4 s.")]
    Health(HealthArgs),
    /// Users and a test site for CardSavr's dialect.
    Cardsavr {
        /// What to do.
        #[command(subcommand)]
        command: cardsavr::CardsavrCommand,
    },
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

/// `tidings token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a token.
    #[command(after_help = "Examples:\n  \
        tidings token mint --dev --sub alice --read 'demo/**'     for `tidings serve --dev`\n  \
        tidings token mint --secret-file secret --sub alice --iss me --ttl 10m\n  \
        tidings token mint --private-key private.pem --sub alice --claim org=42\n\n\
        What a token opens is what its issuer's table in the configuration says; --publish and --read\n\
        narrow it.")]
    Mint(MintArgs),
    /// Print what a token says, and whether the configured issuers accept it.
    #[command(after_help = "Examples:\n  \
        tidings token inspect eyJ…\n  \
        pbpaste | tidings token inspect --config /etc/tidings.toml\n\n\
        Exit codes: 0 accepted, 1 not accepted, 3 the issuer's keys could not be fetched.")]
    Inspect(InspectArgs),
    /// Make a private key, and the key set for `jwks_file`.
    #[command(after_help = "Examples:\n  \
        tidings token keygen --out private.pem --jwks keys.json\n  \
        tidings token keygen --out next.pem --jwks keys.json      adds a key: how keys are rotated")]
    Keygen(KeygenArgs),
}

/// `tidings token mint`.
#[derive(Debug, Clone, Args)]
pub struct MintArgs {
    /// Sign with the secret in this file (HS256).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["private_key", "dev"])]
    pub secret_file: Option<PathBuf>,
    /// Sign with this private key (PEM; RS256 or ES256 as it is).
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    pub private_key: Option<PathBuf>,
    /// Sign with the public secret of development mode.
    #[arg(long, required_unless_present_any = ["secret_file", "private_key"])]
    pub dev: bool,
    /// Name the key, as the key set does; by default the key's thumbprint.
    #[arg(long)]
    pub kid: Option<String>,
    /// Whose token it is.
    #[arg(long)]
    pub sub: Option<String>,
    /// Who made it.
    #[arg(long)]
    pub iss: Option<String>,
    /// Whom it is for; may be repeated.
    #[arg(long)]
    pub aud: Vec<String>,
    /// Narrow what may be published to these topics; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub publish: Vec<String>,
    /// Narrow what may be read to these topics; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub read: Vec<String>,
    /// The claim in which it is narrowed.
    #[arg(long, value_name = "NAME", default_value = "tidings")]
    pub rights_claim: String,
    /// Another claim; VALUE is JSON or a text. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub claim: Vec<String>,
    /// How long it is valid.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub ttl: String,
}

/// `tidings token inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// The token; standard input when it is `-` or not given.
    pub token: Option<String>,
    /// Where the issuers are configured.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// `tidings token keygen`.
#[derive(Debug, Clone, Args)]
pub struct KeygenArgs {
    /// RS256 or ES256.
    #[arg(long, default_value = "ES256")]
    pub algorithm: String,
    /// Where to write the private key. A file that is there is left alone.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The key set to add the public key to; without it, one is printed.
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
}

/// `tidings doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Look at this Redis instead of the configured one.
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Configuration file, on top of config/tidings.toml.
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print JSON: {"level", "findings": [{"level", "check", "node", "found", "means", "remedy"}]}.
    #[arg(long)]
    pub json: bool,
}

impl DoctorArgs {
    /// Where its configuration comes from.
    #[must_use]
    pub fn serve(&self) -> ServeArgs {
        ServeArgs {
            redis: self.redis.clone(),
            config: self.config.clone(),
            ..ServeArgs::default()
        }
    }
}

/// `tidings health`.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// Ask whether clients should be sent there, not only whether it lives.
    #[arg(long)]
    pub ready: bool,
    /// The server.
    #[arg(
        long,
        value_name = "URL",
        env = "TIDINGS_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub url: String,
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
    /// Wait until it is this safe: `stored`, `replicated` or `fsynced`.
    #[arg(long, value_name = "LEVEL", value_parser = ["stored", "replicated", "fsynced"])]
    pub durability: Option<String>,
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
