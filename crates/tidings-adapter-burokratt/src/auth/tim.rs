//! The way to TIM: what it says of a cookie, and what it makes for a new chat.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidings_adapter::http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use tidings_adapter::http::{HeaderMap, HeaderValue};
use tidings_adapter::outside::{Answer, Call, Outside, OutsideOptions};
use tokio::time::Instant;

use super::pass::{Claims, Pass, Terms, Wants};
use crate::answer::Refusal;
use crate::options::Settings;

/// Answers that are believed at a time. One is about 200 bytes; beyond them all are forgotten, which
/// costs a question more for each.
const KNOWN_MAX: usize = 20_000;

/// Bytes of an answer: claims are a few hundred.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a request's cookies: what servers take of a header.
const COOKIES_BYTES_MAX: usize = 16 * 1024;

/// A yes of TIM, and until when it is believed. The key is a hash of the cookie, which is a secret.
type Known = HashMap<[u8; 32], (Arc<Claims>, Instant)>;

/// The way to TIM; nobody is asked with `auth = "off"`.
#[derive(Debug)]
pub(crate) struct Tim {
    url: Option<String>,
    terms: Arc<Terms>,
    chat_cookie: String,
    chat_cookie_lifetime: Duration,
    believed: Duration,
    outside: Outside,
    known: Mutex<Known>,
}

impl Tim {
    pub(crate) fn new(settings: &Settings) -> Self {
        let options = &settings.options;
        let url = settings.tim.clone();
        Self {
            terms: Arc::new(Terms {
                userinfo: url.as_deref().map(userinfo).unwrap_or_default().into(),
                roles: options.roles.clone(),
                patience: options.tim_timeout.0,
            }),
            url,
            chat_cookie: options.chat_cookie.clone(),
            chat_cookie_lifetime: options.chat_cookie_lifetime.0,
            believed: options.tim_cache.0,
            outside: Outside::new(OutsideOptions {
                timeout: options.tim_timeout.0,
                answer_bytes_max: ANSWER_BYTES_MAX,
                ..OutsideOptions::default()
            }),
            known: Mutex::default(),
        }
    }

    /// Whether anybody is asked at all.
    pub(crate) fn asks(&self) -> bool {
        self.url.is_some()
    }

    /// What TIM says of a request's cookie of this name; `None`: it is not there, or no good.
    ///
    /// # Errors
    /// [`Refusal::Away`].
    pub(super) async fn claims(
        &self,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Claims>>, Refusal> {
        let cookies = cookies(headers);
        let (Some(url), Some(value)) = (&self.url, cookie(&cookies, name)) else {
            return Ok(None);
        };
        let mut hash = Sha256::new();
        hash.update(name);
        hash.update([0]);
        hash.update(value);
        let key: [u8; 32] = hash.finalize().into();
        let now = Instant::now();
        if let Some((claims, until)) = self.known.lock().get(&key)
            && *until > now
        {
            return Ok(Some(claims.clone()));
        }
        let mut call = self.post(&userinfo(url), name.to_owned(), "text/plain")?;
        forward(&mut call, &cookies)?;
        let answer = self.call(call).await?;
        let claims = self.terms.read(answer.status.as_u16(), &answer.body);
        let claims = claims.map_err(|()| Refusal::Away)?.map(Arc::new);
        if let Some(claims) = &claims {
            let mut known = self.known.lock();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(key, (claims.clone(), now + self.believed));
        }
        Ok(claims)
    }

    /// What an open stream's right rests on.
    pub(super) fn pass(&self, name: &str, headers: &HeaderMap, wants: Wants) -> Option<Pass> {
        let cookies = cookies(headers);
        Some(Pass::new(self.terms.clone(), name, &cookies, wants))
    }

    /// The cookie of a new chat's end user, as it is set: `Set-Cookie` lines. None with
    /// `auth = "off"`.
    ///
    /// # Errors
    /// [`Refusal::Away`].
    pub(crate) async fn new_chat(&self, chat: &str) -> Result<Vec<HeaderValue>, Refusal> {
        let Some(url) = &self.url else {
            return Ok(Vec::new());
        };
        let wanted = json!({
            "JWTName": self.chat_cookie,
            "expirationInMinutes": self.chat_cookie_lifetime.as_secs().div_ceil(60),
            "content": {"chatId": chat},
        });
        let url = format!("{url}/jwt/custom-jwt-generate");
        let answer = self
            .call(self.post(&url, wanted.to_string(), "application/json")?)
            .await?;
        if !answer.status.is_success() {
            tracing::warn!(status = %answer.status, "TIM makes no cookie");
            return Err(Refusal::Away);
        }
        set_cookie(&self.chat_cookie, &answer).ok_or(Refusal::Away)
    }

    /// What TIM says of a login with TARA: the claims; `None`: it refuses it. With `auth = "off"`
    /// every login is good.
    ///
    /// # Errors
    /// [`Refusal::Away`].
    pub(crate) async fn tara(
        &self,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Value>, Refusal> {
        let Some(url) = &self.url else {
            return Ok(Some(Value::Null));
        };
        let cookies = cookies(headers);
        if cookie(&cookies, name).is_none() {
            return Ok(None);
        }
        let mut call = Call::get(self.address(&format!("{url}/jwt/userinfo"))?);
        forward(&mut call, &cookies)?;
        let answer = self.call(call).await?;
        if answer.status.is_server_error() {
            return Err(Refusal::Away);
        }
        let info: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let good = answer.status.is_success();
        Ok(info.filter(|info| good && info.is_object()))
    }

    /// A login's token was used; it is not good a second time. That it stays good until it expires
    /// when TIM is away does no harm that a login would not.
    pub(crate) async fn blacklist_tara(&self, name: &str, headers: &HeaderMap) {
        let Some(url) = &self.url else { return };
        let call = self.post(
            &format!("{url}/jwt/blacklist"),
            name.to_owned(),
            "text/plain",
        );
        let Ok(mut call) = call else { return };
        if forward(&mut call, &cookies(headers)).is_ok() {
            // What went wrong is logged where it is called.
            let _ = self.call(call).await;
        }
    }

    async fn call(&self, call: Call) -> Result<Answer, Refusal> {
        self.outside.call(call).await.map_err(|error| {
            tracing::warn!(%error, "TIM is away");
            Refusal::Away
        })
    }

    fn address(&self, url: &str) -> Result<tidings_adapter::http::Uri, Refusal> {
        // Checked at start; a path was added.
        url.parse().map_err(|_| Refusal::Away)
    }

    fn post(&self, url: &str, body: String, kind: &'static str) -> Result<Call, Refusal> {
        let mut call = Call::post(self.address(url)?, body);
        let kind = HeaderValue::from_static(kind);
        call.headers.insert(CONTENT_TYPE, kind);
        Ok(call)
    }
}

fn userinfo(url: &str) -> String {
    format!("{url}/jwt/custom-jwt-userinfo")
}

fn forward(call: &mut Call, cookies: &str) -> Result<(), Refusal> {
    let value = HeaderValue::from_str(cookies).map_err(|_| Refusal::Unauthorized)?;
    call.headers.insert(COOKIE, value);
    Ok(())
}

/// A request's cookies in one line: HTTP/2 brings them in pieces.
pub(crate) fn cookies(headers: &HeaderMap) -> String {
    let all = headers.get_all(COOKIE).iter();
    let mut line = String::new();
    for one in all.filter_map(|value| value.to_str().ok()) {
        if line.len() + one.len() > COOKIES_BYTES_MAX {
            break;
        }
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.push_str(one);
    }
    line
}

/// The value of a cookie; an empty one is none.
pub(crate) fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim(), value.trim()))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value)
}

