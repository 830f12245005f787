//! Deadlines: they stand until they are fired, moved, cleared or go with their record; the log's
//! clock says when they have passed, and of many who fire one, one succeeds.

use anyhow::Result;
use tidings_core::{Commit, CommitOutcome, From, OutboxItem, RecordKey, Version};

use super::Subject;
use super::ledger::{HERE, clear, commit, deadline, key, put, set};
use super::room::{Room, draft, placed};

pub(super) async fn deadlines_are_set_moved_and_cleared(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (key("a"), key("b"));
    let expect = async |expected: &[(&RecordKey, &str, u64)]| {
        let expected = expected
            .iter()
            .map(|(key, name, at)| deadline(key, name, *at));
        assert_eq!(room.due().await?, expected.collect::<Vec<_>>());
        anyhow::Ok(())
    };
    let change = async |deadlines| {
        room.commit(Commit {
            deadlines,
            ..commit()
        })
        .await
    };
    expect(&[]).await?;
    room.commit(Commit {
        puts: vec![put(&a, "1"), put(&b, "1")],
        deadlines: vec![set(&a, "one", 10), set(&a, "two", 20), set(&b, "one", 30)],
        ..commit()
    })
    .await?;
    expect(&[(&a, "one", 10), (&a, "two", 20), (&b, "one", 30)]).await?;
    // Writing a record does not touch its deadlines.
    room.put(&a, "2").await?;
    expect(&[(&a, "one", 10), (&a, "two", 20), (&b, "one", 30)]).await?;
    change(vec![
        set(&a, "one", 25),
        clear(&b, "one"),
        clear(&b, "never"),
    ])
    .await?;
    expect(&[(&a, "two", 20), (&a, "one", 25)]).await?;
    // In their order.
    change(vec![
        set(&a, "one", 1),
        clear(&a, "one"),
        clear(&a, "two"),
        set(&a, "two", 15),
        set(&b, "one", 7),
        set(&b, "one", 8),
    ])
    .await?;
    expect(&[(&b, "one", 8), (&a, "two", 15)]).await?;
    // The firing removes it; that it is set anew comes after.
    room.commit(Commit {
        fires: Some(deadline(&a, "two", 15)),
        ..commit()
    })
    .await?;
    expect(&[(&b, "one", 8)]).await?;
    room.commit(Commit {
        fires: Some(deadline(&b, "one", 8)),
        deadlines: vec![set(&b, "one", 9)],
        ..commit()
    })
    .await?;
    expect(&[(&b, "one", 9)]).await
}

pub(super) async fn due_brings_the_earliest_of_the_kinds_asked(
    subject: &dyn Subject,
) -> Result<()> {
    let room = Room::new(subject).await?;
    let now = room.log.time_ms().await?;
    let kinds = ["exam.a", "exam.b", "exam.c"];
    // Neither the order in which they are set nor that of their names is that of their times.
    let at = |n: usize| now - 1000 + (n as u64 * 37) % 101;
    let all: Vec<_> = (0..60)
        .map(|n| {
            (
                RecordKey::new(kinds[n % 3], format!("{}", n * 7919 % 60)),
                at(n),
            )
        })
        .collect();
    for (key, at_ms) in &all {
        let deadlines = vec![set(key, "n", *at_ms), set(key, "later", now + 600_000)];
        room.commit(Commit {
            deadlines,
            ..commit()
        })
        .await?;
    }
    let shortly = RecordKey::new(kinds[0], "soon");
    let soon = room.log.time_ms().await? + 1500;
    let deadlines = vec![set(&shortly, "n", soon)];
    room.commit(Commit {
        deadlines,
        ..commit()
    })
    .await?;

    let mut all = all;
    all.push((shortly, soon));

    let expect = async |asked: &[&str], limit: usize| {
        let due = room.due_of(asked, limit).await?;
        let passed = |at_ms: u64| at_ms <= due.now_ms;
        let of_kind = all
            .iter()
            .filter(|(key, at_ms)| asked.contains(&&*key.kind) && passed(*at_ms));
        let mut expected: Vec<u64> = of_kind.clone().map(|(_, at_ms)| *at_ms).collect();
        expected.sort_unstable();
        expected.truncate(limit);
        let times: Vec<u64> = due.deadlines.iter().map(|one| one.at_ms).collect();
        assert_eq!(times, expected, "{limit} of {asked:?}");
        for one in &due.deadlines {
            let known = of_kind
                .clone()
                .any(|(k, at)| *k == one.record && *at == one.at_ms);
            assert!(known && &*one.name == "n", "{one:?}");
        }
        let after = room.log.time_ms().await?;
        assert!((now..=after).contains(&due.now_ms), "{due:?}");
        anyhow::Ok(())
    };
    expect(&kinds, 100).await?;
    expect(&kinds, 7).await?;
    expect(&["exam.b"], 100).await?;
    expect(&["exam.c", "exam.a"], 25).await?;
    expect(&["exam.a", "exam.a"], 100).await?;
    expect(&["exam.none"], 100).await?;
    expect(&[], 100).await?;
    // Asking claims nothing.
    expect(&kinds, 100).await?;
    let elsewhere = room.log.records();
    let elsewhere = elsewhere.due(super::Partition(1), vec![kinds[0].into()], 9);
    assert_eq!(elsewhere.await?.deadlines, []);

    room.wait_for_ms(soon + 1).await?;
    let due = room.due_of(&kinds, 100).await?.deadlines;
    assert_eq!(due.len(), all.len());
    let shortly = RecordKey::new(kinds[0], "soon");
    assert_eq!(due.last(), Some(&deadline(&shortly, "n", soon)));
    Ok(())
}

