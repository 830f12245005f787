//! `tidings token`: makes development tokens and keys, and looks into tokens.
//!
//! A hub makes no tokens for others in production: that is an issuer's work. These are for trying
//! things out, and for tests of those who write clients.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tidings_adapter::jwt::{Algorithm, SignError, SigningKey, Unverified};
use tidings_core::{Clock as _, Now, TopicPattern};
use tidings_log_memory::SystemClock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{InspectArgs, KeygenArgs, MintArgs};
use crate::app::AppError;
use crate::auth::issuers::{Issuers, Refusal};
use crate::config::{Config, Sources, Span, load};

/// Why a token command fails, and what it means for the exit code.
#[derive(Debug, thiserror::Error)]
pub enum TokenFailure {
    /// The command line does not fit together, or a file cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The token is not good.
    #[error("not accepted: {0}")]
    Refused(Refusal),
    /// The issuer's keys could not be fetched.
    #[error("not known: {0}")]
    Unavailable(Refusal),
}

impl TokenFailure {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unavailable(_) => 3,
        }
    }
}

fn usage(why: impl Into<String>) -> TokenFailure {
    TokenFailure::Usage(why.into())
}

/// Prints a token.
///
/// # Errors
/// [`TokenFailure::Usage`].
pub fn mint(args: &MintArgs) -> Result<(), AppError> {
    let now_s = SystemClock.unix_ms() / 1000;
    let token = minted(args, now_s)?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

fn minted(args: &MintArgs, now_s: u64) -> Result<String, TokenFailure> {
    let mut claims = Map::new();
    let key = match (&args.secret_file, &args.private_key) {
        (Some(path), _) => {
            let secret = text(path)?;
            let secret = secret.trim_end_matches(['\r', '\n']);
            key_of(path, SigningKey::secret(secret.as_bytes()))?
        }
        (None, Some(path)) => key_of(path, SigningKey::private_pem(text(path)?.as_bytes()))?,
        (None, None) => development(&mut claims)?,
    };
    let ttl = Span::parse(&args.ttl)
        .ok_or_else(|| usage("--ttl is not a duration such as \"30s\", \"10m\" or \"1h\""))?;
    claims.insert("iat".to_owned(), now_s.into());
    claims.insert("exp".to_owned(), (now_s + ttl.0.as_secs()).into());
    for (name, value) in [("sub", &args.sub), ("iss", &args.iss)] {
        if let Some(value) = value {
            claims.insert(name.to_owned(), value.as_str().into());
        }
    }
    if !args.aud.is_empty() {
        claims.insert("aud".to_owned(), args.aud.clone().into());
    }
    if !args.publish.is_empty() || !args.read.is_empty() {
        for pattern in args.publish.iter().chain(&args.read) {
            TopicPattern::parse(pattern)
                .map_err(|why| usage(format!("{pattern:?} is no pattern of topics: {why}")))?;
        }
        let rights = json!({"publish": args.publish, "read": args.read});
        claims.insert(args.rights_claim.clone(), rights);
    }
    for claim in &args.claim {
        let (name, value) = claim
            .split_once('=')
            .ok_or_else(|| usage(format!("--claim {claim}: write it as NAME=VALUE")))?;
        // A number, a list, an object; anything else is a text.
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        claims.insert(name.to_owned(), value);
    }
    let kid = args.kid.clone().or_else(|| key.kid());
    key.sign(&Value::Object(claims), kid.as_deref())
        .map_err(|why| usage(why.to_string()))
}

/// The key and the issuer of development mode.
fn development(claims: &mut Map<String, Value>) -> Result<SigningKey, TokenFailure> {
    let sources = Sources {
        dev: true,
        ..Sources::default()
    };
    let config = load(&sources).map_err(|why| usage(why.to_string()))?.config;
    let issuer = config.issuers.first();
    let secret = issuer.and_then(|issuer| issuer.secret.as_ref());
    let secret = secret.ok_or_else(|| usage("development mode has no issuer"))?;
    if let Some(name) = issuer.and_then(|issuer| issuer.issuer.as_deref()) {
        claims.insert("iss".to_owned(), name.into());
    }
    SigningKey::secret(secret.expose().as_bytes()).map_err(|why| usage(why.to_string()))
}

fn key_of(path: &Path, key: Result<SigningKey, SignError>) -> Result<SigningKey, TokenFailure> {
    key.map_err(|why| usage(format!("{}: {why}", path.display())))
}

fn text(path: &Path) -> Result<String, TokenFailure> {
    std::fs::read_to_string(path).map_err(|why| usage(format!("{}: {why}", path.display())))
}

/// Bytes of a token that is looked into: larger ones than any server takes, so that it shows why.
const INSPECTED_MAX: usize = 64 * 1024;

/// Prints what a token says, and whether the configured issuers' keys and rules accept it.
///
/// # Errors
/// [`TokenFailure`] unless an issuer accepts it.
pub async fn inspect(args: &InspectArgs, config: &Config) -> Result<(), AppError> {
    let token = match args.token.as_deref() {
        Some(token) if token != "-" => token.to_owned(),
        _ => {
            let mut text = String::new();
            let limit = INSPECTED_MAX as u64 + 2;
            std::io::stdin().take(limit).read_to_string(&mut text)?;
            text
        }
    };
    let token = token.trim();
    let unix_ms = SystemClock.unix_ms();
    let mut out = std::io::stdout();
    let unverified =
        Unverified::parse(token, INSPECTED_MAX).map_err(|why| TokenFailure::Refused(why.into()))?;
    let shown = json!({"header": unverified.header(), "claims": unverified.claims()});
    writeln!(out, "{shown:#}")?;
    for (name, what) in [("nbf", "valid from"), ("exp", "expires")] {
        if let Some(seconds) = unverified.claims().get(name).and_then(Value::as_i64) {
            writeln!(out, "{what} {}", moment(seconds, unix_ms))?;
        }
    }
    if config.issuers.is_empty() {
        writeln!(out, "no issuer is configured: nothing was verified")?;
        return Err(TokenFailure::Refused(Refusal::Issuer).into());
    }
    let issuers = Issuers::new(&config.issuers).map_err(|why| usage(why.to_string()))?;
    let now = Now {
        uptime: Duration::ZERO,
        unix_ms,
    };
    match issuers.identify(token, now).await {
        Ok(rights) => {
            writeln!(out, "accepted: {rights}")?;
            Ok(())
        }
        Err(refusal) if refusal.is_for_now() => Err(TokenFailure::Unavailable(refusal).into()),
        Err(refusal) => Err(TokenFailure::Refused(refusal).into()),
    }
}

/// A time and how far it is from now.
fn moment(seconds: i64, now_unix_ms: u64) -> String {
    let now_s = i64::try_from(now_unix_ms / 1000).unwrap_or(i64::MAX);
    let far = seconds.saturating_sub(now_s);
    let distance = match far.unsigned_abs() {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7_199 => format!("{} min", s / 60),
        s @ 7_200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    };
    let distance = match far {
        0.. => format!("in {distance}"),
        _ => format!("{distance} ago"),
    };
    let time = OffsetDateTime::from_unix_timestamp(seconds);
    match time.ok().and_then(|time| time.format(&Rfc3339).ok()) {
        Some(time) => format!("{time}, {distance}"),
        None => distance,
    }
}

/// Writes a new private key, and adds its public half to a key set.
///
/// # Errors
/// [`TokenFailure::Usage`]; no file that is there is written over, but a key set is added to.
pub fn keygen(args: &KeygenArgs) -> Result<(), AppError> {
    let algorithm = Algorithm::of_name(&args.algorithm)
        .filter(|algorithm| *algorithm != Algorithm::Hs256)
        .ok_or_else(|| usage("--algorithm is RS256 or ES256; for HS256: openssl rand -hex 32"))?;
    let (key, pem) = SigningKey::generate(algorithm).map_err(|why| usage(why.to_string()))?;
    let jwk = key.public_jwk().map_err(|why| usage(why.to_string()))?;
    let set = match &args.jwks {
        Some(path) if path.exists() => {
            let wrong = || usage(format!("{}: no JSON Web Key Set", path.display()));
            let mut set: Value = serde_json::from_str(&text(path)?).map_err(|_| wrong())?;
            let keys = set.get_mut("keys").and_then(Value::as_array_mut);
            keys.ok_or_else(wrong)?.push(jwk);
            set
        }
        _ => json!({ "keys": [jwk] }),
    };
    let set = format!("{set:#}\n");
    // The private key first: a public one without it helps nobody.
    let failed = |path: &Path, why: std::io::Error| usage(format!("{}: {why}", path.display()));
    write_secret(&args.out, &pem).map_err(|why| failed(&args.out, why))?;
    match &args.jwks {
        Some(path) => replace(path, &set).map_err(|why| failed(path, why))?,
        None => write!(std::io::stdout(), "{set}")?,
    }
    Ok(())
}

/// Readable for its owner alone from the first moment on.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whole or not at all: a hub may be reading it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    std::fs::write(&next, text)?;
    std::fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_from_now() {
        let table = [
            (1_000, "1970-01-01T00:16:40Z, in 0 s"),
            (1_090, "1970-01-01T00:18:10Z, in 90 s"),
            (400, "1970-01-01T00:06:40Z, 10 min ago"),
            (i64::MAX, "in 106751991167300 days"),
            (i64::MIN, "106751991167300 days ago"),
        ];
        for (seconds, expected) in table {
            assert_eq!(moment(seconds, 1_000_000), expected);
        }
    }
}
