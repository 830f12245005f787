//! Certificates: read from their files, read again when these change, or made at start.
//!
//! A resolver per listener hands out whatever is good at the moment, so that a new certificate costs
//! no connection: those that stand keep the old one, the next handshake shows the new one. Files are
//! compared by what is in them, not by their time: orchestrators swap a directory's link and keep the
//! times.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::{self, Ticketer};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, ServerConfig};

/// The protocol's name for HTTP/2 in ALPN (RFC 9113 §3.1).
pub const H2: &[u8] = b"h2";

/// Whom the development certificate is for.
const DEVELOPMENT_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long the development certificate is good: browsers take none of much more than a year, and a
/// new one is made at each start.
const DEVELOPMENT_DAYS: i64 = 365;

/// What a listener shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    /// Nothing: plain HTTP.
    #[default]
    Off,
    /// The certificate in these PEM files.
    Files {
        /// The certificate and those that signed it.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// A certificate made at start, for development.
    SelfSigned,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file.
    #[error("{0}")]
    Cert(String),
    /// The key's file.
    #[error("{0}")]
    Key(String),
    /// TLS itself.
    #[error(transparent)]
    Tls(#[from] Error),
    /// The development certificate.
    #[error("no development certificate: {0}")]
    Development(#[from] rcgen::Error),
}

/// Every certificate of an instance. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Arc<Mutex<Vec<Arc<Shown>>>>);

impl Certificates {
    /// What makes TLS connections as `tls` says; `None` when there are none to make.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn acceptor(&self, tls: &Tls) -> Result<Option<TlsAcceptor>, TlsError> {
        let shown = match tls {
            Tls::Off => return Ok(None),
            Tls::Files { cert, key } => {
                let read = Read::from(cert, key)?;
                Arc::new(Shown::new(Some((cert.clone(), key.clone())), read))
            }
            Tls::SelfSigned => {
                tracing::warn!("a development certificate is shown, which nobody vouches for");
                Arc::new(Shown::new(None, development()?))
            }
        };
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        // Whoever comes back resumes without a signature of ours, and nothing is kept here for it.
        config.ticketer = Ticketer::new()?;
        if shown.files.is_some() {
            self.lock().push(shown);
        }
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// Whether there are files that may change.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Reads the files again and shows what has changed. What is broken is said once, and the old
    /// certificate stays.
    pub fn reload(&self) {
        let all: Vec<_> = self.lock().clone();
        for shown in all {
            shown.reload();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Shown>>> {
        // Held to push or clone only; a list is whole after a panic, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the files hold a certificate and its key.
///
/// # Errors
/// [`TlsError::Cert`] and [`TlsError::Key`].
pub fn check(cert: &Path, key: &Path) -> Result<(), TlsError> {
    Read::from(cert, key).map(drop)
}

/// The certificate that one listener shows.
struct Shown {
    files: Option<(PathBuf, PathBuf)>,
    key: ArcSwap<CertifiedKey>,
    /// Of what was last looked at, good or bad; so that the same is not said twice.
    seen: Mutex<[u8; 32]>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

impl Shown {
    fn new(files: Option<(PathBuf, PathBuf)>, read: Read) -> Self {
        Self {
            files,
            key: ArcSwap::from_pointee(read.key),
            seen: Mutex::new(read.digest),
        }
    }

    fn reload(&self) {
        let Some((cert, key)) = &self.files else {
            return;
        };
        let looked = Bytes::read(cert, key);
        let digest = match &looked {
            Ok(bytes) => bytes.digest(),
            Err(error) => Sha256::digest(error.to_string()).into(),
        };
        let seen = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, digest)
        };
        if seen == digest {
            return;
        }
        match looked.and_then(Bytes::certified) {
            Ok(read) => {
                self.key.store(Arc::new(read.key));
                tracing::info!(cert = %cert.display(), "the certificate has changed and is shown from now on");
            }
            Err(error) => {
                tracing::error!(
                    cert = %cert.display(), key = %key.display(), %error,
                    "the certificate has changed and is no good: the old one stays"
                );
            }
        }
    }
}

/// A certificate with its key, and the digest of their files.
struct Read {
    key: CertifiedKey,
    digest: [u8; 32],
}

impl Read {
    fn from(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Bytes::read(cert, key)?.certified()
    }
}

/// What is in the two files.
struct Bytes {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Bytes {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let unreadable = |error: io::Error| format!("a file that can be read ({error})");
        Ok(Self {
            cert: std::fs::read(cert).map_err(|error| TlsError::Cert(unreadable(error)))?,
            key: std::fs::read(key).map_err(|error| TlsError::Key(unreadable(error)))?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        // The length keeps the two apart.
        let length = (self.cert.len() as u64).to_be_bytes();
        let hash = Sha256::new().chain_update(length).chain_update(&self.cert);
        hash.chain_update(&self.key).finalize().into()
    }

    fn certified(self) -> Result<Read, TlsError> {
        let digest = self.digest();
        let no_cert = |why: &dyn fmt::Display| {
            TlsError::Cert(format!("a PEM file with the certificate first ({why})"))
        };
        let chain = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| no_cert(&error))?;
        if chain.is_empty() {
            return Err(no_cert(&"there is none in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| TlsError::Key(format!("a PEM file with a private key ({error})")))?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| TlsError::Key(format!("the key of the certificate ({error})")))?;
        Ok(Read { key, digest })
    }
}

fn development() -> Result<Read, TlsError> {
    let mut params = rcgen::CertificateParams::new(DEVELOPMENT_NAMES.map(String::from))?;
    let now = time::OffsetDateTime::now_utc();
    // A clock that is behind must not find it unborn.
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(DEVELOPMENT_DAYS);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Tidings development");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let pair = rcgen::KeyPair::generate()?;
    let cert = params.self_signed(&pair)?;
    let key = PrivatePkcs8KeyDer::from(pair.serialize_der());
    let key = CertifiedKey::from_der(
        vec![cert.der().clone()],
        key.into(),
        &aws_lc_rs::default_provider(),
    )?;
    Ok(Read {
        key,
        digest: [0; 32],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        _dir: tempfile::TempDir,
        cert: PathBuf,
        key: PathBuf,
    }

    fn files() -> Files {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let files = Files {
            _dir: dir,
            cert,
            key,
        };
        files.write();
        files
    }

    impl Files {
        fn write(&self) {
            let pair =
                rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
            std::fs::write(&self.cert, pair.cert.pem()).expect("written");
            std::fs::write(&self.key, pair.signing_key.serialize_pem()).expect("written");
        }

        fn shown(&self) -> Shown {
            let read = Read::from(&self.cert, &self.key).expect("good files");
            Shown::new(Some((self.cert.clone(), self.key.clone())), read)
        }
    }

    #[test]
    fn a_changed_certificate_is_shown_and_a_broken_one_is_not() {
        let files = files();
        let shown = files.shown();
        let first = shown.key.load_full();
        shown.reload();
        assert!(
            Arc::ptr_eq(&first, &shown.key.load_full()),
            "nothing has changed"
        );

        let (cert, key) = (
            std::fs::read(&files.cert).expect("there"),
            std::fs::read(&files.key).expect("there"),
        );
        files.write();
        let new_key = std::fs::read(&files.key).expect("there");
        // Half of the change: a new certificate beside the old key.
        std::fs::write(&files.key, &key).expect("written");
        shown.reload();
        assert!(
            Arc::ptr_eq(&first, &shown.key.load_full()),
            "they do not belong together"
        );
        std::fs::write(&files.key, "garbage").expect("written");
        shown.reload();
        std::fs::remove_file(&files.key).expect("removed");
        shown.reload();
        assert!(
            Arc::ptr_eq(&first, &shown.key.load_full()),
            "the old one stays"
        );

        std::fs::write(&files.key, new_key).expect("written");
        shown.reload();
        let second = shown.key.load_full();
        assert_ne!(first.cert, second.cert);
        std::fs::write(&files.cert, cert).expect("written");
        std::fs::write(&files.key, key).expect("written");
        shown.reload();
        assert_eq!(first.cert, shown.key.load_full().cert, "and back");
    }

    #[test]
    fn what_is_wrong_with_files_names_the_file() {
        let files = files();
        let wrong = |cert: &Path, key: &Path| check(cert, key).expect_err("wrong");
        let none = Path::new("/nonexistent");
        assert!(
            matches!(wrong(none, &files.key), TlsError::Cert(why) if why.contains("can be read"))
        );
        assert!(
            matches!(wrong(&files.cert, none), TlsError::Key(why) if why.contains("can be read"))
        );
        assert!(
            matches!(wrong(&files.key, &files.key), TlsError::Cert(why) if why.contains("none in it"))
        );
        assert!(
            matches!(wrong(&files.cert, &files.cert), TlsError::Key(why) if why.contains("private key"))
        );
        let other = self::files();
        assert!(
            matches!(wrong(&files.cert, &other.key), TlsError::Key(why) if why.contains("of the certificate"))
        );
        check(&files.cert, &files.key).expect("they are good");
    }

    #[test]
    fn a_development_certificate_is_made() {
        let certificates = Certificates::default();
        assert!(
            certificates
                .acceptor(&Tls::SelfSigned)
                .expect("made")
                .is_some()
        );
        assert!(!certificates.any(), "there is nothing to read again");
        assert!(
            certificates
                .acceptor(&Tls::Off)
                .expect("nothing to do")
                .is_none()
        );
    }
}
