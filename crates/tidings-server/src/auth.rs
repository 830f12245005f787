//! Who publishes and reads: API keys, tokens of issuers, and what they open.
//!
//! Either comes as `Authorization: Bearer …`. A browser's `EventSource` can send no header, so a
//! query parameter is taken as well (`?access_token=` or `?key=`); what stands there ends up in
//! histories and proxies' logs, so give browsers tokens that live shortly, or keys that open little.
//! Only digests of keys are kept, and they are compared in constant time, all of them, so that
//! timing tells nothing about any. No cookie is ever looked at.

pub mod issuers;
pub mod rate;
pub mod rights;
pub mod template;

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use tidings_adapter::jwt::KeyError;
use tidings_core::Now;

use crate::config::{Config, Key, Pattern};
use crate::problem::Problem;
use issuers::Issuers;
use rate::{Budget, Rate};
use rights::Open;
pub use rights::{Rights, Who};

/// All keys and issuers.
pub struct Keyring {
    keys: Vec<([u8; 32], Arc<Rights>)>,
    anybody: Arc<Rights>,
    issuers: Issuers,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.keys.iter().map(|(_, rights)| &rights.who);
        f.debug_struct("Keyring")
            .field("keys", &names.collect::<Vec<_>>())
            .field("issuers", &self.issuers.names().collect::<Vec<_>>())
            .finish()
    }
}

/// The query parameters that may carry a key or a token; the first is RFC 6750 §2.3's.
const PARAMETERS: [&str; 2] = ["access_token", "key"];

/// Whether a configuration lets nobody do anything.
#[must_use]
pub fn is_closed(config: &Config) -> bool {
    let api = &config.api;
    config.keys.is_empty()
        && config.issuers.is_empty()
        && api.anonymous_publish.is_empty()
        && api.anonymous_read.is_empty()
}

impl Keyring {
    /// The keys and issuers of a configuration. Begins to fetch what issuers publish.
    ///
    /// # Errors
    /// [`KeyError`] when an issuer's keys cannot be used.
    ///
    /// # Panics
    /// With an issuer whose keys are in a file or at an address, outside of a tokio runtime.
    pub fn new(config: &Config) -> Result<Self, KeyError> {
        let rights = |who, publish: &[Pattern], read: &[Pattern], rate: Option<Rate>| {
            let open = |list: &[Pattern]| Open {
                patterns: list.iter().map(|one| one.0.clone()).collect(),
                narrowed: None,
            };
            Arc::new(Rights {
                who,
                publish: open(publish),
                read: open(read),
                until_unix_ms: None,
                budget: rate.map(|rate| Arc::new(Budget::new(rate))),
            })
        };
        let digest = |key: &Key| match (&key.key, &key.key_sha256) {
            (Some(secret), _) => Some(Sha256::digest(secret.expose()).into()),
            (None, Some(digest)) => Some(digest.0),
            (None, None) => None,
        };
        let entry = |key: &Key| {
            let who = Who::Key(key.name.clone());
            let rate = Rate::new(key.publish_per_second.get(), key.burst.get());
            let rights = rights(who, &key.publish, &key.read, rate);
            digest(key).map(|digest| (digest, rights))
        };
        let api = &config.api;
        Ok(Self {
            keys: config.keys.iter().filter_map(entry).collect(),
            anybody: rights(
                Who::Anybody,
                &api.anonymous_publish,
                &api.anonymous_read,
                None,
            ),
            issuers: Issuers::new(&config.issuers)?,
        })
    }

    /// Who sent a request. Waits only for an issuer's keys, and bounded.
    ///
    /// # Errors
    /// 401 when a key or token was sent and is not good: it is never taken for none at all. 503
    /// when an issuer's keys could not be had so far.
    pub async fn identify(&self, request: &Parts, now: Now) -> Result<Arc<Rights>, Problem> {
        let Some(given) = given(request)? else {
            return Ok(self.anybody.clone());
        };
        if let Some(rights) = self.of_key(&given) {
            return Ok(rights);
        }
        match str::from_utf8(&given) {
            Ok(token) if !self.issuers.is_empty() && issuers::looks_like_one(&given) => {
                Ok(Arc::new(self.issuers.identify(token, now).await?))
            }
            _ => Err(Problem::unauthenticated(true)),
        }
    }

    fn of_key(&self, given: &[u8]) -> Option<Arc<Rights>> {
        let digest: [u8; 32] = Sha256::digest(given).into();
        let mut found = u64::MAX;
        for (at, (known, _)) in self.keys.iter().enumerate() {
            let same: Choice = known.ct_eq(&digest);
            found.conditional_assign(&(at as u64), same);
        }
        let (_, rights) = self.keys.get(usize::try_from(found).ok()?)?;
        Some(rights.clone())
    }
}

