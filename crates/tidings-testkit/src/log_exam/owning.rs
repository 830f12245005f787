//! Owners: a lease that is renewed is kept, one that is not is reaped, and what was owned then is
//! handled once, by whoever commits first.

use std::time::Duration;

use anyhow::Result;
use tidings_core::{
    Beat, BoxFuture, Commit, CommitOutcome, EventLog, IncarnationId, LogError, Orphan, Partition,
    Put, RecordKey,
};

use super::Subject;
use super::ledger::{HERE, commit, key, put, retried, stored, within_a_span};
use super::room::{Room, draft, placed, read_to_end};

/// A lease that nobody waits for.
const LONG: Duration = Duration::from_secs(3600);

/// A lease that is over soon.
const BRIEF: Duration = Duration::from_millis(300);

/// One that nobody else has.
pub(super) fn incarnation() -> IncarnationId {
    IncarnationId(rand::random())
}

pub(super) fn orphan(incarnation: IncarnationId, record: &RecordKey) -> Orphan {
    Orphan {
        incarnation,
        record: record.clone(),
    }
}

fn owned(key: &RecordKey, owner: IncarnationId) -> Put {
    Put {
        owner: Some(owner),
        ..put(key, "owned")
    }
}

fn owning(key: &RecordKey, owner: IncarnationId) -> Commit {
    Commit {
        incarnation: Some(owner),
        puts: vec![owned(key, owner)],
        ..commit()
    }
}

fn adopting(orphan: &Orphan) -> Commit {
    Commit {
        adopts: Some(orphan.clone()),
        ..commit()
    }
}

async fn orphans(log: &dyn EventLog, limit: usize) -> Result<Vec<Orphan>> {
    let kinds = vec!["exam.kind".into()];
    let mut orphans = log.records().orphans(HERE, kinds, limit).await?;
    orphans.sort();
    Ok(orphans)
}

impl Room {
    pub(super) async fn beat(&self, who: IncarnationId, lease: Duration) -> Result<Beat> {
        Ok(self.log.records().beat(HERE, who, lease).await?)
    }

    pub(super) async fn put_owned(&self, key: &RecordKey, owner: IncarnationId) -> Result<()> {
        self.commit(owning(key, owner)).await.map(drop)
    }

    async fn orphans(&self) -> Result<Vec<Orphan>> {
        orphans(&*self.log, 100).await
    }

    /// Waits until a lease of that length, taken before, has ended by the log's clock.
    async fn outlast(&self, lease: Duration) -> Result<()> {
        let now = self.log.time_ms().await?;
        self.wait_for_ms(now + lease.as_millis() as u64 + 1).await
    }
}

pub(super) async fn a_lost_owners_records_are_orphans(subject: &dyn Subject) -> Result<()> {
    within_a_span(subject, |subject, span_ms| {
        Box::pin(async move {
            let room = Room::new(subject).await?;
            let lease = Duration::from_millis(span_ms);
            let (me, a, b) = (incarnation(), key("a"), key("b: any\ntext"));
            let other = RecordKey::new("exam.other", "a");
            let taken = room.log.time_ms().await?;
            assert_eq!(room.beat(me, lease).await?, Beat::Held);
            for record in [&a, &b, &other] {
                room.put_owned(record, me).await?;
            }
            let found = room.orphans().await?;
            if room.log.time_ms().await? >= taken + span_ms {
                return Ok(false);
            }
            assert_eq!(found, [], "the lease has not expired");
            room.outlast(lease).await?;
            let all = [orphan(me, &a), orphan(me, &b)];
            assert_eq!(room.orphans().await?, all, "of the kind asked");
            assert_eq!(room.orphans().await?, all, "nothing is claimed");
            assert_eq!(orphans(&*room.log, 1).await?.len(), 1);
            assert_eq!(room.log.records().orphans(HERE, Vec::new(), 9).await?, []);
            let both = vec!["exam.other".into(), "exam.kind".into()];
            let found = room.log.records().orphans(HERE, both, 9).await?;
            assert_eq!(found.len(), 3);
            // Only where it was owned.
            let kinds = vec!["exam.kind".into()];
            let there = room.log.records().orphans(Partition(1), kinds, 9).await?;
            assert_eq!(there, []);
            Ok(true)
        })
    })
    .await
}

