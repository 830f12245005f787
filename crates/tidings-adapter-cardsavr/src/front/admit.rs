//! Who asks: signatures, nonces, sessions.

use std::sync::Arc;

use serde_json::Value;
use tidings_adapter::axum::http::request::Parts;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::header::COOKIE;
use tidings_adapter::http::{HeaderMap, Method, StatusCode};

use super::json;
use super::reply::{Seal, Voice};
use crate::Shared;
use crate::answer::Answer;
use crate::crypto::{Key, Sealed, Sealing, Signed, app_name, targets};
use crate::errors::Refused;
use crate::options::Settings;
use crate::request::header;
use crate::session::login::{self, Door, NOT_LET_IN};
use crate::session::{NO_SESSION, Session};

/// Said of requests in clear.
pub(super) const UNSIGNED: &str = "the request is not signed";

/// Said of a wrong signature, and of a body that the right key does not open: which of both it was
/// is nobody's business.
const NOT_SIGNED: &str = "the signature is not right";

/// Said only after the signature was found right.
const LATE: &str = "the nonce is too far from this server's clock";

/// The cookie of unsigned mode.
pub(super) const COOKIE_NAME: &str = "cardsavr_session";

/// Nonces below this are no milliseconds since 1970: one client counts 0 to 999.
const NONCE_MIN: u64 = 1_000_000_000_000;

/// The headers of a signed request.
#[derive(Debug, Clone, Copy)]
struct Signature<'a> {
    authorization: &'a str,
    app: &'a str,
    nonce: &'a str,
    signature: &'a str,
}

/// The headers of a signature; `None` in a request that is not signed.
fn signature(headers: &HeaderMap) -> Option<Result<Signature<'_>, Refused>> {
    let authorization = headers.get("x-cardsavr-authorization")?;
    let bad = || Refused::unauthorized(NOT_SIGNED);
    let whole = || {
        let authorization = authorization.to_str().ok()?;
        Some(Signature {
            authorization,
            app: app_name(authorization)?,
            nonce: header(headers, "nonce")?,
            signature: header(headers, "signature")?,
        })
    };
    Some(whole().ok_or_else(bad))
}

impl Signature<'_> {
    /// The path and query as they were signed, if they were, with this key.
    ///
    /// A GET has no body. What is signed has no separators: whoever recorded a GET could else move
    /// the last digits of its nonce into a body that nobody reads, and have a nonce that is no time;
    /// or send the reply to it as the next GET, whose nonce is a newer time.
    fn verify(&self, head: &Parts, body: &[u8], key: &Key) -> Option<String> {
        if head.method == Method::GET && !body.is_empty() {
            return None;
        }
        let raw = head.uri.path_and_query().map_or("/", |one| one.as_str());
        let signed = |target: &str| {
            Signed {
                target,
                authorization: self.authorization,
                nonce: self.nonce,
                body,
            }
            .is_signed(key, self.signature)
        };
        let target = targets(raw).find(|target| signed(target))?;
        Some(target.into_owned())
    }

    /// Whether the nonce is a time not far from now.
    fn is_timely(&self, settings: &Settings, now_ms: u64) -> bool {
        let digits = self.nonce.bytes().all(|byte| byte.is_ascii_digit());
        // Ours begin so: a reply, sent back as a request, is none.
        let ours = self.nonce.len() > 1 && self.nonce.starts_with('0');
        let nonce = (digits && !ours)
            .then(|| self.nonce.parse::<u64>().ok())
            .flatten();
        let window = u64::try_from(settings.nonce_window.as_millis()).unwrap_or(u64::MAX);
        nonce.is_some_and(|nonce| {
            window == 0 || nonce < NONCE_MIN || nonce.abs_diff(now_ms) <= window
        })
    }

    /// How the reply to this request is signed and encrypted.
    fn voice(&self, target: String, key: &Key, sealing: Sealing) -> Voice {
        Voice::Sealed(Box::new(Seal {
            key: key.clone(),
            sealing,
            target,
            authorization: self.authorization.to_owned(),
        }))
    }
}

/// How a request is answered, if it was signed with this key and its nonce is timely.
pub(super) fn verified(
    head: &Parts,
    body: &[u8],
    key: &Key,
    settings: &Settings,
    now_ms: u64,
) -> Option<Voice> {
    let signature = signature(&head.headers)?.ok()?;
    let target = signature.verify(head, body, key)?;
    let timely = signature.is_timely(settings, now_ms);
    timely.then(|| signature.voice(target, key, Sealing::default()))
}

/// Somebody with a session, who signed what he asks.
pub(super) struct Admitted {
    pub(super) session: Arc<Session>,
    pub(super) voice: Voice,
}

