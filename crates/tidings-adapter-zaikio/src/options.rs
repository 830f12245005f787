//! What an operator says about this adapter: apps, keys, and how long things take.
//!
//! [`ZaikioOptions`] is the text as it is written; [`Settings`] is what was understood of it. What is
//! wrong is said at start, with the key that it stands under.

mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidings_adapter::http::{HeaderValue, Uri};

pub use tidings_adapter::Span;
pub use values::Rate;

use crate::apps::{App, Apps, Password};
use crate::event::Subject;

/// The configuration, as it stands under `[adapters.zaikio]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZaikioOptions {
    /// The apps, by technical name.
    pub apps: BTreeMap<String, AppOptions>,
    /// The issuer's keys as a JWK Set, in JSON. One of this, `jwks_file` and `jwks_url` is needed.
    pub jwks: Option<String>,
    /// A file with them; a change is noticed.
    pub jwks_file: Option<PathBuf>,
    /// The address of the issuer's JWK Set, e.g. `https://hub.zaikio.com/api/v1/jwt_public_keys`.
    pub jwks_url: Option<String>,
    /// What `iss` must be, e.g. `ZAI`. Unless it is set, it is not looked at.
    pub issuer: Option<String>,
    /// How far the issuer's clock and this one may differ, at most `10s`.
    pub leeway: Span,
    /// The app of a token without an audience. Unless it is set, such a token is refused.
    pub default_app: Option<String>,
    /// A scope that a token must have. Unless it is set, scopes are not looked at.
    pub require_scope: Option<String>,
    /// Whether a connection ends when its token expires.
    pub check_expiry: bool,
    /// Ids (`jti`) of tokens that are refused.
    pub revoked: Vec<String>,
    /// A file with more of them: `{"revoked_token_ids":[…]}`. Looked at every `revoked_every`.
    pub revoked_file: Option<PathBuf>,
    /// An address that answers with more of them, in the same form.
    pub revoked_url: Option<String>,
    /// How often the file and the address are looked at.
    pub revoked_every: Span,
    /// An event that was not acked comes again after this time; `0s`: not while connected.
    pub ack_wait: Span,
    /// The wait doubles with every time, up to this.
    pub ack_wait_max: Span,
    /// A consumer that nobody used for so long is forgotten.
    pub consumer_lifetime: Span,
    /// Origins of browser pages that may connect; all, when there are none here.
    pub origins: Vec<String>,
    /// How many events each app may publish over HTTP, e.g. `300reqs/60s`; no limit when not set.
    /// Counted by each instance.
    #[serde(deserialize_with = "values::rate")]
    pub publish_rate: Option<Rate>,
    /// Bytes of one command over the websocket.
    pub command_bytes: usize,
    /// A client that takes nothing of what it is sent for so long is closed.
    pub write_stall: Span,
    /// Where websockets are opened.
    pub websocket_paths: Vec<String>,
    /// Where events are published and pulled.
    pub events_path: String,
}

/// One app.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppOptions {
    /// Its event password. One of these three, or none: then it neither publishes nor pulls.
    pub password: Option<String>,
    /// The SHA-256 of its event password in hex (of `printf %s PASSWORD | sha256sum`).
    pub password_sha256: Option<String>,
    /// A file with its event password.
    pub password_file: Option<PathBuf>,
    /// The names of the events that it publishes: `<app>.<event>`, or without `<app>.`.
    pub provides: Vec<String>,
    /// The names of the events that it may receive.
    pub subscriptions: Vec<String>,
    /// The subjects that it is connected to, `Org/<uuid>` or `Per/<uuid>`; every one, when not set.
    pub subjects: Option<Vec<String>>,
}

