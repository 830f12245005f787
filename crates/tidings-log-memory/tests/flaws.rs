//! Examines the exam: each of these logs breaks one promise in one place, and the case that is
//! named must notice.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{BoxFuture, EventLog};
use tidings_testkit::log_exam::{CASES, Features, Mark, Setup, Sitting, Subject};

use flaws::flawed::Flaw::{self, *};
use flaws::flawed::FlawedLog;
use sitting::Memory;

mod flaws {
    pub(crate) mod flawed;
    pub(crate) mod flawed_records;
}
mod sitting;

const NOTICED: &[(Flaw, &str)] = &[
    (OneByOne, "append_is_all_or_nothing"),
    (ForgetsKeys, "a_known_key_answers_the_first_id"),
    (ForgetsKeys, "of_many_at_once_one_is_new"),
    (MixesScopes, "scopes_keep_keys_apart"),
    (KeysForever, "a_key_lives_for_its_own_lifetime"),
    (TakesAnyNumber, "too_many_drafts_are_refused"),
    (NeverFull, "a_full_log_refuses_and_frees_itself"),
    (PrevUnknown, "prev_chains_have_no_break"),
    (PrevNever, "eight_readers_against_eight_writers"),
    (PrevNever, "expired_when_something_is_gone"),
    (DropsAttributes, "what_was_sent_comes_back"),
    (TidiesData, "what_was_sent_comes_back"),
    (ReadsLag, "append_answers_when_stored"),
    (SinceExclusive, "since_includes_its_millisecond"),
    (NoBounds, "pages_keep_their_bounds"),
    (EmptyPages, "pages_keep_their_bounds"),
    (EndTooEarly, "pages_keep_their_bounds"),
    (OldestIsNewest, "oldest_newest_and_after"),
    (NewestIsOrigin, "oldest_newest_and_after"),
    (NewestIsOrigin, "a_fresh_place_is_ok_after_a_long_silence"),
    (HeadsMissing, "heads_are_known_everywhere"),
    (HeadsMissing, "heads_are_kept_for_24_retentions"),
    (AlwaysOk, "ahead_of_the_partition"),
    (AlwaysOk, "expired_when_something_is_gone"),
    (AlwaysOk, "a_lost_suffix_is_ahead_then_diverged"),
    (DivergedIsExpired, "diverged_between_events"),
    (DivergedIsExpired, "a_lost_suffix_is_ahead_then_diverged"),
    (AheadIsOk, "ahead_of_the_partition"),
    (AheadIsOk, "a_lost_suffix_is_ahead_then_diverged"),
    (QuietIsExpired, "a_quiet_topic_resumes"),
    (QuietIsExpired, "an_empty_topic_resumes"),
    (OtherTopicIsDiverged, "ok_at_any_event_of_the_partition"),
    (ExpiredIsOk, "expired_when_something_is_gone"),
    (ExpiredIsOk, "heads_are_kept_for_24_retentions"),
    (Unordered, "verdicts_come_in_the_order_asked"),
    (TooLong, "retention_is_exact_without_trimming"),
    (TooLong, "retention_is_exact_while_trimming"),
    (TooShort, "retention_is_exact_without_trimming"),
    (TooShort, "retention_is_exact_while_trimming"),
    (FillStartsAtOrigin, "fill_brings_the_newest_without_a_gap"),
    (FillStartsAtOrigin, "fill_keeps_to_the_retention"),
    (FillLevelTooEarly, "fill_and_tail_meet"),
    (FillUnbounded, "fill_brings_the_newest_without_a_gap"),
    (TailRepeats, "tail_goes_on_from_its_place"),
    (TailSkips, "tail_sees_everything_once_in_order"),
    (TailSkips, "eight_readers_against_eight_writers"),
    (TailSwaps, "append_is_all_or_nothing"),
    (TailForgetsWhenDropped, "tail_is_cancel_safe"),
    (TailNeverLevel, "tail_says_level"),
    (
        TailHidesRewinding,
        "a_tail_is_rewound_to_the_last_common_place",
    ),
    (CommitsInSteps, "a_commit_is_all_or_nothing"),
    (CommitsInSteps, "a_conflict_changes_nothing"),
    (CommitsForgetKeys, "a_known_key_stops_the_commit"),
    (
        CommitsDropAttributes,
        "committed_events_are_like_appended_ones",
    ),
    (ForgetsCommits, "a_retried_commit_answers_the_first"),
    (ForgetsCommits, "of_many_with_one_name_one_is_applied"),
    (RemembersForever, "a_commit_is_remembered_for_its_time"),
    (AnswersAnew, "a_retried_commit_answers_the_first"),
    (NeverRetried, "a_retried_commit_answers_the_first"),
    (ConflictsHalfway, "a_conflict_changes_nothing"),
    (ConflictsHalfway, "a_moved_deadline_is_gone"),
    (IgnoresVersions, "a_stale_version_conflicts"),
    (IgnoresVersions, "of_many_committers_none_is_overwritten"),
    (AbsentIsAny, "a_stale_version_conflicts"),
    (ExpectsTheFirst, "a_stale_version_conflicts"),
    (VersionsRestart, "a_stale_version_conflicts"),
    (VersionsRestart, "versions_rise_and_never_restart"),
    (VersionsRestart, "a_lost_commit_never_was"),
    (LeavesGapsOut, "documents_come_back_as_they_were"),
    (TrimsDocuments, "documents_come_back_as_they_were"),
    (MixesKinds, "names_keep_records_apart"),
    (NamesFold, "names_keep_records_apart"),
    (LivesForever, "records_live_for_their_lifetime"),
    (RemovesByExpiry, "deadlines_go_with_their_record"),
    (FiresAnyway, "a_deadline_fires_once"),
    (FiresAnyway, "a_moved_deadline_is_gone"),
    (FiresAndKeeps, "a_deadline_fires_once"),
    (FiresAndKeeps, "deadlines_are_set_moved_and_cleared"),
    (DueUnbounded, "due_brings_the_earliest_of_the_kinds_asked"),
    (DueUnordered, "due_brings_the_earliest_of_the_kinds_asked"),
    (DueOfOneKind, "due_brings_the_earliest_of_the_kinds_asked"),
    (RanksComeLater, "an_index_changes_with_its_commit"),
    (RanksComeBack, "ranks_go_with_their_record"),
    (RanksComeBack, "what_has_ended_is_not_listed"),
    (RanksAreKeptByNobody, "ranks_go_with_their_record"),
    (PutsUnrank, "ranks_are_set_moved_and_taken_back"),
    (ListsWhatIsGone, "ranks_go_with_their_record"),
    (ListsWhatIsGone, "what_has_ended_is_not_listed"),
    (ListsWhatIsGone, "a_lost_rank_never_was"),
    (ListsByRankOnly, "an_index_lists_by_rank_and_id"),
    (ListsTiesBackwards, "an_index_lists_by_rank_and_id"),
    (ListsUnbounded, "listings_keep_their_bounds"),
    (PagesSkipTies, "an_index_lists_by_rank_and_id"),
    (IndexesAreOne, "an_index_lists_by_rank_and_id"),
    (OutboxReversed, "an_outbox_keeps_the_order_of_commits"),
    (IndexesFromOne, "an_outbox_keeps_the_order_of_commits"),
    (RelaysTogether, "one_relay_at_a_time"),
    (ForgetsNothing, "delivered_entries_are_forgotten"),
    (DeliversAtMostOnce, "delivered_entries_are_forgotten"),
    (KeepsTheLease, "an_empty_outbox_gives_the_lease_back"),
    (FlashIsStored, "flash_is_never_replayed"),
    (FlashRepeats, "flash_reaches_every_tail_once"),
    (FlashIsLost, "flash_reaches_every_tail_once"),
    (FlashComesFirst, "flash_comes_with_its_commit_or_not_at_all"),
    (FlashUnbounded, "flash_keeps_its_bounds"),
    (LeasesForever, "a_lost_owners_records_are_orphans"),
    (LeasesNever, "a_beat_within_the_lease_keeps_it"),
    (
        OrphansAreTakenWhenRead,
        "an_orphan_waits_for_whoever_handles_it",
    ),
    (
        OrphansAreTakenWhenRead,
        "of_many_sweepers_one_handles_an_orphan",
    ),
    (OrphansAreNobodys, "a_lost_owners_records_are_orphans"),
    (OrphansOfAnyKind, "a_lost_owners_records_are_orphans"),
    (NobodyIsFenced, "who_was_reaped_is_fenced"),
    (ForgetsWhoWasReaped, "who_was_reaped_is_fenced"),
    (ReapsOnCommit, "a_lease_that_nobody_reaped_goes_on"),
    (LeavesLater, "leaving_orphans_at_once"),
    (OwnersStay, "a_put_or_removal_changes_the_owner"),
];

