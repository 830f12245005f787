//! What is asked of a job, and what it answers: the words between the routes and the decisions.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidings_adapter::Command;

use super::state::{Job, Secrets};
use crate::errors::Refused;
use crate::keys;

/// Characters of a message for people.
const WORDS_MAX: usize = 1024;

/// Bytes of a request's `message` and `account_link`, each: with four requests and the rest of a
/// job they stay far below a record's 64 KiB.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// What is asked of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Begin it. Answered by the job.
    Create {
        job: Box<Job>,
        secrets: Secrets,
        /// The hash of an access key that the creator gets with it, and where it begins to read.
        key: Option<String>,
        place: u64,
    },
    /// Say its status. Answered by the job.
    Change {
        change: Box<Change>,
        /// Whether a virtual browser says so; else an agent, who may say little.
        drives: bool,
        /// Of the request that a `PENDING…` status needs, if there is none.
        envelope: String,
        publish: Publish,
    },
    /// Ask its user, and say so with a status behind it if there is one. Answered by the job.
    Request {
        envelope: String,
        kind: String,
        message: Value,
        account_link: Vec<Value>,
        announce: Option<Box<Change>>,
        publish: Publish,
    },
    /// What its user was asked. Answered by the job.
    Answer {
        envelope: String,
        kind: Option<String>,
        content: Content,
    },
    /// Credentials that nobody asked for. Answered by the job.
    Credentials { account_link: Map<String, Value> },
    /// The virtual browser takes this answer. Answered by whether it could be had.
    Take { envelope: String },
    /// The answer that was taken came to it, or did not.
    Taken { envelope: String, arrived: bool },
    /// The webhook's turn, see [`super::webhook`].
    Hook { turn: u64, step: Hooked },
}

impl Ask {
    /// Whether it is what somebody else published: who reads the answer is no route of ours.
    pub(crate) fn is_foreign(&self) -> bool {
        match self {
            Self::Change { publish, .. } | Self::Request { publish, .. } => publish.foreign,
            _ => false,
        }
    }
}

/// What a user answered.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) message: Option<Value>,
    pub(crate) account_link: Option<Map<String, Value>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(***)")
    }
}

/// A step of posting a job's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hooked {
    /// An instance wants to post it.
    Claim,
    /// It was taken.
    Delivered,
    /// It was not.
    Failed,
}

/// How an event is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publish {
    /// It came by another way than the routes here.
    #[serde(default)]
    pub(crate) foreign: bool,
    /// The publisher's key: scope, key, lifetime in milliseconds.
    #[serde(default)]
    pub(crate) dedup: Option<(Arc<str>, Arc<str>, u64)>,
    #[serde(default)]
    pub(crate) trace_parent: Option<Arc<str>>,
    #[serde(default)]
    pub(crate) trace_state: Option<Arc<str>>,
}

/// What is said of a job; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) status: Option<String>,
    pub(crate) percent: Option<f64>,
    pub(crate) auth_percent: Option<f64>,
    pub(crate) status_message: Option<String>,
    pub(crate) termination_type: Option<String>,
    pub(crate) termination_status_message: Option<String>,
    /// In the unit of messages.
    pub(crate) job_timeout: Option<u64>,
    pub(crate) custom_data: Option<Value>,
}

impl Change {
    /// What a body says; `null` is as if it were not there.
    ///
    /// # Errors
    /// The property that cannot be used.
    pub(crate) fn of(body: &Value) -> Result<Self, Refused> {
        let said = |name: &str| body.get(name).filter(|value| !value.is_null());
        let name = |property: &str| match said(property) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(value) => value
                .as_str()
                .and_then(super::status::name)
                .map(Some)
                .ok_or_else(|| Refused::bad(property, "letters, digits and _")),
        };
        let share = |property: &str| {
            said(property)
                .map(|value| {
                    number(value)
                        .filter(|share| (0.0..=100.0).contains(share))
                        .ok_or_else(|| Refused::bad(property, "from 0 to 100"))
                })
                .transpose()
        };
        let words = |property: &str| {
            said(property)
                .map(|value| {
                    value
                        .as_str()
                        .filter(|text| text.chars().count() <= WORDS_MAX)
                        .map(str::to_owned)
                        .ok_or_else(|| Refused::bad(property, "a text of at most 1024 characters"))
                })
                .transpose()
        };
        let job_timeout = said("job_timeout").map(|value| {
            // A year in milliseconds: nothing runs longer, and no sum overflows.
            let good = |time: &f64| (0.0..=3.2e10).contains(time);
            let time = number(value).filter(good);
            time.map(|time| time as u64)
                .ok_or_else(|| Refused::bad("job_timeout", "a time from 0 on"))
        });
        Ok(Self {
            status: name("status")?,
            percent: share("percent_complete")?,
            auth_percent: share("auth_percent_complete")?,
            status_message: words("status_message")?,
            termination_type: name("termination_type")?,
            termination_status_message: words("termination_status_message")?,
            job_timeout: job_timeout.transpose()?,
            custom_data: said("custom_data").cloned().map(small).transpose()?,
        })
    }

    /// Whether it says anything that clients are told.
    pub(crate) fn is_told(&self) -> bool {
        let quiet = Self {
            custom_data: self.custom_data.clone(),
            ..Self::default()
        };
        *self != quiet
    }
}

