//! What the author of a protocol adapter depends on: the [`Hub`], sessions, and the drivers that
//! perform them. Everything of `tidings-core` and the handles of the engine are re-exported, as
//! are `axum`, `bytes`, `http`, `serde` and `serde_json` in the versions that fit.
//!
//! A session is a state machine that says what to do; a driver does it. This one echoes what its
//! client sends and forwards what is published to `demo/a`, over a websocket:
//!
//! ```
//! use std::sync::Arc;
//! use futures_util::{SinkExt as _, StreamExt as _};
//! use tidings_adapter::axum::{Router, extract::{State, WebSocketUpgrade}, routing::get};
//! use tidings_adapter::*;
//! use tokio_tungstenite::tungstenite::Message;
//!
//! struct Echo;
//!
//! impl Session for Echo {
//!     fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
//!         match input {
//!             Input::Opened => actions.subscribe(SubId(0), Topic::parse("demo/a").unwrap(), From::Newest),
//!             Input::Subscribed { .. } => actions.send_text("ready"),
//!             Input::Frame(Received::Text(text)) => actions.send_text(format!("echo {text}")),
//!             Input::Events { batch, .. } => {
//!                 for printed in &batch.events {
//!                     actions.send_text(printed.event().data.clone());
//!                 }
//!             }
//!             Input::Draining => actions.close(1001, "come back"),
//!             _ => {} // ignoring an input is always allowed
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let clock = Arc::new(tidings_log_memory::SystemClock);
//! # let log = Arc::new(tidings_log_memory::MemoryLog::new(Default::default(), clock.clone(), 7));
//! # let registry = prometheus::Registry::new();
//! let hub = Hub::start(log, HubOptions::default(), clock, &registry).unwrap();
//! let echo = |State(hub): State<Hub>, upgrade: WebSocketUpgrade| async move {
//!     ws::serve(&hub, upgrade, Echo, DriverLimits::default())
//! };
//! let app = Router::new().route("/echo", get(echo)).with_state(hub.clone());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let address = listener.local_addr().unwrap();
//! tokio::spawn(async move { axum::serve(listener, app).await });
//!
//! let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{address}/echo")).await.unwrap();
//! assert_eq!(client.next().await.unwrap().unwrap(), Message::text("ready"));
//! client.send(Message::text("hello")).await.unwrap();
//! assert_eq!(client.next().await.unwrap().unwrap(), Message::text("echo hello"));
//! hub.publish(vec![Draft::new(Topic::parse("demo/a").unwrap(), "greeting", r#"{"n":1}"#)]).await;
//! assert_eq!(client.next().await.unwrap().unwrap(), Message::text(r#"{"n":1}"#));
//!
//! // The instance leaves: the session says goodbye, and `drain` waits until it has.
//! let drained = tokio::spawn({ let hub = hub.clone(); async move { hub.drain(std::time::Duration::ZERO).await } });
//! assert!(matches!(client.next().await, Some(Ok(Message::Close(Some(close)))) if u16::from(close.code) == 1001));
//! while client.next().await.is_some() {}
//! assert!(drained.await.unwrap());
//! # }
//! ```
//!
//! The same session shape serves event streams ([`sse::serve`]) and long polls
//! ([`longpoll::serve`]).
//!
//! What is absent: no log is named here, and no protocol.

pub mod adapter;
mod conversation;
pub mod jwt;
pub mod limits;
pub mod longpoll;
pub mod outside;
mod port;
mod respond;
pub mod span;
pub mod sse;
mod works;
pub mod ws;

pub use adapter::{Adapter, hub_options};
pub use limits::DriverLimits;
pub use span::Span;
pub use tidings_core::*;
pub use tidings_engine::{
    Delivery, Depends, Health, Hub, HubOptions, Indexed, Limits, Ownership, Probe, PublishError,
    ReadPage, Reader, Rules, Slow, View, ViewError, Viewing, trace,
};

pub use {axum, bytes, http, serde, serde_json};