/// Time is paused: what waits in vain is told at once that it did.
#[tokio::test(start_paused = true)]
async fn every_flaw_is_noticed() {
    for (flaw, name) in NOTICED {
        let case = CASES.iter().find(|case| case.name == *name);
        let case = case.unwrap_or_else(|| panic!("no case {name}"));
        let mark = case.sit(&Flawed(*flaw)).await;
        assert!(
            matches!(mark, Mark::Failed(_)),
            "{name} does not notice {flaw:?}: {mark:?}"
        );
    }
}

#[derive(Clone, Copy)]
struct Flawed(Flaw);

/// By so much the retention is off.
const OFF: Duration = Duration::from_millis(60);

impl Subject for Flawed {
    fn features(&self) -> Features {
        Memory { manual: true }.features()
    }

    fn fresh(&self, mut setup: Setup) -> BoxFuture<'_, anyhow::Result<Arc<dyn Sitting>>> {
        Box::pin(async move {
            let retention = setup.retention;
            match self.0 {
                TooLong => setup.retention += OFF,
                TooShort => setup.retention -= OFF,
                NeverFull => setup.bytes = None,
                _ => {}
            }
            let seat = Memory { manual: true }.fresh(setup).await?;
            let flaw = self.0;
            Ok(Arc::new(Seat {
                seat,
                flaw,
                retention,
            }) as Arc<dyn Sitting>)
        })
    }
}

struct Seat {
    seat: Arc<dyn Sitting>,
    flaw: Flaw,
    retention: Duration,
}

impl Sitting for Seat {
    fn instance(&self) -> BoxFuture<'_, anyhow::Result<Arc<dyn EventLog>>> {
        Box::pin(async {
            Ok(Arc::new(FlawedLog {
                log: self.seat.instance().await?,
                flaw: self.flaw,
                retention: self.retention,
                held: parking_lot::Mutex::default(),
                ranked: parking_lot::Mutex::default(),
            }) as Arc<dyn EventLog>)
        })
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.seat.pass(time)
    }

    fn cut(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.seat.cut()
    }

    fn fall_back(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.seat.fall_back()
    }
}
