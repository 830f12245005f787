//! What can happen to a log, at random.

use proptest::prelude::*;
use tidings_core::{Dedup, Draft, PageLimit, Partition, Placed, Topic};

use crate::model::list::RETENTION_MS;

/// One run of moves.
#[derive(Debug, Clone)]
pub(crate) struct History(pub(crate) Vec<Move>);

#[derive(Debug, Clone)]
pub(crate) enum Move {
    Append(Partition, Vec<Draft>),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// The clock jumps to so many milliseconds from the log's birth.
    Jump(i64),
    Trim(Partition),
    Read(Placed, Start, PageLimit),
    Judge(Placed, Pick),
    Fill(Partition, PageLimit),
    Heads(Vec<Placed>),
    Tail,
    Lose(Partition, Pick),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    Oldest,
    Newest,
    After(Pick),
    /// Since the time of a place, and so many milliseconds.
    Since(Pick, i64),
}

/// A place: that of one of all ids there ever were, or one close to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    pub(crate) which: prop::sample::Index,
    pub(crate) near: Near,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Near {
    There,
    Next,
    BeforeMs,
    Origin,
    FarAhead,
}

pub(crate) fn moves(wild: bool) -> impl Strategy<Value = History> {
    prop::collection::vec(one_move(wild), 1..120).prop_map(History)
}

fn one_move(wild: bool) -> impl Strategy<Value = Move> {
    // The clock of an exact run never jumps.
    let jumps = u32::from(wild);
    prop_oneof![
        12 => (partition(), prop::collection::vec(any_draft(), 0..6))
            .prop_map(|(partition, drafts)| at(partition, drafts)),
        8 => times().prop_map(Move::Pass),
        jumps * 3 => (-40_000i64..40_000).prop_map(Move::Jump),
        2 => partition().prop_map(Move::Trim),
        8 => (topic(), start(), limit()).prop_map(|(t, s, l)| Move::Read(t, s, l)),
        10 => (topic(), pick()).prop_map(|(t, p)| Move::Judge(t, p)),
        2 => (partition(), limit()).prop_map(|(p, l)| Move::Fill(p, l)),
        2 => prop::collection::vec(topic(), 0..4).prop_map(Move::Heads),
        3 => Just(Move::Tail),
        1 => (partition(), pick()).prop_map(|(p, place)| Move::Lose(p, place)),
    ]
}

/// Topics are named by number until the partition is known.
type Sketch = (usize, usize, Option<(usize, u64)>);

fn at(partition: Partition, sketches: Vec<Sketch>) -> Move {
    let drafts = sketches
        .into_iter()
        .map(|(topic, bytes, dedup)| {
            let mut draft = draft(partition.0, topic, dedup);
            draft.data = format!("\"{}\"", "x".repeat(bytes)).into();
            draft
        })
        .collect();
    Move::Append(partition, drafts)
}

pub(crate) fn draft(partition: u16, topic: usize, dedup: Option<(usize, u64)>) -> Draft {
    Draft {
        dedup: dedup.map(|(key, lifetime_ms)| Dedup {
            scope: format!("{partition}").into(),
            key: format!("{key}").into(),
            lifetime_ms,
        }),
        ..Draft::new(named(partition, topic).topic, "random", "1")
    }
}

fn named(partition: u16, topic: usize) -> Placed {
    Placed {
        partition: Partition(partition),
        topic: Topic::parse(&format!("random/{partition}/{topic}")).expect("valid"),
    }
}

fn any_draft() -> impl Strategy<Value = Sketch> {
    let lifetime = prop_oneof![Just(0), 1..2 * RETENTION_MS, Just(50 * RETENTION_MS)];
    let dedup = prop::option::weighted(0.3, (0usize..4, lifetime));
    (0usize..5, 0usize..60, dedup)
}

fn partition() -> impl Strategy<Value = Partition> {
    (0u16..2).prop_map(Partition)
}

fn topic() -> impl Strategy<Value = Placed> {
    (0u16..2, 0usize..5).prop_map(|(partition, topic)| named(partition, topic))
}

/// Moments, parts of a retention, its very edge, and the edge of what is remembered of heads.
fn times() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0..4u64,
        3 => 0..RETENTION_MS / 2,
        2 => RETENTION_MS - 2..RETENTION_MS + 3,
        1 => 5 * RETENTION_MS..6 * RETENTION_MS,
        1 => 24 * RETENTION_MS - 2..24 * RETENTION_MS + 3,
    ]
}

fn limit() -> impl Strategy<Value = PageLimit> {
    let bounds = || prop_oneof![Just(usize::MAX), 0usize..5];
    (bounds(), bounds().prop_map(|n| n.saturating_mul(30)))
        .prop_map(|(events, bytes)| PageLimit { events, bytes })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Oldest),
        Just(Start::Newest),
        pick().prop_map(Start::After),
        (pick(), -3i64..4).prop_map(|(place, ms)| Start::Since(place, ms)),
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    let near = prop_oneof![
        8 => Just(Near::There),
        1 => Just(Near::Next),
        1 => Just(Near::BeforeMs),
        1 => Just(Near::Origin),
        1 => Just(Near::FarAhead),
    ];
    (any::<prop::sample::Index>(), near).prop_map(|(which, near)| Pick { which, near })
}
