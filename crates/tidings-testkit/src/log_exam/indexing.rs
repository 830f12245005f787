//! Indexes: records stand where a commit put them, in the same order in every log, for as long as
//! they are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tidings_core::limits::{EFFECTS_PER_COMMIT_MAX, PAGE_EVENTS_MAX};
use tidings_core::record::RANK_MAX;
use tidings_core::{
    Commit, CommitOutcome, EventLog, Listed, LogError, Partition, Rank, RecordKey, SetRank, Version,
};

use super::Subject;
use super::ledger::{HERE, brief, commit, insist, key, put, retried, stored, within_a_span};
use super::room::{Room, patiently};

/// The index that most cases use.
const INDEX: &str = "waiting";

fn rank_in(index: &str, key: &RecordKey, rank: u64) -> SetRank {
    SetRank {
        record: key.clone(),
        index: index.into(),
        rank: Some(rank),
    }
}

fn rank(key: &RecordKey, rank: u64) -> SetRank {
    rank_in(INDEX, key, rank)
}

fn out(key: &RecordKey) -> SetRank {
    SetRank {
        rank: None,
        ..rank(key, 0)
    }
}

/// Every page of an index, of so many places each.
async fn paged(
    log: &dyn EventLog,
    partition: Partition,
    (kind, index): (&str, &str),
    limit: usize,
) -> Result<Vec<Listed>> {
    let (mut all, mut after) = (Vec::new(), None::<Rank>);
    loop {
        let page = patiently(|| {
            let (kind, index) = (kind.into(), index.into());
            log.records()
                .list(partition, kind, index, after.clone(), limit)
        });
        let page = page.await?;
        assert!(page.entries.len() <= limit, "more than was asked for");
        let mut last = after;
        for one in &page.entries {
            assert!(last < Some(one.place()), "{one:?} does not rise");
            assert_eq!(&*one.key.kind, kind);
            last = Some(one.place());
        }
        all.extend(page.entries);
        let Some(next) = page.next else {
            return Ok(all);
        };
        assert!(last <= Some(next.clone()), "it goes back to {next:?}");
        after = Some(next);
    }
}

/// What stands in the index that most cases use: rank and id.
async fn standing(log: &dyn EventLog) -> Result<Vec<(u64, String)>> {
    let listed = paged(log, HERE, ("exam.kind", INDEX), 100).await?;
    let place = |one: &Listed| (one.rank, one.key.id.to_string());
    Ok(listed.iter().map(place).collect())
}

fn places(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    let owned = |(rank, id): &(u64, &str)| (*rank, (*id).to_owned());
    expected.iter().map(owned).collect()
}

impl Room {
    async fn rank(&self, ranks: Vec<SetRank>) -> Result<()> {
        self.commit(Commit { ranks, ..commit() }).await.map(drop)
    }

    async fn stand(&self, expected: &[(u64, &str)]) -> Result<()> {
        assert_eq!(standing(&*self.log).await?, places(expected));
        Ok(())
    }
}

