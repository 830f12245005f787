//! One connection from its first byte to its last, over HTTP/1.1 or HTTP/2, with TLS or without.
//!
//! hyper's builders for one version each: the one that finds the version out by itself waits for the
//! first byte without a limit (hyper#3756). With TLS the handshake says which version it is (ALPN);
//! without, it is HTTP/1.1.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::alone::{Alone, Taking, Watched};
use super::patient::Patient;
use super::places::Place;
use super::streams::{Streams, Tasks};
use super::{Doors, Ended};
use crate::edge::front::Front;
use crate::edge::tls::H2;
use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW, HTTP2_ERRORS_MAX, HTTP2_PENDING_RESETS_MAX,
    HTTP2_SEND_BUFFER, HTTP2_STREAM_WINDOW, HTTP2_STREAMS_MAX, WRITE_STALL,
};
use crate::problem::{Cause, Problem};

/// A client's socket, with its place.
type Socket = Patient<TcpStream>;

impl Doors {
    /// Without TLS.
    pub(super) async fn plain(
        self,
        stream: TcpStream,
        place: Place,
        front: Front,
        peer: SocketAddr,
    ) {
        self.http1(Socket::new(stream, WRITE_STALL, place), front, peer)
            .await;
    }

    /// With TLS.
    pub(super) async fn encrypted(
        self,
        stream: TcpStream,
        place: Place,
        front: Front,
        peer: SocketAddr,
        tls: TlsAcceptor,
    ) {
        let socket = Socket::new(stream, WRITE_STALL, place);
        let shaken = tokio::select! {
            biased;
            () = self.closing.cancelled() => return,
            shaken = tokio::time::timeout(self.header_timeout, tls.accept(socket)) => shaken,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.ended(Ended::Handshake);
                return tracing::debug!(%error, %peer, "a TLS handshake failed");
            }
            Err(_) => {
                self.ended(Ended::HandshakeTimeout);
                return tracing::debug!(%peer, "a TLS handshake took too long");
            }
        };
        if stream.get_ref().1.alpn_protocol() == Some(H2) {
            // Boxed: most connections are the other kind, and a task is as large as its largest.
            Box::pin(self.http2(stream, front, peer)).await;
        } else {
            self.http1(stream, front, peer).await;
        }
    }

    async fn http1<S>(&self, stream: S, front: Front, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Boxed: all that HTTP needs is given back while an event stream goes on alone.
        let Some(alone) = Box::pin(self.speak(stream, front, peer)).await else {
            return;
        };
        if let Some(Err(error)) = self.closed.run_until_cancelled(alone.run()).await {
            tracing::debug!(%error, %peer, "an event stream ended early");
        }
    }

    /// Speaks HTTP/1.1 until the connection ends, or until an event stream can go on alone.
    async fn speak<S>(&self, stream: S, front: Front, peer: SocketAddr) -> Option<Alone<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let taking = Arc::<Taking>::default();
        let service = {
            let taking = taking.clone();
            service_fn(move |request: http::Request<Incoming>| {
                let (front, taking) = (front.clone(), taking.clone());
                let may = Taking::may(&request);
                async move {
                    let answer = ask(&front, request, peer).await;
                    Ok::<_, std::convert::Infallible>(match may {
                        true => taking.take(answer),
                        false => answer,
                    })
                }
            })
        };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Watched::new(stream, taking.clone())), service)
            .with_upgrades();
        let (mut closing, mut told) = (std::pin::pin!(self.closing.cancelled()), false);
        let spoken = std::future::poll_fn(|cx| {
            // First: the answers that leaving brings about then say `connection: close`.
            if !told && closing.as_mut().poll(cx).is_ready() {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            match Pin::new(&mut connection).poll(cx) {
                Poll::Pending if taking.is_written() => Poll::Ready(Ok(true)),
                ended => ended.map_ok(|()| false),
            }
        });
        match self.closed.run_until_cancelled(spoken).await? {
            Ok(true) => {
                let parts = connection.into_parts()?;
                taking.leave(parts.io.into_inner(), parts.read_buf.is_empty())
            }
            Ok(false) => None,
            Err(error) => {
                // Clients go away and send nonsense all day; that is not worth a line of its own.
                tracing::debug!(%error, %peer, "a connection ended early");
                None
            }
        }
    }

    async fn http2<S>(&self, stream: S, front: Front, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let streams = Arc::new(Streams::default());
        let service = {
            let (doors, streams) = (self.clone(), streams.clone());
            service_fn(move |request: http::Request<Incoming>| {
                let (doors, front) = (doors.clone(), front.clone());
                let mut running = streams.begin();
                async move {
                    if running.beside > 0 {
                        match doors.places.take(peer.ip(), &doors.streams) {
                            Ok(place) => running.place = Some(place),
                            Err(why) => {
                                doors.ended(why.into());
                                doors.refused.count(Cause::TooManyConnections);
                                let response = no_place().into_response();
                                return Ok(response.map(|body| running.answer(body)));
                            }
                        }
                    }
                    let response = ask(&front, request, peer).await;
                    Ok::<_, std::convert::Infallible>(response.map(|body| running.answer(body)))
                }
            })
        };
        let connection = http2::Builder::new(Tasks { stall: WRITE_STALL })
            .timer(TokioTimer::new())
            .keep_alive_interval(self.http2_ping)
            .keep_alive_timeout(self.http2_ping)
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
            .max_local_error_reset_streams(HTTP2_ERRORS_MAX)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_send_buf_size(HTTP2_SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut looks = tokio::time::interval(self.header_timeout);
        looks.tick().await;
        let (mut begun, mut leaving, never) = (0, false, CancellationToken::new());
        let ended = loop {
            let closing = if leaving { &never } else { &self.closing };
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                () = self.closed.cancelled() => return,
                () = closing.cancelled() => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = streams.abused() => {
                    self.ended(Ended::Resets);
                    return tracing::debug!(%peer, "requests were taken back too often");
                }
                _ = looks.tick() => {
                    if streams.idle(&mut begun) {
                        if leaving {
                            // It was told, had time to go, and may never have said a word.
                            return;
                        }
                        leaving = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    }
}

/// What is said to a request for which there is no place.
pub(super) fn no_place() -> Problem {
    Problem::new(Cause::TooManyConnections, "come back in a few seconds")
}

async fn ask(front: &Front, request: http::Request<Incoming>, peer: SocketAddr) -> Response {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    front.answer(request).await
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
