//! The outbox: entries in the order of their commits, handed out to one relay at a time, again and
//! again until they are said to be delivered.

use std::time::Duration;

use anyhow::Result;
use tidings_core::limits::{DATA_BYTES_MAX, PAGE_BYTES_MAX};
use tidings_core::{
    Attributes, Call, Command, Commit, CommitId, Dedup, Draft, OutboxEntry, OutboxId, OutboxItem,
    Relay, RelayId,
};

use super::ledger::{HERE, commit, key, put, within_a_span};
use super::room::{Room, draft, placed};
use super::{Setup, Subject};

const ONE: RelayId = RelayId(1);
const TWO: RelayId = RelayId(u128::MAX);

async fn turn(
    room: &Room,
    relay: RelayId,
    delivered: &[OutboxEntry],
    limit: usize,
) -> Result<Relay> {
    let delivered = delivered.iter().map(|entry| entry.id).collect();
    Ok(room
        .log
        .records()
        .relay(HERE, relay, delivered, limit)
        .await?)
}

fn entries(turn: Relay) -> Vec<OutboxEntry> {
    match turn {
        Relay::Entries(entries) => {
            assert!(!entries.is_empty(), "a turn without entries");
            entries
        }
        other => panic!("entries were expected, it is {other:?}"),
    }
}

/// Commits that put so many entries into the outbox, and the commits' names.
async fn fill(room: &Room, items: usize) -> Result<Vec<CommitId>> {
    let mut names = Vec::new();
    for n in 0..items {
        let item = OutboxItem::Draft(draft(&placed(0, "exam/out"), &n.to_string()));
        let commit = Commit {
            outbox: vec![item],
            ..commit()
        };
        names.push(commit.id);
        room.commit(commit).await?;
    }
    Ok(names)
}

/// One of each kind, with everything that can be in it.
fn every_kind() -> Vec<OutboxItem> {
    let topic = placed(3, "exam/elsewhere");
    let text = |name: &str| Some(std::sync::Arc::from(format!("{name} — ñ \"'\\ {{}}")));
    let full = Draft {
        kind: "kind with \"ümläute\"".into(),
        data: "{ \"b\" : 1.0,\r\n\t\"a\":1e3 , \"b\":-0 }\n".into(),
        attributes: Some(Box::new(Attributes {
            publisher_id: text("id"),
            source: text("/source"),
            subject: text("subject"),
            time: text("1985-04-12T23:20:50.52+01:00"),
            content_type: text("application/json"),
            schema: text("urn:schema"),
            trace_parent: text("00-01"),
            trace_state: text("a=b"),
        })),
        dedup: Some(Dedup {
            scope: "s\n\ncope".into(),
            key: "k".into(),
            lifetime_ms: u64::MAX,
        }),
        ..draft(&topic, "")
    };
    let large = format!("\"{}\"", "x".repeat(DATA_BYTES_MAX - 2));
    vec![
        OutboxItem::Draft(draft(&topic, "null")),
        OutboxItem::Draft(full),
        OutboxItem::Draft(draft(&topic, &large)),
        OutboxItem::Command(Command {
            kind: "exam.kind".into(),
            placement_key: "änywhere/1".into(),
            records: vec![key("a\0b"), key("")],
            body: vec![0, 255, 10, 13].into(),
        }),
        OutboxItem::Command(Command {
            kind: "exam.kind".into(),
            placement_key: "".into(),
            records: Vec::new(),
            body: "".into(),
        }),
        OutboxItem::Call(Call {
            method: "POST".into(),
            url: "https://example.org/hook?a=1#ü".into(),
            headers: vec![
                ("Content-Type".into(), "application/json".into()),
                ("X-Empty".into(), "".into()),
                ("X-Empty".into(), "twice".into()),
            ],
            body: vec![b'{', 0, 255, b'}'].into(),
            patience: Duration::from_nanos(1_500_000_001),
        }),
    ]
}

