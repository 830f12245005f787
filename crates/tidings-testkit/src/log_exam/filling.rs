//! Filling: the newest part of a partition, `(start, level]` without a gap, and the tail that goes
//! on from its level.

use anyhow::Result;
use tidings_core::{EventId, EventLog, Filled, Outcome, PageLimit, Partition};

use super::Subject;
use super::room::{Chains, Follower, Room, draft, ids, placed};

pub(super) async fn fill_of_an_unused_partition(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    room.publish(&placed(1, "exam/elsewhere"), "1").await?;
    let filled = room.log.fill(Partition(0), PageLimit::default()).await?;
    let nothing = Filled {
        events: Vec::new(),
        start: EventId::ORIGIN,
        level: EventId::ORIGIN,
    };
    assert_eq!(filled, nothing);
    Ok(())
}

pub(super) async fn fill_brings_the_newest_without_a_gap(subject: &dyn Subject) -> Result<()> {
    const EVENTS: usize = 700;
    let room = Room::new(subject).await?;
    let mut all = Vec::new();
    for part in (0..EVENTS).collect::<Vec<_>>().chunks(70) {
        let drafts = part.iter().map(|n| {
            let data = format!("\"{}\"", "x".repeat(n % 50));
            draft(&placed(0, &format!("exam/{}", n % 3)), &data)
        });
        let appended = room.log.append(Partition(0), drafts.collect()).await?;
        all.extend(ids(&appended, Outcome::New));
    }
    let limit = |events, bytes| PageLimit { events, bytes };
    for limit in [
        limit(1, 1),
        limit(10, usize::MAX),
        limit(usize::MAX, 200),
        limit(EVENTS - 1, usize::MAX),
        limit(EVENTS, usize::MAX),
        limit(usize::MAX, usize::MAX),
    ] {
        let filled = room.log.fill(Partition(0), limit).await?;
        let count = filled.events.len();
        let bytes: usize = filled.events.iter().map(|e| e.data.len()).sum();
        assert!(count == 1 || count <= limit.events && bytes <= limit.bytes);
        assert!(count >= 1);
        let (before, newest) = all.split_at(EVENTS - count);
        let served = filled.events.iter().map(|e| e.id);
        assert!(served.eq(newest.iter().copied()), "{limit:?}");
        assert_eq!(filled.level, all[EVENTS - 1]);
        assert!(filled.start < newest[0]);
        let gap = before.last().is_some_and(|id| *id > filled.start);
        assert!(!gap, "events after {} are missing", filled.start);
    }
    let whole = room.log.fill(Partition(0), limit(usize::MAX, usize::MAX));
    assert_eq!(whole.await?.events.len(), EVENTS, "no bound, no end");
    Ok(())
}

pub(super) async fn fill_keeps_to_the_retention(subject: &dyn Subject) -> Result<()> {
    let room = Room::short(subject).await?;
    let topic = placed(0, "exam/fill");
    let fill = || room.log.fill(topic.partition, PageLimit::default());
    let old = room.publish(&topic, "1").await?;
    room.wait_for_expiry(old).await?;
    for trimmed in [false, true] {
        if trimmed {
            room.log.trim(topic.partition).await?;
        }
        let filled = fill().await?;
        assert_eq!(filled.events, []);
        assert_eq!((filled.start, filled.level), (old, old));
    }
    let new = room.publish(&topic, "2").await?;
    let filled = fill().await?;
    assert_eq!(
        filled.events.iter().map(|e| e.id).collect::<Vec<_>>(),
        [new]
    );
    assert!(old <= filled.start && filled.start < new, "{filled:?}");
    assert_eq!(filled.level, new);
    Ok(())
}

pub(super) async fn fill_and_tail_meet(subject: &dyn Subject) -> Result<()> {
    const APPENDS: usize = 200;
    let room = Room::new(subject).await?;
    // Some are there before the first window is filled, the rest come meanwhile.
    append_rounds(&*room.log, 0..APPENDS / 4).await?;
    let log = room.another().await?;
    let writer = tokio::spawn(async move { append_rounds(&*log, APPENDS / 4..APPENDS).await });
    // Windows filled at different moments of one run.
    for _ in 0..5 {
        let log = room.another().await?;
        let mut chains = Chains::default();
        let mut places = Vec::new();
        let whole = PageLimit {
            events: usize::MAX,
            bytes: usize::MAX,
        };
        for partition in log.partitions().all() {
            let filled = log.fill(partition, whole).await?;
            filled.events.iter().for_each(|event| chains.take(event));
            places.push(filled.level);
        }
        let mut tail = Follower::new(&*log, places);
        while chains.seen < APPENDS * 2 * 4 {
            let events = tail.events().await?;
            events.iter().for_each(|event| chains.take(event));
        }
        assert_eq!(chains.seen, APPENDS * 2 * 4);
    }
    writer.await??;
    Ok(())
}

/// In each round two events in each partition.
async fn append_rounds(log: &dyn EventLog, rounds: std::ops::Range<usize>) -> Result<()> {
    for n in rounds {
        for partition in 0..4 {
            let topic = placed(partition, &format!("exam/meet/{partition}/{}", n % 3));
            let drafts = vec![draft(&topic, &n.to_string()); 2];
            log.append(topic.partition, drafts).await?;
        }
    }
    Ok(())
}
