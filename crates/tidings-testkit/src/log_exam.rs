//! The exam that every log passes: each promise of the ports [`EventLog`] and
//! [`Records`](tidings_core::Records) is a case here, and their doc comments are only the claim.
//!
//! It is exported so that a log written elsewhere can sit it too. A [`Subject`] makes fresh logs
//! and says in [`Features`] what can be done to them; cases that need more are skipped with a
//! word, never in silence. [`log_exam!`](crate::log_exam!) makes one test of each case, [`run`]
//! prints them all as a list.
//!
//! ```text
//! mod on_one_server {
//!     tidings_testkit::log_exam!(super::MySubject::default());
//! }
//! ```
//!
//! `tests/sitting` of `tidings-log-memory` is a whole subject in eighty lines, and its
//! `tests/flaws.rs` examines the exam: logs with one flaw each, and the case that notices.
//!
//! The cases name no log and look at nothing but the port. Where time must pass they ask the
//! subject to let it pass: a log with a clock of its own jumps, any other one waits, with a
//! retention of a few seconds. They wait for states, each with a deadline.

use std::fmt::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tidings_core::record::RELAY_LEASE;
use tidings_core::{BoxFuture, EventLog, Partition};

mod appending;
mod clock;
mod committing;
mod crowd;
mod deadlines;
mod dedup;
mod documents;
mod faults;
mod filling;
mod flashing;
mod indexing;
mod ledger;
mod losses;
mod outbox;
mod owning;
mod reading;
mod retention;
mod room;
mod tailing;
mod verdicts;
mod versions;

pub use clock::ManualClock;

/// A kind of log that sits the exam.
pub trait Subject: Send + Sync {
    /// What can be done to its logs.
    fn features(&self) -> Features;

    /// Makes a log that is empty and has never been used.
    fn fresh(&self, setup: Setup) -> BoxFuture<'_, anyhow::Result<Arc<dyn Sitting>>>;
}

/// What a case asks of a fresh log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// P.
    pub partitions: u16,
    /// How long an event is retained.
    pub retention: Duration,
    /// If given, an append must be refused once about this many bytes of data are retained, give
    /// or take a factor of four. Only asked of a subject with [`Features::bounded`].
    pub bytes: Option<usize>,
    /// How long a relay holds an outbox without taking a turn.
    pub relay_lease: Duration,
}

impl Default for Setup {
    /// Four partitions, so that more than one is in play; one hour, so that nothing expires.
    fn default() -> Self {
        Self {
            partitions: 4,
            retention: Duration::from_secs(60 * 60),
            bytes: None,
            relay_lease: RELAY_LEASE,
        }
    }
}

/// One fresh log.
pub trait Sitting: Send + Sync {
    /// One more handle on the log, with links of its own, as one more instance would have.
    fn instance(&self) -> BoxFuture<'_, anyhow::Result<Arc<dyn EventLog>>>;

    /// Lets about so much time pass on the log's clock.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    /// From here on, what is stored will be lost at [`Sitting::fall_back`], as if the replication
    /// link of the later master broke now. Only with [`Features::loses`].
    fn cut(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async { anyhow::bail!("this log cannot lose a suffix") })
    }

    /// The log becomes what it was at [`Sitting::cut`], in every partition. Links may break;
    /// handles and tails must find back by themselves.
    fn fall_back(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async { anyhow::bail!("this log cannot lose a suffix") })
    }

    /// The log's server is killed and started again with everything that was acknowledged.
    /// Handles and tails must find back by themselves. Only with [`Features::restarts`].
    fn restart(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async { anyhow::bail!("this log cannot be restarted") })
    }
}

/// What can be done to a subject's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// [`Setup::bytes`] is kept.
    pub bounded: bool,
    /// [`Sitting::cut`] and [`Sitting::fall_back`].
    pub loses: bool,
    /// [`Sitting::restart`].
    pub restarts: bool,
}

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, as tests are named.
    pub name: &'static str,
    needs: Need,
    examine: for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, anyhow::Result<()>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// What a case needs beyond the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Bounded,
    Loses,
    Restarts,
}

impl Need {
    /// Why a case is skipped, if it is.
    fn missing(self, features: Features) -> Option<&'static str> {
        match self {
            Self::Bounded if !features.bounded => Some("this log cannot be given a bound"),
            Self::Loses if !features.loses => Some("this log cannot lose a suffix"),
            Self::Restarts if !features.restarts => Some("this log cannot be restarted"),
            _ => None,
        }
    }
}

/// How a case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The promise holds.
    Passed,
    /// It does not apply, and why.
    Skipped(&'static str),
    /// It does not hold.
    Failed(String),
}

