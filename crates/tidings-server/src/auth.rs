//! Who publishes and reads: API keys and what they open.
//!
//! A key comes as `Authorization: Bearer <key>`. A browser's `EventSource` can send no header, so a
//! query parameter is taken as well (`?access_token=` or `?key=`); such keys end up in histories and
//! proxies' logs, so give browsers keys that open little. Only digests of keys are kept, and they
//! are compared in constant time, all of them, so that timing tells nothing about any.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use tidings_core::{Topic, TopicPattern};

use crate::config::{Config, Key, Pattern};
use crate::problem::{Cause, Problem};

/// What somebody may do.
#[derive(Debug, PartialEq, Eq)]
pub struct Rights {
    /// The key's name; `None` for anybody.
    pub name: Option<String>,
    publish: Vec<TopicPattern>,
    read: Vec<TopicPattern>,
}

/// All keys.
pub struct Keyring {
    keys: Vec<([u8; 32], Arc<Rights>)>,
    anybody: Arc<Rights>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .keys
            .iter()
            .filter_map(|(_, rights)| rights.name.as_deref());
        f.debug_list().entries(names).finish()
    }
}

/// The query parameters that may carry a key; the first is RFC 6750 §2.3's.
const PARAMETERS: [&str; 2] = ["access_token", "key"];

impl Keyring {
    /// The keys of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let rights = |name, publish: &[Pattern], read: &[Pattern]| {
            let patterns = |list: &[Pattern]| list.iter().map(|one| one.0.clone()).collect();
            Arc::new(Rights {
                name,
                publish: patterns(publish),
                read: patterns(read),
            })
        };
        let digest = |key: &Key| match (&key.key, &key.key_sha256) {
            (Some(secret), _) => Some(Sha256::digest(secret.expose()).into()),
            (None, Some(digest)) => Some(digest.0),
            (None, None) => None,
        };
        let entry = |key: &Key| {
            let rights = rights(Some(key.name.clone()), &key.publish, &key.read);
            digest(key).map(|digest| (digest, rights))
        };
        let api = &config.api;
        Self {
            keys: config.keys.iter().filter_map(entry).collect(),
            anybody: rights(None, &api.anonymous_publish, &api.anonymous_read),
        }
    }

    /// Whether nobody may do anything.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.keys.is_empty() && self.anybody.publish.is_empty() && self.anybody.read.is_empty()
    }

    /// Who sent a request.
    ///
    /// # Errors
    /// 401 when a key was sent and is not known: it is never taken for no key at all.
    pub fn identify(&self, request: &Parts) -> Result<Arc<Rights>, Problem> {
        let Some(given) = given(request)? else {
            return Ok(self.anybody.clone());
        };
        let digest: [u8; 32] = Sha256::digest(given).into();
        let mut found = u64::MAX;
        for (at, (known, _)) in self.keys.iter().enumerate() {
            let same: Choice = known.ct_eq(&digest);
            found.conditional_assign(&(at as u64), same);
        }
        usize::try_from(found)
            .ok()
            .and_then(|at| self.keys.get(at))
            .map(|(_, rights)| rights.clone())
            .ok_or_else(|| Problem::unauthenticated(true))
    }
}

/// The key of a request, if there is one.
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

impl Rights {
    /// Whether events may be published to a topic.
    ///
    /// # Errors
    /// 403, or 401 when there was no key.
    pub fn publish(&self, topic: &Topic) -> Result<(), Problem> {
        self.check(&self.publish, topic, "publish to")
    }

    /// Whether a topic may be read.
    ///
    /// # Errors
    /// 403, or 401 when there was no key.
    pub fn read(&self, topic: &Topic) -> Result<(), Problem> {
        self.check(&self.read, topic, "read")
    }

    /// Whether anything at all may be published: asked before a body is taken in.
    ///
    /// # Errors
    /// 403, or 401 when there was no key.
    pub fn publish_anything(&self) -> Result<(), Problem> {
        if self.publish.is_empty() {
            return Err(self.refusal("publish to any topic"));
        }
        Ok(())
    }

    fn check(&self, open: &[TopicPattern], topic: &Topic, what: &str) -> Result<(), Problem> {
        if open.iter().any(|pattern| pattern.matches(topic)) {
            return Ok(());
        }
        Err(self
            .refusal(&format!("{what} `{topic}`"))
            .with("topic", topic.as_str()))
    }

    fn refusal(&self, what: &str) -> Problem {
        match &self.name {
            None => Problem::unauthenticated(false),
            Some(name) => Problem::new(
                Cause::Forbidden,
                format!("the key {name:?} does not allow you to {what}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::{Sources, load};

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
        Keyring::new(&load(&sources).expect("fits").config)
    }

    fn who(uri: &str, authorization: Option<&str>) -> Result<Option<String>, Problem> {
        let mut request = Request::builder().uri(uri);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        keyring().identify(&parts).map(|rights| rights.name.clone())
    }

    #[test]
    fn keys_are_taken_from_header_or_query() {
        let name = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(who("/", Some("Bearer s3")), name("shop"));
        assert_eq!(who("/", Some("bearer  s3 ")), name("shop"));
        assert_eq!(who("/", Some("Bearer secret")), name("hashed"));
        assert_eq!(who("/?key=s3", None), name("shop"));
        assert_eq!(who("/?topic=a&access_token=s%33", None), name("shop"));
        assert_eq!(who("/?key=wrong", Some("Bearer s3")), name("shop"));
        assert_eq!(who("/", None), Ok(None));
    }

    #[test]
    fn a_wrong_key_is_not_no_key() {
        for (uri, header) in [
            ("/", Some("Bearer wrong")),
            ("/", Some("Bearer ")),
            ("/", Some("Basic czM6")),
            ("/", Some("s3")),
            ("/?key=", None),
            ("/?key=wrong", None),
            ("/?key=s3", Some("Bearer wrong")),
        ] {
            let problem = who(uri, header).expect_err("refused");
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
        assert!(!ring.is_closed());
    }

    #[test]
    fn a_keyring_shows_names_only() {
        assert_eq!(format!("{:?}", keyring()), "[\"shop\", \"hashed\"]");
    }
}
