//! Issuers of tokens: whose are taken, how they are checked, and what they open.

use std::path::{Path, PathBuf};

use http::Uri;
use serde::Deserialize;
use tidings_adapter::jwt::{self, KeySource};
use tidings_adapter::outside;

use super::values::{FromText, optional, parsed};
use super::{Count, Pause, Secret, read_secret};
use crate::auth::template::Template;

/// One issuer of tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// For logs and answers.
    pub name: String,
    /// What `iss` must be.
    #[serde(default, deserialize_with = "optional")]
    pub issuer: Option<String>,
    /// `aud` must have one of these.
    #[serde(default)]
    pub audience: Vec<String>,
    /// How it signs.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are published.
    #[serde(default, deserialize_with = "optional")]
    pub jwks_url: Option<Address>,
    /// PEM file of authorities to trust there, besides those of this machine.
    #[serde(default, deserialize_with = "optional")]
    pub tls_ca: Option<PathBuf>,
    /// The file that holds its keys.
    #[serde(default, deserialize_with = "optional")]
    pub jwks_file: Option<PathBuf>,
    /// PEM file of its one key.
    #[serde(default, deserialize_with = "optional")]
    pub public_key_file: Option<PathBuf>,
    /// The secret that both sides know; from `secret_file` when that is set.
    #[serde(default, deserialize_with = "optional")]
    pub secret: Option<Secret>,
    /// The file that holds the secret.
    #[serde(default, deserialize_with = "optional")]
    pub secret_file: Option<PathBuf>,
    /// How far its clock and ours may differ.
    #[serde(default = "leeway")]
    pub leeway: Pause,
    /// Whether a token that names no known key is tried against all.
    #[serde(default)]
    pub try_all_keys: bool,
    /// The claim in which a token may narrow its rights.
    #[serde(default = "rights_claim")]
    pub rights_claim: String,
    /// What its tokens may publish to.
    #[serde(default)]
    pub publish: Vec<Opening>,
    /// What its tokens may read.
    #[serde(default)]
    pub read: Vec<Opening>,
    /// Events a second of one subject; 0 is no limit.
    #[serde(default)]
    pub publish_per_second: Count<0, 1_000_000>,
    /// How many of them at once; 0 is one second's worth.
    #[serde(default)]
    pub burst: Count<0, 1_000_000>,
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub enum Keys<'a> {
    /// A secret.
    Secret(&'a Secret),
    /// One public key.
    PublicKeyFile(&'a Path),
    /// A set in a file.
    JwksFile(&'a Path),
    /// A set that is fetched.
    JwksUrl(&'a Uri),
}

/// An address to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(pub Uri);

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm(pub jwt::Algorithm);

/// A pattern of topics with places for claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening(pub Template);

impl FromText for Address {
    const ALLOWED: &'static str =
        "an address such as \"https://accounts.example/keys\", without a user";

    fn from_text(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        outside::check(&uri).ok().map(|()| Self(uri))
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let known = "\"HS256\", \"RS256\" or \"ES256\"";
        parsed(from, known, |name| jwt::Algorithm::of_name(name).map(Self))
    }
}

impl<'de> Deserialize<'de> for Opening {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let allowed = "a pattern of topics such as \"shop/**\", in which {sub} or {claim:NAME} may \
                       stand for a segment, such as \"tenant/{sub}/**\"";
        parsed(from, allowed, |text| Template::parse(text).map(Self))
    }
}

fn leeway() -> Pause {
    Pause(jwt::LEEWAY)
}

fn rights_claim() -> String {
    "tidings".to_owned()
}

impl Issuer {
    /// Where its keys come from. What [`super::load`] lets through has exactly one such place.
    #[must_use]
    pub fn keys(&self) -> Keys<'_> {
        // `load` has refused an issuer with none; an empty secret opens nothing to anybody.
        static NONE: std::sync::LazyLock<Secret> = std::sync::LazyLock::new(|| Secret::new(""));
        match self {
            Self {
                jwks_url: Some(url),
                ..
            } => Keys::JwksUrl(&url.0),
            Self {
                jwks_file: Some(path),
                ..
            } => Keys::JwksFile(path),
            Self {
                public_key_file: Some(path),
                ..
            } => Keys::PublicKeyFile(path),
            Self { secret, .. } => Keys::Secret(secret.as_ref().unwrap_or(&NONE)),
        }
    }

    pub(super) fn resolve(&mut self, index: usize, wrong: &mut Vec<(String, String)>) {
        let mut mistake =
            |member: &str, why: String| wrong.push((format!("issuers.{index}.{member}"), why));
        if self.name.is_empty() {
            mistake("name", "a name for the logs".to_owned());
        }
        let ways = [
            self.jwks_url.is_some(),
            self.jwks_file.is_some(),
            self.public_key_file.is_some(),
            self.secret.is_some(),
            self.secret_file.is_some(),
        ];
        if ways.iter().filter(|set| **set).count() != 1 {
            let why = "exactly one of jwks_url, jwks_file, public_key_file, secret and secret_file";
            mistake("jwks_url", why.to_owned());
            return;
        }
        if self.publish.is_empty() && self.read.is_empty() {
            let why = "its tokens open nothing: give it publish or read";
            mistake("read", why.to_owned());
        }
        let hs256 = |one: &Algorithm| one.0 == jwt::Algorithm::Hs256;
        let secret = self.secret.is_some() || self.secret_file.is_some();
        let fits = match (secret, self.jwks_file.is_some()) {
            (true, _) => self.algorithms.iter().all(hs256),
            (false, true) => true,
            (false, false) => !self.algorithms.iter().any(hs256),
        };
        if self.algorithms.is_empty() || !fits {
            let why = "with a secret [\"HS256\"], with public keys \"RS256\", \"ES256\" or both";
            mistake("algorithms", why.to_owned());
        }
        if self.tls_ca.is_some() && self.jwks_url.is_none() {
            mistake("tls_ca", "only with jwks_url".to_owned());
        }
        if self.burst.get() > 0 && self.publish_per_second.get() == 0 {
            mistake("burst", "only with publish_per_second".to_owned());
        }
        if let Some(path) = &self.secret_file {
            match read_secret(path) {
                Ok(secret) => self.secret = Some(secret),
                Err(why) => return mistake("secret_file", why),
            }
        }
        let member = match self.keys() {
            Keys::JwksUrl(_) => return,
            Keys::JwksFile(_) => "jwks_file",
            Keys::PublicKeyFile(_) => "public_key_file",
            Keys::Secret(_) if self.secret_file.is_some() => "secret_file",
            Keys::Secret(_) => "secret",
        };
        if let Err(why) = self.source().check() {
            mistake(member, why.to_string());
        }
    }

    /// The same, for the one who reads or fetches them.
    #[must_use]
    pub fn source(&self) -> KeySource {
        match self.keys() {
            Keys::Secret(secret) => KeySource::secret(secret.expose().as_bytes()),
            Keys::PublicKeyFile(path) => KeySource::public_pem_file(path),
            Keys::JwksFile(path) => KeySource::jwks_file(path),
            Keys::JwksUrl(url) => KeySource::jwks_url(url.clone()),
        }
    }
}
