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

/// Sessions that ended or changed, for the instances that remember them: one topic for all.
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

/// The kind of what only leads elsewhere: `cuid/…`, `account/…`, `envelope/…`, and the job lists.
pub(crate) const INDEX: &str = "cardsavr.index";
/// The kind of the counter of ids.
pub(crate) const COUNTER: &str = "cardsavr.counter";

/// Jobs whose end is to be posted, for the instances that post it: one topic for all.
pub(crate) const HOOKS: &str = "cardsavr/hooks";

/// A job's credentials and card: `4302/secrets`.
pub(crate) fn secrets(job: u64) -> RecordKey {
    key(JOB, format!("{job}/secrets"))
}

/// What users answered and the virtual browser has not fetched: `4302/answers`.
pub(crate) fn answers(job: u64) -> RecordKey {
    key(JOB, format!("{job}/answers"))
}

/// An access key, by its hash: `4302/k/<hash>`.
pub(crate) fn access_key(job: u64, hash: &str) -> RecordKey {
    key(KEY, format!("{job}/k/{hash}"))
}

/// What a session has read of a job: `4302/s/<session>`.
pub(crate) fn session_reader(job: u64, session: &str) -> RecordKey {
    key(KEY, format!("{job}/s/{session}"))
}

/// Whether a reader begins when a session first uses it.
pub(crate) fn is_session_reader(key: &RecordKey) -> bool {
    key.id.contains("/s/")
}

/// What a session has read of a cardholder's jobs: `c/4301/<session>`, placed with him.
pub(crate) fn cardholder_reader(cardholder: u64, session: &str) -> RecordKey {
    key(KEY, format!("c/{cardholder}/{session}"))
}

/// The placement key of an index entry: its own.
pub(crate) fn index_key(id: &str) -> String {
    format!("{ROOT}/index/{id}")
}

pub(crate) fn index(id: &str) -> RecordKey {
    key(INDEX, id)
}

/// Whose cuid that is, within an application: `cuid/acme-app/<hash>`.
pub(crate) fn cuid_index(app: &str, cuid: &str) -> String {
    format!("cuid/{app}/{}", crate::messages::hash(cuid))
}

/// Which job an account was last used for.
pub(crate) fn account_index(account: u64) -> String {
    format!("account/{account}")
}

/// Which job an envelope belongs to.
pub(crate) fn envelope_index(envelope: &str) -> String {
    format!("envelope/{}", crate::messages::hash(envelope))
}

/// Lists of jobs, so that they can be found without their ids: 64, in 16 places.
pub(crate) const SHELVES: u64 = 64;
pub(crate) const SHELF_PLACES: u64 = 16;

pub(crate) fn shelf_key(place: u64) -> String {
    format!("{ROOT}/jobs/{place}")
}

pub(crate) fn shelf(number: u64) -> RecordKey {
    key(INDEX, format!("jobs/{number}"))
}

/// Where the counter of ids stands.
pub(crate) const COUNTER_KEY: &str = "cardsavr/ids";

pub(crate) fn counter() -> RecordKey {
    key(COUNTER, "ids")
}
