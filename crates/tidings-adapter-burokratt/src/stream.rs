//! Event streams.

use std::sync::Arc;

use tidings_adapter::axum::Router;

use crate::Shared;

/// Every path under `/sse` and `/ruuter/sse`.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
}
