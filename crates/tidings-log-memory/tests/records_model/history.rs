//! What can happen to records, at random.

use proptest::prelude::*;

/// One run of steps.
#[derive(Debug, Clone)]
pub(crate) struct History(pub(crate) Vec<Step>);

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Commit(Sketch),
    /// Time passes, in milliseconds.
    Pass(u64),
    Trim,
    /// Which relay, which of the waiting entries it says were delivered, and its limit.
    Relay(u128, Vec<prop::sample::Index>, usize),
}

/// A commit, with what is only known when its time comes left open.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    /// One of a few ids, so that some come again.
    pub(crate) id: u128,
    pub(crate) remember_ms: u64,
    /// A record by its number, and what is expected of it.
    pub(crate) expects: Vec<(usize, Expected)>,
    /// One of the deadlines that stand, and by how much its time is wrong.
    pub(crate) fires: Option<(prop::sample::Index, u64)>,
    /// Record, size, lifetime.
    pub(crate) puts: Vec<(usize, usize, Option<u64>)>,
    pub(crate) removes: Vec<usize>,
    /// Record, name, how far from now.
    pub(crate) deadlines: Vec<(usize, usize, Option<i64>)>,
    /// Record, index, rank.
    pub(crate) ranks: Vec<(usize, usize, Option<u64>)>,
    /// Dedup keys of its drafts.
    pub(crate) drafts: Vec<Option<usize>>,
    pub(crate) outbox: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// What is there.
    There,
    Absent,
    /// The version of any commit.
    Any(prop::sample::Index),
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    prop::collection::vec(step(), 1..60).prop_map(History)
}

fn step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![
        4 => 0..5_u64,
        3 => 0..2000_u64,
        1 => 3_590_000..3_610_000_u64,
    ];
    let delivered = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    prop_oneof![
        10 => sketch().prop_map(Step::Commit),
        4 => times.prop_map(Step::Pass),
        1 => Just(Step::Trim),
        4 => (0..2_u128, delivered, 1..5_usize).prop_map(|(r, d, l)| Step::Relay(r, d, l)),
    ]
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let record = || 0..4_usize;
    let expected = prop_oneof![
        6 => Just(Expected::There),
        1 => Just(Expected::Absent),
        1 => any::<prop::sample::Index>().prop_map(Expected::Any),
    ];
    let lifetime = prop::option::of(prop_oneof![Just(0), 1..3000_u64, Just(7_200_000)]);
    let away = prop::option::weighted(0.8, -2000..2000_i64);
    let wrong = prop_oneof![4 => Just(0), 1 => 1..3_u64];
    let few = 0..3_usize;
    let changes = (
        prop::collection::vec((record(), expected), 0..3),
        prop::option::weighted(0.3, (any::<prop::sample::Index>(), wrong)),
        prop::collection::vec((record(), 0..200_usize, lifetime), 0..3),
        prop::collection::vec(record(), 0..2),
        prop::collection::vec((record(), 0..2_usize, away), 0..3),
    );
    let rank = prop::option::weighted(0.8, prop_oneof![0..3_u64, Just((1 << 53) - 1)]);
    let effects = (
        prop::collection::vec((record(), 0..2_usize, rank), 0..4),
        prop::collection::vec(prop::option::weighted(0.2, 0..4_usize), 0..3),
        few,
    );
    (
        0..40_u128,
        prop_oneof![Just(120_000), 1..2000_u64],
        changes,
        effects,
    )
        .prop_map(
            |(
                id,
                remember_ms,
                (expects, fires, puts, removes, deadlines),
                (ranks, drafts, outbox),
            )| {
                Sketch {
                    id,
                    remember_ms,
                    expects,
                    fires,
                    puts,
                    removes,
                    deadlines,
                    ranks,
                    drafts,
                    outbox,
                }
            },
        )
}
