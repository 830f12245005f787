//! The long-poll driver: performs a session until it closes, and answers with all it has said.

use axum::body::Body;
use axum::response::Response;
use tidings_core::Session;
use tidings_engine::Hub;

use crate::conversation::{Conversation, End};
use crate::limits::DriverLimits;
use crate::respond;

/// Performs a session as one HTTP answer. How long it waits is the session's affair: it sets a
/// timer and closes. Frames become the body, [`Respond`](tidings_core::Action::Respond) the status
/// and headers. When the client goes away, the session ends with it. When the instance leaves, it is
/// told so at once: clients ask again whenever they have their answer, there is nothing to spread.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use tidings_adapter::*;
///
/// /// Waits for the next event, or answers 204.
/// struct Next(Topic);
///
/// impl Session for Next {
///     fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
///         match input {
///             Input::Opened => {
///                 actions.subscribe(SubId(0), self.0.clone(), From::Oldest);
///                 actions.set_timer(TimerId(0), Duration::from_millis(50));
///             }
///             Input::Events { batch, .. } => {
///                 actions.send_text(batch.events[0].event().data.clone());
///                 actions.close(1000, "answered");
///             }
///             Input::Timer(_) => {
///                 actions.push(Action::Respond { status: 204, headers: Vec::new() });
///                 actions.close(1000, "nothing");
///             }
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
/// let response = longpoll::serve(&hub, Next(topic.clone()), DriverLimits::default()).await;
/// assert_eq!(response.status(), 204);
///
/// let waiting = longpoll::serve(&hub, Next(topic.clone()), DriverLimits::default());
/// let publish = hub.publish(vec![Draft::new(topic, "greeting", "1")]);
/// let (response, _stored) = tokio::join!(waiting, publish);
/// assert_eq!(axum::body::to_bytes(response.into_body(), 1024).await.unwrap(), "1");
/// # }
/// ```
pub async fn serve(hub: &Hub, session: impl Session + 'static, limits: DriverLimits) -> Response {
    let mut conversation = Conversation::open(hub, Box::new(session), limits);
    conversation.leaves_first();
    while conversation.end().is_none() {
        conversation.turn(true).await;
    }
    let head = conversation.take_head();
    if let Some(End::Refused(refused)) = conversation.end() {
        return respond::refusal(refused, head);
    }
    let mut response = Response::new(Body::from(conversation.pop_all(usize::MAX)));
    respond::apply(&mut response, head);
    response
}
