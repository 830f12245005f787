//! Event streams: what every client hears (contract sections 1.3, 1.6 and 4).
//!
//! Reading order: [`print`] for the frames, [`place`] for where a client says it has been, [`log`]
//! for a channel's stream, [`state`] for a value's, [`several`] for both at once, [`views`] for where
//! the values come from, and [`open`] for who may open which.
//!
//! The streams are sessions without I/O and without a clock; what they say is in the transcripts of
//! `tests/transcripts`.

mod log;
mod open;
mod pace;
mod place;
mod print;
mod several;
mod state;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;

use tidings_adapter::axum::Router;
use tidings_adapter::axum::extract::rejection::PathRejection;
use tidings_adapter::axum::extract::{Path, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::axum::routing::{MethodRouter, get};
use tidings_adapter::http::request::Parts;

use crate::Shared;
use crate::answer::Refusal;
use open::{Asked, Side};
pub(crate) use place::Came;
pub(crate) use views::views;

/// Every path under `/sse` and `/ruuter/sse`.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let mut router = Router::new();
    for prefix in ["/sse", "/ruuter/sse"] {
        let paths = [
            (
                "get-new-messages",
                stream(|asked| open::new_messages(asked, Side::EndUser)),
            ),
            (
                "cs-get-new-messages",
                stream(|asked| open::new_messages(asked, Side::Agent)),
            ),
            (
                "get-messages-by-chat-id",
                stream(|asked| open::messages(asked, Side::EndUser)),
            ),
            (
                "cs-get-messages-by-chat-id",
                stream(|asked| open::messages(asked, Side::Agent)),
            ),
            ("get-chat-by-id", stream(open::chat_by_id)),
            ("cs-get-all-active-chats", stream(open::active_chats)),
            ("estimated-waiting-time", stream(open::estimate)),
            ("cs-get-components-healthz-status", stream(open::health)),
            ("notifications/{channel}", stream_of(open::notifications)),
            ("queue/{channel}", stream_of(open::queue)),
            ("events", stream(open::events)),
        ];
        for (path, route) in paths {
            router = router.route(&format!("{prefix}/{path}"), route);
        }
    }
    router
}

/// A path that a request opens a stream at. `Accept` is not looked at: who asks here wants one.
fn stream<F, Fut>(open: F) -> MethodRouter<Arc<Shared>>
where
    F: Fn(Asked) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Refusal>> + Send,
{
    get(
        async move |State(shared): State<Arc<Shared>>, parts: Parts| {
            let asked = Asked::new(shared.clone(), parts);
            open::answer(&shared, open(asked).await)
        },
    )
}

/// The same for a path that names a channel.
fn stream_of<F, Fut>(open: F) -> MethodRouter<Arc<Shared>>
where
    F: Fn(Asked, Channel) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Refusal>> + Send,
{
    get(
        async move |State(shared): State<Arc<Shared>>,
                    channel: Result<Path<String>, PathRejection>,
                    parts: Parts| {
            let asked = Asked::new(shared.clone(), parts);
            open::answer(&shared, open(asked, channel).await)
        },
    )
}

type Channel = Result<Path<String>, PathRejection>;
