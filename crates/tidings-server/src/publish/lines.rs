//! Line-by-line publishing: one event a line, for as long as the publisher likes.
//!
//! Lines are stored in groups while the upload goes on; nothing is read while a group is on its way
//! to the log, so a publisher is slowed to the log's pace. The first bad line ends it: what stood
//! before it is stored, it and everything after it is not, and the answer says so.

use axum::response::Response;
use bytes::{Buf as _, Bytes, BytesMut};
use serde::Serialize;
use tidings_core::limits::DRAFTS_PER_APPEND_MAX;
use tidings_core::{Ingested, Topic};

use super::answer::{Receipt, created, listed, problem};
use super::safety::{Safety, Told};
use super::trail::Mark;
use super::upload::Upload;
use super::{Publisher, body};
use crate::limits::{LINE_GROUP_BYTES, LINES_LISTED_MAX};
use crate::problem::{Cause, Problem};
use crate::wire::Form;

/// Answers a line-by-line publish.
///
/// # Errors
/// A [`Problem`] with the failing `line` (counted from 1) and what was `stored` before it.
pub(super) async fn publish(
    publisher: Publisher<'_>,
    upload: &mut Upload,
    mark: &Mark,
    safety: Safety<'_>,
) -> Result<Response, Problem> {
    let mut lines = Lines::new(publisher.limits.body_max);
    let mut run = Run {
        publisher,
        mark,
        safety,
        group: Vec::new(),
        group_bytes: 0,
        receipts: Vec::new(),
        stored: 0,
    };
    loop {
        let piece = match upload.piece().await {
            Ok(piece) => piece,
            Err(problem) => return Err(run.fail(problem, None).await),
        };
        let more = match piece {
            Some(piece) => {
                lines.push(&piece);
                true
            }
            None => {
                lines.end();
                false
            }
        };
        while let Some((number, line)) = lines.next() {
            run.take(number, line).await?;
        }
        run.flush().await?;
        if !more {
            return run.answer();
        }
    }
}

/// One publish under way.
struct Run<'a> {
    publisher: Publisher<'a>,
    mark: &'a Mark,
    safety: Safety<'a>,
    /// Parsed and not yet stored.
    group: Vec<((u64, Topic), Ingested)>,
    group_bytes: usize,
    receipts: Vec<Receipt>,
    stored: u64,
}

impl Run<'_> {
    /// Takes one line, and stores the group when it is full.
    async fn take(&mut self, number: u64, line: Result<Bytes, Problem>) -> Result<(), Problem> {
        let draft = line.and_then(|line| body::one(&line, Form::Native));
        let judged = draft.and_then(|draft| {
            let (topic, bytes) = (draft.topic.clone(), draft.data.len());
            let judged = self.publisher.judge(draft, self.mark)?;
            let Publisher { hub, rights, .. } = self.publisher;
            rights.spend(1, hub.now().uptime)?;
            Ok((topic, bytes, judged))
        });
        match judged {
            Err(problem) => return Err(self.fail(problem, Some(number)).await),
            Ok((topic, bytes, judged)) => {
                self.group_bytes += bytes;
                self.group.push(((number, topic), judged));
            }
        }
        if self.group.len() >= DRAFTS_PER_APPEND_MAX || self.group_bytes >= LINE_GROUP_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Stores what was parsed.
    async fn flush(&mut self) -> Result<(), Problem> {
        self.group_bytes = 0;
        let (places, judged): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.group).into_iter().unzip();
        if judged.is_empty() {
            return Ok(());
        }
        let (mut failure, mut stored) = (None, Vec::new());
        let results = self.publisher.hub.ingest(judged).await;
        for ((number, topic), result) in places.into_iter().zip(results) {
            match result {
                Ok(appended) => {
                    self.stored += 1;
                    if self.safety.waits() {
                        stored.push((topic.clone(), appended.id));
                    }
                    if self.receipts.len() < LINES_LISTED_MAX {
                        self.receipts.push(Receipt {
                            line: Some(number),
                            ..Receipt::new(topic, appended)
                        });
                    }
                }
                Err(error) => {
                    failure.get_or_insert((number, error));
                }
            }
        }
        match failure {
            // Group by group, because an upload may have any number of them.
            None => {
                self.safety.wait(&stored).await;
                Ok(())
            }
            Some((number, error)) => Err(self.explain(problem(&error), Some(number))),
        }
    }

    /// Ends the publish: what was parsed before the failure is still stored. If that fails, it
    /// failed first.
    async fn fail(&mut self, problem: Problem, line: Option<u64>) -> Problem {
        match self.flush().await {
            Ok(()) => self.explain(problem, line),
            Err(earlier) => earlier,
        }
    }

    fn explain(&self, problem: Problem, line: Option<u64>) -> Problem {
        let problem = match line {
            Some(line) => problem.with("line", line),
            None => problem,
        };
        problem
            .with("stored", listed(&self.receipts))
            .with("stored_count", self.stored)
    }

    fn answer(mut self) -> Result<Response, Problem> {
        #[derive(Serialize)]
        struct Created {
            events: Vec<Receipt>,
            /// All that was stored; `events` lists so many of them at most.
            count: u64,
            #[serde(flatten)]
            told: Told,
        }

        if self.stored == 0 {
            return Err(Problem::new(
                Cause::InvalidBody,
                "the body has no line with an event",
            ));
        }
        self.receipts
            .iter_mut()
            .for_each(|receipt| receipt.line = None);
        Ok(created(&Created {
            told: self.safety.told(),
            events: self.receipts,
            count: self.stored,
        }))
    }
}

