//! Who may listen: cookies that TIM vouches for (contract section 6, group H).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::axum::extract::State;
use tidings_adapter::axum::routing::post;
use tidings_adapter::axum::{self, Router};
use tidings_adapter::http::HeaderMap;
use tidings_testkit::adapter_exam::Cluster;
use tidings_testkit::adapter_exam::wire::{Request, send};
use tokio::sync::Mutex;

use crate::client::{Heard, Listener, SOON, cluster};

/// What TIM knows: tokens and their claims. Nothing: it is away.
type Tokens = Arc<Mutex<Option<HashMap<String, Value>>>>;

/// TIM, as far as streams ask it.
struct Tim {
    tokens: Tokens,
    at: SocketAddr,
}

impl Tim {
    #[expect(
        clippy::disallowed_methods,
        reason = "a stand-in that one test talks to"
    )]
    async fn start() -> Result<Self> {
        let tokens = Tokens::new(Mutex::new(Some(HashMap::new())));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let router = Router::new()
            .route("/jwt/custom-jwt-userinfo", post(userinfo))
            .with_state(tokens.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { tokens, at })
    }

    async fn knows(&self, token: &str, claims: Value) {
        let mut tokens = self.tokens.lock().await;
        tokens
            .get_or_insert_default()
            .insert(token.to_owned(), claims);
    }

    async fn revokes(&self, token: &str) {
        if let Some(tokens) = &mut *self.tokens.lock().await {
            tokens.remove(token);
        }
    }

    /// The chat of an end user, and an agent.
    async fn people(chat: &str) -> Result<(Self, Cluster)> {
        let tim = Self::start().await?;
        tim.knows("user", json!({"chatId": chat})).await;
        tim.knows("stranger", json!({"chatId": "another"})).await;
        let roles = json!({"authorities": ["ROLE_CUSTOMER_SUPPORT_AGENT"]});
        tim.knows("agent", roles).await;
        tim.knows("analyst", json!({"authorities": ["ROLE_ANALYST"]}))
            .await;
        let options = json!({
            "auth": "tim",
            "tim_url": format!("http://{}", tim.at),
            "tim_cache": "0s",
            "recheck": "1s",
            "heartbeat": "100ms",
        });
        Ok((tim, cluster(options).await?))
    }
}

/// An unknown token is answered with 200 and nothing, as TIM does.
async fn userinfo(
    State(tokens): State<Tokens>,
    headers: HeaderMap,
    name: String,
) -> Result<String, tidings_adapter::http::StatusCode> {
    let tokens = tokens.lock().await;
    let Some(tokens) = &*tokens else {
        return Err(tidings_adapter::http::StatusCode::BAD_GATEWAY);
    };
    let cookies = headers.get("cookie").and_then(|all| all.to_str().ok());
    let prefix = format!("{name}=");
    let token = cookies
        .into_iter()
        .flat_map(|all| all.split("; "))
        .find_map(|one| one.strip_prefix(&prefix));
    let claims = token.and_then(|token| tokens.get(token));
    Ok(claims.map_or(String::new(), Value::to_string))
}

const USER: &str = "chatJwt=user";
const AGENT: &str = "customJwtCookie=agent";

fn get(path: &str, cookie: &str) -> Request {
    let request = Request::get(path);
    if cookie.is_empty() {
        return request;
    }
    request.header("cookie", cookie)
}

/// A chat's record, without the endpoint that makes one.
const CHANNEL: &str = "8cecdc84-57fb-4f18-845e-5ca0be3d6223";

