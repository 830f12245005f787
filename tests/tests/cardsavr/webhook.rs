//! The end of a job is posted, signed, until somebody takes it: once, however many instances there are.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tidings_tests::SOON;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::cluster::{APP, Cluster, KEY};
use crate::messages::say;
use crate::sdk::Sdk;

/// A post as it came.
struct Post {
    headers: Map<String, Value>,
    body: String,
}

/// Takes one request and answers it with a status.
async fn receive(listener: &TcpListener, status: &str) -> Result<Post> {
    let (mut socket, _) = listener.accept().await?;
    let post = read(&mut socket).await?;
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    socket.write_all(answer.as_bytes()).await?;
    Ok(post)
}

async fn read(socket: &mut TcpStream) -> Result<Post> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = socket.read(&mut piece).await?;
        ensure!(length > 0, "cut off: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let lines = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        let headers: Map<String, Value> = lines
            .map(|(name, value)| (name.to_lowercase(), value.into()))
            .collect();
        let length = headers.get("content-length").and_then(Value::as_str);
        let length: usize = length.context("a length")?.parse()?;
        if body.len() >= length {
            ensure!(head.starts_with("POST /ends?of=jobs "), "{head}");
            let body = body.to_owned();
            return Ok(Post { headers, body });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_end_is_posted_until_somebody_takes_it() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/ends?of=jobs", listener.local_addr()?);
    let cluster = Cluster::start(&format!("webhook_url = {url:?}")).await?;
    let mut sdk = Sdk::start("3.4").await?;
    for who in ["agent1", "browser1"] {
        cluster.log_in(&mut sdk, who).await?;
    }
    let mut job = cluster.job(&cluster.cuid(), "good_email", "good_password");
    job["custom_data"] = json!({"order": 7});
    let made = sdk
        .body("agent1", "createSingleSiteJob", json!([job]))
        .await?;
    let id = made["id"].as_u64().context("an id")?;
    say(
        &mut sdk,
        id,
        &[
            json!({"status": "UPDATING"}),
            json!({"status": "SUCCESSFUL"}),
        ],
    )
    .await?;

    let refused = timeout(SOON, receive(&listener, "500 Internal Server Error")).await??;
    // Again after ten seconds, and not sooner by whoever was slower to hear of it.
    let began = Instant::now();
    let taken = timeout(SOON, receive(&listener, "200 OK")).await??;
    let pause = began.elapsed();
    ensure!(
        pause > Duration::from_secs(9),
        "tried again after {pause:?}"
    );
    ensure!(
        refused.body == taken.body,
        "{} {}",
        refused.body,
        taken.body
    );
    for post in [&refused, &taken] {
        let verify = json!({"do": "verify", "url": url, "app": APP, "key": KEY,
            "headers": post.headers, "body": post.body});
        sdk.done(verify).await.with_context(|| cluster.printed())?;
    }
    let body: Value = serde_json::from_str(&taken.body)?;
    let one = &body["jobs"][0];
    ensure!(
        one["job_id"] == id && one["termination_type"] == "BILLABLE",
        "{body}"
    );
    ensure!(
        one["job_status"] == "SUCCESSFUL" && one["completed_on"].is_string(),
        "{body}"
    );
    ensure!(one["custom_data"]["order"] == 7, "{body}");
    ensure!(
        body["cuid"] == job["cardholder"]["cuid"] && body["trace"]["key"] == "agent1",
        "{body}"
    );
    // Nobody else's turn comes after that.
    let more = timeout(Duration::from_secs(2), receive(&listener, "200 OK")).await;
    ensure!(more.is_err(), "posted again");
    let read = sdk.body("agent1", "getSingleSiteJobs", json!([id])).await?;
    ensure!(read["notification_sent"] == true, "{read}");
    Ok(())
}
