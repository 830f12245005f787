//! Documents: every byte as it was written, each under its own name, for its own lifetime.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tidings_core::limits::{
    DATA_BYTES_MAX, EFFECTS_PER_COMMIT_MAX, RECORD_BYTES_MAX, RECORD_ID_BYTES_MAX,
    RECORDS_PER_COMMIT_MAX,
};
use tidings_core::{
    Commit, Dedup, Draft, From, LogError, OutboxItem, Partition, Put, RecordKey, RelayId, Version,
};

use super::Subject;
use super::ledger::{HERE, brief, commit, key, put, set, within_a_span};
use super::room::{Room, draft, placed};

pub(super) async fn documents_come_back_as_they_were(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let large: Vec<u8> = (0..RECORD_BYTES_MAX).map(|n| (n * 7 % 256) as u8).collect();
    let documents: [&[u8]; 5] = [b"", b"{}", b"\0\xff\r\n\x80", "ü 😀".as_bytes(), &large];
    let mut keys = Vec::new();
    for (n, document) in documents.iter().enumerate() {
        let one = key(&n.to_string());
        let puts = vec![put(&one, document.to_vec())];
        room.commit(Commit { puts, ..commit() }).await?;
        keys.push(one);
    }
    // In the order asked, as often as asked, with gaps where there is nothing.
    let asked = vec![4, 0, 9, 3, 2, 1, 4, 8, 0];
    let asked_keys = asked.iter().map(|n: &usize| key(&n.to_string())).collect();
    let other = room.another().await?;
    let loaded = other.records().load(HERE, asked_keys).await?;
    assert_eq!(loaded.len(), asked.len());
    for (n, record) in asked.into_iter().zip(loaded) {
        let document = record.map(|record| record.document);
        let expected = documents.get(n).map(|d| Bytes::copy_from_slice(d));
        // Not `assert_eq`: the largest is not read by anyone.
        assert!(document == expected, "document {n}");
    }
    assert_eq!(other.records().load(HERE, Vec::new()).await?, []);
    // Written anew, the old one is gone, however long it was.
    room.put(&keys[4], "short").await?;
    let short = room.load(&keys[4]).await?.expect("it is there");
    assert_eq!(short.document, "short");
    Ok(())
}

pub(super) async fn names_keep_records_apart(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let long = "i".repeat(RECORD_ID_BYTES_MAX);
    let ids = [
        "", "a", "A", "a:b", ":", "b", "{a}", "}{", "*", "a\0b", "\r\n", "ü", &long,
    ];
    let kinds = ["exam", "exam.a", "exam-a", "a"];
    let keys: Vec<RecordKey> = kinds
        .iter()
        .flat_map(|kind| ids.iter().map(|id| RecordKey::new(*kind, *id)))
        .collect();
    for (n, one) in keys.iter().enumerate() {
        for partition in [HERE, Partition(1)] {
            let document = format!("{n} in {}", partition.0);
            let commit = Commit {
                expects: vec![(one.clone(), Version::ABSENT)],
                puts: vec![put(one, document)],
                deadlines: vec![set(one, "n", n as u64)],
                ..commit()
            };
            super::ledger::stored(room.log.records().commit(partition, commit).await?);
        }
    }
    let loaded = room.log.records().load(HERE, keys.clone()).await?;
    for (n, record) in loaded.into_iter().enumerate() {
        let document = record.expect("each is there").document;
        assert_eq!(document, format!("{n} in 0"), "{:?}", keys[n]);
    }
    // Their deadlines are as far apart.
    let due = room.due_of(&kinds, 500).await?.deadlines;
    let of: Vec<&RecordKey> = due.iter().map(|deadline| &deadline.record).collect();
    assert_eq!(of, keys.iter().collect::<Vec<_>>());
    // What goes in one partition stays in the other.
    room.commit(Commit {
        removes: vec![keys[0].clone()],
        ..commit()
    })
    .await?;
    assert_eq!(room.load(&keys[0]).await?, None);
    let there = room.log.records().load(Partition(1), vec![keys[0].clone()]);
    let there = there.await?.remove(0).expect("it stays there");
    assert_eq!(there.document, "0 in 1");
    Ok(())
}

pub(super) async fn records_live_for_their_lifetime(subject: &dyn Subject) -> Result<()> {
    within_a_span(subject, |subject, span_ms| {
        Box::pin(live_for(subject, span_ms))
    })
    .await
}

