//! Verdicts: each of the four, for the reasons that LOG.md §5 gives, and the quiet topics that
//! must not be told anything.

use std::time::Duration;

use anyhow::Result;
use tidings_core::record::RELAY_LEASE;
use tidings_core::{EventId, From, Prev, Verdict};

use super::room::{Room, counted, ids, placed};
use super::{Setup, Subject};

pub(super) async fn ok_at_any_event_of_the_partition(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (mine, other) = (placed(0, "exam/mine"), placed(0, "exam/other"));
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(room.publish(&mine, "1").await?);
        all.push(room.publish(&other, "1").await?);
    }
    for place in &all {
        assert_eq!(room.judge(&mine, *place).await?, Verdict::Ok, "{place}");
        // What a read goes on with from another topic's event is what lies after it.
        let page = room.read(&mine, From::After(*place)).await?;
        let rest = all.iter().copied().step_by(2).filter(|id| id > place);
        assert!(page.events.iter().map(|e| e.id).eq(rest), "after {place}");
    }
    // Before the first event of a young log nothing can have been missed.
    for place in [EventId::ORIGIN, EventId::before_ms(all[0].ms())] {
        assert_eq!(room.judge(&mine, place).await?, Verdict::Ok, "{place}");
        let page = room.read(&mine, From::After(place)).await?;
        assert_eq!(page.events.len(), 5);
    }
    // A topic without events has missed nothing at any of these places.
    for place in &all {
        let empty = placed(0, "exam/empty");
        assert_eq!(room.judge(&empty, *place).await?, Verdict::Ok, "{place}");
    }
    Ok(())
}

pub(super) async fn ahead_of_the_partition(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/ahead");
    let beyond = |id: EventId| EventId::new(id.ms() + 60_000, 0).expect("in range");
    let now = EventId::before_ms(room.log.time_ms().await?);
    assert_eq!(room.judge(&topic, now).await?, Verdict::Ahead);

    let last = room.publish(&topic, "1").await?;
    for place in [last.next(), beyond(last)] {
        for topic in [&topic, &placed(0, "exam/other")] {
            assert_eq!(room.judge(topic, place).await?, Verdict::Ahead, "{place}");
        }
    }
    // A later event elsewhere does not count.
    let elsewhere = placed(1, "exam/elsewhere");
    room.tick().await?;
    let later = room.publish(&elsewhere, "1").await?;
    assert_eq!(room.judge(&topic, later).await?, Verdict::Ahead);
    assert_eq!(room.judge(&topic, last).await?, Verdict::Ok);
    Ok(())
}

pub(super) async fn diverged_between_events(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/between");
    let first = room.publish(&topic, "1").await?;
    room.tick().await?;
    let last = room.publish(&placed(0, "exam/other"), "1").await?;
    for place in [first.next(), EventId::before_ms(last.ms())] {
        assert!(first < place && place < last);
        for topic in [&topic, &placed(0, "exam/other"), &placed(0, "exam/empty")] {
            let verdict = room.judge(topic, place).await?;
            assert_eq!(verdict, Verdict::Diverged, "{place} in {topic:?}");
        }
    }
    Ok(())
}

pub(super) async fn expired_when_something_is_gone(subject: &dyn Subject) -> Result<()> {
    let room = Room::short(subject).await?;
    let topic = placed(0, "exam/gone");
    let other = placed(0, "exam/other");
    let gone = ids(
        &room
            .log
            .append(topic.partition, counted(&topic, 0..3))
            .await?,
        tidings_core::Outcome::New,
    );
    let strange = room.publish(&other, "1").await?;
    room.wait_for_expiry(strange).await?;

    // Nothing is retained, nothing was trimmed: the head decides, not what still lies there.
    for place in [
        EventId::ORIGIN,
        EventId::before_ms(gone[0].ms()),
        gone[0],
        gone[1],
    ] {
        assert_eq!(
            room.judge(&topic, place).await?,
            Verdict::Expired,
            "{place}"
        );
    }
    for place in [gone[2], strange] {
        assert_eq!(room.judge(&topic, place).await?, Verdict::Ok, "{place}");
    }

    // Something is retained again: its `prev` decides.
    room.log.trim(topic.partition).await?;
    let new = room.publish(&topic, "3").await?;
    for place in [EventId::ORIGIN, gone[0], gone[1]] {
        assert_eq!(
            room.judge(&topic, place).await?,
            Verdict::Expired,
            "{place}"
        );
    }
    for place in [gone[2], strange, new] {
        assert_eq!(room.judge(&topic, place).await?, Verdict::Ok, "{place}");
    }
    // Whoever is told so starts again with what there is.
    let page = room.read(&topic, From::Oldest).await?;
    assert_eq!(page.events.iter().map(|e| e.id).collect::<Vec<_>>(), [new]);
    assert_eq!(page.events[0].prev, Prev::Event(gone[2]));
    Ok(())
}

pub(super) async fn verdicts_come_in_the_order_asked(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    for n in 0..80u16 {
        let topic = placed(n * 7 % 4, &format!("exam/{}", n % 9));
        let id = room.publish(&topic, "1").await?;
        asked.push((topic.clone(), id));
        expected.push(Verdict::Ok);
        let beyond = EventId::new(id.ms() + 3_600_000, n).expect("in range");
        asked.push((topic, beyond));
        expected.push(Verdict::Ahead);
    }
    assert_eq!(room.log.judge(asked.clone()).await?, expected);
    asked.reverse();
    expected.reverse();
    assert_eq!(room.another().await?.judge(asked).await?, expected);
    assert_eq!(room.log.judge(Vec::new()).await?, []);
    Ok(())
}

