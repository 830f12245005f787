//! The configuration: what an operator may set, parsed once.
//!
//! The defaults are `config/tidings.toml`, which is part of the binary: a key that is not in that
//! file does not exist, and every key in it has its default and a comment beside it. [`layers`]
//! puts the sources on top of each other, [`report`] prints what is in force and what is wrong.

pub mod adapters;
mod environment;
pub mod issuers;
pub mod layers;
mod providers;
pub mod report;
pub mod telemetry;
pub mod values;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use adapters::{AdapterTable, AdapterTables};
pub use layers::{Loaded, Sources, load};
pub use report::{Mistake, Mistakes};
pub use telemetry::{Endpoint, Readiness, ResourceAttribute, Share, Telemetry};
use values::optional;
pub use values::{
    Count, Digest, Durability, Level, Listen, LogFormat, Origin, Pattern, Pause, Secret, Size, Span,
};

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who may publish and read.
    pub keys: Vec<Key>,
    /// Whose tokens are taken.
    pub issuers: Vec<issuers::Issuer>,
    /// The HTTP server.
    pub server: Server,
    /// The adapters' tables, as far as they are the server's.
    pub adapters: AdapterTables,
    /// The log, wherever it is.
    pub log: Log,
    /// Redis.
    pub redis: Redis,
    /// The window.
    pub window: Window,
    /// Bounds.
    pub limits: Limits,
    /// The native API.
    pub api: Api,
    /// Direct ingest.
    pub ingest: Ingest,
    /// What this instance says of being alive.
    pub instance: Instance,
    /// How it is proved to be ready.
    pub readiness: Readiness,
    /// Log lines, metrics and traces.
    pub telemetry: Telemetry,
}

/// One API key and what it opens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// For logs; the key itself is never written there.
    pub name: String,
    /// The key.
    #[serde(default, deserialize_with = "optional")]
    pub key: Option<Secret>,
    /// The file that holds the key.
    #[serde(default, deserialize_with = "optional")]
    pub key_file: Option<PathBuf>,
    /// The key's SHA-256.
    #[serde(default, deserialize_with = "optional")]
    pub key_sha256: Option<Digest>,
    /// What it may publish to.
    #[serde(default)]
    pub publish: Vec<Pattern>,
    /// What it may read.
    #[serde(default)]
    pub read: Vec<Pattern>,
    /// Events a second; 0 is no limit.
    #[serde(default)]
    pub publish_per_second: Count<0, 1_000_000>,
    /// How many of them at once; 0 is one second's worth.
    #[serde(default)]
    pub burst: Count<0, 1_000_000>,
}

/// The HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where to listen.
    pub listen: Listen,
    /// PEM file of the certificate; with it the native API is served over TLS.
    #[serde(deserialize_with = "optional")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(deserialize_with = "optional")]
    pub tls_key: Option<PathBuf>,
    /// A development certificate instead.
    pub tls_self_signed: bool,
    /// Largest body of one publish, largest line of a line-by-line one.
    pub body_max: Size,
    /// For a request's head, and between requests.
    pub header_timeout: Span,
    /// Between two pieces of a body.
    pub body_timeout: Span,
    /// Connections at a time.
    pub connections_max: Count<1, 1_000_000>,
    /// Of them from one address; 0 is no such limit.
    pub connections_per_address: Count<0, 1_000_000>,
    /// After which a silent HTTP/2 client is asked whether it is there, and how long it may take.
    pub http2_ping: Span,
    /// SO_SNDBUF.
    pub send_buffer: Size,
    /// Between not being ready and accepting nothing more.
    pub drain_delay: Pause,
    /// Over which clients are told to come back.
    pub drain_spread: Pause,
    /// For connections to end by themselves.
    pub shutdown_grace: Span,
}

/// The log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How long an event is retained.
    pub retention: Span,
    /// P.
    pub partitions: Count<1, 256>,
}

