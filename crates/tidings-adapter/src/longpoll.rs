//! The long-poll driver: performs a session until it closes, and answers with all it has said.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use tidings_core::Session;
use tidings_engine::Hub;

use crate::conversation::{Conversation, End, joined};
use crate::limits::DriverLimits;
use crate::respond;

/// Performs a session as one HTTP answer. How long it waits is the session's affair: it sets a
/// timer and closes. Frames become the body, [`Respond`](tidings_core::Action::Respond) the status
/// and headers. When the client goes away, the session ends with it.
pub async fn serve(hub: &Hub, session: impl Session + 'static, limits: DriverLimits) -> Response {
    let mut conversation = Conversation::open(hub, Box::new(session), limits);
    while conversation.end().is_none() {
        conversation.turn(true).await;
    }
    let head = conversation.take_head();
    if let Some(End::Refused(refused)) = conversation.end() {
        return respond::refusal(refused, head);
    }
    let mut response = Response::new(Body::from(body(&mut conversation)));
    respond::apply(&mut response, head);
    response
}

fn body(conversation: &mut Conversation) -> Bytes {
    let first = conversation.pop_frame().map(joined).unwrap_or_default();
    let Some(second) = conversation.pop_frame() else {
        return first;
    };
    let mut all = BytesMut::from(&first[..]);
    let mut next = Some(second);
    while let Some(frame) = next {
        all.extend_from_slice(&joined(frame));
        next = conversation.pop_frame();
    }
    all.freeze()
}