/// Splits pieces of a body into lines. Blank lines are skipped and counted.
pub(crate) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    number: u64,
    line_max: usize,
    ended: bool,
    failed: bool,
}

impl Lines {
    pub(crate) fn new(line_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            number: 0,
            line_max,
            ended: false,
            failed: false,
        }
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The next whole line with its number, counted from 1. After a line that is too long there is
    /// no further one.
    pub(crate) fn next(&mut self) -> Option<(u64, Result<Bytes, Problem>)> {
        while !self.failed {
            let line = match self.buffer[self.searched..]
                .iter()
                .position(|b| *b == b'\n')
            {
                Some(at) => {
                    let line = self.buffer.split_to(self.searched + at);
                    self.buffer.advance(1);
                    Some(line)
                }
                None if self.ended && !self.buffer.is_empty() => Some(self.buffer.split()),
                None => None,
            };
            let too_long = line.as_ref().map_or(self.buffer.len(), BytesMut::len) > self.line_max;
            if too_long {
                self.failed = true;
                let detail = format!("a line has more than {} bytes", self.line_max);
                let problem =
                    Problem::new(Cause::BodyTooLarge, detail).with("allowed", self.line_max);
                return Some((self.number + 1, Err(problem)));
            }
            let Some(line) = line else {
                self.searched = self.buffer.len();
                return None;
            };
            self.searched = 0;
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Some((self.number, Ok(line.freeze())));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&str], line_max: usize) -> Vec<(u64, Result<String, Cause>)> {
        let mut lines = Lines::new(line_max);
        let mut out = Vec::new();
        let mut take = |lines: &mut Lines| {
            while let Some((number, line)) = lines.next() {
                let line = line.map(|text| String::from_utf8_lossy(&text).into_owned());
                out.push((number, line.map_err(|problem| problem.cause)));
            }
        };
        for piece in pieces {
            lines.push(piece.as_bytes());
            take(&mut lines);
        }
        lines.end();
        take(&mut lines);
        out
    }

    fn good(lines: &[(u64, &str)]) -> Vec<(u64, Result<String, Cause>)> {
        lines
            .iter()
            .map(|(n, text)| (*n, Ok((*text).to_owned())))
            .collect()
    }

    #[test]
    fn lines_are_found_however_they_are_cut() {
        let expected = good(&[(1, "ab"), (3, "c\r"), (5, "d")]);
        let text = "ab\n\nc\r\n  \nd";
        assert_eq!(split(&[text], 10), expected);
        for cut in 0..text.len() {
            assert_eq!(split(&[&text[..cut], &text[cut..]], 10), expected, "{cut}");
        }
        let single: Vec<&str> = text.split("").collect();
        assert_eq!(split(&single, 10), expected);
        assert_eq!(split(&["\n\n"], 10), []);
        assert_eq!(split(&[], 10), []);
    }

    #[test]
    fn a_line_is_bounded_before_it_is_whole() {
        let too_long = (2, Err(Cause::BodyTooLarge));
        let expected = vec![good(&[(1, "1234")])[0].clone(), too_long];
        assert_eq!(split(&["1234\n12345\n1\n"], 4), expected);
        assert_eq!(split(&["1234\n123", "45"], 4), expected);
        assert_eq!(split(&["1234\n12345"], 4), expected);
    }
}