pub(super) async fn a_quiet_topic_resumes(subject: &dyn Subject) -> Result<()> {
    let room = Room::short(subject).await?;
    let other = room.another().await?;
    let quiet = placed(0, "exam/quiet");
    let busy = placed(0, "exam/busy");
    room.publish(&quiet, "1").await?;
    let last = room.publish(&quiet, "2").await?;
    let strange = room.publish(&busy, "1").await?;
    room.wait_for_expiry(strange).await?;
    for trimmed in [false, true] {
        if trimmed {
            room.log.trim(quiet.partition).await?;
        }
        for place in [last, strange] {
            assert_eq!(room.judge(&quiet, place).await?, Verdict::Ok, "{place}");
        }
        let page = room.read(&quiet, From::After(last)).await?;
        assert_eq!((page.head, page.at_end), (Some(last), true));
        assert_eq!(room.judge(&quiet, page.next).await?, Verdict::Ok);
        room.publish(&busy, "2").await?;
    }
    // Asked from another instance, with its neighbours talking, and after it speaks again.
    assert_eq!(
        super::room::judge(&*other, &quiet, last).await?,
        Verdict::Ok
    );
    let new = room.publish(&quiet, "3").await?;
    for place in [last, strange] {
        assert_eq!(room.judge(&quiet, place).await?, Verdict::Ok, "{place}");
        let page = room.read(&quiet, From::After(place)).await?;
        assert_eq!(page.events.iter().map(|e| e.id).collect::<Vec<_>>(), [new]);
    }
    Ok(())
}

pub(super) async fn an_empty_topic_resumes(subject: &dyn Subject) -> Result<()> {
    let room = Room::short(subject).await?;
    let topics = [placed(0, "exam/unused"), placed(1, "exam/empty")];
    let mut newest = room.publish(&placed(1, "exam/busy"), "1").await?;
    let mut places = Vec::new();
    for topic in &topics {
        places.push(room.read(topic, From::Newest).await?.next);
    }
    for busy in [false, true] {
        room.wait_for_expiry(newest).await?;
        if busy {
            room.publish(&placed(0, "exam/busy"), "2").await?;
            newest = room.publish(&placed(1, "exam/busy"), "2").await?;
        }
        for (topic, place) in topics.iter().zip(&places) {
            assert_eq!(room.judge(topic, *place).await?, Verdict::Ok, "{place}");
        }
    }
    for (topic, place) in topics.iter().zip(&places) {
        let first = room.publish(topic, "1").await?;
        let page = room.read(topic, From::After(*place)).await?;
        assert_eq!(page.verdict, Verdict::Ok, "{place} in {topic:?}");
        assert_eq!(
            page.events.iter().map(|e| e.id).collect::<Vec<_>>(),
            [first]
        );
    }
    Ok(())
}

/// Short enough that 24 of them can be waited for.
const HALF_SECOND: Setup = Setup {
    partitions: 4,
    retention: Duration::from_millis(500),
    bytes: None,
    relay_lease: RELAY_LEASE,
};

pub(super) async fn heads_are_kept_for_24_retentions(subject: &dyn Subject) -> Result<()> {
    let room = Room::with(subject, HALF_SECOND).await?;
    let (topic, busy) = (placed(0, "exam/head"), placed(0, "exam/busy"));
    let retention_ms = room.retention_ms();
    let head = room.publish(&topic, "1").await?;
    room.wait_for_ms(head.ms() + 20 * retention_ms).await?;
    room.log.trim(topic.partition).await?;
    assert_eq!(
        room.log.heads(vec![topic.clone()]).await?[0].topic,
        Some(head)
    );
    let fresh = room.publish(&busy, "1").await?;
    assert_eq!(room.judge(&topic, head).await?, Verdict::Ok);

    // Half a retention late: a store may take a moment to notice that a key's time is up.
    room.wait_for_ms(head.ms() + 24 * retention_ms + retention_ms / 2)
        .await?;
    room.log.trim(topic.partition).await?;
    assert_eq!(room.log.heads(vec![topic.clone()]).await?[0].topic, None);
    assert_eq!(room.judge(&topic, head).await?, Verdict::Expired);
    assert_eq!(room.judge(&topic, fresh).await?, Verdict::Ok);
    // What is known then is said, and no more than that.
    let new = room.publish(&topic, "2").await?;
    let page = room.read(&topic, From::Oldest).await?;
    let Prev::NoneSince(since) = page.events[0].prev else {
        panic!("{:?}", page.events[0]);
    };
    assert!(head < since, "{head} is not after {since}");
    let aged_ms = new.ms().saturating_sub(24 * retention_ms);
    assert!(since.ms() <= aged_ms, "{since} for {new}");
    assert!(since < fresh);
    assert_eq!(room.judge(&topic, head).await?, Verdict::Expired);
    Ok(())
}

pub(super) async fn a_fresh_place_is_ok_after_a_long_silence(subject: &dyn Subject) -> Result<()> {
    let room = Room::with(subject, HALF_SECOND).await?;
    let silent = placed(0, "exam/silent");
    let last = room.publish(&silent, "1").await?;
    room.wait_for_ms(last.ms() + 26 * room.retention_ms())
        .await?;
    let topics = [silent, placed(0, "exam/empty"), placed(1, "exam/unused")];
    for topic in &topics {
        for from in [
            From::Newest,
            From::Oldest,
            From::Since(0),
            From::Since(last.ms() + 1),
        ] {
            // Whoever has just been told where to go on is not told at once that this is too old.
            let page = room.read(topic, from).await?;
            assert_eq!(page.verdict, Verdict::Ok);
            let verdict = room.judge(topic, page.next).await?;
            assert_eq!(verdict, Verdict::Ok, "{} in {topic:?}", page.next);
        }
    }
    Ok(())
}
