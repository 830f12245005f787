//! Many streams of one page: over HTTP/2 they share a connection, where HTTP/1.1 stops at six.

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::{Instance, http};

use crate::client::Client;
use crate::cluster::said;

/// Twice what a browser opens to one origin over HTTP/1.1.
const STREAMS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn twelve_streams_and_a_fetch_fit_one_origin_over_http2() -> Result<()> {
    let (origin, plain, secure) = (PortLease::take()?, PortLease::take()?, PortLease::take()?);
    let redis = RedisServer::start().await?;
    let url = redis.url();
    let config = |mount: &PortLease, tls: &str| {
        format!(
            "[adapters.burokratt]\nauth = \"off\"\norigins = [\"http://{}\"]\n\
             [adapters.burokratt.mount]\nlisten = \"{}\"\n{tls}",
            origin.address(),
            mount.address()
        )
    };
    // A second instance without TLS, for the test's own posts.
    let _plain = Instance::start(&["--redis", &url], &config(&plain, "")).await?;
    let _secure = Instance::start(
        &["--redis", &url],
        &config(&secure, "tls_self_signed = true\n"),
    )
    .await?;
    let mut page = Client::chromium(origin).await?;

    let headers = [("content-type", "application/json")];
    let begin = json!({"message": {"content": "hello", "authorTimestamp": "2026-11-21T10:00:00Z", "authorRole": "end-user"}});
    let chat = http::send(
        plain.address(),
        "POST",
        "/init-chat",
        &headers,
        begin.to_string(),
    )
    .await?;
    let chat = chat.json()?["data"]["get_inserted_chat"]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let hub = format!("https://{}", secure.address());
    for at in 0..STREAMS {
        let name = format!("stream {at}");
        page.open(&name, &format!("{hub}/sse/get-new-messages?chatId={chat}"))
            .await?;
    }
    for at in 0..STREAMS {
        page.ready(&format!("stream {at}")).await?;
    }
    page.tell(json!({
        "do": "request", "as": "post", "url": format!("{hub}/post-message"), "method": "POST",
        "headers": {"content-type": "application/json"}, "body": said(&chat, "thirteenth").to_string(),
    }))
    .await?;
    let answer = page.about("answer", "post").await?;
    ensure!(answer["status"] == 200, "{answer}");
    for at in 0..STREAMS {
        page.hears(&format!("stream {at}"), "thirteenth").await?;
    }
    Ok(())
}
