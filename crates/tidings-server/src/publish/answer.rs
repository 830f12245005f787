//! What a publisher is told: which events are stored, which are not, and why.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::Value;
use tidings_adapter::PublishError;
use tidings_core::{Appended, EventId, Outcome, Topic};

use super::safety::Told;
use crate::problem::{Cause, Problem};

/// One stored event, as the answer names it.
#[derive(Debug, Clone, Serialize)]
pub struct Receipt {
    /// Its place in the batch, counted from 0; in problems only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Its line, counted from 1; in problems only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Where it stands.
    #[serde(serialize_with = "shown")]
    pub topic: Topic,
    /// Its id, which is also the cursor after it.
    #[serde(serialize_with = "shown")]
    pub id: EventId,
    /// Whether it had been stored before, under the same `id` and `source`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

fn shown<T: std::fmt::Display, S: serde::Serializer>(it: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(it)
}

impl Receipt {
    /// The receipt for what the log answered. A retry of this same publish is not a duplicate.
    #[must_use]
    pub fn new(topic: Topic, appended: Appended) -> Self {
        Self {
            index: None,
            line: None,
            topic,
            id: appended.id,
            duplicate: appended.outcome == Outcome::Duplicate,
        }
    }
}

/// 201, with an id for each event.
#[must_use]
pub fn created(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => (
            StatusCode::CREATED,
            [(CONTENT_TYPE, "application/json")],
            text,
        )
            .into_response(),
        Err(error) => Problem::new(Cause::Internal, error.to_string()).into_response(),
    }
}

/// The answer to a batch: 201 when all of it is stored, else the first failure's problem with all
/// that was stored and all that was not.
///
/// # Errors
/// That problem.
pub(super) fn batch(
    topics: &[Topic],
    results: Vec<Result<Appended, PublishError>>,
    told: Told,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Created {
        events: Vec<Receipt>,
        #[serde(flatten)]
        told: Told,
    }

    let single = results.len() == 1;
    let (mut events, mut failed, mut first) = (Vec::new(), Vec::new(), None);
    for (index, (topic, result)) in topics.iter().zip(results).enumerate() {
        match result {
            Ok(appended) => events.push(Receipt {
                index: Some(index),
                ..Receipt::new(topic.clone(), appended)
            }),
            Err(error) => {
                failed.push(serde_json::json!({ "index": index, "cause": cause(&error).slug() }));
                first.get_or_insert(error);
            }
        }
    }
    match first {
        None => {
            events.iter_mut().for_each(|receipt| receipt.index = None);
            Ok(created(&Created { events, told }))
        }
        Some(error) if single => Err(problem(&error)),
        Some(error) => Err(problem(&error)
            .with("stored", listed(&events))
            .with("failed", failed)),
    }
}

/// Receipts as a problem's member.
#[must_use]
pub fn listed(receipts: &[Receipt]) -> Value {
    // A receipt has no map with other than text keys and no float: it is always a value.
    serde_json::to_value(receipts).unwrap_or_default()
}

/// Why a draft was not stored, as a problem.
#[must_use]
pub fn problem(error: &PublishError) -> Problem {
    match error {
        PublishError::Draft(error) => error.clone().into(),
        PublishError::Log(error) => Problem::of_log(error),
        PublishError::Owned(_) | PublishError::NotTaken(_) => {
            Problem::new(Cause::ForbiddenTopic, error.to_string())
        }
        PublishError::Draining => {
            Problem::new(Cause::Draining, "come back: another instance answers")
        }
    }
}

fn cause(error: &PublishError) -> Cause {
    match error {
        PublishError::Draft(error) => Problem::from(error.clone()).cause,
        PublishError::Log(error) => Cause::of_log(error),
        PublishError::Owned(_) | PublishError::NotTaken(_) => Cause::ForbiddenTopic,
        PublishError::Draining => Cause::Draining,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidings_core::LogError;

    use super::*;

    #[test]
    fn every_way_of_not_being_stored_has_its_cause() {
        let log = |error| PublishError::Log(Arc::new(error));
        let table = [
            (
                log(LogError::Unavailable("x".into())),
                Cause::LogUnavailable,
            ),
            (log(LogError::Full("x".into())), Cause::LogFull),
            (log(LogError::FateUnknown("x".into())), Cause::FateUnknown),
            (log(LogError::Refused("x".into())), Cause::Internal),
            (PublishError::Draining, Cause::Draining),
            (PublishError::Owned("toy".into()), Cause::ForbiddenTopic),
            (PublishError::NotTaken("no".into()), Cause::ForbiddenTopic),
            (
                tidings_core::DraftError::KindEmpty.into(),
                Cause::InvalidField,
            ),
        ];
        for (error, expected) in table {
            assert_eq!(problem(&error).cause, expected, "{error}");
            assert_eq!(cause(&error), expected, "{error}");
        }
    }
}
