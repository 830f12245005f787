//! The plan of the listeners: which there are, and who is reached on each by which host and path.
//!
//! Pure, from the configuration: `tidings config check` says of it what the start would say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::tls::{self, Tls, TlsError};
use crate::config::values::{FromText, Listen, optional};
use crate::config::{AdapterTable, Server};

/// Paths that the server answers on every listener.
pub const SERVER_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// How the native API is called where adapters have their names.
pub const NATIVE: &str = "native";

/// Where an adapter is reached: `[adapters.<name>.mount]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    /// Its listener; without it, the native API's.
    #[serde(deserialize_with = "optional")]
    pub listen: Option<MountAt>,
    /// The host that is its own; without it, every one.
    #[serde(deserialize_with = "optional")]
    pub host: Option<HostName>,
    /// The path below which it is; without it, all.
    #[serde(deserialize_with = "optional")]
    pub path: Option<Prefix>,
    /// PEM file of the listener's certificate.
    #[serde(deserialize_with = "optional")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(deserialize_with = "optional")]
    pub tls_key: Option<PathBuf>,
    /// A development certificate instead.
    pub tls_self_signed: bool,
}

/// Where a mount has its own listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountAt {
    /// At this address.
    Address(SocketAddr),
    /// So many ports after the native API's, which may be moved by a flag.
    After(u16),
}

impl MountAt {
    fn address(self, native: SocketAddr) -> SocketAddr {
        match self {
            Self::Address(address) => address,
            Self::After(offset) => beside(native, offset),
        }
    }
}

impl FromText for MountAt {
    const ALLOWED: &'static str = "an address such as \"127.0.0.1:8080\" or \"[::]:8080\", or \"+4\": so many ports after server.listen";

    fn from_text(text: &str) -> Option<Self> {
        match text.strip_prefix('+') {
            Some(offset) => offset
                .parse()
                .ok()
                .filter(|offset| *offset > 0)
                .map(Self::After),
            None => Listen::from_text(text).map(|listen| Self::Address(listen.0)),
        }
    }
}

/// A host's name in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(pub String);

impl FromText for HostName {
    const ALLOWED: &'static str = "a host name such as \"push.example\", without a port";

    fn from_text(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        (text.len() <= 253 && text.bytes().all(good)).then(|| Self(text.to_ascii_lowercase()))
    }
}

/// The beginning of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(pub String);

impl FromText for Prefix {
    const ALLOWED: &'static str =
        "a path such as \"/push\": letters, digits and - . _ ~ between slashes, none at the end";

    fn from_text(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let mut segments = text.strip_prefix('/')?.split('/');
        segments
            .all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(good))
            .then(|| Self(text.to_owned()))
    }
}

/// What listens where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// What it shows.
    pub tls: Tls,
    /// The part of the configuration that it comes from.
    pub key: String,
    /// Who is behind it.
    pub places: Vec<Place>,
}

/// One who is behind a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// 0 is the native API, then come the adapters.
    pub who: usize,
    /// Only this host.
    pub host: Option<HostName>,
    /// Only what is below this.
    pub path: Option<Prefix>,
}

/// What is wrong: the key, and what is allowed instead.
pub type Wrong = Vec<(String, String)>;

/// The listeners, the native one first, for adapters of these names.
///
/// # Errors
/// All that does not go together.
pub fn plan<N: AsRef<str>>(
    server: &Server,
    tables: &BTreeMap<String, AdapterTable>,
    names: &[N],
) -> Result<Vec<Listener>, Wrong> {
    let mut wrong = Wrong::new();
    let native = {
        let keys = (&server.tls_cert, &server.tls_key, server.tls_self_signed);
        tls_of("server", keys, &mut wrong)
    };
    let mut listeners = vec![Listener {
        address: server.listen.0,
        tls: native.clone(),
        key: "server".to_owned(),
        places: vec![Place {
            who: 0,
            host: None,
            path: None,
        }],
    }];
    let label = |who: usize| match who.checked_sub(1) {
        Some(adapter) => names[adapter].as_ref(),
        None => NATIVE,
    };
    for (at, name) in names.iter().enumerate() {
        let (who, name) = (at + 1, name.as_ref());
        if names[..at].iter().any(|other| other.as_ref() == name) {
            wrong.push((
                format!("adapters.{name}"),
                "one adapter of this name".to_owned(),
            ));
            continue;
        }
        let key = format!("adapters.{name}.mount");
        let Some(mount) = tables.get(name).and_then(|table| table.mount.clone()) else {
            // Its own port, beside the one before; what the native API encrypts is not sent in the
            // clear one port further.
            let offset = u16::try_from(who).unwrap_or(u16::MAX);
            let address = beside(server.listen.0, offset);
            let place = Place {
                who,
                host: None,
                path: None,
            };
            join(
                &mut listeners,
                address,
                native.clone(),
                key,
                place,
                &label,
                &mut wrong,
            );
            continue;
        };
        if let Some(path) = &mount.path
            && let Some(reserved) = SERVER_PATHS
                .iter()
                .find(|one| within(&path.0, one).is_some())
        {
            let why = format!("another path: `{reserved}` is the server's own");
            wrong.push((format!("{key}.path"), why));
        }
        let keys = (&mount.tls_cert, &mount.tls_key, mount.tls_self_signed);
        let own = tls_of(&key, keys, &mut wrong);
        let place = Place {
            who,
            host: mount.host,
            path: mount.path,
        };
        match mount.listen {
            Some(listen) => join(
                &mut listeners,
                listen.address(server.listen.0),
                own,
                key,
                place,
                &label,
                &mut wrong,
            ),
            None if own == Tls::Off => {
                place_on(&mut listeners[0], place, &key, &label, &mut wrong);
            }
            None => {
                let why = "an address of its own: without one it shows what server.tls_cert says";
                wrong.push((format!("{key}.listen"), why.to_owned()));
            }
        }
    }
    if wrong.is_empty() {
        Ok(listeners)
    } else {
        Err(wrong)
    }
}

