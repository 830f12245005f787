//! `user.login` and `rtm.connect`: from a password to a bearer, from a bearer to a `ws_token`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tidings_adapter::Call;
use tidings_adapter::axum::extract::{ConnectInfo, Request, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use tidings_adapter::http::request::Parts;
use tidings_adapter::http::{HeaderMap, HeaderValue, StatusCode};

use crate::Shared;
use crate::answer::Answer;
use crate::http::{Problem, bearer, ok, read};
use crate::presence::Presence;
use crate::token::{Bearer, Grant, finger_print};
use crate::user::{self, Ask as UserAsk, User};
use crate::{keys, objects};

/// Passwords hashed at a time: each takes 20 MiB and a core for some 30 ms.
const HASHING_AT_ONCE: usize = 2;

/// Logins that wait for their turn; more are asked to come back.
const HASHING_WAIT: Duration = Duration::from_secs(5);

/// Bytes of a password.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Bytes of the address and the browser's name that are repeated in a `ws_token`.
const CLAIM_BYTES_MAX: usize = 256;

/// How long another server may take to say whose a bearer is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Users whose calls are counted; beyond that all counts begin anew.
const COUNTED_MAX: usize = 100_000;

/// What logins share.
#[derive(Debug)]
pub(crate) struct Desk {
    turns: Arc<tokio::sync::Semaphore>,
    /// Calls in this minute by user. Every instance counts for itself: a limit that needed the log
    /// would cost more than what it keeps off.
    calls: Mutex<(u64, HashMap<u64, u32>)>,
    /// A hash of nobody's password, so that an unknown name takes as long as a wrong password.
    nobody: std::sync::OnceLock<String>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            turns: Arc::new(tokio::sync::Semaphore::new(HASHING_AT_ONCE)),
            calls: Mutex::default(),
            nobody: std::sync::OnceLock::new(),
        }
    }
}

impl Desk {
    /// Counts a call; `Err`: so many seconds to wait.
    fn count(&self, user: u64, limit: u32, now: u64) -> Result<(), u64> {
        // Held for a moment, never across an await.
        let mut calls = self.calls.lock();
        if calls.0 != now / 60 || calls.1.len() >= COUNTED_MAX {
            *calls = (now / 60, HashMap::new());
        }
        let count = calls.1.entry(user).or_default();
        if *count >= limit {
            return Err(60 - now % 60);
        }
        *count += 1;
        Ok(())
    }
}

async fn hashing<T: Send + 'static>(
    turns: &Arc<tokio::sync::Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let turn = turns.clone().acquire_owned();
    let Ok(Ok(turn)) = tokio::time::timeout(HASHING_WAIT, turn).await else {
        return Err(Problem::away());
    };
    // The turn is the work's, not the request's: a client that goes away does not end the work, and
    // must not let in the next.
    let hashed = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    hashed.await.map_err(|_| Problem::away())
}

/// Hashes a password with Argon2id, as OWASP recommends it (19 MiB, two passes).
pub(crate) async fn hash(shared: &Shared, password: &str) -> Result<String, Problem> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(Problem::bad("`password` has 1 to 1024 bytes"));
    }
    let password = password.to_owned();
    let hashed = hashing(&shared.login.turns, move || hash_now(&password)).await?;
    hashed.ok_or_else(Problem::away)
}

fn hash_now(password: &str) -> Option<String> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).ok()?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .ok()?;
    Some(hash.to_string())
}

fn fits(password: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        return false;
    };
    Argon2::default()
        .verify_password(password.as_bytes(), &hash)
        .is_ok()
}

pub(crate) async fn login(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match try_login(&shared, request).await {
        Ok(response) => response,
        Err(problem) => problem.response(),
    }
}

async fn try_login(shared: &Arc<Shared>, request: Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let given = fields(&headers, &read(request).await?)?;
    let field = |name: &str| {
        let value = given
            .get(name)
            .and_then(Value::as_str)
            .filter(|value| !value.is_empty());
        value.map(str::to_owned).ok_or_else(|| {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("`{name}` is missing"),
            )
        })
    };
    let (name, password) = (field("user")?, field("password")?);
    let wrong = || Problem::new(StatusCode::UNAUTHORIZED, "wrong user or password");
    if password.len() > PASSWORD_BYTES_MAX || name.len() > 254 {
        return Err(wrong());
    }
    let user = find(shared, &name).await?;
    let known = user.as_ref().and_then(|user| user.password.clone());
    let desk = shared.clone();
    let good = hashing(&shared.login.turns, move || {
        let nobody = || hash_now("nobody").unwrap_or_default();
        let hash = match &known {
            Some(hash) => hash,
            None => desk.login.nobody.get_or_init(nobody),
        };
        fits(&password, hash) && known.is_some()
    });
    let good = good.await?;
    let Some(user) = user.filter(|_| good) else {
        return Err(wrong());
    };
    let now = shared.hub.now().unix_ms / 1000;
    let lifetime = shared.settings.options.login_lifetime.0;
    let jti = format!("{:032x}", rand::random::<u128>());
    let token = shared
        .tokens
        .sign_bearer(user.profile.id, user.generation, now, lifetime, &jti)
        .ok_or_else(Problem::away)?;
    let presence = shared.presence(user.profile.id).await?;
    let wire = user.profile.wire(presence.online, user.active);
    Ok(ok(json!({ "token": token, "user": wire })))
}

