//! What an operator says about this adapter: integrators, users, timers, limits.
//!
//! [`CardsavrOptions`] is the text as it is written; [`Settings`] is what was understood of it. What
//! is wrong is said at start, with the key that it stands under.

mod people;
mod timers;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidings_adapter::Span;
use tidings_adapter::http::HeaderValue;

pub use people::{IntegratorOptions, Role, UserOptions};
pub use timers::Timers;
pub use values::Unit;

pub(crate) use people::{Integrator, Integrators, User, Users};

/// The configuration, as it stands under `[adapters.cardsavr]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CardsavrOptions {
    /// Applications that may log users in, by the name that they sign with.
    pub integrators: BTreeMap<String, IntegratorOptions>,
    /// Who may log in, by username.
    pub users: BTreeMap<String, UserOptions>,
    /// How long things last.
    pub timers: Timers,
    /// How far a request's nonce may be from this server's clock; `0s`: it is not looked at. Nonces
    /// below 10^12 never are: they are no milliseconds since 1970.
    pub nonce_window: Span,
    /// A session that nobody used for so long is over.
    pub session_idle: Span,
    /// Takes requests without a signature, in clear, with a cookie for the session: for trying
    /// things with curl, never where others can reach it.
    pub unsigned: bool,
    /// Origins of web pages that may call; `*` for all; none, when there are none here.
    pub origins: Vec<String>,
    /// Where finished jobs are posted to.
    pub webhook_url: Option<String>,
    /// Whose key signs what is posted; needed with `webhook_url` unless there is one integrator.
    pub webhook_integrator: Option<String>,
    /// Requests that one session may make in a second, counted by each instance; `0`: any.
    pub session_requests: u32,
    /// Logins that may fail under one username in a minute, counted by each instance; then none is
    /// tried until it is over. `0`: any.
    pub failed_logins: u32,
    /// Bytes of a request's body as it is sent.
    pub body_bytes: usize,
}

impl Default for CardsavrOptions {
    fn default() -> Self {
        Self {
            integrators: BTreeMap::new(),
            users: BTreeMap::new(),
            timers: Timers::default(),
            nonce_window: Span::from_secs(5 * 60),
            session_idle: Span::from_secs(15 * 60),
            unsigned: false,
            origins: Vec::new(),
            webhook_url: None,
            webhook_integrator: None,
            // A poll every two seconds for each of 1,000 keys stays below; a loop without a pause
            // does not.
            session_requests: 1_000,
            // People mistype; whoever guesses gets no further than 30,000 a day.
            failed_logins: 20,
            // 100 jobs of 1 KiB each, encrypted and in base64; one record takes 64 KiB.
            body_bytes: 256 * 1024,
        }
    }
}

/// What is wrong with the configuration: fix it and start again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A key's value cannot be used.
    #[error("`{key}`: {problem}")]
    Key {
        /// The key under `[adapters.cardsavr]`, e.g. `users.agent1.password_key`.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

impl OptionsError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Key {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// Where finished jobs are posted to.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) url: std::sync::Arc<str>,
    /// Signs what is posted.
    pub(crate) integrator: std::sync::Arc<Integrator>,
}

/// Which web pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origins {
    All,
    These(Vec<HeaderValue>),
}

/// What was understood of the options.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) integrators: Integrators,
    pub(crate) users: Users,
    pub(crate) timers: Timers,
    pub(crate) nonce_window: Duration,
    pub(crate) session_idle: Duration,
    pub(crate) unsigned: bool,
    pub(crate) origins: Origins,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) session_requests: u32,
    pub(crate) failed_logins: u32,
    pub(crate) body_bytes: usize,
}

impl Settings {
    pub(crate) fn of(options: &CardsavrOptions) -> Result<Self, OptionsError> {
        for (key, span, least) in [
            ("session_idle", options.session_idle, 60),
            ("timers.job", options.timers.job, 1),
            ("timers.credentials", options.timers.credentials, 1),
            ("timers.tfa", options.timers.tfa, 1),
            ("timers.retention", options.timers.retention, 1),
        ] {
            if span.0 < Duration::from_secs(least) {
                return Err(OptionsError::new(key, format!("at least {least}s")));
            }
        }
        for (key, number) in [
            ("timers.login_failures", options.timers.login_failures),
            ("timers.tfa_failures", options.timers.tfa_failures),
        ] {
            if number == 0 {
                return Err(OptionsError::new(key, "at least 1"));
            }
        }
        if !(1024..=16 * 1024 * 1024).contains(&options.body_bytes) {
            return Err(OptionsError::new("body_bytes", "from 1024 to 16777216"));
        }
        let integrators = Integrators::of(&options.integrators)?;
        Ok(Self {
            webhook: webhook(options, &integrators)?,
            integrators,
            users: Users::of(&options.users)?,
            timers: options.timers.clone(),
            nonce_window: options.nonce_window.0,
            session_idle: options.session_idle.0,
            unsigned: options.unsigned,
            origins: origins(&options.origins)?,
            session_requests: options.session_requests,
            failed_logins: options.failed_logins,
            body_bytes: options.body_bytes,
        })
    }
}

fn origins(said: &[String]) -> Result<Origins, OptionsError> {
    if said.iter().any(|one| one == "*") {
        return Ok(Origins::All);
    }
    let origin = |origin: &String| {
        HeaderValue::from_str(origin.trim_end_matches('/'))
            .map_err(|_| OptionsError::new("origins", format!("`{origin}` is no origin")))
    };
    let these = said.iter().map(origin).collect::<Result<_, _>>()?;
    Ok(Origins::These(these))
}

fn webhook(
    options: &CardsavrOptions,
    integrators: &Integrators,
) -> Result<Option<Webhook>, OptionsError> {
    let Some(url) = options.webhook_url.as_deref().filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    url.parse()
        .map_err(|_| "not an address".to_owned())
        .and_then(|uri| tidings_adapter::outside::check(&uri).map_err(|error| error.to_string()))
        .map_err(|problem| OptionsError::new("webhook_url", problem))?;
    let named = options.webhook_integrator.as_deref();
    let integrator = match named.filter(|name| !name.is_empty()) {
        Some(name) => integrators.get(name),
        None => integrators.only(),
    };
    let problem = "the name of an integrator, whose key signs what is posted";
    let integrator = integrator.ok_or_else(|| OptionsError::new("webhook_integrator", problem))?;
    Ok(Some(Webhook {
        url: url.into(),
        integrator: integrator.clone(),
    }))
}

#[cfg(test)]
mod tests;
