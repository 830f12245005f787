//! What an operator says about this adapter: who may, which pages, which components, and how long
//! things take.
//!
//! [`BurokrattOptions`] is the text as it is written; [`Settings`] is what was understood of it. What
//! is wrong is said at start, with the key that it stands under.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidings_adapter::Span;
use tidings_adapter::http::{HeaderValue, Uri};

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

/// The components that are always shown, in this order.
const ALWAYS: [&str; 4] = ["TIM", "RUUTER", "DMAPPER", "RESQL"];

/// Components: all are looked at within one turn, and stand in one record.
const COMPONENTS_MAX: usize = 32;

/// Bytes of a component's name.
const NAME_BYTES_MAX: usize = 64;

/// Waits of the estimate, each about 30 bytes of one record.
const WAITS_MAX: usize = 1_000;

/// What was understood of the options.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) options: BurokrattOptions,
    /// Without a slash at its end; there with [`Auth::Tim`].
    pub(crate) tim: Option<String>,
    pub(crate) backend_key: Option<String>,
    pub(crate) origins: Origins,
    pub(crate) logout: Option<String>,
    /// In the order in which they are shown; without an address: not watched.
    pub(crate) components: Vec<(String, Option<Uri>)>,
}

/// Which pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origins {
    Every,
    These(BTreeSet<Vec<u8>>),
}

impl Origins {
    pub(crate) fn contain(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Every => true,
            Self::These(all) => all.contains(origin.as_bytes()),
        }
    }
}

impl Settings {
    pub(crate) fn of(mut options: BurokrattOptions) -> Result<Self, OptionsError> {
        // Empty texts mean "not set", as everywhere in the configuration.
        for text in [
            &mut options.tim_url,
            &mut options.backend_key,
            &mut options.logout_url,
        ] {
            text.take_if(|text| text.is_empty());
        }
        let no_path = |path: &mut PathBuf| path.as_os_str().is_empty();
        options.backend_key_file.take_if(no_path);
        check_spans(&options)?;
        if !(1024 * 1024..=64 * 1024 * 1024).contains(&options.body_bytes) {
            return Err(OptionsError::new("body_bytes", "from 1048576 to 67108864"));
        }
        if !(1..=WAITS_MAX).contains(&options.waits) {
            let problem = format!("from 1 to {WAITS_MAX}");
            return Err(OptionsError::new("waits", problem));
        }
        for (key, name) in [
            ("chat_cookie", &options.chat_cookie),
            ("agent_cookie", &options.agent_cookie),
            ("tara_cookie", &options.tara_cookie),
        ] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return Err(OptionsError::new(
                    key,
                    "the name of a cookie: letters, digits, - _ .",
                ));
            }
        }
        let tim = match (&options.tim_url, options.auth) {
            (None, Auth::Tim) => {
                let problem = "needed for `auth = \"tim\"` (for development: `auth = \"off\"`)";
                return Err(OptionsError::new("tim_url", problem));
            }
            (Some(_), Auth::Off) => {
                return Err(OptionsError::new(
                    "tim_url",
                    "not used with `auth = \"off\"`",
                ));
            }
            (None, Auth::Off) => None,
            (Some(url), Auth::Tim) => {
                address("tim_url", url)?;
                Some(url.trim_end_matches('/').to_owned())
            }
        };
        if options.auth == Auth::Tim && options.roles.is_empty() {
            return Err(OptionsError::new("roles", "no agent could do anything"));
        }
        let logout = options.logout_url.clone();
        if let Some(url) = &logout {
            address("logout_url", url)?;
        }
        Ok(Self {
            tim,
            backend_key: backend_key(&options)?,
            origins: origins(&options.origins)?,
            logout,
            components: components(&options.components)?,
            options,
        })
    }
}

