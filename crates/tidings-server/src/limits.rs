//! The server's bounds that nobody needs to set, each with its reason; those that an operator may
//! set stand in `config/tidings.toml` with theirs.

use std::time::Duration;

use crate::config::Config;

/// Bytes of data of one group of lines on its way to the log: one append of it takes Redis a few
/// milliseconds.
pub const LINE_GROUP_BYTES: usize = 256 * 1024;

/// Events that the answer to a line-by-line publish lists; the rest is counted. An upload may have
/// any number of lines, its answer must not grow with them: this is about a megabyte.
pub const LINES_LISTED_MAX: usize = 10_000;

/// Bytes of a request's head. Twelve CloudEvents attributes, of which few are long, and a cursor
/// over a hundred topics (1.3 KiB) fit with room.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A client that takes nothing of what is written to it for so long is gone, or will never keep up:
/// it comes back with its cursor.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// Connections beyond the limit that are told so at a time; more are just closed, since telling
/// them costs what the limit is there to save.
pub const REFUSALS_AT_ONCE: usize = 64;

/// How long telling them may take.
pub const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Pause after a failure to accept (out of file descriptors, usually): the next try would fail as
/// well, and a loop without a pause would take the core.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which part of the shutdown's grace is used to tell clients one after the other to come back; the
/// rest is theirs to go.
pub const DRAIN_SHARE: u32 = 4;

/// On leaving: how long the ingest batch under way may take to be stored and taken out.
pub const INGEST_GOODBYE: Duration = Duration::from_secs(5);

/// Pauses between tries to reach the log at start: they double from the first to the last.
pub const CONNECT_PAUSE_MIN: Duration = Duration::from_millis(200);
/// See [`CONNECT_PAUSE_MIN`].
pub const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Bounds of a publish.
#[derive(Debug, Clone)]
pub struct PublishLimits {
    /// Bytes of a body, or of a line.
    pub body_max: usize,
    /// Time in which a body must bring something.
    pub body_timeout: Duration,
    /// Events of a batch.
    pub batch_events: usize,
}

impl PublishLimits {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            body_max: config.server.body_max.0,
            body_timeout: config.server.body_timeout.0,
            batch_events: config.limits.batch_events.get(),
        }
    }
}
