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
mod keys;
mod notify;
mod objects;
mod options;
mod rest;
mod stream;

use std::sync::Arc;

use tidings_adapter::axum::Router;
use tidings_adapter::axum::extract::DefaultBodyLimit;
use tidings_adapter::{Adapter, Hub, Ownership, RecordKind, Topic};

pub use options::{Auth, BurokrattOptions, Component, OptionsError, Span};

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
        Vec::new()
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        let body_bytes = self.settings.options.body_bytes;
        let shared = Arc::new(Shared {
            tim: auth::Tim::new(&self.settings),
            hub,
            settings: self.settings,
        });
        let routes: Router<Arc<Shared>> = Router::new()
            .merge(rest::routes())
            .merge(notify::routes())
            .merge(stream::routes());
        routes
            .layer(DefaultBodyLimit::max(body_bytes))
            .fallback(answer::not_found)
            .method_not_allowed_fallback(answer::method_not_allowed)
            .with_state(shared)
    }
}
