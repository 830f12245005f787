//! Keys that check signatures: a shared secret, a public key in PEM, or a set of JWKs (RFC 7517).
//!
//! What is in a set and cannot be used here (other curves, keys for encryption, too short ones) is
//! passed over, because an issuer may publish it for others; a set with no usable key at all is
//! still a set: the issuer has withdrawn what it had.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde::Deserialize;
use serde_json::Value;

use super::Algorithm;

/// Bytes of an HMAC secret at least: as many as the hash has (RFC 7518 §3.2). A shorter one can be
/// guessed from any token that was signed with it.
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// Keys taken of one set. Issuers have two or three, large ones ten; a token without `kid` may have
/// to be tried against all, at about 20 µs each.
const KEYS_MAX: usize = 32;

/// RSA moduli: below 2048 bits none is safe (RFC 7518 §3.3), above 8192 the library takes none.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Why a text holds no keys. It never says what the text was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a JWK Set.
    #[error("this is not a JSON Web Key Set ({{\"keys\":[…]}})")]
    NotASet,
    /// Not the PEM of a public key.
    #[error("this is not the PEM of an RSA (2048 bits or more) or P-256 public key (`PUBLIC KEY`)")]
    NotPem,
    /// Too short a secret.
    #[error("a shared secret has {SECRET_BYTES_MIN} bytes or more")]
    WeakSecret,
    /// An address that cannot be called.
    #[error("{0}")]
    Address(String),
    /// A file that cannot be read.
    #[error("{file}: {why}")]
    File {
        /// Which.
        file: String,
        /// Why.
        why: String,
    },
}

/// One key and what it is for.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
}

impl Key {
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        let algorithm = self.algorithm.library();
        // The comparison of HMACs takes the same time whatever they are: aws-lc sees to it.
        crypto::verify(signature, message.as_bytes(), &self.key, algorithm).unwrap_or(false)
    }
}

/// The keys of one issuer at one moment.
#[derive(Default)]
pub struct Keys {
    keys: Vec<Key>,
    /// Whether a token that names no known key is tried against every key.
    pub(super) try_all: bool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .keys
            .iter()
            .map(|key| (key.algorithm.name(), key.kid.as_deref()));
        f.debug_list().entries(names).finish()
    }
}

impl Keys {
    /// A secret that both sides know, for HS256.
    ///
    /// # Errors
    /// [`KeyError::WeakSecret`].
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::WeakSecret);
        }
        Ok(Self::one(
            Algorithm::Hs256,
            DecodingKey::from_secret(secret),
        ))
    }

    /// One public key, for RS256 or ES256 as the key is.
    ///
    /// # Errors
    /// [`KeyError::NotPem`]: also for private keys and certificates, which the library would take
    /// and then misread.
    pub fn public_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(pem).map_err(|_| KeyError::NotPem)?;
        let of_kind = |kind: &str| text.contains(&format!("-----BEGIN {kind}-----"));
        let public = of_kind("PUBLIC KEY") || of_kind("RSA PUBLIC KEY");
        if !public || text.contains("PRIVATE KEY") || of_kind("CERTIFICATE") {
            return Err(KeyError::NotPem);
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let point = key.try_get_as_bytes().map_err(|_| KeyError::NotPem)?;
            // Uncompressed, two coordinates of P-256.
            if point.len() != 65 || point.first() != Some(&4) {
                return Err(KeyError::NotPem);
            }
            return Ok(Self::one(Algorithm::Es256, key));
        }
        let key = DecodingKey::from_rsa_pem(pem).map_err(|_| KeyError::NotPem)?;
        let der = key.try_get_as_bytes().map_err(|_| KeyError::NotPem)?;
        let public = aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|_| KeyError::NotPem)?;
        if !RSA_BYTES.contains(&public.modulus_len()) {
            return Err(KeyError::NotPem);
        }
        Ok(Self::one(Algorithm::Rs256, key))
    }

    /// A JWK Set. Secrets in it (`oct`) are taken when it came from a place of our own: a set that
    /// an address hands out is public.
    ///
    /// # Errors
    /// [`KeyError::NotASet`].
    pub fn jwks(text: &[u8], with_secrets: bool) -> Result<Self, KeyError> {
        let set: Set = serde_json::from_slice(text).map_err(|_| KeyError::NotASet)?;
        let keys = set
            .keys
            .into_iter()
            .filter_map(|jwk| serde_json::from_value(jwk).ok())
            .filter_map(|jwk: Jwk| jwk.key(with_secrets))
            .take(KEYS_MAX)
            .collect();
        Ok(Self {
            keys,
            try_all: false,
        })
    }

    /// Tries every key that fits when a token names none, or one that is not known.
    #[must_use]
    pub fn try_all(mut self, try_all: bool) -> Self {
        self.try_all = try_all;
        self
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn one(algorithm: Algorithm, key: DecodingKey) -> Self {
        let key = Key {
            kid: None,
            algorithm,
            key,
        };
        Self {
            keys: vec![key],
            try_all: false,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    pub(super) fn of_name<'a>(&'a self, kid: &'a str) -> impl Iterator<Item = &'a Key> {
        self.all()
            .filter(move |key| key.kid.as_deref() == Some(kid))
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The members of a JWK that are looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    k: String,
}

impl Jwk {
    fn key(self, with_secrets: bool) -> Option<Key> {
        let signs = self
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig");
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if !signs || !self.key_ops.as_ref().is_none_or(verifies) {
            return None;
        }
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(&self.n)?, bytes(&self.e)?);
                let leading = n.iter().take_while(|byte| **byte == 0).count();
                if !RSA_BYTES.contains(&(n.len() - leading)) {
                    return None;
                }
                let key = DecodingKey::from_rsa_raw_components(&n[leading..], &e);
                (Algorithm::Rs256, key)
            }
            ("EC", Some("P-256")) => {
                let coordinate = |text: &str| bytes(text).filter(|bytes| bytes.len() == 32);
                coordinate(&self.x).and(coordinate(&self.y))?;
                let key = DecodingKey::from_ec_components(&self.x, &self.y).ok()?;
                (Algorithm::Es256, key)
            }
            ("oct", _) if with_secrets => {
                let secret = bytes(&self.k).filter(|secret| secret.len() >= SECRET_BYTES_MIN)?;
                (Algorithm::Hs256, DecodingKey::from_secret(&secret))
            }
            _ => return None,
        };
        if self.alg.is_some_and(|name| name != algorithm.name()) {
            return None;
        }
        Some(Key {
            kid: self.kid,
            algorithm,
            key,
        })
    }
}
