//! With TIM: who may do what, and the cookie of a new chat (contract section 6, group H over REST, and
//! 1.7).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings_adapter::axum::extract::State;
use tidings_adapter::axum::response::{IntoResponse as _, Response};
use tidings_adapter::axum::routing::{get, post};
use tidings_adapter::axum::{self, Router};
use tidings_adapter::http::header::{COOKIE, SET_COOKIE};
use tidings_adapter::http::{HeaderMap, StatusCode};
use tidings_testkit::adapter_exam::wire::{Answer, Request};

use crate::client::{Hub, refused};

/// TIM, as far as the hub asks it.
#[derive(Default)]
struct Tim {
    /// By `<cookie>=<token>`.
    claims: Mutex<HashMap<String, Value>>,
    asked: AtomicUsize,
    blacklisted: Mutex<Vec<String>>,
    away: Mutex<bool>,
}

impl Tim {
    /// The cookie of this name that came with a request.
    fn pair(headers: &HeaderMap, name: &str) -> Option<String> {
        let line = headers.get(COOKIE)?.to_str().ok()?;
        let pairs = line.split("; ").map(str::to_owned);
        let prefix = format!("{name}=");
        pairs.into_iter().find(|pair| pair.starts_with(&prefix))
    }
}

type Asked = State<Arc<Tim>>;

/// Unknown tokens are answered with 200 and nothing.
async fn userinfo(State(tim): Asked, headers: HeaderMap, name: String) -> Response {
    tim.asked.fetch_add(1, Ordering::SeqCst);
    if *tim.away.lock() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let pair = Tim::pair(&headers, &name).unwrap_or_default();
    let claims = tim.claims.lock().get(&pair).cloned();
    claims
        .map_or_else(String::new, |claims| claims.to_string())
        .into_response()
}

async fn generate(State(tim): Asked, body: String) -> Response {
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    let name = asked["JWTName"].as_str().unwrap_or_default().to_owned();
    let chat = asked["content"]["chatId"].as_str().unwrap_or_default();
    let pair = format!("{name}=token.{chat}");
    tim.claims
        .lock()
        .insert(pair.clone(), asked["content"].clone());
    (
        [(SET_COOKIE, format!("{pair}; HttpOnly"))],
        format!("token.{chat}"),
    )
        .into_response()
}