/// H01, H02, H03: nobody, somebody else's chat, the wrong role.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_listen() -> Result<()> {
    let (_tim, cluster) = Tim::people(CHANNEL).await?;
    let at = cluster.instance(0).address();
    let chat = |path: &str| format!("/sse/{path}?chatId={CHANNEL}");
    let agents = [
        chat("cs-get-new-messages"),
        chat("cs-get-messages-by-chat-id"),
        "/sse/cs-get-all-active-chats".to_owned(),
        "/sse/events?active=1".to_owned(),
    ];
    let users = [
        chat("get-new-messages"),
        chat("get-messages-by-chat-id"),
        format!("/sse/get-chat-by-id?id={CHANNEL}"),
    ];
    let either = [
        format!("/sse/notifications/{CHANNEL}"),
        format!("/sse/queue/{CHANNEL}"),
    ];
    let status = async |path: &str, cookie: &str| {
        let answer = send(at, &get(path, cookie)).await?;
        ensure!(
            answer.header("content-type") == "application/json",
            "{path}"
        );
        anyhow::Ok(answer.status)
    };
    for path in agents.iter().chain(&users).chain(&either) {
        for nobody in ["", "chatJwt=forged", "customJwtCookie=forged", "other=user"] {
            assert_eq!(status(path, nobody).await?, 401, "{path} {nobody}");
        }
    }
    for path in &agents {
        for other in [USER, "customJwtCookie=analyst"] {
            assert_eq!(status(path, other).await?, 403, "{path} {other}");
        }
    }
    for path in users.iter().chain(&either) {
        assert_eq!(status(path, "chatJwt=stranger").await?, 403, "{path}");
    }
    // There is no such chat: but one may ask.
    for path in &users {
        assert_eq!(status(path, USER).await?, 404, "{path}");
    }
    for path in &either {
        for who in [USER, AGENT] {
            Listener::ask(at, &get(path, who)).await?;
        }
    }
    for who in [USER, AGENT] {
        Listener::ask(at, &get("/sse/notifications/chat-list", who)).await?;
    }
    Listener::ask(at, &get("/sse/cs-get-all-active-chats", AGENT)).await?;
    // What is everybody's.
    Listener::ask(at, &get("/sse/estimated-waiting-time", "")).await?;
    Listener::ask(at, &get("/sse/cs-get-components-healthz-status", "")).await?;
    Ok(())
}

/// H04: a session that is revoked is told so, its stream ends, and its client is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_ends_its_streams() -> Result<()> {
    let (tim, cluster) = Tim::people(CHANNEL).await?;
    let at = cluster.instance(0).address();
    let paths = [
        format!("/sse/notifications/{CHANNEL}"),
        format!("/sse/queue/{CHANNEL}"),
        "/sse/events?list=1".to_owned(),
    ];
    let mut listeners = Vec::new();
    for path in &paths {
        listeners.push((path, Listener::ask(at, &get(path, USER)).await?));
    }
    let mut agent = Listener::ask(at, &get(&paths[0], AGENT)).await?;
    tim.revokes("user").await;
    for (path, listener) in &mut listeners {
        let heard = listener.until_end().await?;
        let last = heard.last().context("it is told")?;
        assert_eq!(last.event(), "session_expired", "{path}");
        assert_eq!(last.names(), ["event", "data"]);
        assert_eq!(send(at, &get(path, USER)).await?.status, 401, "{path}");
    }
    // Another's session is none of this.
    agent.until_ready().await?;
    agent.expect_silence().await
}

/// TIM is away: who is there stays, who comes is told when to come back, and nobody is refused.
#[tokio::test(flavor = "multi_thread")]
async fn tim_is_away() -> Result<()> {
    let (tim, cluster) = Tim::people(CHANNEL).await?;
    let at = cluster.instance(0).address();
    let path = format!("/sse/notifications/{CHANNEL}");
    let mut there = Listener::ask(at, &get(&path, USER)).await?;
    there.until_ready().await?;
    let known = tim.tokens.lock().await.take();
    let mut comes = Listener::ask(at, &get(&path, USER)).await?;
    let heard = comes.until_end().await?;
    ensure!(
        heard.len() == 1 && heard[0].get("retry").is_some(),
        "{heard:?}"
    );
    // Longer than it takes to be asked about.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        let Heard::Frame(frame) = there.hear().await? else {
            panic!("it was ended");
        };
        assert_eq!(frame.names(), [""], "a heartbeat: {frame:?}");
    }
    *tim.tokens.lock().await = known;
    let back = async {
        while Listener::ask(at, &get(&path, USER))
            .await?
            .until_ready()
            .await
            .is_err()
        {}
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, back)
        .await
        .context("TIM is back")?
}
