//! What was understood of the options, and what is wrong with them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tidings_adapter::http::{HeaderValue, Uri};

use super::{Auth, BurokrattOptions, Component, OptionsError};

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