async fn live_for(subject: &dyn Subject, span_ms: u64) -> Result<bool> {
    let room = Room::new(subject).await?;
    let (short, long, stays) = (key("short"), key("long"), key("stays"));
    let (renewed, kept) = (key("renewed"), key("kept"));
    let span = Duration::from_millis(span_ms);
    let puts = vec![
        brief(&short, span),
        brief(&long, 60 * span),
        put(&stays, "1"),
        brief(&renewed, span),
        brief(&kept, span),
    ];
    let before = room.log.time_ms().await?;
    room.commit(Commit { puts, ..commit() }).await?;
    let there = room.load(&short).await?;
    // The last word counts: another span, and for ever.
    let puts = vec![brief(&renewed, 60 * span), put(&kept, "2")];
    room.commit(Commit { puts, ..commit() }).await?;
    let after = room.log.time_ms().await?;
    if after >= before + span_ms {
        return Ok(false);
    }
    assert!(there.is_some(), "it was gone at once");
    room.wait_for_ms(after + span_ms + 100).await?;
    assert_eq!(room.load(&short).await?, None);
    for there in [&long, &stays, &renewed, &kept] {
        assert!(room.load(there).await?.is_some(), "{there:?}");
    }
    // What has ended is absent to a commit as well, and what is written over it stays.
    room.commit(Commit {
        expects: vec![(short.clone(), Version::ABSENT)],
        puts: vec![put(&short, "anew")],
        ..commit()
    })
    .await?;
    room.wait_for_ms(after + 2 * span_ms).await?;
    assert!(room.load(&short).await?.is_some());
    Ok(true)
}

pub(super) async fn a_record_outlives_its_deadline(subject: &dyn Subject) -> Result<()> {
    within_a_span(subject, |subject, span_ms| {
        Box::pin(outlives(subject, span_ms))
    })
    .await
}

async fn outlives(subject: &dyn Subject, span_ms: u64) -> Result<bool> {
    let room = Room::new(subject).await?;
    let (one, other, alone) = (key("one"), key("other"), key("alone"));
    let short = Duration::from_millis(span_ms);
    let now = room.log.time_ms().await?;
    let at_ms = now + span_ms * 5 / 4;
    // Set with the document, before it and after it.
    room.commit(Commit {
        puts: vec![brief(&one, short), brief(&alone, short)],
        deadlines: vec![set(&one, "n", at_ms), set(&other, "n", at_ms)],
        ..commit()
    })
    .await?;
    let puts = vec![brief(&other, short)];
    room.commit(Commit { puts, ..commit() }).await?;
    let late = key("late");
    let puts = vec![brief(&late, short)];
    room.commit(Commit { puts, ..commit() }).await?;
    let deadlines = vec![set(&late, "n", at_ms)];
    room.commit(Commit {
        deadlines,
        ..commit()
    })
    .await?;
    let after = room.log.time_ms().await?;
    if after >= now + span_ms {
        return Ok(false);
    }
    room.wait_for_ms(after + span_ms * 3 / 2).await?;
    assert_eq!(room.load(&alone).await?, None);
    let due = room.due().await?;
    assert_eq!(due.len(), 3, "{due:?}");
    for deadline in due {
        let there = room.load(&deadline.record).await?;
        assert!(
            there.is_some(),
            "{:?} is not there to fire",
            deadline.record
        );
    }
    Ok(true)
}

pub(super) async fn many_records_are_kept(subject: &dyn Subject) -> Result<()> {
    const RECORDS: usize = 1280;
    let room = Room::new(subject).await?;
    let keys: Vec<RecordKey> = (0..RECORDS).map(|n| key(&format!("many/{n}"))).collect();
    for (n, some) in keys.chunks(RECORDS_PER_COMMIT_MAX).enumerate() {
        let puts = some.iter().map(|one| put(one, n.to_string())).collect();
        let expects = some.iter().map(|one| (one.clone(), Version::ABSENT));
        let commit = Commit {
            expects: expects.collect(),
            puts,
            ..commit()
        };
        room.commit(commit).await?;
    }
    let loaded = room.log.records().load(HERE, keys.clone()).await?;
    for (n, record) in loaded.into_iter().enumerate() {
        let document = record.expect("each is there").document;
        assert_eq!(document, (n / RECORDS_PER_COMMIT_MAX).to_string());
    }
    let removes = keys[..RECORDS_PER_COMMIT_MAX].to_vec();
    room.commit(Commit {
        removes,
        ..commit()
    })
    .await?;
    let loaded = room.log.records().load(HERE, keys).await?;
    let there = loaded.iter().filter(|record| record.is_some()).count();
    assert_eq!(there, RECORDS - RECORDS_PER_COMMIT_MAX);
    Ok(())
}

