//! Event streams that leave the HTTP library.
//!
//! hyper keeps 16 KiB of buffers per connection for as long as an answer streams, and writes every
//! event as three pieces of one chunk. Most connections of a hub are event streams, and an event
//! stream needs neither: once its head is on the wire, the socket is taken back and the stream
//! writes to it itself. Such a connection ends with its stream and says so (`connection: close`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Version};
use http_body::Frame;
use parking_lot::Mutex;
use tidings_adapter::sse::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How far a connection's event stream has come on its way out.
#[derive(Debug, Default)]
pub(super) struct Taking {
    stream: Mutex<Option<Stream>>,
    /// The library has made the head and asked for the body.
    reached: AtomicBool,
    /// It has flushed since: the head is out.
    written: AtomicBool,
}

impl Taking {
    /// Whether the answer to this request may be taken: chunks are of HTTP/1.1, and nothing but the
    /// head answers HEAD.
    pub(super) fn may<B>(request: &Request<B>) -> bool {
        request.version() == Version::HTTP_11 && request.method() == Method::GET
    }

    /// Takes an event stream out of its answer, of which only the head is left.
    pub(super) fn take(self: &Arc<Self>, mut response: Response) -> Response {
        let Some(stream) = response.extensions_mut().remove::<Stream>() else {
            return response;
        };
        *self.stream.lock() = Some(stream);
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        response.map(|_| Body::new(Waiting(self.clone())))
    }

    /// Whether an event stream's head is out: time to leave.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// The stream, with the socket that the library gave back; `listen` says that it has read
    /// nothing behind the request.
    pub(super) fn leave<S>(&self, socket: Watched<S>, listen: bool) -> Option<Alone<S>> {
        Some(Alone {
            stream: self.stream.lock().take()?,
            socket: socket.socket,
            listen,
        })
    }
}

/// The body of an answer that is taken: it never brings anything.
struct Waiting(Arc<Taking>);

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.reached.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

/// An event stream whose head is written, and its socket.
#[derive(Debug)]
pub(super) struct Alone<S> {
    stream: Stream,
    socket: S,
    listen: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Alone<S> {
    /// Goes on until the stream or the client ends.
    ///
    /// # Errors
    /// The socket's.
    pub(super) async fn run(self) -> io::Result<()> {
        self.stream.run(self.socket, self.listen).await
    }
}

/// A socket that sees when the head is out: the library flushes it when it has nothing left to
/// write, and at no other time.
#[derive(Debug)]
pub(super) struct Watched<S> {
    socket: S,
    taking: Arc<Taking>,
}

impl<S> Watched<S> {
    pub(super) const fn new(socket: S, taking: Arc<Taking>) -> Self {
        Self { socket, taking }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) && self.taking.reached.load(Ordering::Relaxed) {
            self.taking.written.store(true, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
