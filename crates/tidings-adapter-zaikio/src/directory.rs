//! Which subjects have events: what the pull API goes through, since a log cannot list its topics.
//!
//! Subjects stand in records, spread by the first two digits of their ids, each with the time when
//! it was last noted. Whoever publishes notes the subject before the event, at most every
//! [`NOTED_AGAIN`] on each instance, so the cost of a publish stays one append. A subject that was
//! not noted for [`FORGOTTEN`] has no retained events and is dropped at the next note.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidings_adapter::{
    Command, CommandError, Decision, Hub, LogError, RecordKey, RecordKind, State, Trigger,
};

use crate::event::Subject;

/// The record kind's name.
const KIND: &str = "zaikio.subjects";

/// After this, a subject that is published to is noted again.
const NOTED_AGAIN: Duration = Duration::from_secs(20 * 60);

/// After this, a subject that nobody noted is dropped: retention (an hour), the time until it is
/// noted again, and some more.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// How long a record lives after its last note.
const LIFETIME: Duration = Duration::from_secs(3 * 3600);

/// Subjects of one record, about 50 bytes each: with 256 records, 256,000 subjects in two hours.
const SUBJECTS_MAX: usize = 1_000;

/// Subjects that an instance remembers to have noted; beyond it starts afresh, which costs a note
/// more for each.
const REMEMBERED_MAX: usize = 100_000;

/// Subjects waiting to be noted that came another way than over HTTP; what does not fit is noted
/// with its next event.
const WANTED_MAX: usize = 10_000;

/// What this instance has noted.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// By subject, when: milliseconds since 1970.
    noted: Mutex<HashMap<Subject, u64>>,
    wanted: Mutex<HashSet<Subject>>,
}

impl Directory {
    /// Notes a subject, unless it was noted a while ago.
    ///
    /// # Errors
    /// When it is not known to be noted.
    pub(crate) async fn note(&self, hub: &Hub, subject: &Subject) -> Result<(), CommandError> {
        let now_ms = hub.now().unix_ms;
        let again_ms = u64::try_from(NOTED_AGAIN.as_millis()).unwrap_or(u64::MAX);
        let last = self.noted.lock().get(subject).copied();
        if last.is_some_and(|last| now_ms.saturating_sub(last) < again_ms) {
            return Ok(());
        }
        let decided = hub.command(command(subject)).await?;
        if decided.answer == FULL {
            tracing::warn!("too many subjects: some events will not be found by pulling");
        }
        let mut noted = self.noted.lock();
        if noted.len() >= REMEMBERED_MAX {
            noted.clear();
        }
        noted.insert(subject.clone(), now_ms);
        Ok(())
    }

    /// Remembers that a subject is to be noted by [`Directory::keep`].
    pub(crate) fn want(&self, subject: &Subject) {
        if self.noted.lock().contains_key(subject) {
            return;
        }
        let mut wanted = self.wanted.lock();
        if wanted.len() < WANTED_MAX {
            wanted.insert(subject.clone());
        }
    }

    /// Notes what is wanted, until the hub leaves.
    pub(crate) async fn keep(self: Arc<Self>, hub: Hub) {
        /// An event that came by XADD can be pulled this much later at most.
        const EVERY: Duration = Duration::from_secs(1);
        let leaving = hub.draining().clone();
        loop {
            tokio::select! {
                () = leaving.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let wanted = std::mem::take(&mut *self.wanted.lock());
            for subject in wanted {
                if self.note(&hub, &subject).await.is_err() {
                    self.want(&subject);
                }
            }
        }
    }

    /// Every subject that may have events.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub(crate) async fn all(&self, hub: &Hub) -> Result<Vec<Subject>, LogError> {
        let mut subjects = Vec::new();
        for group in 0..16_u32 {
            let keys =
                (0..16_u32).map(|low| RecordKey::new(KIND, format!("{:02x}", group * 16 + low)));
            let records = hub.load(&place(group), keys.collect()).await?;
            for record in records.into_iter().flatten() {
                let shelf: Shelf = serde_json::from_slice(&record.document).unwrap_or_default();
                subjects.extend(shelf.0.keys().filter_map(|text| Subject::parse(text)));
            }
        }
        Ok(subjects)
    }
}

/// The placement key of sixteen records: they are loaded together.
fn place(group: u32) -> String {
    format!("zaikio/subjects/{group:x}")
}

fn command(subject: &Subject) -> Command {
    let text = subject.to_string();
    // The id's first two digits; a UUID always has them.
    let id = text.get(4..6).unwrap_or("00");
    let group = u32::from_str_radix(&id[..1], 16).unwrap_or_default();
    Command {
        kind: KIND.into(),
        placement_key: place(group).into(),
        records: vec![RecordKey::new(KIND, id)],
        body: text.into(),
    }
}

const FULL: &str = "full";

/// One record's document: subjects, and when each was last noted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Shelf(BTreeMap<String, u64>);

/// Decides notes.
#[derive(Debug)]
pub(crate) struct Subjects;

impl RecordKind for Subjects {
    fn name(&self) -> &'static str {
        KIND
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let subject = String::from_utf8_lossy(body).into_owned();
        let mut shelf: Shelf = document
            .and_then(|text| serde_json::from_slice(text).ok())
            .unwrap_or_default();
        let long = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let age = |noted: u64| now_ms.saturating_sub(noted);
        // Another instance noted it a moment ago.
        if shelf
            .0
            .get(&subject)
            .is_some_and(|at| age(*at) < long(NOTED_AGAIN) / 2)
        {
            return Decision::default();
        }
        shelf.0.retain(|_, noted| age(*noted) < long(FORGOTTEN));
        if shelf.0.len() >= SUBJECTS_MAX && !shelf.0.contains_key(&subject) {
            return Decision::answer(FULL);
        }
        shelf.0.insert(subject, now_ms);
        let mut decision = Decision::default();
        let document = serde_json::to_vec(&shelf).unwrap_or_default();
        decision.put(key.clone(), document, Some(LIFETIME));
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_decided() {
        let subject = Subject::parse("Org/837ebb91-2d4b-4818-a19b-04fea7be8cde").expect("good");
        let command = command(&subject);
        assert_eq!(&*command.records[0].id, "83");
        assert_eq!(&*command.placement_key, "zaikio/subjects/8");
        let hour = 3_600_000;
        let decide = |document: Option<&str>, now_ms| {
            let document = document.map(|text| text.to_owned().into());
            let state = [(command.records[0].clone(), document)];
            Subjects.decide(&State::new(&state), Trigger::Command(&command.body), now_ms)
        };
        let written = |decision: &Decision| {
            let text = decision.puts.first().map(|put| put.document.to_vec());
            text.map(|text| String::from_utf8(text).expect("text"))
        };
        let noted = format!(r#"{{"{subject}":{hour}}}"#);
        assert_eq!(written(&decide(None, hour)), Some(noted.clone()));
        assert!(decide(Some(&noted), hour + 1000).changes_nothing());
        let old = r#"{"Org/8300":5}"#;
        assert_eq!(
            written(&decide(Some(old), 9 * hour)),
            Some(noted.replace("3600000", "32400000"))
        );
        assert_eq!(written(&decide(Some("garbage"), hour)), Some(noted));
        let full: BTreeMap<String, u64> =
            (0..SUBJECTS_MAX).map(|n| (n.to_string(), hour)).collect();
        let full = serde_json::to_string(&full).expect("JSON");
        let decision = decide(Some(&full), hour);
        assert!(decision.changes_nothing() && decision.answer == FULL);
    }
}
