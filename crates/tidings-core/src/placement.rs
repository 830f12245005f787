//! Placement: which partition a topic stands in. What changes together is placed together.

use std::num::NonZeroU16;

use twox_hash::XxHash64;

use crate::topic::Topic;

/// One of P streams in which the events of many topics stand one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

impl Partition {
    /// As an index into per-partition tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// P, the number of partitions: fixed for the life of a deployment, stored and checked at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(NonZeroU16);

impl Partitions {
    /// Enough to spread over the nodes of a large Redis Cluster, few enough for one blocking read.
    pub const DEFAULT: Self = Self(NonZeroU16::new(16).expect("16 is not zero"));
    /// Above this a blocking read over all of them costs Redis 0.1 ms per wake-up.
    pub const MAX: u16 = 256;

    /// `None` for zero or more than [`Partitions::MAX`].
    #[must_use]
    pub const fn new(count: u16) -> Option<Self> {
        if count > Self::MAX {
            return None;
        }
        match NonZeroU16::new(count) {
            Some(count) => Some(Self(count)),
            None => None,
        }
    }

    /// P.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.0.get()
    }

    /// The partition of a placement key: XXH64 of its bytes with seed 0, mod P (LOG.md §1).
    #[must_use]
    pub fn of(self, placement_key: &str) -> Partition {
        let hash = XxHash64::oneshot(0, placement_key.as_bytes());
        // The remainder is below P, which is a u16.
        Partition((hash % u64::from(self.count())) as u16)
    }

    /// Every partition in order.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.count()).map(Partition)
    }
}

/// A topic and the partition it stands in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placed {
    /// Where.
    pub partition: Partition,
    /// What.
    pub topic: Topic,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_named_and_never_changes() {
        let sixteen = Partitions::DEFAULT;
        let placed: Vec<u16> = ["demo/a", "demo/b", "airsend/channel/11010000", ""]
            .map(|k| sixteen.of(k).0)
            .to_vec();
        assert_eq!(placed, FROZEN);
    }

    /// Computed once with XXH64; a change here would tear every topic from its events.
    const FROZEN: [u16; 4] = [12, 0, 1, 9];

    #[test]
    fn counts_out_of_range_are_refused() {
        assert!(Partitions::new(0).is_none());
        assert!(Partitions::new(257).is_none());
        assert_eq!(Partitions::new(1).map(Partitions::count), Some(1));
    }
}
