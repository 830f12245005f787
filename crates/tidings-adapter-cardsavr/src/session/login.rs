//! How sessions begin and end: rows 1 to 3 and 17 of the contract, and `/session/start`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tidings_adapter::http::Method;

use super::record::{Ask, Stored};
use crate::Shared;
use crate::answer::Answer;
use crate::crypto::{Exchange, Key, PasswordKey, Sealing, fingerprint, random};
use crate::errors::Refused;
use crate::messages;
use crate::options::User;
use crate::request::Asked;
use crate::routes::{Row, row};

/// What is said whatever was wrong: user, password, application, its key.
pub(crate) const NOT_LET_IN: &str = "authentication failed";

/// The rows that need a session.
pub(crate) fn routes() -> Vec<Row> {
    vec![
        row(Method::PUT, "/session/refresh", refresh),
        row(Method::GET, "/session/refresh", refresh),
        row(Method::GET, "/session/end", end),
        row(Method::POST, "/cardholders/authorize", authorize),
    ]
}

/// Keeps the session alive, and is the proof that it is.
async fn refresh(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = &asked.session.id;
    shared.desk.ask(&shared.hub, id, &Ask::Touch).await?;
    Ok(Answer::ok(json!({"success": true})))
}

async fn end(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let id = &asked.session.id;
    shared.desk.ask(&shared.hub, id, &Ask::End).await?;
    Ok(Answer::empty())
}

/// Gives the session rights on the cardholder that a grant is of.
async fn authorize(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused> {
    let grant = text(&asked.body, "grant")?;
    let cardholder = messages::granted(&shared, grant).await?;
    let unknown = || Refused::forbidden("no such grant").of("cardholder");
    let cardholder = cardholder.ok_or_else(unknown)?;
    let (id, ask) = (&asked.session.id, Ask::Grant(cardholder));
    shared.desk.ask(&shared.hub, id, &ask).await?;
    Ok(Answer::ok(json!({"cardholder_id": cardholder})))
}

/// `GET /session/start` in unsigned mode: 2.x clients fetch a salt, which nothing uses any more.
pub(crate) fn start() -> Answer {
    Answer::ok(json!({"sessionSalt": STANDARD.encode(random::<32>())}))
}

/// Through which integrator somebody logs in, and how.
pub(crate) struct Door<'a> {
    pub(crate) app: &'a str,
    /// The key that signed the request.
    pub(crate) key: &'a Key,
    pub(crate) sealing: Sealing,
}

/// Logs in with a proof: the body was signed and encrypted with the integrator's key.
pub(crate) async fn signed(
    shared: &Shared,
    door: &Door<'_>,
    body: &Value,
) -> Result<Answer, Refused> {
    let username = text(body, "username")?;
    let proof = text(body, "password_proof")?;
    let public = text(body, "client_public_key")?;
    let user = let_in(shared, door.app, username, |stored| {
        stored.is_proved(door.key, proof)
    })?;
    // Not told before the proof was right.
    let exchange = Exchange::new().ok_or_else(Refused::unavailable)?;
    let bad = || Refused::bad("client_public_key", "not a point on P-256 in 65 bytes");
    let key = exchange.agree(public).ok_or_else(bad)?;
    let server = exchange.public().ok_or_else(Refused::unavailable)?;
    let token = begin(shared, &user, door, Some(&key)).await?;
    Ok(Answer::ok(json!({
        "server_public_key": server,
        "session_token": token,
        "user_id": user.id,
        "user": user_object(&user),
    })))
}

/// Logs in with the password in clear: only in unsigned mode.
pub(crate) async fn unsigned(shared: &Shared, body: &Value) -> Result<Answer, Refused> {
    let name = if body.get("userName").is_some() {
        "userName"
    } else {
        "username"
    };
    let username = text(body, name)?;
    let (salt, password) = (username.to_owned(), text(body, "password")?.to_owned());
    // Milliseconds of work, the same for a user who is none.
    let derived = tokio::task::spawn_blocking(move || PasswordKey::of(&salt, &password)).await;
    let derived = derived.map_err(|_| Refused::unavailable())?;
    let user = let_in(shared, "", username, |stored| stored.is(&derived))?;
    let door = Door {
        app: "",
        key: &Key::padded(b""),
        sealing: Sealing::Cbc,
    };
    let token = begin(shared, &user, &door, None).await?;
    let answer = Answer::ok(json!({
        "status": "valid_cleartext",
        "success": true,
        "session_token": token,
        "user_id": user.id,
        "user": user_object(&user),
    }));
    Ok(Answer {
        cookie: Some(token),
        ..answer
    })
}

/// The user, if what was shown is right for what is stored of him. A user who is none takes the same
/// work and gets the same words.
fn let_in(
    shared: &Shared,
    app: &str,
    username: &str,
    is_right: impl FnOnce(&PasswordKey) -> bool,
) -> Result<Arc<User>, Refused> {
    let (limit, now) = (shared.settings.failed_logins, shared.hub.now().unix_ms);
    // Hashed: whoever makes names up fills no memory with long ones.
    let who = fingerprint(&format!("{app}/{username}"));
    if limit > 0 && shared.failed_logins.count_of(&who, now) >= limit {
        return Err(Refused::too_many(shared.failed_logins.rest_seconds(now)));
    }
    let user = shared.settings.users.named(username);
    let stored = user.map_or(&PasswordKey::NOBODY, |user| &user.password_key);
    let right = is_right(stored);
    match user {
        Some(user) if right => Ok(user.clone()),
        _ => {
            shared.failed_logins.count(&who, now);
            Err(Refused::unauthorized(NOT_LET_IN))
        }
    }
}

/// Stores a new session; its token.
async fn begin(
    shared: &Shared,
    user: &User,
    door: &Door<'_>,
    key: Option<&Key>,
) -> Result<String, Refused> {
    let token = URL_SAFE_NO_PAD.encode(random::<32>());
    let stored = Stored {
        user: user.id,
        mark: user.password_key.mark(),
        app: door.app.to_owned(),
        key: key.map(Key::print),
        sealing: door.sealing,
        seen_ms: shared.hub.now().unix_ms,
        grants: Vec::new(),
    };
    shared.desk.begin(&shared.hub, &token, stored).await?;
    Ok(token)
}

fn user_object(user: &User) -> Value {
    json!({"id": user.id, "username": &*user.username, "role": user.role.as_str()})
}

/// A text of the body. Bounded: it is hashed, and counted under.
fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refused> {
    let value = body.get(name).and_then(Value::as_str);
    value
        .filter(|text| (1..=1024).contains(&text.len()))
        .ok_or_else(|| Refused::bad(name, "a text of 1 to 1024 bytes is needed"))
}
