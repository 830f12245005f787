//! Sets of sequence numbers as runs: what a member has read, what was deleted. A long stretch costs
//! as much as a single number, and what is older than anybody counts is dropped.

use serde::{Deserialize, Serialize};

/// A set of numbers above zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub(crate) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Whether a number is in it.
    pub(crate) fn has(&self, number: u64) -> bool {
        let at = self.0.partition_point(|run| run.1 < number);
        self.0.get(at).is_some_and(|run| run.0 <= number)
    }

    /// Adds a number; false when it was there.
    pub(crate) fn add(&mut self, number: u64) -> bool {
        if number == 0 || self.has(number) {
            return false;
        }
        let at = self.0.partition_point(|run| run.1 < number);
        let joins_before = at > 0 && self.0[at - 1].1 + 1 == number;
        let joins_after = self.0.get(at).is_some_and(|run| run.0 == number + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = number,
            (false, true) => self.0[at].0 = number,
            (false, false) => self.0.insert(at, (number, number)),
        }
        true
    }

    /// Forgets everything up to a number.
    pub(crate) fn forget_to(&mut self, floor: u64) {
        self.0.retain(|run| run.1 > floor);
        if let Some(first) = self.0.first_mut() {
            first.0 = first.0.max(floor + 1);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many numbers in `(floor, last]` are in neither set, and the first of them. A sweep over the
/// runs, not over the numbers.
pub(crate) fn outside(one: &Runs, other: &Runs, floor: u64, last: u64) -> (u64, Option<u64>) {
    let (mut count, mut first) = (0, None);
    let (mut a, mut b) = (one.0.iter().peekable(), other.0.iter().peekable());
    let mut next = floor + 1;
    loop {
        let from_a = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.0 <= y.0,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        let run = if from_a { a.next() } else { b.next() };
        let Some(&(begin, end)) = run else { break };
        if begin > last {
            break;
        }
        if begin > next {
            first.get_or_insert(next);
            count += begin - next;
        }
        next = next.max(end + 1);
    }
    if next <= last {
        first.get_or_insert(next);
        count += last + 1 - next;
    }
    (count, first)
}

/// `[first, length - 1, …]`, each first as the distance to what stands before it.
impl From<Runs> for Vec<u64> {
    fn from(runs: Runs) -> Self {
        let mut numbers = Self::with_capacity(runs.0.len() * 2);
        let mut before = 0;
        for (begin, end) in runs.0 {
            numbers.extend([begin - before, end - begin]);
            before = end;
        }
        numbers
    }
}

impl From<Vec<u64>> for Runs {
    fn from(numbers: Vec<u64>) -> Self {
        let mut before = 0_u64;
        let runs = numbers.chunks_exact(2).map(|pair| {
            let begin = before.saturating_add(pair[0]);
            before = begin.saturating_add(pair[1]);
            (begin, before)
        });
        Self(runs.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_join() {
        let mut runs = Runs::default();
        for number in [5, 3, 4, 9, 4] {
            runs.add(number);
        }
        assert_eq!(runs.0, [(3, 5), (9, 9)]);
        assert_eq!(Vec::from(runs.clone()), [3, 2, 4, 0]);
        runs.forget_to(4);
        assert_eq!(runs.0, [(5, 5), (9, 9)]);
        runs.forget_to(9);
        assert!(runs.is_empty());
    }

    proptest! {
        #[test]
        fn as_a_set_of_numbers(
            one in prop::collection::vec(1_u64..60, 0..40),
            other in prop::collection::vec(1_u64..60, 0..40),
            floor in 0_u64..70,
            last in 0_u64..70,
        ) {
            let mut runs = [Runs::default(), Runs::default()];
            let mut sets = [BTreeSet::new(), BTreeSet::new()];
            for (index, numbers) in [one, other].into_iter().enumerate() {
                for number in numbers {
                    prop_assert_eq!(runs[index].add(number), sets[index].insert(number));
                }
                runs[index].forget_to(floor / 2);
                sets[index].retain(|number| *number > floor / 2);
                let text = serde_json::to_string(&runs[index]).expect("numbers");
                let back: Runs = serde_json::from_str(&text).expect("numbers");
                prop_assert_eq!(&back, &runs[index]);
                for number in 1..70 {
                    prop_assert_eq!(runs[index].has(number), sets[index].contains(&number));
                }
            }
            let left: Vec<u64> = (floor + 1..=last)
                .filter(|n| !sets[0].contains(n) && !sets[1].contains(n))
                .collect();
            let expected = (left.len() as u64, left.first().copied());
            prop_assert_eq!(outside(&runs[0], &runs[1], floor, last), expected);
        }
    }
}
