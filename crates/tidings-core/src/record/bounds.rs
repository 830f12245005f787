//! What a log refuses before it looks at anything: every bound of a commit in one place, so that
//! all logs have the same.

use std::collections::HashSet;

use super::{Commit, Deadline, OUTBOX_ITEM_BYTES_MAX, OutboxItem, RANK_MAX, RecordKey};
use crate::draft::{Attributes, Draft};
use crate::id::EventId;
use crate::limits::{
    EFFECTS_PER_COMMIT_MAX, FLASH_BYTES_MAX, KIND_BYTES_MAX, RECORD_BYTES_MAX, RECORD_ID_BYTES_MAX,
    RECORDS_PER_COMMIT_MAX,
};
use crate::log::LogError;

impl Commit {
    /// Checks every bound that the fields state.
    ///
    /// # Errors
    /// [`LogError::Refused`]: a mistake in whoever made the commit.
    pub fn check(&self) -> Result<(), LogError> {
        let records = [self.expects.len(), self.puts.len(), self.removes.len()];
        for count in records {
            most("records", count, RECORDS_PER_COMMIT_MAX)?;
        }
        let expected = self.expects.iter().map(|(key, _)| key);
        let written = self.puts.iter().map(|put| &put.key).chain(&self.removes);
        let keys: HashSet<&RecordKey> = expected.chain(written).collect();
        most("records", keys.len(), RECORDS_PER_COMMIT_MAX)?;
        most("deadlines", self.deadlines.len(), EFFECTS_PER_COMMIT_MAX)?;
        most("ranks", self.ranks.len(), EFFECTS_PER_COMMIT_MAX)?;
        most("drafts", self.drafts.len(), EFFECTS_PER_COMMIT_MAX)?;
        most("flash events", self.flash.len(), EFFECTS_PER_COMMIT_MAX)?;
        most("outbox entries", self.outbox.len(), EFFECTS_PER_COMMIT_MAX)?;
        most("bytes in the answer", self.answer.len(), RECORD_BYTES_MAX)?;
        keys.into_iter().try_for_each(RecordKey::check)?;
        for put in &self.puts {
            most("bytes in a record", put.document.len(), RECORD_BYTES_MAX)?;
            if put.owner.is_some() && put.owner != self.incarnation {
                let refusal = "a record's owner is not the incarnation that commits";
                return Err(LogError::Refused(refusal.into()));
            }
        }
        self.fires.iter().try_for_each(Deadline::check)?;
        self.adopts
            .iter()
            .try_for_each(|orphan| orphan.record.check())?;
        check_flash(&self.flash)?;
        for set in &self.deadlines {
            set.record.check()?;
            word("deadline", &set.name)?;
            set.at_ms.map_or(Ok(()), time)?;
        }
        for set in &self.ranks {
            set.record.check()?;
            word("index", &set.index)?;
            if let Some(rank) = set.rank
                && rank > RANK_MAX
            {
                return Err(LogError::Refused(format!(
                    "the rank {rank} is not below 2^53"
                )));
            }
        }
        distinct_keys(&self.drafts)?;
        self.outbox.iter().try_for_each(OutboxItem::check)
    }
}

impl Deadline {
    fn check(&self) -> Result<(), LogError> {
        self.record.check()?;
        word("deadline", &self.name)?;
        time(self.at_ms)
    }
}

impl RecordKey {
    /// Checks the form of the kind and the length of the id.
    ///
    /// # Errors
    /// [`LogError::Refused`].
    pub fn check(&self) -> Result<(), LogError> {
        word("kind", &self.kind)?;
        most("bytes in a record's id", self.id.len(), RECORD_ID_BYTES_MAX)
    }
}

impl OutboxItem {
    /// The bytes of everything in it, as [`OUTBOX_ITEM_BYTES_MAX`] bounds them.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Draft(draft) | Self::Flash(draft) => {
                let dedup = draft.dedup.as_ref();
                let attributes = draft.attributes.as_deref();
                draft.topic.as_str().len()
                    + draft.kind.len()
                    + draft.data.len()
                    + attributes.map_or(0, Attributes::text_bytes)
                    + dedup.map_or(0, |dedup| dedup.scope.len() + dedup.key.len())
            }
            Self::Command(command) => {
                let records = command.records.iter().map(|r| r.kind.len() + r.id.len());
                command.kind.len()
                    + command.placement_key.len()
                    + command.body.len()
                    + records.sum::<usize>()
            }
            Self::Call(call) => {
                let headers = call.headers.iter().map(|(n, v)| n.len() + v.len());
                call.method.len() + call.url.len() + call.body.len() + headers.sum::<usize>()
            }
        }
    }

    fn check(&self) -> Result<(), LogError> {
        most(
            "bytes in an outbox entry",
            self.weight(),
            OUTBOX_ITEM_BYTES_MAX,
        )?;
        match self {
            Self::Draft(_) => Ok(()),
            Self::Flash(draft) => check_flash(std::slice::from_ref(draft)),
            Self::Command(command) => most(
                "records in a command",
                command.records.len(),
                RECORDS_PER_COMMIT_MAX,
            ),
            Self::Call(call) => most(
                "headers in a call",
                call.headers.len(),
                EFFECTS_PER_COMMIT_MAX,
            ),
        }
    }
}

