//! What an append's answer says, and who is told what.

use redis::Value;
use tidings_core::{Appended, EventId, LogError, Outcome};

use super::Job;

/// What became of the drafts of one partition.
pub(super) type Group = Result<Vec<Appended>, GroupError>;

/// An error that is one partition's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupError {
    reason: String,
    /// Whether an earlier try may have been executed.
    unknown: bool,
}

/// Answers the callers of a batch that is sorted by partition.
pub(super) fn answer(batch: Vec<Job>, stored: Vec<Group>) {
    let mut jobs = batch.into_iter().peekable();
    let mut stored = stored.into_iter();
    while let Some(partition) = jobs.peek().map(|job| job.partition) {
        let mut group = Vec::new();
        while let Some(job) = jobs.next_if(|job| job.partition == partition) {
            group.push(job);
        }
        let count: usize = group.iter().map(|job| job.drafts.len()).sum();
        match stored.next() {
            Some(Ok(answers)) if answers.len() == count => {
                let mut answers = answers.into_iter();
                for job in group {
                    let own = answers.by_ref().take(job.drafts.len()).collect();
                    // A caller that has gone away does not want to know.
                    let _ = job.answer.send(Ok(own));
                }
            }
            Some(Err(error)) if !error.unknown => {
                fail(group, || LogError::Refused(error.reason.clone()))
            }
            Some(Err(error)) => fail(group, || LogError::FateUnknown(error.reason.clone())),
            _ => fail(group, || {
                LogError::FateUnknown("the append script answered in an unknown way".to_owned())
            }),
        }
    }
}

/// The same error for all.
pub(super) fn fail(batch: Vec<Job>, error: impl Fn() -> LogError) {
    for job in batch {
        let _ = job.answer.send(Err(error()));
    }
}

/// For each partition `n +<id> =<id> …`, `r …` or `e…`; see append.lua.
pub(super) fn parse(answer: &Value, unknown: bool) -> Option<Vec<Group>> {
    let Value::BulkString(text) = answer else {
        return None;
    };
    let group = |text: &str| match text.strip_prefix('e') {
        Some(reason) => Some(Err(GroupError {
            reason: reason.to_owned(),
            unknown,
        })),
        None => parse_group(text).map(Ok),
    };
    let text = String::from_utf8_lossy(text);
    text.split('|').map(group).collect()
}

fn parse_group(text: &str) -> Option<Vec<Appended>> {
    let mut words = text.split(' ');
    let stored = match words.next()? {
        "n" => Outcome::New,
        "r" => Outcome::Retried,
        _ => return None,
    };
    words
        .map(|word| {
            let (outcome, id) = match word.strip_prefix('+') {
                Some(id) => (stored, id),
                None => (Outcome::Duplicate, word.strip_prefix('=')?),
            };
            let id = EventId::from_integer(id.parse().ok()?)?;
            Some(Appended { id, outcome })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let parse = |text: &str| super::parse(&Value::BulkString(text.into()), false);
        let appended = |n, outcome| Appended {
            id: EventId::from_integer(n).expect("in range"),
            outcome,
        };
        let mixed = vec![appended(5, Outcome::New), appended(6, Outcome::Duplicate)];
        let retried = vec![appended(5, Outcome::Retried)];
        let error = GroupError {
            reason: "WRONGTYPE no".to_owned(),
            unknown: false,
        };
        assert_eq!(parse("n +5 =6"), Some(vec![Ok(mixed.clone())]));
        assert_eq!(
            parse("n +5 =6|eWRONGTYPE no|r +5"),
            Some(vec![Ok(mixed), Err(error), Ok(retried)])
        );
        assert_eq!(parse("x +5"), None);
        assert_eq!(parse("n 5"), None);
        assert_eq!(parse(""), None);
    }
}
