//! Support for the tests that start the real binary, real Redis and real clients.
//!
//! [`Instance`] is one running `tidings`; [`Balancer`] stands in front of several; [`Client`] runs one
//! of the real clients in `tests/js`, [`Driver`] one that is told what to do, [`Follower`] is one of
//! thousands; [`Ledger`] knows what was acknowledged and checks what was read; [`Guide`] is a document
//! that is followed.

pub mod balancer;
pub mod client;
pub mod driver;
pub mod fixtures;
pub mod follower;
pub mod guide;
pub mod http;
pub mod instance;
pub mod ledger;

pub use balancer::Balancer;
pub use client::Client;
pub use driver::Driver;
pub use fixtures::{Fixture, fixtures};
pub use follower::Follower;
pub use guide::Guide;
pub use instance::Instance;
pub use ledger::Ledger;

use std::time::Duration;

/// Long enough for two busy cores and a browser; nothing waits for it to pass.
pub const SOON: Duration = Duration::from_secs(60);