/// The session of a request, if its signature is right.
pub(super) async fn session(
    shared: &Shared,
    head: &Parts,
    body: &Bytes,
) -> Result<Admitted, Refused> {
    let (hub, settings) = (&shared.hub, &shared.settings);
    let none = || Refused::unauthorized(NO_SESSION);
    let token = header(&head.headers, "session-jwt").filter(|token| *token != "null");
    let Some(signature) = signature(&head.headers) else {
        if !settings.unsigned {
            return Err(Refused::unauthorized(UNSIGNED));
        }
        let token = token.or_else(|| cookie(&head.headers)).ok_or_else(none)?;
        let session = shared.desk.session(hub, settings, token).await?;
        // A signed session's token alone opens nothing.
        if session.key.is_some() {
            return Err(Refused::unauthorized(UNSIGNED));
        }
        let voice = Voice::Clear;
        return Ok(Admitted { session, voice });
    };
    let signature = signature?;
    let token = token.ok_or_else(none)?;
    let session = shared.desk.session(hub, settings, token).await?;
    let wrong = || Refused::unauthorized(NOT_SIGNED);
    let key = session.key.as_ref().ok_or_else(wrong)?;
    let target = signature.verify(head, body, key).ok_or_else(wrong)?;
    if *session.app != *signature.app {
        return Err(wrong());
    }
    if !signature.is_timely(settings, hub.now().unix_ms) {
        return Err(Refused::unauthorized(LATE));
    }
    let voice = signature.voice(target, key, session.sealing);
    Ok(Admitted { session, voice })
}

/// A login, signed and encrypted with the integrator's key, or in clear in unsigned mode.
pub(super) async fn login(
    shared: &Shared,
    head: &Parts,
    body: &Bytes,
) -> (Voice, Result<Answer, Refused>) {
    let Some(signature) = signature(&head.headers) else {
        let answered = match json(body) {
            _ if !shared.settings.unsigned => Err(Refused::unauthorized(UNSIGNED)),
            Ok(body) => login::unsigned(shared, &body).await,
            Err(refused) => Err(refused),
        };
        return (Voice::Clear, answered);
    };
    let not_let_in = || (Voice::Clear, Err(Refused::unauthorized(NOT_LET_IN)));
    let Ok(signature) = signature else {
        return not_let_in();
    };
    // An application that is none takes the same work as a wrong key.
    let nobodys = [Key::padded(b"")];
    let integrator = shared.settings.integrators.get(signature.app);
    let keys = integrator.map_or(&nobodys[..], |one| &one.keys);
    let found = keys
        .iter()
        .find_map(|key| Some((key, signature.verify(head, body, key)?)));
    let Some((key, target)) = found.filter(|_| integrator.is_some()) else {
        return not_let_in();
    };
    if !signature.is_timely(&shared.settings, shared.hub.now().unix_ms) {
        return (Voice::Clear, Err(Refused::unauthorized(LATE)));
    }
    let voice = signature.voice(target, key, Sealing::default());
    let (body, voice) = match voice.open(&head.method, body) {
        Ok(opened) => opened,
        Err((_, refused)) if refused.status == StatusCode::UNAUTHORIZED => {
            return not_let_in();
        }
        Err((voice, refused)) => return (voice, Err(refused)),
    };
    let door = Door {
        app: signature.app,
        key,
        sealing: voice.sealing(),
    };
    let answered = login::signed(shared, &door, &body).await;
    (voice, answered)
}

impl Voice {
    /// The body in clear, and the voice of the reply: in kind.
    pub(super) fn open(
        self,
        method: &Method,
        body: &Bytes,
    ) -> Result<(Value, Self), (Self, Refused)> {
        let opened = match &self {
            // What comes with a GET in clear means nothing.
            _ if method == Method::GET || body.is_empty() => {
                return Ok((Value::Null, self));
            }
            Self::Clear => json(body).map(|clear| (clear, Sealing::default())),
            Self::Sealed(seal) => unseal(body, &seal.key),
        };
        match (opened, self) {
            (Ok((clear, sealing)), Self::Sealed(seal)) => {
                Ok((clear, Self::Sealed(Box::new(Seal { sealing, ..*seal }))))
            }
            (Ok((clear, _)), voice) => Ok((clear, voice)),
            (Err(refused), voice) => Err((voice, refused)),
        }
    }
}

/// What a sealed body says, and how it was sealed.
fn unseal(body: &[u8], key: &Key) -> Result<(Value, Sealing), Refused> {
    let bad = || Refused::bad("encrypted_body", "not of the form ciphertext$iv in base64");
    let sealed = Sealed::of_body(body).ok_or_else(bad)?;
    let sealing = sealed.sealing;
    let clear = sealed.open(key);
    let clear = clear.map_err(|_| Refused::unauthorized(NOT_SIGNED))?;
    Ok((json(&clear)?, sealing))
}

/// The token in the cookie of unsigned mode.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).into_iter();
    let mut pairs = all
        .filter_map(|one| one.to_str().ok())
        .flat_map(|one| one.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
}

/// Logs what clients say of themselves; nothing depends on it, so nothing of it is wrong.
pub(super) fn note(headers: &HeaderMap) {
    let short = |name| {
        let text = header(headers, name).unwrap_or_default();
        // Visible ASCII: any byte is the end of a letter.
        text.get(..200).unwrap_or(text)
    };
    tracing::debug!(
        client = short("client-application"),
        trace = short("trace"),
        "a request"
    );
}

#[cfg(test)]
mod tests;
