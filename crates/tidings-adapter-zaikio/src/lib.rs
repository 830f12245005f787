//! Zaikio's event delivery over Action Cable websockets, with rewind and acks: a dialect of the hub.
//!
//! Apps publish events about an organisation over HTTP; other apps of it receive them over a
//! websocket that Action Cable clients speak (`@rails/actioncable`, `@anycable/core`, or a plain
//! websocket). What the protocol lacked is here: clients that come back ask for what they missed
//! (`history`, `rewind`), and consumers ack what they have dealt with, durably.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tidings_adapter_zaikio::{Zaikio, ZaikioOptions};
//!
//! let options: ZaikioOptions = serde_json::from_str(r#"{
//!     "jwks_file": "keys.json",
//!     "apps": {
//!         "mission_control": {"password": "…", "provides": ["job_added"]},
//!         "my_app": {"subscriptions": ["mission_control.job_added"]}
//!     }
//! }"#)?;
//! let adapter = Zaikio::new(options)?; // App::from_env()?.adapter(adapter)
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`options`], [`event`] and [`validate`] for what is published, [`handshake`] and
//! [`session`] for who receives it, [`consumer`] for acks.
//!
//! What is absent: webhooks, OAuth, Rails channels other than `EventChannel`, and whatever Action
//! Cable clients send to each other.

mod answer;
mod apps;
mod compact;
mod consumer;
mod directory;
mod epoch;
mod event;
mod fuzz;
mod handshake;
mod options;
mod publish;
mod pull;
mod rate;
mod revoked;
mod session;
mod token;
mod validate;

use std::sync::Arc;

use tidings_adapter::axum::Router;
use tidings_adapter::axum::extract::DefaultBodyLimit;
use tidings_adapter::axum::routing::{get, post};
use tidings_adapter::jwt::{Algorithm, Checks, KeySet, KeySetOptions, KeySource, Verifier};
use tidings_adapter::{Adapter, Hub, Ingest, Ownership, RecordKind, Topic};

pub use fuzz::fuzz_frame;
pub use options::{AppOptions, OptionsError, Rate, Span, ZaikioOptions};

use directory::Directory;
use options::{Settings, address};
use revoked::{Revoked, Sources};

/// The adapter.
#[derive(Debug)]
pub struct Zaikio {
    settings: Arc<Settings>,
    verifier: Verifier,
    revoked: Revoked,
    directory: Arc<Directory>,
}

/// What the routes share.
#[derive(Debug)]
struct Shared {
    hub: Hub,
    settings: Arc<Settings>,
    verifier: Verifier,
    revoked: Revoked,
    directory: Arc<Directory>,
    meter: rate::Meter,
    epoch: epoch::Known,
}

impl Zaikio {
    /// The adapter as it is configured. Begins to keep keys and the list of revoked tokens fresh.
    ///
    /// # Errors
    /// [`OptionsError`] names the key that is wrong.
    pub fn new(options: ZaikioOptions) -> Result<Self, OptionsError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(OptionsError::NoRuntime);
        }
        let options = options.without_empty();
        let settings = Settings::of(&options)?;
        let (key, source) = match (&options.jwks_file, &options.jwks_url) {
            (Some(path), None) => ("jwks_file", KeySource::jwks_file(path)),
            (None, Some(url)) => ("jwks_url", KeySource::jwks_url(address("jwks_url", url)?)),
            _ => {
                let problem = "one of this and `jwks_url` is needed";
                return Err(OptionsError::new("jwks_file", problem));
            }
        };
        let keys = KeySetOptions {
            // Zaikio's documentation asks for it.
            try_all_keys: true,
            ..KeySetOptions::default()
        };
        let keys = KeySet::start(source, keys)
            .map_err(|error| OptionsError::new(key, error.to_string()))?;
        let checks = Checks {
            issuer: options.issuer.clone(),
            leeway: options.leeway.0,
            // RSA only: with a shared algorithm a public key could be taken for a secret.
            ..Checks::new([Algorithm::Rs256])
        };
        let url = options.revoked_url.as_deref();
        let revoked = Revoked::start(Sources {
            ids: options.revoked.clone(),
            file: options.revoked_file.clone(),
            url: url.map(|url| address("revoked_url", url)).transpose()?,
            every: options.revoked_every.0,
        });
        Ok(Self {
            settings: Arc::new(settings),
            verifier: Verifier::new(keys, checks),
            revoked: revoked.map_err(|why| OptionsError::new("revoked_file", why))?,
            directory: Arc::default(),
        })
    }
}

impl Adapter for Zaikio {
    fn name(&self) -> &'static str {
        "zaikio"
    }

    /// `zaikio/org/<uuid>` and `zaikio/per/<uuid>`: one topic for each subject, and its consumers'
    /// records beside it.
    fn ownership(&self) -> Vec<Ownership> {
        vec![Ownership {
            root: event::ROOT,
            placement_key: Topic::as_str,
        }]
    }

    fn record_kinds(&self) -> Vec<Arc<dyn RecordKind>> {
        vec![
            Arc::new(consumer::Consumers {
                lifetime: self.settings.consumer_lifetime,
            }),
            Arc::new(epoch::Epochs),
            Arc::new(directory::Subjects),
        ]
    }

    fn ingest(&self) -> Option<Arc<dyn Ingest>> {
        let (settings, directory) = (self.settings.clone(), self.directory.clone());
        Some(Arc::new(publish::Rules(settings, directory)))
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        tokio::spawn(self.directory.clone().keep(hub.clone()));
        let settings = self.settings;
        let mut router = Router::new().route(
            &settings.events_path,
            post(publish::publish)
                .get(pull::pull)
                .layer(DefaultBodyLimit::max(publish::BODY_BYTES_MAX)),
        );
        for path in &settings.websocket_paths {
            router = router.route(path, get(handshake::connect));
        }
        router
            .fallback(answer::not_found)
            .method_not_allowed_fallback(answer::method_not_allowed)
            .with_state(Arc::new(Shared {
                hub,
                settings,
                verifier: self.verifier,
                revoked: self.revoked,
                directory: self.directory,
                meter: rate::Meter::default(),
                epoch: epoch::Known::default(),
            }))
    }
}
