//! Filling a window: the newest part of a partition, page by page, backwards (LOG.md §8).

use redis::{Pipeline, Value};
use tidings_core::{Event, EventId, Filled, LogError, PageLimit, Partition};

use crate::entry::{Entry, before, entries, integer_id, stream_text};
use crate::reading::{Reading, time_ms, unknown_answer};

/// Entries of one `XREVRANGE` at most.
const FILL_PAGE: usize = 500;
/// Bytes that one `XREVRANGE` should not bring more of: what Redis must hold for its answer.
const FILL_PAGE_BYTES: usize = 4 * 1024 * 1024;

impl Reading {
    pub(crate) async fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> Result<Filled, LogError> {
        let log = self.keys.log(partition);
        let state = self.keys.state(partition);
        let mut newest_first: Vec<Event> = Vec::new();
        let (mut bytes, mut page, mut weight) = (0, FILL_PAGE, 0);
        // Before what was read so far; the first page starts at the end.
        let mut below: Option<EventId> = None;
        let mut level = EventId::ORIGIN;
        let mut first_ever = None;
        let mut by_time = EventId::ORIGIN;
        let start = 'filled: loop {
            let mut pipeline = Pipeline::with_capacity(4);
            pipeline.cmd("TIME");
            pipeline.cmd("HMGET").arg(&state).arg("last").arg("first");
            let end = below.map_or("+".to_owned(), |id| format!("({}", stream_text(id)));
            pipeline
                .cmd("XREVRANGE")
                .arg(&log)
                .arg(end)
                .arg("-")
                .arg("COUNT")
                .arg(page);
            // The last word is a write that changes nothing: a node that refuses it as a replica
            // has answered the others from a log that may not be the log any more.
            pipeline.cmd("PERSIST").arg(&state);
            let answers = self.ask_plain(partition, &pipeline).await?;
            let [time, known, read, _] =
                <[Value; 4]>::try_from(answers).map_err(|_| unknown_answer())?;
            let read = entries(read).ok_or_else(unknown_answer)?;
            if below.is_none() {
                let now = time_ms(&time)
                    .ok_or_else(unknown_answer)?
                    .min(self.clock.unix_ms());
                by_time = EventId::new(now.saturating_sub(self.retention_ms), 0)
                    .unwrap_or(EventId::ORIGIN);
                let Value::Array(known) = &known else {
                    return Err(unknown_answer());
                };
                first_ever = known.get(1).and_then(integer_id);
                let last = known
                    .first()
                    .and_then(integer_id)
                    .unwrap_or(EventId::ORIGIN);
                // The last id was read first: what is newer is in the log, or there is nothing.
                level = read.first().map_or(last, Entry::id);
            }
            let (count, mut read_bytes) = (read.len(), 0);
            for entry in read {
                let id = entry.id();
                // The event before the first one that is wanted: too old, or too much.
                if id < by_time {
                    break 'filled id;
                }
                below = Some(id);
                match entry {
                    Entry::Event(event) => {
                        read_bytes += event.data.len();
                        let full = newest_first.len() >= limit.events
                            || (bytes + event.data.len() > limit.bytes && !newest_first.is_empty());
                        if full {
                            break 'filled id;
                        }
                        bytes += event.data.len();
                        newest_first.push(event);
                    }
                    Entry::Strange(_) => self.topology.linking.metrics.strange_entries.inc(),
                }
            }
            if count < page {
                // All that is retained. Nothing was ever trimmed while the very first is there.
                break match below {
                    None => level,
                    Some(oldest) if Some(oldest) == first_ever => EventId::ORIGIN,
                    Some(oldest) => before(oldest),
                };
            }
            weight = weight.max(read_bytes / count.max(1));
            page = (FILL_PAGE_BYTES / weight.max(1)).clamp(1, FILL_PAGE);
        };
        newest_first.reverse();
        Ok(Filled {
            events: newest_first,
            start,
            level,
        })
    }
}
