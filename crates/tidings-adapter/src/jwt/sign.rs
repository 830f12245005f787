//! Keys that sign: for development tokens and for tests. A hub signs nothing by itself.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{EncodingKey, crypto};
use serde_json::{Value, json};

use super::Algorithm;
use super::keys::{KeyError, SECRET_BYTES_MIN};

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

/// Why there is no key, or no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not a private key that is known here.
    #[error("this is not the PEM of an RSA or P-256 private key (PKCS#8, `PRIVATE KEY`)")]
    NotPem,
    /// Too short a secret.
    #[error(transparent)]
    Secret(#[from] KeyError),
    /// The library cannot do it.
    #[error("cannot {0}")]
    Library(&'static str),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey")
            .field(&self.algorithm.name())
            .finish()
    }
}

impl SigningKey {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// [`SignError::Secret`].
    pub fn secret(secret: &[u8]) -> Result<Self, SignError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::WeakSecret.into());
        }
        Ok(Self {
            algorithm: Algorithm::Hs256,
            key: EncodingKey::from_secret(secret),
        })
    }

    /// A private key, for RS256 or ES256 as the key is.
    ///
    /// # Errors
    /// [`SignError::NotPem`].
    pub fn private_pem(pem: &[u8]) -> Result<Self, SignError> {
        let (algorithm, key) = if let Ok(key) = EncodingKey::from_ec_pem(pem) {
            (Algorithm::Es256, key)
        } else {
            let key = EncodingKey::from_rsa_pem(pem).map_err(|_| SignError::NotPem)?;
            (Algorithm::Rs256, key)
        };
        let key = Self { algorithm, key };
        // The library reads PEM by its outer form; that a key is in it shows when it is used.
        key.public().map_err(|_| SignError::NotPem)?;
        Ok(key)
    }

    /// A new private key and its PEM (PKCS#8). RSA keys get 2048 bits.
    ///
    /// # Errors
    /// [`SignError::Library`]; HS256 has no private key.
    pub fn generate(algorithm: Algorithm) -> Result<(Self, String), SignError> {
        let failed = SignError::Library("make a key");
        let der = match algorithm {
            Algorithm::Hs256 => return Err(failed),
            Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048)
                .and_then(|pair| Ok(pair.as_der()?.as_ref().to_vec())),
            Algorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .and_then(|pair| Ok(pair.to_pkcs8v1()?.as_ref().to_vec())),
        };
        let pem = pem(&der.map_err(|_| failed)?);
        Ok((Self::private_pem(pem.as_bytes())?, pem))
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half as a JWK, named by its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// [`SignError::Library`] for a secret, which has no public half.
    pub fn public_jwk(&self) -> Result<Value, SignError> {
        let jwk = self.public()?;
        let failed = |_| SignError::Library("print the key");
        let mut value =
            serde_json::to_value(&jwk).map_err(|_| SignError::Library("print the key"))?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(failed)?;
        value["kid"] = kid.into();
        value["use"] = "sig".into();
        Ok(value)
    }

    /// The name of the public half, as [`Self::public_jwk`] has it; `None` for a secret.
    #[must_use]
    pub fn kid(&self) -> Option<String> {
        self.public().ok()?.thumbprint(ThumbprintHash::SHA256).ok()
    }

    /// Signs claims. `kid` goes into the header.
    ///
    /// # Errors
    /// [`SignError::Library`].
    pub fn sign(&self, claims: &Value, kid: Option<&str>) -> Result<String, SignError> {
        let mut header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.sign_with_header(&header, claims)
    }

    /// Signs claims under a header of one's own, whatever it says: for tests of those who check.
    ///
    /// # Errors
    /// [`SignError::Library`].
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> Result<String, SignError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm.library())
            .map_err(|_| SignError::Library("sign"))?;
        Ok(format!("{message}.{signature}"))
    }

    fn public(&self) -> Result<Jwk, SignError> {
        if self.algorithm == Algorithm::Hs256 {
            return Err(SignError::Library("publish a secret"));
        }
        Jwk::from_encoding_key(&self.key, self.algorithm.library())
            .map_err(|_| SignError::Library("read the key"))
    }
}

/// PKCS#8 as PEM (RFC 7468): lines of 64 characters.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}
