//! JSON Web Tokens: who somebody is, as an issuer signed it (RFC 7519, RFC 7515, RFC 8725).
//!
//! [`KeySet`] holds an issuer's keys and keeps them fresh; [`Checks`] says what a token of this
//! issuer must look like; a [`Verifier`] is both, and answers whether a token is good *now*, which
//! is an argument. HS256, RS256 and ES256 are known, nothing else: `none` is no algorithm here. A
//! token chooses among its issuer's keys by its `kid`, never a key itself: `jku`, `jwk`, `x5u` and
//! `x5c` in its header are not looked at.
//!
//! ```
//! use tidings_adapter::jwt::{Algorithm, Checks, KeySet, KeySource, SigningKey, TokenError, Verifier};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let secret = "a shared secret of 32 bytes or more";
//! let key = SigningKey::secret(secret.as_bytes()).unwrap();
//! let token = key.sign(&serde_json::json!({"sub": "alice", "exp": 1_700_000_060}), None).unwrap();
//!
//! let keys = KeySet::start(KeySource::secret(secret.as_bytes()), Default::default()).unwrap();
//! let verifier = Verifier::new(keys, Checks::new([Algorithm::Hs256]));
//! let claims = verifier.verify(&token, 1_700_000_000_000).await.unwrap();
//! assert_eq!(claims.subject.as_deref(), Some("alice"));
//! assert_eq!(verifier.verify(&token, 1_700_000_090_000).await, Err(TokenError::Expired));
//! # }
//! ```
//!
//! Neither tokens nor keys are ever part of a `Debug` output or a log line. What is absent: the
//! words of any protocol; who may do what is for the caller to read out of the [`Claims`].

mod keys;
mod set;
mod sign;
mod source;
mod token;

use std::time::Duration;

pub use keys::{KeyError, Keys};
pub use set::{KeySet, KeySetOptions};
pub use sign::{SignError, SigningKey};
pub use source::KeySource;
pub use token::{Claims, Unverified, verify};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256: who can check it can also make it.
    Hs256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// All that are known.
    pub const ALL: [Self; 3] = [Self::Hs256, Self::Rs256, Self::Es256];

    /// Its name on the wire (RFC 7518 §3.1).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// The algorithm of a name; `None` for all others, `none` among them.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    pub(crate) const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
        }
    }
}

/// What a token must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// The algorithms this issuer signs with. One that fits no key of the issuer opens nothing.
    pub algorithms: Vec<Algorithm>,
    /// What `iss` must be; `None`: anything, or nothing.
    pub issuer: Option<String>,
    /// `aud` must have one of these; empty: anything, or nothing.
    pub audience: Vec<String>,
    /// How far the issuer's clock and this one may differ.
    pub leeway: Duration,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Bytes of a whole token. With a dozen claims they have 1 to 2 KiB; more is work for the
    /// signature that nobody asked for.
    pub max_token_bytes: usize,
}

/// The leeway unless it is said otherwise: clocks that are kept differ by less than a second.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// The largest token unless it is said otherwise: half of what a request's head may have.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

impl Checks {
    /// Any issuer and audience, `exp` required.
    #[must_use]
    pub fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self {
            algorithms: algorithms.into_iter().collect(),
            issuer: None,
            audience: Vec::new(),
            leeway: LEEWAY,
            require_exp: true,
            max_token_bytes: TOKEN_BYTES_MAX,
        }
    }
}

/// Why a token is refused. What each says is safe to tell the one who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url with JSON in them, too long, or with a critical extension.
    #[error("the token is malformed")]
    Malformed,
    /// An algorithm that this issuer does not sign with.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// The issuer has no key of this name, also after its keys were looked up again.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the token's signature is wrong")]
    Signature,
    /// `exp` is past.
    #[error("the token is expired")]
    Expired,
    /// `nbf` or `iat` is to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// This claim is missing, is not what it must be, or is not of its type.
    #[error("the token's claim `{0}` is not accepted")]
    Claim(&'static str),
    /// The issuer's keys could not be had so far: trying again later may help.
    #[error("the issuer's keys are out of reach for the moment")]
    KeysUnavailable,
}

/// An issuer: its keys, and what its tokens must look like. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier {
    keys: KeySet,
    checks: std::sync::Arc<Checks>,
}

impl Verifier {
    /// Tokens are checked against these.
    #[must_use]
    pub fn new(keys: KeySet, checks: Checks) -> Self {
        Self {
            keys,
            checks: std::sync::Arc::new(checks),
        }
    }

    /// The checks.
    #[must_use]
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The claims of a token that is good now. Waits only when the token names a key that is not
    /// known, for the keys to be looked up again, and bounded.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Claims, TokenError> {
        let token = Unverified::parse(token, self.checks.max_token_bytes)?;
        // Before any key is looked for: what is not accepted anyway must not cause a fetch.
        token.accepted(&self.checks)?;
        let present = self.keys.present().await?;
        match token.check(&present.keys, &self.checks, now_unix_ms) {
            Err(error) if token.may_be_of_a_newer_key(error, &present.keys) => {
                match self.keys.newer(&present).await {
                    Some(newer) => token.check(&newer.keys, &self.checks, now_unix_ms),
                    None => Err(error),
                }
            }
            result => result,
        }
    }
}

#[cfg(test)]
#[path = "jwt/tests.rs"]
mod tests;
