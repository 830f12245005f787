//! Random histories of commits, each step checked against a model that is nothing but lists: what
//! is there, what stands, what waits, and what every commit came to.

mod records_model {
    pub(crate) mod history;
    pub(crate) mod plain;
}

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use records_model::history::{History, Step, histories};
use records_model::plain::{INDEXES, KINDS, Plain, keys};
use tidings_core::{
    Commit, CommitId, CommitOutcome, EventLog as _, From, LogError, PageLimit, Partition,
    Partitions, Placed, Records as _, RelayId, Topic, Version,
};
use tidings_log_memory::{MemoryLog, MemoryOptions};
use tidings_testkit::log_exam::ManualClock;

const HERE: Partition = Partition(0);

fn log(max_bytes: usize) -> (MemoryLog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let options = MemoryOptions {
        partitions: Partitions::new(1).expect("1 is in range"),
        max_bytes,
        ..MemoryOptions::default()
    };
    let log = MemoryLog::new(options, Arc::clone(&clock) as _, 7);
    (log, clock)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        // What fails is printed in its shortest form.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_keeps_records_like_lists(history in histories()) {
        block_on(same(history, MemoryOptions::MAX_BYTES));
    }

    /// With hardly any room commits are refused; those that are change nothing.
    #[test]
    fn what_is_refused_changes_nothing(history in histories()) {
        block_on(same(history, 4000));
    }
}

async fn same(history: History, max_bytes: usize) {
    let (log, clock) = log(max_bytes);
    let mut plain = Plain::new(log.time_ms().await.expect("in memory"));
    for step in history.0 {
        match step {
            Step::Commit(sketch) => {
                let commit = plain.commit_of(&sketch);
                match log.commit(HERE, commit.clone()).await {
                    Ok(outcome) => plain.committed(&commit, &outcome),
                    Err(LogError::Full(_) | LogError::Refused(_)) => {
                        assert!(max_bytes < MemoryOptions::MAX_BYTES, "room enough");
                    }
                    Err(other) => panic!("{other:?}"),
                }
                assert!(log.bytes() <= max_bytes);
            }
            Step::Pass(ms) => {
                clock.advance(Duration::from_millis(ms));
                plain.now_ms += ms;
            }
            Step::Trim => log.trim(HERE).await.expect("in memory"),
            Step::Relay(relay, delivered, limit) => {
                let delivered = plain.delivered(&delivered);
                let turn = log.relay(HERE, RelayId(relay), delivered.clone(), limit);
                let turn = turn.await.expect("in memory");
                plain.check_turn(RelayId(relay), &delivered, limit, &turn);
            }
        }
        check(&log, &plain).await;
    }
    everything_goes(&log, &clock).await;
}

/// Everything that can be seen is as the model has it.
async fn check(log: &MemoryLog, plain: &Plain) {
    let loaded = log.load(HERE, keys()).await.expect("in memory");
    assert_eq!(loaded, plain.load());
    let kinds: Vec<_> = KINDS.into_iter().map(Into::into).collect();
    for limit in [3, 500] {
        let due = log.due(HERE, kinds.clone(), limit).await;
        assert_eq!(due.expect("in memory"), plain.due(limit));
    }
    for (index, name) in INDEXES.into_iter().enumerate() {
        for (kind, limit) in [(KINDS[0], 1), (KINDS[1], 2), (KINDS[0], 500)] {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = log.list(HERE, kind.into(), name.into(), after, limit).await;
                let page = page.expect("in memory");
                listed.extend(page.entries);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(listed, plain.listed(kind, index));
        }
    }
    let depth = log.outbox_depth(HERE).await.expect("in memory");
    assert_eq!(depth, plain.depth());
    let topic = Placed {
        partition: HERE,
        topic: Topic::parse("random").expect("valid"),
    };
    let page = log.read(&topic, From::Oldest, PageLimit::default()).await;
    let events = page.expect("in memory").events;
    let seen: Vec<_> = events.iter().map(|e| (e.id, e.data.clone())).collect();
    assert_eq!(seen, plain.events());
}

/// When everything is removed, relayed, or past its time, nothing is left that weighs anything.
async fn everything_goes(log: &MemoryLog, clock: &ManualClock) {
    clock.advance(Duration::from_secs(100_000));
    let mut delivered = Vec::new();
    while let tidings_core::Relay::Entries(entries) = log
        .relay(HERE, RelayId(0), std::mem::take(&mut delivered), 9)
        .await
        .expect("in memory")
    {
        delivered.extend(entries.iter().map(|entry| entry.id));
    }
    log.trim(HERE).await.expect("in memory");
    let last = Commit {
        remember: Duration::ZERO,
        removes: keys(),
        ..Commit::new(CommitId(u128::MAX))
    };
    let outcome = log.commit(HERE, last).await.expect("room enough");
    assert!(matches!(outcome, CommitOutcome::Committed(one) if one.version > Version::ABSENT));
    log.trim(HERE).await.expect("in memory");
    // The topic's head, and then that too.
    clock.advance(Duration::from_secs(100_000));
    log.trim(HERE).await.expect("in memory");
    assert_eq!(log.bytes(), 0);
}
