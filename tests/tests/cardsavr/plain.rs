//! A client of the unsigned mode in clear, for when there must be many: one connection, one request after the other.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// A client of the unsigned mode, on one connection.
pub(crate) struct Plain {
    sender: SendRequest<Full<Bytes>>,
    pub(crate) token: String,
}

impl Plain {
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            token: token.to_owned(),
        })
    }

    pub(crate) async fn log_in(address: SocketAddr, username: &str) -> Result<Self> {
        let mut plain = Self::connect(address, "").await?;
        let body = json!({"username": username, "password": format!("pw-{username}")});
        let login = plain
            .call("POST", "/session/login", &[], Some(body))
            .await?;
        let token = login["session_token"].as_str().context("a token")?;
        plain.token = token.to_owned();
        Ok(plain)
    }

    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "hub");
        if !self.token.is_empty() {
            request = request.header("x-cardsavr-session-jwt", &self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(String::new, |body| body.to_string());
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.sender.ready().await?;
        let answer = self
            .sender
            .send_request(request.body(Full::new(body.into()))?);
        let (head, body) = answer.await?.into_parts();
        let body = body.collect().await?.to_bytes();
        ensure!(
            head.status.is_success(),
            "{method} {path}: {} {body:?}",
            head.status
        );
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("{body:?}"))
    }

    pub(crate) async fn create(&mut self) -> Result<u64> {
        let job = json!({"cardholder": {"cuid": "many"}, "account": {"merchant_site_id": 1}});
        let job = self
            .call("POST", "/place_card_on_single_site_jobs", &[], Some(job))
            .await?;
        job["id"].as_u64().context("an id")
    }

    /// Says a status that is known by its number.
    pub(crate) async fn say(&mut self, job: u64, number: usize, message: &str) -> Result<()> {
        let path = format!("/place_card_on_single_site_jobs/{job}");
        let status = json!({"status": format!("STEP_{number}"), "percent_complete": 10, "status_message": message});
        self.call("PUT", &path, &[], Some(status)).await.map(drop)
    }

    pub(crate) async fn register(&mut self, job: u64) -> Result<String> {
        let path =
            format!("/messages/place_card_on_single_site_jobs/{job}/broadcasts/registrations");
        let key = self
            .call("POST", &path, &[], Some(json!({ "job_id": job })))
            .await?;
        Ok(key["access_key"].as_str().context("a key")?.to_owned())
    }

    /// The numbers of the statuses that a key is given.
    pub(crate) async fn poll(&mut self, job: u64, key: &str) -> Result<Vec<usize>> {
        let path = format!("/messages/place_card_on_single_site_jobs/{job}/broadcasts");
        let headers = [("cardsavr-messaging-access-key", key)];
        let polled = self.call("GET", &path, &headers, None).await?;
        let items = polled.as_array().with_context(|| polled.to_string())?;
        items.iter().map(number).collect()
    }
}

fn number(item: &Value) -> Result<usize> {
    let status = item["message"]["status"].as_str();
    let number = status.and_then(|status| status.strip_prefix("STEP_")?.parse().ok());
    number.with_context(|| item.to_string())
}
