//! Cookies that TIM vouches for, with a stand-in of TIM: contract §6, H01–H04, with npm's `eventsource`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_testkit::servers::PortLease;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::cluster::{Cluster, said};
use tidings_tests::http;

/// TIM: knows cookies and what they say. An unknown one is answered with nothing, as TIM does.
struct Tim {
    address: SocketAddr,
    known: Arc<Mutex<BTreeMap<String, String>>>,
    task: JoinHandle<()>,
}

impl Tim {
    async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0".parse()?).await
    }

    async fn start_at(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let known: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let shared = known.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, shared.clone()));
            }
        });
        Ok(Self {
            address,
            known,
            task,
        })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this cookie says this.
    fn vouch(&self, cookie: &str, claims: &serde_json::Value) {
        self.known().insert(cookie.to_owned(), claims.to_string());
    }

    fn forget(&self, cookie: &str) {
        self.known().remove(cookie);
    }
}

impl Drop for Tim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request a connection: the body names the cookie, the header has it. For a new chat it makes one.
async fn answer(stream: TcpStream, known: Arc<Mutex<BTreeMap<String, String>>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut cookie, mut length) = (String::new(), String::new(), 0);
    let mut makes = false;
    while stream.read_line(&mut line).await? > 2 {
        makes |= line.contains("/jwt/custom-jwt-generate");
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "cookie" => cookie = value.trim().to_owned(),
            "content-length" => length = value.trim().parse()?,
            _ => {}
        }
        line.clear();
    }
    let mut name = vec![0; length];
    stream.read_exact(&mut name).await?;
    let name = String::from_utf8(name)?;
    let asked = cookie
        .split("; ")
        .find(|one| one.starts_with(&format!("{name}=")));
    let body = {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        asked.and_then(|cookie| known.get(cookie).cloned())
    };
    let body = body.unwrap_or_default();
    let cookie = if makes {
        "set-cookie: chatJwt=made; HttpOnly\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n{cookie}"
    );
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    Ok(stream.get_mut().write_all(answer.as_bytes()).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn tim_says_who_may_and_an_open_stream_is_asked_about_again() -> Result<()> {
    let tim = Tim::start().await?;
    let options = format!(
        "auth = \"tim\"\ntim_url = \"http://{}\"\ntim_cache = \"100ms\"\nrecheck = \"1s\"\nretry = \"200ms\"\n\
         backend_open = true",
        tim.address
    );
    let cluster = Cluster::with(&options).await?;
    let chat = cluster.chat(0).await?;
    let (user, other, agent) = ("chatJwt=user", "chatJwt=other", "customJwtCookie=agent");
    tim.vouch(user, &json!({"chatId": chat}));
    tim.vouch(
        other,
        &json!({"chatId": "0b5dc7a4-9c0f-4a9b-8a37-6f8e0c1d2e3f"}),
    );
    tim.vouch(agent, &json!({"idCode": "EE1", "displayName": "Mari", "authorities": ["ROLE_CUSTOMER_SUPPORT_AGENT"]}));
    tim.vouch(
        "customJwtCookie=clerk",
        &json!({"idCode": "EE2", "authorities": ["ROLE_ANALYST"]}),
    );

    let user_stream = format!("{}/sse/get-new-messages?chatId={chat}", cluster.hub(0));
    let agent_stream = format!("{}/sse/cs-get-new-messages?chatId={chat}", cluster.hub(1));
    for (cookie, url, status) in [
        ("", &user_stream, 401),
        ("chatJwt=forged", &user_stream, 401),
        (other, &user_stream, 403),
        (user, &agent_stream, 403),
        ("customJwtCookie=clerk", &agent_stream, 403),
    ] {
        let mut client = Client::with_cookie(cookie)?;
        client.open("refused", url).await?;
        let error = client.about("error", "refused").await?;
        let fits = error["closed"] == true && error["status"] == status;
        ensure!(fits, "{cookie:?} at {url}: {error}");
    }

    let mut talks = Client::with_cookie(user)?;
    let mut hears = Client::with_cookie(agent)?;
    talks.open("user", &user_stream).await?;
    hears.open("agent", &agent_stream).await?;
    talks.ready("user").await?;
    hears.ready("agent").await?;
    let headers = [("content-type", "application/json"), ("cookie", user)];
    let body = said(&chat, "may I?").to_string();
    let posted = http::send(cluster.address(1), "POST", "/post-message", &headers, body).await?;
    ensure!(posted.status == 200, "{:?}", posted.body);
    talks.hears("user", "may I?").await?;
    hears.hears("agent", "may I?").await?;

    tim.forget(user);
    talks.event("user", "session_expired").await?;
    let closed = talks.until("error", |line| line["closed"] == true);
    ensure!(closed.await?["status"] == 401);
    ensure!(hears.count("error") == 0, "{:?}", hears.last());
    Ok(())
}

/// A dead instance takes nothing of it along: the stream is asked about again where it went.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_its_instance_dies_is_refused_by_the_next() -> Result<()> {
    let tim = Tim::start().await?;
    let options = format!(
        "auth = \"tim\"\ntim_url = \"http://{}\"\ntim_cache = \"100ms\"\nrecheck = \"1s\"\nretry = \"200ms\"",
        tim.address
    );
    let mut cluster = Cluster::with(&options).await?;
    let chat = cluster.chat(0).await?;
    let balancer =
        tidings_tests::Balancer::start(vec![cluster.address(0), cluster.address(1)]).await?;
    tim.vouch("chatJwt=user", &json!({"chatId": chat}));
    let mut client = Client::with_cookie("chatJwt=user")?;
    client
        .open(
            "user",
            &balancer.url(&format!("/sse/get-new-messages?chatId={chat}")),
        )
        .await?;
    client.ready("user").await?;
    cluster.instances[0].kill().await?;
    client.about("error", "user").await?;
    client
        .ready("user")
        .await
        .context("on the other instance")?;
    tim.forget("chatJwt=user");
    client.event("user", "session_expired").await?;
    client.until("error", |line| line["closed"] == true).await?;
    Ok(())
}