pub(super) async fn of_many_sweepers_one_handles_an_orphan(subject: &dyn Subject) -> Result<()> {
    const RECORDS: usize = 30;
    const SWEEPERS: usize = 4;
    let room = Room::new(subject).await?;
    let (me, topic) = (incarnation(), placed(0, "exam/lost"));
    room.beat(me, BRIEF).await?;
    for n in 0..RECORDS {
        // On a slow machine the lease may have ended; nobody has reaped it.
        room.put_owned(&key(&n.to_string()), me).await?;
    }
    room.outlast(BRIEF).await?;
    let mut sweepers = Vec::new();
    for _ in 0..SWEEPERS {
        let (log, topic) = (room.another().await?, topic.clone());
        sweepers.push(tokio::spawn(async move {
            let mut handled = 0;
            loop {
                let found = orphans(&*log, 7).await?;
                if found.is_empty() {
                    return anyhow::Ok(handled);
                }
                for one in found {
                    let commit = Commit {
                        removes: vec![one.record.clone()],
                        drafts: vec![draft(&topic, &one.record.id)],
                        ..adopting(&one)
                    };
                    match log.records().commit(HERE, commit).await? {
                        CommitOutcome::Committed(_) => handled += 1,
                        CommitOutcome::Gone => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }));
    }
    let mut handled = 0;
    for sweeper in sweepers {
        handled += sweeper.await??;
    }
    assert_eq!(handled, RECORDS);
    let limit = tidings_core::PageLimit::default();
    let events = read_to_end(&*room.log, &topic, tidings_core::From::Oldest, limit).await?;
    let mut told: Vec<usize> = Vec::new();
    for event in events {
        told.push(std::str::from_utf8(&event.data)?.parse()?);
    }
    told.sort_unstable();
    assert_eq!(told, (0..RECORDS).collect::<Vec<_>>());
    Ok(())
}

/// A sweeper that dies after it has read, or whose commit came to nothing, changes nothing.
pub(super) async fn an_orphan_waits_for_whoever_handles_it(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (me, a, guard) = (incarnation(), key("a"), key("guard"));
    room.beat(me, BRIEF).await?;
    room.put_owned(&a, me).await?;
    room.outlast(BRIEF).await?;
    let dying = room.another().await?;
    let found = orphans(&*dying, 9).await?;
    assert_eq!(found, [orphan(me, &a)]);
    drop(dying);
    let conflicting = Commit {
        expects: vec![(guard, tidings_core::Version(1))],
        ..adopting(&found[0])
    };
    assert_eq!(room.try_commit(conflicting).await?, CommitOutcome::Conflict);
    assert_eq!(room.orphans().await?, found);
    let handling = adopting(&found[0]);
    stored(room.try_commit(handling.clone()).await?);
    retried(room.try_commit(handling).await?);
    assert_eq!(room.orphans().await?, []);
    let again = room.try_commit(adopting(&found[0])).await?;
    assert_eq!(again, CommitOutcome::Gone);
    // It was not removed: it is nobody's now.
    assert!(room.load(&a).await?.is_some());
    Ok(())
}

pub(super) async fn a_beat_within_the_lease_keeps_it(subject: &dyn Subject) -> Result<()> {
    within_a_span(subject, |subject, span_ms| {
        Box::pin(async move {
            let room = Room::new(subject).await?;
            let lease = Duration::from_millis(span_ms);
            let (me, a) = (incarnation(), key("a"));
            let mut taken = room.log.time_ms().await?;
            room.beat(me, lease).await?;
            room.put_owned(&a, me).await?;
            for _ in 0..4 {
                room.wait_for_ms(taken + span_ms * 2 / 3).await?;
                let now = room.log.time_ms().await?;
                assert_eq!(room.beat(me, lease).await?, Beat::Held);
                if room.log.time_ms().await? >= taken + span_ms {
                    return Ok(false);
                }
                taken = now;
                let found = room.orphans().await?;
                if room.log.time_ms().await? >= taken + span_ms {
                    return Ok(false);
                }
                assert_eq!(found, [], "it was renewed in time");
            }
            room.put_owned(&a, me).await?;
            Ok(true)
        })
    })
    .await
}

pub(super) async fn who_was_reaped_is_fenced(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (me, stranger, a) = (incarnation(), incarnation(), key("a"));
    let unknown = room.try_commit(owning(&a, stranger)).await?;
    assert_eq!(unknown, CommitOutcome::Fenced, "it never held a lease");
    room.beat(me, BRIEF).await?;
    let first = owning(&a, me);
    stored(room.try_commit(first.clone()).await?);
    room.outlast(BRIEF).await?;
    room.orphans().await?;
    for _ in 0..2 {
        assert_eq!(room.beat(me, LONG).await?, Beat::Reaped, "it is known");
        let late = Commit {
            drafts: vec![draft(&placed(0, "exam/late"), "1")],
            ..owning(&a, me)
        };
        assert_eq!(room.try_commit(late).await?, CommitOutcome::Fenced);
    }
    let bare = Commit {
        incarnation: Some(me),
        ..commit()
    };
    assert_eq!(room.try_commit(bare).await?, CommitOutcome::Fenced);
    retried(room.try_commit(first).await?);
    // Still, when everything it owned was handled.
    stored(room.try_commit(adopting(&orphan(me, &a))).await?);
    room.orphans().await?;
    assert_eq!(room.beat(me, LONG).await?, Beat::Reaped);
    let late = placed(0, "exam/late");
    let page = room.read(&late, tidings_core::From::Oldest).await?;
    assert_eq!(page.events, []);
    // Its next life is another one.
    let next = incarnation();
    assert_eq!(room.beat(next, LONG).await?, Beat::Held);
    room.put_owned(&a, next).await?;
    assert_eq!(room.orphans().await?, []);
    Ok(())
}

pub(super) async fn a_lease_that_nobody_reaped_goes_on(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (me, a) = (incarnation(), key("a"));
    room.beat(me, BRIEF).await?;
    room.outlast(BRIEF).await?;
    room.put_owned(&a, me).await?;
    assert_eq!(room.beat(me, LONG).await?, Beat::Held);
    assert_eq!(room.orphans().await?, []);
    Ok(())
}

pub(super) async fn leaving_orphans_at_once(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (me, a) = (incarnation(), key("a"));
    room.beat(me, LONG).await?;
    room.put_owned(&a, me).await?;
    for _ in 0..2 {
        room.log.records().leave(HERE, me).await?;
        assert_eq!(room.orphans().await?, [orphan(me, &a)]);
    }
    assert_eq!(room.beat(me, LONG).await?, Beat::Reaped);
    let late = room.try_commit(owning(&a, me)).await?;
    assert_eq!(late, CommitOutcome::Fenced);
    stored(room.try_commit(adopting(&orphan(me, &a))).await?);
    assert_eq!(room.orphans().await?, []);
    Ok(())
}

pub(super) async fn a_put_or_removal_changes_the_owner(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (me, other) = (incarnation(), incarnation());
    let [put_away, removed, given, kept, brief] =
        ["put", "removed", "given", "kept", "brief"].map(key);
    room.beat(me, LONG).await?;
    room.beat(other, LONG).await?;
    for record in [&put_away, &removed, &given, &kept] {
        room.put_owned(record, me).await?;
    }
    let fleeting = Commit {
        incarnation: Some(me),
        puts: vec![Put {
            lifetime: Some(Duration::from_millis(1)),
            ..owned(&brief, me)
        }],
        ..commit()
    };
    room.commit(fleeting).await?;
    room.tick().await?;
    room.put(&put_away, "nobody's").await?;
    let removing = Commit {
        removes: vec![removed.clone()],
        ..commit()
    };
    room.commit(removing).await?;
    room.put_owned(&given, other).await?;
    room.put_owned(&kept, me).await?;
    room.log.records().leave(HERE, me).await?;
    // The end of a lifetime changes nothing.
    let mut lost = [orphan(me, &kept), orphan(me, &brief)];
    lost.sort();
    assert_eq!(room.orphans().await?, lost);
    // An orphan is one no more when somebody writes or removes it.
    room.put_owned(&kept, other).await?;
    let removing = Commit {
        removes: vec![brief.clone()],
        ..commit()
    };
    room.commit(removing).await?;
    assert_eq!(room.orphans().await?, []);
    for record in [&kept, &brief, &put_away, &removed, &given] {
        let gone = room.try_commit(adopting(&orphan(me, record))).await?;
        assert_eq!(gone, CommitOutcome::Gone, "{record:?}");
    }
    // What is owned is no orphan either.
    let early = room.try_commit(adopting(&orphan(other, &given))).await?;
    assert_eq!(early, CommitOutcome::Gone);
    room.log.records().leave(HERE, other).await?;
    let mut lost = [orphan(other, &given), orphan(other, &kept)];
    lost.sort();
    assert_eq!(room.orphans().await?, lost);
    Ok(())
}

pub(super) async fn two_incarnations_stay_apart(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (one, other) = (incarnation(), incarnation());
    let (a, b) = (key("a"), key("b"));
    room.beat(one, BRIEF).await?;
    room.beat(other, LONG).await?;
    room.put_owned(&a, one).await?;
    room.put_owned(&b, other).await?;
    // A lease is one partition's.
    let there = Partition(1);
    assert_eq!(room.log.records().beat(there, one, LONG).await?, Beat::Held);
    room.outlast(BRIEF).await?;
    assert_eq!(room.orphans().await?, [orphan(one, &a)]);
    assert_eq!(room.beat(one, LONG).await?, Beat::Reaped);
    assert_eq!(room.beat(other, LONG).await?, Beat::Held);
    assert_eq!(room.log.records().beat(there, one, LONG).await?, Beat::Held);
    room.put_owned(&b, other).await?;
    // Who handles it may own it.
    let taking = Commit {
        adopts: Some(orphan(one, &a)),
        ..owning(&a, other)
    };
    stored(room.try_commit(taking).await?);
    assert_eq!(room.orphans().await?, []);
    room.log.records().leave(HERE, other).await?;
    assert_eq!(room.orphans().await?.len(), 2);
    Ok(())
}

pub(super) async fn owners_commit_for_themselves(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (me, other, a) = (incarnation(), incarnation(), key("a"));
    room.beat(me, LONG).await?;
    room.beat(other, LONG).await?;
    for by in [None, Some(other)] {
        let foreign = Commit {
            incarnation: by,
            ..owning(&a, me)
        };
        let refused = room.log.records().commit(HERE, foreign).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    }
    let nowhere = Partition(9);
    let records = room.log.records();
    let answers: [BoxFuture<'_, Result<bool, LogError>>; 3] = [
        Box::pin(async { Ok(records.beat(nowhere, me, LONG).await? == Beat::Held) }),
        Box::pin(async { records.leave(nowhere, me).await.map(|()| true) }),
        Box::pin(async { Ok(records.orphans(nowhere, Vec::new(), 9).await?.is_empty()) }),
    ];
    for answer in answers {
        let answer = answer.await;
        assert!(matches!(answer, Err(LogError::Refused(_))), "{answer:?}");
    }
    Ok(())
}
