//! The other side: signs and encrypts requests, and reads replies, as CardSavr's clients do.
//!
//! For the simulator and for tests. [`Client`] does no I/O: it makes a request, somebody sends it, and
//! it reads the reply.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::header::CONTENT_TYPE;
use tidings_adapter::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::crypto::{
    Exchange, Key, PasswordKey, Sealed, Sealing, Signed, app_name, authorization, envelope, random,
    targets,
};

/// Why a call came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// A key, a name or an address cannot be used: correct it.
    #[error("{0}")]
    Unfit(&'static str),
    /// The server refuses: its status and what it says.
    #[error("refused with {status}: {body}")]
    Refused {
        /// 400 or more.
        status: StatusCode,
        /// `{"_errors":[…],"message"}`, or what else came.
        body: Value,
    },
    /// The reply is not signed with the right key, or cannot be read: not the server that it should
    /// be, or one in another mode.
    #[error("the reply cannot be read: {0}")]
    Reply(&'static str),
}

/// One request, ready to be sent.
#[derive(Clone)]
pub struct Prepared {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// All headers but `host` and `content-length`.
    pub headers: HeaderMap,
    /// Encrypted; empty without one.
    pub body: Bytes,
}

impl fmt::Debug for Prepared {
    /// Its headers have the session's token, and may have an access key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Prepared");
        shown.field("method", &self.method);
        shown.field("target", &self.target).finish_non_exhaustive()
    }
}

/// A reply in clear.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Below 400.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// [`Value::Null`] without a body.
    pub body: Value,
}

/// A client of one integrator.
#[derive(Debug, Clone)]
pub struct Client {
    app: String,
    integrator: Key,
    sealing: Sealing,
    username: String,
    session: Option<Session>,
}

#[derive(Clone)]
struct Session {
    token: String,
    user_id: u64,
    key: Key,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Session");
        shown
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}

/// A login that was sent, and waits for its reply.
#[derive(Debug)]
pub struct Login(Exchange);

impl Client {
    /// A client of an integrator, by its name and its key in base64.
    ///
    /// # Errors
    /// [`ClientError::Unfit`].
    pub fn new(app: &str, integrator_key: &str) -> Result<Self, ClientError> {
        let key = STANDARD.decode(integrator_key.trim());
        let key = key.map_err(|_| ClientError::Unfit("the integrator's key is not base64"))?;
        if HeaderValue::from_str(&authorization(app)).is_err() || app.is_empty() {
            return Err(ClientError::Unfit("the application's name fits no header"));
        }
        Ok(Self {
            app: app.to_owned(),
            integrator: Key::padded(&key),
            sealing: Sealing::Cbc,
            username: String::new(),
            session: None,
        })
    }

    /// Encrypts with AES-256-GCM instead of CBC, as newer clients do.
    #[must_use]
    pub fn with_gcm(mut self) -> Self {
        self.sealing = Sealing::Gcm;
        self
    }