pub(super) async fn an_index_lists_by_rank_and_id(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let ids = [
        "b",
        "a",
        "",
        "ab",
        "B",
        "a:1",
        "a;",
        "zz\u{e9}",
        "\u{1f600}",
        "\u{ffff}",
        "a\0b",
        "10",
        "9",
        " ",
    ];
    let ranks = [7, 7, 0, 10, 9, RANK_MAX, 7, 1_732_161_600_000];
    let mut expected = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let (one, place) = (key(id), ranks[n % ranks.len()]);
        // Names that begin alike, another kind, and another partition.
        let like = RecordKey::new("exam.kind.more", *id);
        let commit = Commit {
            puts: vec![put(&one, format!("\"{n}\"")), put(&like, "like")],
            ranks: vec![
                rank(&one, place),
                rank_in("waiting-2", &one, 1),
                rank_in("wait", &one, 2),
                rank(&like, 3),
            ],
            ..commit()
        };
        room.commit(commit.clone()).await?;
        let elsewhere = Commit {
            id: tidings_core::CommitId(rand::random()),
            ..commit
        };
        let records = room.log.records();
        stored(records.commit(Partition(1), elsewhere).await?);
        expected.push((place, id.as_bytes(), format!("\"{n}\"")));
    }
    expected.sort_unstable();
    for limit in [1, 2, 3, ids.len(), 100, 10_000] {
        let listed = paged(&*room.log, HERE, ("exam.kind", INDEX), limit).await?;
        let seen = listed.iter().map(|one| {
            let document = String::from_utf8_lossy(&one.record.document);
            (one.rank, one.key.id.as_bytes(), document.into_owned())
        });
        assert_eq!(seen.collect::<Vec<_>>(), expected, "by {limit}");
    }
    // As they are loaded.
    for one in paged(&*room.log, HERE, ("exam.kind", INDEX), 100).await? {
        assert_eq!(room.load(&one.key).await?, Some(one.record));
    }
    // Behind any place, whether somebody stands there or not.
    for place in [(0, ""), (7, "a"), (7, "a\u{1}"), (8, ""), (RANK_MAX, "~")] {
        let behind = expected
            .iter()
            .filter(|(rank, id, _)| (*rank, *id) > (place.0, place.1.as_bytes()));
        let after = Rank {
            rank: place.0,
            id: place.1.into(),
        };
        let records = room.log.records();
        let page = records.list(HERE, "exam.kind".into(), INDEX.into(), Some(after), 100);
        assert_eq!(page.await?.entries.len(), behind.count(), "{place:?}");
    }
    for (kind, index) in [("exam.kind", "waiting-3"), ("exam.other", INDEX)] {
        assert_eq!(paged(&*room.log, HERE, (kind, index), 9).await?, []);
    }
    assert_eq!(
        paged(&*room.log, Partition(2), ("exam.kind", INDEX), 9).await?,
        []
    );
    Ok(())
}

pub(super) async fn ranks_are_set_moved_and_taken_back(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (key("a"), key("b"));
    room.commit(Commit {
        puts: vec![put(&a, "1"), put(&b, "1")],
        ranks: vec![rank(&a, 5), rank(&b, 3)],
        ..commit()
    })
    .await?;
    room.stand(&[(3, "b"), (5, "a")]).await?;
    // A document that is written anew stands where it stood.
    room.put(&b, "2").await?;
    room.stand(&[(3, "b"), (5, "a")]).await?;
    room.rank(vec![rank(&b, 9)]).await?;
    room.stand(&[(5, "a"), (9, "b")]).await?;
    // In their order.
    room.rank(vec![rank(&b, 1), out(&a), rank(&a, 2), rank(&b, 2)])
        .await?;
    room.stand(&[(2, "a"), (2, "b")]).await?;
    room.rank(vec![out(&a), out(&a), out(&key("never"))])
        .await?;
    room.stand(&[(2, "b")]).await?;
    room.rank(vec![rank(&a, 2), out(&b)]).await?;
    room.stand(&[(2, "a")]).await
}

pub(super) async fn ranks_go_with_their_record(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (key("a"), key("b"));
    let ranks = || vec![rank(&a, 1), rank_in("other", &a, 2), rank(&b, 3)];
    // Who is not there stands nowhere, also later.
    room.rank(ranks()).await?;
    room.stand(&[]).await?;
    let puts = || vec![put(&a, "1"), put(&b, "1")];
    room.commit(Commit {
        puts: puts(),
        ..commit()
    })
    .await?;
    room.stand(&[]).await?;
    assert!(room.load(&a).await?.is_some());
    room.rank(ranks()).await?;
    room.stand(&[(1, "a"), (3, "b")]).await?;
    let removing = |ranks| Commit {
        removes: vec![a.clone()],
        ranks,
        ..commit()
    };
    room.commit(removing(Vec::new())).await?;
    room.stand(&[(3, "b")]).await?;
    // Made anew it stands nowhere, in no index.
    room.put(&a, "2").await?;
    room.stand(&[(3, "b")]).await?;
    let other = paged(&*room.log, HERE, ("exam.kind", "other"), 9).await?;
    assert_eq!(other, []);
    // Ranks come after removals, and those after puts.
    room.commit(removing(vec![rank(&a, 4)])).await?;
    room.stand(&[(3, "b")]).await?;
    room.commit(Commit {
        puts: puts(),
        removes: vec![b.clone()],
        ranks: ranks(),
        ..commit()
    })
    .await?;
    room.stand(&[(1, "a")]).await
}

pub(super) async fn what_has_ended_is_not_listed(subject: &dyn Subject) -> Result<()> {
    within_a_span(subject, |subject, span_ms| Box::pin(ends(subject, span_ms))).await
}