/// How long one case may take: the longest waits half a minute by design, the rest is for slow
/// machines.
const CASE_TIME_MAX: Duration = Duration::from_secs(180);

impl Case {
    /// Examines one fresh log.
    pub async fn sit(&self, subject: &dyn Subject) -> Mark {
        if let Some(reason) = self.needs.missing(subject.features()) {
            return Mark::Skipped(reason);
        }
        let case = AssertUnwindSafe((self.examine)(subject)).catch_unwind();
        match tokio::time::timeout(CASE_TIME_MAX, case).await {
            Err(_) => Mark::Failed(format!("not done after {CASE_TIME_MAX:?}")),
            Ok(Err(panic)) => Mark::Failed(words(panic.as_ref())),
            Ok(Ok(Err(error))) => Mark::Failed(format!("{error:?}")),
            Ok(Ok(Ok(()))) => Mark::Passed,
        }
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = || panic.downcast_ref::<String>().cloned();
    text.map(str::to_owned)
        .or_else(owned)
        .unwrap_or_else(|| "panicked".to_owned())
}

/// Runs every case whose name contains `filter`, one after the other, and prints each name and
/// result.
///
/// # Errors
/// The list of what failed.
#[expect(clippy::print_stdout, reason = "the list is what it is for")]
pub async fn run(subject: &dyn Subject, filter: &str) -> anyhow::Result<()> {
    let mut failed = String::new();
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        let started = Instant::now();
        let mark = case.sit(subject).await;
        let took = started.elapsed().as_secs_f64();
        match mark {
            Mark::Passed => println!("passed   {:<55} {took:6.2} s", case.name),
            Mark::Skipped(reason) => println!("skipped  {:<55} {reason}", case.name),
            Mark::Failed(reason) => {
                println!("FAILED   {:<55} {took:6.2} s\n{reason}", case.name);
                write!(failed, "\n{}: {reason}", case.name)?;
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "cases failed:{failed}");
    Ok(())
}

/// Sits the case of that name, as the tests of [`log_exam!`](crate::log_exam!) do.
///
/// # Panics
/// When the case fails, or there is none of that name.
#[expect(clippy::print_stdout, reason = "a skipped case says so")]
pub async fn sit(subject: &dyn Subject, name: &str) {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("the exam has no case named {name}"));
    match case.sit(subject).await {
        Mark::Passed => {}
        Mark::Skipped(reason) => println!("skipped: {reason}"),
        Mark::Failed(reason) => panic!("{reason}"),
    }
}

/// Makes the table of cases and, from the same list, the macro that makes tests of them: so no
/// case can be in one and not in the other.
macro_rules! table {
    ($dollar:tt $($module:ident { $($name:ident: $need:ident,)* })*) => {
        /// Every case, in the order of the port.
        pub const CASES: &[Case] = &[$($(
            Case {
                name: stringify!($name),
                needs: Need::$need,
                examine: |subject| Box::pin($module::$name(subject)),
            },
        )*)*];

        /// One `#[tokio::test]` for each case of the exam, over the subject that the expression
        /// makes: it is evaluated once for each test. The calling crate needs tokio with its
        /// multi-threaded runtime and macros.
        #[macro_export]
        macro_rules! log_exam {
            ($dollar subject:expr) => {$($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    $crate::log_exam::sit(&$dollar subject, stringify!($name)).await;
                }
            )*)*};
        }
    };
}

