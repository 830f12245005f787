//! One running instance: a hub over a log, the native API and every adapter on their listeners.
//!
//! It listens before it has a log: while Redis is away at start, the process is alive and says that
//! it is not ready, which is no reason to kill it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use prometheus::Registry;
use tidings_adapter::{Adapter, Hub, HubOptions, Limits};
use tidings_core::{Clock, EventLog};
use tower::ServiceExt as _;

use crate::config::Config;
use crate::health;
use crate::limits::DRAIN_SHARE;
use crate::native::{Native, Refused};
use crate::problem::{Cause, Problem};
use crate::serve::Doors;

/// An instance that listens and waits for its log.
pub struct Waiting {
    config: Config,
    doors: Doors,
    refused: Refused,
    registry: Registry,
    adapters: Vec<Box<dyn Adapter>>,
    fronts: Vec<(String, SocketAddr, Front)>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("fronts", &self.fronts)
            .finish_non_exhaustive()
    }
}

/// A running instance.
#[derive(Debug)]
pub struct Instance {
    hub: Hub,
    doors: Doors,
    refused: Refused,
    owned: Vec<&'static str>,
    addresses: Vec<(String, SocketAddr)>,
    grace: Duration,
}

/// Why an instance does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Two metrics have one name.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Waiting {
    /// Binds every listener. The native API listens where it is configured to, each adapter on the
    /// next port after it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn bind(
        config: &Config,
        adapters: Vec<Box<dyn Adapter>>,
        registry: Registry,
    ) -> Result<Self, StartError> {
        let refused = Refused::register(&registry)?;
        let doors = Doors::new(&config.server, &registry, refused.clone())?;
        let names = std::iter::once("native").chain(adapters.iter().map(|one| one.name()));
        let mut listeners = Vec::new();
        for (offset, name) in (0_u16..).zip(names) {
            let address = beside(config.server.listen.0, offset);
            let listen = |error| StartError::Listen { address, error };
            let listener = doors.bind(address).map_err(listen)?;
            let bound = listener.local_addr().map_err(listen)?;
            listeners.push((name.to_owned(), bound, listener));
        }
        let mut fronts = Vec::new();
        for (name, address, listener) in listeners {
            let front = Front::default();
            doors.serve(listener, front.router(&refused));
            fronts.push((name, address, front));
        }
        Ok(Self {
            config: config.clone(),
            doors,
            refused,
            registry,
            adapters,
            fronts,
        })
    }

    /// The log has come: starts the hub and lets everybody in. Readers get their events when the
    /// window is filled, and `/readyz` says when that is.
    ///
    /// # Errors
    /// [`StartError::Metrics`].
    pub fn start(
        self,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
    ) -> Result<Instance, StartError> {
        let Self {
            config,
            doors,
            refused,
            registry,
            adapters,
            fronts,
        } = self;
        let ownership: Vec<_> = adapters.iter().flat_map(|one| one.ownership()).collect();
        let owned: Vec<_> = ownership.iter().map(|one| one.root).collect();
        let options = HubOptions {
            limits: Limits {
                window_bytes: config.window.bytes.0,
                subscriptions_per_connection: config.limits.subscriptions.get(),
                ..Limits::default()
            },
            ownership,
        };
        let hub = Hub::start(log, options, clock, &registry)?;
        let native = Native::new(
            hub.clone(),
            &config,
            owned.clone(),
            registry,
            refused.clone(),
        );
        // An adapter keeps its own 404 and 405; only its health is the server's affair.
        let beside_health = |adapter: Box<dyn Adapter>| {
            health::routes()
                .with_state(native.clone())
                .fallback_service(adapter.router(hub.clone()))
        };
        let routers = std::iter::once(native.clone().router(&config))
            .chain(adapters.into_iter().map(beside_health));
        let mut addresses = Vec::new();
        for ((name, address, front), router) in fronts.into_iter().zip(routers) {
            front.open(router);
            addresses.push((name, address));
        }
        Ok(Instance {
            hub,
            doors,
            refused,
            owned,
            addresses,
            grace: config.server.shutdown_grace.0,
        })
    }
}

impl Instance {
    /// Starts an instance on a log that is there.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: &Config,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        adapters: Vec<Box<dyn Adapter>>,
        registry: Registry,
    ) -> Result<Self, StartError> {
        Waiting::bind(config, adapters, registry)?.start(log, clock)
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Counts refusals.
    #[must_use]
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// Roots of topics that adapters own.
    #[must_use]
    pub fn owned(&self) -> &[&'static str] {
        &self.owned
    }

    /// Who listens where; the native API comes first.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Leaves: accepts nothing more, tells every client in its protocol to come back, waits for
    /// them as long as the grace allows, and ends.
    pub async fn leave(self) {
        self.doors.close();
        let emptied = self.doors.emptied(self.grace);
        let (_, ()) = tokio::join!(self.hub.drain(self.grace / DRAIN_SHARE), emptied);
        self.hub.stop().await;
    }
}

/// What a listener serves: nothing but its health until there is a router.
#[derive(Debug, Clone, Default)]
struct Front(Arc<OnceLock<Router>>);

impl Front {
    fn open(&self, router: Router) {
        // Opened once, by the one who bound it.
        let _ = self.0.set(router);
    }

    fn router(&self, refused: &Refused) -> Router {
        let (front, refused) = (self.clone(), refused.clone());
        Router::new().fallback(move |request: Request| {
            let (front, refused) = (front.clone(), refused.clone());
            async move {
                let Some(router) = front.0.get() else {
                    return Ok::<_, Infallible>(closed(&request, &refused));
                };
                router.clone().oneshot(request).await
            }
        })
    }
}

fn closed(request: &Request, refused: &Refused) -> Response {
    match request.uri().path() {
        "/healthz" => health::alive(),
        "/readyz" => health::not_yet(),
        _ => {
            refused.count(Cause::LogUnavailable);
            let detail = "this instance waits for its log";
            Problem::new(Cause::LogUnavailable, detail).into_response()
        }
    }
}

/// The address so many ports further; a free port stays one.
fn beside(address: SocketAddr, offset: u16) -> SocketAddr {
    let port = match address.port() {
        0 => 0,
        port => port.saturating_add(offset),
    };
    SocketAddr::new(address.ip(), port)
}