async fn find(shared: &Shared, name: &str) -> Result<Option<User>, Problem> {
    let id = keys::login_index(name);
    let loaded = shared
        .hub
        .load(&keys::index_key(&id), vec![keys::index(&id)])
        .await?;
    let user: Option<u64> = loaded
        .into_iter()
        .flatten()
        .next()
        .and_then(|record| serde_json::from_slice(&record.document).ok());
    match user {
        Some(user) => shared.user(user).await,
        None => Ok(None),
    }
}

impl Shared {
    pub(crate) async fn user(&self, user: u64) -> Result<Option<User>, Problem> {
        let loaded = self
            .hub
            .load(&keys::user_key(user), vec![keys::user(user)])
            .await?;
        let record = loaded.into_iter().flatten().next();
        Ok(record.and_then(|record| User::parse(&record.document)))
    }

    pub(crate) async fn presence(&self, user: u64) -> Result<Presence, Problem> {
        let loaded = self
            .hub
            .load(&keys::user_key(user), vec![keys::presence(user)])
            .await?;
        let record = loaded.into_iter().flatten().next();
        Ok(Presence::of(record.as_ref().map(|record| &record.document)))
    }

    /// In which channel a message is.
    pub(crate) async fn channel_of(&self, message: u64) -> Result<Option<u64>, Problem> {
        let id = keys::message_index(message);
        let loaded = self
            .hub
            .load(&keys::index_key(&id), vec![keys::index(&id)])
            .await?;
        let record = loaded.into_iter().flatten().next();
        Ok(record.and_then(|record| serde_json::from_slice(&record.document).ok()))
    }

    /// Whose a bearer is, with his record.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
    ) -> Result<(Bearer, User), Problem> {
        let token = bearer(headers).ok_or_else(Problem::unauthorized)?;
        let now_ms = self.hub.now().unix_ms;
        let bearer = if let Some(verifier) = &self.bearers {
            let claims = verifier.verify(token, now_ms).await;
            let claims = claims.map_err(|_| Problem::unauthorized())?;
            let subject = claims.subject.clone().map(Value::String);
            Bearer {
                user: subject
                    .as_ref()
                    .and_then(objects::id)
                    .ok_or_else(Problem::unauthorized)?,
                expires: claims.expires_unix_ms.unwrap_or(now_ms) / 1000,
                generation: None,
                issued: claims.issued_unix_ms.map(|ms| ms / 1000),
            }
        } else if let Some(url) = &self.settings.bearer_url {
            self.ask_whose(url, token, now_ms / 1000).await?
        } else {
            let bearer = self.tokens.bearer(token, now_ms);
            bearer.ok_or_else(Problem::unauthorized)?
        };
        let user = self
            .user(bearer.user)
            .await?
            .ok_or_else(Problem::unauthorized)?;
        let void = match (bearer.generation, bearer.issued) {
            (Some(generation), _) => generation < user.generation,
            // Within the second of a revocation nobody can tell: void.
            (None, Some(issued)) => issued * 1000 <= user.revoked_ms,
            (None, None) => false,
        };
        match void {
            true => Err(Problem::unauthorized()),
            false => Ok((bearer, user)),
        }
    }

    /// Asks the backend whose a bearer is.
    async fn ask_whose(&self, url: &str, token: &str, now: u64) -> Result<Bearer, Problem> {
        let call = Call {
            method: "GET".into(),
            url: url.into(),
            headers: vec![("authorization".into(), format!("Bearer {token}").into())],
            body: Default::default(),
            patience: PATIENCE,
        };
        let answer = self.hub.call(call).await.map_err(|_| Problem::away())?;
        match answer.status {
            200 => {}
            status if status >= 500 => return Err(Problem::away()),
            _ => return Err(Problem::unauthorized()),
        }
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let user = objects::id(&answer["user"]["id"]).ok_or_else(Problem::unauthorized)?;
        Ok(Bearer {
            user,
            expires: now + self.settings.options.bearer_lifetime.0.as_secs(),
            generation: None,
            issued: None,
        })
    }
}

pub(crate) async fn connect(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    match try_connect(&shared, &head).await {
        Ok(response) => response,
        Err(problem) => problem.response(),
    }
}

