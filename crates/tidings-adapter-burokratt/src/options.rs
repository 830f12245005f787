//! What an operator says about this adapter: who may, which pages, which components, and how long
//! things take.
//!
//! [`BurokrattOptions`] is the text as it is written; [`Settings`] is what was understood of it. What
//! is wrong is said at start, with the key that it stands under.

mod settings;

use std::path::PathBuf;

use serde::Deserialize;
use tidings_adapter::Span;

pub(crate) use settings::Settings;

/// The configuration, as it stands under `[adapters.burokratt]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BurokrattOptions {
    /// Who may: `tim` asks TIM about cookies, `off` lets everybody do everything (development).
    pub auth: Auth,
    /// Where TIM is, e.g. `http://tim:8085`. Needed for `auth = "tim"`.
    pub tim_url: Option<String>,
    /// TIM has so long for an answer.
    pub tim_timeout: Span,
    /// For how long a yes of TIM is believed, so that a page's three streams ask once.
    pub tim_cache: Span,
    /// How often an open stream's cookie is looked at again.
    pub recheck: Span,
    /// The cookie of an end user.
    pub chat_cookie: String,
    /// How long the end user's cookie is good that TIM makes for a new chat.
    pub chat_cookie_lifetime: Span,
    /// The cookie of an agent.
    pub agent_cookie: String,
    /// The cookie of a login with TARA.
    pub tara_cookie: String,
    /// Roles (`authorities`) of which an agent has one.
    pub roles: Vec<String>,
    /// What backends show as `Authorization: Bearer …` at `/bulk-notifications`, `/enqueue`,
    /// `/dequeue` and `/notifications/_doc`.
    pub backend_key: Option<String>,
    /// A file with it.
    pub backend_key_file: Option<PathBuf>,
    /// Whether backends need no key: where only they reach those paths.
    pub backend_open: bool,
    /// Origins of pages that may call; `*` for every one (development).
    pub origins: Vec<String>,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// What browsers are told to wait before they come back, ±20 % for each.
    pub retry: Span,
    /// How often a silent stream says that it lives.
    pub heartbeat: Span,
    /// How long the streams of a chat that ended stay open.
    pub ended_grace: Span,
    /// A client that takes nothing of what it is sent for so long is closed.
    pub write_stall: Span,
    /// An open chat that nothing changed for so long is forgotten.
    pub chat_lifetime: Span,
    /// A chat that ended is forgotten after this.
    pub ended_lifetime: Span,
    /// When a chat ends that a page said to end, unless it says otherwise.
    pub termination: Span,
    /// The longest that a page may ask for.
    pub termination_max: Span,
    /// Where a logout is reported with a GET and its cookies, e.g.
    /// `http://ruuter-private:8088/backoffice/accounts/logout`. Unless it is set, it is not.
    pub logout_url: Option<String>,
    /// How long a logout may be taken back.
    pub logout_after: Span,
    /// How many of the last waits the estimate is made of.
    pub waits: usize,
    /// Waits that ended longer ago do not count.
    pub waits_window: Span,
    /// The estimate while there are none.
    pub wait_default: Span,
    /// The components whose health is watched, by name and address. TIM, RUUTER, DMAPPER and RESQL
    /// are always shown.
    pub components: Vec<Component>,
    /// How often each is looked at.
    pub component_every: Span,
    /// A component that does not answer within this is down.
    pub component_timeout: Span,
    /// Whether `/demo` is a page with an end user and an agent, to look around with.
    pub demo: bool,
}

/// Where the adapter knows its callers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Everybody may do everything.
    Off,
    /// TIM vouches for cookies.
    Tim,
}

/// A component to watch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its name, e.g. `TIM`.
    pub name: String,
    /// What answers with its health, e.g. `http://tim:8085/healthz`.
    pub url: String,
}

impl Default for BurokrattOptions {
    fn default() -> Self {
        let (span, ms) = (Span::from_secs, Span::from_millis);
        let text = str::to_owned;
        Self {
            auth: Auth::Tim,
            tim_url: None,
            tim_timeout: span(2),
            tim_cache: span(5),
            recheck: span(30),
            chat_cookie: text("chatJwt"),
            chat_cookie_lifetime: span(2 * 3600),
            agent_cookie: text("customJwtCookie"),
            tara_cookie: text("JWTTOKEN"),
            roles: vec![
                text("ROLE_ADMINISTRATOR"),
                text("ROLE_CUSTOMER_SUPPORT_AGENT"),
                text("ROLE_SERVICE_MANAGER"),
            ],
            backend_key: None,
            backend_key_file: None,
            backend_open: false,
            origins: Vec::new(),
            // A message may have 1 MiB, which is more where JSON escapes it.
            body_bytes: 2 * 1024 * 1024,
            // What browsers do by themselves.
            retry: span(3),
            heartbeat: span(15),
            ended_grace: span(5),
            write_stall: span(30),
            chat_lifetime: span(24 * 3600),
            ended_lifetime: span(3600),
            termination: span(10),
            termination_max: span(3600),
            logout_url: None,
            logout_after: span(5),
            waits: 50,
            waits_window: span(3600),
            wait_default: span(100),
            components: Vec::new(),
            component_every: span(10),
            component_timeout: ms(1500),
            demo: false,
        }
    }
}

impl std::fmt::Debug for BurokrattOptions {
    /// A key stands in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BurokrattOptions")
            .field("auth", &self.auth)
            .field("tim_url", &self.tim_url)
            .field("origins", &self.origins)
            .field("components", &self.components)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the configuration: fix it and start again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A key's value cannot be used.
    #[error("`{key}`: {problem}")]
    Key {
        /// The key under `[adapters.burokratt]`, e.g. `tim_url`.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The adapter is made inside of a tokio runtime: components are watched by tasks.
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

/// In milliseconds.
pub(crate) fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