async fn ends(subject: &dyn Subject, span_ms: u64) -> Result<bool> {
    const FLEETING: usize = 40;
    let room = Room::new(subject).await?;
    let span = Duration::from_millis(span_ms);
    let before = room.log.time_ms().await?;
    let fleeting: Vec<RecordKey> = (0..FLEETING).map(|n| key(&format!("f{n}"))).collect();
    let (first, last) = (key("first"), key("last"));
    let mut puts: Vec<_> = fleeting.iter().map(|one| brief(one, span)).collect();
    puts.extend([put(&first, "1"), put(&last, "1")]);
    let mut ranks: Vec<_> = fleeting.iter().map(|one| rank(one, 5)).collect();
    ranks.extend([rank(&first, 1), rank(&last, 9)]);
    room.commit(Commit {
        puts,
        ranks,
        ..commit()
    })
    .await?;
    let there = standing(&*room.log).await?.len();
    let after = room.log.time_ms().await?;
    if after >= before + span_ms {
        return Ok(false);
    }
    assert_eq!(there, FLEETING + 2);
    room.wait_for_ms(after + span_ms + 100).await?;
    // One that is made anew before anybody looked.
    room.put(&fleeting[3], "anew").await?;
    for limit in [1, 7, 100] {
        let listed = paged(&*room.log, HERE, ("exam.kind", INDEX), limit).await?;
        let ids: Vec<&str> = listed.iter().map(|one| &*one.key.id).collect();
        assert_eq!(ids, ["first", "last"], "by {limit}");
    }
    room.rank(vec![rank(&fleeting[3], 5), rank(&fleeting[4], 5)])
        .await?;
    room.stand(&[(1, "first"), (5, "f3"), (9, "last")]).await?;
    Ok(true)
}

