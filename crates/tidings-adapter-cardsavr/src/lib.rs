//! CardSavr's client messages by polling: a dialect of the hub that `@strivve/strivve-sdk` speaks.
//!
//! Clients log in, create jobs, register for what happens to them, and poll; a virtual browser says
//! statuses and asks for credentials. Every body is encrypted and every request signed. What the
//! messages lacked is here: nothing that was published is lost between a publish and a poll.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tidings_adapter_cardsavr::{Cardsavr, CardsavrOptions};
//!
//! let options: CardsavrOptions = serde_json::from_str(r#"{
//!     "integrators": {"acme-app": {"key": "base64 of 32 bytes"}},
//!     "users": {"agent1": {"id": 11, "password_key": "what hash_password made"}}
//! }"#)?;
//! let adapter = Cardsavr::new(&options)?; // App::from_env()?.adapter(adapter)
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`options`] and [`keys`] for what there is, [`crypto`], [`front`], [`session`] and
//! [`routes`] for how a request comes in, [`job`] and [`messages`] for what it does.
//!
//! What is absent: card data beyond what a job needs to be shown, everything of CardSavr that is not
//! jobs and their messages, the salted sessions of 2.x clients.

mod answer;
pub mod client;
mod crypto;
mod errors;
mod front;
mod job;
mod keys;
mod messages;
mod options;
mod paging;
mod rate;
mod request;
mod routes;
mod session;

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::axum::Router;
use tidings_adapter::{Adapter, Hub, Ingest, Ownership, RecordKind, Topic};

pub use crypto::hash_password;
pub use front::fuzz_envelope;
pub use options::{
    CardsavrOptions, IntegratorOptions, OptionsError, Role, Timers, Unit, UserOptions,
};

use options::Settings;
use rate::Meter;
use routes::Table;
use session::{Desk, Sessions, login};

/// The adapter.
#[derive(Debug)]
pub struct Cardsavr {
    settings: Arc<Settings>,
}

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) settings: Arc<Settings>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) table: Table,
    pub(crate) ids: job::Ids,
    /// By session.
    pub(crate) requests: Meter,
    /// By integrator and username.
    pub(crate) failed_logins: Meter,
}

impl Cardsavr {
    /// The adapter as it is configured.
    ///
    /// # Errors
    /// [`OptionsError`] names the key that is wrong.
    pub fn new(options: &CardsavrOptions) -> Result<Self, OptionsError> {
        let settings = Settings::of(options)?;
        if settings.unsigned {
            tracing::warn!("cardsavr takes requests in clear: for development only");
        }
        Ok(Self {
            settings: Arc::new(settings),
        })
    }
}

impl Adapter for Cardsavr {
    fn name(&self) -> &'static str {
        "cardsavr"
    }

    /// `cardsavr/job/<id>`: each topic with its records beside it.
    fn ownership(&self) -> Vec<Ownership> {
        vec![Ownership {
            root: keys::ROOT,
            placement_key: Topic::as_str,
        }]
    }

    fn record_kinds(&self) -> Vec<Arc<dyn RecordKind>> {
        let mut kinds = job::kinds(&self.settings);
        kinds.push(Arc::new(Sessions {
            idle: self.settings.session_idle,
        }));
        kinds
    }

    fn ingest(&self) -> Option<Arc<dyn Ingest>> {
        Some(Arc::new(job::Rules))
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        let desk = Arc::<Desk>::default();
        tokio::spawn(desk.clone().follow(hub.clone()));
        if let Some(webhook) = self.settings.webhook.clone() {
            tokio::spawn(job::post_ends(hub.clone(), webhook));
        }
        let jobs = job::routes().into_iter().chain(messages::routes());
        let rows = login::routes().into_iter().chain(jobs);
        let shared = Arc::new(Shared {
            hub,
            settings: self.settings,
            desk,
            table: Table::new(rows.collect()),
            ids: job::Ids::default(),
            requests: Meter::new(Duration::from_secs(1)),
            failed_logins: Meter::new(Duration::from_secs(60)),
        });
        // Paths and methods are the table's, see `routes`.
        Router::new().fallback(front::serve).with_state(shared)
    }
}
