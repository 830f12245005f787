//! The event-stream driver: performs a session as the body of one HTTP response.
//!
//! The connection's own task polls the body, and only when it has room to write; so there is no
//! task and no queue per stream, and a slow client slows only itself.
//!
//! A server that owns the socket can go further: once the head is written it takes the [`Stream`]
//! out of the answer and lets it write to the socket itself. What the HTTP library holds per
//! connection is then free, and an event costs one write of one piece.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tidings_core::Session;
use tidings_engine::{Hub, Slow};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::conversation::{Conversation, End};
use crate::limits::DriverLimits;
use crate::respond;

/// Performs a session as a `text/event-stream`.
///
/// Waits, bounded, for the session's first word, so that a refusal is still an HTTP status.
///
/// ```
/// use std::sync::Arc;
/// use tidings_adapter::*;
///
/// struct Forward(Topic);
///
/// impl Session for Forward {
///     fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
///         match input {
///             Input::Opened => actions.subscribe(SubId(0), self.0.clone(), From::Oldest),
///             Input::Events { batch, .. } => {
///                 for printed in &batch.events {
///                     let event = printed.event();
///                     let data = String::from_utf8_lossy(&event.data);
///                     actions.send_text(format!("id: {}\ndata: {data}\n\n", event.id));
///                 }
///             }
///             Input::CaughtUp { .. } => actions.close(1000, "that is all"),
///             _ => {}
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let clock = Arc::new(tidings_log_memory::SystemClock);
/// # let log = Arc::new(tidings_log_memory::MemoryLog::new(Default::default(), clock.clone(), 7));
/// # let hub = Hub::start(log, HubOptions::default(), clock, &prometheus::Registry::new()).unwrap();
/// let topic = Topic::parse("demo/a").unwrap();
/// let stored = hub.publish(vec![Draft::new(topic.clone(), "greeting", r#"{"n":1}"#)]).await;
/// let response = sse::serve(&hub, Forward(topic), DriverLimits::default()).await;
/// assert_eq!(response.headers()["content-type"], "text/event-stream");
/// let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
/// let id = stored[0].as_ref().unwrap().id;
/// assert_eq!(body, format!("id: {id}\ndata: {{\"n\":1}}\n\n"));
/// # }
/// ```
pub async fn serve(hub: &Hub, session: impl Session + 'static, limits: DriverLimits) -> Response {
    let first_frame = limits.first_frame;
    let mut conversation = Box::new(Conversation::open(hub, Box::new(session), limits));
    let first_word = async {
        while !conversation.has_frames() && conversation.end().is_none() {
            conversation.turn(true).await;
        }
    };
    // When nothing is said in time the answer is 200: an event stream may be silent.
    let _ = tokio::time::timeout(first_frame, first_word).await;
    let head = conversation.take_head();
    if let Some(End::Refused(refused)) = conversation.end() {
        return respond::refusal(refused, head);
    }
    let stream = Stream(Arc::new(Mutex::new(Some(conversation))));
    let mut response = Response::new(Body::from_stream(body(stream.clone())));
    response.extensions_mut().insert(stream);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx and its kin would hold events back to fill a buffer.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    respond::apply(&mut response, head);
    response
}

fn body(
    stream: Stream,
) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(Ok(stream), |state| async move {
        let mut conversation = match state {
            Ok(stream) => stream.take()?,
            Err(conversation) => conversation,
        };
        loop {
            if conversation.has_frames() {
                let pending = conversation.pop_all(CHUNK);
                return Some((Ok(pending), Err(conversation)));
            }
            if conversation.end().is_some() {
                return None;
            }
            conversation.turn(true).await;
        }
    })
}

/// An event stream that has not begun. [`serve`] puts it into its answer's extensions beside the
/// body: whichever is used first has it.
#[derive(Clone)]
pub struct Stream(Arc<Mutex<Option<Box<Conversation>>>>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").finish()
    }
}

impl Stream {
    fn take(&self) -> Option<Box<Conversation>> {
        self.0.lock().take()
    }

    /// Writes the stream as the chunks of an HTTP/1.1 body (RFC 9112 §7.1) to a socket on which the
    /// answer's head went out, until the session closes or the client has gone; then shuts the
    /// writing side down. `listen` says whether nothing was read behind the request: whoever sends
    /// more is not listened to, and its end is found out by writing.
    ///
    /// # Errors
    /// The socket's; [`io::ErrorKind::TimedOut`] when the client takes nothing for
    /// [`DriverLimits::write_stall`].
    pub async fn run<S>(self, mut socket: S, mut listen: bool) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(mut conversation) = self.take() else {
            return Ok(());
        };
        loop {
            while conversation.has_frames() {
                let chunk = conversation.pop_chunk(CHUNK);
                let written = write(&mut socket, &chunk, conversation.write_stall()).await;
                if let Err(error) = &written
                    && error.kind() == io::ErrorKind::TimedOut
                {
                    conversation.too_slow(Slow::Stalled);
                }
                written?;
            }
            if conversation.end().is_some() {
                socket.write_all(b"0\r\n\r\n").await?;
                return socket.shutdown().await;
            }
            let mut byte = [0];
            tokio::select! {
                biased;
                () = conversation.turn(true) => {}
                read = socket.read(&mut byte), if listen => match read? {
                    0 => return Ok(()),
                    _ => listen = false,
                },
            }
        }
    }
}

/// Writes all of it, unless nothing is taken for so long.
async fn write<S>(socket: &mut S, bytes: &[u8], stall: Duration) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut left = bytes;
    while !left.is_empty() {
        let written = tokio::time::timeout(stall, socket.write(left)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left = left.get(written..).unwrap_or_default();
    }
    tokio::time::timeout(stall, socket.flush()).await?
}

/// What is pending goes out as one chunk of about this size at most. A copy costs a hundredth of the
/// chunk head and the three buffers that hyper would write for each frame.
const CHUNK: usize = 64 * 1024;

/// A comment line for a silent stream: proxies and clients see that it lives (WHATWG HTML §9.2.7
/// asks for one every 15 seconds or so).
pub const HEARTBEAT: &[u8] = b":\n\n";

/// How often a silent stream says [`HEARTBEAT`], unless configured otherwise.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
