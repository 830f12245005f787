//! Sockets: the accept loop, one connection's task, and the way out.
//!
//! hyper's plain HTTP/1 builder, because the loop of `axum::serve` gives a silent client all the
//! time in the world and the automatic HTTP version builder does so before the first byte
//! (hyper#3756). Every wait here is bounded: for a request's head, for the next request, for a
//! client that takes nothing of what is written.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{IntGauge, Registry};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Server;
use crate::limits::{ACCEPT_PAUSE, HEAD_BYTES_MAX, REFUSAL_TIME, REFUSALS_AT_ONCE, WRITE_STALL};
use crate::native::Refused;
use crate::problem::{Cause, PROBLEM_JSON, Problem};

/// Everything that connections share, over all listeners.
#[derive(Debug, Clone)]
pub struct Doors {
    header_timeout: Duration,
    send_buffer: u32,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    refused: Refused,
    open: IntGauge,
    tasks: TaskTracker,
    /// Cancelled: nothing is accepted, and connections end after their present answer.
    closing: CancellationToken,
    /// Cancelled: connections end now.
    closed: CancellationToken,
}

impl Doors {
    /// Doors as configured, closed to nobody yet.
    ///
    /// # Errors
    /// When the registry has a metric of this name.
    pub fn new(
        server: &Server,
        registry: &Registry,
        refused: Refused,
    ) -> Result<Self, prometheus::Error> {
        let open = IntGauge::new("tidings_connections", "Open connections")?;
        registry.register(Box::new(open.clone()))?;
        Ok(Self {
            header_timeout: server.header_timeout.0,
            send_buffer: u32::try_from(server.send_buffer.0).unwrap_or(u32::MAX),
            places: Arc::new(Semaphore::new(server.connections_max.get())),
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
            refused,
            open,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        })
    }

    /// Binds a listener. Its connections inherit the bounded send buffer.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        /// Connections that wait to be accepted: a reconnect storm after a deploy fits.
        const BACKLOG: u32 = 4096;
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(self.send_buffer)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    /// Serves a listener until [`Doors::close`].
    pub fn serve(&self, listener: TcpListener, app: Router) {
        let doors = self.clone();
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = doors.closing.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => doors.let_in(stream, &app),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }

    fn let_in(&self, stream: TcpStream, app: &Router) {
        // Nagle's algorithm would hold back an event until the one before it was acknowledged. A
        // socket that refuses the option is closed already and ends by itself.
        let _ = stream.set_nodelay(true);
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return self.turn_away(stream);
        };
        let (doors, app) = (self.clone(), app.clone());
        self.tasks.spawn(async move {
            doors.open.inc();
            doors.converse(stream, app).await;
            doors.open.dec();
            drop(place);
        });
    }

    async fn converse(&self, stream: TcpStream, app: Router) {
        let io = TokioIo::new(Patient::new(stream, WRITE_STALL));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(io, TowerToHyperService::new(app))
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.closed.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            // Clients go away and send nonsense all day; that is not worth a line of its own.
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// Tells a client that there is no place for it.
    fn turn_away(&self, mut stream: TcpStream) {
        self.refused.count(Cause::TooManyConnections);
        let Ok(turn) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        self.tasks.spawn(async move {
            let body = Problem::new(Cause::TooManyConnections, "come back in a few seconds")
                .document()
                .to_string();
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {PROBLEM_JSON}\r\n\
                 content-length: {}\r\nretry-after: 5\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = tokio::time::timeout(REFUSAL_TIME, async {
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await?;
                // Until the client has read it: closing with unread input resets the connection,
                // and the answer would be lost on the way.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            })
            .await;
            drop(turn);
        });
    }

    /// Accepts nothing more, and lets connections end after their present answer.
    pub fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
    }

    /// Waits until all connections have ended, but no longer than `grace`; then ends them.
    pub async fn emptied(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.open.get(),
                "connections are ended after the grace"
            );
            self.closed.cancel();
        }
    }
}

/// A stream whose writes fail when the other side takes nothing for too long. A client that stops
/// reading would else hold its place for ever.
#[derive(Debug)]
struct Patient<S> {
    stream: S,
    stall: Duration,
    since: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S, stall: Duration) -> Self {
        Self {
            stream,
            stall,
            since: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.since = None;
            return polled;
        }
        let stall = self.stall;
        let since = self
            .since
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + stall)));
        match since.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(4);
        let mut patient = Patient::new(near, Duration::from_secs(30));
        let started = Instant::now();
        let ended = patient.write_all(b"more than fits").await;
        assert_eq!(ended.expect_err("given up").kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_not() {
        use tokio::io::AsyncReadExt as _;
        let (near, mut far) = tokio::io::duplex(1);
        let mut patient = Patient::new(near, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            let mut taken = [0; 4];
            for byte in &mut taken {
                tokio::time::sleep(Duration::from_secs(29)).await;
                *byte = far.read_u8().await.expect("a byte");
            }
            taken
        });
        patient.write_all(b"slow").await.expect("taken in the end");
        assert_eq!(&reader.await.expect("no panic"), b"slow");
    }
}
