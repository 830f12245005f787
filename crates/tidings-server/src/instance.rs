//! One running instance: a hub over a log, the native API and every adapter on their listeners.
//!
//! It listens before it has a log: while Redis is away at start, the process is alive and says that
//! it is not ready, which is no reason to kill it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tidings_adapter::{Adapter, Hub, Limits, hub_options};
use tidings_core::{Clock, EventLog};

use crate::config::{Config, Listen, Mistake, Mistakes};
use crate::edge::front::Front;
use crate::edge::plan::{Listener, NATIVE, Place, plan};
use crate::edge::tls::{Certificates, TlsError};
use crate::native::{Native, Refused};
use crate::serve::Doors;

/// An instance that listens and waits for its log.
pub struct Waiting {
    config: Config,
    doors: Doors,
    refused: Refused,
    registry: Registry,
    adapters: Vec<Box<dyn Adapter>>,
    certificates: Certificates,
    fronts: Vec<(Listener, SocketAddr, Front)>,
    /// Where the metrics alone are answered.
    metrics: Option<(SocketAddr, Front)>,
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
    addresses: Vec<(String, SocketAddr)>,
    certificates: Certificates,
    leaving: Leaving,
}

/// How an instance leaves.
#[derive(Debug)]
struct Leaving {
    delay: Duration,
    spread: Duration,
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
    /// There is no certificate to show.
    #[error("no TLS on {address}: {error}")]
    Tls {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: TlsError,
    },
    /// The listeners do not go together.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The keys of an issuer of tokens cannot be used.
    #[error("an issuer's keys cannot be used: {0}")]
    Keys(#[from] tidings_adapter::jwt::KeyError),
    /// Two metrics have one name.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Waiting {
    /// Binds every listener. The native API listens where it is configured to, each adapter where
    /// its `mount` says, or else on the next port after it.
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
        let names: Vec<_> = adapters.iter().map(|one| one.name()).collect();
        let listeners = plan(&config.server, &config.adapters, &names).map_err(|wrong| {
            let wrong = wrong
                .into_iter()
                .map(|(key, why)| Mistake::plain(&key, why));
            Mistakes(wrong.collect())
        })?;
        let certificates = Certificates::default();
        let mut bound = Vec::new();
        for plan in listeners {
            let address = plan.address;
            let listen = |error| StartError::Listen { address, error };
            let tls = certificates.acceptor(&plan.tls);
            let tls = tls.map_err(|error| StartError::Tls { address, error })?;
            let listener = doors.bind(address).map_err(listen)?;
            let address = listener.local_addr().map_err(listen)?;
            bound.push((plan, address, listener, tls));
        }
        let mut fronts = Vec::new();
        for (plan, address, listener, tls) in bound {
            let front = Front::new(refused.clone());
            doors.serve(listener, tls, front.clone());
            fronts.push((plan, address, front));
        }
        let metrics = match config.telemetry.metrics_listen {
            None => None,
            Some(Listen(address)) => {
                let listen = |error| StartError::Listen { address, error };
                let listener = doors.bind(address).map_err(listen)?;
                let address = listener.local_addr().map_err(listen)?;
                let front = Front::new(refused.clone());
                doors.serve(listener, None, front.clone());
                Some((address, front))
            }
        };
        doors.watch(certificates.clone());
        Ok(Self {
            config: config.clone(),
            doors,
            refused,
            registry,
            adapters,
            certificates,
            fronts,
            metrics,
        })
    }

    /// The certificates of the listeners, to be read again when somebody says so.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The log has come: starts the hub and lets everybody in. Readers get their events when the
    /// window is filled, and `/readyz` says when that is.
    ///
    /// # Errors
    /// [`StartError::Metrics`], [`StartError::Keys`].
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
            certificates,
            fronts,
            metrics,
        } = self;
        let limits = Limits {
            window_bytes: config.window.bytes.0,
            subscriptions_per_connection: config.limits.subscriptions.get(),
            probe_every: config.readiness.probe_every.0,
            probe_wait: config.readiness.probe_wait.0,
            beat_every: config.instance.beat_every.0,
            lease: config.instance.lease.0,
            sweep_every: config.instance.sweep_every.0,
            ..Limits::default()
        };
        let options = hub_options(limits, &adapters);
        let hub = Hub::start(log, options, clock, &registry)?;
        let native = Native::new(hub.named(NATIVE), &config, registry, refused.clone())?;
        let names: Vec<_> = std::iter::once(NATIVE)
            .chain(adapters.iter().map(|one| one.name()))
            .collect();
        let shown = native.clone().metrics_alone();
        let native = native.router(&config);
        let adapters: Vec<_> = adapters
            .into_iter()
            .map(|adapter| {
                let hub = hub.named(adapter.name());
                adapter.router(hub)
            })
            .collect();
        let mut addresses = vec![None; names.len()];
        for (plan, address, front) in fronts {
            let body_timeout = config.server.body_timeout.0;
            front.open(&plan.places, &native, &adapters, body_timeout);
            for place in &plan.places {
                addresses[place.who] = Some(address);
            }
        }
        // The plan has a place for each.
        let mut addresses: Vec<_> = names
            .into_iter()
            .zip(addresses)
            .filter_map(|(name, address)| Some((name.to_owned(), address?)))
            .collect();
        if let Some((address, front)) = metrics {
            let all = Place {
                who: 0,
                host: None,
                path: None,
            };
            front.open(&[all], &shown, &[], config.server.body_timeout.0);
            addresses.push(("metrics".to_owned(), address));
        }
        Ok(Instance {
            hub,
            doors,
            refused,
            addresses,
            certificates,
            leaving: Leaving {
                delay: config.server.drain_delay.0,
                spread: config.server.drain_spread.0,
                grace: config.server.shutdown_grace.0,
            },
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

    /// Who listens where; the native API comes first.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// The certificates of the listeners, to be read again when somebody says so.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Leaves: is not ready any more, and goes on until that was noticed; accepts nothing more,
    /// tells every client in its protocol to come back, waits for them as long as the grace allows,
    /// and ends.
    pub async fn leave(self) {
        self.hub.retire();
        tokio::time::sleep(self.leaving.delay).await;
        self.doors.close();
        let Leaving { spread, grace, .. } = self.leaving;
        // Websockets are the hub's connections, but have left the doors behind when they began.
        let drained = tokio::time::timeout(grace, self.hub.drain(spread));
        let _ = tokio::join!(drained, self.doors.emptied(grace));
        self.hub.stop().await;
    }
}
