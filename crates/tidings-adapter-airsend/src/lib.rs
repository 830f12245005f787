//! AirSend's realtime messages, commands and presence: a dialect of the hub.
//!
//! A backend publishes operations (a message is posted, a member is added); clients connect with a
//! token, hear what happens in their channels, and say what they read, how they react, that they type.
//! What AirSend lacked is here: clients that come back name the last event they had, and hear what
//! they missed.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tidings_adapter_airsend::{Airsend, AirsendOptions};
//!
//! let options: AirsendOptions = serde_json::from_str(r#"{
//!     "secret": "32 bytes or more, the same on every instance",
//!     "ingest_key": "what the backend shows"
//! }"#)?;
//! let adapter = Airsend::new(options)?; // App::from_env()?.adapter(adapter)
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`options`], [`keys`] and [`objects`] for what there is, [`user`], [`presence`] and
//! [`channel`] for how it changes, [`ingest`] and [`login`] for the backend's and clients' requests,
//! [`session`] and [`cursor`] for what a client hears.
//!
//! What is absent: files, wikis, calls, and everything else of AirSend that is not realtime; a copy of
//! an event per member.

mod answer;
mod channel;
mod cursor;
mod frames;
mod fuzz;
mod http;
mod index;
mod ingest;
mod keys;
mod leaving;
mod login;
mod objects;
mod options;
mod presence;
mod runs;
mod session;
#[cfg(test)]
mod shelf;
mod token;
mod user;

use std::sync::Arc;

use tidings_adapter::axum::Router;
use tidings_adapter::axum::extract::ws::WebSocketUpgrade;
use tidings_adapter::axum::extract::ws::rejection::WebSocketUpgradeRejection;
use tidings_adapter::axum::extract::{DefaultBodyLimit, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::axum::routing::{get, post};
use tidings_adapter::http::header::ORIGIN;
use tidings_adapter::http::{HeaderMap, StatusCode};
use tidings_adapter::jwt::{Algorithm, Checks, KeySet, KeySetOptions, KeySource, Verifier};
use tidings_adapter::{Adapter, DriverLimits, Hub, Ingest, Ownership, RecordKind, Topic, ws};

pub use fuzz::fuzz_frame;
pub use options::{AirsendOptions, OptionsError, Span};

use options::Settings;
use session::{Connection, Origin, Placing};
use token::Tokens;

/// The type of a bot's message (contract §2.3).
pub(crate) const BOT: u64 = 5;

/// Who a bot is when nothing else is said.
pub(crate) const BOT_USER: u64 = 91_000_001;

/// And his name.
pub(crate) const BOT_NAME: &str = "AirBot";

/// Whether messages of this type count as unread (contract §3).
pub(crate) const fn unread_kinds(kind: u64) -> bool {
    matches!(kind, 1..=4)
}

/// The adapter.
#[derive(Debug)]
pub struct Airsend {
    settings: Arc<Settings>,
    tokens: Arc<Tokens>,
    bearers: Option<Verifier>,
    ids: Arc<ingest::Ids>,
}

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) settings: Arc<Settings>,
    pub(crate) tokens: Arc<Tokens>,
    /// Of another issuer.
    pub(crate) bearers: Option<Verifier>,
    pub(crate) login: login::Desk,
    pub(crate) ids: Arc<ingest::Ids>,
    pub(crate) placing: Placing,
}

