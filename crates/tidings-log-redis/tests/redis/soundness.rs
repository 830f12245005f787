//! Random publishing, trimming and reading over many short retentions, against what is known to
//! have been stored: `ok` means that nothing was missed, whatever the cursor.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tidings_core::{EventId, EventLog as _, From, PageLimit, Verdict};
use tidings_log_redis::RedisOptions;
use tidings_testkit::servers::RedisServer;

use crate::common::{self, draft, placed};

const RETENTION_MS: u64 = 400;
/// Long enough that indexes and heads expire and are renewed many times, at every phase.
const RETENTIONS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::print_stdout,
    reason = "a failure can be repeated with the seed"
)]
async fn ok_means_nothing_was_missed() -> Result<()> {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let server = RedisServer::start().await?;
    let options = RedisOptions {
        retention: Duration::from_millis(RETENTION_MS),
        ..common::options(server.url())
    };
    let log = common::connect(options).await?;
    // From one that is most of its partition to one that is silent for retentions.
    let topics = [("busy", 60), ("sparse", 15), ("rare", 4), ("seldom", 1)];
    let topics = topics.map(|(name, weight)| (placed(0, &format!("sound/{name}")), weight));
    let mut stored: Vec<Vec<EventId>> = vec![Vec::new(); topics.len()];
    let end = log.time_ms().await? + RETENTIONS * RETENTION_MS;
    let (mut judged, mut seen) = (0, [0usize; 3]);
    while log.time_ms().await? < end {
        let which = topics
            .iter()
            .position(|(_, weight)| random.random_ratio(*weight, 100));
        if let Some(which) = which {
            let topic = &topics[which].0;
            let drafts = vec![draft(topic.topic.as_str(), "1"); random.random_range(1..4)];
            let appended = log.append(topic.partition, drafts).await?;
            stored[which].extend(appended.iter().map(|appended| appended.id));
        }
        if random.random_ratio(1, 20) {
            log.trim(topics[0].0.partition).await?;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..10))).await;

        // Any stored id as the cursor of any topic.
        let reader = random.random_range(0..topics.len());
        let from = &stored[random.random_range(0..topics.len())];
        let Some(last) = from.len().checked_sub(1) else {
            continue;
        };
        let cursor = from[last - random.random_range(0..=last.min(200))];
        let (topic, ids) = (&topics[reader].0, &stored[reader]);
        let before = log.time_ms().await?;
        let page = log
            .read(topic, From::After(cursor), PageLimit::default())
            .await?;
        let after = log.time_ms().await?;
        let young = |now: u64| ids.iter().filter(move |id| id.ms() + RETENTION_MS > now);
        let whole = log.read(topic, From::Oldest, PageLimit::default()).await?;
        let now = log.time_ms().await?;
        for id in young(now) {
            let served = whole.events.iter().any(|event| event.id == *id);
            assert!(
                served,
                "{id} of {topic:?} is not served, {} ms old",
                now - id.ms()
            );
        }
        let missed = || ids.iter().filter(|id| **id > cursor);
        judged += 1;
        match page.verdict {
            Verdict::Ok => {
                seen[0] += 1;
                let served: Vec<_> = page.events.iter().map(|event| event.id).collect();
                let expected: Vec<_> = missed().copied().collect();
                assert_eq!(served, expected, "ok at {cursor} in {topic:?}");
            }
            // Fair only when the retention took something, or the cursor itself.
            Verdict::Expired => {
                seen[1] += 1;
                let gone = |id: &EventId| id.ms() + RETENTION_MS <= after;
                assert!(
                    gone(&cursor),
                    "expired at {cursor}, {} ms old",
                    after - cursor.ms()
                );
                let fair = missed().any(gone) || before > cursor.ms() + 24 * RETENTION_MS;
                assert!(
                    fair,
                    "expired at {cursor} in {topic:?}, where nothing is missing"
                );
            }
            other => panic!("{other} at {cursor}, which was stored"),
        }
    }
    assert!(seen[0] > 100 && seen[1] > 20, "{seen:?} of {judged}");
    Ok(())
}
