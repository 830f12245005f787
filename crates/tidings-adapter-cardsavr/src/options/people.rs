//! Who is known: integrators with their keys, and users with their roles.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::OptionsError;
use crate::crypto::{Key, PasswordKey};

/// An application that logs users in.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntegratorOptions {
    /// Its key: base64 of 32 bytes. Shorter ones are filled up with zeros and longer ones cut, as
    /// clients do.
    pub key: Option<String>,
    /// A file with the key; with more lines, the first is the newest.
    pub key_file: Option<PathBuf>,
    /// Keys that hold beside it while they are changed.
    pub old_keys: Vec<String>,
}

impl fmt::Debug for IntegratorOptions {
    /// Keys stand in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntegratorOptions").finish_non_exhaustive()
    }
}

/// Someone who may log in.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserOptions {
    /// A number of his own, from 1 on.
    pub id: u64,
    /// What `tidings cardsavr user` prints for a password: base64 of 32 bytes, see
    /// [`hash_password`](crate::hash_password).
    pub password_key: Option<String>,
    /// A file with it.
    pub password_key_file: Option<PathBuf>,
    /// What he may do.
    pub role: Role,
    /// The id of the customer agent that he belongs to: other customer agents do not see his jobs.
    pub parent: Option<u64>,
}

impl fmt::Debug for UserOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserOptions")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// What a user may do (contract section 1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything.
    Admin,
    /// Sees the jobs of his cardholder agents.
    CustomerAgent,
    /// Sees his own jobs.
    #[default]
    CardholderAgent,
    /// Drives jobs: says their statuses, asks for credentials. Creates none.
    VirtualBrowser,
}

impl Role {
    /// As clients read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::CustomerAgent => "customer_agent",
            Self::CardholderAgent => "cardholder_agent",
            Self::VirtualBrowser => "virtual_browser",
        }
    }
}

/// Keys of one integrator: one, and those that are on their way out.
const KEYS_MAX: usize = 8;

/// An integrator.
#[derive(Debug)]
pub(crate) struct Integrator {
    pub(crate) name: Arc<str>,
    /// The newest first; at least one.
    pub(crate) keys: Vec<Key>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Integrators(BTreeMap<Arc<str>, Arc<Integrator>>);

impl Integrators {
    pub(super) fn of(said: &BTreeMap<String, IntegratorOptions>) -> Result<Self, OptionsError> {
        let mut all = BTreeMap::new();
        for (name, options) in said {
            let wrong = |part: &str, problem: String| {
                OptionsError::new(format!("integrators.{name}{part}"), problem)
            };
            // It stands in a header, behind `Credentials=`.
            let good = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            if name.trim() != name || name.is_empty() || name.len() > 128 || !name.bytes().all(good)
            {
                return Err(wrong("", "a name of at most 128 visible characters".into()));
            }
            let mut texts = Vec::new();
            // Empty texts mean "not set", as everywhere in the configuration.
            let key = options.key.as_ref().filter(|text| !text.is_empty());
            let file = options.key_file.as_ref();
            match (key, file.filter(|path| !path.as_os_str().is_empty())) {
                (Some(key), None) => texts.push(key.clone()),
                (None, Some(path)) => {
                    let text = read(path).map_err(|why| wrong(".key_file", why))?;
                    texts.extend(text.split_whitespace().map(str::to_owned));
                }
                _ => return Err(wrong(".key", "one of this and `key_file` is needed".into())),
            }
            texts.extend(options.old_keys.iter().cloned());
            if texts.is_empty() || texts.len() > KEYS_MAX {
                return Err(wrong(".key", format!("from 1 to {KEYS_MAX} keys")));
            }
            let key = |text: &String| {
                let bytes = STANDARD.decode(text.trim()).ok()?;
                (!bytes.is_empty()).then(|| Key::padded(&bytes))
            };
            let keys = texts.iter().map(key).collect::<Option<Vec<_>>>();
            let keys = keys.ok_or_else(|| wrong(".key", "not base64 of a key".into()))?;
            let name: Arc<str> = name.as_str().into();
            all.insert(name.clone(), Arc::new(Integrator { name, keys }));
        }
        Ok(Self(all))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Integrator>> {
        self.0.get(name)
    }

    /// The one that there is, if there is one.
    pub(super) fn only(&self) -> Option<&Arc<Integrator>> {
        self.0.values().next().filter(|_| self.0.len() == 1)
    }
}

/// A user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) username: Arc<str>,
    pub(crate) role: Role,
    /// The customer agent that he belongs to.
    pub(crate) parent: Option<u64>,
    pub(crate) password_key: PasswordKey,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Users {
    by_id: BTreeMap<u64, Arc<User>>,
    ids: BTreeMap<Arc<str>, u64>,
}

impl Users {
    pub(super) fn of(said: &BTreeMap<String, UserOptions>) -> Result<Self, OptionsError> {
        let (mut by_id, mut ids) = (BTreeMap::new(), BTreeMap::new());
        for (username, options) in said {
            let wrong = |part: &str, problem: &str| {
                OptionsError::new(format!("users.{username}.{part}"), problem)
            };
            if username.is_empty() || username.len() > 128 {
                return Err(wrong("", "a username of at most 128 bytes"));
            }
            if !(1..1 << 53).contains(&options.id) {
                return Err(wrong("id", "a number from 1 on that JavaScript can say"));
            }
            let key = options.password_key.as_ref();
            let file = options.password_key_file.as_ref();
            let file = file.filter(|path| !path.as_os_str().is_empty());
            let text = match (key.filter(|text| !text.is_empty()), file) {
                (Some(text), None) => text.clone(),
                (None, Some(path)) => read(path).map_err(|why| wrong("password_key_file", &why))?,
                _ => {
                    return Err(wrong(
                        "password_key",
                        "this or `password_key_file` is needed",
                    ));
                }
            };
            let password_key = PasswordKey::parse(text.trim())
                .ok_or_else(|| wrong("password_key", "not base64 of 32 bytes"))?;
            let username: Arc<str> = username.as_str().into();
            let user = User {
                id: options.id,
                username: username.clone(),
                role: options.role,
                parent: options.parent,
                password_key,
            };
            if by_id.insert(options.id, Arc::new(user)).is_some() {
                return Err(wrong("id", "another user has it"));
            }
            ids.insert(username, options.id);
        }
        Ok(Self { by_id, ids })
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Arc<User>> {
        self.by_id.get(&id)
    }

    pub(crate) fn named(&self, username: &str) -> Option<&Arc<User>> {
        self.by_id.get(self.ids.get(username)?)
    }
}

/// A small file's text.
fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