async fn tara(State(tim): Asked, headers: HeaderMap) -> Response {
    let pair = Tim::pair(&headers, "JWTTOKEN").unwrap_or_default();
    match tim.claims.lock().get(&pair) {
        Some(claims) => claims.to_string().into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn blacklist(State(tim): Asked, headers: HeaderMap) {
    let pair = Tim::pair(&headers, "JWTTOKEN").unwrap_or_default();
    tim.blacklisted.lock().push(pair);
}

const AGENT: &str = "customJwtCookie=agent";

#[expect(
    clippy::disallowed_methods,
    reason = "a stand-in that one test talks to"
)]
async fn with_tim(changes: Value) -> Result<(Arc<Tim>, Hub)> {
    let tim = Arc::new(Tim::default());
    let agent = json!({"idCode": "EE1", "authorities": ["ROLE_SERVICE_MANAGER"]});
    let analyst = json!({"idCode": "EE2", "authorities": ["ROLE_ANALYST"]});
    tim.claims.lock().extend([
        (AGENT.to_owned(), agent),
        ("customJwtCookie=analyst".to_owned(), analyst),
        (
            "JWTTOKEN=tara".to_owned(),
            json!({"personalCode": "EE30303039914", "firstName": "Mary", "lastName": "Änn"}),
        ),
    ]);
    let router = Router::new()
        .route("/jwt/custom-jwt-userinfo", post(userinfo))
        .route("/jwt/custom-jwt-generate", post(generate))
        .route("/jwt/userinfo", get(tara))
        .route("/jwt/blacklist", post(blacklist))
        .with_state(tim.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut options = json!({"auth": "tim", "tim_url": url, "tim_cache": "0s"});
    if let (Value::Object(all), Value::Object(changes)) = (&mut options, changes) {
        all.extend(changes);
    }
    Ok((tim, Hub::start(options).await?))
}

fn ask(path: &str, body: &Value, cookie: &str) -> Request {
    let request = crate::client::post(path, body);
    if cookie.is_empty() {
        return request;
    }
    request.header("cookie", cookie)
}

/// A chat and its end user's cookie.
async fn begin(hub: &Hub) -> Result<(String, String)> {
    let answer = hub
        .send(0, &ask("/ruuter/init-chat", &json!({"content": "hi"}), ""))
        .await?;
    let cookie = answer.header("set-cookie");
    assert!(cookie.ends_with("; HttpOnly; Path=/"), "{cookie}");
    let cookie = cookie.split(';').next().context("a cookie")?.to_owned();
    let body: Value = serde_json::from_slice(&answer.body)?;
    let id = body["data"]["get_inserted_chat"]["id"]
        .as_str()
        .context("an id")?;
    Ok((id.to_owned(), cookie))
}

fn status(answer: &Answer) -> u16 {
    answer.status
}

/// H01, H02, H03: nobody, a forged cookie, somebody else's chat, the wrong role.
#[tokio::test(flavor = "multi_thread")]
async fn who_may() -> Result<()> {
    let (_tim, hub) = with_tim(json!({})).await?;
    let (chat, user) = begin(&hub).await?;
    let (_, other) = begin(&hub).await?;
    let body = json!({"chatId": chat, "id": chat, "content": "a", "customerSupportId": "EE1"});
    let read = json!({"chatId": chat});
    let users = [
        "/get-messages-by-chat-id",
        "/get-new-messages",
        "/get-chat-by-id",
        "/post-message-preview",
    ];
    let agents = [
        "/cs-get-messages-by-chat-id",
        "/cs-get-new-messages",
        "/cs-get-all-active-chats",
        "/cs-claim-chat",
    ];
    let backends = [
        "/enqueue",
        "/bulk-notifications",
        "/notifications/_delete_by_query",
    ];
    for path in users.iter().chain(&agents).chain(&backends) {
        for nobody in ["", "chatJwt=forged", "customJwtCookie=forged; chatJwt="] {
            refused(&hub.send(1, &ask(path, &body, nobody)).await?, 401)?;
        }
    }
    for path in users {
        for wrong in [other.as_str(), AGENT] {
            refused(&hub.send(1, &ask(path, &read, wrong)).await?, 403)?;
        }
        assert_eq!(
            status(&hub.send(1, &ask(path, &read, &user)).await?),
            200,
            "{path}"
        );
        // His own chat, where he names none.
        assert_eq!(
            status(&hub.send(1, &ask(path, &json!({}), &user)).await?),
            200,
            "{path}"
        );
    }
    for path in agents {
        for wrong in [user.as_str(), "customJwtCookie=analyst"] {
            refused(&hub.send(1, &ask(path, &body, wrong)).await?, 403)?;
        }
        assert_eq!(
            status(&hub.send(1, &ask(path, &body, AGENT)).await?),
            200,
            "{path}"
        );
    }
    for path in ["/estimated-waiting-time", "/add-chat-to-termination-queue"] {
        refused(&hub.send(1, &ask(path, &read, "")).await?, 401)?;
        refused(&hub.send(1, &ask(path, &read, &other)).await?, 403)?;
        for good in [user.as_str(), AGENT] {
            assert_eq!(
                status(&hub.send(1, &ask(path, &read, good)).await?),
                200,
                "{path}"
            );
        }
    }
    for path in [
        "/estimated-waiting-time",
        "/cs-get-components-healthz-status",
    ] {
        assert_eq!(
            status(&hub.send(1, &Request::get(path)).await?),
            200,
            "{path}"
        );
    }
    let said = ask("/post-message", &json!({"content": "mine"}), &user);
    assert_eq!(status(&hub.send(0, &said).await?), 200);
    Ok(())
}

/// A backend shows its key.
#[tokio::test(flavor = "multi_thread")]
async fn backends_have_a_key() -> Result<()> {
    let (_tim, hub) = with_tim(json!({"backend_key": "a key of the tests"})).await?;
    let body = json!({"operations": []});
    for (header, status) in [
        ("Bearer a key of the tests", 200),
        ("bearer  a key of the tests ", 200),
        ("Bearer a key of the test", 401),
        ("Basic a key of the tests", 401),
        ("Bearer", 401),
    ] {
        let request = ask("/bulk-notifications", &body, "").header("authorization", header);
        assert_eq!(hub.send(0, &request).await?.status, status, "{header}");
    }
    let agent = ask("/bulk-notifications", &body, AGENT);
    assert_eq!(hub.send(0, &agent).await?.status, 200);
    let (_tim, open) = with_tim(json!({"backend_open": true})).await?;
    assert_eq!(
        open.send(0, &ask("/bulk-notifications", &body, ""))
            .await?
            .status,
        200
    );
    Ok(())
}

/// B08 with TIM: the end user is known then, and his token is used up. A refusal is told, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_tara() -> Result<()> {
    let (tim, hub) = with_tim(json!({})).await?;
    let (chat, user) = begin(&hub).await?;
    let body = json!({"chatId": chat});
    let bad = ask(
        "/login-with-tara-jwt",
        &body,
        &format!("{user}; JWTTOKEN=forged"),
    );
    refused(&hub.send(0, &bad).await?, 401)?;
    let good = ask(
        "/login-with-tara-jwt",
        &body,
        &format!("{user}; JWTTOKEN=tara"),
    );
    let answer = hub.send(1, &good).await?;
    assert_eq!(
        answer.text(),
        r#"{"data":{"blacklist_tara_jwt":""},"error":null}"#
    );
    assert_eq!(*tim.blacklisted.lock(), ["JWTTOKEN=tara"]);
    let list = hub
        .send(0, &ask("/cs-get-messages-by-chat-id", &body, AGENT))
        .await?;
    let list: Value = serde_json::from_slice(&list.body)?;
    let events = list["data"]["cs_get_messages_by_chat_id"]
        .as_array()
        .context("a list")?;
    let events: Vec<_> = events.iter().map(|one| one["event"].clone()).collect();
    assert_eq!(
        events,
        ["", "authentication_failed", "authentication_successful"]
    );
    let known = hub.send(0, &ask("/get-chat-by-id", &body, &user)).await?;
    let known: Value = serde_json::from_slice(&known.body)?;
    let known = &known["data"]["get_chat_by_id"];
    assert_eq!(
        (&known["endUserId"], &known["endUserLastName"]),
        (&json!("EE30303039914"), &json!("Änn"))
    );
    Ok(())
}

