//! The command line's HTTP client: one connection per request, on hyper alone.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::request::Builder;
use http::{Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tidings_adapter::outside;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::ServerArgs;

/// A request's body.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How long a connection may take to stand. Across the world it takes a second.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long an answer may take to begin: more than the server itself tries.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Bytes of an answer that is read whole: ten thousand receipts are one megabyte.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A server to talk to.
#[derive(Clone)]
pub struct Client {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    authority: String,
    base: String,
    key: Option<HeaderValue>,
}

/// What can go wrong, and what it means for the exit code.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The command line does not fit together.
    #[error("{0}")]
    Usage(String),
    /// No server, or none that answers.
    #[error("cannot reach {server}: {why}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why.
        why: String,
    },
    /// The server says no.
    #[error("refused with {status}: {text}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The problem document, or whatever was answered.
        text: String,
    },
}

impl ClientError {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Refused { status, .. } if status.is_server_error() => 3,
            Self::Refused { .. } => 1,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.authority).finish()
    }
}

impl Client {
    /// A client for the server that the arguments name.
    ///
    /// # Errors
    /// [`ClientError::Usage`].
    pub fn new(args: &ServerArgs) -> Result<Self, ClientError> {
        let tls = || outside::tls(None).map_err(|error| ClientError::Usage(error.to_string()));
        let client = Self::at(&args.url, tls)?;
        let key = args
            .key
            .as_ref()
            .map(|key| {
                let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                    .map_err(|_| ClientError::Usage("the key is no header value".to_owned()))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        Ok(Self { key, ..client })
    }

    /// A client without a key for the server at this address; `tls` is for https.
    ///
    /// # Errors
    /// [`ClientError::Usage`].
    pub fn at(
        url: &str,
        tls: impl FnOnce() -> Result<TlsConnector, ClientError>,
    ) -> Result<Self, ClientError> {
        let usage = |why: &str| ClientError::Usage(format!("--url {url}: {why}"));
        let uri: Uri = url.parse().map_err(|_| usage("is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(tls()?),
            _ => return Err(usage("is neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| usage("names no host"))?;
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if tls.is_some() { 443 } else { 80 }),
            tls,
            authority: authority.as_str().to_owned(),
            base: uri.path().trim_end_matches('/').to_owned(),
            key: None,
        })
    }

    /// Sends a request. A status other than 2xx is an error, with what the server says.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(
        &self,
        request: Builder,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = self.ask(request, path, body).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(ClientError::Refused {
            status: response.status(),
            text: self.text(response).await.unwrap_or_default(),
        })
    }

    /// Sends a request; any status is an answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(
        &self,
        request: Builder,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable {
            server: self.authority.clone(),
            why,
        };
        let mut request = request
            .uri(format!("{}{path}", self.base))
            .header(HOST, &self.authority)
            .header("user-agent", concat!("tidings/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        let request = request
            .body(body)
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        let stream = tokio::time::timeout(CONNECT_TIME, self.connect())
            .await
            .map_err(|_| unreachable(format!("no connection within {CONNECT_TIME:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        tokio::spawn(connection);
        tokio::time::timeout(ANSWER_TIME, sender.send_request(request))
            .await
            .map_err(|_| unreachable(format!("no answer within {ANSWER_TIME:?}")))?
            .map_err(|error| unreachable(error.to_string()))
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }

    /// The whole text of an answer.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when it breaks off.
    pub async fn text(&self, response: Response<Incoming>) -> Result<String, ClientError> {
        let bytes = self.bytes(response).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole body of an answer.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when it breaks off.
    pub async fn bytes(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes = body
            .collect()
            .await
            .map_err(|error| ClientError::Unreachable {
                server: self.authority.clone(),
                why: error.to_string(),
            })?;
        Ok(bytes.to_bytes())
    }

    /// Whom it talks to.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.authority
    }
}

/// A connection, plain or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A body of bytes at hand.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
