//! Bürokratt's chats over Server-Sent Events and REST: a dialect of the hub.
//!
//! End users chat with agents. What they say is posted over REST and streamed to both; which chats
//! wait, how long, which are active and which components are up is streamed to whoever watches. The
//! wire is that of three generations of clients: bare frames and answers, the envelope under
//! `/ruuter`, and the notification-server's nudges, so that its widget works against the hub
//! unchanged. What it lacked is here: ids on every entry of a chat, and exact resume.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tidings_adapter_burokratt::{Burokratt, BurokrattOptions};
//!
//! let options: BurokrattOptions = serde_json::from_str(r#"{
//!     "auth": "tim",
//!     "tim_url": "http://tim:8085",
//!     "origins": ["https://chat.example.ee"]
//! }"#)?;
//! let adapter = Burokratt::new(options)?; // App::from_env()?.adapter(adapter)
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`options`], [`keys`] and [`objects`] for what there is, `chat`, `queue` and
//! `health` for how it changes, [`rest`] and [`notify`] for requests, [`stream`] for what is heard,
//! [`auth`] for who may.
//!
//! What is absent: Bürokratt's analytics, LLM streaming, e-mail.

mod answer;
mod auth;
mod chat;
mod cors;
mod fresh;
mod fuzz;
mod health;
mod ingest;
mod keys;
mod logout;
mod message_index;
mod messages;
mod notify;
mod objects;
mod options;
mod params;
mod queue;
mod rest;
mod stream;

use std::sync::Arc;

use tidings_adapter::axum::Router;
use tidings_adapter::axum::extract::DefaultBodyLimit;
use tidings_adapter::axum::middleware::from_fn_with_state;
use tidings_adapter::axum::response::{Html, IntoResponse};
use tidings_adapter::axum::routing::get;
use tidings_adapter::http::header::CACHE_CONTROL;
use tidings_adapter::{Adapter, Hub, Ingest, Ownership, RecordKind, Topic, View};

pub use fuzz::fuzz_ids_and_bodies;
pub use options::{Auth, BurokrattOptions, Component, OptionsError};

use options::Settings;

/// The adapter.
#[derive(Debug)]
pub struct Burokratt {
    settings: Arc<Settings>,
}

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) settings: Arc<Settings>,
    pub(crate) tim: auth::Tim,
    /// What requests read together.
    pub(crate) lists: fresh::Lists,
}

impl Burokratt {
    /// The adapter as it is configured.
    ///
    /// # Errors
    /// [`OptionsError`] names the key that is wrong.
    pub fn new(options: BurokrattOptions) -> Result<Self, OptionsError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(OptionsError::NoRuntime);
        }
        Ok(Self {
            settings: Arc::new(Settings::of(options)?),
        })
    }
}

impl Adapter for Burokratt {
    fn name(&self) -> &'static str {
        "burokratt"
    }

    /// `burokratt/channel/<id>`, each with its chat's records beside it, and a few topics of all.
    fn ownership(&self) -> Vec<Ownership> {
        vec![Ownership {
            root: keys::ROOT,
            placement_key: Topic::as_str,
        }]
    }

    fn record_kinds(&self) -> Vec<Arc<dyn RecordKind>> {
        let options = &self.settings.options;
        let mut kinds = chat::kinds(options.chat_lifetime.0, options.ended_lifetime.0);
        kinds.push(Arc::new(queue::LastWaits(queue::Terms::of(&self.settings))));
        kinds.push(Arc::new(health::Boards));
        kinds.push(Arc::new(message_index::Notes));
        kinds.push(Arc::new(logout::Logouts {
            url: self.settings.logout.clone().map(Into::into),
            after: options.logout_after.0,
        }));
        kinds
    }

    fn ingest(&self) -> Option<Arc<dyn Ingest>> {
        Some(Arc::new(ingest::Rules))
    }

    fn views(&self) -> Vec<Arc<dyn View>> {
        stream::views(&self.settings)
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        let body_bytes = self.settings.options.body_bytes;
        let components = self.settings.components.clone();
        let times = health::Times::of(&self.settings);
        tokio::spawn(health::watch(hub.clone(), components, times));
        let shared = Arc::new(Shared {
            tim: auth::Tim::new(&self.settings),
            hub,
            settings: self.settings,
            lists: fresh::Lists::default(),
        });
        let demo = shared.settings.options.demo;
        let mut routes: Router<Arc<Shared>> = Router::new()
            .merge(rest::routes())
            .merge(notify::routes())
            .merge(stream::routes());
        if demo {
            routes = routes.route("/demo", get(demo_page));
        }
        routes
            .layer(DefaultBodyLimit::max(body_bytes))
            .fallback(answer::not_found)
            .method_not_allowed_fallback(answer::method_not_allowed)
            .layer(from_fn_with_state(shared.clone(), cors::layer))
            .with_state(shared)
    }
}

/// The page of `/demo`: an end user and an agent, over the same routes as everybody.
async fn demo_page() -> impl IntoResponse {
    let headers = [(CACHE_CONTROL, "no-store")];
    (headers, Html(include_str!("../demo/chat.html")))
}
