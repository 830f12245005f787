//! Commits: all or nothing, beside the events of appends, refused when a version has changed,
//! and applied once however often they are asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tidings_core::{
    Attributes, Commit, CommitOutcome, Dedup, Draft, From, OutboxItem, Outcome, PageLimit, Placed,
    Record, Version,
};

use super::Subject;
use super::ledger::{HERE, clear, commit, deadline, key, put, retried, set, stored, within_a_span};
use super::room::{Chains, Follower, Room, draft, ids, placed, read_to_end};

fn keyed(topic: &Placed, key: &str, data: &str) -> Draft {
    Draft {
        dedup: Some(Dedup::by_source(&topic.topic, None, key)),
        ..draft(topic, data)
    }
}

pub(super) async fn a_commit_is_all_or_nothing(subject: &dyn Subject) -> Result<()> {
    const COMMITS: usize = 60;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/whole");
    let (a, b) = (key("a"), key("b"));
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (log, topic, done) = (room.another().await?, topic.clone(), Arc::clone(&done));
        let (a, b) = (a.clone(), b.clone());
        tokio::spawn(async move {
            for n in 1..=COMMITS {
                let n = n.to_string();
                let commit = Commit {
                    puts: vec![put(&a, n.clone()), put(&b, n.clone())],
                    deadlines: vec![set(&a, &n, 1)],
                    drafts: vec![draft(&topic, &n)],
                    outbox: vec![OutboxItem::Draft(draft(&topic, &n))],
                    ..commit()
                };
                stored(log.records().commit(HERE, commit).await?);
                tokio::task::yield_now().await;
            }
            done.store(true, Ordering::Release);
            anyhow::Ok(())
        })
    };
    let count = |records: &[Option<Record>]| -> usize {
        let documents = records
            .iter()
            .map(|r| r.as_ref().map(|r| (r.version, &r.document)));
        let documents: Vec<_> = documents.collect();
        assert_eq!(documents[0], documents[1], "half a commit was loaded");
        let text = documents[0].map_or("0".into(), |(_, d)| String::from_utf8_lossy(d));
        text.parse().expect("documents as they were written")
    };
    let records = room.log.records();
    let everything = PageLimit::default();
    loop {
        let last_look = done.load(Ordering::Acquire);
        let keys = || vec![a.clone(), b.clone()];
        let before = count(&records.load(HERE, keys()).await?);
        let events = read_to_end(&*room.log, &topic, From::Oldest, everything).await?;
        assert!(before <= events.len(), "a document came before its event");
        let due = room.due().await?.len();
        assert!(events.len() <= due, "an event came before its deadline");
        let depth = room.depth().await? as usize;
        assert!(due <= depth, "a deadline came before its outbox entry");
        let after = count(&records.load(HERE, keys()).await?);
        assert!(depth <= after, "an outbox entry came before its document");
        if last_look {
            assert_eq!((before, after), (COMMITS, COMMITS));
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await??;
    Ok(())
}

pub(super) async fn committed_events_are_like_appended_ones(subject: &dyn Subject) -> Result<()> {
    const ROUNDS: usize = 30;
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let topics: Vec<Placed> = (0..3)
        .map(|n| placed(0, &format!("exam/mixed/{n}")))
        .collect();
    let mut expected = Vec::new();
    for n in 0..ROUNDS {
        let drafts: Vec<Draft> = (0..n % 4)
            .map(|k| Draft {
                attributes: (k == 1).then(|| {
                    Box::new(Attributes {
                        subject: Some(format!("of {n}").into()),
                        trace_parent: Some(
                            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
                        ),
                        ..Attributes::default()
                    })
                }),
                ..draft(&topics[(n + 2 * k) % 3], &format!("{{ \"n\" : {n}.{k} }}"))
            })
            .collect();
        let log = if n % 3 == 0 { &other } else { &room.log };
        let appended = if n % 2 == 0 {
            log.append(HERE, drafts.clone()).await?
        } else {
            let commit = Commit {
                drafts: drafts.clone(),
                puts: vec![put(&key("mixed"), n.to_string())],
                ..commit()
            };
            stored(log.records().commit(HERE, commit).await?).appended
        };
        let appended = ids(&appended, Outcome::New);
        assert_eq!(appended.len(), drafts.len());
        expected.extend(appended.into_iter().zip(drafts));
    }
    assert!(
        expected.is_sorted_by(|(a, _), (b, _)| a < b),
        "{expected:?}"
    );

    let mut tail = Follower::from_origin(&*room.another().await?);
    let tailed = tail.count(expected.len()).await?;
    let filled = room.log.fill(HERE, PageLimit::default()).await?.events;
    let mut read = Vec::new();
    for topic in &topics {
        read.extend(read_to_end(&*other, topic, From::Oldest, PageLimit::default()).await?);
    }
    read.sort_unstable_by_key(|event| event.id);
    for events in [tailed, filled, read] {
        assert_eq!(events.len(), expected.len());
        let mut chains = Chains::default();
        for (event, (id, draft)) in events.iter().zip(&expected) {
            chains.take(event);
            assert_eq!((event.id, &event.topic), (*id, &draft.topic));
            assert_eq!((&event.kind, &event.data), (&draft.kind, &draft.data));
            assert_eq!(event.attributes, draft.attributes);
        }
    }
    Ok(())
}

pub(super) async fn a_conflict_changes_nothing(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/conflict");
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let version = room.put(&a, "old").await?;
    let commit = Commit {
        expects: vec![(a.clone(), Version(version.0 - 1))],
        puts: vec![put(&a, "new"), put(&b, "new")],
        removes: vec![c.clone()],
        deadlines: vec![set(&a, "n", 1)],
        drafts: vec![keyed(&topic, "k", "1")],
        outbox: vec![OutboxItem::Draft(draft(&topic, "1"))],
        ..commit()
    };
    room.put(&c, "old").await?;
    let outcome = room.try_commit(commit.clone()).await?;
    assert_eq!(outcome, CommitOutcome::Conflict);
    let there = room.load(&a).await?.expect("it was there before");
    assert_eq!((there.version, &there.document[..]), (version, &b"old"[..]));
    assert_eq!(room.load(&b).await?, None);
    assert!(room.load(&c).await?.is_some());
    assert_eq!(room.due().await?, []);
    assert_eq!(room.depth().await?, 0);
    assert_eq!(room.read(&topic, From::Oldest).await?.events, []);

    // Nor is it remembered: decided anew, it is committed under the same name.
    let again = Commit {
        expects: vec![(a.clone(), version)],
        ..commit
    };
    let committed = room.commit(again).await?;
    assert_eq!(room.version(&b).await?, committed.version);
    assert_eq!(room.load(&c).await?, None);
    assert_eq!((room.due().await?.len(), room.depth().await?), (1, 1));
    assert_eq!(room.read(&topic, From::Oldest).await?.events.len(), 1);
    Ok(())
}

pub(super) async fn a_retried_commit_answers_the_first(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let topic = placed(0, "exam/retried");
    let a = key("a");
    let version = room.put(&a, "0").await?;
    let first = Commit {
        expects: vec![(a.clone(), version)],
        puts: vec![put(&a, "1")],
        deadlines: vec![set(&a, "n", 5)],
        drafts: vec![draft(&topic, "1"), keyed(&topic, "k", "2")],
        outbox: vec![OutboxItem::Draft(draft(&topic, "3"))],
        answer: vec![0, 255, b'\n', b' '].into(),
        ..commit()
    };
    // The answer is lost; what happens meanwhile does not matter to it.
    let committed = stored(other.records().commit(HERE, first.clone()).await?);
    let later = room.put(&a, "2").await?;
    room.commit(Commit {
        deadlines: vec![clear(&a, "n")],
        ..commit()
    })
    .await?;
    let mut anew = Commit {
        puts: vec![put(&a, "3")],
        drafts: vec![draft(&topic, "4")],
        answer: "another".into(),
        ..Commit::new(first.id)
    };
    anew.fires = Some(deadline(&a, "never", 7));
    for commit in [first.clone(), first, anew] {
        let again = retried(room.try_commit(commit).await?);
        assert_eq!(again.version, committed.version);
        assert_eq!(again.answer, committed.answer);
        assert_eq!(
            ids(&again.appended, Outcome::Retried),
            ids(&committed.appended, Outcome::New)
        );
    }
    let there = room.load(&a).await?.expect("it is there");
    assert_eq!((there.version, &there.document[..]), (later, &b"2"[..]));
    assert_eq!(room.read(&topic, From::Oldest).await?.events.len(), 2);
    assert_eq!((room.due().await?.len(), room.depth().await?), (0, 1));
    Ok(())
}

pub(super) async fn of_many_with_one_name_one_is_applied(subject: &dyn Subject) -> Result<()> {
    const AT_ONCE: usize = 8;
    const ROUNDS: usize = 10;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/names");
    let names: Vec<_> = (0..ROUNDS).map(|_| commit().id).collect();
    let mut tasks = Vec::new();
    for task in 0..AT_ONCE {
        let (log, topic, names) = (room.another().await?, topic.clone(), names.clone());
        tasks.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            for name in names {
                let commit = Commit {
                    drafts: vec![draft(&topic, &task.to_string())],
                    answer: task.to_string().into(),
                    ..Commit::new(name)
                };
                match log.records().commit(HERE, commit).await? {
                    CommitOutcome::Committed(committed) => answers.push(committed),
                    other => panic!("{other:?}"),
                }
            }
            anyhow::Ok(answers)
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await??);
    }
    let events = room.read(&topic, From::Oldest).await?.events;
    assert_eq!(events.len(), ROUNDS);
    for (round, event) in events.iter().enumerate() {
        let of_round: Vec<_> = answers.iter().map(|a| &a[round]).collect();
        assert_eq!(of_round.iter().filter(|a| !a.retried).count(), 1);
        for answer in of_round {
            assert_eq!(
                (answer.appended[0].id, &answer.answer),
                (event.id, &event.data)
            );
        }
    }
    Ok(())
}

