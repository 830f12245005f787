//! What an operator may say about the log on Redis: one URL is enough, everything else has a default.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tidings_core::Partitions;
use tidings_core::record::RELAY_LEASE;

use crate::target::redacted;

/// Settings of a [`RedisLog`](crate::RedisLog). Printing them shows no secret.
#[derive(Clone)]
pub struct RedisOptions {
    /// Where Redis is:
    ///
    /// * `redis://[user:password@]host[:port][/db]`, with TLS `rediss://…`, or `unix:///path/to/socket`
    /// * `redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]`, with TLS (to the
    ///   sentinels as well) `rediss+sentinel://…`; user and password are those of the servers
    /// * `redis+cluster://[user:password@]host[:port],host[:port]`, with TLS `rediss+cluster://…`;
    ///   any of the nodes, the others are found
    ///
    /// User and password are percent-encoded.
    pub url: String,
    /// ACL user; wins over the URL's.
    pub username: Option<String>,
    /// Password; wins over the URL's.
    pub password: Option<String>,
    /// ACL user of the sentinels.
    pub sentinel_username: Option<String>,
    /// Password of the sentinels.
    pub sentinel_password: Option<String>,
    /// PEM file with the authorities to trust instead of the public ones. Needs a TLS URL.
    pub tls_ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate chain, for servers that ask for one.
    pub tls_certificate_file: Option<PathBuf>,
    /// PEM file with the key of that certificate.
    pub tls_key_file: Option<PathBuf>,
    /// What all keys begin with, so that several hubs share one Redis. Default `tidings`.
    pub prefix: String,
    /// P; fixed with the first start (LOG.md §1). Default 16.
    pub partitions: Partitions,
    /// How long events are kept; fixed with the first start. Default one hour, at least 100 ms.
    pub retention: Duration,
    /// Connections per node for short commands (reads, verdicts). Default 8: each answers a few
    /// thousand a second, and readers that are level need none.
    pub pool_size: usize,
    /// Time for a connection to stand, TLS and sign-in included. Default 2 s.
    pub connect_timeout: Duration,
    /// Time for an answer; after that the connection is dropped. Default 3 s: longer than Redis
    /// stalls for a fork or a slow disk.
    pub response_timeout: Duration,
    /// How long an append is tried again while its node is away. Default 10 s: a failover takes
    /// about five. At most 60 s, because answers are remembered for 120 s.
    pub append_patience: Duration,
    /// How long a tail's read waits for events before it checks that the path still works.
    /// Default 2 s.
    pub block: Duration,
    /// Trims a partition's log by length as well, before its events' time has passed: a safety
    /// against a flood, at the price of `expired` cursors. At least 10,000. Default off.
    pub max_events_per_partition: Option<u64>,
    /// How many replicas must have an event before it counts as
    /// [replicated](tidings_core::Durability::Replicated). Default 1, from 1 to 64.
    pub durability_replicas: u32,
    /// How long a relay holds an outbox without taking a turn. Default
    /// [`RELAY_LEASE`](tidings_core::record::RELAY_LEASE).
    pub relay_lease: Duration,
}

