//! Reading: from every kind of place, in pages, each topic by itself, and heads.

use anyhow::Result;
use tidings_core::{EventId, From, Head, Outcome, PageLimit, Partition, Verdict};

use super::Subject;
use super::room::{Room, counted, draft, ids, placed, read_to_end};

pub(super) async fn oldest_newest_and_after(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(1, "exam/read");
    let appended = room.log.append(topic.partition, counted(&topic, 0..10));
    let all = ids(&appended.await?, Outcome::New);

    let oldest = room.read(&topic, From::Oldest).await?;
    assert_eq!(oldest.verdict, Verdict::Ok);
    assert!(oldest.events.iter().map(|e| e.id).eq(all.iter().copied()));
    assert_eq!(oldest.next, all[9]);
    assert_eq!(oldest.head, Some(all[9]));
    assert!(oldest.at_end);

    let newest = room.read(&topic, From::Newest).await?;
    assert_eq!((newest.verdict, newest.events), (Verdict::Ok, vec![]));
    assert_eq!((newest.next, newest.at_end), (all[9], true));

    for (n, place) in all.iter().enumerate() {
        let page = room.read(&topic, From::After(*place)).await?;
        assert_eq!(page.verdict, Verdict::Ok);
        let rest = all[n + 1..].iter().copied();
        assert!(page.events.iter().map(|e| e.id).eq(rest), "after {place}");
        assert_eq!((page.next, page.at_end), (all[9], true));
    }
    Ok(())
}

pub(super) async fn newest_before_the_first_event(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(1, "exam/soon");
    for stranger in [false, true] {
        if stranger {
            room.publish(&placed(1, "exam/stranger"), "1").await?;
        }
        let newest = room.read(&topic, From::Newest).await?;
        assert_eq!((newest.verdict, &newest.events), (Verdict::Ok, &vec![]));
        assert_eq!((newest.head, newest.at_end), (None, true));
        let again = room.read(&topic, From::After(newest.next)).await?;
        assert_eq!((again.verdict, again.at_end), (Verdict::Ok, true));
        let oldest = room.read(&topic, From::Oldest).await?;
        assert_eq!((oldest.verdict, &oldest.events), (Verdict::Ok, &vec![]));
        assert!(oldest.at_end);
    }
    let place = room.read(&topic, From::Newest).await?.next;
    let id = room.publish(&topic, "1").await?;
    let page = room.read(&topic, From::After(place)).await?;
    assert_eq!(page.verdict, Verdict::Ok);
    assert_eq!(page.events.iter().map(|e| e.id).collect::<Vec<_>>(), [id]);
    Ok(())
}

pub(super) async fn since_includes_its_millisecond(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(1, "exam/since");
    let mut all = Vec::new();
    for n in 0..8 {
        let drafts = counted(&topic, 0..n % 3 + 1);
        let appended = room.log.append(topic.partition, drafts).await?;
        all.extend(ids(&appended, Outcome::New));
        room.publish(&placed(1, "exam/stranger"), "1").await?;
        room.tick().await?;
    }
    for ms in all
        .iter()
        .flat_map(|id| [id.ms() - 1, id.ms(), id.ms() + 1])
    {
        let page = room.read(&topic, From::Since(ms)).await?;
        let expected = all.iter().copied().filter(|id| id.ms() >= ms);
        assert_eq!(page.verdict, Verdict::Ok);
        assert!(page.events.iter().map(|e| e.id).eq(expected), "since {ms}");
    }
    let page = room.read(&topic, From::Since(0)).await?;
    assert_eq!(page.events.len(), all.len());

    // A time to come brings nothing yet, and leaves a place that can be gone on from.
    for ms in [all[all.len() - 1].ms() + 3_600_000, u64::MAX] {
        let page = room.read(&topic, From::Since(ms)).await?;
        assert_eq!((page.verdict, page.events), (Verdict::Ok, vec![]));
        assert_eq!(room.judge(&topic, page.next).await?, Verdict::Ok);
    }
    Ok(())
}