pub(super) async fn an_index_changes_with_its_commit(subject: &dyn Subject) -> Result<()> {
    const COMMITS: u64 = 80;
    let room = Room::new(subject).await?;
    let (a, b) = (key("a"), key("b"));
    // One of the two stands first; the documents say where.
    let swapping = |n: u64| Commit {
        puts: vec![put(&a, n.to_string()), put(&b, (n + 1).to_string())],
        ranks: vec![rank(&a, n), rank(&b, n + 1)],
        ..commit()
    };
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (log, done) = (room.another().await?, Arc::clone(&done));
        let commits: Vec<Commit> = (1..=COMMITS).map(swapping).collect();
        tokio::spawn(async move {
            for commit in commits {
                stored(log.records().commit(HERE, commit).await?);
                tokio::task::yield_now().await;
            }
            done.store(true, Ordering::Release);
            anyhow::Ok(())
        })
    };
    loop {
        let last_look = done.load(Ordering::Acquire);
        let records = room.log.records();
        let page = records.list(HERE, "exam.kind".into(), INDEX.into(), None, 9);
        let listed = page.await?.entries;
        for one in &listed {
            let document = String::from_utf8_lossy(&one.record.document);
            assert_eq!(one.rank.to_string(), document, "half a commit was listed");
        }
        let ids: Vec<&str> = listed.iter().map(|one| &*one.key.id).collect();
        assert!(ids.is_empty() || ids == ["a", "b"], "{ids:?}");
        if last_look {
            assert_eq!(ids.len(), 2);
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await??;
    // What does not come to be changes nothing.
    let expected = [(COMMITS, "a"), (COMMITS + 1, "b")];
    let stale = Commit {
        expects: vec![(a.clone(), Version::ABSENT)],
        ..swapping(7)
    };
    assert_eq!(room.try_commit(stale).await?, CommitOutcome::Conflict);
    room.stand(&expected).await?;
    // And what is asked again is not done again.
    let again = swapping(200);
    room.commit(again.clone()).await?;
    room.rank(vec![rank(&a, 300), rank(&b, 299)]).await?;
    retried(room.try_commit(again).await?);
    room.stand(&[(299, "b"), (300, "a")]).await
}

pub(super) async fn listings_keep_their_bounds(subject: &dyn Subject) -> Result<()> {
    const LARGE: usize = 40;
    let room = Room::new(subject).await?;
    let keys: Vec<RecordKey> = (0..LARGE).map(|n| key(&format!("{n:03}"))).collect();
    for (n, one) in keys.iter().enumerate() {
        room.commit(Commit {
            puts: vec![put(one, vec![b'x'; 60_000])],
            ranks: vec![rank(one, n as u64)],
            ..commit()
        })
        .await?;
    }
    let records = room.log.records();
    let page = records.list(HERE, "exam.kind".into(), INDEX.into(), None, LARGE);
    let page = page.await?;
    assert!(
        (2..LARGE).contains(&page.entries.len()) && page.next.is_some(),
        "{} of 60,000 bytes each",
        page.entries.len()
    );
    let all = paged(&*room.log, HERE, ("exam.kind", INDEX), LARGE).await?;
    assert_eq!(all.len(), LARGE);
    // Small ones fill a page.
    const SMALL: usize = PAGE_EVENTS_MAX + 30;
    let small: Vec<RecordKey> = (0..SMALL).map(|n| key(&format!("s{n}"))).collect();
    for some in small.chunks(60) {
        room.commit(Commit {
            puts: some.iter().map(|one| put(one, "1")).collect(),
            ranks: some.iter().map(|one| rank_in("small", one, 1)).collect(),
            ..commit()
        })
        .await?;
    }
    for (limit, expected) in [(1, 1), (499, 499), (SMALL, PAGE_EVENTS_MAX)] {
        let page = records.list(HERE, "exam.kind".into(), "small".into(), None, limit);
        let page = page.await?;
        assert_eq!(page.entries.len(), expected, "of {limit}");
        let last = page.entries.last().map(Listed::place);
        assert_eq!(page.next, last);
    }
    Ok(())
}

pub(super) async fn strange_ranks_are_refused(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let a = key("a");
    let many = vec![rank(&a, 1); EFFECTS_PER_COMMIT_MAX];
    room.commit(Commit {
        puts: vec![put(&a, "1")],
        ranks: many.clone(),
        ..commit()
    })
    .await?;
    let one_more = [many, vec![rank(&a, 1)]].concat();
    let refused = [
        vec![rank(&a, RANK_MAX + 1)],
        vec![rank_in("wait:ing", &a, 1)],
        vec![rank_in("", &a, 1)],
        vec![rank(&RecordKey::new("Exam", "a"), 1)],
        one_more,
    ];
    let records = room.log.records();
    for (n, ranks) in refused.into_iter().enumerate() {
        let puts = vec![put(&a, "written")];
        let commit = Commit {
            puts,
            ranks,
            ..commit()
        };
        let refused = records.commit(HERE, commit).await;
        assert!(
            matches!(refused, Err(LogError::Refused(_))),
            "{n}: {refused:?}"
        );
    }
    assert_eq!(room.load(&a).await?.expect("it is there").document, "1");
    for (partition, kind, index) in [
        (HERE, "exam kind", INDEX),
        (HERE, "exam.kind", "wait;ing"),
        (Partition(4), "exam.kind", INDEX),
    ] {
        let refused = records.list(partition, kind.into(), index.into(), None, 1);
        let refused = refused.await;
        assert!(
            matches!(refused, Err(LogError::Refused(_))),
            "{index}: {refused:?}"
        );
    }
    room.stand(&[(1, "a")]).await
}

pub(super) async fn a_restart_keeps_indexes(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (key("a"), key("b"));
    room.commit(Commit {
        puts: vec![put(&a, "1"), put(&b, "1")],
        ranks: vec![rank(&a, 5), rank(&b, 3)],
        ..commit()
    })
    .await?;
    room.sitting.restart().await?;
    room.stand(&[(3, "b"), (5, "a")]).await?;
    let moving = Commit {
        ranks: vec![rank(&a, 1)],
        ..commit()
    };
    stored(insist(&*room.log, moving).await?);
    room.stand(&[(1, "a"), (3, "b")]).await
}

pub(super) async fn a_lost_rank_never_was(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b, c) = (key("a"), key("b"), key("c"));
    room.commit(Commit {
        puts: vec![put(&a, "1"), put(&b, "1")],
        ranks: vec![rank(&a, 5), rank(&b, 3)],
        ..commit()
    })
    .await?;
    room.sitting.cut().await?;
    room.commit(Commit {
        puts: vec![put(&c, "1")],
        removes: vec![b],
        ranks: vec![rank(&a, 1), rank(&c, 9)],
        ..commit()
    })
    .await?;
    room.sitting.fall_back().await?;
    room.stand(&[(3, "b"), (5, "a")]).await?;
    let anew = Commit {
        ranks: vec![rank(&a, 2)],
        ..commit()
    };
    stored(insist(&*room.log, anew).await?);
    room.stand(&[(2, "a"), (3, "b")]).await
}
