//! Retention: nothing older is served and everything younger is, whether or not anyone trims; and
//! a full log frees itself as the hour passes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidings_core::{EventId, From, LogError, Outcome, PageLimit, Partition, TailStep, Verdict};

use super::room::{Follower, Room, draft, ids, placed, read_to_end};
use super::{Setup, Subject};

pub(super) async fn retention_is_exact_without_trimming(subject: &dyn Subject) -> Result<()> {
    sampled(subject, false).await
}

pub(super) async fn retention_is_exact_while_trimming(subject: &dyn Subject) -> Result<()> {
    sampled(subject, true).await
}

/// Publishes and looks, all the time, for two and a half retentions and then until nothing is
/// left.
async fn sampled(subject: &dyn Subject, trimming: bool) -> Result<()> {
    /// 250 events in all: each look is one page.
    const STEP: Duration = Duration::from_millis(20);
    let room = Room::short(subject).await?;
    let other = room.another().await?;
    let topics = [placed(0, "exam/one"), placed(0, "exam/two")];
    let mut stored: [Vec<EventId>; 2] = Default::default();
    let began = room.log.time_ms().await?;
    let publish_until = began + room.retention_ms() * 5 / 2;
    let look_until = publish_until + room.retention_ms() + 100;
    for n in 0usize.. {
        let now = room.log.time_ms().await?;
        if now < publish_until {
            // The second topic is sparse: its own oldest is not the partition's oldest.
            let which = usize::from(n % 10 == 9);
            stored[which].push(room.publish(&topics[which], "1").await?);
        }
        for (topic, stored) in topics.iter().zip(&stored) {
            let from = [From::Oldest, From::Since(0), From::Since(began)][n % 3];
            look(&room, stored, async || {
                Ok(room
                    .read(topic, from)
                    .await?
                    .events
                    .iter()
                    .map(|e| e.id)
                    .collect())
            })
            .await?;
        }
        let mut all: Vec<EventId> = stored.concat();
        all.sort_unstable();
        look(&room, &all, async || {
            let limit = PageLimit::default();
            let filled = other.fill(Partition(0), limit).await?;
            Ok(filled.events.iter().map(|e| e.id).collect())
        })
        .await?;
        if trimming && n % 3 == 0 {
            other.trim(Partition(0)).await?;
        }
        if now > look_until {
            break;
        }
        room.sitting.pass(STEP).await;
    }
    for topic in &topics {
        assert_eq!(room.read(topic, From::Oldest).await?.events, []);
    }
    Ok(())
}

/// One look at what is served, between two readings of the log's clock.
async fn look(
    room: &Room,
    stored: &[EventId],
    serve: impl AsyncFnOnce() -> Result<Vec<EventId>>,
) -> Result<()> {
    let before = room.log.time_ms().await?;
    let served = serve().await?;
    let after = room.log.time_ms().await?;
    let age_ms = room.retention_ms();
    assert!(served.is_sorted_by(|a, b| a < b));
    for id in &served {
        assert!(stored.contains(id));
        assert!(
            id.ms() + age_ms >= before,
            "{id} was served at {before}, {} ms after its time",
            before - id.ms() - age_ms
        );
    }
    let young = stored.iter().filter(|id| id.ms() + age_ms > after);
    let missing: Vec<_> = young.filter(|id| !served.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?} were not served at {after}");
    Ok(())
}

pub(super) async fn a_full_log_refuses_and_frees_itself(subject: &dyn Subject) -> Result<()> {
    const BYTES: usize = 4 << 20;
    const BATCH: usize = 8;
    let setup = Setup {
        // Time enough to fill it on a slow machine.
        retention: Duration::from_secs(5),
        bytes: Some(BYTES),
        ..Setup::default()
    };
    let room = Room::with(subject, setup).await?;
    let topic = placed(0, "exam/full");
    let data = format!("\"{}\"", "x".repeat(16 << 10));
    let batch = || vec![draft(&topic, &data); BATCH];

    let mut stored = Vec::new();
    let refusal = loop {
        match room.log.append(topic.partition, batch()).await {
            Ok(appended) => stored.extend(ids(&appended, Outcome::New)),
            Err(refusal) => break refusal,
        }
        let bytes = stored.len() * data.len();
        ensure!(
            bytes <= 4 * BYTES,
            "{bytes} bytes are stored, and it is not full"
        );
    };
    assert!(matches!(refusal, LogError::Full(_)), "{refusal:?}");
    let bytes = stored.len() * data.len();
    ensure!(bytes >= BYTES / 4, "full with only {bytes} bytes");

    // Full is no reason not to serve; of what was refused nothing was stored.
    let limit = PageLimit::default();
    let read = read_to_end(&*room.log, &topic, From::Oldest, limit).await?;
    assert!(read.iter().map(|e| e.id).eq(stored.iter().copied()));
    let last = stored[stored.len() - 1];
    assert_eq!(room.judge(&topic, last).await?, Verdict::Ok);
    let mut places = vec![EventId::ORIGIN; usize::from(setup.partitions)];
    places[topic.partition.index()] = last;
    let mut tail = Follower::new(&*room.log, places);

    // Instances trim once a second; that must be enough.
    let started = Instant::now();
    let freed = loop {
        for partition in room.log.partitions().all() {
            room.log.trim(partition).await?;
        }
        match room.log.append(topic.partition, batch()).await {
            Ok(appended) => break ids(&appended, Outcome::New),
            Err(LogError::Full(_)) => {}
            Err(other) => return Err(other.into()),
        }
        ensure!(started.elapsed() < Duration::from_secs(60), "it stays full");
        room.sitting.pass(Duration::from_millis(200)).await;
    };
    assert!(freed[0] > last);
    let mut seen = Vec::new();
    while seen.len() < BATCH {
        match tail.step().await? {
            TailStep::Events(_, events) => seen.extend(events.iter().map(|e| e.id)),
            TailStep::Level => {}
            // Its place was trimmed before it looked: what it skips is what has expired, no more.
            TailStep::Skipped { to, .. } => ensure!(to < freed[0], "skipped to {to}"),
            other => panic!("an undisturbed tail says {other:?}"),
        }
    }
    assert_eq!(seen, freed);
    Ok(())
}
