//! Where an issuer's keys are: given, in a file, or at an address.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use http::Uri;

use super::keys::{KeyError, Keys};
use crate::outside;

/// Where an issuer's keys are.
#[derive(Clone)]
pub struct KeySource(pub(super) Place);

#[derive(Clone)]
pub(super) enum Place {
    Here(Kind, Vec<u8>),
    File(Kind, PathBuf),
    Address(Uri),
}

/// What the bytes are.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Secret,
    PublicPem,
    Jwks,
}

impl KeySource {
    /// A secret that both sides know, for HS256.
    #[must_use]
    pub fn secret(secret: &[u8]) -> Self {
        Self(Place::Here(Kind::Secret, secret.to_vec()))
    }

    /// One public key in PEM, for RS256 or ES256.
    #[must_use]
    pub fn public_pem(pem: &[u8]) -> Self {
        Self(Place::Here(Kind::PublicPem, pem.to_vec()))
    }

    /// A file with one public key in PEM; a change of the file is noticed.
    #[must_use]
    pub fn public_pem_file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(Kind::PublicPem, path.into()))
    }

    /// A JWK Set.
    #[must_use]
    pub fn jwks(set: &[u8]) -> Self {
        Self(Place::Here(Kind::Jwks, set.to_vec()))
    }

    /// A file with a JWK Set; a change of the file is noticed.
    #[must_use]
    pub fn jwks_file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(Kind::Jwks, path.into()))
    }

    /// An http or https address that answers with a JWK Set. Secrets in it are passed over.
    #[must_use]
    pub fn jwks_url(url: Uri) -> Self {
        Self(Place::Address(url))
    }

    /// Whether the keys can be used, as far as that shows without asking anybody.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn check(&self) -> Result<(), KeyError> {
        self.read().map(drop)
    }

    /// A file's time and size: what tells that it changed.
    pub(super) fn stamp(&self) -> Option<(SystemTime, u64)> {
        let Place::File(_, path) = &self.0 else {
            return None;
        };
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// The keys that are here or in a file; `None` for those that are to be fetched.
    pub(super) fn read(&self) -> Result<Option<Keys>, KeyError> {
        match &self.0 {
            Place::Here(kind, bytes) => read(*kind, bytes).map(Some),
            Place::File(kind, path) => read_file(*kind, path).map(Some),
            Place::Address(url) => match outside::check(url) {
                Ok(()) => Ok(None),
                Err(why) => Err(KeyError::Address(why.to_string())),
            },
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Here(..) => f.write_str("given"),
            Place::File(_, path) => write!(f, "{}", path.display()),
            Place::Address(url) => write!(f, "{}", url.host().unwrap_or_default()),
        }
    }
}

/// Bytes of a file with keys.
const FILE_BYTES_MAX: u64 = 256 * 1024;

fn read(kind: Kind, bytes: &[u8]) -> Result<Keys, KeyError> {
    match kind {
        Kind::Secret => Keys::secret(bytes),
        Kind::PublicPem => Keys::public_pem(bytes),
        Kind::Jwks => Keys::jwks(bytes, true),
    }
}

/// A few KiB from a local disk: not worth a thread.
fn read_file(kind: Kind, path: &Path) -> Result<Keys, KeyError> {
    use std::io::Read as _;
    let wrong = |why: String| KeyError::File {
        file: path.display().to_string(),
        why,
    };
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(error.to_string()))?;
    read(kind, &bytes).map_err(|why| wrong(why.to_string()))
}
