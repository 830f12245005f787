//! What an operator says about this adapter: secrets, addresses, bounds.
//!
//! [`AirsendOptions`] is the text as it is written; [`Settings`] is what was understood of it. What is
//! wrong is said at start, with the key that it stands under. Secrets have no default.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidings_adapter::http::{HeaderValue, Uri};

pub use tidings_adapter::Span;

/// The configuration, as it stands under `[adapters.airsend]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AirsendOptions {
    /// Signs `ws_token`s and bearers: 32 bytes or more, the same on every instance. One of this and
    /// `secret_file` is needed.
    pub secret: Option<String>,
    /// A file with it.
    pub secret_file: Option<PathBuf>,
    /// What the backend shows to publish. One of this and `ingest_key_file`, or nobody publishes.
    pub ingest_key: Option<String>,
    /// A file with it.
    pub ingest_key_file: Option<PathBuf>,
    /// The websocket's address as clients reach it, without a path: `wss://rtm.example.com`. Unless
    /// it is set, the `Host` of the request with `ws://`.
    pub ws_endpoint: Option<String>,
    /// Other instances' addresses that `?rtm_endpoint=` may ask for.
    pub ws_endpoints: Vec<String>,
    /// Whether `user.login` is served.
    pub login: bool,
    /// How long a bearer of `user.login` and its `ws_token`s are good.
    pub login_lifetime: Span,
    /// A file with the keys of another issuer of bearers, as a JWK Set.
    pub bearer_jwks_file: Option<PathBuf>,
    /// The address of such a set.
    pub bearer_jwks_url: Option<String>,
    /// What `iss` of such a bearer must be.
    pub bearer_issuer: Option<String>,
    /// What `aud` of such a bearer must have.
    pub bearer_audience: Option<String>,
    /// An address that says whose a bearer is: called with it, it answers 200 and
    /// `{"user":{"id":…}}`, or anything else.
    pub bearer_url: Option<String>,
    /// How long such an answer is believed.
    pub bearer_lifetime: Span,
    /// `rtm.connect` calls of one user in a minute, counted by each instance.
    pub connects_per_minute: u32,
    /// How often a connection is pinged; one that does not answer until the next ping is closed.
    pub ping: Span,
    /// How long a connection has to authenticate.
    pub auth_deadline: Span,
    /// Typing is passed on once in so long for each user and channel.
    pub typing_window: Span,
    /// Bytes of one message from a client.
    pub message_bytes: usize,
    /// Commands of one connection at once.
    pub command_burst: u32,
    /// Commands of one connection in a second.
    pub commands_per_second: u32,
    /// Bytes that may wait for a client beyond what the system takes.
    pub queue_bytes: usize,
    /// A client that takes nothing for so long is closed.
    pub write_stall: Span,
    /// Connections of one user; the oldest is closed.
    pub connections_per_user: usize,
    /// How long a user without connections stays online.
    pub presence_grace: Span,
    /// How long an idempotency key is remembered.
    pub idempotency: Span,
    /// How long messages can be read, edited and reacted to.
    pub message_lifetime: Span,
    /// Origins of browser pages that may connect; all, when there are none here.
    pub origins: Vec<String>,
    /// Whether clients' commands are carried out here.
    pub apply_commands: bool,
    /// Whether clients' commands are also events of the topic `airsend/commands`.
    pub forward_to_topic: bool,
    /// An address to which clients' commands are posted.
    pub forward_to_url: Option<String>,
}

