//! The virtual browser's way to the hub: one signed and encrypted request after the other, each over a
//! connection of its own as the SDK has it, in a session that is opened again when it is over.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tidings_adapter::outside;
use tidings_adapter_cardsavr::{Role, client as protocol};
use tokio::sync::RwLock;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::site::{Login, Request as Asked, Status};
use crate::cli::client::{Client, ClientError, whole};

/// Jobs of one page of the list: those that wait, when more come than run.
const PAGE: usize = 100;

/// Who asks.
pub(super) struct Credentials {
    pub(super) app: String,
    pub(super) app_key: String,
    pub(super) username: String,
    pub(super) password: String,
}

/// Whom to trust.
pub(super) enum Trust<'a> {
    /// This machine's authorities, and those in a file.
    Roots(Option<&'a Path>),
    /// Anybody.
    All,
}

/// The hub.
pub(super) struct Hub {
    http: Client,
    credentials: Credentials,
    /// Read by every request, written by a login.
    protocol: RwLock<protocol::Client>,
}

/// A job as the hub shows it.
pub(super) struct Seen {
    pub(super) status: String,
    pub(super) termination: Option<String>,
    pub(super) login: Option<Login>,
}

impl Hub {
    /// Logs in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn enter(
        url: &str,
        trust: Trust<'_>,
        credentials: Credentials,
    ) -> Result<Self, ClientError> {
        let tls = || match trust {
            Trust::Roots(file) => {
                outside::tls(file).map_err(|error| ClientError::Usage(error.to_string()))
            }
            Trust::All => anybody(),
        };
        let http = Client::at(url, tls)?;
        let protocol = protocol::Client::new(&credentials.app, &credentials.app_key)
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        let hub = Self {
            http,
            credentials,
            protocol: RwLock::new(protocol),
        };
        hub.log_in(None).await?;
        Ok(hub)
    }

    /// Logs in, unless somebody else has done it since the token was `old`.
    async fn log_in(&self, old: Option<&str>) -> Result<(), ClientError> {
        let mut protocol = self.protocol.write().await;
        if protocol.token() != old {
            return Ok(());
        }
        let Credentials {
            username, password, ..
        } = &self.credentials;
        let mut next = protocol.clone();
        let (prepared, login) = next
            .login(username, password, now_ms())
            .map_err(|error| self.told(error))?;
        let (status, headers, body) = self.exchange(prepared).await?;
        let reply = next
            .logged_in(&login, status, &headers, &body)
            .map_err(|error| self.told(error))?;
        if reply.body["user"]["role"] != Role::VirtualBrowser.as_str() {
            let why = format!("{username} is no virtual_browser, and may not run jobs");
            return Err(ClientError::Usage(why));
        }
        *protocol = next;
        Ok(())
    }

    /// One call; a session that is over is opened again, once.
    async fn call(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Value, ClientError> {
        let mut again = true;
        loop {
            let protocol = self.protocol.read().await.clone();
            let prepared = protocol
                .prepare(method.clone(), target, body, headers, now_ms())
                .map_err(|error| self.told(error))?;
            let (status, answered, bytes) = self.exchange(prepared).await?;
            match protocol.read(target, status, &answered, &bytes) {
                Ok(reply) => return Ok(reply.body),
                // Nothing was done: who asks was not known.
                Err(protocol::ClientError::Refused { status, .. })
                    if status == StatusCode::UNAUTHORIZED && again =>
                {
                    again = false;
                    self.log_in(protocol.token()).await?;
                }
                Err(error) => return Err(self.told(error)),
            }
        }
    }

    async fn exchange(
        &self,
        prepared: protocol::Prepared,
    ) -> Result<(StatusCode, http::HeaderMap, bytes::Bytes), ClientError> {
        let mut request = Request::builder().method(prepared.method);
        if let Some(headers) = request.headers_mut() {
            headers.extend(prepared.headers);
        }
        let body = whole(prepared.body);
        let response = self.http.ask(request, &prepared.target, body).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok((status, headers, self.http.bytes(response).await?))
    }

    fn told(&self, error: protocol::ClientError) -> ClientError {
        match error {
            protocol::ClientError::Unfit(why) => ClientError::Usage(why.to_owned()),
            protocol::ClientError::Refused { status, body } => ClientError::Refused {
                status,
                text: body["message"]
                    .as_str()
                    .map_or_else(|| body.to_string(), str::to_owned),
            },
            other => ClientError::Unreachable {
                server: self.http.server().to_owned(),
                why: other.to_string(),
            },
        }
    }

    /// Jobs that nobody has begun, the oldest first.
    pub(super) async fn requested(&self) -> Result<Vec<u64>, ClientError> {
        let paging = json!({"page": 1, "page_length": PAGE}).to_string();
        let target = "/place_card_on_single_site_jobs?status=REQUESTED";
        let headers = [("x-cardsavr-paging", paging.as_str())];
        let jobs = self.call(Method::GET, target, None, &headers).await?;
        let ids = jobs.as_array().into_iter().flatten();
        Ok(ids.filter_map(|job| job["id"].as_u64()).collect())
    }

    /// How a job is, and the login in its safe.
    pub(super) async fn look(&self, job: u64) -> Result<Seen, ClientError> {
        let headers = [("x-cardsavr-hydration", r#"["account"]"#)];
        let target = format!("/place_card_on_single_site_jobs/{job}");
        let seen = self.call(Method::GET, &target, None, &headers).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let link = &seen["account"]["account_link"];
        let login = match (text(&link["username"]), text(&link["password"])) {
            (Some(username), Some(password)) => Some(Login { username, password }),
            _ => None,
        };
        Ok(Seen {
            status: text(&seen["status"]).unwrap_or_default(),
            termination: text(&seen["termination_type"]),
            login,
        })
    }

    pub(super) async fn say(&self, job: u64, status: &Status) -> Result<(), ClientError> {
        let target = format!("/place_card_on_single_site_jobs/{job}");
        let body = json!(status);
        let put = self.call(Method::PUT, &target, Some(&body), &[]);
        put.await.map(drop)
    }

    pub(super) async fn ask(&self, job: u64, request: &Asked) -> Result<(), ClientError> {
        let target = format!("/messages/place_card_on_single_site_jobs/{job}/credential_requests");
        let mut body = json!(request);
        body["jobId"] = job.into();
        let post = self.call(Method::POST, &target, Some(&body), &[]);
        post.await.map(drop)
    }

    /// The answer to what was asked, if there is one: its `message` and its `account_link`.
    pub(super) async fn answer(
        &self,
        job: u64,
    ) -> Result<Option<(Value, Option<Value>)>, ClientError> {
        let target = format!("/messages/place_card_on_single_site_jobs/{job}/credential_responses");
        let mut answer = self.call(Method::GET, &target, None, &[]).await?;
        if answer.is_null() {
            return Ok(None);
        }
        let link = Some(answer["account_link"].take()).filter(Value::is_object);
        Ok(Some((answer["message"].take(), link)))
    }

    /// Ends the session.
    pub(super) async fn leave(&self) -> Result<(), ClientError> {
        let end = self.call(Method::GET, "/session/end", None, &[]);
        end.await.map(drop)
    }
}

/// What nonces are made of.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// TLS that encrypts for whoever is there.
fn anybody() -> Result<TlsConnector, ClientError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Usage(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate, but not a broken handshake.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
