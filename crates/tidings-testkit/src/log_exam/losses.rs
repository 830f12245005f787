//! Faults, for records: a restart loses nothing, what a failover lost never was, and a log without
//! room refuses a commit as a whole.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidings_core::{
    Beat, Commit, CommitOutcome, From, LogError, OutboxItem, PageLimit, Relay, RelayId, Version,
};

use super::flashing::Listener;
use super::ledger::{HERE, commit, deadline, insist, key, load, put, retried, set, stored};
use super::owning::{incarnation, orphan};
use super::room::{Room, draft, patiently, placed, read_to_end};
use super::{Setup, Subject};

/// What was handed out before may be gone; what is handed out afterwards arrives, once.
pub(super) async fn flash_after_a_restart(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/flash");
    let mut tail = Listener::new(&room, &*room.another().await?, &topic).await?;
    tail.flash_until(&room, &["1", "end"]).await?;
    room.sitting.restart().await?;
    let waited = Instant::now();
    loop {
        match room
            .log
            .flash(topic.partition, vec![draft(&topic, "2")])
            .await
        {
            Ok(()) => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        ensure!(waited.elapsed() < Duration::from_secs(60), "no way back");
    }
    tail.meet(&room).await?;
    let seen = tail.flash_until(&room, &["3", "end"]).await?;
    // What was handed out before it was there may have reached it; what it has had does not come again.
    let new = seen.iter().skip_while(|data| *data == "2");
    assert!(new.eq(["3", "end"]), "{seen:?}");
    Ok(())
}

pub(super) async fn a_restart_keeps_owners(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (me, here) = (incarnation(), key("here"));
    room.beat(me, Duration::from_secs(3600)).await?;
    room.put_owned(&here, me).await?;
    room.sitting.restart().await?;
    let records = room.log.records();
    let kinds = || vec!["exam.kind".into()];
    assert_eq!(patiently(|| records.orphans(HERE, kinds(), 9)).await?, []);
    patiently(|| records.leave(HERE, me)).await?;
    room.sitting.restart().await?;
    let orphans = patiently(|| records.orphans(HERE, kinds(), 9)).await?;
    assert_eq!(orphans, [orphan(me, &here)]);
    let beat = patiently(|| records.beat(HERE, me, Duration::from_secs(1))).await?;
    assert_eq!(beat, Beat::Reaped);
    Ok(())
}

pub(super) async fn a_restart_keeps_records(subject: &dyn Subject) -> Result<()> {
    const COMMITS: usize = 40;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/kept");
    let (counter, before) = (key("counter"), key("before"));
    let first = Commit {
        puts: vec![put(&before, "1")],
        deadlines: vec![set(&before, "n", 5)],
        answer: "first".into(),
        ..commit()
    };
    let version = room.commit(first.clone()).await?.version;
    let (log, to, count) = (room.another().await?, topic.clone(), counter.clone());
    let writer = tokio::spawn(async move {
        for n in 1..=COMMITS {
            let there = load(&*log, &count).await?;
            let commit = Commit {
                expects: vec![(count.clone(), there.map_or(Version::ABSENT, |r| r.version))],
                puts: vec![put(&count, n.to_string())],
                drafts: vec![draft(&to, &n.to_string())],
                outbox: vec![OutboxItem::Draft(draft(&to, &n.to_string()))],
                ..commit()
            };
            // Nobody else writes: whatever happens to a try, the commit is there once.
            match insist(&*log, commit).await? {
                CommitOutcome::Committed(_) => {}
                other => panic!("{n}: {other:?}"),
            }
        }
        anyhow::Ok(())
    });
    room.sitting.restart().await?;
    writer.await??;
    let there = load(&*room.log, &counter).await?.expect("it was counted");
    assert_eq!(there.document, COMMITS.to_string());
    let limit = PageLimit::default();
    let events = read_to_end(&*room.log, &topic, From::Oldest, limit).await?;
    assert_eq!(events.len(), COMMITS);
    let records = room.log.records();
    assert_eq!(
        patiently(|| records.outbox_depth(HERE)).await?,
        COMMITS as u64
    );
    let due = patiently(|| records.due(HERE, vec!["exam.kind".into()], 9)).await?;
    assert_eq!(due.deadlines, [deadline(&before, "n", 5)]);
    let again = retried(insist(&*room.log, first).await?);
    assert_eq!((again.version, &again.answer[..]), (version, &b"first"[..]));
    // The relay finds everything, in order.
    let turn = patiently(|| records.relay(HERE, RelayId(1), Vec::new(), 500)).await?;
    let Relay::Entries(entries) = turn else {
        panic!("{turn:?}");
    };
    for (n, entry) in entries.iter().enumerate() {
        let item = OutboxItem::Draft(draft(&topic, &(n + 1).to_string()));
        assert_eq!(entry.item, item);
    }
    Ok(())
}

pub(super) async fn a_lost_commit_never_was(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/lost");
    let (a, b) = (key("a"), key("b"));
    let writing = |document: &str, expects| Commit {
        expects,
        puts: vec![put(&a, document.to_owned())],
        drafts: vec![draft(&topic, document)],
        outbox: vec![OutboxItem::Draft(draft(&topic, document))],
        ..commit()
    };
    let kept = Commit {
        deadlines: vec![set(&a, "n", 5)],
        ..writing("kept", Vec::new())
    };
    let kept_version = room.commit(kept.clone()).await?.version;
    room.sitting.cut().await?;
    let lost = Commit {
        fires: Some(deadline(&a, "n", 5)),
        deadlines: vec![set(&b, "n", 6)],
        ..writing("lost", vec![(a.clone(), kept_version)])
    };
    let lost_version = stored(room.try_commit(lost.clone()).await?).version;
    room.sitting.fall_back().await?;

    let records = room.log.records();
    let there = load(&*room.log, &a).await?.expect("it was kept");
    assert_eq!(
        (there.version, &there.document[..]),
        (kept_version, &b"kept"[..])
    );
    let kinds = || vec!["exam.kind".into()];
    let due = patiently(|| records.due(HERE, kinds(), 9)).await?.deadlines;
    assert_eq!(due, [deadline(&a, "n", 5)]);
    assert_eq!(patiently(|| records.outbox_depth(HERE)).await?, 1);
    retried(insist(&*room.log, kept).await?);

    // The clock goes on meanwhile; then no version comes again.
    let now = patiently(|| room.log.time_ms()).await?;
    room.wait_for_ms(now + 2).await?;
    // Who saw what was lost is refused; who asks again for what was lost gets it done, once.
    let stale = writing("stale", vec![(a.clone(), lost_version)]);
    assert_eq!(
        insist(&*room.log, stale.clone()).await?,
        CommitOutcome::Conflict
    );
    let anew = stored(insist(&*room.log, lost.clone()).await?);
    assert!(anew.version > kept_version);
    assert_ne!(anew.version, lost_version);
    assert_eq!(insist(&*room.log, stale).await?, CommitOutcome::Conflict);
    retried(insist(&*room.log, lost).await?);
    let limit = PageLimit::default();
    let events = read_to_end(&*room.log, &topic, From::Oldest, limit).await?;
    let data: Vec<&[u8]> = events.iter().map(|event| &event.data[..]).collect();
    assert_eq!(data, [&b"kept"[..], b"lost"]);
    assert_eq!(patiently(|| records.outbox_depth(HERE)).await?, 2);
    Ok(())
}

pub(super) async fn a_full_log_refuses_commits(subject: &dyn Subject) -> Result<()> {
    const BYTES: usize = 4 << 20;
    let setup = Setup {
        bytes: Some(BYTES),
        ..Setup::default()
    };
    let room = Room::with(subject, setup).await?;
    let topic = placed(0, "exam/full");
    let small = key("small");
    let item = OutboxItem::Draft(draft(&topic, &format!("\"{}\"", "x".repeat(16 << 10))));
    let version = room.put(&small, "kept").await?;
    let filling = || Commit {
        outbox: vec![item.clone(); 8],
        ..commit()
    };
    let mut entries = 0;
    let refusal = loop {
        match room.log.records().commit(HERE, filling()).await {
            Ok(outcome) => stored(outcome),
            Err(refusal) => break refusal,
        };
        entries += 8;
        ensure!(entries * (16 << 10) <= 4 * BYTES, "it is never full");
    };
    assert!(matches!(refusal, LogError::Full(_)), "{refusal:?}");
    // Refused as a whole, and what is there can be had.
    let whole = || Commit {
        puts: vec![put(&small, "x".repeat(60 << 10))],
        drafts: vec![draft(&topic, "1")],
        deadlines: vec![set(&small, "n", 1)],
        ..filling()
    };
    let refused = room.log.records().commit(HERE, whole()).await;
    assert!(matches!(refused, Err(LogError::Full(_))), "{refused:?}");
    let there = room.load(&small).await?.expect("it was kept");
    assert_eq!(
        (there.version, &there.document[..]),
        (version, &b"kept"[..])
    );
    assert_eq!(room.read(&topic, From::Oldest).await?.events, []);
    assert_eq!(room.due().await?, []);
    assert_eq!(room.depth().await?, entries as u64);

    // Relaying is what frees it, so it goes on.
    let (mut delivered, started) = (Vec::new(), Instant::now());
    loop {
        let done = std::mem::take(&mut delivered);
        match room.log.records().relay(HERE, RelayId(1), done, 64).await? {
            Relay::Entries(entries) => delivered.extend(entries.iter().map(|entry| entry.id)),
            Relay::Empty => break,
            Relay::Busy => panic!("nobody else relays"),
        }
    }
    loop {
        match room.log.records().commit(HERE, whole()).await {
            Ok(outcome) => {
                stored(outcome);
                break;
            }
            Err(LogError::Full(_)) => {}
            Err(other) => return Err(other.into()),
        }
        ensure!(started.elapsed() < Duration::from_secs(60), "it stays full");
        room.sitting.pass(Duration::from_millis(200)).await;
    }
    assert_eq!(room.read(&topic, From::Oldest).await?.events.len(), 1);
    Ok(())
}
