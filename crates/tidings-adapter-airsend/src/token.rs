//! Tokens: the bearer of `user.login`, and the `ws_token` of `rtm.connect`.
//!
//! Both are signed with one secret and cannot be taken for each other: a bearer has an audience, a
//! `ws_token` a finger print. A revocation raises the user's generation, which both carry: no clock
//! decides which tokens are void.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_adapter::jwt::{Algorithm, Checks, Keys, SigningKey, verify};

use crate::cursor::Seal;
use crate::objects::{id, on, seconds_of};

/// The audience of a bearer.
const BEARER: &str = "airsend-bearer";

/// Signs and checks.
#[derive(Debug)]
pub(crate) struct Tokens {
    signing: SigningKey,
    keys: Keys,
    ws: Checks,
    bearer: Checks,
    /// What resume cursors are sealed with.
    pub(crate) seal: Seal,
}

/// What a good `ws_token` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) user: u64,
    pub(crate) finger_print: String,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    pub(crate) generation: u64,
}

/// What a good bearer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) user: u64,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    /// Of a bearer of ours.
    pub(crate) generation: Option<u64>,
    /// Seconds since 1970, when it says so.
    pub(crate) issued: Option<u64>,
}

/// Length of a finger print.
const FINGER_PRINT: usize = 12;

/// A fresh finger print from as many random bytes.
pub(crate) fn finger_print(random: [u8; FINGER_PRINT]) -> String {
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
    random.into_iter().map(letter).collect()
}

impl Tokens {
    /// Of a secret of 32 bytes or more.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        let lenient = Checks {
            // `expiry` stands in its place.
            require_exp: false,
            leeway: Duration::ZERO,
            ..Checks::new([Algorithm::Hs256])
        };
        Some(Self {
            signing: SigningKey::secret(secret).ok()?,
            keys: Keys::secret(secret).ok()?,
            ws: lenient,
            bearer: Checks {
                audience: vec![BEARER.to_owned()],
                ..Checks::new([Algorithm::Hs256])
            },
            seal: Seal::new(secret),
        })
    }

    pub(crate) fn sign_bearer(
        &self,
        user: u64,
        generation: u64,
        now: u64,
        lifetime: Duration,
        jti: &str,
    ) -> Option<String> {
        let claims = json!({
            "iss": "AirSend Server",
            "aud": BEARER,
            "sub": user.to_string(),
            "jti": jti,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime.as_secs(),
            "gen": generation,
        });
        self.signing.sign(&claims, None).ok()
    }

    pub(crate) fn bearer(&self, token: &str, now_ms: u64) -> Option<Bearer> {
        let claims = verify(token, &self.keys, &self.bearer, now_ms).ok()?;
        Some(Bearer {
            user: id(&Value::String(claims.subject.clone()?))?,
            expires: claims.expires_unix_ms? / 1000,
            generation: Some(claims.all.get("gen")?.as_u64()?),
            issued: claims.issued_unix_ms.map(|ms| ms / 1000),
        })
    }

    pub(crate) fn sign_ws(
        &self,
        grant: &Grant,
        name: &str,
        ip: &str,
        agent: &str,
        now: u64,
    ) -> Option<String> {
        let claims = json!({
            "user_id": grant.user,
            "client_ip": ip,
            "user_agent": agent,
            "expiry": on(grant.expires),
            "finger_print": grant.finger_print,
            "user_name": name,
            "created_on": now,
            "gen": grant.generation,
        });
        self.signing.sign(&claims, None).ok()
    }

    /// What a `ws_token` grants, if it is good now.
    pub(crate) fn ws(&self, token: &str, now_ms: u64) -> Result<Grant, WsRefusal> {
        let claims = verify(token, &self.keys, &self.ws, now_ms).map_err(|_| WsRefusal::Bad)?;
        let grant = || {
            let finger_print = claims.text("finger_print")?;
            let fits = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
            if finger_print.len() != FINGER_PRINT || !finger_print.bytes().all(fits) {
                return None;
            }
            Some(Grant {
                user: claims
                    .all
                    .get("user_id")
                    .filter(|id| id.is_u64())
                    .and_then(id)?,
                finger_print: finger_print.to_owned(),
                expires: seconds_of(claims.text("expiry")?)?,
                generation: claims.all.get("gen").and_then(Value::as_u64).unwrap_or(0),
            })
        };
        let grant = grant().ok_or(WsRefusal::Bad)?;
        if now_ms >= grant.expires.saturating_mul(1000) {
            return Err(WsRefusal::Expired);
        }
        Ok(grant)
    }
}

/// Why a `ws_token` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WsRefusal {
    Bad,
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of the tests: 32 bytes and more";
    const NOW: u64 = 1_767_225_600;

    fn grant() -> Grant {
        Grant {
            user: 91_010_000,
            finger_print: finger_print([7; 12]),
            expires: NOW + 60,
            generation: 3,
        }
    }

    #[test]
    fn good_tokens() {
        let tokens = Tokens::new(SECRET).expect("long enough");
        let text = tokens
            .sign_ws(&grant(), "A", "::1", "curl", NOW)
            .expect("signed");
        assert_eq!(tokens.ws(&text, NOW * 1000), Ok(grant()));
        assert_eq!(tokens.ws(&text, (NOW + 60) * 1000), Err(WsRefusal::Expired));
        let bearer = tokens
            .sign_bearer(5, 2, NOW, Duration::from_secs(60), "j")
            .expect("signed");
        let read = tokens.bearer(&bearer, NOW * 1000).expect("good");
        assert_eq!((read.user, read.generation), (5, Some(2)));
        assert_eq!(tokens.bearer(&bearer, (NOW + 90) * 1000), None);
        // Neither is the other.
        assert_eq!(tokens.bearer(&text, NOW * 1000), None);
        assert_eq!(tokens.ws(&bearer, NOW * 1000), Err(WsRefusal::Bad));
    }

    #[test]
    fn bad_tokens() {
        let tokens = Tokens::new(SECRET).expect("long enough");
        let other = Tokens::new(b"another secret: 32 bytes and more too").expect("long enough");
        let good = tokens
            .sign_ws(&grant(), "A", "::1", "curl", NOW)
            .expect("signed");
        let forged = other
            .sign_ws(&grant(), "A", "::1", "curl", NOW)
            .expect("signed");
        let (head, signature) = good.rsplit_once('.').expect("three parts");
        let payload = good.split('.').nth(1).unwrap_or_default();
        let unsigned = format!("eyJhbGciOiJub25lIn0.{payload}.");
        let signed = |claims: Value| tokens.signing.sign(&claims, None).expect("signed");
        for bad in [
            String::new(),
            "junk".to_owned(),
            "a.b.c".to_owned(),
            forged,
            unsigned,
            format!("{head}x.{signature}"),
            format!("{good}x"),
            signed(json!({})),
            signed(json!({"user_id": 1, "finger_print": "short", "expiry": on(NOW + 60)})),
            signed(json!({"user_id": 1, "finger_print": "abcdefghijkl"})),
            signed(json!({"user_id": -1, "finger_print": "abcdefghijkl", "expiry": on(NOW + 60)})),
        ] {
            assert_eq!(tokens.ws(&bad, NOW * 1000), Err(WsRefusal::Bad), "{bad}");
        }
    }
}
