//! A tail that is emptied now and then, and what it should have said.

use tidings_core::{Event, EventId, EventLog, Partition, Tail, TailStep};
use tidings_log_memory::MemoryLog;

use crate::model::list::List;

pub(crate) struct Watcher {
    tail: Box<dyn Tail>,
    places: Vec<Watched>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    at: EventId,
    /// The earliest place that was left by a loss since the last look.
    left: Option<EventId>,
}

impl Watcher {
    pub(crate) fn new(log: &MemoryLog) -> Self {
        let partitions = usize::from(log.partitions().count());
        let start = Watched {
            at: EventId::ORIGIN,
            left: None,
        };
        Self {
            tail: log.tail(vec![EventId::ORIGIN; partitions]),
            places: vec![start; partitions],
        }
    }

    pub(crate) fn lost(&mut self, partition: Partition, left: EventId) {
        let watched = &mut self.places[partition.index()];
        watched.left = Some(watched.left.map_or(left, |before| before.min(left)));
    }

    /// Empties the tail and compares.
    pub(crate) async fn check(&mut self, list: &List) {
        let mut said: Vec<Vec<TailStep>> = vec![Vec::new(); self.places.len()];
        let mut events: Vec<Vec<Event>> = vec![Vec::new(); self.places.len()];
        loop {
            match self.tail.next().await {
                TailStep::Level => break,
                TailStep::Events(partition, more) => {
                    assert!(!more.is_empty());
                    events[partition.index()].extend(more);
                }
                step @ (TailStep::Rewound { partition, .. }
                | TailStep::Skipped { partition, .. }) => {
                    let before = &events[partition.index()];
                    assert!(before.is_empty(), "{step:?} after events");
                    said[partition.index()].push(step);
                }
                other => panic!("{other:?}"),
            }
        }
        for (index, watched) in self.places.iter_mut().enumerate() {
            let partition = Partition(index as u16);
            let mut expected = Vec::new();
            if let Some(common) = watched.left.take().filter(|left| *left < watched.at) {
                watched.at = common;
                expected.push(TailStep::Rewound { partition, common });
            }
            let new = list.retained(partition).filter(|e| e.id > watched.at);
            let new: Vec<&Event> = new.collect();
            let to = list.gone(partition);
            // Of what passed unseen while nothing else happened it may speak later.
            let passed = to > watched.at;
            if passed && (!new.is_empty() || !said[index].is_empty()) {
                expected.push(TailStep::Skipped { partition, to });
                watched.at = to;
            }
            assert_eq!(said[index], expected, "of {partition:?}");
            assert_eq!(events[index].iter().collect::<Vec<_>>(), new);
            watched.at = new.last().map_or(watched.at, |e| e.id);
        }
    }
}
