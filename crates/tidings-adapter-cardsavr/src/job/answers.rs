//! What users answered, until the virtual browser has fetched it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ask::Content;

/// Answers of one job that wait; the oldest one makes room. Each belongs to a request that the
/// virtual browser made and waits for, four at a time, and it fetches them one by one. All of them
/// are one record of 64 KiB, and each has up to 8 KiB and its names.
const WAITING_MAX: usize = 7;

/// How long an answer that was taken is kept for the one who took it: beyond it, it is handed out
/// again. The client's own time-out is 10 s.
const TAKEN_MS: u64 = 15_000;

/// All that wait, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answers(Vec<Given>);

/// One.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Given {
    envelope: String,
    kind: String,
    content: Content,
    /// It was handed out, and until then nobody else gets it.
    taken_until: Option<u64>,
}

impl Answers {
    pub(crate) fn parse(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, envelope: &str, kind: String, content: Content) {
        if self.0.len() >= WAITING_MAX {
            self.0.remove(0);
        }
        self.0.push(Given {
            envelope: envelope.to_owned(),
            kind,
            content,
            taken_until: None,
        });
    }

    /// The first that can be had: its envelope, and what the virtual browser is shown.
    pub(crate) fn first(&self, job: u64, now_ms: u64) -> Option<(String, Value)> {
        let free = |one: &&Given| one.taken_until.is_none_or(|until| until <= now_ms);
        let one = self.0.iter().find(free)?;
        let content = &one.content;
        let link = content.account_link.as_ref();
        // A code that came under its newer name is where the older answers have it.
        let code = || link.and_then(|link| link.get("tfa")).cloned();
        let message = content.message.clone().or_else(code);
        let mut shown = json!({
            "job_id": job,
            "type": one.kind,
            "envelope_id": one.envelope,
            "message": message.unwrap_or_else(|| "submitted".into()),
        });
        if let Some(link) = link {
            shown["account_link"] = link.clone().into();
        }
        Some((one.envelope.clone(), shown))
    }

    /// Hands one out; false when somebody else has it.
    pub(crate) fn take(&mut self, envelope: &str, now_ms: u64) -> bool {
        let free = |one: &&mut Given| {
            one.envelope == envelope && one.taken_until.is_none_or(|until| until <= now_ms)
        };
        match self.0.iter_mut().find(free) {
            Some(one) => {
                one.taken_until = Some(now_ms + TAKEN_MS);
                true
            }
            None => false,
        }
    }

    /// It came to whom it was handed out, or did not; false when nothing changes by that.
    pub(crate) fn settle(&mut self, envelope: &str, arrived: bool) -> bool {
        let Some(at) = self.0.iter().position(|one| one.envelope == envelope) else {
            return false;
        };
        if arrived {
            self.0.remove(at);
        } else if let Some(one) = self.0.get_mut(at) {
            one.taken_until = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_answers_fit_into_a_record() {
        use crate::job::ask::REQUEST_BYTES_MAX;
        let long = "x".repeat(REQUEST_BYTES_MAX - 10);
        let content = Content {
            message: Some(long.as_str().into()),
            account_link: json!({"a": long}).as_object().cloned(),
        };
        let mut answers = Answers::default();
        for _ in 0..20 {
            answers.push(&"e".repeat(24), "k".repeat(64), content.clone());
        }
        assert_eq!(answers.len(), WAITING_MAX);
        assert!(crate::job::to_json(&answers).len() < 64 * 1024);
    }

    #[test]
    fn an_answer_is_had_once_unless_it_did_not_arrive() {
        let mut answers = Answers::default();
        let code = Content {
            message: Some("1234".into()),
            ..Content::default()
        };
        answers.push("a", "tfa_response".into(), code);
        let link = json!({"tfa": "99"}).as_object().cloned();
        let newer = Content {
            account_link: link,
            ..Content::default()
        };
        answers.push("b", "tfa".into(), newer);
        let (envelope, shown) = answers.first(7, 0).expect("one");
        assert_eq!(
            shown,
            json!({"job_id": 7, "type": "tfa_response", "envelope_id": "a", "message": "1234"})
        );
        assert!(answers.take(&envelope, 0) && !answers.take(&envelope, 1));
        let (_, second) = answers.first(7, 1).expect("the next");
        assert_eq!(
            (
                second["message"].as_str(),
                second["account_link"]["tfa"].as_str()
            ),
            (Some("99"), Some("99"))
        );
        // Not confirmed in time, or known not to have arrived.
        assert_eq!(answers.first(7, TAKEN_MS).expect("again").0, "a");
        assert!(answers.settle("a", false) && answers.take("a", 2));
        assert!(answers.settle("a", true) && !answers.settle("a", true));
        assert_eq!(answers.len(), 1);
    }
}
