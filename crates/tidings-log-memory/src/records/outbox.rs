//! One partition's outbox: entries in the order of their commits, and who relays them.

use std::collections::BTreeMap;

use tidings_core::limits::PAGE_BYTES_MAX;
use tidings_core::{CommitId, OutboxEntry, OutboxId, OutboxItem, Relay, RelayId};

/// The entry, its node's share and its pointers.
const ENTRY_FIXED: usize = 256;

#[derive(Debug, Clone, Default)]
pub(super) struct Outbox {
    entries: BTreeMap<OutboxId, OutboxEntry>,
    last: Option<OutboxId>,
    /// Who relays, and until when unless it takes another turn.
    lease: Option<(RelayId, u64)>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn weigh(item: &OutboxItem) -> usize {
        ENTRY_FIXED + item.weight()
    }

    pub(super) fn push(&mut self, commit: CommitId, index: u32, item: OutboxItem, now_ms: u64) {
        let id = match self.last {
            Some(last) if last.ms >= now_ms => OutboxId {
                seq: last.seq + 1,
                ..last
            },
            _ => OutboxId { ms: now_ms, seq: 0 },
        };
        self.last = Some(id);
        self.bytes += Self::weigh(&item);
        let entry = OutboxEntry {
            id,
            commit,
            index,
            item,
        };
        self.entries.insert(id, entry);
    }

    /// One turn; returns with it the bytes that were freed.
    pub(super) fn turn(
        &mut self,
        relay: RelayId,
        delivered: &[OutboxId],
        limit: usize,
        now_ms: u64,
        lease_ms: u64,
    ) -> (Relay, usize) {
        if let Some((holder, end_ms)) = self.lease
            && holder != relay
            && now_ms < end_ms
        {
            return (Relay::Busy, 0);
        }
        let before = self.bytes;
        for id in delivered {
            if let Some(entry) = self.entries.remove(id) {
                self.bytes -= Self::weigh(&entry.item);
            }
        }
        let freed = before - self.bytes;
        if self.entries.is_empty() {
            self.lease = None;
            return (Relay::Empty, freed);
        }
        self.lease = Some((relay, now_ms.saturating_add(lease_ms)));
        let mut bytes = 0;
        let entries = self
            .entries
            .values()
            .take(limit.max(1))
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.item.weight();
                first || bytes <= PAGE_BYTES_MAX
            });
        (Relay::Entries(entries.cloned().collect()), freed)
    }
}
