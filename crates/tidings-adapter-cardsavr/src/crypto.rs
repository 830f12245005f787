//! Keys, signatures and sealed bodies (contract section 2.2), all from aws-lc-rs.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// 32 bytes that sign and encrypt.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// A key of exactly this many bytes: shorter ones are filled up with zeros, longer ones cut, as
    /// the clients do.
    pub(crate) fn padded(bytes: &[u8]) -> Self {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What is stored instead of a password.
#[derive(Clone)]
pub(crate) struct PasswordKey([u8; 32]);

impl PasswordKey {
    /// From base64.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }
}

impl fmt::Debug for PasswordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How bodies are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sealing {
    /// AES-256-CBC with PKCS#7.
    #[default]
    Cbc,
    /// AES-256-GCM, said by a third part.
    Gcm,
}
