//! The exam that every protocol adapter passes: what a hub promises, as a client of the dialect
//! sees it, over real sockets and on two instances.
//!
//! It is exported so that an adapter written elsewhere can sit it too. A [`Dialect`] says how its
//! clients connect, publish and resume, what they hear and what a refusal looks like;
//! [`Features`] says what its clients can do, and cases that need more are skipped with a word,
//! never in silence. [`adapter_exam!`](crate::adapter_exam!) makes one test of each case, [`run`]
//! prints them all as a list.
//!
//! ```text
//! tidings_testkit::adapter_exam!(MyDialect);
//! ```
//!
//! The cases run on a [`Cluster`]: instances in this process, each with a runtime, a hub and a
//! listener of its own, over one log that can be made to fail, to forget and to age. That log is
//! in memory, or on the Redis that `TIDINGS_EXAM_REDIS` names.
//!
//! What is absent: the cases look at nothing but what clients hear. An adapter may do its work
//! through sessions or without, hold its clients on sockets or let them poll.

use std::fmt::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tidings_core::BoxFuture;

mod away;
mod cluster;
mod dialect;
mod faulty;
#[cfg(test)]
mod flaws;
mod following;
mod fuzz;
mod leaving;
mod opening;
mod panics;
mod refusing;
mod resuming;
mod room;
mod slow;
mod verdicts;
pub mod wire;

pub use cluster::{Cluster, Instance, Logs, Setup};
pub use dialect::{Bad, Client, Dialect, Features, Heard, Place, Published, Sent, refused};
pub use faulty::{Fault, Faulty};

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, as tests are named.
    pub name: &'static str,
    needs: &'static [Need],
    examine: for<'a> fn(&'a dyn Dialect) -> BoxFuture<'a, anyhow::Result<()>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// What a case needs of the dialect or the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Publishes,
    Greets,
    History,
    Resumes,
    Several,
    Frames,
    Loses,
}

impl Need {
    /// Why a case is skipped, if it is.
    fn missing(self, features: Features, logs: &Logs) -> Option<&'static str> {
        let (there, reason) = match self {
            Self::Publishes => (features.publishes, "its clients do not publish"),
            Self::Greets => (features.greets, "its clients are not greeted"),
            Self::History => (
                features.history,
                "its clients do not start at the oldest event",
            ),
            Self::Resumes => (features.resumes, "its clients hold no cursor"),
            Self::Several => (features.several, "its clients follow one topic each"),
            Self::Frames => (features.frames, "its clients send no frames"),
            Self::Loses => (logs.loses(), "this log cannot lose a suffix"),
        };
        (!there).then_some(reason)
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

/// How long one case may take: the longest lasts ten seconds alone on a machine, the rest is for
/// busy ones.
const CASE_TIME_MAX: Duration = Duration::from_secs(120);

impl Case {
    /// Examines the dialect on a fresh cluster.
    pub async fn sit(&self, dialect: &dyn Dialect) -> Mark {
        let (features, logs) = (dialect.features(), dialect.logs());
        if let Some(reason) = self
            .needs
            .iter()
            .find_map(|need| need.missing(features, &logs))
        {
            return Mark::Skipped(reason);
        }
        let case = AssertUnwindSafe((self.examine)(dialect)).catch_unwind();
        match tokio::time::timeout(CASE_TIME_MAX, case).await {
            Err(_) => Mark::Failed(format!("not done after {CASE_TIME_MAX:?}")),
            Ok(Err(panic)) => Mark::Failed(panics::words(panic.as_ref())),
            Ok(Ok(Err(error))) => Mark::Failed(format!("{error:#}")),
            Ok(Ok(Ok(()))) => Mark::Passed,
        }
    }
}

/// Runs every case whose name contains `filter`, one after the other, and prints each name and
/// result.
///
/// # Errors
/// The list of what failed.
#[expect(clippy::print_stdout, reason = "the list is what it is for")]
pub async fn run(dialect: &dyn Dialect, filter: &str) -> anyhow::Result<()> {
    let mut failed = String::new();
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        let started = Instant::now();
        let mark = case.sit(dialect).await;
        let took = started.elapsed().as_secs_f64();
        match mark {
            Mark::Passed => println!("passed   {:<60} {took:6.2} s", case.name),
            Mark::Skipped(reason) => println!("skipped  {:<60} {reason}", case.name),
            Mark::Failed(reason) => {
                println!("FAILED   {:<60} {took:6.2} s\n{reason}", case.name);
                write!(failed, "\n{}: {reason}", case.name)?;
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "cases failed:{failed}");
    Ok(())
}

/// Sits the case of that name, as the tests of [`adapter_exam!`](crate::adapter_exam!) do.
///
/// # Panics
/// When the case fails, or there is none of that name.
#[expect(clippy::print_stdout, reason = "a skipped case says so")]
pub async fn sit(dialect: &dyn Dialect, name: &str) {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("the exam has no case named {name}"));
    match case.sit(dialect).await {
        Mark::Passed => {}
        Mark::Skipped(reason) => println!("skipped: {reason}"),
        Mark::Failed(reason) => panic!("{reason}"),
    }
}

/// Makes the table of cases and, from the same list, the macro that makes tests of them: so no
/// case can be in one and not in the other.
macro_rules! table {
    ($dollar:tt $($module:ident { $($name:ident: [$($need:ident),*],)* })*) => {
        /// Every case, in the order of a client's life.
        pub const CASES: &[Case] = &[$($(
            Case {
                name: stringify!($name),
                needs: &[$(Need::$need),*],
                examine: |dialect| Box::pin($module::$name(dialect)),
            },
        )*)*];

        /// One `#[tokio::test]` for each case of the exam, over the dialect that the expression
        /// makes: it is evaluated once for each test. The calling crate needs tokio with its
        /// multi-threaded runtime and macros.
        #[macro_export]
        macro_rules! adapter_exam {
            ($dollar dialect:expr) => {$($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    $crate::adapter_exam::sit(&$dollar dialect, stringify!($name)).await;
                }
            )*)*};
        }
    };
}

