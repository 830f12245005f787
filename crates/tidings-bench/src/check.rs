//! The checker: one ledger per reader, which knows what came, what is missing and what came twice.
//!
//! Loss, duplicates and order are told apart for every single delivery. A number above the expected
//! one opens a gap; what later falls into a gap was reordered, not lost; what is neither expected
//! nor in a gap came twice. Readers of one topic also keep a hash over the order in which its lanes
//! were interleaved: a topic is one ordered run, so all of them must have seen the same.

use std::ops::{AddAssign, Range};

/// Gaps that a ledger keeps open per lane. A reader with more of them has been shown to lose events;
/// what then still comes late is counted as lost, not as reordered.
const GAPS_MAX: usize = 1024;

/// One reader's books.
#[derive(Debug)]
pub(crate) struct Ledger {
    first_lane: u32,
    lanes: Box<[Progress]>,
    tally: Tally,
    order: u64,
}

#[derive(Debug, Default, Clone)]
struct Progress {
    /// The number that comes next.
    next: u32,
    /// Missing below `next`, oldest first.
    gaps: Vec<Range<u32>>,
}

/// What was wrong with deliveries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Never came.
    pub(crate) lost: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Came after a later one of its lane.
    pub(crate) reordered: u64,
    /// Of a lane that this reader did not ask for, or a number that nobody published.
    pub(crate) strayed: u64,
    /// Times that the hub itself said that events may have been missed.
    pub(crate) resets: u64,
    /// Readers that saw a topic in another order than the first one did.
    pub(crate) disagreeing: u64,
}

/// What a delivery was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// The first time, in order or not.
    Fresh,
    Duplicate,
    Stray,
}

impl Ledger {
    /// Books over the lanes of what this reader reads.
    pub(crate) fn new(lanes: Range<u32>) -> Self {
        Self {
            first_lane: lanes.start,
            lanes: vec![Progress::default(); lanes.len()].into(),
            tally: Tally::default(),
            order: 0,
        }
    }

    /// Books a delivery. `published` is how many the lane has had so far.
    pub(crate) fn receive(&mut self, lane: u32, number: u32, published: u32) -> Receipt {
        let index = lane.checked_sub(self.first_lane);
        let progress = index.and_then(|index| self.lanes.get_mut(index as usize));
        let Some(progress) = progress.filter(|_| number < published) else {
            self.tally.strayed += 1;
            return Receipt::Stray;
        };
        if number >= progress.next {
            if number > progress.next {
                if progress.gaps.len() < GAPS_MAX {
                    progress.gaps.push(progress.next..number);
                } else {
                    self.tally.lost += u64::from(number - progress.next);
                }
            }
            progress.next = number + 1;
        } else if progress.fill(number) {
            self.tally.reordered += 1;
        } else {
            self.tally.duplicated += 1;
            return Receipt::Duplicate;
        }
        self.order = (self.order.rotate_left(7) ^ (u64::from(lane) << 32 | u64::from(number)))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Receipt::Fresh
    }

    /// Books that the hub said it may have lost something.
    pub(crate) fn reset(&mut self) {
        self.tally.resets += 1;
    }

    /// Closes the books: what has not come by now is lost.
    pub(crate) fn close(&self, published: impl Fn(u32) -> u32) -> Tally {
        let mut tally = self.tally;
        for (lane, progress) in (self.first_lane..).zip(&self.lanes) {
            let in_gaps: u64 = progress.gaps.iter().map(|gap| gap.len() as u64).sum();
            let after = published(lane).saturating_sub(progress.next);
            tally.lost += in_gaps + u64::from(after);
        }
        tally
    }

    /// A hash over the order in which everything came.
    pub(crate) fn order(&self) -> u64 {
        self.order
    }
}

impl Progress {
    /// Takes a number out of a gap; false when it is in none.
    fn fill(&mut self, number: u32) -> bool {
        let Some(index) = self.gaps.iter().position(|gap| gap.contains(&number)) else {
            return false;
        };
        let gap = self.gaps[index].clone();
        let parts = [gap.start..number, number + 1..gap.end];
        let left = parts.into_iter().filter(|part| !part.is_empty());
        self.gaps.splice(index..=index, left);
        true
    }
}

impl Tally {
    /// Whether nothing was wrong.
    pub(crate) fn is_clean(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.strayed += other.strayed;
        self.resets += other.resets;
        self.disagreeing += other.disagreeing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(numbers: &[u32], published: u32) -> Tally {
        let mut ledger = Ledger::new(5..6);
        for number in numbers {
            ledger.receive(5, *number, published);
        }
        ledger.close(|_| published)
    }

    #[test]
    fn what_is_wrong_is_found_and_named() {
        let clean = Tally::default();
        let lost = |lost| Tally { lost, ..clean };
        let duplicated = |duplicated| Tally {
            duplicated,
            ..clean
        };
        let reordered = |reordered| Tally { reordered, ..clean };
        let table: [(&[u32], u32, Tally); 12] = [
            (&[0, 1, 2], 3, clean),
            (&[], 0, clean),
            (&[], 3, lost(3)),
            (&[0, 1], 3, lost(1)),
            (&[0, 2], 3, lost(1)),
            (&[1, 2], 3, lost(1)),
            (&[0, 0, 1, 2], 3, duplicated(1)),
            (&[0, 1, 2, 0, 1, 2], 3, duplicated(3)),
            (&[0, 2, 1], 3, reordered(1)),
            (&[3, 2, 1, 0], 4, reordered(3)),
            (
                &[0, 2, 1, 1, 4],
                6,
                Tally {
                    lost: 2,
                    duplicated: 1,
                    reordered: 1,
                    ..clean
                },
            ),
            (
                &[0, 7],
                1,
                Tally {
                    strayed: 1,
                    ..clean
                },
            ),
        ];
        for (numbers, published, expected) in table {
            assert_eq!(books(numbers, published), expected, "{numbers:?}");
            assert_eq!(expected.is_clean(), expected == clean);
        }
    }

    #[test]
    fn lanes_are_apart_and_foreign_ones_strays() {
        let mut ledger = Ledger::new(2..4);
        assert_eq!(ledger.receive(2, 0, 9), Receipt::Fresh);
        assert_eq!(ledger.receive(3, 0, 9), Receipt::Fresh);
        assert_eq!(ledger.receive(3, 0, 9), Receipt::Duplicate);
        assert_eq!(ledger.receive(1, 0, 9), Receipt::Stray);
        assert_eq!(ledger.receive(4, 0, 9), Receipt::Stray);
        let tally = ledger.close(|lane| if lane == 2 { 1 } else { 2 });
        let expected = Tally {
            lost: 1,
            duplicated: 1,
            strayed: 2,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn readers_that_saw_another_order_are_told_apart() {
        let order = |lanes: &[u32]| {
            let mut ledger = Ledger::new(0..2);
            for lane in lanes {
                assert_eq!(ledger.receive(*lane, 0, 1), Receipt::Fresh);
            }
            ledger.order()
        };
        assert_eq!(order(&[0, 1]), order(&[0, 1]));
        assert_ne!(order(&[0, 1]), order(&[1, 0]));
    }

    #[test]
    fn gaps_are_bounded_and_nothing_of_them_is_forgotten() {
        let holes = GAPS_MAX as u32 + 10;
        let every_other: Vec<u32> = (0..holes).map(|hole| 2 * hole + 1).collect();
        let tally = books(&every_other, 2 * holes);
        assert_eq!(tally.lost, u64::from(holes));
    }
}
