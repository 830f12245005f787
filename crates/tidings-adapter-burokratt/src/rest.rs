//! The REST endpoints, bare and under `/ruuter`.

use std::sync::Arc;

use tidings_adapter::axum::Router;

use crate::Shared;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
}