pub(super) async fn a_commit_is_remembered_for_its_time(subject: &dyn Subject) -> Result<()> {
    within_a_span(subject, |subject, span_ms| {
        Box::pin(remembered_for(subject, span_ms))
    })
    .await
}

async fn remembered_for(subject: &dyn Subject, span_ms: u64) -> Result<bool> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/remembered");
    let short = Commit {
        remember: Duration::from_millis(span_ms),
        drafts: vec![draft(&topic, "1")],
        ..commit()
    };
    let long = Commit {
        drafts: vec![draft(&topic, "2")],
        ..commit()
    };
    let before = room.log.time_ms().await?;
    let first = room.commit(short.clone()).await?;
    room.commit(long.clone()).await?;
    let again = room.try_commit(short.clone()).await?;
    let after = room.log.time_ms().await?;
    if after >= before + span_ms {
        return Ok(false);
    }
    assert_eq!(retried(again).version, first.version);
    room.wait_for_ms(after + span_ms + 100).await?;
    retried(room.try_commit(long).await?);
    let anew = room.commit(short.clone()).await?;
    assert!(anew.version > first.version);
    assert_eq!(room.read(&topic, From::Oldest).await?.events.len(), 3);
    Ok(true)
}

pub(super) async fn a_known_key_stops_the_commit(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/known");
    let a = key("a");
    let appended = room
        .log
        .append(HERE, vec![keyed(&topic, "by append", "1")])
        .await?;
    let known = ids(&appended, Outcome::New)[0];
    let commit = Commit {
        puts: vec![put(&a, "written")],
        deadlines: vec![set(&a, "n", 1)],
        drafts: vec![
            keyed(&topic, "new", "2"),
            draft(&topic, "3"),
            keyed(&topic, "by append", "4"),
        ],
        outbox: vec![OutboxItem::Draft(draft(&topic, "5"))],
        ..commit()
    };
    let duplicate = CommitOutcome::Duplicate {
        draft: 2,
        id: known,
    };
    assert_eq!(room.try_commit(commit.clone()).await?, duplicate);
    assert_eq!(room.try_commit(commit.clone()).await?, duplicate);
    assert_eq!(room.load(&a).await?, None);
    assert_eq!((room.due().await?.len(), room.depth().await?), (0, 0));
    assert_eq!(room.read(&topic, From::Oldest).await?.events.len(), 1);

    // The keys that stood beside it are as free as before; what is committed is known to appends.
    let without = Commit {
        drafts: commit.drafts[..2].to_vec(),
        ..commit
    };
    let committed = room.commit(without).await?;
    let again = room
        .log
        .append(HERE, vec![keyed(&topic, "new", "6")])
        .await?;
    let again = ids(&again, Outcome::Duplicate);
    assert_eq!(again, [committed.appended[0].id]);
    Ok(())
}
