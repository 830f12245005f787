//! Request/response reads: from the window when the place is inside it, else from the log.

use std::sync::Arc;

use prometheus::IntGauge;
use tidings_core::{
    EventId, From, LogError, Page, PageLimit, Partition, Placed, Printed, Topic, Verdict,
};

use super::Hub;
use crate::delivered::Delivered;
use crate::window::Look;

/// One page of a topic as a request/response read gets it.
#[derive(Debug)]
pub struct ReadPage {
    /// On the place asked for; anything but `ok` comes with no events.
    pub verdict: Verdict,
    /// Oldest first, without a gap.
    pub events: Vec<Arc<dyn Printed>>,
    /// The place to go on from.
    pub next: EventId,
    /// Whether `next` was the end of the topic.
    pub at_end: bool,
}

impl Hub {
    /// Reads one topic once. Sees everything whose publish was answered before, on any instance:
    /// from the window if the place is inside it, else from the log.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub async fn read(
        &self,
        topic: &Topic,
        from: From,
        limit: PageLimit,
    ) -> Result<ReadPage, LogError> {
        let placed = self.placed(topic.clone());
        if let From::After(place) = from
            && self.0.window.with(placed.partition, |part| {
                part.vouches_for(place, self.floor_ms())
            })
            && let Some(page) = self.read_window(&placed, place, limit).await?
        {
            self.0.metrics.verdict(Verdict::Ok);
            return Ok(page);
        }
        let page = self.read_log(&placed, from, limit).await?;
        self.0.metrics.verdict(page.verdict);
        let wrap = |event| Arc::new(Delivered::new(event)) as Arc<dyn Printed>;
        let events = page.events.into_iter().map(wrap).collect();
        Ok(ReadPage {
            verdict: page.verdict,
            events,
            next: page.next,
            at_end: page.at_end,
        })
    }

    /// A page from the window, after the tail has reached what the log has; `None` when that takes
    /// too long or the window has moved on.
    async fn read_window(
        &self,
        placed: &Placed,
        place: EventId,
        limit: PageLimit,
    ) -> Result<Option<ReadPage>, LogError> {
        let head = self.0.heads.of(&self.0.log, placed).await?;
        if !self.reached(placed.partition, head).await {
            return Ok(None);
        }
        let floor_ms = self.floor_ms();
        Ok(self.0.window.with(placed.partition, |part| {
            if !part.vouches_for(place, floor_ms) {
                return None;
            }
            let more = limit.events.saturating_add(1);
            match part.look(&placed.topic, place, more, floor_ms) {
                Look::Complete(found) => Some(page(found, place, limit)),
                Look::Behind => None,
            }
        }))
    }

    /// Waits, bounded, until the tail has reached a place.
    async fn reached(&self, partition: Partition, place: EventId) -> bool {
        let wait = async {
            loop {
                let progress = self.0.progress.notified();
                if self
                    .0
                    .window
                    .level(partition)
                    .is_some_and(|level| level >= place)
                {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(self.limits().tail_wait, wait)
            .await
            .is_ok()
    }

    pub(crate) async fn read_log(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> Result<Page, LogError> {
        let _behind = Behind::new(&self.0.metrics.readers_behind);
        let _turn = self
            .0
            .log_reads
            .acquire()
            .await
            .map_err(|_| LogError::Unavailable("the hub has ended".into()))?;
        self.0.metrics.log_reads.inc();
        self.0.log.read(topic, from, limit).await
    }
}

/// A reader that waits for a page from the log, counted for as long.
struct Behind(IntGauge);

impl Behind {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What of the events after a place fits into one page.
fn page<'a>(
    found: impl Iterator<Item = &'a Arc<Delivered>>,
    place: EventId,
    limit: PageLimit,
) -> ReadPage {
    let mut events: Vec<Arc<dyn Printed>> = Vec::new();
    let (mut next, mut bytes, mut at_end) = (place, 0, true);
    for delivered in found {
        let size = delivered.event().data.len();
        if events.len() == limit.events || (bytes > 0 && bytes + size > limit.bytes) {
            at_end = false;
            break;
        }
        bytes += size;
        next = delivered.event().id;
        events.push(delivered.clone());
    }
    ReadPage {
        verdict: Verdict::Ok,
        events,
        next,
        at_end,
    }
}
