//! What a URL means: one server, a service behind sentinels, or a cluster.
//!
//! Read by hand: several hosts with ports in one authority are no URL to the usual parsers, and the
//! client library's own URLs know neither sentinels nor clusters.

use std::fmt;
use std::path::PathBuf;

/// One server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where the servers are to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Single(Address),
    Sentinel {
        sentinels: Vec<Address>,
        service: String,
    },
    Cluster {
        seeds: Vec<Address>,
    },
}

/// A URL, read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: i64,
}

impl Target {
    /// The error says what is wrong with the URL, without its secrets.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let shown = redacted(url);
        let wrong = |what: &str| format!("the Redis URL {shown:?} {what}");
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("has no scheme"))?;
        if let Some(mark) = rest.find(['?', '#']) {
            return Err(wrong(&format!(
                "has a part {:?} that means nothing here",
                &rest[mark..=mark]
            )));
        }
        if scheme == "unix" || scheme == "redis+unix" {
            let path = PathBuf::from(rest);
            let place = Place::Single(Address::Unix(path));
            return Ok(Self {
                place,
                tls: false,
                username: None,
                password: None,
                db: 0,
            });
        }
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match base {
            "redis" => false,
            "rediss" => true,
            _ => {
                return Err(wrong(
                    "begins with none of redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://",
                ));
            }
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let text = |part: &str| match percent_decoded(part) {
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => Ok(Some(text)),
            None => Err(wrong(
                "has a user or password that is not percent-encoded UTF-8",
            )),
        };
        let default_port = if kind == "sentinel" { 26_379 } else { 6_379 };
        let addresses: Option<Vec<Address>> = hosts
            .split(',')
            .map(|host| address(host, default_port))
            .collect();
        let addresses = addresses.ok_or_else(|| wrong("names no host, or a bad port"))?;
        let db = |part: &str| match part {
            "" => Ok(0),
            part => part
                .parse::<u16>()
                .map(i64::from)
                .map_err(|_| wrong("ends in something that is no database number")),
        };
        let (place, db) = match kind {
            "" => match <[Address; 1]>::try_from(addresses) {
                Ok([address]) => (Place::Single(address), db(path)?),
                Err(_) => {
                    return Err(wrong(
                        "names several hosts: say redis+sentinel:// or redis+cluster://",
                    ));
                }
            },
            "sentinel" => {
                let (service, number) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err(wrong(
                        "lacks the name of the sentinels' service, as in redis+sentinel://host:26379/mymaster",
                    ));
                }
                let service = service.to_owned();
                (
                    Place::Sentinel {
                        sentinels: addresses,
                        service,
                    },
                    db(number)?,
                )
            }
            "cluster" if db(path)? == 0 => (Place::Cluster { seeds: addresses }, 0),
            "cluster" => return Err(wrong("names a database: a cluster has only 0")),
            _ => {
                return Err(wrong(
                    "has an unknown scheme: sentinel and cluster are known after the +",
                ));
            }
        };
        Ok(Self {
            place,
            tls,
            username: text(username)?,
            password: text(password)?,
            db,
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("place", &self.place)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// A URL without its user and password.
pub(crate) fn redacted(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, hosts)) => format!("{scheme}://…@{hosts}"),
            None => url.to_owned(),
        },
        // Whatever this is, a password may be in it.
        None => "…".to_owned(),
    }
}

fn address(text: &str, default_port: u16) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    if host.is_empty() {
        return None;
    }
    let port = if port.is_empty() {
        default_port
    } else {
        port.parse().ok()?
    };
    Some(Address::Tcp(host.to_owned(), port))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_first_chunk::<2>()?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    #[test]
    fn every_kind_of_url_is_read() {
        let place = |url: &str| Target::parse(url).expect(url).place;
        assert_eq!(
            place("redis://localhost"),
            Place::Single(tcp("localhost", 6379))
        );
        assert_eq!(place("rediss://u:p@h:7/3"), Place::Single(tcp("h", 7)));
        assert_eq!(place("redis://[::1]:7"), Place::Single(tcp("::1", 7)));
        assert_eq!(place("redis://[::1]"), Place::Single(tcp("::1", 6379)));
        assert_eq!(
            place("unix:///run/redis.sock"),
            Place::Single(Address::Unix("/run/redis.sock".into()))
        );
        assert_eq!(
            place("redis+sentinel://a,b:7/main/2"),
            Place::Sentinel {
                sentinels: vec![tcp("a", 26379), tcp("b", 7)],
                service: "main".into()
            }
        );
        assert_eq!(
            place("rediss+cluster://u@a:1,b:2"),
            Place::Cluster {
                seeds: vec![tcp("a", 1), tcp("b", 2)]
            }
        );
        let target = Target::parse("redis://us%40er:p%3Aw%2F@h/4").expect("valid");
        assert_eq!(target.username.as_deref(), Some("us@er"));
        assert_eq!(target.password.as_deref(), Some("p:w/"));
        assert_eq!(target.db, 4);
        let target = Target::parse("redis://:pw@h").expect("valid");
        assert_eq!(
            (target.username, target.password.as_deref()),
            (None, Some("pw"))
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in [
            "localhost:6379",
            "http://u:s3cret@h",
            "redis://",
            "redis://u:s3cret@",
            "redis://u:s3cret@h:99999",
            "redis://u:s3cret@h/x",
            "redis://u:s3cret@h/?protocol=resp3",
            "redis://a,b",
            "redis+sentinel://u:s3cret@h",
            "redis+cluster://u:s3cret@h/1",
            "redis+ring://u:s3cret@h",
            "redis://u:%zz@h",
            "u:s3cret@h",
        ] {
            let error = Target::parse(url).expect_err(url);
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