/// Redis.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// A secret, since it may carry a password; without it the log is in memory.
    #[serde(deserialize_with = "optional")]
    pub url: Option<Secret>,
    /// ACL user.
    #[serde(deserialize_with = "optional")]
    pub username: Option<String>,
    /// Its password; from `password_file` when that is set.
    #[serde(deserialize_with = "optional")]
    pub password: Option<Secret>,
    /// Where to read the password.
    #[serde(deserialize_with = "optional")]
    pub password_file: Option<PathBuf>,
    /// Before every key.
    pub prefix: String,
    /// Connections per node for short commands.
    pub pool: Count<1, 1024>,
    /// For connecting.
    pub connect_timeout: Span,
    /// For one answer.
    pub response_timeout: Span,
    /// For a publish, while its node is away.
    pub append_patience: Span,
    /// For one blocking read.
    pub block: Span,
    /// Replicas that make an event replicated.
    pub durability_replicas: Count<1, 64>,
    /// PEM file of the authority.
    #[serde(deserialize_with = "optional")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file of the client's certificate.
    #[serde(deserialize_with = "optional")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the client's key.
    #[serde(deserialize_with = "optional")]
    pub tls_key: Option<PathBuf>,
    /// The Sentinels' ACL user.
    #[serde(deserialize_with = "optional")]
    pub sentinel_username: Option<String>,
    /// Its password; from `sentinel_password_file` when that is set.
    #[serde(deserialize_with = "optional")]
    pub sentinel_password: Option<Secret>,
    /// Where to read the Sentinels' password.
    #[serde(deserialize_with = "optional")]
    pub sentinel_password_file: Option<PathBuf>,
}

/// The window.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Bytes held.
    pub bytes: Size,
}

/// Bounds; those of [`tidings_core::limits`] cannot be raised.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Events of one batch.
    pub batch_events: Count<1, 10_000>,
    /// Events of one page.
    pub page_events: Count<1, { tidings_core::limits::PAGE_EVENTS_MAX as u64 }>,
    /// Bytes of one page.
    pub page_bytes: Size,
    /// Subscriptions of one connection.
    pub subscriptions: Count<1, 1_000>,
}

/// The native API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Pages that may use it.
    pub cors_origins: Vec<Origin>,
    /// How long a long-poll waits.
    pub long_poll_timeout: Span,
    /// Between two signs of life.
    pub heartbeat: Span,
    /// Before an `EventSource` comes back.
    pub sse_retry: Span,
    /// After which `live=sse` ends.
    pub topic_sse_age: Span,
    /// What a publish waits for that says nothing of it.
    pub durability: Durability,
    /// How long.
    pub durability_timeout: Span,
    /// What anybody may publish to.
    pub anonymous_publish: Vec<Pattern>,
    /// What anybody may read.
    pub anonymous_read: Vec<Pattern>,
}

/// Direct ingest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// Whether the ingest stream is drained.
    pub enabled: bool,
}

/// How the instances know of each other's end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// How often the lease is renewed.
    pub beat_every: Span,
    /// How long it lasts.
    pub lease: Span,
    /// How often it is looked for what others lost.
    pub sweep_every: Span,
}

