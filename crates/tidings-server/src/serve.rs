//! Sockets: the accept loop, who is let in, and the way out.
//!
//! Not `axum::serve`, whose loop gives a silent client all the time in the world. Every wait here is
//! bounded: for the TLS handshake, for a request's head, for the next request, for a client that takes
//! nothing of what is written, and for one that is gone without a word.

mod alone;
mod connection;
mod patient;
mod places;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::places::{NoPlace, Places};
use crate::config::Server;
use crate::edge::front::Front;
use crate::edge::tls::Certificates;
use crate::limits::{
    ACCEPT_PAUSE, CERTIFICATE_LOOK, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, REFUSAL_TIME,
    REFUSALS_AT_ONCE, UNACKNOWLEDGED_MAX,
};
use crate::native::Refused;
use crate::problem::{Cause, PROBLEM_JSON};

/// Everything that connections share, over all listeners.
#[derive(Debug, Clone)]
pub struct Doors {
    header_timeout: Duration,
    http2_ping: Duration,
    send_buffer: u32,
    places: Places,
    refusals: Arc<Semaphore>,
    refused: Refused,
    open: IntGauge,
    streams: IntGauge,
    ended: IntCounterVec,
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
        let streams = IntGauge::new(
            "tidings_http2_streams",
            "Requests that go on beside another one of their HTTP/2 connection",
        )?;
        registry.register(Box::new(streams.clone()))?;
        let opts = Opts::new(
            "tidings_connections_refused_total",
            "Connections and HTTP/2 requests turned away or ended by the edge, by cause",
        );
        let ended = IntCounterVec::new(opts, &["cause"])?;
        registry.register(Box::new(ended.clone()))?;
        for cause in Ended::ALL {
            ended.with_label_values(&[cause.slug()]);
        }
        Ok(Self {
            header_timeout: server.header_timeout.0,
            http2_ping: server.http2_ping.0,
            send_buffer: u32::try_from(server.send_buffer.0).unwrap_or(u32::MAX),
            places: Places::new(
                server.connections_max.get(),
                server.connections_per_address.get(),
            ),
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
            refused,
            open,
            streams,
            ended,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        })
    }

    /// Binds a listener. Its connections inherit the bounded send buffer, and the limits after which
    /// the kernel gives up a client that is gone without a word.
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
        let options = SockRef::from(&socket);
        options.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(KEEPALIVE_IDLE)
                .with_interval(KEEPALIVE_INTERVAL),
        )?;
        options.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    /// Serves a listener until [`Doors::close`].
    pub fn serve(&self, listener: TcpListener, tls: Option<TlsAcceptor>, front: Front) {
        let doors = self.clone();
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = doors.closing.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => doors.let_in(stream, peer, tls.as_ref(), &front),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }

    /// Looks at the certificates' files until [`Doors::close`].
    pub fn watch(&self, certificates: Certificates) {
        if !certificates.any() {
            return;
        }
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            while closing
                .run_until_cancelled(tokio::time::sleep(CERTIFICATE_LOOK))
                .await
                .is_some()
            {
                let certificates = certificates.clone();
                // Files may be on a network; what a look came to, it says itself.
                let _ = tokio::task::spawn_blocking(move || certificates.reload()).await;
            }
        });
    }

    fn let_in(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        tls: Option<&TlsAcceptor>,
        front: &Front,
    ) {
        // Nagle's algorithm would hold back an event until the one before it was acknowledged. A
        // socket that refuses the option is closed already and ends by itself.
        let _ = stream.set_nodelay(true);
        let place = match self.places.take(peer.ip(), &self.open) {
            Ok(place) => place,
            Err(why) => return self.turn_away(stream, why, tls.is_some()),
        };
        let (doors, front) = (self.clone(), front.clone());
        match tls.cloned() {
            None => self.tasks.spawn(doors.plain(stream, place, front, peer)),
            Some(tls) => self
                .tasks
                .spawn(doors.encrypted(stream, place, front, peer, tls)),
        };
    }

    fn ended(&self, cause: Ended) {
        self.ended.with_label_values(&[cause.slug()]).inc();
    }

    /// Tells a client that there is no place for it: with an answer, or by closing the socket of one
    /// that would take an answer for the last word.
    fn turn_away(&self, mut stream: TcpStream, why: NoPlace, tls: bool) {
        self.ended(why.into());
        self.refused.count(Cause::TooManyConnections);
        if tls {
            // It would take a handshake to say so, which costs more than a request.
            return;
        }
        let Ok(turn) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        self.tasks.spawn(async move {
            let body = connection::no_place().document().to_string();
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {PROBLEM_JSON}\r\n\
                 content-length: {}\r\nretry-after: 5\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = tokio::time::timeout(REFUSAL_TIME, async {
                // An answer would end a browser's `EventSource` for good; an end is tried again.
                if asks_for_events(&mut stream).await? {
                    return Ok(0);
                }
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

/// Bytes of a request's head that are looked at: browsers' heads are shorter.
const HEAD_LOOK: usize = 4 * 1024;

/// How long a head is waited for: one that is meant seriously is there already.
const HEAD_TIME: Duration = Duration::from_millis(500);

/// Whether what has come of a request's head says that an `EventSource` asks. Whoever sends nothing is
/// answered all the same.
async fn asks_for_events(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut head = Vec::with_capacity(HEAD_LOOK);
    let read = async {
        while head.len() < HEAD_LOOK && !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    if let Ok(read) = tokio::time::timeout(HEAD_TIME, read).await {
        read?;
    }
    let head = head.to_ascii_lowercase();
    let accepts = b"\r\naccept: text/event-stream\r\n";
    Ok(head.windows(accepts.len()).any(|line| line == accepts))
}

/// Why a connection was turned away, or ended by the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Full,
    Address,
    Handshake,
    HandshakeTimeout,
    Resets,
}

impl Ended {
    const ALL: [Self; 5] = [
        Self::Full,
        Self::Address,
        Self::Handshake,
        Self::HandshakeTimeout,
        Self::Resets,
    ];

    /// The metric's label.
    const fn slug(self) -> &'static str {
        match self {
            Self::Full => "connections-max",
            Self::Address => "connections-per-address",
            Self::Handshake => "tls-handshake",
            Self::HandshakeTimeout => "tls-handshake-timeout",
            Self::Resets => "http2-resets",
        }
    }
}

impl From<NoPlace> for Ended {
    fn from(why: NoPlace) -> Self {
        match why {
            NoPlace::Full => Self::Full,
            NoPlace::Address => Self::Address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[tokio::test]
    async fn accepted_sockets_give_up_who_is_gone() {
        let config = load(&Sources::default()).expect("the defaults fit").config;
        let registry = Registry::new();
        let refused = Refused::register(&registry).expect("a fresh registry");
        let doors = Doors::new(&config.server, &registry, refused).expect("a fresh registry");
        let listener = doors
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("bound");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (accepted, _) = accepted.expect("accepted");
        let options = SockRef::from(&accepted);
        assert!(options.keepalive().expect("an option"));
        assert_eq!(
            options.tcp_keepalive_time().expect("an option"),
            KEEPALIVE_IDLE
        );
        assert_eq!(
            options.tcp_user_timeout().expect("an option"),
            Some(UNACKNOWLEDGED_MAX)
        );
        drop(client);
    }
}
