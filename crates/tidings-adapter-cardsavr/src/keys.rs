//! Names: topics, placement keys, records. In one place, with an example of each.
//!
//! What changes together is placed together: a job, its access keys and its messages by
//! `cardsavr/job/<id>`; a cardholder by his id; a session by itself.

use std::sync::Arc;

use tidings_adapter::{RecordKey, Topic};

/// The root of all topics here.
pub(crate) const ROOT: &str = "cardsavr";

/// The kind of a client's session.
pub(crate) const SESSION: &str = "cardsavr.session";
/// The kind of a job, and of all that is placed with it.
pub(crate) const JOB: &str = "cardsavr.job";
/// The kind of an access key.
pub(crate) const KEY: &str = "cardsavr.key";
/// The kind of a cardholder, and of all that is placed with him.
pub(crate) const CARDHOLDER: &str = "cardsavr.cardholder";

/// Sessions that ended, for the instances that remember them: one topic for all.
pub(crate) const SESSIONS: &str = "cardsavr/sessions";

/// `cardsavr/job/4302`: topic and placement key.
pub(crate) fn job_key(job: u64) -> String {
    format!("{ROOT}/job/{job}")
}

/// `cardsavr/cardholder/4301`: placement key.
pub(crate) fn cardholder_key(cardholder: u64) -> String {
    format!("{ROOT}/cardholder/{cardholder}")
}

/// `cardsavr/session/<hash of the token>`: placement key.
pub(crate) fn session_key(id: &str) -> String {
    format!("{ROOT}/session/{id}")
}

pub(crate) fn topic(key: &str) -> Topic {
    Topic::parse(key).expect("words, numbers and slashes make a topic")
}

fn key(kind: &'static str, id: impl Into<Arc<str>>) -> RecordKey {
    RecordKey::new(kind, id)
}

/// A session; its id is the hash of its token.
pub(crate) fn session(id: &str) -> RecordKey {
    key(SESSION, id)
}

/// A job's state.
pub(crate) fn job(job: u64) -> RecordKey {
    key(JOB, job.to_string())
}

/// A cardholder.
pub(crate) fn cardholder(cardholder: u64) -> RecordKey {
    key(CARDHOLDER, cardholder.to_string())
}
