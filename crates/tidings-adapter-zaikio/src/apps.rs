//! The apps: who publishes what, and who may receive what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tidings_adapter::http::HeaderMap;
use tidings_adapter::http::header::AUTHORIZATION;

use crate::event::Subject;
use crate::options::AppOptions;

/// One app.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) name: Arc<str>,
    pub(crate) password: Option<Password>,
    /// Names of the events that it publishes.
    pub(crate) provides: BTreeSet<Arc<str>>,
    /// Names of the events that it may receive.
    pub(crate) subscriptions: BTreeSet<Arc<str>>,
    /// Whom it is connected to; `None`: everybody.
    pub(crate) subjects: Option<BTreeSet<Subject>>,
}

impl App {
    /// Whether it is connected to a subject.
    pub(crate) fn is_connected(&self, subject: &Subject) -> bool {
        self.subjects
            .as_ref()
            .is_none_or(|all| all.contains(subject))
    }
}

/// All apps, by name.
#[derive(Debug, Default)]
pub(crate) struct Apps(BTreeMap<Arc<str>, Arc<App>>);

impl Apps {
    pub(crate) fn add(&mut self, app: App) {
        self.0.insert(app.name.clone(), Arc::new(app));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<App>> {
        self.0.get(name)
    }

    /// The app of this name with this password.
    pub(crate) fn publisher(&self, name: &str, password: &[u8]) -> Option<&Arc<App>> {
        let app = self.0.get(name);
        // A wrong name takes as long as a wrong password.
        let known = app.and_then(|app| app.password.as_ref());
        let good = known.unwrap_or(&NOBODY).is(password);
        app.filter(|app| good && app.password.is_some())
    }

    /// The app that a request names with HTTP Basic (RFC 7617).
    pub(crate) fn basic(&self, headers: &HeaderMap) -> Option<&Arc<App>> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let credentials = credentials.trim();
        let decoded = STANDARD
            .decode(credentials)
            .or_else(|_| STANDARD_NO_PAD.decode(credentials))
            .ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&decoded[..colon]).ok()?;
        self.publisher(name, &decoded[colon + 1..])
    }
}

/// An event password, as its SHA-256: what is compared has one length, and is not what was set.
pub(crate) struct Password([u8; 32]);

/// Nobody's password: no text has this hash that anybody could find.
const NOBODY: Password = Password([0; 32]);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Password {
    /// The password of an app. The error names the key's last part and what is wrong.
    pub(crate) fn of(options: &AppOptions) -> Result<Option<Self>, (&'static str, String)> {
        let given = (
            &options.password,
            &options.password_sha256,
            &options.password_file,
        );
        match given {
            (None, None, None) => Ok(None),
            (Some(text), None, None) if !text.is_empty() => Ok(Some(Self::plain(text.as_bytes()))),
            (Some(_), None, None) => Err(("password", "is empty".to_owned())),
            (None, Some(hex), None) => Self::hex(hex).map(Some).ok_or_else(|| {
                (
                    "password_sha256",
                    "64 hexadecimal digits are needed".to_owned(),
                )
            }),
            (None, None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) if !text.trim().is_empty() => Ok(Some(Self::plain(
                    text.trim_end_matches(['\r', '\n']).as_bytes(),
                ))),
                Ok(_) => Err(("password_file", "is empty".to_owned())),
                Err(error) => Err(("password_file", error.to_string())),
            },
            _ => Err(("password", "is given in more than one way".to_owned())),
        }
    }

    fn plain(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    fn hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(hash))
    }

    fn is(&self, text: &[u8]) -> bool {
        Self::plain(text).0.ct_eq(&self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_adapter::http::HeaderValue;

    fn apps() -> Apps {
        let mut apps = Apps::default();
        apps.add(App {
            name: "a".into(),
            password: Some(Password::plain(b"p:w")),
            provides: BTreeSet::new(),
            subscriptions: BTreeSet::new(),
            subjects: None,
        });
        apps
    }

    #[test]
    fn basic_credentials() {
        for (value, good) in [
            (format!("Basic {}", STANDARD.encode("a:p:w")), true),
            (format!("basic {}", STANDARD_NO_PAD.encode("a:p:w")), true),
            (format!("Basic {}", STANDARD.encode("a:p")), false),
            (format!("Basic {}", STANDARD.encode("b:p:w")), false),
            (format!("Basic {}", STANDARD.encode("a")), false),
            (format!("Bearer {}", STANDARD.encode("a:p:w")), false),
            ("Basic ???".to_owned(), false),
            ("Basic".to_owned(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&value).expect("text"));
            assert_eq!(apps().basic(&headers).is_some(), good, "{value}");
        }
        assert!(apps().basic(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_hash_is_a_password_too() {
        let hash = "b3a8e0e1f9ab1bfe3a36f231f676f78bb30a519d2b21e6c530c0eee8ebb4a5d0";
        assert!(Password::hex(hash).expect("hex").is(b"456"));
        assert!(Password::hex("zz").is_none());
    }
}