impl RedisOptions {
    /// The defaults for a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            prefix: "tidings".to_owned(),
            partitions: Partitions::DEFAULT,
            retention: Duration::from_secs(60 * 60),
            pool_size: 8,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(3),
            append_patience: Duration::from_secs(10),
            block: Duration::from_secs(2),
            max_events_per_partition: None,
            durability_replicas: 1,
            relay_lease: RELAY_LEASE,
        }
    }

    /// Checks every bound; the text says what to change.
    pub(crate) fn check(&self) -> Result<(), String> {
        /// A prefix stands in every key; a brace would move the hash tag.
        const PREFIX_BYTES_MAX: usize = 64;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if self.prefix.is_empty()
            || self.prefix.len() > PREFIX_BYTES_MAX
            || !self.prefix.chars().all(plain)
        {
            return Err(format!(
                "the prefix {:?} is not 1 to {PREFIX_BYTES_MAX} letters, digits and - _ . :",
                self.prefix
            ));
        }
        let bounds = [
            (
                "retention",
                self.retention,
                Duration::from_millis(100),
                Duration::from_secs(31 * 86_400),
            ),
            (
                "connect timeout",
                self.connect_timeout,
                Duration::from_millis(10),
                Duration::from_secs(60),
            ),
            (
                "response timeout",
                self.response_timeout,
                Duration::from_millis(10),
                Duration::from_secs(60),
            ),
            (
                "append patience",
                self.append_patience,
                Duration::ZERO,
                Duration::from_secs(60),
            ),
            (
                "relay lease",
                self.relay_lease,
                Duration::from_millis(100),
                Duration::from_secs(600),
            ),
            (
                "block time",
                self.block,
                Duration::from_millis(10),
                Duration::from_secs(60),
            ),
        ];
        for (name, value, least, most) in bounds {
            if value < least || value > most {
                return Err(format!(
                    "the {name} of {value:?} is not between {least:?} and {most:?}"
                ));
            }
        }
        if self.pool_size == 0 || self.pool_size > 1024 {
            return Err(format!(
                "the pool size of {} is not between 1 and 1024",
                self.pool_size
            ));
        }
        if self
            .max_events_per_partition
            .is_some_and(|cap| cap < CAP_MIN)
        {
            return Err(format!(
                "the cap of events per partition is below {CAP_MIN}"
            ));
        }
        // No deployment has more; one that has none does not replicate, so 0 would be a lie.
        if !(1..=64).contains(&self.durability_replicas) {
            return Err(format!(
                "the number of replicas for durability, {}, is not between 1 and 64",
                self.durability_replicas
            ));
        }
        if self.tls_certificate_file.is_some() != self.tls_key_file.is_some() {
            return Err(
                "a client certificate and its key go together: name both files or none".to_owned(),
            );
        }
        Ok(())
    }

    pub(crate) fn retention_ms(&self) -> u64 {
        // Checked to be at most a month.
        self.retention.as_millis() as u64
    }
}

/// Twenty of the tail's reads: fewer, and a tail that is level could be overtaken between two.
const CAP_MIN: u64 = 10_000;

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |value: &Option<String>| value.as_ref().map(|_| "…");
        f.debug_struct("RedisOptions")
            .field("url", &redacted(&self.url))
            .field("username", &self.username)
            .field("password", &secret(&self.password))
            .field("sentinel_username", &self.sentinel_username)
            .field("sentinel_password", &secret(&self.sentinel_password))
            .field("tls_ca_file", &self.tls_ca_file)
            .field("tls_certificate_file", &self.tls_certificate_file)
            .field("tls_key_file", &self.tls_key_file)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("retention", &self.retention)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("append_patience", &self.append_patience)
            .field("block", &self.block)
            .field("max_events_per_partition", &self.max_events_per_partition)
            .field("durability_replicas", &self.durability_replicas)
            .field("relay_lease", &self.relay_lease)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_shows_no_secret() {
        let options = RedisOptions {
            password: Some("s3cret-a".into()),
            sentinel_password: Some("s3cret-b".into()),
            ..RedisOptions::new("redis+sentinel://user:s3cret-c@a,b/main")
        };
        let text = format!("{options:?}");
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("redis+sentinel://…@a,b/main"), "{text}");
    }

    #[test]
    fn bounds_are_checked() {
        let good = || RedisOptions::new("redis://localhost");
        assert_eq!(good().check(), Ok(()));
        let bad = [
            RedisOptions {
                prefix: String::new(),
                ..good()
            },
            RedisOptions {
                prefix: "a{b}".into(),
                ..good()
            },
            RedisOptions {
                retention: Duration::ZERO,
                ..good()
            },
            RedisOptions {
                append_patience: Duration::from_secs(120),
                ..good()
            },
            RedisOptions {
                pool_size: 0,
                ..good()
            },
            RedisOptions {
                max_events_per_partition: Some(100),
                ..good()
            },
            RedisOptions {
                durability_replicas: 0,
                ..good()
            },
            RedisOptions {
                tls_key_file: Some("key.pem".into()),
                ..good()
            },
        ];
        for options in bad {
            assert!(options.check().is_err(), "{options:?}");
        }
    }
}
