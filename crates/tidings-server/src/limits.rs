//! The server's bounds that nobody needs to set, each with its reason; those that an operator may
//! set stand in `config/tidings.toml` with theirs.

use std::time::Duration;

use tidings_core::Durability;

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

/// What is sent and not acknowledged for so long was sent to nobody: a client that lost its network
/// says nothing. The kernel itself would go on for a quarter of an hour.
pub const UNACKNOWLEDGED_MAX: Duration = WRITE_STALL;

/// A connection on which nothing is sent is asked so often whether there is still somebody.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Between two such questions without an answer.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the certificates' files are looked at. They change a few times a year, and a look is two
/// small files.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);

/// Requests at a time on one HTTP/2 connection: what RFC 9113 §6.5.2 asks to allow at least. A page
/// with more event streams than that has a mistake.
pub const HTTP2_STREAMS_MAX: u32 = 100;

/// Bytes of a request's body that a client may send before they are read. The protocol's own default;
/// with an answer in 100 ms it is 640 KiB a second, with HTTP/1.1 there is no such limit.
pub const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all requests of a connection: what one connection can make the server hold.
pub const HTTP2_CONNECTION_WINDOW: u32 = 4 * HTTP2_STREAM_WINDOW;

/// Bytes of answers that are held for each request until its client takes them.
pub const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// Requests taken back before they were looked at, before the connection is ended: h2's own default.
pub const HTTP2_PENDING_RESETS_MAX: usize = 20;

/// Requests that were ended for a mistake of the client's, before the connection is. A client in
/// earnest makes none.
pub const HTTP2_ERRORS_MAX: usize = 100;

/// Connections beyond the limit that are told so at a time; more are just closed, since telling
/// them costs what the limit is there to save.
pub const REFUSALS_AT_ONCE: usize = 64;

/// How long telling them may take.
pub const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Pause after a failure to accept (out of file descriptors, usually): the next try would fail as
/// well, and a loop without a pause would take the core.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// On leaving: how long the ingest batch under way may take to be stored and taken out.
pub const INGEST_GOODBYE: Duration = Duration::from_secs(5);

/// On leaving: how long the spans that wait may take to be exported. They are the least of what is
/// worth waiting for.
pub const SPANS_GOODBYE: Duration = Duration::from_secs(3);

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
    /// What a publish waits for that says nothing of it.
    pub durability: Durability,
    /// How long.
    pub durability_timeout: Duration,
}

impl PublishLimits {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            body_max: config.server.body_max.0,
            body_timeout: config.server.body_timeout.0,
            batch_events: config.limits.batch_events.get(),
            durability: config.api.durability.0,
            durability_timeout: config.api.durability_timeout.0,
        }
    }
}
