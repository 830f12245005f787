//! What is refused before anybody is asked who he is, and what pages of the web see: checks 28 and 29.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::http::Method;
use tidings_adapter_cardsavr::client::Client;
use tidings_testkit::adapter_exam::wire::{Request, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{APP, Caller, KEY, SOON, Turns, cluster, is_documented, refusal};

#[tokio::test]
async fn paths_methods_and_bodies() -> Result<()> {
    let cluster = cluster(|options| options.body_bytes = 4096).await?;
    let turns = Turns::of(&cluster);
    let large = "x".repeat(5000);
    for (request, status) in [
        (Request::get("/"), 404),
        (Request::get("/session"), 404),
        (Request::get("/messages/cardholders/x"), 404),
        (Request::get("/messages/cardholders/-1"), 404),
        (Request::get("/%2e%2e/%00?%zz"), 404),
        (Request::get("/session/login"), 405),
        (Request::new("DELETE", "/session/refresh"), 405),
        (Request::new("HEAD", "/session/end"), 405),
        (Request::new("BREW", "/session/refresh"), 405),
        (Request::post("/session/login", large.clone()), 413),
        (Request::post("/session/login", "{}"), 401),
        (Request::get("/session/start"), 401),
        (Request::get("/session/refresh"), 401),
        (Request::get("/session/refresh/?"), 401),
    ] {
        let head = request.method == "HEAD";
        let answer = turns.send(&request).await?;
        ensure!(
            answer.status == status,
            "{} {}: {}",
            request.method,
            request.target,
            answer.status
        );
        if !head {
            let body: Value = serde_json::from_slice(&answer.body)?;
            ensure!(is_documented(&body), "{body}");
        }
        if status == 405 {
            ensure!(!answer.header("allow").is_empty());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_body_of_unknown_length_has_its_bound_too() -> Result<()> {
    let cluster = cluster(|options| options.body_bytes = 4096).await?;
    let mut stream = connect(cluster.instance(0).address()).await?;
    let head = "POST /session/login HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    // 5,000 bytes of a chunk that is said to be longer, and no end.
    stream
        .write_all(format!("2000\r\n{}", "x".repeat(5000)).as_bytes())
        .await?;
    let mut answer = [0; 12];
    tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await??;
    ensure!(answer == *b"HTTP/1.1 413", "{}", answer.escape_ascii());
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused_and_the_session_lives_on() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let caller = Caller::new(&turns, "agent1").await?;
    // A text is sealed as it is in a header, too: here it becomes a body that is no JSON.
    let sealed = caller.client.seal("{\"broken\":")?;
    let mut client = ByHand::new(&caller);
    for (body, status) in [
        (format!("{{\"encrypted_body\":\"{sealed}\"}}"), 400),
        ("{}".to_owned(), 400),
        ("{".to_owned(), 400),
        ("{\"encrypted_body\":\"AAAA$AAAA\"}".to_owned(), 400),
        ("\u{0}\u{1}".to_owned(), 400),
        // It was sealed with another key.
        (
            format!(
                "{{\"encrypted_body\":\"{}\"}}",
                Client::new(APP, KEY)?.with_gcm().seal("{}")?
            ),
            401,
        ),
    ] {
        let (found, told) = client.put(&body).await?;
        ensure!(
            found == status && is_documented(&told),
            "{body}: {found} {told}"
        );
    }
    ensure!(caller.refresh().await?.is_ok());
    Ok(())
}

/// Signs bodies that no client would make.
struct ByHand<'a>(&'a Caller<'a>);

impl<'a> ByHand<'a> {
    fn new(caller: &'a Caller<'a>) -> Self {
        Self(caller)
    }

    async fn put(&mut self, body: &str) -> Result<(u16, Value)> {
        let target = "/session/refresh";
        let prepared = self.0.client.prepare_raw(
            Method::PUT,
            target,
            body.to_owned().into(),
            &[],
            crate::common::now_ms(),
        )?;
        let answer = self.0.raw(&prepared).await?;
        refusal(self.0.read(target, &answer))
    }
}

#[tokio::test]
async fn hostile_headers_do_nothing() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let caller = Caller::new(&turns, "agent1").await?;
    let long = "x".repeat(8000);
    for (name, value) in [
        ("x-cardsavr-trace", "{\"key\": broken"),
        ("x-cardsavr-trace", long.as_str()),
        ("trace", "[]"),
        ("x-cardsavr-hydration", "not json"),
        ("x-cardsavr-paging", "[[[["),
        ("x-cardsavr-cardholder-safe-key", "AAAA"),
        (
            "x-cardsavr-cardholder-safe-key",
            "9oEP6qALzVxk2F3FPmkMhw==$AwMDAwMDAwMDAwMDAwMDAw==",
        ),
        ("x-cardsavr-client-application", "\"; drop"),
        ("x-forwarded-for", "::::"),
        ("content-type", "text/xml"),
        ("cookie", ";;;cardsavr_session=x"),
    ] {
        let mut prepared = caller.prepare(Method::GET, "/session/refresh", None);
        prepared.headers.insert(
            tidings_adapter::http::HeaderName::from_bytes(name.as_bytes())?,
            value.parse()?,
        );
        let answer = caller.raw(&prepared).await?;
        ensure!(
            answer.status == 200,
            "{name}: {} {}",
            answer.status,
            answer.text()
        );
    }
    for one in cluster.instances() {
        ensure!(one.panics().is_empty(), "{:?}", one.panics());
    }
    Ok(())
}

#[tokio::test]
async fn a_session_asks_only_so_often() -> Result<()> {
    let cluster = cluster(|options| options.session_requests = 5).await?;
    let turns = Turns::of(&cluster);
    let caller = Caller::new(&turns, "agent1").await?;
    let other = Caller::new(&turns, "agent1").await?;
    let same = caller.prepare(Method::GET, "/session/refresh", None);
    let answers = futures_util::future::join_all((0..60).map(|_| caller.raw(&same))).await;
    let mut refused = 0;
    for answer in answers {
        let answer = answer?;
        if answer.status == 429 {
            let (status, body) = refusal(caller.read("/session/refresh", &answer))?;
            ensure!(status == 429 && is_documented(&body));
            ensure!(answer.header("retry-after") == "1");
            refused += 1;
        }
    }
    ensure!(refused > 0);
    ensure!(
        other.refresh().await?.is_ok(),
        "another session is not kept waiting"
    );
    Ok(())
}

#[tokio::test]
async fn pages_of_the_web() -> Result<()> {
    let page = "https://page.test";
    let cluster = cluster(|options| options.origins = vec![page.to_owned()]).await?;
    let turns = Turns::of(&cluster);
    let names = "content-type,x-cardsavr-authorization,x-cardsavr-client-application,x-cardsavr-nonce,\
                 x-cardsavr-session-jwt,x-cardsavr-signature,x-cardsavr-trace,x-other";
    let preflight = |origin: &str, path: &str| {
        Request::new("OPTIONS", path)
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", names)
    };
    for path in ["/session/login", "/messages/cardholders/1", "/nowhere"] {
        let answer = turns.send(&preflight(page, path)).await?;
        ensure!(answer.status == 204 && answer.body.is_empty());
        ensure!(answer.header("access-control-allow-origin") == page);
        let allowed = answer.header("access-control-allow-headers");
        ensure!(allowed.contains("x-cardsavr-signature") && allowed.contains("content-type"));
        ensure!(!allowed.contains("x-other"));
        ensure!(
            answer
                .header("access-control-allow-methods")
                .contains("PUT")
        );
        let stranger = turns.send(&preflight("https://other.test", path)).await?;
        ensure!(stranger.header("access-control-allow-origin").is_empty());
    }
    // Refusals can be read by scripts, too.
    for path in ["/session/refresh", "/nowhere"] {
        let answer = turns
            .send(&Request::get(path).header("origin", page))
            .await?;
        ensure!(answer.status >= 400);
        ensure!(answer.header("access-control-allow-origin") == page);
        let exposed = answer.header("access-control-expose-headers");
        for name in ["authorization", "nonce", "signature", "paging"] {
            ensure!(exposed.contains(&format!("x-cardsavr-{name}")), "{exposed}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_log_that_is_away_is_said_so() -> Result<()> {
    let cluster = cluster(|_| {}).await?;
    let turns = Turns::of(&cluster);
    let mut caller = Caller::new(&turns, "agent1").await?;
    cluster.fault(tidings_testkit::adapter_exam::Fault::Away);
    let (status, body) = refusal(caller.login("agent1", "pw-agent1").await?)?;
    ensure!(status == 503 && is_documented(&body), "{status} {body}");
    ensure!(!body.to_string().contains("log"), "{body}");
    cluster.fault(tidings_testkit::adapter_exam::Fault::None);
    ensure!(caller.login("agent1", "pw-agent1").await?.is_ok());
    ensure!(json!(caller.client.user_id()) == 11);
    Ok(())
}
