//! The AirSend dialect as its users meet it: instances of the real binary with one Redis, clients on real sockets.
//!
//! What single frames look like is the adapter's own tests' affair. Here stands what needs more than one process:
//! instances that are killed, frozen or told to leave, a Redis that is away or replaced, and clients that go from one
//! instance to the other meanwhile.

#[path = "airsend/backend.rs"]
mod backend;
#[path = "airsend/client.rs"]
mod client;
#[path = "airsend/crash.rs"]
mod crash;
#[path = "airsend/drops.rs"]
mod drops;
#[path = "airsend/failover.rs"]
mod failover;
#[path = "airsend/frozen.rs"]
mod frozen;
#[path = "airsend/leaving.rs"]
mod leaving;
#[path = "airsend/outage.rs"]
mod outage;
#[path = "airsend/sweeping.rs"]
mod sweeping;
#[path = "airsend/together.rs"]
mod together;