impl Default for AirsendOptions {
    fn default() -> Self {
        let span = Span::from_secs;
        Self {
            secret: None,
            secret_file: None,
            ingest_key: None,
            ingest_key_file: None,
            ws_endpoint: None,
            ws_endpoints: Vec::new(),
            login: true,
            login_lifetime: span(30 * 24 * 3600),
            bearer_jwks_file: None,
            bearer_jwks_url: None,
            bearer_issuer: None,
            bearer_audience: None,
            bearer_url: None,
            bearer_lifetime: span(24 * 3600),
            connects_per_minute: 60,
            ping: span(25),
            auth_deadline: span(10),
            typing_window: span(2),
            message_bytes: 16 * 1024,
            command_burst: 400,
            commands_per_second: 100,
            queue_bytes: 4 * 1024 * 1024,
            write_stall: span(30),
            connections_per_user: 32,
            presence_grace: span(0),
            idempotency: span(24 * 3600),
            message_lifetime: span(90 * 24 * 3600),
            origins: Vec::new(),
            apply_commands: true,
            forward_to_topic: false,
            forward_to_url: None,
        }
    }
}

impl std::fmt::Debug for AirsendOptions {
    /// Secrets stand in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AirsendOptions")
            .field("ws_endpoint", &self.ws_endpoint)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the configuration: fix it and start again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A key's value cannot be used.
    #[error("`{key}`: {problem}")]
    Key {
        /// The key under `[adapters.airsend]`.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The adapter is made inside of a tokio runtime: keys are kept fresh by tasks.
    #[error("the adapter is made outside of a runtime")]
    NoRuntime,
}

impl OptionsError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Key {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// What a session goes by.
#[derive(Debug, Clone)]
pub(crate) struct SessionSettings {
    pub(crate) ping: Duration,
    pub(crate) auth_deadline: Duration,
    pub(crate) typing_window: Duration,
    pub(crate) burst: u32,
    pub(crate) refill: u32,
    pub(crate) apply: bool,
    pub(crate) forward: bool,
    pub(crate) forward_to: Option<String>,
    pub(crate) retention_s: u64,
}

/// What was understood of the options.
pub(crate) struct Settings {
    pub(crate) secret: Vec<u8>,
    pub(crate) ingest_key: Option<Vec<u8>>,
    pub(crate) ws_endpoint: Option<String>,
    pub(crate) ws_endpoints: Vec<String>,
    pub(crate) bearer_url: Option<String>,
    pub(crate) origins: Vec<HeaderValue>,
    pub(crate) session: SessionSettings,
    pub(crate) options: AirsendOptions,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// Bytes of a secret: the output of HMAC-SHA256 (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;

/// More calls or commands than anybody can send.
const MANY: usize = 1_000_000;

/// A count as an index is one.
fn large(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Settings {
    pub(crate) fn of(mut options: AirsendOptions) -> Result<Self, OptionsError> {
        // An empty text means "not set", as everywhere in the configuration.
        for text in [
            &mut options.secret,
            &mut options.ingest_key,
            &mut options.ws_endpoint,
            &mut options.bearer_jwks_url,
            &mut options.bearer_issuer,
            &mut options.bearer_audience,
            &mut options.bearer_url,
            &mut options.forward_to_url,
        ] {
            text.take_if(|text| text.is_empty());
        }
        for path in [
            &mut options.secret_file,
            &mut options.ingest_key_file,
            &mut options.bearer_jwks_file,
        ] {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        let secret = secret(
            "secret",
            options.secret.take(),
            options.secret_file.as_deref(),
        )?;
        let secret = secret.ok_or_else(|| {
            OptionsError::new(
                "secret",
                "is needed: 32 bytes or more, the same on every instance",
            )
        })?;
        if secret.len() < SECRET_BYTES_MIN {
            return Err(OptionsError::new("secret", "has fewer than 32 bytes"));
        }
        let ingest = options.ingest_key.take();
        let ingest_key = self::secret("ingest_key", ingest, options.ingest_key_file.as_deref())?;
        let ways = [
            options.login,
            options.bearer_jwks_file.is_some(),
            options.bearer_jwks_url.is_some(),
            options.bearer_url.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() != 1 {
            let problem = "one of this, `bearer_jwks_file`, `bearer_jwks_url` and `bearer_url`";
            return Err(OptionsError::new("login", problem));
        }
        for (key, endpoint) in options
            .ws_endpoint
            .iter()
            .map(|one| ("ws_endpoint", one))
            .chain(options.ws_endpoints.iter().map(|one| ("ws_endpoints", one)))
        {
            let uri = endpoint.parse::<Uri>().ok();
            let fits = |uri: Uri| {
                matches!(uri.scheme_str(), Some("ws" | "wss")) && matches!(uri.path(), "" | "/")
            };
            if !uri.is_some_and(fits) {
                return Err(OptionsError::new(key, "ws://host:port or wss://host:port"));
            }
        }
        for (key, url) in [
            ("bearer_url", &options.bearer_url),
            ("forward_to_url", &options.forward_to_url),
        ] {
            if let Some(url) = url {
                let uri = url
                    .parse::<Uri>()
                    .map_err(|_| OptionsError::new(key, "no address"))?;
                tidings_adapter::outside::check(&uri)
                    .map_err(|error| OptionsError::new(key, error.to_string()))?;
            }
        }
        for (key, span, least) in [
            ("ping", options.ping, 100),
            ("auth_deadline", options.auth_deadline, 100),
            ("write_stall", options.write_stall, 100),
            ("login_lifetime", options.login_lifetime, 1_000),
            ("bearer_lifetime", options.bearer_lifetime, 1_000),
            ("idempotency", options.idempotency, 1_000),
            ("message_lifetime", options.message_lifetime, 60_000),
        ] {
            if span.0 < Duration::from_millis(least) {
                return Err(OptionsError::new(key, format!("at least {least}ms")));
            }
        }
        for (key, number, least, most) in [
            ("message_bytes", options.message_bytes, 256, 1024 * 1024),
            // An event has up to a megabyte.
            ("queue_bytes", options.queue_bytes, 1024 * 1024, 1 << 30),
            ("connections_per_user", options.connections_per_user, 1, 200),
            (
                "connects_per_minute",
                large(options.connects_per_minute),
                1,
                MANY,
            ),
            ("command_burst", large(options.command_burst), 1, MANY),
            (
                "commands_per_second",
                large(options.commands_per_second),
                1,
                MANY,
            ),
        ] {
            if !(least..=most).contains(&number) {
                return Err(OptionsError::new(key, format!("from {least} to {most}")));
            }
        }
        let origin = |origin: &String| {
            HeaderValue::from_str(origin).map_err(|_| OptionsError::new("origins", "no origin"))
        };
        Ok(Self {
            secret,
            ingest_key,
            ws_endpoint: options.ws_endpoint.clone(),
            ws_endpoints: options.ws_endpoints.clone(),
            bearer_url: options.bearer_url.clone(),
            origins: options
                .origins
                .iter()
                .map(origin)
                .collect::<Result<_, _>>()?,
            session: SessionSettings {
                ping: options.ping.0,
                auth_deadline: options.auth_deadline.0,
                typing_window: options.typing_window.0,
                burst: options.command_burst,
                refill: options.commands_per_second,
                apply: options.apply_commands,
                forward: options.forward_to_topic,
                forward_to: options.forward_to_url.clone(),
                retention_s: 3600,
            },
            options,
        })
    }
}

/// A secret as text or from a file, without the line's end.
fn secret(
    key: &str,
    text: Option<String>,
    file: Option<&std::path::Path>,
) -> Result<Option<Vec<u8>>, OptionsError> {
    match (text, file) {
        (Some(_), Some(_)) => Err(OptionsError::new(key, "stands here and in a file")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                OptionsError::new(format!("{key}_file"), error.kind().to_string())
            })?;
            let text = text.trim_end();
            match text.is_empty() {
                true => Err(OptionsError::new(format!("{key}_file"), "is empty")),
                false => Ok(Some(text.as_bytes().to_vec())),
            }
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
