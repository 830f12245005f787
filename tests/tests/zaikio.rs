//! The Zaikio dialect as its users meet it: clients from npm and PyPI, unmodified, at two instances of the real binary
//! with one Redis.
//!
//! What single frames look like is the adapter's own tests' affair. Here stands what needs the real client (its timers, its
//! way of coming back) or more than one process: instances that are killed, consumers that move, replays under load.

#[path = "zaikio/acks.rs"]
mod acks;
#[path = "zaikio/anycable.rs"]
mod anycable;
#[path = "zaikio/clients.rs"]
mod clients;
#[path = "zaikio/cluster.rs"]
mod cluster;
#[path = "zaikio/driver.rs"]
mod driver;
#[path = "zaikio/guide.rs"]
mod guide;
#[path = "zaikio/pages.rs"]
mod pages;
#[path = "zaikio/plain.rs"]
mod plain;
#[path = "zaikio/python.rs"]
mod python;
#[path = "zaikio/returning.rs"]
mod returning;
#[path = "zaikio/rewinding.rs"]
mod rewinding;
#[path = "zaikio/tenants.rs"]
mod tenants;