/// Checks the size of flash events, as all logs do.
///
/// # Errors
/// [`LogError::Refused`].
pub fn check_flash(drafts: &[Draft]) -> Result<(), LogError> {
    drafts
        .iter()
        .try_for_each(|draft| most("bytes in a flash event", draft.data.len(), FLASH_BYTES_MAX))
}

/// Checks the names of a listing, as all logs do.
///
/// # Errors
/// [`LogError::Refused`].
pub fn check_index(kind: &str, index: &str) -> Result<(), LogError> {
    word("kind", kind)?;
    word("index", index)
}

/// Of two drafts under one key the second is a duplicate whose first has no id yet: whoever decided
/// so was mistaken.
fn distinct_keys(drafts: &[Draft]) -> Result<(), LogError> {
    let mut seen = HashSet::new();
    let dedups = drafts.iter().filter_map(|draft| draft.dedup.as_ref());
    for dedup in dedups {
        if !seen.insert((&dedup.scope, &dedup.key)) {
            return Err(LogError::Refused(
                "two drafts of one commit have the same dedup key".into(),
            ));
        }
    }
    Ok(())
}

/// Kinds and names stand in keys beside what clients chose; so they hold nothing that separates.
fn word(what: &str, text: &str) -> Result<(), LogError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if text.is_empty() || text.len() > KIND_BYTES_MAX || !text.chars().all(plain) {
        return Err(LogError::Refused(format!(
            "the {what} {text:?} is not 1 to {KIND_BYTES_MAX} of a-z, 0-9 and . _ -"
        )));
    }
    Ok(())
}

/// Times are kept where a floating-point number is exact, and no later than ids can tell.
fn time(at_ms: u64) -> Result<(), LogError> {
    if at_ms > EventId::MS_MAX {
        return Err(LogError::Refused(format!(
            "a deadline at {at_ms} ms is beyond the end of ids"
        )));
    }
    Ok(())
}

fn most(what: &str, count: usize, most: usize) -> Result<(), LogError> {
    if count > most {
        return Err(LogError::Refused(format!(
            "{count} {what}, at most {most} are taken"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CommitId, IncarnationId, Put, SetDeadline, SetRank};

    #[test]
    fn an_owner_commits_itself() {
        let owned_by = |owner: Option<u128>, by: Option<u128>| {
            let mut commit = Commit::new(CommitId(1));
            commit.incarnation = by.map(IncarnationId);
            commit.puts.push(Put {
                key: RecordKey::new("a", "1"),
                document: "1".into(),
                lifetime: None,
                owner: owner.map(IncarnationId),
            });
            commit.check().is_ok()
        };
        assert!(owned_by(None, None) && owned_by(None, Some(1)) && owned_by(Some(1), Some(1)));
        assert!(!owned_by(Some(1), None) && !owned_by(Some(1), Some(2)));
    }

    #[test]
    fn kinds_and_names_separate() {
        let key = |kind: &str, id: &str| RecordKey::new(kind, id).check();
        assert!(key("zaikio.consumer-2_b", "Any: text\n\0{}").is_ok());
        for kind in ["", "a:b", "A", "a b", "ä", &"k".repeat(129)] {
            assert!(key(kind, "1").is_err(), "{kind:?}");
        }
        assert!(key("a", &"i".repeat(RECORD_ID_BYTES_MAX)).is_ok());
        assert!(key("a", &"i".repeat(RECORD_ID_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn times_end_where_ids_do() {
        let at = |at_ms| {
            let mut commit = Commit::new(CommitId(1));
            commit.deadlines.push(SetDeadline {
                record: RecordKey::new("a", "1"),
                name: "n".into(),
                at_ms,
            });
            commit.check()
        };
        assert!(at(None).is_ok());
        assert!(at(Some(EventId::MS_MAX)).is_ok());
        assert!(at(Some(EventId::MS_MAX + 1)).is_err());
    }

    #[test]
    fn ranks_are_exact_and_indexes_are_named() {
        let check = |index: &str, rank| {
            let mut commit = Commit::new(CommitId(1));
            commit.ranks.push(SetRank {
                record: RecordKey::new("a", "1"),
                index: index.into(),
                rank,
            });
            commit.check().is_ok()
        };
        assert!(check("waiting", None) && check("waiting", Some(RANK_MAX)));
        assert!(!check("waiting", Some(RANK_MAX + 1)));
        assert!(!check("wait:ing", Some(1)) && !check("", None));
        assert!(check_index("a.kind", "waiting").is_ok());
        assert!(check_index("a kind", "waiting").is_err());
        assert!(check_index("a.kind", "wait;ing").is_err());
    }
}