pub(super) async fn pages_keep_their_bounds(subject: &dyn Subject) -> Result<()> {
    const EVENTS: usize = 60;
    let room = Room::new(subject).await?;
    let topic = placed(1, "exam/pages");
    // Data of 2 to 61 bytes, between events of another topic.
    let drafts = (0..EVENTS).flat_map(|n| {
        let stranger = draft(&placed(1, "exam/stranger"), "1");
        [draft(&topic, &format!("\"{}\"", "x".repeat(n))), stranger]
    });
    let drafts: Vec<_> = drafts.collect();
    for part in drafts.chunks(50) {
        room.log.append(topic.partition, part.to_vec()).await?;
    }
    let all = read_to_end(&*room.log, &topic, From::Oldest, PageLimit::default()).await?;
    assert_eq!(all.len(), EVENTS);

    let limit = |events, bytes| PageLimit { events, bytes };
    for limit in [
        limit(1, usize::MAX),
        limit(7, 1 << 20),
        limit(usize::MAX, 100),
        limit(5, 100),
        limit(59, usize::MAX),
        limit(60, usize::MAX),
        limit(1, 1),
    ] {
        let first = room.log.read(&topic, From::Oldest, limit).await?;
        assert_eq!(first.at_end, first.events.len() == EVENTS, "{limit:?}");
        let paged = read_to_end(&*room.log, &topic, From::Oldest, limit).await?;
        assert_eq!(paged, all, "{limit:?}");
        // Every page on the way is within its bounds, or one event.
        let mut from = From::Oldest;
        loop {
            let page = room.log.read(&topic, from, limit).await?;
            let bytes: usize = page.events.iter().map(|e| e.data.len()).sum();
            let kept = page.events.len() <= limit.events && bytes <= limit.bytes;
            assert!(kept || page.events.len() == 1, "{limit:?}: {page:?}");
            if page.at_end {
                break;
            }
            from = From::After(page.next);
        }
    }
    Ok(())
}

pub(super) async fn topics_of_one_partition_stay_apart(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let names = [
        "exam", "exam/a", "exam/a/b", "exam/ab", "EXAM/a", "exam/a:b",
    ];
    for n in 0..12 {
        let drafts = names.map(|name| draft(&placed(2, name), &n.to_string()));
        room.log.append(Partition(2), drafts.to_vec()).await?;
    }
    for name in names {
        let topic = placed(2, name);
        let page = room.read(&topic, From::Oldest).await?;
        assert_eq!(page.events.len(), 12);
        assert!(page.events.iter().all(|e| e.topic == topic.topic));
        assert_eq!(page.head, page.events.last().map(|e| e.id));
    }
    let elsewhere = room.read(&placed(1, "exam/a"), From::Oldest).await?;
    assert_eq!(elsewhere.events, [], "a topic stands where it was placed");
    Ok(())
}

pub(super) async fn heads_are_known_everywhere(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let unused = room.log.heads(vec![placed(0, "exam/a")]).await?;
    let nothing = Head {
        topic: None,
        partition: EventId::ORIGIN,
    };
    assert_eq!(unused, [nothing]);

    for n in 0..20 {
        let a = room.publish(&placed(0, "exam/a"), &n.to_string()).await?;
        let c = room.publish(&placed(3, "exam/c"), &n.to_string()).await?;
        let b = room.publish(&placed(0, "exam/b"), &n.to_string()).await?;
        let asked = [(3, "exam/c"), (0, "exam/b"), (0, "exam/a"), (3, "exam/d")];
        let asked = asked.map(|(p, name)| placed(p, name)).to_vec();
        let head = |topic, partition| Head { topic, partition };
        let expected = [
            head(Some(c), c),
            head(Some(b), b),
            head(Some(a), b),
            head(None, c),
        ];
        assert_eq!(other.heads(asked).await?, expected);
    }
    assert_eq!(room.log.heads(Vec::new()).await?, []);
    Ok(())
}