/// TIM cannot be reached: nobody is refused for good. Whoever comes is told when to come back, and does; who is there
/// stays; what is posted is answered with 503.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_tim_is_away_comes_back_by_himself() -> Result<()> {
    let place = PortLease::take()?;
    let tim = Tim::start_at(place.address()).await?;
    let options = format!(
        "auth = \"tim\"\ntim_url = \"http://{}\"\ntim_cache = \"0s\"\nrecheck = \"1s\"\nretry = \"200ms\"",
        place.address()
    );
    let cluster = Cluster::with(&options).await?;
    let chat = cluster.chat(0).await?;
    let known = json!({"chatId": chat});
    tim.vouch("chatJwt=user", &known);
    let url = format!("{}/sse/get-new-messages?chatId={chat}", cluster.hub(1));
    let mut there = Client::with_cookie("chatJwt=user")?;
    there.open("there", &url).await?;
    there.ready("there").await?;
    drop(tim);

    let mut comes = Client::with_cookie("chatJwt=user")?;
    comes.open("comes", &url).await?;
    for _ in 0..3 {
        let error = comes.about("error", "comes").await?;
        ensure!(error["closed"] == false, "{error}");
    }
    let headers = [
        ("content-type", "application/json"),
        ("cookie", "chatJwt=user"),
    ];
    let post = async |text: &str| {
        let body = said(&chat, text).to_string();
        http::send(cluster.address(0), "POST", "/post-message", &headers, body).await
    };
    let answer = post("unheard").await?;
    ensure!(answer.status == 503, "{} {:?}", answer.status, answer.body);
    ensure!(there.count("error") == 0, "{:?}", there.last());

    let tim = Tim::start_at(place.address()).await?;
    tim.vouch("chatJwt=user", &known);
    comes.ready("comes").await?;
    let answer = post("heard").await?;
    ensure!(answer.status == 200, "{} {:?}", answer.status, answer.body);
    comes.hears("comes", "heard").await?;
    there.hears("there", "heard").await?;
    Ok(())
}