/// A yes is believed for a moment; a no never. TIM away is a 503, and nothing is stored.
#[tokio::test(flavor = "multi_thread")]
async fn tim_is_asked_seldom_and_may_be_away() -> Result<()> {
    let (tim, hub) = with_tim(json!({"tim_cache": "60s"})).await?;
    let (chat, user) = begin(&hub).await?;
    let read = ask("/get-chat-by-id", &json!({"id": chat}), &user);
    let asked = |tim: &Tim| tim.asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(hub.send(0, &read).await?.status, 200);
    }
    assert_eq!(asked(&tim), 1);
    let forged = ask("/get-chat-by-id", &json!({"id": chat}), "chatJwt=forged");
    for _ in 0..2 {
        refused(&hub.send(0, &forged).await?, 401)?;
    }
    assert_eq!(asked(&tim), 3);
    *tim.away.lock() = true;
    refused(&hub.send(0, &forged).await?, 503)?;
    assert_eq!(hub.send(0, &read).await?.status, 200, "still believed");
    refused(&hub.send(1, &read).await?, 503)?;
    Ok(())
}

/// A page of another origin posts nothing, although cookies come along; the hub's own page does.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_post_nothing() -> Result<()> {
    let (_tim, hub) = with_tim(json!({})).await?;
    let (chat, user) = begin(&hub).await?;
    let body = json!({"chatId": chat, "timeout": 1});
    let own = format!("http://{}", hub.at(0));
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("https://chat.example", 200),
        (own.as_str(), 200),
    ] {
        let beacon = Request::post("/add-chat-to-termination-queue", body.to_string())
            .header("content-type", "text/plain")
            .header("cookie", user.as_str())
            .header("origin", origin);
        assert_eq!(hub.send(0, &beacon).await?.status, status, "{origin}");
    }
    Ok(())
}