/// The key or token of a request, if there is one.
fn given(request: &Parts) -> Result<Option<Vec<u8>>, Problem> {
    if let Some(header) = request.headers.get(AUTHORIZATION) {
        let (scheme, key) = match header.as_bytes().split_first_chunk::<7>() {
            Some((scheme, key)) => (scheme.as_slice(), key.trim_ascii()),
            None => (header.as_bytes(), &b""[..]),
        };
        if !scheme.eq_ignore_ascii_case(b"bearer ") || key.is_empty() {
            return Err(Problem::unauthenticated(false));
        }
        return Ok(Some(key.to_vec()));
    }
    let query = request.uri.query().unwrap_or_default();
    let key = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| PARAMETERS.contains(&name.as_ref()))
        .map(|(_, key)| key.into_owned().into_bytes());
    Ok(key)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use tidings_core::Topic;

    use crate::config::{Sources, load};
    use crate::problem::Cause;

    fn keyring() -> Keyring {
        let keys = "[{name=\"shop\",key=\"s3\",publish=[\"shop/**\"],read=[\"shop/*\",\"news/*\"]},\
                    {name=\"hashed\",key_sha256=\"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\",read=[\"**\"]}]";
        let environment = [
            ("TIDINGS_KEYS", keys),
            ("TIDINGS_API__ANONYMOUS_READ", "public/**"),
        ];
        let sources = Sources {
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Sources::default()
        };
        Keyring::new(&load(&sources).expect("fits").config).expect("no issuer")
    }

    async fn who(uri: &str, authorization: Option<&str>) -> Result<Who, Problem> {
        let mut request = Request::builder().uri(uri);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let now = Now {
            uptime: std::time::Duration::ZERO,
            unix_ms: 0,
        };
        let rights = keyring().identify(&parts, now).await?;
        Ok(rights.who.clone())
    }

    #[tokio::test]
    async fn keys_are_taken_from_header_or_query() {
        let name = |text: &str| Ok(Who::Key(text.to_owned()));
        assert_eq!(who("/", Some("Bearer s3")).await, name("shop"));
        assert_eq!(who("/", Some("bearer  s3 ")).await, name("shop"));
        assert_eq!(who("/", Some("Bearer secret")).await, name("hashed"));
        assert_eq!(who("/?key=s3", None).await, name("shop"));
        assert_eq!(who("/?topic=a&access_token=s%33", None).await, name("shop"));
        assert_eq!(who("/?key=wrong", Some("Bearer s3")).await, name("shop"));
        assert_eq!(who("/", None).await, Ok(Who::Anybody));
    }

    #[tokio::test]
    async fn a_wrong_key_is_not_no_key() {
        for (uri, header) in [
            ("/", Some("Bearer wrong")),
            ("/", Some("Bearer ")),
            ("/", Some("Basic czM6")),
            ("/", Some("s3")),
            ("/?key=", None),
            ("/?key=wrong", None),
            ("/?key=s3", Some("Bearer wrong")),
        ] {
            let problem = who(uri, header).await.expect_err("refused");
            assert_eq!(problem.cause, Cause::Unauthenticated, "{uri} {header:?}");
        }
    }

    #[test]
    fn rights_go_by_topic() {
        let ring = keyring();
        let shop = &ring.keys[0].1;
        let topic = |text: &str| Topic::parse(text).expect("valid");
        assert!(shop.publish(&topic("shop/a/b")).is_ok());
        assert!(shop.read(&topic("news/a")).is_ok());
        let cause = |result: Result<(), Problem>| result.expect_err("refused").cause;
        assert_eq!(cause(shop.publish(&topic("news/a"))), Cause::Forbidden);
        assert_eq!(cause(shop.read(&topic("shop/a/b"))), Cause::Forbidden);
        assert_eq!(cause(ring.keys[1].1.publish_anything()), Cause::Forbidden);
        assert!(ring.anybody.read(&topic("public/a")).is_ok());
        assert_eq!(
            cause(ring.anybody.read(&topic("shop/a"))),
            Cause::Unauthenticated
        );
        assert_eq!(
            cause(ring.anybody.publish_anything()),
            Cause::Unauthenticated
        );
    }

    #[test]
    fn a_keyring_shows_names_only() {
        let shown = format!("{:?}", keyring());
        let expected = "Keyring { keys: [Key(\"shop\"), Key(\"hashed\")], issuers: [] }";
        assert_eq!(shown, expected);
    }
}
