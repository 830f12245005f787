//! An adapter: one protocol, as one `impl`.

use std::sync::Arc;

use axum::Router;
use tidings_core::{Ingest, RecordKind};
use tidings_engine::{Hub, HubOptions, Limits, Ownership, Rules, View};

use crate::outside::{Outside, OutsideOptions};

/// One protocol over a hub.
///
/// Request/response routes are ordinary axum routes; long-lived ones hand a session to
/// [`ws::serve`](crate::ws::serve), [`sse::serve`](crate::sse::serve) or
/// [`longpoll::serve`](crate::longpoll::serve).
pub trait Adapter: Send + Sync + 'static {
    /// Its name, in configuration, metrics and logs.
    fn name(&self) -> &'static str;

    /// The topic roots it owns, and how their topics are placed.
    fn ownership(&self) -> Vec<Ownership> {
        Vec::new()
    }

    /// Its record kinds: what decides its commands and deadlines.
    fn record_kinds(&self) -> Vec<Arc<dyn RecordKind>> {
        Vec::new()
    }

    /// Its views: what is derived from its records, once per change and instance.
    fn views(&self) -> Vec<Arc<dyn View>> {
        Vec::new()
    }

    /// The rules for events that are published under its roots by another way than its own routes
    /// (`POST /v1/events`, `XADD`). Without them such events are refused.
    fn ingest(&self) -> Option<Arc<dyn Ingest>> {
        None
    }

    /// Its routes.
    fn router(self: Box<Self>, hub: Hub) -> Router;
}

/// What a hub with these adapters is started with.
#[must_use]
pub fn hub_options(limits: Limits, adapters: &[Box<dyn Adapter>]) -> HubOptions {
    let ingest = adapters.iter().filter_map(|one| Some((one, one.ingest()?)));
    HubOptions {
        limits,
        ownership: adapters.iter().flat_map(|one| one.ownership()).collect(),
        rules: Rules {
            kinds: adapters.iter().flat_map(|one| one.record_kinds()).collect(),
            ingest: ingest
                .flat_map(|(one, rule)| {
                    let owned = one.ownership().into_iter();
                    owned.map(move |owned| (owned.root, rule.clone()))
                })
                .collect(),
            views: adapters.iter().flat_map(|one| one.views()).collect(),
            outside: Some(Arc::new(Outside::new(OutsideOptions::default()))),
        },
    }
}
