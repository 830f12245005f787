//! The pure core: a token, keys and a time in, claims or a refusal out.
//!
//! `jsonwebtoken` checks signatures and nothing else here: its own checks read the clock, take a
//! claim of the wrong type for one that is missing, and know no future `iat`.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Key, Keys};
use super::{Algorithm, Checks, TokenError};

/// A token taken apart, of which nothing is known to be true yet.
pub struct Unverified<'a> {
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    message: &'a str,
    signature: &'a str,
    header: Map<String, Value>,
    payload: Map<String, Value>,
}

/// What a token says, once it was found good.
#[derive(Clone, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`; one text counts as a list of one.
    pub audience: Vec<String>,
    /// `jti`.
    pub id: Option<String>,
    /// `exp`, in milliseconds. Without the leeway.
    pub expires_unix_ms: Option<u64>,
    /// `iat`, in milliseconds.
    pub issued_unix_ms: Option<u64>,
    /// Every claim as it came, those above among them.
    pub all: Map<String, Value>,
}

impl Claims {
    /// A claim that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name)?.as_str()
    }
}

impl fmt::Debug for Claims {
    /// Names only: claims say who people are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claims")
            .field(&self.all.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Whether a token is good, with these keys and at this time.
///
/// # Errors
/// [`TokenError`], but never `KeysUnavailable`.
pub fn verify(
    token: &str,
    keys: &Keys,
    checks: &Checks,
    now_unix_ms: u64,
) -> Result<Claims, TokenError> {
    let token = Unverified::parse(token, checks.max_token_bytes)?;
    token.accepted(checks)?;
    token.check(keys, checks, now_unix_ms)
}

/// The members of a header that are looked at. Of two with one name, serde refuses the second.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenError::Malformed`].
    pub fn parse(token: &'a str, max_token_bytes: usize) -> Result<Self, TokenError> {
        if token.len() > max_token_bytes {
            return Err(TokenError::Malformed);
        }
        let malformed = TokenError::Malformed;
        let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = message.split_once('.').ok_or(malformed)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let header_json = decoded(header)?;
        let Header { alg, kid, crit } =
            serde_json::from_slice(&header_json).map_err(|_| malformed)?;
        // RFC 7515 §4.1.11: an extension that must be understood and is not, which is every one.
        if crit.is_some() {
            return Err(malformed);
        }
        let object = |json: &[u8]| serde_json::from_slice(json).map_err(|_| malformed);
        Ok(Self {
            algorithm: Algorithm::of_name(&alg),
            kid,
            message,
            signature,
            header: object(&header_json)?,
            payload: object(&decoded(payload)?)?,
        })
    }

    /// The header, of which nothing is known to be true.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// The claims, of which nothing is known to be true.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.payload
    }

    /// Whether the algorithm is one of those that the issuer signs with.
    pub(super) fn accepted(&self, checks: &Checks) -> Result<Algorithm, TokenError> {
        self.algorithm
            .filter(|algorithm| checks.algorithms.contains(algorithm))
            .ok_or(TokenError::Algorithm)
    }

    /// Whether keys that are not here yet could change this refusal.
    pub(super) fn may_be_of_a_newer_key(&self, error: TokenError, keys: &Keys) -> bool {
        let known = |kid: &String| keys.of_name(kid).next().is_some();
        match error {
            TokenError::UnknownKey => true,
            // Where no key was meant by name, the next one may have been.
            TokenError::Signature => !self.kid.as_ref().is_some_and(known),
            _ => false,
        }
    }

    /// The signature first, then what the token says.
    pub(super) fn check(
        &self,
        keys: &Keys,
        checks: &Checks,
        now_unix_ms: u64,
    ) -> Result<Claims, TokenError> {
        let algorithm = self.accepted(checks)?;
        self.check_signature(algorithm, keys)?;
        let claims = self.read()?;
        self.check_time(&claims, checks, now_unix_ms)?;
        if checks.issuer.is_some() && claims.issuer != checks.issuer {
            return Err(TokenError::Claim("iss"));
        }
        let meant = |audience: &String| claims.audience.contains(audience);
        if !checks.audience.is_empty() && !checks.audience.iter().any(meant) {
            return Err(TokenError::Claim("aud"));
        }
        Ok(claims)
    }

