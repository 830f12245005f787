//! Calls to other servers: one bounded HTTP exchange after the other, over http or https.
//!
//! For what a hub says to the world by itself: fetching an issuer's keys, webhooks, commands that
//! belong elsewhere. The other side is not trusted: it has a time to answer, its answer has a size,
//! and where it redirects to is not followed (a redirect is an answer like any other), because the
//! one who configured the address did not choose that one. Connections are kept and used again.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The bounds of every exchange, and who is trusted.
#[derive(Debug, Clone)]
pub struct OutsideOptions {
    /// For the whole exchange: from looking up the name to the last byte of the answer. Slow
    /// services answer within seconds; who waits longer holds what waits for it.
    pub timeout: Duration,
    /// Bytes of an answer's body. Key sets are a few KiB, answers to webhooks are looked at for
    /// their status.
    pub answer_bytes_max: usize,
    /// A PEM file with authorities to trust besides those of this machine.
    pub roots_file: Option<PathBuf>,
}

impl Default for OutsideOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            answer_bytes_max: 1024 * 1024,
            roots_file: None,
        }
    }
}

/// How long a connection that nobody uses is kept: below the minute after which most servers and
/// balancers drop theirs, so that a call rarely meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(45);

/// Idle connections kept to one host; more are opened when they are needed, and closed after.
const IDLE_PER_HOST: usize = 8;

/// A client for other servers. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Outside {
    client: Client<Connector, Full<Bytes>>,
    options: OutsideOptions,
}

/// One request.
#[derive(Clone)]
pub struct Call {
    /// GET, POST, …
    pub method: Method,
    /// Absolute: `https://host/path`.
    pub url: Uri,
    /// Besides `host` and `user-agent`, which are set here.
    pub headers: HeaderMap,
    /// May be empty.
    pub body: Bytes,
}

/// What came back: any status, also a redirect or a failure.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

/// Why there is no answer. Messages name hosts, never paths or queries, which may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// The address cannot be called: fix the configuration.
    #[error("not an http:// or https:// address with a host")]
    Address,
    /// The trusted authorities cannot be read: fix the machine or the configuration.
    #[error("no authority to trust: {0}")]
    Roots(String),
    /// No connection, or it broke: try again later.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// Whom.
        host: String,
        /// Why.
        why: String,
    },
    /// Nothing, or not all, within the time. Whether the other side acted is not known.
    #[error("{host} did not answer within {within:?}")]
    TimedOut {
        /// Who.
        host: String,
        /// The time.
        within: Duration,
    },
    /// The answer is larger than it may be.
    #[error("the answer of {host} is larger than {max} bytes")]
    TooLarge {
        /// Whose.
        host: String,
        /// The bound.
        max: usize,
    },
}

impl Call {
    /// A GET.
    #[must_use]
    pub fn get(url: Uri) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A POST.
    #[must_use]
    pub fn post(url: Uri, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            body: body.into(),
            ..Self::get(url)
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({} {})", self.method, host(&self.url))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outside").field(&self.options).finish()
    }
}

impl Outside {
    /// A client with these bounds. Authorities are read when the first https address is called.
    #[must_use]
    pub fn new(options: OutsideOptions) -> Self {
        let connector = Connector {
            roots_file: options.roots_file.clone(),
            tls: Arc::new(OnceLock::new()),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, options }
    }

    /// Sends a request and takes the whole answer.
    ///
    /// # Errors
    /// [`OutsideError`]. A status is never an error here.
    pub async fn call(&self, call: Call) -> Result<Answer, OutsideError> {
        check(&call.url)?;
        let host = host(&call.url);
        let within = self.options.timeout;
        match tokio::time::timeout(within, self.exchange(call, &host)).await {
            Ok(result) => result,
            Err(_) => Err(OutsideError::TimedOut { host, within }),
        }
    }

    async fn exchange(&self, call: Call, host: &str) -> Result<Answer, OutsideError> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| OutsideError::Unreachable {
            host: host.to_owned(),
            why: root_cause(error),
        };
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.url;
        *request.headers_mut() = call.headers;
        request.headers_mut().insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION"))),
        );
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| roots_error(&error).unwrap_or_else(|| unreachable(&error)))?;
        let (head, body) = response.into_parts();
        let max = self.options.answer_bytes_max;
        let body = Limited::new(body, max).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return OutsideError::TooLarge {
                    host: host.to_owned(),
                    max,
                };
            }
            unreachable(&*error)
        })?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

/// Whether an address can be called at all: absolute, http or https, with a host.
///
/// # Errors
/// [`OutsideError::Address`].
pub fn check(url: &Uri) -> Result<(), OutsideError> {
    let web = matches!(url.scheme_str(), Some("http" | "https"));
    let host = url.host().is_some_and(|host| !host.is_empty());
    // What stands before an @ would be sent as nothing: hyper drops it.
    let bare = url.authority().is_some_and(|a| !a.as_str().contains('@'));
    if web && host && bare {
        return Ok(());
    }
    Err(OutsideError::Address)
}

/// TLS as a client: the authorities of this machine (`SSL_CERT_FILE` names others), and those of a
/// PEM file besides.
///
/// # Errors
/// [`OutsideError::Roots`].
pub fn tls(roots_file: Option<&Path>) -> Result<TlsConnector, OutsideError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // A store has certificates that nobody can read; what matters is whether any is left.
    roots.add_parsable_certificates(found.certs);
    if let Some(path) = roots_file {
        let wrong =
            |why: &dyn fmt::Display| OutsideError::Roots(format!("{}: {why}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
    }
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        let why = why.unwrap_or_else(|| "this machine's store is empty".to_owned());
        return Err(OutsideError::Roots(why));
    }
    // Named, not the process' default: a dependency that brings a second provider would make the
    // default ambiguous, and that panics.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| OutsideError::Roots(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn host(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

/// The last of a chain of errors says most; those before it say "client error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The connector's own refusal, wherever in the chain it stands.
fn roots_error(error: &(dyn std::error::Error + 'static)) -> Option<OutsideError> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<OutsideError>()) {
            return Some(found.clone());
        }
        next = error.source();
    }
    None
}

/// Opens connections, plain or with TLS as the address says.
#[derive(Clone)]
struct Connector {
    roots_file: Option<PathBuf>,
    tls: Arc<OnceLock<Result<TlsConnector, OutsideError>>>,
}

impl Connector {
    async fn connect(self, url: Uri) -> io::Result<TokioIo<Stream>> {
        let secure = url.scheme_str() == Some("https");
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(TokioIo::new(Stream(Box::new(stream))));
        }
        let tls = self.tls.get_or_init(|| tls(self.roots_file.as_deref()));
        let tls = tls
            .as_ref()
            .map_err(|error| io::Error::other(error.clone()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = tls.connect(name, stream).await?;
        Ok(TokioIo::new(Stream(Box::new(stream))))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().connect(url))
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection, plain or not.
struct Stream(Box<dyn Duplex>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
