//! What the author of a protocol adapter depends on: the [`Hub`], sessions, and the drivers that
//! perform them. Everything of `tidings-core` and the handles of the engine are re-exported, as
//! are `axum`, `bytes` and `http` in the versions that fit.
//!
//! What is absent: no log is named here, and no protocol.

pub mod adapter;
mod conversation;
pub mod limits;
pub mod longpoll;
mod respond;
pub mod sse;
pub mod ws;

pub use adapter::Adapter;
pub use limits::DriverLimits;
pub use tidings_core::*;
pub use tidings_engine::{
    Delivery, Health, Hub, HubOptions, Limits, Ownership, PublishError, ReadPage, Reader,
};

pub use {axum, bytes, http};
