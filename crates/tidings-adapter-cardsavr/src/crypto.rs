//! Keys, passwords, signatures and sealed bodies (contract section 2.2), all from aws-lc-rs.
//!
//! Nothing here is of our own making: HMAC, AES, PBKDF2 and ECDH are the library's, comparisons are
//! its constant-time ones. Randomness is an argument, so that the contract's vectors are tests.

mod agree;
mod seal;
mod sign;

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) use agree::Exchange;
pub(crate) use seal::{Sealed, Sealing, envelope};
pub(crate) use sign::{Signed, app_name, authorization, targets};

/// Rounds of PBKDF2, as the clients make them.
const ROUNDS: NonZeroU32 = NonZeroU32::new(5000).expect("not zero");

/// 32 bytes that sign and encrypt.
#[derive(Clone)]
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

    /// From base64 of exactly 32 bytes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }

    /// As [`Key::parse`] takes it.
    pub(crate) fn print(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Base64 of the HMAC-SHA256 over these parts, one behind the other.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> String {
        STANDARD.encode(self.tag(parts))
    }

    /// Whether this is the signature of the parts; takes as long whatever is wrong with it.
    pub(crate) fn has_signed(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        verify_slices_are_equal(self.tag(parts).as_ref(), signature).is_ok()
    }

    fn tag(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        for part in parts {
            context.update(part);
        }
        context.sign()
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
    /// Nobody's: no password that anybody could find leads to it.
    pub(crate) const NOBODY: Self = Self([0; 32]);

    /// PBKDF2-HMAC-SHA256 of the password, salted with the SHA-256 of the username.
    pub(crate) fn of(username: &str, password: &str) -> Self {
        let salt = digest::digest(&digest::SHA256, username.as_bytes());
        let mut key = [0; 32];
        let secret = password.as_bytes();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            salt.as_ref(),
            secret,
            &mut key,
        );
        Self(key)
    }

    /// From base64.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }

    /// As [`PasswordKey::parse`] takes it.
    pub(crate) fn print(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// What a client shows instead of its password: base64 of an HMAC over the integrator's key.
    pub(crate) fn proof(&self, integrator: &Key) -> String {
        Key(self.0).sign(&[&integrator.0])
    }

    /// Whether a proof is right; takes as long whatever is wrong with it.
    pub(crate) fn is_proved(&self, integrator: &Key, proof: &str) -> bool {
        let proof = STANDARD.decode(proof).unwrap_or_default();
        Key(self.0).has_signed(&[&integrator.0], &proof)
    }

    /// Whether both are of the same password of the same user.
    pub(crate) fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// A few letters that change with the password and tell nothing about it.
    pub(crate) fn mark(&self) -> String {
        hex(&digest::digest(&digest::SHA256, &self.0).as_ref()[..8])
    }
}

impl fmt::Debug for PasswordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What stands for a password in the configuration (`users.<name>.password_key`): base64 of 32
/// bytes, PBKDF2-HMAC-SHA256 of the password over 5,000 rounds with the SHA-256 of the username as
/// its salt. The protocol's clients compute the same (contract section 2.1), so it opens the
/// account to whoever has it: it is kept like a password.
#[must_use]
pub fn hash_password(username: &str, password: &str) -> String {
    PasswordKey::of(username, password).print()
}

/// The SHA-256 of a text, in hex: names what must not be stored itself.
pub(crate) fn fingerprint(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    rand::random()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(half.into(), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests;
