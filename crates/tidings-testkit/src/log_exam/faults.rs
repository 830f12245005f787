//! Faults: a suffix that is lost in a failover is told to everyone who saw it, and a restart loses
//! nothing. Handles find back by themselves; until then `Unavailable` is a fair answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidings_core::{
    Dedup, Draft, Event, EventId, EventLog, From, LogError, PageLimit, Placed, Prev, TailStep,
    Verdict,
};

use super::Subject;
use super::room::{Follower, Room, draft, patiently, placed};

/// Publishes under a key for as long as it takes, as a careful publisher does.
async fn persist(log: &dyn EventLog, topic: &Placed, key: &str) -> Result<EventId> {
    let started = Instant::now();
    loop {
        let draft = Draft {
            dedup: Some(Dedup::by_source(&topic.topic, None, key)),
            ..draft(topic, &format!("\"{key}\""))
        };
        match log.append(topic.partition, vec![draft]).await {
            Ok(appended) => return Ok(appended[0].id),
            Err(LogError::Unavailable(_) | LogError::FateUnknown(_)) => {}
            Err(other) => return Err(other.into()),
        }
        ensure!(started.elapsed() < Duration::from_secs(60), "no way back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn judge(room: &Room, topic: &Placed, place: EventId) -> Result<Verdict> {
    let verdicts = patiently(|| room.log.judge(vec![(topic.clone(), place)])).await?;
    let limit = PageLimit::default();
    let page = patiently(|| room.log.read(topic, From::After(place), limit)).await?;
    assert_eq!(page.verdict, verdicts[0], "read and judge on {place}");
    assert!(page.verdict.is_ok() || page.events.is_empty());
    Ok(page.verdict)
}

async fn read(room: &Room, topic: &Placed) -> Result<Vec<Event>> {
    let limit = PageLimit::default();
    let page = patiently(|| room.log.read(topic, From::Oldest, limit)).await?;
    Ok(page.events)
}

pub(super) async fn a_lost_suffix_is_ahead_then_diverged(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (placed(0, "exam/a"), placed(0, "exam/b"));
    let kept = persist(&*room.log, &a, "1").await?;
    room.sitting.cut().await?;
    let lost_a = persist(&*room.log, &a, "2").await?;
    let lost_b = persist(&*room.log, &b, "1").await?;
    room.sitting.fall_back().await?;

    for (topic, place) in [(&a, lost_a), (&b, lost_b), (&a, lost_b)] {
        assert_eq!(judge(&room, topic, place).await?, Verdict::Ahead, "{place}");
    }
    assert_eq!(judge(&room, &a, kept).await?, Verdict::Ok);
    assert_eq!(judge(&room, &b, kept).await?, Verdict::Ok);

    // New events take the log past the lost ones: these are strangers now, not forgotten.
    room.wait_for_ms(lost_b.ms() + 2).await?;
    let new = persist(&*room.log, &b, "2").await?;
    assert!(new > lost_b, "the clock went on");
    for (topic, place) in [(&a, lost_a), (&b, lost_b), (&a, lost_b), (&b, lost_a)] {
        let verdict = judge(&room, topic, place).await?;
        assert_eq!(verdict, Verdict::Diverged, "{place}");
    }
    for (topic, place) in [(&a, kept), (&b, kept), (&a, new), (&b, new)] {
        assert_eq!(judge(&room, topic, place).await?, Verdict::Ok, "{place}");
    }
    Ok(())
}

pub(super) async fn a_lost_suffix_takes_heads_and_keys_with_it(
    subject: &dyn Subject,
) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (placed(0, "exam/a"), placed(0, "exam/b"));
    let kept = persist(&*room.log, &a, "1").await?;
    room.sitting.cut().await?;
    persist(&*room.log, &a, "2").await?;
    persist(&*room.log, &b, "1").await?;
    room.sitting.fall_back().await?;

    let heads = patiently(|| room.log.heads(vec![a.clone(), b.clone()])).await?;
    assert_eq!((heads[0].topic, heads[1].topic), (Some(kept), None));
    // What was lost may be published again; what was kept may not.
    let again = persist(&*room.log, &a, "2").await?;
    assert_eq!(persist(&*room.log, &a, "1").await?, kept);
    let first = persist(&*room.log, &b, "1").await?;
    let events = read(&room, &a).await?;
    let seen: Vec<EventId> = events.iter().map(|e| e.id).collect();
    assert_eq!(seen, [kept, again]);
    assert_eq!(events[1].prev, Prev::Event(kept));
    let events = read(&room, &b).await?;
    assert_eq!(events.iter().map(|e| e.id).collect::<Vec<_>>(), [first]);
    assert!(matches!(events[0].prev, Prev::NoneSince(_)));
    Ok(())
}

pub(super) async fn a_tail_is_rewound_to_the_last_common_place(
    subject: &dyn Subject,
) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b, c) = (
        placed(0, "exam/a"),
        placed(0, "exam/b"),
        placed(1, "exam/c"),
    );
    let mut tail = Follower::from_origin(&*room.another().await?);
    let mut kept = Vec::new();
    for n in 0..4 {
        let topic = [&a, &b][n % 2];
        kept.push(persist(&*room.log, topic, &n.to_string()).await?);
    }
    let elsewhere = persist(&*room.log, &c, "1").await?;
    tail.count(5).await?;
    room.sitting.cut().await?;
    for n in 10..13 {
        persist(&*room.log, [&a, &b][n % 2], &n.to_string()).await?;
    }
    // Handed out before it is lost.
    tail.count(3).await?;
    room.sitting.fall_back().await?;

    let mut new = Vec::new();
    for n in 20..24 {
        let topic = [&a, &b][n % 2];
        new.push(persist(&*room.log, topic, &n.to_string()).await?);
    }
    let last = persist(&*room.log, &c, "2").await?;
    let (mut rewound, mut seen, mut seen_elsewhere) = (0, Vec::new(), Vec::new());
    while seen.len() < new.len() || seen_elsewhere.is_empty() {
        match tail.step().await? {
            TailStep::Events(partition, events) if partition == a.partition => {
                assert_eq!(
                    rewound, 1,
                    "new events before the old ones were called back"
                );
                seen.extend(events.iter().map(|e| e.id));
            }
            TailStep::Events(_, events) => seen_elsewhere.extend(events.iter().map(|e| e.id)),
            TailStep::Rewound { partition, common } => {
                assert_eq!((partition, common), (a.partition, kept[3]));
                rewound += 1;
            }
            TailStep::Down { .. } | TailStep::Up | TailStep::Level => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((seen, seen_elsewhere, rewound), (new, vec![last], 1));
    assert!(elsewhere < last);
    Ok(())
}

pub(super) async fn a_restart_loses_nothing(subject: &dyn Subject) -> Result<()> {
    const EVENTS: usize = 60;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/restart");
    let (log, to) = (room.another().await?, topic.clone());
    let writer = tokio::spawn(async move {
        let mut ids = Vec::new();
        for n in 0..EVENTS {
            ids.push(persist(&*log, &to, &n.to_string()).await?);
        }
        anyhow::Ok(ids)
    });
    room.sitting.restart().await?;
    let stored = writer.await??;
    assert!(stored.is_sorted_by(|a, b| a < b));
    let events = read(&room, &topic).await?;
    assert!(events.iter().map(|e| e.id).eq(stored.iter().copied()));
    for (n, place) in stored.iter().enumerate() {
        assert_eq!(judge(&room, &topic, *place).await?, Verdict::Ok);
        // Keys come back too.
        assert_eq!(persist(&*room.log, &topic, &n.to_string()).await?, *place);
    }
    Ok(())
}

pub(super) async fn a_quiet_topic_resumes_after_a_restart(subject: &dyn Subject) -> Result<()> {
    let room = Room::short(subject).await?;
    let (quiet, empty) = (placed(0, "exam/quiet"), placed(0, "exam/empty"));
    persist(&*room.log, &quiet, "1").await?;
    let last = persist(&*room.log, &quiet, "2").await?;
    let place = room.read(&empty, From::Newest).await?.next;
    room.wait_for_expiry(last).await?;
    room.sitting.restart().await?;
    assert_eq!(judge(&room, &quiet, last).await?, Verdict::Ok);
    assert_eq!(judge(&room, &empty, place).await?, Verdict::Ok);
    let new = persist(&*room.log, &quiet, "3").await?;
    assert!(new > last);
    let first = persist(&*room.log, &empty, "1").await?;
    assert_eq!(judge(&room, &quiet, last).await?, Verdict::Ok);
    assert_eq!(judge(&room, &empty, place).await?, Verdict::Ok);
    assert_eq!(judge(&room, &quiet, first).await?, Verdict::Ok);
    Ok(())
}

pub(super) async fn a_tail_outlives_a_restart(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(2, "exam/outlive");
    let mut tail = Follower::from_origin(&*room.another().await?);
    let mut stored = Vec::new();
    for n in 0..5 {
        stored.push(persist(&*room.log, &topic, &n.to_string()).await?);
    }
    tail.count(5).await?;
    stored.push(persist(&*room.log, &topic, "while it looks away").await?);
    room.sitting.restart().await?;
    for n in 5..10 {
        stored.push(persist(&*room.log, &topic, &n.to_string()).await?);
    }
    let mut seen = Vec::new();
    while seen.len() < 6 {
        match tail.step().await? {
            TailStep::Events(_, events) => seen.extend(events.iter().map(|e| e.id)),
            TailStep::Down { .. } | TailStep::Up | TailStep::Level => {}
            other => panic!("nothing was lost, and the tail says {other:?}"),
        }
    }
    assert_eq!(seen, stored[5..]);
    let newest = patiently(|| room.log.heads(vec![topic.clone()])).await?;
    assert_eq!(newest[0].topic, stored.last().copied());
    Ok(())
}
