//! What a member has not read: derived from what he has, never written when others post.
//!
//! Messages that count have numbers without gaps. A member knows a mark, and the runs beyond it
//! that he has read or written; the channel knows which were deleted. The rest is unread. Beyond
//! [`UNREAD_MAX`] nobody counts: what is older is as good as read, and runs stay short.

use serde_json::{Value, json};
use tidings_adapter::Decision;

use super::{Count, Desk, Member, Stop};
use crate::answer::done;
use crate::keys;
use crate::runs::outside;

/// Messages of one channel that can be unread: with every other one read the runs have 20 KiB.
const UNREAD_MAX: u64 = 10_000;

impl Count {
    /// Numbers up to here are as good as read.
    pub(super) fn floor(&self) -> u64 {
        self.last.saturating_sub(UNREAD_MAX)
    }
}

impl Member {
    /// Moves the mark over what is old.
    pub(super) fn settle(&mut self, count: &Count) {
        self.mark = self.mark.max(count.floor());
        self.read.forget_to(self.mark);
    }

    /// How many are unread, and the number of the first.
    pub(super) fn unread(&self, count: &Count) -> (u64, Option<u64>) {
        let floor = self.mark.max(count.floor());
        outside(&self.read, &count.deleted, floor, count.last)
    }
}

impl Desk<'_> {
    /// What the reader is told of this channel.
    pub(super) fn reading(&self, member: &Member, count: &Count) -> Result<Value, Stop> {
        let (unread, first) = member.unread(count);
        let oldest: u64 = match first {
            Some(seq) => self.get(&keys::place(self.id, seq))?.unwrap_or(0),
            None => 0,
        };
        Ok(json!({ "unread": unread, "oldest": oldest }))
    }

    pub(super) fn unread(&self, user: u64, channels: &[u64]) -> Result<Decision, Stop> {
        let both = |id: &u64| [keys::member(*id, user), keys::count(*id)];
        self.need(channels.iter().flat_map(both))?;
        let mut total = 0;
        for id in channels {
            let member: Option<Member> = self.get(&keys::member(*id, user))?;
            let count: Option<Count> = self.get(&keys::count(*id))?;
            if let (Some(member), Some(count)) = (member, count) {
                total += member.unread(&count).0;
            }
        }
        let mut decision = Decision::default();
        done(&mut decision, json!({ "unread": total }));
        Ok(decision)
    }
}
