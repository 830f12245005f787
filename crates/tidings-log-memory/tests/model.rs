//! Random histories, each checked step by step against a log that is nothing but a list of all
//! events ever stored: once for equality in everything that is answered, and once, with a clock
//! that jumps and hardly any room, for the one thing that must hold whatever happens: what is
//! called `ok` has missed nothing.

mod model {
    pub(crate) mod history;
    pub(crate) mod list;
    pub(crate) mod watcher;
}

use std::sync::Arc;
use std::time::Duration;

use model::history::{History, Move, moves};
use model::list::{List, RETENTION_MS};
use model::watcher::Watcher;
use proptest::prelude::*;
use tidings_core::{EventId, EventLog, From, LogError, PageLimit, Partition, Partitions, Verdict};
use tidings_log_memory::{MemoryLog, MemoryOptions};
use tidings_testkit::log_exam::ManualClock;

const PARTITIONS: Partitions = Partitions::new(2).expect("2 is in range");

fn log(max_bytes: usize) -> (MemoryLog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let options = MemoryOptions {
        partitions: PARTITIONS,
        retention: Duration::from_millis(RETENTION_MS),
        max_bytes,
        // Nothing there means `Level` at once: a tail can be emptied without waiting.
        level_every: Duration::ZERO,
        ..MemoryOptions::default()
    };
    let log = MemoryLog::new(options, Arc::clone(&clock) as _, 7);
    (log, clock)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
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
    fn it_answers_like_a_list(history in moves(false)) {
        block_on(same(history));
    }

    #[test]
    fn ok_has_missed_nothing(history in moves(true)) {
        block_on(sound(history));
    }
}

async fn same(history: History) {
    let (log, clock) = log(MemoryOptions::MAX_BYTES);
    let mut list = List::new(PARTITIONS, clock_ms(&log).await);
    let mut watcher = Watcher::new(&log);
    for step in history.0 {
        match step {
            Move::Append(partition, drafts) => {
                let appended = log.append(partition, drafts.clone()).await;
                list.appended(partition, drafts, &appended.expect("room enough"));
            }
            Move::Pass(ms) => {
                clock.advance(Duration::from_millis(ms));
                list.now_ms += ms;
            }
            Move::Jump(_) => unreachable!("time only passes here"),
            Move::Trim(partition) => log.trim(partition).await.expect("in memory"),
            Move::Read(topic, from, limit) => {
                let from = list.from(topic.partition, from);
                let page = log.read(&topic, from, limit).await.expect("in memory");
                list.check_page(&topic, from, limit, &page);
            }
            Move::Judge(topic, place) => {
                let place = list.place(topic.partition, place);
                let asked = vec![(topic.clone(), place)];
                let verdict = log.judge(asked).await.expect("in memory")[0];
                assert_eq!(verdict, list.judge(&topic, place), "{place} in {topic:?}");
            }
            Move::Fill(partition, limit) => {
                let filled = log.fill(partition, limit).await.expect("in memory");
                list.check_fill(partition, limit, &filled);
            }
            Move::Heads(topics) => {
                let heads = log.heads(topics.clone()).await.expect("in memory");
                assert_eq!(heads, list.heads(&topics));
            }
            Move::Tail => watcher.check(&list).await,
            Move::Lose(partition, place) => {
                let after = list.retained_place(partition, place);
                log.lose_suffix(partition, after).expect("it exists");
                list.lose(partition, after);
                watcher.lost(partition, list.last(partition));
            }
        }
    }
    watcher.check(&list).await;
    everything_goes(&log, &clock).await;
}

/// When everything is past its time, nothing is left that weighs anything.
async fn everything_goes(log: &MemoryLog, clock: &ManualClock) {
    clock.advance(Duration::from_millis(100 * RETENTION_MS));
    for partition in PARTITIONS.all() {
        log.trim(partition).await.expect("in memory");
    }
    assert_eq!(log.bytes(), 0);
}

async fn sound(history: History) {
    // Room for 20 events: topics and keys are forgotten early, appends are refused.
    let (log, clock) = log(10_000);
    let mut list = List::new(PARTITIONS, clock_ms(&log).await);
    for step in history.0 {
        match step {
            Move::Append(partition, drafts) => {
                match log.append(partition, drafts.clone()).await {
                    Ok(appended) => list.remember(partition, drafts, &appended),
                    Err(LogError::Full(_) | LogError::Refused(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
                assert!(log.bytes() <= 10_000);
            }
            Move::Pass(ms) => clock.advance(Duration::from_millis(ms)),
            Move::Jump(ms) => clock.set(list.born_ms.saturating_add_signed(ms)),
            Move::Trim(partition) => log.trim(partition).await.expect("in memory"),
            Move::Read(topic, from, limit) => {
                let from = list.from(topic.partition, from);
                let page = log.read(&topic, from, limit).await.expect("in memory");
                if let (From::After(place), Verdict::Ok) = (from, page.verdict) {
                    list.check_sound(&topic, place, &page);
                }
            }
            Move::Judge(topic, place) => {
                let place = list.place(topic.partition, place);
                let from = From::After(place);
                let page = log.read(&topic, from, PageLimit::default());
                let page = page.await.expect("in memory");
                if page.verdict.is_ok() {
                    list.check_sound(&topic, place, &page);
                }
                // And nobody is sent round in circles: a fresh place is a good one.
                let newest = log.read(&topic, From::Newest, PageLimit::default());
                let next = newest.await.expect("in memory").next;
                let verdict = log.judge(vec![(topic, next)]).await.expect("in memory");
                assert_eq!(verdict, [Verdict::Ok], "{next}");
            }
            Move::Lose(partition, place) => {
                let after = list.retained_place(partition, place);
                log.lose_suffix(partition, after).expect("it exists");
                list.lose(partition, after);
            }
            Move::Fill(..) | Move::Heads(_) | Move::Tail => {}
        }
    }
}

async fn clock_ms(log: &MemoryLog) -> u64 {
    log.time_ms().await.expect("in memory")
}

#[test]
fn a_tail_that_was_away_for_too_long_skips() {
    block_on(async {
        let (log, clock) = log(MemoryOptions::MAX_BYTES);
        let mut watcher = Watcher::new(&log);
        let mut list = List::new(PARTITIONS, clock_ms(&log).await);
        for pass in [0, RETENTION_MS / 2, RETENTION_MS] {
            clock.advance(Duration::from_millis(pass));
            list.now_ms += pass;
            let drafts = vec![model::history::draft(0, 0, None)];
            let appended = log.append(Partition(0), drafts.clone()).await;
            list.appended(Partition(0), drafts, &appended.expect("room enough"));
        }
        // Two are past their time and still there; the third is handed out after a word.
        watcher.check(&list).await;
        assert!(list.last(Partition(0)) > EventId::ORIGIN);
    });
}