impl Default for ZaikioOptions {
    fn default() -> Self {
        let span = Span::from_secs;
        Self {
            apps: BTreeMap::new(),
            jwks: None,
            jwks_file: None,
            jwks_url: None,
            issuer: None,
            leeway: span(5),
            default_app: None,
            require_scope: None,
            check_expiry: true,
            revoked: Vec::new(),
            revoked_file: None,
            revoked_url: None,
            revoked_every: span(60),
            ack_wait: span(30),
            ack_wait_max: span(10 * 60),
            consumer_lifetime: span(30 * 24 * 3600),
            origins: Vec::new(),
            publish_rate: None,
            // AnyCable's default.
            command_bytes: 64 * 1024,
            // AnyCable gives up after 2 s; a phone that changes cells needs longer.
            write_stall: span(10),
            websocket_paths: vec!["/websocket".to_owned(), "/cable".to_owned()],
            events_path: "/api/v1/events".to_owned(),
        }
    }
}

impl ZaikioOptions {
    /// Empty texts mean "not set", as everywhere in the configuration.
    pub(crate) fn without_empty(mut self) -> Self {
        let texts = [
            &mut self.jwks,
            &mut self.jwks_url,
            &mut self.issuer,
            &mut self.default_app,
            &mut self.require_scope,
            &mut self.revoked_url,
        ];
        for text in texts {
            text.take_if(|text| text.is_empty());
        }
        for path in [&mut self.jwks_file, &mut self.revoked_file] {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        for app in self.apps.values_mut() {
            app.password.take_if(|text| text.is_empty());
            app.password_sha256.take_if(|text| text.is_empty());
            app.password_file
                .take_if(|path| path.as_os_str().is_empty());
        }
        self
    }
}

impl std::fmt::Debug for ZaikioOptions {
    /// Passwords stand in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZaikioOptions")
            .field("apps", &self.apps.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AppOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppOptions")
            .field("provides", &self.provides)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the configuration: fix it and start again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A key's value cannot be used.
    #[error("`{key}`: {problem}")]
    Key {
        /// The key under `[adapters.zaikio]`, e.g. `apps.my_app.password`.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The adapter is made inside of a tokio runtime: keys and lists are kept fresh by tasks.
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

/// Event names of one app, each: every subscription of an ack consumer stands in one record of
/// 64 KiB, of which these are at most 24.
pub(crate) const NAMES_PER_APP_MAX: usize = 200;

/// Bytes of an event's name; the hub takes 128.
pub(crate) const NAME_BYTES_MAX: usize = 100;

/// The leeway that the contract allows.
const LEEWAY_MAX: Duration = Duration::from_secs(10);

/// What was understood of the options.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) apps: Apps,
    pub(crate) default_app: Option<String>,
    pub(crate) require_scope: Option<String>,
    pub(crate) origins: Vec<HeaderValue>,
    pub(crate) publish_rate: Option<Rate>,
    pub(crate) command_bytes: usize,
    pub(crate) write_stall: Duration,
    pub(crate) consumer_lifetime: Duration,
    pub(crate) websocket_paths: Vec<String>,
    pub(crate) events_path: String,
    pub(crate) session: SessionSettings,
}

/// What a session goes by.
#[derive(Debug, Clone)]
pub(crate) struct SessionSettings {
    /// Zero: no redelivery while connected.
    pub(crate) ack_wait: Duration,
    pub(crate) ack_wait_max: Duration,
    pub(crate) check_expiry: bool,
}

impl Settings {
    pub(crate) fn of(options: &ZaikioOptions) -> Result<Self, OptionsError> {
        if options.leeway.0 > LEEWAY_MAX {
            return Err(OptionsError::new("leeway", "at most 10s"));
        }
        if !(256..=16 * 1024 * 1024).contains(&options.command_bytes) {
            return Err(OptionsError::new("command_bytes", "from 256 to 16777216"));
        }
        for (key, span) in [
            ("revoked_every", options.revoked_every),
            ("write_stall", options.write_stall),
            ("consumer_lifetime", options.consumer_lifetime),
        ] {
            if span.0 < Duration::from_millis(100) {
                return Err(OptionsError::new(key, "at least 100ms"));
            }
        }
        let apps = apps(&options.apps)?;
        if let Some(name) = &options.default_app
            && apps.get(name).is_none()
        {
            return Err(OptionsError::new("default_app", "no app of this name"));
        }
        let origin = |origin: &String| {
            HeaderValue::from_str(origin.trim_end_matches('/'))
                .map_err(|_| OptionsError::new("origins", format!("`{origin}` is no origin")))
        };
        let mut paths = BTreeSet::new();
        for path in options.websocket_paths.iter().chain([&options.events_path]) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            if !path.starts_with('/') || !path.chars().all(plain) || !paths.insert(path) {
                let problem = format!("`{path}` is not a path of its own such as \"/websocket\"");
                return Err(OptionsError::new("websocket_paths", problem));
            }
        }
        Ok(Self {
            apps,
            default_app: options.default_app.clone(),
            require_scope: options.require_scope.clone(),
            origins: options
                .origins
                .iter()
                .map(origin)
                .collect::<Result<_, _>>()?,
            publish_rate: options.publish_rate,
            command_bytes: options.command_bytes,
            write_stall: options.write_stall.0,
            consumer_lifetime: options.consumer_lifetime.0,
            websocket_paths: options.websocket_paths.clone(),
            events_path: options.events_path.clone(),
            session: SessionSettings {
                ack_wait: options.ack_wait.0,
                ack_wait_max: options.ack_wait_max.0.max(options.ack_wait.0),
                check_expiry: options.check_expiry,
            },
        })
    }
}

/// An address that can be called.
pub(crate) fn address(key: &str, text: &str) -> Result<Uri, OptionsError> {
    let uri: Uri = text
        .parse()
        .map_err(|_| OptionsError::new(key, "not an address"))?;
    tidings_adapter::outside::check(&uri)
        .map_err(|error| OptionsError::new(key, error.to_string()))?;
    Ok(uri)
}

fn apps(options: &BTreeMap<String, AppOptions>) -> Result<Apps, OptionsError> {
    let mut apps = Apps::default();
    for (name, one) in options {
        let word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let key = |key: &str| format!("apps.{name}{key}");
        if name.is_empty() || name.len() > 64 || !name.chars().all(word) {
            return Err(OptionsError::new(
                key(""),
                "a technical name has letters, digits, _ and -, at most 64",
            ));
        }
        let provides = names(&key(".provides"), &one.provides, |event| {
            if event.contains('.') {
                event.to_owned()
            } else {
                format!("{name}.{event}")
            }
        })?;
        if let Some(foreign) = provides
            .iter()
            .find(|event| event.split_once('.').is_none_or(|(app, _)| app != name))
        {
            let problem = format!("`{foreign}` does not begin with `{name}.`");
            return Err(OptionsError::new(key(".provides"), problem));
        }
        let subscriptions = names(&key(".subscriptions"), &one.subscriptions, str::to_owned)?;
        let subjects = one.subjects.as_ref().map(|subjects| {
            let parse = |text: &String| {
                Subject::parse(text).ok_or_else(|| {
                    let problem = format!("`{text}` is neither Org/<uuid> nor Per/<uuid>");
                    OptionsError::new(key(".subjects"), problem)
                })
            };
            subjects
                .iter()
                .map(parse)
                .collect::<Result<BTreeSet<_>, _>>()
        });
        apps.add(App {
            name: name.as_str().into(),
            password: Password::of(one)
                .map_err(|(part, problem)| OptionsError::new(key(&format!(".{part}")), problem))?,
            provides,
            subscriptions,
            subjects: subjects.transpose()?,
        });
    }
    Ok(apps)
}

fn names(
    key: &str,
    names: &[String],
    whole: impl Fn(&str) -> String,
) -> Result<BTreeSet<std::sync::Arc<str>>, OptionsError> {
    if names.len() > NAMES_PER_APP_MAX {
        return Err(OptionsError::new(
            key,
            format!("more than {NAMES_PER_APP_MAX} names"),
        ));
    }
    let mut all = BTreeSet::new();
    for name in names {
        let name = whole(name);
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == ',';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(bad) {
            return Err(OptionsError::new(key, format!("`{name}` is no event name")));
        }
        all.insert(name.into());
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