fn check_spans(options: &BurokrattOptions) -> Result<(), OptionsError> {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let (day, hour) = (s(86_400), s(3600));
    for (key, span, least, most) in [
        ("tim_timeout", options.tim_timeout, ms(10), s(30)),
        // A session that was revoked goes on for so long.
        ("tim_cache", options.tim_cache, s(0), s(60)),
        ("recheck", options.recheck, s(1), hour),
        (
            "chat_cookie_lifetime",
            options.chat_cookie_lifetime,
            s(60),
            366 * day,
        ),
        ("retry", options.retry, ms(10), hour),
        ("heartbeat", options.heartbeat, ms(50), hour),
        ("ended_grace", options.ended_grace, s(0), hour),
        ("write_stall", options.write_stall, ms(100), hour),
        // Events are retained for an hour: who reads them must find their chat.
        ("chat_lifetime", options.chat_lifetime, hour, 366 * day),
        ("ended_lifetime", options.ended_lifetime, s(60), 366 * day),
        ("termination", options.termination, s(0), day),
        (
            "termination_max",
            options.termination_max,
            options.termination.0,
            day,
        ),
        ("logout_after", options.logout_after, s(0), hour),
        ("waits_window", options.waits_window, s(1), 7 * day),
        ("wait_default", options.wait_default, s(0), 7 * day),
        ("component_every", options.component_every, ms(100), hour),
        (
            "component_timeout",
            options.component_timeout,
            ms(10),
            s(30),
        ),
    ] {
        if span.0 < least || span.0 > most {
            let problem = format!("from {least:?} to {most:?}");
            return Err(OptionsError::new(key, problem));
        }
    }
    Ok(())
}

/// An address that can be called.
fn address(key: &str, text: &str) -> Result<Uri, OptionsError> {
    let uri: Uri = text
        .parse()
        .map_err(|_| OptionsError::new(key, "not an address"))?;
    tidings_adapter::outside::check(&uri)
        .map_err(|error| OptionsError::new(key, error.to_string()))?;
    Ok(uri)
}

fn backend_key(options: &BurokrattOptions) -> Result<Option<String>, OptionsError> {
    let key = match (&options.backend_key, &options.backend_key_file) {
        (Some(_), Some(_)) => {
            let problem = "either this or `backend_key`";
            return Err(OptionsError::new("backend_key_file", problem));
        }
        (Some(key), None) => key.clone(),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| OptionsError::new("backend_key_file", error.to_string()))?;
            text.trim_end().to_owned()
        }
        (None, None) => return Ok(None),
    };
    if key.len() < 16 {
        let problem = "at least 16 characters: whoever has it notifies everybody";
        return Err(OptionsError::new("backend_key", problem));
    }
    Ok(Some(key))
}

fn origins(written: &[String]) -> Result<Origins, OptionsError> {
    if written.iter().any(|one| one == "*") {
        return Ok(Origins::Every);
    }
    let mut all = BTreeSet::new();
    for one in written {
        let plain = one.trim_end_matches('/');
        let uri: Option<Uri> = plain.parse().ok();
        let good = uri.is_some_and(|uri| {
            uri.scheme().is_some() && uri.authority().is_some() && uri.path() == "/"
        });
        if !good {
            let problem = format!("`{one}` is no origin such as https://chat.example.ee");
            return Err(OptionsError::new("origins", problem));
        }
        all.insert(plain.as_bytes().to_vec());
    }
    Ok(Origins::These(all))
}

fn components(written: &[Component]) -> Result<Vec<(String, Option<Uri>)>, OptionsError> {
    let mut all: Vec<(String, Option<Uri>)> = ALWAYS
        .iter()
        .map(|name| ((*name).to_owned(), None))
        .collect();
    for Component { name, url } in written {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let problem = format!("`{name}` is no name of 1 to {NAME_BYTES_MAX} bytes");
            return Err(OptionsError::new("components", problem));
        }
        let url = Some(address(&format!("components.{name}"), url)?);
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if known.is_none() => *known = url,
            Some(_) => {
                let problem = format!("`{name}` stands there twice");
                return Err(OptionsError::new("components", problem));
            }
            None => all.push((name.clone(), url)),
        }
    }
    if all.len() > COMPONENTS_MAX {
        let problem = format!("more than {COMPONENTS_MAX}");
        return Err(OptionsError::new("components", problem));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