pub(super) async fn too_large_commits_are_refused(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/large");
    let numbered = |count: usize| (0..count).map(|n| key(&n.to_string()));
    let puts = |count: usize| numbered(count).map(|one| put(&one, "1")).collect();
    let item = || OutboxItem::Draft(draft(&topic, "1"));
    let with = |id: &str, kind: &str, document: usize| Put {
        key: RecordKey::new(kind, id),
        document: vec![b'x'; document].into(),
        lifetime: None,
        owner: None,
    };
    let fits = Commit {
        puts: puts(RECORDS_PER_COMMIT_MAX),
        deadlines: vec![set(&key("0"), "n", 1); EFFECTS_PER_COMMIT_MAX],
        drafts: vec![draft(&topic, "1"); EFFECTS_PER_COMMIT_MAX],
        outbox: vec![item(); EFFECTS_PER_COMMIT_MAX],
        answer: vec![0; RECORD_BYTES_MAX].into(),
        ..commit()
    };
    let committed = room.commit(fits).await?;
    assert_eq!(committed.appended.len(), EFFECTS_PER_COMMIT_MAX);

    let marker = key("marker");
    let twice = Draft {
        dedup: Some(Dedup::by_source(&topic.topic, None, "twice")),
        ..draft(&topic, "1")
    };
    let heavy = draft(&topic, &"x".repeat(2 * DATA_BYTES_MAX));
    let long = "i".repeat(RECORD_ID_BYTES_MAX + 1);
    let refused = [
        Commit {
            puts: puts(RECORDS_PER_COMMIT_MAX + 1),
            ..commit()
        },
        Commit {
            removes: numbered(RECORDS_PER_COMMIT_MAX + 1).collect(),
            ..commit()
        },
        Commit {
            puts: puts(40),
            removes: (100..140).map(|n| key(&n.to_string())).collect(),
            ..commit()
        },
        Commit {
            puts: vec![with("a", "exam", RECORD_BYTES_MAX + 1)],
            ..commit()
        },
        Commit {
            puts: vec![with(&long, "exam", 1)],
            ..commit()
        },
        Commit {
            puts: vec![with("a", "Exam: kind", 1)],
            ..commit()
        },
        Commit {
            puts: vec![with("a", "", 1)],
            ..commit()
        },
        Commit {
            deadlines: vec![set(&marker, "a:b", 1)],
            ..commit()
        },
        Commit {
            deadlines: vec![set(&marker, "n", u64::MAX)],
            ..commit()
        },
        Commit {
            deadlines: vec![set(&marker, "n", 1); EFFECTS_PER_COMMIT_MAX + 1],
            ..commit()
        },
        Commit {
            drafts: vec![draft(&topic, "1"); EFFECTS_PER_COMMIT_MAX + 1],
            ..commit()
        },
        Commit {
            drafts: vec![twice.clone(), twice],
            ..commit()
        },
        Commit {
            outbox: vec![item(); EFFECTS_PER_COMMIT_MAX + 1],
            ..commit()
        },
        Commit {
            outbox: vec![OutboxItem::Draft(heavy)],
            ..commit()
        },
        Commit {
            answer: vec![0; RECORD_BYTES_MAX + 1].into(),
            ..commit()
        },
    ];
    for (n, mut commit) in refused.into_iter().enumerate() {
        if n > 2 {
            commit.puts.insert(0, put(&marker, "written"));
        }
        let refused = room.log.records().commit(HERE, commit).await;
        assert!(
            matches!(refused, Err(LogError::Refused(_))),
            "{n}: {refused:?}"
        );
    }
    assert_eq!(room.load(&marker).await?, None);
    let events = room.read(&topic, From::Oldest).await?.events;
    assert_eq!(events.len(), EFFECTS_PER_COMMIT_MAX);
    let refused = room.log.records().load(HERE, vec![key(&long)]).await;
    assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    Ok(())
}

pub(super) async fn a_partition_that_does_not_exist_has_no_records(
    subject: &dyn Subject,
) -> Result<()> {
    let room = Room::new(subject).await?;
    let (nowhere, a) = (Partition(4), key("a"));
    let records = room.log.records();
    let puts = vec![put(&a, "1")];
    let refused = [
        records.load(nowhere, vec![a.clone()]).await.map(|_| ()),
        records
            .commit(nowhere, Commit { puts, ..commit() })
            .await
            .map(|_| ()),
        records
            .due(nowhere, vec!["exam".into()], 1)
            .await
            .map(|_| ()),
        records
            .relay(nowhere, RelayId(1), Vec::new(), 1)
            .await
            .map(|_| ()),
        records.outbox_depth(nowhere).await.map(|_| ()),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        assert!(
            matches!(refused, Err(LogError::Refused(_))),
            "{n}: {refused:?}"
        );
    }
    // And the log lives on.
    room.put(&a, "1").await?;
    Ok(())
}