async fn try_connect(shared: &Shared, head: &Parts) -> Result<Response, Problem> {
    let headers = &head.headers;
    let (bearer, user) = shared.authenticate(headers).await?;
    let now = shared.hub.now().unix_ms / 1000;
    let limit = shared.settings.options.connects_per_minute;
    shared
        .login
        .count(bearer.user, limit, now)
        .map_err(|seconds| Problem {
            retry_after_s: Some(seconds),
            ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many connects")
        })?;
    let header = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let own = match (&shared.settings.ws_endpoint, header(HOST)) {
        (Some(endpoint), _) => endpoint.trim_end_matches('/').to_owned(),
        (None, Some(host)) => format!("ws://{host}"),
        (None, None) => return Err(Problem::bad("no `Host`")),
    };
    let query = head.uri.query().unwrap_or_default();
    let wanted = form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == "rtm_endpoint").then(|| value.into_owned()))
        .filter(|wanted| !wanted.is_empty());
    let endpoint = match wanted {
        None => own,
        Some(wanted) => {
            let wanted = wanted.trim_end_matches('/').to_owned();
            let known = shared.settings.ws_endpoints.iter();
            let known = known
                .map(|one| one.trim_end_matches('/'))
                .any(|one| one == wanted);
            if !known && wanted != own {
                return Err(Problem::new(StatusCode::NOT_FOUND, "unknown rtm_endpoint"));
            }
            wanted
        }
    };
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    let ip = peer.map_or_else(String::new, |peer| peer.0.ip().to_string());
    let agent: String = header(USER_AGENT)
        .unwrap_or_default()
        .chars()
        .take(CLAIM_BYTES_MAX)
        .collect();
    let grant = Grant {
        user: bearer.user,
        finger_print: finger_print(rand::random()),
        expires: bearer.expires,
        generation: user.generation,
    };
    let token = shared
        .tokens
        .sign_ws(&grant, &user.profile.display_name, &ip, &agent, now);
    let token = token.ok_or_else(Problem::away)?;
    Ok(ok(
        json!({ "rtm": { "ws_endpoint": endpoint, "ws_token": token } }),
    ))
}

/// `system.ping`: whether a connection is heard, by a way around it.
pub(crate) async fn ping(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match try_ping(&shared, request).await {
        Ok(()) => ok(json!({})),
        Err(problem) => problem.response(),
    }
}

async fn try_ping(shared: &Shared, request: Request) -> Result<(), Problem> {
    let headers = request.headers().clone();
    let (bearer, _) = shared.authenticate(&headers).await?;
    let given = fields(&headers, &read(request).await?)?;
    let missing = |name: &str| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("`{name}` is missing"),
        )
    };
    let print = given.get("finger_print").and_then(Value::as_str);
    let finger_print = print.ok_or_else(|| missing("finger_print"))?.to_owned();
    let token = given
        .get("ping_token")
        .ok_or_else(|| missing("ping_token"))?
        .clone();
    let ask = UserAsk::Ping {
        finger_print,
        token,
    };
    let decided = shared.hub.command(user::command(bearer.user, &ask)).await?;
    match Answer::parse(&decided.answer) {
        Some(Answer::Refused(_)) => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no connection of this finger_print",
        )),
        _ => Ok(()),
    }
}

/// The fields of a form, or of a JSON object.
fn fields(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("json")) {
        return serde_json::from_slice(body).map_err(|_| Problem::bad("not a JSON object"));
    }
    let pairs = form_urlencoded::parse(body).into_owned();
    Ok(pairs
        .map(|(name, value)| (name, Value::String(value)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords() {
        let hash = hash_now("secret").expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(fits("secret", &hash));
        assert!(!fits("Secret", &hash));
        assert!(!fits("secret", "junk"));
    }

    /// Clients that go away while their password is hashed do not let more be hashed at a time.
    #[tokio::test]
    async fn a_turn_lasts_as_long_as_its_work() {
        let turns = Arc::new(tokio::sync::Semaphore::new(1));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let asked = tokio::spawn({
            let turns = turns.clone();
            async move { hashing(&turns, move || wait.recv().is_ok()).await }
        });
        while turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        asked.abort();
        assert!(asked.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(turns.available_permits(), 0);
        go.send(()).expect("the work goes on");
        let free = tokio::time::timeout(HASHING_WAIT, turns.acquire()).await;
        assert!(free.is_ok_and(|free| free.is_ok()));
    }

    #[test]
    fn calls_are_counted_by_the_minute() {
        let desk = Desk::default();
        assert_eq!(desk.count(1, 2, 100), Ok(()));
        assert_eq!(desk.count(1, 2, 118), Ok(()));
        assert_eq!(desk.count(1, 2, 118), Err(2));
        assert_eq!(desk.count(2, 2, 118), Ok(()));
        assert_eq!(desk.count(1, 2, 120), Ok(()));
    }
}