pub(super) async fn an_outbox_keeps_the_order_of_commits(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let mut expected = Vec::new();
    for (n, items) in every_kind().chunks(2).cycle().take(9).enumerate() {
        let commit = Commit {
            outbox: items.to_vec(),
            puts: vec![put(&key("a"), n.to_string())],
            ..commit()
        };
        let indexed = (0_u32..).zip(items.iter().cloned());
        expected.extend(indexed.map(|(index, item)| (commit.id, index, item)));
        let log = if n % 2 == 0 { &room.log } else { &other };
        super::ledger::stored(log.records().commit(HERE, commit).await?);
    }
    assert_eq!(room.depth().await?, expected.len() as u64);
    let (mut relayed, mut delivered) = (Vec::new(), Vec::new());
    while relayed.len() < expected.len() {
        delivered = entries(turn(&room, ONE, &delivered, 4).await?);
        relayed.extend(delivered.clone());
    }
    assert_eq!(relayed.len(), expected.len());
    for (n, (entry, expected)) in relayed.iter().zip(expected).enumerate() {
        assert_eq!((entry.commit, entry.index), (expected.0, expected.1));
        // Not `assert_eq`: a mebibyte is not read by anyone.
        assert!(entry.item == expected.2, "entry {n}");
    }
    assert!(relayed.is_sorted_by(|a, b| a.id < b.id));
    let elsewhere = room.log.records();
    assert_eq!(elsewhere.outbox_depth(super::Partition(1)).await?, 0);
    Ok(())
}

pub(super) async fn turns_keep_their_bounds(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    fill(&room, 10).await?;
    for limit in [1, 3, 10, 100] {
        let got = entries(turn(&room, ONE, &[], limit).await?);
        assert_eq!(got.len(), limit.min(10));
    }
    // No limit is no reason to hand out nothing, or to give the lease back.
    assert!(!entries(turn(&room, ONE, &[], 0).await?).is_empty());
    assert_eq!(turn(&room, TWO, &[], 1).await?, Relay::Busy);
    // And not more bytes than a reader holds, give or take one entry.
    let large = format!("\"{}\"", "x".repeat(PAGE_BYTES_MAX / 4));
    let item = OutboxItem::Draft(draft(&placed(0, "exam/out"), &large));
    for _ in 0..8 {
        let outbox = vec![item.clone(); 2];
        room.commit(Commit { outbox, ..commit() }).await?;
    }
    let small = entries(turn(&room, ONE, &[], 10).await?);
    let got = entries(turn(&room, ONE, &small, 100).await?);
    assert!(
        (1..=4).contains(&got.len()),
        "{} of a quarter each",
        got.len()
    );
    Ok(())
}

pub(super) async fn delivered_entries_are_forgotten(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let names = fill(&room, 6).await?;
    let commits = |entries: &[OutboxEntry]| entries.iter().map(|e| e.commit).collect::<Vec<_>>();
    let first = entries(turn(&room, ONE, &[], 4).await?);
    assert_eq!(commits(&first), names[..4]);
    // Handed out is not delivered.
    let again = entries(turn(&room, ONE, &[], 4).await?);
    assert_eq!(again, first);
    assert_eq!(room.depth().await?, 6);
    let rest = entries(turn(&room, ONE, &first[..2], 100).await?);
    assert_eq!(commits(&rest), names[2..]);
    assert_eq!(room.depth().await?, 4);
    // What was delivered out of order is gone, too; what is not there any more, does no harm.
    let mut delivered = vec![rest[1].clone()];
    delivered.extend_from_slice(&first);
    let mut stranger = rest[0].clone();
    stranger.id = OutboxId { ms: 1, seq: 1 };
    delivered.push(stranger);
    delivered.retain(|entry| entry.commit != names[2]);
    let rest = entries(turn(&room, ONE, &delivered, 100).await?);
    assert_eq!(commits(&rest), [names[2], names[4], names[5]]);
    assert_eq!(turn(&room, ONE, &rest, 100).await?, Relay::Empty);
    assert_eq!(room.depth().await?, 0);
    assert_eq!(turn(&room, ONE, &rest, 100).await?, Relay::Empty);
    // Later ones are later, also after all were gone.
    let new = fill(&room, 1).await?;
    let got = entries(turn(&room, ONE, &[], 100).await?);
    assert_eq!(commits(&got), new);
    assert!(got[0].id > rest[2].id);
    Ok(())
}

