//! What dialects' clients are made of: requests, streams of lines and of server-sent events,
//! websockets.
//!
//! They are plain on purpose: one connection each, no retries, no redirects, and small receive
//! buffers, so that a client that does not read is felt by the server.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tidings_adapter::http;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{self, protocol::CloseFrame};
use tokio_tungstenite::{WebSocketStream, client_async};

/// What a client lets the kernel receive ahead (Linux doubles it).
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// A connection to an instance.
///
/// # Errors
/// The system's.
pub async fn connect(at: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    let stream = socket.connect(at).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Its headers; `host` and `content-length` come by themselves.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    /// A `POST`.
    #[must_use]
    pub fn post(target: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::new("POST", target)
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Its bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let Self { method, target, .. } = self;
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: exam\r\n");
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [text.as_bytes(), &self.body].concat()
    }

    fn build<B>(&self, at: SocketAddr, body: B) -> Result<http::Request<B>> {
        let mut request = http::Request::builder()
            .method(self.method.as_str())
            .uri(&self.target)
            .header("host", at.to_string());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(body)?)
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text, empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn header<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// When the connection fails.
pub async fn send(at: SocketAddr, request: &Request) -> Result<Answer> {
    let stream = Stream::open(at, request).await?;
    let (status, headers) = (stream.status, stream.headers.clone());
    let body = stream.rest().await?;
    Ok(Answer {
        status,
        headers,
        body,
    })
}

/// An answer that goes on and on.
#[derive(Debug)]
pub struct Stream {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    body: Incoming,
    taken: BytesMut,
    ended: Option<bool>,
    driving: JoinHandle<()>,
}

/// A line of a stream, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Without its line feed.
    Text(String),
    /// The stream has ended.
    Ended {
        /// In good order: the body is whole.
        clean: bool,
    },
}

impl Stream {
    /// Sends a request and reads the answer's head.
    ///
    /// # Errors
    /// When the connection fails before there is one.
    pub async fn open(at: SocketAddr, request: &Request) -> Result<Self> {
        let socket = connect(at).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let driving = tokio::spawn(async move {
            // How it ends is seen at the body.
            let _ = connection.await;
        });
        let built = request.build(at, Full::new(request.body.clone()))?;
        let (head, body) = sender.send_request(built).await?.into_parts();
        Ok(Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            taken: BytesMut::new(),
            ended: None,
            driving,
        })
    }

    /// A header as text, empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    /// The next line. Cancel-safe.
    pub async fn line(&mut self) -> Line {
        loop {
            if let Some(end) = self.taken.iter().position(|byte| *byte == b'\n') {
                let line = self.taken.split_to(end + 1);
                let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
                return Line::Text(String::from_utf8_lossy(line).into_owned());
            }
            if let Some(clean) = self.ended {
                return Line::Ended { clean };
            }
            self.take().await;
        }
    }

    /// The next event of an event stream (WHATWG HTML §9.2). Comments are skipped.
    ///
    /// # Errors
    /// When the stream has ended; with whether it did so in good order.
    pub async fn event(&mut self) -> Result<ServerSent, bool> {
        let mut event = ServerSent::default();
        loop {
            let line = match self.line().await {
                Line::Text(line) => line,
                Line::Ended { clean } => return Err(clean),
            };
            if line.is_empty() {
                if event != ServerSent::default() {
                    return Ok(event);
                }
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => event.event = value.to_owned(),
                "id" => event.id = Some(value.to_owned()),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
    }

    /// What is still to come of the body.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn rest(mut self) -> Result<Bytes> {
        while self.ended.is_none() {
            self.take().await;
        }
        ensure!(self.ended == Some(true), "the answer breaks off");
        Ok(std::mem::take(&mut self.taken).freeze())
    }

    async fn take(&mut self) {
        match self.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.taken.extend_from_slice(&data);
                }
            }
            Some(Err(_)) => self.ended = Some(false),
            None => self.ended = Some(true),
        }
    }
}

impl Drop for Stream {
    /// The client is gone, and so is its socket.
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSent {
    /// `event:`, empty when there was none.
    pub event: String,
    /// `id:`.
    pub id: Option<String>,
    /// The `data:` lines.
    pub data: String,
}

/// A message on a websocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

/// What comes over a websocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// The server says goodbye, with a code and a reason.
    Close(u16, String),
    /// The connection is gone.
    Ended,
}

/// A websocket.
#[derive(Debug)]
pub struct WebSocket(Box<WebSocketStream<TcpStream>>);

impl WebSocket {
    /// Opens a websocket: a `GET` with these headers. The inner error is the server's answer when
    /// it does not upgrade.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn open(at: SocketAddr, request: &Request) -> Result<Result<Self, Answer>> {
        let upgrade = Request {
            headers: Vec::from(
                [
                    ("connection", "Upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-version", "13"),
                    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            )
            .into_iter()
            .chain(request.headers.iter().cloned())
            .collect(),
            target: format!("ws://{at}{}", request.target),
            ..Request::get("")
        };
        match client_async(upgrade.build(at, ())?, connect(at).await?).await {
            Ok((socket, _)) => Ok(Ok(Self(Box::new(socket)))),
            Err(tungstenite::Error::Http(answer)) => {
                let (head, body) = answer.into_parts();
                Ok(Err(Answer {
                    status: head.status.as_u16(),
                    headers: head.headers,
                    body: body.unwrap_or_default().into(),
                }))
            }
            Err(error) => Err(error).context("the websocket does not open"),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        let message = match message {
            Message::Text(text) => tungstenite::Message::text(text),
            Message::Binary(bytes) => tungstenite::Message::binary(bytes),
        };
        Ok(self.0.send(message).await?)
    }

    /// What comes next. Pings are answered by themselves. Cancel-safe.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.0.next().await {
                Some(Ok(tungstenite::Message::Text(text))) => {
                    return Frame::Message(Message::Text(text.to_string()));
                }
                Some(Ok(tungstenite::Message::Binary(bytes))) => {
                    return Frame::Message(Message::Binary(bytes));
                }
                Some(Ok(tungstenite::Message::Close(close))) => {
                    let (code, reason) = close
                        .map_or((1005, String::new()), |close: CloseFrame| {
                            (close.code.into(), close.reason.to_string())
                        });
                    return Frame::Close(code, reason);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Frame::Ended,
            }
        }
    }
}