    /// The user's id, after a login.
    #[must_use]
    pub fn user_id(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.user_id)
    }

    /// The session's token, after a login.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.session.as_ref().map(|session| &*session.token)
    }

    /// A login: send it, and give its reply to [`Client::logged_in`].
    ///
    /// # Errors
    /// [`ClientError::Unfit`].
    pub fn login(
        &mut self,
        username: &str,
        password: &str,
        now_ms: u64,
    ) -> Result<(Prepared, Login), ClientError> {
        let no_keys = ClientError::Unfit("no randomness for a key");
        let exchange = Exchange::new().ok_or_else(|| no_keys.clone())?;
        let proof = PasswordKey::of(username, password).proof(&self.integrator);
        self.session = None;
        username.clone_into(&mut self.username);
        let body = json!({
            "username": username,
            "client_public_key": exchange.public().ok_or(no_keys)?,
            "password_proof": proof,
        });
        let prepared = self.prepare(Method::POST, "/session/login", Some(&body), &[], now_ms)?;
        Ok((prepared, Login(exchange)))
    }

    /// Takes the reply to a login. Later requests belong to its session.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Reply`].
    pub fn logged_in(
        &mut self,
        login: &Login,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Reply, ClientError> {
        let reply = self.read("/session/login", status, headers, body)?;
        let text = |name| reply.body.get(name).and_then(Value::as_str);
        let parts = || {
            Some(Session {
                token: text("session_token")
                    .filter(|text| !text.is_empty())?
                    .to_owned(),
                user_id: reply.body.get("user_id")?.as_u64()?,
                key: login.0.agree(text("server_public_key")?)?,
            })
        };
        let session = parts().ok_or(ClientError::Reply("no session is in it"))?;
        self.session = Some(session);
        Ok(reply)
    }

    /// A request: encrypted and signed with the session's key, or, before a login, with the
    /// integrator's. `target` is path and query; headers come on top of the protocol's own.
    ///
    /// # Errors
    /// [`ClientError::Unfit`] when a header is none.
    pub fn prepare(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
        now_ms: u64,
    ) -> Result<Prepared, ClientError> {
        let sealed = body.map(|body| self.seal(&body.to_string())).transpose()?;
        let body = sealed.map(|text| envelope(&text)).unwrap_or_default();
        self.prepare_raw(method, target, body.into(), headers, now_ms)
    }

    /// A request whose body is signed and sent as it is; empty: none.
    ///
    /// # Errors
    /// [`ClientError::Unfit`] when a header is none.
    pub fn prepare_raw(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        headers: &[(&str, &str)],
        now_ms: u64,
    ) -> Result<Prepared, ClientError> {
        let unfit = ClientError::Unfit("a header that cannot be sent");
        let (authorization, nonce) = (authorization(&self.app), now_ms.to_string());
        let signed = Signed {
            target: &targets(target).next().unwrap_or_default(),
            authorization: &authorization,
            nonce: &nonce,
            body: &body,
        };
        let signature = signed.sign(self.key());
        let application = format!("{} - tidings", self.app);
        let trace = json!({"key": self.username}).to_string();
        let token = self.token().unwrap_or("null");
        let own = [
            ("x-cardsavr-session-jwt", token),
            ("x-cardsavr-client-application", &application),
            ("x-cardsavr-trace", &trace),
            ("x-cardsavr-authorization", &authorization),
            ("x-cardsavr-nonce", &nonce),
            ("x-cardsavr-signature", &signature),
        ];
        let mut all = HeaderMap::new();
        for (name, value) in own.iter().chain(headers) {
            let name = HeaderName::try_from(*name).map_err(|_| unfit.clone())?;
            let value = HeaderValue::try_from(*value).map_err(|_| unfit.clone())?;
            all.insert(name, value);
        }
        if !body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            all.insert(CONTENT_TYPE, json);
        }
        Ok(Prepared {
            method,
            target: target.to_owned(),
            headers: all,
            body,
        })
    }

    /// Encrypts a text as it stands in a header, e.g. `x-cardsavr-cardholder-safe-key`.
    ///
    /// # Errors
    /// [`ClientError::Unfit`] when it cannot be encrypted.
    pub fn seal(&self, text: &str) -> Result<String, ClientError> {
        let sealed = self.sealing.seal(self.key(), text.as_bytes(), random());
        sealed.ok_or(ClientError::Unfit("a text that cannot be encrypted"))
    }

    /// Reads the reply to the request for this path and query: verifies it, if it is signed, and
    /// decrypts it, if it is encrypted.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Reply`].
    pub fn read(
        &self,
        target: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Reply, ClientError> {
        self.verify(target, headers, body)?;
        let clear = match Sealed::of_body(body) {
            Some(sealed) => {
                let clear = sealed.open(self.key());
                clear.map_err(|_| ClientError::Reply("encrypted with another key"))?
            }
            None => body.to_vec(),
        };
        let json = serde_json::from_slice(&clear);
        let text = |_| Value::String(String::from_utf8_lossy(&clear).into_owned());
        let body = match clear.is_empty() {
            true => Value::Null,
            false => json.unwrap_or_else(text),
        };
        if status.as_u16() >= 400 {
            return Err(ClientError::Refused { status, body });
        }
        Ok(Reply {
            status,
            headers: headers.clone(),
            body,
        })
    }

    fn verify(&self, target: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), ClientError> {
        let header = |name| headers.get(name).and_then(|one| one.to_str().ok());
        let Some(authorization) = header("x-cardsavr-authorization") else {
            return Ok(());
        };
        if app_name(authorization) != Some(&self.app) {
            return Err(ClientError::Reply("signed for another application"));
        }
        let signed = Signed {
            target: &targets(target).next().unwrap_or_default(),
            authorization,
            nonce: header("x-cardsavr-nonce").unwrap_or_default(),
            body,
        };
        let signature = header("x-cardsavr-signature").unwrap_or_default();
        if signed.is_signed(self.key(), signature) {
            Ok(())
        } else {
            Err(ClientError::Reply("its signature is wrong"))
        }
    }

    fn key(&self) -> &Key {
        let session = self.session.as_ref();
        session.map_or(&self.integrator, |session| &session.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ=";

    /// A reply as a server with this key and application gives it.
    fn reply(app: &str, key: &str, clear: &str) -> (HeaderMap, String) {
        let server = Client::new(app, key).expect("good");
        let body = envelope(&server.seal(clear).expect("sealed"));
        let made = server.prepare_raw(Method::GET, "/a?b=%20", body.clone().into(), &[], 7);
        (made.expect("good").headers, body)
    }

    #[test]
    fn replies_that_are_not_believed() {
        let client = Client::new("acme-app", KEY).expect("good");
        let read = |status: StatusCode, headers: &HeaderMap, body: &str| {
            client.read("/a?b=%20", status, headers, body.as_bytes())
        };
        let (good, body) = reply("acme-app", KEY, "[1]");
        let found = read(StatusCode::OK, &good, &body).expect("good");
        assert_eq!(found.body, json!([1]));
        assert!(matches!(
            read(StatusCode::NOT_FOUND, &good, &body),
            Err(ClientError::Refused { status: StatusCode::NOT_FOUND, body }) if body == json!([1])
        ));
        let (foreign, foreign_body) = reply("acme-app", "YWJj", "[1]");
        let (other, other_body) = reply("other-app", KEY, "[1]");
        for (headers, body) in [
            (&foreign, &foreign_body),
            (&other, &other_body),
            (&good, &foreign_body),
            (&HeaderMap::new(), &foreign_body),
        ] {
            let refused = read(StatusCode::OK, headers, body);
            assert!(matches!(refused, Err(ClientError::Reply(_))), "{refused:?}");
        }
        // In clear, as 401 is, and what is no JSON at all.
        for (body, said) in [
            ("", Value::Null),
            ("{}", json!({})),
            ("<html>", json!("<html>")),
        ] {
            let found = read(StatusCode::OK, &HeaderMap::new(), body).expect("taken");
            assert_eq!(found.body, said);
        }
    }

    #[test]
    fn what_no_client_can_be_made_of() {
        for (app, key) in [("", KEY), ("a\nb", KEY), ("acme-app", "?")] {
            assert!(Client::new(app, key).is_err(), "{app} {key}");
        }
    }
}