pub(super) async fn one_relay_at_a_time(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let elsewhere = room.another().await?;
    fill(&room, 3).await?;
    let held = entries(turn(&room, ONE, &[], 100).await?);
    let busy = elsewhere.records().relay(HERE, TWO, Vec::new(), 100);
    assert_eq!(busy.await?, Relay::Busy);
    // Whoever does not hold it changes nothing.
    assert_eq!(turn(&room, TWO, &held, 100).await?, Relay::Busy);
    assert_eq!(room.depth().await?, 3);
    assert_eq!(entries(turn(&room, ONE, &[], 100).await?), held);
    // Another partition has a lease of its own.
    let other = elsewhere.records();
    let other = other.relay(super::Partition(1), TWO, Vec::new(), 100);
    assert_eq!(other.await?, Relay::Empty);

    // Many at once: one gets it.
    assert_eq!(turn(&room, ONE, &held, 100).await?, Relay::Empty);
    fill(&room, 1).await?;
    let mut tasks = Vec::new();
    for relay in 10..18 {
        let log = room.another().await?;
        tasks.push(tokio::spawn(async move {
            log.records()
                .relay(HERE, RelayId(relay), Vec::new(), 1)
                .await
        }));
    }
    let mut holders = 0;
    for task in tasks {
        match task.await?? {
            Relay::Entries(_) => holders += 1,
            Relay::Busy => {}
            Relay::Empty => panic!("it is not empty"),
        }
    }
    assert_eq!(holders, 1);
    Ok(())
}

pub(super) async fn an_empty_outbox_gives_the_lease_back(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    for relay in [ONE, TWO, ONE] {
        assert_eq!(turn(&room, relay, &[], 10).await?, Relay::Empty);
        fill(&room, 2).await?;
        let got = entries(turn(&room, relay, &[], 10).await?);
        // One is left: it is kept.
        let got = entries(turn(&room, relay, &got[..1], 10).await?);
        assert_eq!(turn(&room, RelayId(5), &[], 10).await?, Relay::Busy);
        assert_eq!(turn(&room, relay, &got, 10).await?, Relay::Empty);
        fill(&room, 1).await?;
        let got = entries(turn(&room, RelayId(5), &[], 10).await?);
        assert_eq!(turn(&room, relay, &[], 10).await?, Relay::Busy);
        assert_eq!(turn(&room, RelayId(5), &got, 10).await?, Relay::Empty);
    }
    Ok(())
}

pub(super) async fn a_dead_relay_is_replaced(subject: &dyn Subject) -> Result<()> {
    within_a_span(subject, |subject, span_ms| {
        Box::pin(replaced_after(subject, span_ms))
    })
    .await
}

async fn replaced_after(subject: &dyn Subject, span_ms: u64) -> Result<bool> {
    let setup = Setup {
        relay_lease: Duration::from_millis(span_ms),
        ..Setup::default()
    };
    let room = Room::with(subject, setup).await?;
    let names = fill(&room, 3).await?;
    let got = entries(turn(&room, ONE, &[], 1).await?);
    let before = room.log.time_ms().await?;
    // A turn renews the lease.
    room.wait_for_ms(before + span_ms / 2).await?;
    let renewing = room.log.time_ms().await?;
    entries(turn(&room, ONE, &[], 1).await?);
    let renewed = room.log.time_ms().await?;
    room.wait_for_ms(before + span_ms * 5 / 4).await?;
    let other = turn(&room, TWO, &[], 1).await?;
    if room.log.time_ms().await? >= renewing + span_ms {
        return Ok(false);
    }
    assert_eq!(other, Relay::Busy);
    // Now it dies, with an entry delivered and not said so.
    room.wait_for_ms(renewed + span_ms + 100).await?;
    let taken = entries(turn(&room, TWO, &[], 10).await?);
    assert_eq!(taken[0], got[0]);
    let commits: Vec<CommitId> = taken.iter().map(|entry| entry.commit).collect();
    assert_eq!(commits, names);
    assert_eq!(turn(&room, TWO, &taken, 10).await?, Relay::Empty);
    assert_eq!(room.depth().await?, 0);
    Ok(true)
}