/// The `Set-Cookie` lines of TIM's answer for this cookie, for every path; where TIM set none, one
/// of the token that it answered.
fn set_cookie(name: &str, answer: &Answer) -> Option<Vec<HeaderValue>> {
    let mut lines = Vec::new();
    for line in answer.headers.get_all(SET_COOKIE) {
        let Ok(text) = line.to_str() else { continue };
        if text
            .split_once('=')
            .is_none_or(|(key, _)| key.trim() != name)
        {
            continue;
        }
        let mut parts = text.split(';').skip(1);
        let has_path = parts.any(|part| part.trim().to_ascii_lowercase().starts_with("path="));
        if has_path {
            lines.push(line.clone());
        } else {
            // Without it the cookie of `/ruuter/init-chat` would not come with `/sse/…`.
            lines.push(HeaderValue::from_str(&format!("{text}; Path=/")).ok()?);
        }
    }
    if lines.is_empty() {
        let token = std::str::from_utf8(&answer.body).ok()?.trim();
        let token = token.trim_matches('"');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
        if token.is_empty() || !token.chars().all(plain) {
            return None;
        }
        let line = format!("{name}={token}; Path=/; HttpOnly; Secure; SameSite=None");
        lines.push(HeaderValue::from_str(&line).ok()?);
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_adapter::http::StatusCode;

    #[test]
    fn cookies_are_found() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookies(&headers), "");
        headers.append(COOKIE, HeaderValue::from_static("a=1; chatJwt=x.y.z"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        let line = cookies(&headers);
        assert_eq!(line, "a=1; chatJwt=x.y.z; b=2");
        assert_eq!(cookie(&line, "chatJwt"), Some("x.y.z"));
        assert_eq!(cookie(&line, "b"), Some("2"));
        assert_eq!(cookie(&line, "Jwt"), None);
        assert_eq!(cookie("chatJwt=; chatJwt", "chatJwt"), None);
    }

    #[test]
    fn a_new_chats_cookie_is_tims() {
        let answer = |lines: &[&str], body: &'static str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SET_COOKIE, HeaderValue::from_str(line).expect("a value"));
            }
            let (status, body) = (StatusCode::OK, body.into());
            set_cookie(
                "chatJwt",
                &Answer {
                    status,
                    headers,
                    body,
                },
            )
        };
        let set = |lines: &[&str], body| {
            let lines = answer(lines, body)?;
            let text = lines
                .iter()
                .map(|line| line.to_str().expect("text").to_owned());
            Some(text.collect::<Vec<_>>())
        };
        assert_eq!(
            set(&["x=1", "chatJwt=a; HttpOnly", "chatJwt=b; PATH=/x"], ""),
            Some(vec![
                "chatJwt=a; HttpOnly; Path=/".into(),
                "chatJwt=b; PATH=/x".into()
            ])
        );
        assert_eq!(
            set(&[], "a.b.c"),
            Some(vec![
                "chatJwt=a.b.c; Path=/; HttpOnly; Secure; SameSite=None".into()
            ])
        );
        assert_eq!(set(&[], ""), None);
        assert_eq!(set(&[], "a; Domain=x"), None);
    }
}
