//! The event-stream driver: performs a session as the body of one HTTP response.
//!
//! The connection's own task polls the body, and only when it has room to write; so there is no
//! task and no queue per stream, and a slow client slows only itself.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use tidings_core::Session;
use tidings_engine::Hub;

use crate::conversation::{Conversation, End, joined};
use crate::limits::DriverLimits;
use crate::respond;

/// Performs a session as a `text/event-stream`.
///
/// Waits, bounded, for the session's first word, so that a refusal is still an HTTP status.
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
    let mut response = Response::new(Body::from_stream(body(conversation)));
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
    conversation: Box<Conversation>,
) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(conversation, |mut conversation| async move {
        loop {
            if let Some(frame) = conversation.pop_frame() {
                return Some((Ok(joined(frame)), conversation));
            }
            if conversation.end().is_some() {
                return None;
            }
            conversation.turn(true).await;
        }
    })
}

/// A comment line for a silent stream: proxies and clients see that it lives (WHATWG HTML §9.2.7
/// asks for one every 15 seconds or so).
pub const HEARTBEAT: &[u8] = b":\n\n";

/// How often a silent stream says [`HEARTBEAT`], unless configured otherwise.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