impl Config {
    /// Reads secrets from their files and checks what one value alone cannot show.
    fn resolve(&mut self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let redis = &mut self.redis;
        let passwords = [
            ("redis.password", &mut redis.password, &redis.password_file),
            (
                "redis.sentinel_password",
                &mut redis.sentinel_password,
                &redis.sentinel_password_file,
            ),
        ];
        for (key, password, file) in passwords {
            match (&password, file) {
                (Some(_), Some(_)) => {
                    wrong.push((key.to_owned(), format!("set either this or {key}_file")));
                }
                (None, Some(path)) => match read_secret(path) {
                    Ok(secret) => *password = Some(secret),
                    Err(why) => wrong.push((format!("{key}_file"), why)),
                },
                _ => {}
            }
        }
        if redis.tls_cert.is_some() != redis.tls_key.is_some() {
            let key = if redis.tls_cert.is_some() {
                "redis.tls_cert"
            } else {
                "redis.tls_key"
            };
            let why = "a client certificate needs both tls_cert and tls_key";
            wrong.push((key.to_owned(), why.to_owned()));
        }
        if redis.prefix.is_empty() || !redis.prefix.bytes().all(prefix_byte) {
            let why = "a text of letters, digits and - . _ : without braces";
            wrong.push(("redis.prefix".to_owned(), why.to_owned()));
        }
        if self.server.drain_spread.0 >= self.server.shutdown_grace.0 {
            // The last one that is told needs time to go as well.
            let why = "a duration below server.shutdown_grace";
            wrong.push(("server.drain_spread".to_owned(), why.to_owned()));
        }
        if self.api.durability_timeout.0 > DURABILITY_TIMEOUT_MAX {
            wrong.push((
                "api.durability_timeout".to_owned(),
                "a duration up to \"60s\"".to_owned(),
            ));
        }
        if self.limits.page_bytes.0 > tidings_core::limits::PAGE_BYTES_MAX {
            wrong.push((
                "limits.page_bytes".to_owned(),
                "a size up to \"1MiB\"".to_owned(),
            ));
        }
        let Instance {
            beat_every,
            lease,
            sweep_every,
        } = &self.instance;
        if lease.0 < beat_every.0 * 2 || lease.0 > LEASE_MAX {
            // One beat may be late, or lost, without the instance being taken for dead.
            let why = "at least twice instance.beat_every, up to \"10m\"";
            wrong.push(("instance.lease".to_owned(), why.to_owned()));
        }
        if sweep_every.0 > lease.0 {
            // What is lost waits for the lease and a sweep: the sweep is the smaller part.
            let why = "a duration up to instance.lease";
            wrong.push(("instance.sweep_every".to_owned(), why.to_owned()));
        }
        for (index, key) in self.keys.iter_mut().enumerate() {
            key.resolve(index, &mut wrong);
        }
        for (index, issuer) in self.issuers.iter_mut().enumerate() {
            issuer.resolve(index, &mut wrong);
        }
        let keys: Vec<&str> = self.keys.iter().map(|key| key.name.as_str()).collect();
        let issuers = self.issuers.iter().map(|issuer| issuer.name.as_str());
        for (list, mut names) in [("keys", keys), ("issuers", issuers.collect())] {
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                let why = format!("two {list} are named {:?}", pair[0]);
                wrong.push((list.to_owned(), why));
            }
        }
        wrong
    }
}

/// The log waits for no longer.
const DURABILITY_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Far below the time for which the log remembers that a lease was reaped (an hour): an instance that
/// comes back later could not be told.
const LEASE_MAX: Duration = Duration::from_secs(600);

/// Bytes that may stand in a key prefix. A brace would make a hash tag of its own, and put all
/// partitions on one node of a cluster.
fn prefix_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)
}

impl Key {
    fn resolve(&mut self, index: usize, wrong: &mut Vec<(String, String)>) {
        let mut mistake =
            |member: &str, why: String| wrong.push((format!("keys.{index}.{member}"), why));
        let ways = [
            self.key.is_some(),
            self.key_file.is_some(),
            self.key_sha256.is_some(),
        ];
        if self.name.is_empty() {
            mistake("name", "a name for the logs".to_owned());
        }
        if ways.iter().filter(|set| **set).count() != 1 {
            mistake(
                "key",
                "exactly one of key, key_file and key_sha256".to_owned(),
            );
        }
        if self.publish.is_empty() && self.read.is_empty() {
            mistake(
                "read",
                "the key opens nothing: give it publish or read".to_owned(),
            );
        }
        if self.burst.get() > 0 && self.publish_per_second.get() == 0 {
            mistake("burst", "only with publish_per_second".to_owned());
        }
        if let (None, Some(path)) = (&self.key, &self.key_file) {
            match read_secret(path) {
                Ok(secret) => self.key = Some(secret),
                Err(why) => mistake("key_file", why),
            }
        }
    }
}

/// A secret from a file, without the line end that editors put there.
fn read_secret(path: &std::path::Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("a file that can be read ({error})"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("a file that is not empty".to_owned()),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
