//! `POST /api/v1/internal/rtm.publish`: what the backend publishes, one operation at a time.
//!
//! An operation is answered when its state and its events are stored. One that takes several commits
//! (a channel with many members, a removal) is made of steps of which each may be done again, so that
//! the backend may try again after any failure; with an idempotency key it then gets the first answer.

mod drafts;
mod fields;
mod ops;
mod single;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tidings_adapter::axum::extract::{Request, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::StatusCode;

use crate::Shared;
use crate::answer::Answer;
use crate::http::{Problem, bearer, ok, read};
use crate::{index, keys};

pub(crate) use drafts::{Drafted, Rules, drafted};
use fields::Fields;

/// Bytes of a body.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 128;

/// Makes ids: below 2^53, rising on each instance, and about in the order of time over all.
#[derive(Debug, Default)]
pub(crate) struct Ids(AtomicU64);

impl Ids {
    pub(crate) fn next(&self, now_ms: u64, random: u128) -> u64 {
        let fresh = now_ms * 4096 + (random % 4096) as u64;
        let next = |last: u64| Some(fresh.max(last + 1));
        match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        {
            Ok(last) | Err(last) => fresh.max(last + 1),
        }
    }
}

/// One operation under way.
struct Operation<'a> {
    shared: &'a Shared,
    /// The same for every try under one key.
    seed: u64,
    /// Under which its results are remembered.
    op: Option<String>,
    /// Whether its key was used before: what it says may be an old answer.
    again: bool,
}

pub(crate) async fn publish(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match accept(&shared, request).await {
        Ok(result) => ok(json!({ "result": result })),
        Err(problem) => problem.response(),
    }
}

async fn accept(shared: &Shared, request: Request) -> Result<Value, Problem> {
    let given = bearer(request.headers()).unwrap_or_default();
    let good = shared.settings.ingest_key.as_ref().is_some_and(|key| {
        // Hashes have one length, so the time says nothing of the key's either.
        let (key, given) = (Sha256::digest(key), Sha256::digest(given));
        key.as_slice().ct_eq(given.as_slice()).into()
    });
    if !good {
        return Err(Problem::unauthorized());
    }
    let body = read(request).await?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| Problem::bad("not JSON"))?;
    let body = Fields::of(&body, "the body")?;
    let op = body.text("op")?;
    let data = body.object("data")?;
    let key = body.maybe("idempotency_key", Fields::text)?;
    let mut operation = Operation {
        shared,
        seed: shared.ids.next(shared.hub.now().unix_ms, rand::random()),
        op: None,
        again: false,
    };
    if let Some(key) = key {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Problem::bad("`idempotency_key` has 1 to 128 bytes"));
        }
        operation.claim(key, op, &data).await?;
    }
    operation.perform(op, &data).await
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Operation<'_> {
    /// Takes a key for this body; a body that is another one is a conflict.
    async fn claim(&mut self, key: &str, op: &str, data: &Fields<'_>) -> Result<(), Problem> {
        // serde_json's maps are sorted: the order of members does not matter.
        let text = json!([op, data.all()]).to_string();
        let hash = hexadecimal(&Sha256::digest(text));
        let lifetime = self.shared.settings.options.idempotency.0;
        let ask = index::Ask::Claim {
            hash: hash.clone(),
            seed: self.seed,
            lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
        };
        let id = keys::idempotency_index(key);
        let claim = self.ask(index::command(&id, &ask)).await?;
        if claim["hash"] != hash {
            let words = "the idempotency key was used for something else";
            return Err(Problem::new(StatusCode::CONFLICT, words));
        }
        let seed = claim["seed"].as_u64().unwrap_or(self.seed);
        self.again = seed != self.seed;
        self.seed = seed;
        self.op = Some(format!("{:x}", self.seed));
        Ok(())
    }

    /// Asks records, and reads the answer.
    async fn ask(&self, command: tidings_adapter::Command) -> Result<Value, Problem> {
        let decided = self.shared.hub.command(command).await?;
        match Answer::parse(&decided.answer) {
            Some(Answer::Done(result)) => Ok(result),
            Some(Answer::Refused(refusal)) => Err(refusal.into()),
            None => Ok(Value::Null),
        }
    }

    /// What stands at the beginning and the end of a span that this operation makes.
    fn nonce(&self) -> String {
        format!("{:x}", self.seed)
    }
}
