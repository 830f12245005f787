//! An adapter: one protocol, as one `impl`.

use axum::Router;
use tidings_engine::{Hub, Ownership};

/// One protocol over a hub.
///
/// Request/response routes are ordinary axum routes; long-lived ones hand a session to
/// [`ws::serve`](crate::ws::serve), [`sse::serve`](crate::sse::serve) or
/// [`longpoll::serve`](crate::longpoll::serve). Record kinds, views and the ingest of drafts under
/// an owned root join this trait, with defaults, with the first dialects that need them.
pub trait Adapter: Send + Sync + 'static {
    /// Its name, in configuration, metrics and logs.
    fn name(&self) -> &'static str;

    /// The topic roots it owns, and how their topics are placed.
    fn ownership(&self) -> Vec<Ownership> {
        Vec::new()
    }

    /// Its routes.
    fn router(self: Box<Self>, hub: Hub) -> Router;
}
