//! The bounds of the nouns, each with its reason. What an operator may lower stands in the
//! server's configuration; nothing may be raised above these.

/// Bytes of a topic. It is part of Redis keys, URLs and every stored entry; the longest dialect
/// topic (two UUIDs and a prefix) needs 90.
pub const TOPIC_BYTES_MAX: usize = 200;

/// Bytes of an event's kind. It becomes an SSE `event:` line and a metric label's neighbour.
pub const KIND_BYTES_MAX: usize = 128;

/// Bytes of one attribute (source, subject, dedup id, …): the CloudEvents specification asks for
/// identifiers that fit into headers, and header blocks are bounded at 16 KiB.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// Bytes of an event's data. One event must fit many times into a window and into the write
/// buffer of a connection; larger things belong into a store, with their address in the event.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// Events of one page. A read by index costs Redis about 6 µs per event, so a page blocks it for
/// 3 ms at most (LOG.md §4).
pub const PAGE_EVENTS_MAX: usize = 500;

/// Bytes of data in one page: what one slow reader may hold in memory at a time.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Topics of one subscription. Its cursor must fit into an HTTP header and a URL: seven bytes per
/// partition and fence, in base64.
pub const TOPICS_PER_SUBSCRIPTION_MAX: usize = 100;

/// Drafts of one append. The script that stores them runs alone in Redis, 10 µs each.
pub const DRAFTS_PER_APPEND_MAX: usize = 128;

/// Bytes of a flash event's data. Logs and windows hold the last thousand of each partition for a few
/// seconds beside everything else, and what is worth no more than that is small.
pub const FLASH_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a record's document: one per member, message or consumer, not one per everything
/// (LOG.md §6). Every commit to it sends and stores it whole.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a record's id: it is part of a Redis key, and may hold an organisation, an application
/// and a name.
pub const RECORD_ID_BYTES_MAX: usize = 512;

/// Records that one commit looks at or writes. Its script runs alone in Redis, a few µs for each.
pub const RECORDS_PER_COMMIT_MAX: usize = 64;

/// Drafts, outbox entries, deadlines and ranks of one commit, each. Like
/// [`DRAFTS_PER_APPEND_MAX`], for the same reason.
pub const EFFECTS_PER_COMMIT_MAX: usize = 128;
