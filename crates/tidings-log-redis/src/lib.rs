//! The log on Redis Streams: single, Sentinel and Cluster (LOG.md).
//!
//! In reading order: `keys` names everything that is kept and `entry` prints an event as a stream
//! entry; the rules themselves are Lua, in `scripts/*.lua`, because only a script is atomic in
//! Redis, and `scripts` calls them. `target` reads the URL, `dial` makes connection parameters of
//! it, `resolve` asks where the primaries are, `topology` keeps the routes and `link` the
//! connections; `failure` says what an error means. Above that stand the parts of the port:
//! `publish` appends, `records` commits, `reading` reads and judges, `filling` fills windows; each `reader` follows
//! some partitions, asks about its own `places` with the help of a `ring`, and `tail` makes one
//! sequence of what they report; `settle` waits for replicas and disks. `ingest`
//! drains what backends write directly. `settings` checks at start, `log` puts it together. Beside
//! all of it, `doctor` says what a server's settings can lose or cost.
//!
//! What is absent: no cluster or sentinel client of the library (they were seen to stop for good,
//! or never to follow), no PUB/SUB, no stream per topic, no key per event unless its publisher gave
//! one, and nothing that gives up. This crate knows no HTTP, no adapter, no session.

mod dial;
pub mod doctor;
mod entry;
mod failure;
mod filling;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod ingest;
mod keys;
mod link;
mod log;
mod metrics;
mod options;
mod places;
mod publish;
mod reader;
mod reading;
mod records;
mod resolve;
mod ring;
mod scripts;
mod settings;
mod settle;
mod tail;
mod target;
mod topology;

pub use ingest::{IngestDrain, IngestError, IngestOptions, RawEntry};
pub use log::RedisLog;
pub use options::RedisOptions;