table! {$
    appending {
        append_answers_when_stored: Nothing,
        append_is_all_or_nothing: Nothing,
        ids_rise_and_sort_as_text: Nothing,
        ids_carry_the_time_of_the_log: Nothing,
        sequences_start_anywhere: Nothing,
        a_burst_keeps_the_sequence_in_bounds: Nothing,
        prev_chains_have_no_break: Nothing,
        what_was_sent_comes_back: Nothing,
        too_many_drafts_are_refused: Nothing,
        a_partition_that_does_not_exist_is_refused: Nothing,
    }
    dedup {
        a_known_key_answers_the_first_id: Nothing,
        a_key_within_one_append_counts: Nothing,
        scopes_keep_keys_apart: Nothing,
        a_key_lives_for_its_own_lifetime: Nothing,
        of_many_at_once_one_is_new: Nothing,
    }
    reading {
        oldest_newest_and_after: Nothing,
        newest_before_the_first_event: Nothing,
        since_includes_its_millisecond: Nothing,
        pages_keep_their_bounds: Nothing,
        topics_of_one_partition_stay_apart: Nothing,
        heads_are_known_everywhere: Nothing,
    }
    verdicts {
        ok_at_any_event_of_the_partition: Nothing,
        ahead_of_the_partition: Nothing,
        diverged_between_events: Nothing,
        expired_when_something_is_gone: Nothing,
        verdicts_come_in_the_order_asked: Nothing,
        a_quiet_topic_resumes: Nothing,
        an_empty_topic_resumes: Nothing,
        heads_are_kept_for_24_retentions: Nothing,
        a_fresh_place_is_ok_after_a_long_silence: Nothing,
    }
    retention {
        retention_is_exact_without_trimming: Nothing,
        retention_is_exact_while_trimming: Nothing,
        a_full_log_refuses_and_frees_itself: Bounded,
    }
    filling {
        fill_of_an_unused_partition: Nothing,
        fill_brings_the_newest_without_a_gap: Nothing,
        fill_keeps_to_the_retention: Nothing,
        fill_and_tail_meet: Nothing,
    }
    tailing {
        tail_goes_on_from_its_place: Nothing,
        tail_sees_everything_once_in_order: Nothing,
        tail_says_level: Nothing,
        tail_is_cancel_safe: Nothing,
    }
    flashing {
        flash_reaches_every_tail_once: Nothing,
        flash_is_never_replayed: Nothing,
        flash_comes_with_its_commit_or_not_at_all: Nothing,
        flash_keeps_its_bounds: Nothing,
    }
    crowd {
        eight_readers_against_eight_writers: Nothing,
    }
    faults {
        a_lost_suffix_is_ahead_then_diverged: Loses,
        a_lost_suffix_takes_heads_and_keys_with_it: Loses,
        a_tail_is_rewound_to_the_last_common_place: Loses,
        a_restart_loses_nothing: Restarts,
        a_quiet_topic_resumes_after_a_restart: Restarts,
        a_tail_outlives_a_restart: Restarts,
    }
    committing {
        a_commit_is_all_or_nothing: Nothing,
        committed_events_are_like_appended_ones: Nothing,
        a_conflict_changes_nothing: Nothing,
        a_retried_commit_answers_the_first: Nothing,
        of_many_with_one_name_one_is_applied: Nothing,
        a_commit_is_remembered_for_its_time: Nothing,
        a_known_key_stops_the_commit: Nothing,
    }
    versions {
        a_stale_version_conflicts: Nothing,
        versions_rise_and_never_restart: Nothing,
        of_many_committers_none_is_overwritten: Nothing,
    }
    documents {
        documents_come_back_as_they_were: Nothing,
        names_keep_records_apart: Nothing,
        records_live_for_their_lifetime: Nothing,
        a_record_outlives_its_deadline: Nothing,
        many_records_are_kept: Nothing,
        too_large_commits_are_refused: Nothing,
        a_partition_that_does_not_exist_has_no_records: Nothing,
    }
    deadlines {
        deadlines_are_set_moved_and_cleared: Nothing,
        due_brings_the_earliest_of_the_kinds_asked: Nothing,
        a_deadline_fires_once: Nothing,
        a_moved_deadline_is_gone: Nothing,
        deadlines_go_with_their_record: Nothing,
        a_deadline_needs_no_record: Nothing,
    }
    indexing {
        an_index_lists_by_rank_and_id: Nothing,
        ranks_are_set_moved_and_taken_back: Nothing,
        ranks_go_with_their_record: Nothing,
        what_has_ended_is_not_listed: Nothing,
        an_index_changes_with_its_commit: Nothing,
        listings_keep_their_bounds: Nothing,
        strange_ranks_are_refused: Nothing,
        a_restart_keeps_indexes: Restarts,
        a_lost_rank_never_was: Loses,
    }
    outbox {
        an_outbox_keeps_the_order_of_commits: Nothing,
        turns_keep_their_bounds: Nothing,
        delivered_entries_are_forgotten: Nothing,
        one_relay_at_a_time: Nothing,
        an_empty_outbox_gives_the_lease_back: Nothing,
        a_dead_relay_is_replaced: Nothing,
    }
    owning {
        a_lost_owners_records_are_orphans: Nothing,
        of_many_sweepers_one_handles_an_orphan: Nothing,
        an_orphan_waits_for_whoever_handles_it: Nothing,
        a_beat_within_the_lease_keeps_it: Nothing,
        who_was_reaped_is_fenced: Nothing,
        a_lease_that_nobody_reaped_goes_on: Nothing,
        leaving_orphans_at_once: Nothing,
        a_put_or_removal_changes_the_owner: Nothing,
        two_incarnations_stay_apart: Nothing,
        owners_commit_for_themselves: Nothing,
    }
    losses {
        flash_after_a_restart: Restarts,
        a_restart_keeps_owners: Restarts,
        a_restart_keeps_records: Restarts,
        a_lost_commit_never_was: Loses,
        a_full_log_refuses_commits: Bounded,
    }
}