/// Whether the files of every listener hold a certificate.
///
/// # Errors
/// Those that do not.
pub fn check_files(listeners: &[Listener]) -> Result<(), Wrong> {
    let mut wrong = Wrong::new();
    for (at, Listener { tls, key, .. }) in listeners.iter().enumerate() {
        if listeners[..at].iter().any(|before| before.tls == *tls) {
            continue;
        }
        let Tls::Files { cert, key: private } = tls else {
            continue;
        };
        match tls::check(cert, private) {
            Ok(()) => {}
            Err(TlsError::Key(why)) => wrong.push((format!("{key}.tls_key"), why)),
            Err(error) => wrong.push((format!("{key}.tls_cert"), error.to_string())),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Puts a place on the listener of this address, which is made when there is none.
fn join<'a>(
    listeners: &mut Vec<Listener>,
    address: SocketAddr,
    tls: Tls,
    key: String,
    place: Place,
    label: &impl Fn(usize) -> &'a str,
    wrong: &mut Wrong,
) {
    // Port 0 is a free port, another one each time.
    let same = |one: &&mut Listener| one.address == address && address.port() != 0;
    let Some(listener) = listeners.iter_mut().find(same) else {
        return listeners.push(Listener {
            address,
            tls,
            key,
            places: vec![place],
        });
    };
    if listener.tls != tls {
        let other = label(listener.places[0].who);
        let why = format!(
            "an address that `{other}` does not listen on with another certificate, or without"
        );
        return wrong.push((format!("{key}.listen"), why));
    }
    place_on(listener, place, &key, label, wrong);
}

fn place_on<'a>(
    listener: &mut Listener,
    place: Place,
    key: &str,
    label: &impl Fn(usize) -> &'a str,
    wrong: &mut Wrong,
) {
    let same = |one: &&Place| one.host == place.host && one.path == place.path;
    if let Some(other) = listener.places.iter().find(same) {
        let why = format!(
            "a listen address, host or path that is not `{}`'s already",
            label(other.who)
        );
        wrong.push((key.to_owned(), why));
    }
    listener.places.push(place);
}

fn tls_of(
    key: &str,
    (cert, private, self_signed): (&Option<PathBuf>, &Option<PathBuf>, bool),
    wrong: &mut Wrong,
) -> Tls {
    match (cert, private, self_signed) {
        (None, None, false) => Tls::Off,
        (None, None, true) => Tls::SelfSigned,
        (Some(cert), Some(private), false) => Tls::Files {
            cert: cert.clone(),
            key: private.clone(),
        },
        (_, _, true) => {
            let why = "either this or tls_cert and tls_key";
            wrong.push((format!("{key}.tls_self_signed"), why.to_owned()));
            Tls::Off
        }
        (cert, _, false) => {
            let set = if cert.is_some() {
                "tls_cert"
            } else {
                "tls_key"
            };
            wrong.push((
                format!("{key}.{set}"),
                "both tls_cert and tls_key".to_owned(),
            ));
            Tls::Off
        }
    }
}

/// What is left of a path below a prefix; `None` when it is not below it.
pub(crate) fn within<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The address so many ports further; a free port stays one.
fn beside(address: SocketAddr, offset: u16) -> SocketAddr {
    let port = match address.port() {
        0 => 0,
        port => port.saturating_add(offset),
    };
    SocketAddr::new(address.ip(), port)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