pub(super) async fn a_deadline_fires_once(subject: &dyn Subject) -> Result<()> {
    const AT_ONCE: usize = 6;
    const DEADLINES: usize = 12;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/fired");
    let keys: Vec<RecordKey> = (0..DEADLINES).map(|n| key(&n.to_string())).collect();
    room.commit(Commit {
        puts: keys.iter().map(|one| put(one, "1")).collect(),
        deadlines: keys.iter().map(|one| set(one, "n", 5)).collect(),
        ..commit()
    })
    .await?;
    let mut tasks = Vec::new();
    for _ in 0..AT_ONCE {
        let (log, topic) = (room.another().await?, topic.clone());
        tasks.push(tokio::spawn(async move {
            let kinds = vec!["exam.kind".into()];
            let due = log.records().due(HERE, kinds, 100).await?;
            let mut fired = 0;
            for one in due.deadlines {
                let commit = Commit {
                    drafts: vec![draft(&topic, &one.record.id)],
                    fires: Some(one),
                    ..commit()
                };
                match log.records().commit(HERE, commit).await? {
                    CommitOutcome::Committed(_) => fired += 1,
                    CommitOutcome::Gone => {}
                    other => panic!("{other:?}"),
                }
            }
            anyhow::Ok(fired)
        }));
    }
    let mut fired = 0;
    for task in tasks {
        fired += task.await??;
    }
    assert_eq!(fired, DEADLINES);
    assert_eq!(room.due().await?, []);
    let events = room.read(&topic, From::Oldest).await?.events;
    let mut said: Vec<usize> = Vec::new();
    for event in &events {
        said.push(String::from_utf8_lossy(&event.data).parse()?);
    }
    said.sort_unstable();
    assert!(said.into_iter().eq(0..DEADLINES));
    Ok(())
}

pub(super) async fn a_moved_deadline_is_gone(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/gone");
    let a = key("a");
    let version = room.put(&a, "1").await?;
    let fires = |at_ms, version| Commit {
        fires: Some(deadline(&a, "n", at_ms)),
        expects: vec![(a.clone(), version)],
        puts: vec![put(&a, "fired")],
        deadlines: vec![set(&a, "other", 1)],
        drafts: vec![draft(&topic, "1")],
        outbox: vec![OutboxItem::Draft(draft(&topic, "1"))],
        ..commit()
    };
    let gone = async |at_ms, version| {
        let outcome = room.try_commit(fires(at_ms, version)).await?;
        assert_eq!(outcome, CommitOutcome::Gone, "{at_ms}");
        assert_eq!(room.load(&a).await?.expect("it is there").document, "1");
        assert_eq!(room.depth().await?, 0);
        assert_eq!(room.read(&topic, From::Oldest).await?.events, []);
        anyhow::Ok(())
    };
    gone(5, version).await?;
    let change = async |deadlines| {
        room.commit(Commit {
            deadlines,
            ..commit()
        })
        .await
    };
    change(vec![set(&a, "n", 5)]).await?;
    change(vec![set(&a, "n", 6)]).await?;
    gone(5, version).await?;
    gone(7, version).await?;
    // That it is gone is looked at before versions.
    gone(5, Version::ABSENT).await?;
    assert_eq!(room.due().await?, [deadline(&a, "n", 6)]);
    change(vec![clear(&a, "n")]).await?;
    gone(6, version).await?;
    // Whether it has passed is not asked: whoever fires it knows.
    let far = room.log.time_ms().await? + 600_000;
    change(vec![set(&a, "n", far)]).await?;
    let conflict = room.try_commit(fires(far, Version::ABSENT)).await?;
    assert_eq!(conflict, CommitOutcome::Conflict);
    room.commit(fires(far, version)).await?;
    assert_eq!(room.due().await?, [deadline(&a, "other", 1)]);
    Ok(())
}

pub(super) async fn deadlines_go_with_their_record(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (a, b) = (key("a"), key("b"));
    room.commit(Commit {
        puts: vec![put(&a, "1"), put(&b, "1")],
        deadlines: vec![set(&a, "one", 1), set(&a, "two", 2), set(&b, "one", 3)],
        ..commit()
    })
    .await?;
    room.commit(Commit {
        removes: vec![a.clone()],
        ..commit()
    })
    .await?;
    assert_eq!(room.due().await?, [deadline(&b, "one", 3)]);
    // Made anew it has none, until one is set.
    room.put(&a, "2").await?;
    assert_eq!(room.due().await?, [deadline(&b, "one", 3)]);
    let again = Commit {
        fires: Some(deadline(&a, "one", 1)),
        ..commit()
    };
    assert_eq!(room.try_commit(again).await?, CommitOutcome::Gone);
    // What is set in the same commit comes after the removal.
    room.commit(Commit {
        removes: vec![b.clone()],
        puts: vec![put(&a, "3")],
        deadlines: vec![set(&b, "two", 4)],
        ..commit()
    })
    .await?;
    assert_eq!(room.load(&b).await?, None);
    assert_eq!(room.due().await?, [deadline(&b, "two", 4)]);
    Ok(())
}

pub(super) async fn a_deadline_needs_no_record(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let a = key("a");
    let deadlines = vec![set(&a, "one", 1), set(&a, "two", 2)];
    room.commit(Commit {
        deadlines,
        ..commit()
    })
    .await?;
    assert_eq!(room.load(&a).await?, None);
    assert_eq!(room.due().await?.len(), 2);
    // It stands when the record comes, and goes when it goes.
    room.put(&a, "1").await?;
    room.commit(Commit {
        fires: Some(deadline(&a, "one", 1)),
        ..commit()
    })
    .await?;
    assert_eq!(room.due().await?, [deadline(&a, "two", 2)]);
    room.commit(Commit {
        removes: vec![a],
        ..commit()
    })
    .await?;
    assert_eq!(room.due().await?, []);
    Ok(())
}