impl Airsend {
    /// The adapter as it is configured.
    ///
    /// # Errors
    /// [`OptionsError`] names the key that is wrong.
    pub fn new(options: AirsendOptions) -> Result<Self, OptionsError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(OptionsError::NoRuntime);
        }
        let settings = Settings::of(options)?;
        let tokens = Tokens::new(&settings.secret)
            .ok_or_else(|| OptionsError::new("secret", "cannot be used"))?;
        let options = &settings.options;
        let source = match (&options.bearer_jwks_file, &options.bearer_jwks_url) {
            (Some(path), _) => Some(("bearer_jwks_file", KeySource::jwks_file(path))),
            (None, Some(url)) => {
                let url = url
                    .parse()
                    .map_err(|_| OptionsError::new("bearer_jwks_url", "no address"))?;
                Some(("bearer_jwks_url", KeySource::jwks_url(url)))
            }
            (None, None) => None,
        };
        let bearers = match source {
            None => None,
            Some((key, source)) => {
                let keys = KeySet::start(source, KeySetOptions::default())
                    .map_err(|error| OptionsError::new(key, error.to_string()))?;
                let checks = Checks {
                    issuer: options
                        .bearer_issuer
                        .clone()
                        .filter(|text| !text.is_empty()),
                    audience: options.bearer_audience.iter().cloned().collect(),
                    // No shared algorithm: a public key could be taken for a secret.
                    ..Checks::new([Algorithm::Rs256, Algorithm::Es256])
                };
                Some(Verifier::new(keys, checks))
            }
        };
        Ok(Self {
            settings: Arc::new(settings),
            tokens: Arc::new(tokens),
            bearers,
            ids: Arc::default(),
        })
    }
}

impl Adapter for Airsend {
    fn name(&self) -> &'static str {
        "airsend"
    }

    /// `airsend/channel/<id>` and `airsend/user/<id>`, each with its records beside it.
    fn ownership(&self) -> Vec<Ownership> {
        vec![Ownership {
            root: keys::ROOT,
            placement_key: Topic::as_str,
        }]
    }

    fn record_kinds(&self) -> Vec<Arc<dyn RecordKind>> {
        let options = &self.settings.options;
        vec![
            Arc::new(user::Users {
                presence: presence::Settings {
                    connections: options.connections_per_user,
                    grace: options.presence_grace.0,
                },
                remembered: options.idempotency.0,
            }),
            Arc::new(channel::Channels {
                typing: options.typing_window.0,
                messages: options.message_lifetime.0,
                remembered: options.idempotency.0,
            }),
            Arc::new(index::Indexes),
        ]
    }

    /// Drafts under `airsend/` are the operations of `rtm.publish`.
    fn ingest(&self) -> Option<Arc<dyn Ingest>> {
        Some(Arc::new(ingest::Rules {
            settings: self.settings.clone(),
            ids: self.ids.clone(),
        }))
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        let places = hub.clone();
        let shared = Shared {
            placing: Placing(Arc::new(move |topic: &Topic| {
                places.placed(topic.clone()).partition
            })),
            hub,
            settings: self.settings,
            tokens: self.tokens,
            bearers: self.bearers,
            login: login::Desk::default(),
            ids: self.ids,
        };
        let mut router = Router::new()
            .route("/", get(open))
            .route("/api/v1/rtm.connect", get(login::connect))
            .route("/api/v1/system.ping", post(login::ping))
            .route("/api/v1/internal/rtm.publish", post(ingest::publish));
        if shared.settings.options.login {
            router = router.route("/api/v1/user.login", post(login::login));
        }
        router
            .layer(DefaultBodyLimit::max(ingest::BODY_BYTES_MAX))
            .fallback(http::not_found)
            .method_not_allowed_fallback(http::method_not_allowed)
            .with_state(Arc::new(shared))
    }
}

/// The websocket.
async fn open(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        let words = "a websocket is opened here";
        return http::Problem::new(StatusCode::UPGRADE_REQUIRED, words).response();
    };
    let origins = &shared.settings.origins;
    // Who is no browser sends none.
    let stranger = |origin| !origins.is_empty() && !origins.contains(origin);
    if headers.get(ORIGIN).is_some_and(stranger) {
        return http::Problem::new(StatusCode::FORBIDDEN, "not from this origin").response();
    }
    let options = &shared.settings.options;
    let mut settings = shared.settings.session.clone();
    settings.retention_s = shared.hub.retention().as_secs();
    let connection = Connection::new(Origin {
        settings,
        tokens: shared.tokens.clone(),
        placing: shared.placing.clone(),
        connection: format!("{:032x}", rand::random::<u128>()),
        incarnation: shared.hub.incarnation().to_string(),
    });
    let limits = DriverLimits {
        frame_bytes: options.message_bytes,
        unwritten_bytes: options.queue_bytes,
        write_stall: options.write_stall.0,
        ..DriverLimits::default()
    };
    let session = leaving::Leaving::new(connection, shared.hub.clone());
    ws::serve(&shared.hub, upgrade, session, limits)
}
