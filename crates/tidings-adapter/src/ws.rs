//! The websocket driver: performs a session over an upgraded connection.
//!
//! Reading and writing go on side by side, so that pongs and closes are seen while a client is
//! slow to take what it is sent. Everything pending is joined into as few writes as possible.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Sink as _, Stream as _};
use tidings_core::{Frame, FrameKind, Received, Refused, Session};
use tidings_engine::{Hub, Slow};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;

use crate::conversation::{Conversation, End, joined};
use crate::limits::{DriverLimits, WEBSOCKET_BUFFER, WEBSOCKET_WRITE_BUFFER};
use crate::respond;

/// Upgrades a request and performs the session over the socket.
///
/// The session is opened before the upgrade is answered: if it refuses at once, the answer is the
/// HTTP status and body it names, and no websocket comes to be.
pub fn serve(
    hub: &Hub,
    upgrade: WebSocketUpgrade,
    session: impl Session + 'static,
    limits: DriverLimits,
) -> Response {
    let mut conversation = Conversation::open(hub, Box::new(session), limits.clone());
    let head = conversation.take_head();
    if let Some(End::Refused(refused)) = conversation.end() {
        return respond::refusal(refused, head);
    }
    upgrade
        .read_buffer_size(WEBSOCKET_BUFFER)
        .write_buffer_size(WEBSOCKET_WRITE_BUFFER)
        .max_write_buffer_size(limits.unwritten_bytes.max(2 * WEBSOCKET_WRITE_BUFFER))
        .max_message_size(limits.frame_bytes)
        .max_frame_size(limits.frame_bytes)
        .on_upgrade(|socket| {
            Line {
                socket,
                conversation,
                limits,
                out: Out {
                    unsent: VecDeque::new(),
                    flushed: true,
                    progress: false,
                },
            }
            .run()
        })
        .into_response()
}

/// An open websocket and its conversation.
struct Line {
    socket: WebSocket,
    conversation: Conversation,
    limits: DriverLimits,
    out: Out,
}

/// What is on its way to the client.
struct Out {
    unsent: VecDeque<Message>,
    /// Whether everything handed to the socket has reached the kernel.
    flushed: bool,
    /// Whether the socket took anything since this was last looked at.
    progress: bool,
}

enum Happened {
    Received(Option<Result<Message, axum::Error>>),
    Flushed,
    Failed,
}

/// How long a refused client has to read why.
const REFUSAL_READ: Duration = Duration::from_millis(500);

impl Line {
    async fn run(mut self) {
        let mut stalled = None;
        loop {
            let mut first = 0;
            while let Some(frame) = self.conversation.pop_urgent() {
                self.out.unsent.insert(first, message(frame));
                first += 1;
            }
            while let Some(frame) = self.conversation.pop_frame() {
                self.out.unsent.push_back(message(frame));
            }
            if let Some(end) = self.conversation.end() {
                let close = close_frame(end);
                return self.say_goodbye(close).await;
            }
            let level = self.out.flushed && self.out.unsent.is_empty();
            let deadline = (!level)
                .then(|| *stalled.get_or_insert_with(|| Instant::now() + self.limits.write_stall));
            if level {
                stalled = None;
            }
            let Self {
                socket,
                conversation,
                out,
                ..
            } = &mut self;
            let happened = tokio::select! {
                happened = std::future::poll_fn(|cx| out.poll(socket, cx)) => happened,
                () = conversation.turn(level) => continue,
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    stalled = None;
                    if !std::mem::take(&mut out.progress) {
                        // Its last words reach it if it reads again before the goodbye is over.
                        conversation.too_slow(Slow::Stalled);
                    }
                    continue;
                }
            };
            match happened {
                Happened::Flushed => stalled = None,
                Happened::Failed | Happened::Received(None | Some(Ok(Message::Close(_)))) => return,
                Happened::Received(Some(Ok(received))) => self.receive(&received),
                Happened::Received(Some(Err(error))) => {
                    let Some(close) = fault(error) else { return };
                    return self.refuse(close).await;
                }
            }
        }
    }

    fn receive(&mut self, message: &Message) {
        match message {
            Message::Text(text) => self.conversation.receive(Received::Text(text.as_str())),
            Message::Binary(bytes) => self.conversation.receive(Received::Binary(bytes)),
            Message::Pong(bytes) => self.conversation.receive(Received::Pong(bytes)),
            // The library answers pings by itself; a close has ended the loop.
            Message::Ping(_) | Message::Close(_) => {}
        }
    }

    /// Writes the close frame to a client whose frames make no sense any more. What it still sends
    /// is not read; closing at once would reset the connection before it has read the reason.
    async fn refuse(mut self, close: CloseFrame) {
        self.out.last(close);
        let Self {
            socket,
            out,
            limits,
            ..
        } = &mut self;
        let written = std::future::poll_fn(|cx| out.poll_write(socket, cx));
        let _ = tokio::time::timeout(limits.goodbye, written).await;
        tokio::time::sleep(limits.goodbye.min(REFUSAL_READ)).await;
    }

    /// Writes what is left and the close frame, then waits, bounded, for the client's own.
    async fn say_goodbye(mut self, close: CloseFrame) {
        self.out.last(close);
        let Self {
            socket,
            out,
            limits,
            ..
        } = &mut self;
        let goodbye = async {
            loop {
                match std::future::poll_fn(|cx| out.poll(socket, cx)).await {
                    Happened::Flushed | Happened::Received(Some(Ok(_))) => {}
                    Happened::Failed | Happened::Received(_) => return,
                }
            }
        };
        // A client that does not answer the close in time is dropped without one.
        let _ = tokio::time::timeout(limits.goodbye, goodbye).await;
    }
}

