//! The bounds of the drivers, each with its reason.

use std::time::Duration;

/// What a driver holds a connection to.
#[derive(Debug, Clone)]
pub struct DriverLimits {
    /// Bytes of one message from the client. Dialects' commands are a few hundred bytes.
    pub frame_bytes: usize,
    /// Bytes that a session may have sent but the client has not taken. Events do not wait here:
    /// nothing is taken from the log while anything is unwritten.
    pub unwritten_bytes: usize,
    /// Without any progress in writing for this long, the client is gone or will never keep up.
    pub write_stall: Duration,
    /// How long an SSE response waits for the session's first word before it answers 200: until
    /// then a refusal can still be an HTTP status.
    pub first_frame: Duration,
    /// How long a session that was told that the instance leaves has to close. When it is told is
    /// the hub's affair ([`Hub::drain`](tidings_engine::Hub::drain)).
    pub goodbye: Duration,
}

impl Default for DriverLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 * 1024,
            unwritten_bytes: 1024 * 1024,
            write_stall: Duration::from_secs(30),
            first_frame: Duration::from_secs(5),
            goodbye: Duration::from_secs(3),
        }
    }
}

/// The buffers of a websocket. The library's 128 KiB would be nearly all of an idle connection's
/// memory; one page of memory each holds what an idle one needs, and they grow under load.
pub(crate) const WEBSOCKET_BUFFER: usize = 4 * 1024;

/// Messages of at most this size are joined into one write.
pub(crate) const WEBSOCKET_WRITE_BUFFER: usize = 16 * 1024;
