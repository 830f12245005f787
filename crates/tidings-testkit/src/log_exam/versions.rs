//! Versions: a writer that has not seen the last one is refused, whatever became of the record
//! since, and none ever comes again.

use std::time::Duration;

use anyhow::Result;
use tidings_core::{Commit, CommitOutcome, EventLog, From, Placed, Version};

use super::Subject;
use super::ledger::{HERE, brief, commit, key, load, put, stored};
use super::room::{Room, draft, placed};

pub(super) async fn a_stale_version_conflicts(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (key("a"), key("b"));
    let expecting = |expects: &[(&str, Version)]| Commit {
        expects: expects.iter().map(|(id, v)| (key(id), *v)).collect(),
        puts: vec![put(&b, "written")],
        ..commit()
    };
    let conflicts = async |expects: &[(&str, Version)]| {
        let before = room.version(&b).await?;
        let outcome = room.try_commit(expecting(expects)).await?;
        assert_eq!(outcome, CommitOutcome::Conflict, "{expects:?}");
        assert_eq!(room.version(&b).await?, before, "it was written");
        anyhow::Ok(())
    };
    let absent = Version::ABSENT;
    let first = room.put(&a, "1").await?;
    conflicts(&[("a", absent)]).await?;
    conflicts(&[("b", first)]).await?;
    conflicts(&[("a", Version(first.0 + 1))]).await?;
    conflicts(&[("a", Version(first.0 - 1))]).await?;
    // One that does not hold among many that do.
    conflicts(&[("a", first), ("b", absent), ("c", first)]).await?;
    conflicts(&[("c", first), ("b", absent), ("a", first)]).await?;

    let held = expecting(&[("a", first), ("b", absent), ("c", absent)]);
    let version = room.commit(held).await?.version;
    assert_eq!(room.version(&b).await?, version);
    // What was only looked at keeps its version.
    assert_eq!(room.version(&a).await?, first);
    let second = room.put(&a, "1").await?;
    conflicts(&[("a", first)]).await?;

    // Removed and made anew it is another record, though it looks the same.
    room.commit(Commit {
        removes: vec![a.clone()],
        ..commit()
    })
    .await?;
    conflicts(&[("a", second)]).await?;
    room.put(&a, "1").await?;
    conflicts(&[("a", first)]).await?;
    conflicts(&[("a", second)]).await?;
    conflicts(&[("a", absent)]).await
}

pub(super) async fn versions_rise_and_never_restart(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let (a, b, lives) = (key("a"), key("b"), key("lives"));
    let mut versions = Vec::new();
    for n in 0..20 {
        versions.push(room.put(if n % 2 == 0 { &a } else { &b }, "1").await?);
        let commit = Commit {
            puts: vec![put(&a, "2"), put(&b, "2")],
            ..commit()
        };
        let both = stored(other.records().commit(HERE, commit).await?).version;
        assert_eq!(
            (room.version(&a).await?, room.version(&b).await?),
            (both, both)
        );
        versions.push(both);
    }
    // Gone in either way, and made anew.
    for remove in [true, false] {
        let short = Commit {
            puts: vec![brief(&lives, Duration::from_millis(300))],
            ..commit()
        };
        let old = room.commit(short).await?.version;
        versions.push(old);
        let after = room.log.time_ms().await?;
        if remove {
            let removes = vec![lives.clone()];
            versions.push(
                room.commit(Commit {
                    removes,
                    ..commit()
                })
                .await?
                .version,
            );
        } else {
            room.wait_for_ms(after + 400).await?;
        }
        assert_eq!(room.load(&lives).await?, None);
        let with = |version| Commit {
            expects: vec![(lives.clone(), version)],
            puts: vec![put(&lives, "anew")],
            ..commit()
        };
        assert_eq!(room.try_commit(with(old)).await?, CommitOutcome::Conflict);
        versions.push(room.commit(with(Version::ABSENT)).await?.version);
        assert_eq!(room.try_commit(with(old)).await?, CommitOutcome::Conflict);
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert!(versions.iter().all(|version| version.0 < 1 << 53));
    Ok(())
}

pub(super) async fn of_many_committers_none_is_overwritten(subject: &dyn Subject) -> Result<()> {
    const TASKS: usize = 6;
    const EACH: usize = 12;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/counted");
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        let (log, topic) = (room.another().await?, topic.clone());
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            while done < EACH {
                done += usize::from(count_up(&*log, &topic).await?);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let total = (TASKS * EACH).to_string();
    let counter = room.load(&key("counter")).await?.expect("it was counted");
    assert_eq!(counter.document, total);
    // Each count was said once, in order.
    let events = room.read(&topic, From::Oldest).await?.events;
    assert_eq!(events.len(), TASKS * EACH);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.data, (n + 1).to_string());
    }
    Ok(())
}

/// Adds one to a counter, unless somebody else was faster.
async fn count_up(log: &dyn EventLog, topic: &Placed) -> Result<bool> {
    let counter = key("counter");
    let there = load(log, &counter).await?;
    // Others come in between, also where nothing ever waits.
    tokio::task::yield_now().await;
    let version = there.as_ref().map_or(Version::ABSENT, |r| r.version);
    let count = there.map_or(Ok(0), |r| {
        String::from_utf8_lossy(&r.document).parse::<usize>()
    })?;
    let next = (count + 1).to_string();
    let commit = Commit {
        expects: vec![(counter.clone(), version)],
        puts: vec![put(&counter, next.clone())],
        drafts: vec![draft(topic, &next)],
        ..commit()
    };
    match log.records().commit(HERE, commit).await? {
        CommitOutcome::Committed(_) => Ok(true),
        CommitOutcome::Conflict => Ok(false),
        other => panic!("{other:?}"),
    }
}