    fn check_signature(&self, algorithm: Algorithm, keys: &Keys) -> Result<(), TokenError> {
        let fits = |key: &&Key| key.algorithm == algorithm;
        let good = |key: &Key| key.verifies(self.message, self.signature);
        // A key fits by what it is, not by what the token calls it: an RSA public key is never
        // taken for an HMAC secret.
        if let Some(kid) = &self.kid {
            let (mut named, mut fitting) = (false, false);
            for key in keys.of_name(kid) {
                named = true;
                fitting |= fits(&key);
                if fits(&key) && good(key) {
                    return Ok(());
                }
            }
            match (named, fitting) {
                (true, true) => return Err(TokenError::Signature),
                (true, false) => return Err(TokenError::Algorithm),
                _ => {}
            }
        }
        let meant = |key: &&Key| keys.try_all || self.kid.is_none() || key.kid.is_none();
        let mut others = keys.all().filter(fits).filter(meant);
        let (first, more) = (others.next(), others.next());
        // A token that names no key could mean any of several; which, is not for it to leave open.
        if first.is_none() || (more.is_some() && !keys.try_all) {
            return Err(TokenError::UnknownKey);
        }
        if first.into_iter().chain(more).chain(others).any(good) {
            return Ok(());
        }
        match (&self.kid, keys.try_all) {
            (Some(_), true) => Err(TokenError::UnknownKey),
            _ => Err(TokenError::Signature),
        }
    }

    fn read(&self) -> Result<Claims, TokenError> {
        let text = |name: &'static str| match self.payload.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenError::Claim(name)),
        };
        let audience = match self.payload.get("aud") {
            None => Some(Vec::new()),
            Some(Value::String(one)) => Some(vec![one.clone()]),
            Some(Value::Array(several)) => several
                .iter()
                .map(|one| one.as_str().map(str::to_owned))
                .collect(),
            Some(_) => None,
        };
        Ok(Claims {
            issuer: text("iss")?,
            subject: text("sub")?,
            audience: audience.ok_or(TokenError::Claim("aud"))?,
            id: text("jti")?,
            expires_unix_ms: self.time("exp")?,
            issued_unix_ms: self.time("iat")?,
            all: self.payload.clone(),
        })
    }

    /// A NumericDate (RFC 7519 §2): seconds, possibly with a fraction.
    fn time(&self, name: &'static str) -> Result<Option<u64>, TokenError> {
        let Some(value) = self.payload.get(name) else {
            return Ok(None);
        };
        let ms = match (value.as_u64(), value.as_f64()) {
            (Some(seconds), _) => seconds.checked_mul(1000),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range stands in the guard"
            )]
            (None, Some(seconds)) if (0.0..YEAR_9999_S).contains(&seconds) => {
                Some((seconds * 1000.0) as u64)
            }
            _ => None,
        };
        ms.map(Some).ok_or(TokenError::Claim(name))
    }

    fn check_time(
        &self,
        claims: &Claims,
        checks: &Checks,
        now_unix_ms: u64,
    ) -> Result<(), TokenError> {
        let leeway = ms(checks.leeway);
        match claims.expires_unix_ms {
            None if checks.require_exp => return Err(TokenError::Claim("exp")),
            // On or after it (RFC 7519 §4.1.4).
            Some(end) if now_unix_ms >= end.saturating_add(leeway) => {
                return Err(TokenError::Expired);
            }
            _ => {}
        }
        let starts = [self.time("nbf")?, claims.issued_unix_ms];
        let latest = now_unix_ms.saturating_add(leeway);
        if starts.into_iter().flatten().any(|start| start > latest) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

/// Seconds at the end of what four-digit years can say.
const YEAR_9999_S: f64 = 253_402_300_800.0;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