impl Out {
    /// Hands over what is unsent, flushes, and reads; whichever is ready first.
    fn poll(&mut self, socket: &mut WebSocket, cx: &mut Context<'_>) -> Poll<Happened> {
        let busy = !self.flushed || !self.unsent.is_empty();
        if busy && let Poll::Ready(happened) = self.poll_write(socket, cx) {
            return Poll::Ready(happened);
        }
        Pin::new(socket).poll_next(cx).map(Happened::Received)
    }

    /// Hands over what is unsent and flushes.
    fn poll_write(&mut self, socket: &mut WebSocket, cx: &mut Context<'_>) -> Poll<Happened> {
        let mut socket = Pin::new(socket);
        while !self.unsent.is_empty() {
            match socket.as_mut().poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Happened::Failed),
                Poll::Ready(Ok(())) => {
                    let Some(message) = self.unsent.pop_front() else {
                        break;
                    };
                    (self.flushed, self.progress) = (false, true);
                    if socket.as_mut().start_send(message).is_err() {
                        return Poll::Ready(Happened::Failed);
                    }
                }
            }
        }
        match socket.as_mut().poll_flush(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(Happened::Failed),
            Poll::Ready(Ok(())) => {
                self.flushed = true;
                Poll::Ready(Happened::Flushed)
            }
        }
    }

    /// The close frame, after all that is unsent.
    fn last(&mut self, close: CloseFrame) {
        self.unsent.push_back(Message::Close(Some(close)));
        self.flushed = false;
    }
}

/// What a client is told that broke the websocket's own rules (RFC 6455 §7.4.1); `None` when the
/// connection is gone.
fn fault(error: axum::Error) -> Option<CloseFrame> {
    let error = error.into_inner().downcast::<tungstenite::Error>().ok()?;
    let (code, reason) = match *error {
        tungstenite::Error::Capacity(_) => (1009, "too large"),
        tungstenite::Error::Utf8(_) => (1007, "not UTF-8"),
        tungstenite::Error::Protocol(_) => (1002, "not a websocket frame"),
        _ => return None,
    };
    Some(CloseFrame {
        code,
        reason: reason.into(),
    })
}

fn message(frame: Frame) -> Message {
    let kind = frame.kind;
    let bytes = joined(frame);
    match kind {
        FrameKind::Binary => Message::Binary(bytes),
        FrameKind::Ping => Message::Ping(bytes),
        FrameKind::Text => match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) => Message::Text(text),
            // A session that breaks its promise sends what it has as binary rather than nothing.
            Err(_) => Message::Binary(bytes),
        },
    }
}

fn close_frame(end: &End) -> CloseFrame {
    match end {
        End::Closed(close) => CloseFrame {
            code: close.code,
            reason: close.reason.as_ref().into(),
        },
        // Refused after the upgrade: RFC 6455's policy violation, with the body as the reason.
        End::Refused(Refused { body, .. }) => {
            let text = String::from_utf8_lossy(body);
            let reason: String = text
                .char_indices()
                .take_while(|(at, c)| at + c.len_utf8() <= 123)
                .map(|(_, c)| c)
                .collect();
            CloseFrame {
                code: 1008,
                reason: reason.into(),
            }
        }
    }
}
