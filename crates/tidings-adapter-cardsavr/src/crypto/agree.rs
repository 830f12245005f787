//! The exchange of keys at login: ECDH on P-256, the raw X coordinate is the session's key.

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Key;

/// One side of an exchange.
pub(crate) struct Exchange(PrivateKey);

impl Exchange {
    /// With a new key pair; `None` if the system has no randomness.
    pub(crate) fn new() -> Option<Self> {
        PrivateKey::generate(&ECDH_P256).ok().map(Self)
    }

    #[cfg(test)]
    pub(crate) fn with_private(bytes: &[u8]) -> Self {
        Self(PrivateKey::from_private_key(&ECDH_P256, bytes).expect("a key"))
    }

    /// The public key: base64 of 65 bytes, uncompressed.
    pub(crate) fn public(&self) -> Option<String> {
        let public = self.0.compute_public_key().ok()?;
        Some(STANDARD.encode(public.as_ref()))
    }

    /// The key that both sides have; `None` when the other's is no point of the curve.
    pub(crate) fn agree(&self, public: &str) -> Option<Key> {
        let public = STANDARD.decode(public).ok()?;
        if public.len() != 65 || public.first() != Some(&4) {
            return None;
        }
        let public = UnparsedPublicKey::new(&ECDH_P256, public);
        agreement::agree(&self.0, public, (), |x| Ok(Key::padded(x))).ok()
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange(***)")
    }
}
