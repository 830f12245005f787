//! The fuzz targets' bodies: each takes any bytes, hands them to a parser that reads from the
//! network, and panics when what comes out breaks a promise.
//!
//! They are here and not in `fuzz/`, so that CI, which has no nightly compiler and no libFuzzer, runs
//! them as well: on the seeds in `fuzz/seeds` and on mutations of them (`tests/replay.rs`). The
//! binaries in `fuzz/fuzz_targets` are one line each; `cargo xtask fuzz` runs them.

mod credentials;
mod cursor;
mod names;
mod publishing;
mod reading;
mod sessions;
mod stored;
mod stream;
mod tokens;

pub use credentials::credentials;
pub use cursor::cursor;
pub use names::topic;
pub use publishing::{lines, publish};
pub use reading::parameters;
pub use sessions::session;
pub use stored::{entries, ingest};
pub use tidings_adapter_airsend::fuzz_frame as airsend_frame;
pub use tidings_adapter_burokratt::fuzz_ids_and_bodies as burokratt;
/// A request of CardSavr's clients: its path, headers and sealed body.
pub use tidings_adapter_cardsavr::fuzz_envelope as envelope;
pub use tokens::{keys, token};

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its binary, its seeds' folder and its function.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    target("topic", topic),
    target("cursor", cursor),
    target("publish", publish),
    target("lines", lines),
    target("parameters", parameters),
    target("credentials", credentials),
    target("token", token),
    target("keys", keys),
    target("entries", entries),
    target("ingest", ingest),
    target("session", session),
    target("airsend_frame", airsend_frame),
    target("burokratt", burokratt),
    target("envelope", envelope),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The first line of the input, and what comes after it.
fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