table! {$
    opening {
        the_adapter_knows_its_topics: [],
        clients_are_greeted_on_every_instance: [Greets],
        what_is_published_comes_back: [Greets],
    }
    refusing {
        bad_requests_are_refused_and_disturb_nobody: [Greets],
        bad_frames_are_refused_and_disturb_nobody: [Greets, Frames],
        a_garbled_cursor_is_no_silent_start: [Resumes],
    }
    following {
        from_the_newest_only_what_comes: [Greets],
        from_the_oldest_history_and_then_live: [History],
        live_delivery_is_in_order: [Greets],
        published_anywhere_read_everywhere_in_one_order: [Greets],
        topics_stay_apart: [Greets],
        several_topics_each_in_order: [Greets, Several],
        many_clients_get_the_same: [Greets],
    }
    resuming {
        a_client_resumes_on_the_other_instance: [Greets, Resumes],
        every_cursor_is_a_place_to_resume_from: [History, Resumes],
        a_crash_costs_no_event: [Greets, Resumes],
        several_topics_resume_each_at_its_place: [Greets, Several, Resumes],
        a_quiet_topic_resumes_in_silence: [Greets, Resumes],
    }
    verdicts {
        an_expired_cursor_is_told: [Greets, Resumes],
        a_diverged_cursor_is_told: [Greets, Resumes, Loses],
        a_cursor_ahead_is_told: [Greets, Resumes, Loses],
        a_live_reader_is_told_what_was_lost: [Greets, Loses],
    }
    slow {
        a_slow_reader_costs_nobody_else: [Greets],
    }
    leaving {
        clients_are_told_to_come_back_and_then_it_is_gone: [Greets],
        nothing_is_lost_on_the_way_to_the_other_instance: [Greets, Resumes],
    }
    away {
        while_the_log_is_away_readers_stay: [Greets],
        while_the_log_is_away_publishers_are_told_when: [Publishes],
        what_was_not_stored_is_not_called_stored: [Publishes],
        who_comes_while_the_log_is_away_is_served_after: [History],
    }
    fuzz {
        random_bytes_are_survived: [Greets],
        garbled_requests_are_survived: [Greets],
        garbled_frames_are_survived: [Greets, Frames],
    }
}