/// `custom_data`, of a size that fits into a job.
pub(crate) fn small(value: Value) -> Result<Value, Refused> {
    const BYTES_MAX: usize = 8 * 1024;
    if value.to_string().len() > BYTES_MAX {
        return Err(Refused::bad("custom_data", "at most 8 KiB"));
    }
    Ok(value)
}

/// A number, or a text that is one.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// What a decision says to the one who asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// The job as it is now.
    Job(Box<Job>),
    Yes,
    No(Refusal),
}

/// Why a job does not do what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    Nonsense,
    NoJob,
    Taken,
    Over,
    NoEnvelope,
    TooManyRequests,
    NotAnAgents,
    NoAnswer,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let refused = match refusal {
            Refusal::Nonsense => Self::bad("", "not understood"),
            Refusal::NoJob => Self::not_found("no such job"),
            Refusal::Taken => Self::unavailable(),
            Refusal::Over => Self::conflict("the job has ended"),
            Refusal::NoEnvelope => Self {
                property: "envelope_id".to_owned(),
                ..Self::not_found("no such envelope")
            },
            Refusal::TooManyRequests => Self::conflict("too many open requests"),
            Refusal::NotAnAgents => {
                Self::forbidden("agents set REQUESTED, INITIATED or CANCEL_REQUESTED")
            }
            Refusal::NoAnswer => Self::not_found("no such answer"),
        };
        refused.of(super::ENTITY)
    }
}

/// The command that asks a job.
pub(crate) fn command(job: u64, ask: &Ask) -> Command {
    Command {
        kind: keys::JOB.into(),
        placement_key: keys::job_key(job).into(),
        records: vec![keys::job(job)],
        body: super::to_json(ask).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_are_read_leniently_and_bounded() {
        let change = Change::of(&json!({
            "status": "updating", "percent_complete": "13.5", "auth_percent_complete": 100,
            "job_timeout": 827_027, "termination_type": null, "status_message": "x", "other": {},
        }))
        .expect("good");
        assert_eq!(change.status.as_deref(), Some("UPDATING"));
        assert_eq!(
            (change.percent, change.auth_percent),
            (Some(13.5), Some(100.0))
        );
        assert_eq!(change.job_timeout, Some(827_027));
        assert!(change.is_told() && change.termination_type.is_none());
        assert!(
            !Change::of(&json!({"custom_data": 1}))
                .expect("good")
                .is_told()
        );
        assert!(!Change::of(&Value::Null).expect("good").is_told());
        for (body, property) in [
            (json!({"status": 3}), "status"),
            (json!({"status": "A B"}), "status"),
            (json!({"percent_complete": 101}), "percent_complete"),
            (json!({"percent_complete": -1}), "percent_complete"),
            (json!({"percent_complete": "NaN"}), "percent_complete"),
            (
                json!({"auth_percent_complete": {}}),
                "auth_percent_complete",
            ),
            (json!({"job_timeout": -1}), "job_timeout"),
            (json!({"job_timeout": 1e300}), "job_timeout"),
            (
                json!({"status_message": "x".repeat(1025)}),
                "status_message",
            ),
            (json!({"custom_data": "x".repeat(9000)}), "custom_data"),
        ] {
            assert_eq!(Change::of(&body).expect_err("bad").property, property);
        }
    }
}
