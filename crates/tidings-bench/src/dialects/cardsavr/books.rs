//! The books of polling: when each key is polled next, how long it took, and what it brought.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep_until};

use super::EVERY;
use crate::board::Board;
use crate::dialects::stage::{Span, Stage};
use crate::report::Report;

/// What every message is.
const MESSAGE: &[u8] = b"\"job_status\"";

/// Of all keys.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) board: Rc<Board>,
    begun: Instant,
    polls: Cell<u64>,
    /// Polls that brought nothing.
    empty: Cell<u64>,
    /// Polls that began later than they were to: the one before had not been answered.
    late: Cell<u64>,
    /// Messages of each key.
    messages: RefCell<Vec<u32>>,
}

impl Books {
    pub(super) fn new(keys: u32) -> Self {
        Self {
            board: Rc::new(Board::new(1, 1, 1)),
            begun: Instant::now(),
            polls: Cell::default(),
            empty: Cell::default(),
            late: Cell::default(),
            messages: RefCell::new(vec![0; keys as usize]),
        }
    }

    /// Waits until a key is to be polled for this time; all of them come evenly. Answers with when
    /// that was.
    pub(super) async fn turn(&self, key: usize, round: u32) -> u64 {
        let all = self.messages.borrow().len();
        let every = Duration::from_secs(EVERY.into());
        let phase = every.mul_f64(key as f64 / all as f64);
        let due = self.begun + every * round + phase;
        if Instant::now() > due + every {
            self.late.set(self.late.get() + 1);
        }
        sleep_until(due).await;
        // A timer rings late by itself, which is not the hub's doing.
        self.board.now()
    }

    /// Books an answer in clear.
    pub(super) fn answered(&self, key: usize, since: u64, body: &[u8]) -> Result<()> {
        self.board.answered(since);
        self.polls.set(self.polls.get() + 1);
        if body.trim_ascii() == b"[]" {
            self.empty.set(self.empty.get() + 1);
            return Ok(());
        }
        let messages = memchr::memmem::find_iter(body, MESSAGE).count();
        if messages == 0 {
            bail!("a poll brought {}", String::from_utf8_lossy(body));
        }
        if let Some(count) = self.messages.borrow_mut().get_mut(key) {
            *count += u32::try_from(messages).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    /// Waits until every key's turn has come so often.
    async fn rounds(&self, count: u32) {
        tokio::time::sleep(Duration::from_secs((EVERY * count).into())).await;
    }

    /// Measures polls that bring nothing for so long, and then that a status of each job comes to
    /// each of its keys once; `publish` publishes it.
    pub(super) async fn measure(
        &self,
        stage: &Stage,
        quiet: &Span,
        seconds: Duration,
        publish: impl AsyncFnOnce() -> Result<()>,
        report: &mut Report,
    ) -> Result<()> {
        // In the first round connections are made.
        self.rounds(2).await;
        self.board.forget_times();
        let (polls, empty, late) = (self.polls.get(), self.empty.get(), self.late.get());
        let mark = stage.mark().await?;
        tokio::time::sleep(seconds).await;
        let span = stage.since(&mark).await?;
        let polls = (self.polls.get() - polls) as f64;
        let empty = (self.empty.get() - empty) as f64;
        report.figure("polls", polls, "");
        report.figure("polls_per_second", polls / span.seconds, "/s");
        report.figure("hub_cpu_per_poll", span.hub_per(polls, quiet) * 1e6, "us");
        let anyway = quiet.hub / quiet.seconds;
        report.figure("hub_cpu_without_polls", anyway * 100.0, "%");
        report.figure("redis_cpu_per_poll", span.redis / polls * 1e6, "us");
        report.figure("redis_calls_per_poll", span.calls_per(polls, quiet), "");
        let (scripts, took) = span.scripts_per(polls, quiet);
        report.figure("script_calls_per_poll", scripts, "");
        report.figure("script_time_per_poll", took, "us");
        report.figure("log_reads_per_poll", span.log_reads / polls, "");
        span.load(report);
        report.times(
            ["answer_p50", "answer_p99", "answer_p999", "answer_max"],
            &self.board.answers.borrow(),
        );
        report.figure("polls_behind_time", (self.late.get() - late) as f64, "");
        report.note(format!("commands of a poll: {}", span.commands(polls)));
        let anyway = quiet.commands(quiet.seconds);
        report.note(format!("a second without polls: {anyway}"));
        if empty < polls {
            self.fail(format!(
                "{} polls brought what nobody published",
                polls - empty
            ));
        }
        if span.log_reads > 0.0 {
            self.fail(format!("{} reads of the log for nothing", span.log_reads));
        }
        publish().await?;
        // Every key's turn comes in one; the others are for answers that are late.
        self.rounds(3).await;
        let messages = self.messages.borrow();
        let (missing, twice) = (
            messages.iter().filter(|count| **count == 0).count(),
            messages.iter().filter(|count| **count > 1).count(),
        );
        let brought = (messages.len() - missing) as f64;
        report.figure("messages_brought", brought, "");
        if missing + twice > 0 {
            self.fail(format!(
                "{missing} keys got no message, {twice} more than one"
            ));
        }
        Ok(())
    }

    fn fail(&self, why: String) {
        self.board.fail(&anyhow::Error::msg(why));
    }

    /// Adds what was wrong.
    pub(super) fn verdict(&self, report: &mut Report) {
        report.verdict(self.board.close([]), &self.board);
    }
}
