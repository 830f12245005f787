//! Every bound of the engine, with its reason.

use std::time::Duration;

/// Bounds that an operator may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of events held in memory, over all partitions. Returning clients inside it cost the
    /// log nothing, so it should hold a deploy's worth of traffic: 64 MiB are about 80,000 events
    /// of 256 bytes.
    pub window_bytes: usize,
    /// Subscriptions (and fetches) of one connection. Each is looked at when the connection is
    /// woken.
    pub subscriptions_per_connection: usize,
    /// Events handed to a connection at once. Everything pending goes out in one write; above this
    /// a burst for one connection would keep a core from the others.
    pub batch_events: usize,
    /// Bytes handed to a connection at once: what one slow reader holds outside the window.
    pub batch_bytes: usize,
    /// Reads from the log under way at a time for connections behind the window. A page costs
    /// Redis up to 3 ms, so a storm of them must queue here, not there.
    pub log_reads: usize,
    /// How long a read waits for the tail to reach what the log already has, and a cursor beyond
    /// the window for the tail to reach it, before the log is asked.
    pub tail_wait: Duration,
    /// How often the instance sends itself a probe through the log. Two seconds prove sixteen
    /// partitions within the minute, and readiness is never older than a few seconds.
    pub probe_every: Duration,
    /// How long a probe may take to be stored, and again to come back, before the instance is not
    /// ready: longer than a busy log's worst second, shorter than clients take to give up.
    pub probe_wait: Duration,
    /// How often this instance's lease is renewed, where a record kind has owners: two beats may be
    /// lost before it ends.
    pub beat_every: Duration,
    /// How long its lease lasts. What a dead instance owned is handled after this and a sweep: soon
    /// enough for presence, and longer than a pause of the machine or the log commonly is.
    pub lease: Duration,
    /// How often it is looked for what others lost.
    pub sweep_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_bytes: 64 * 1024 * 1024,
            subscriptions_per_connection: 100,
            batch_events: 128,
            batch_bytes: 256 * 1024,
            log_reads: 32,
            tail_wait: Duration::from_secs(2),
            probe_every: Duration::from_secs(2),
            probe_wait: Duration::from_secs(3),
            beat_every: Duration::from_secs(3),
            lease: Duration::from_secs(10),
            sweep_every: Duration::from_secs(1),
        }
    }
}

/// Pause between tries of a read that the log could not answer: long enough not to add to its
/// trouble, short enough to resume soon. Doubles up to [`RETRY_PAUSE_MAX`].
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause between tries.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(3);

/// How often the log is trimmed and the window's floor looked at (LOG.md §4).
pub const TICK: Duration = Duration::from_secs(1);

/// Rewinds remembered per partition; a connection that slept through more of them asks the log
/// about every place it holds.
pub const REWINDS_REMEMBERED: usize = 8;

/// Flash events held per partition for connections that were woken and have not looked yet.
pub const FLASH_KEPT: usize = 256;

/// Bytes of flash events held per partition, beside the window's.
pub const FLASH_KEPT_BYTES: usize = 512 * 1024;

/// What is older than this when its reader looks is not live any more.
pub const FLASH_AGE: Duration = Duration::from_secs(5);

/// Verdicts asked for at once; one round trip per partition answers them.
pub const JUDGED_AT_ONCE: usize = 512;

/// A connection that is told to come back gets this much at most to say goodbye and close.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// Clock skew between this instance and the log above which the instance is not ready (LOG.md §2).
pub const SKEW_MAX_MS: u64 = 5_000;

/// How often deadlines are looked at. Dialects count theirs in seconds; one look per partition and
/// instance costs Redis a few µs.
pub const DEADLINE_TICK: Duration = Duration::from_millis(500);

/// Deadlines fired between two looks at the clock.
pub const DEADLINE_PAGE: usize = 64;

/// Orphans handled between two looks.
pub const ORPHAN_PAGE: usize = 64;

/// How long an instance that ends tries to give its leases back; others find them ended anyway.
pub const LEAVING: Duration = Duration::from_secs(2);

/// Outbox entries taken at once: what a relay that dies has delivered in vain.
pub const OUTBOX_PAGE: usize = 16;

/// How often outboxes are looked at without being told: what a dead relay left waits for its
/// lease (5 s) and this.
pub const OUTBOX_SWEEP: Duration = Duration::from_secs(5);

/// Tries of one call to a server outside before it is dropped: it holds up its partition's outbox.
pub const CALL_TRIES: u32 = 3;

/// How long one try may take: nothing else of its partition is relayed meanwhile.
pub const CALL_PATIENCE_MAX: Duration = Duration::from_secs(3);

/// Records of one listing over all partitions ([`Hub::list`](crate::Hub::list)): more than anybody
/// looks at, and few enough to be held in memory once per change.
pub const LIST_MAX: usize = 10_000;

/// Bytes of documents in one listing: a page of each of 16 partitions.
pub const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The least that a listing asks a partition for: less would only be more round trips.
pub const LIST_PAGE_MIN: usize = 32;

/// How often indexes are gone through for what has ended and that nobody has listed since: it only
/// takes room.
pub const INDEX_SWEEP: Duration = Duration::from_secs(600);

/// Pause between two pages of that, so that it is not noticed.
pub const INDEX_SWEEP_PAUSE: Duration = Duration::from_millis(50);

/// Views of one instance that are held or were a moment ago. Each has a task of about two
/// kilobytes, and is told of its topics' events; their keys may come from clients.
pub const VIEWS_MAX: usize = 10_000;

/// Views over views over views; a circle ends here.
pub const VIEW_DEPTH_MAX: usize = 4;

/// The least time between two computations of a view. A burst of changes costs twenty computations a
/// second, and a view over three others still shows the last one within 250 ms.
pub const VIEW_EVERY: Duration = Duration::from_millis(50);

/// How long a view lives that nobody holds any more: who asks every second shares one.
pub const VIEW_LINGERS: Duration = Duration::from_secs(2);

/// How long one computation may take before it is given up and tried again: longer than the log takes
/// to say that it is away.
pub const VIEW_PATIENCE: Duration = Duration::from_secs(10);

/// How often a view is computed though nothing was heard, unless it says otherwise: what changes by
/// itself, e.g. a record whose lifetime ends, makes no event.
pub const VIEW_RECHECK: Duration = Duration::from_secs(10);
