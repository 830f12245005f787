//! Cardholders: whose jobs they are. A cardholder is his cuid within an application.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use tidings_adapter::{Command, Decision, RecordKind, State, Trigger};

use super::{is_visible, to_json};
use crate::Shared;
use crate::errors::Refused;
use crate::keys;
use crate::messages::{hash, secret};
use crate::session::Session;

/// Jobs that he is known by, the newest ones: more than one card is placed on in an hour. His list of
/// messages is of these.
const JOBS_MAX: usize = 100;

/// A job leaves his list so long after it was made: longer than one takes and is kept.
const LISTED_MS: u64 = 24 * 3600 * 1000;

/// How long he is known after his last job was made; as long as his cuid leads to him.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// A cardholder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cardholder {
    pub(crate) id: u64,
    pub(crate) app: String,
    pub(crate) cuid: Option<String>,
    /// The user who made him.
    pub(crate) creator: u64,
    /// Hash of the text that opens him to a session (row 17).
    grant: String,
    jobs: Vec<Held>,
}

/// One of his jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    #[serde(rename = "j")]
    job: u64,
    #[serde(rename = "o")]
    owner: u64,
    #[serde(rename = "c")]
    created: u64,
}

impl Cardholder {
    /// The jobs of his that a session may see messages of.
    ///
    /// # Errors
    /// 403 when it has nothing to do with him.
    pub(crate) fn visible_to(
        &self,
        shared: &Shared,
        session: &Session,
    ) -> Result<Vec<u64>, Refused> {
        let known = shared.settings.users.get(self.creator);
        let same = *session.app == *self.app || session.app.is_empty() || self.app.is_empty();
        let all = same && session.may_query(self.id, self.creator, known.map(|user| &**user));
        let visible =
            |one: &&Held| all || is_visible(shared, session, one.owner, self.id, &self.app);
        let jobs: Vec<u64> = self
            .jobs
            .iter()
            .filter(visible)
            .map(|one| one.job)
            .collect();
        if session.may_drive() || (jobs.is_empty() && !all) {
            return Err(Refused::forbidden("not your cardholder").of("cardholder"));
        }
        Ok(jobs)
    }
}

/// What is asked of a cardholder: that he is there, and has this job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enrol {
    pub(crate) id: u64,
    pub(crate) app: String,
    pub(crate) cuid: Option<String>,
    pub(crate) user: u64,
    /// Hash of the grant, if he is new.
    pub(crate) grant: String,
    pub(crate) job: u64,
    /// Whether he may be made.
    pub(crate) make: bool,
}

/// Makes him if he is not there, and gives him a job. True when he was made. `None`: there is none,
/// and none is to be made.
///
/// # Errors
/// When it is not known to be done.
pub(crate) async fn enrol(shared: &Shared, enrol: &Enrol) -> Result<Option<bool>, Refused> {
    let command = Command {
        kind: keys::CARDHOLDER.into(),
        placement_key: keys::cardholder_key(enrol.id).into(),
        records: vec![keys::cardholder(enrol.id)],
        body: to_json(enrol).into(),
    };
    let decided = shared.hub.command(command).await?;
    Ok(serde_json::from_slice(&decided.answer).unwrap_or_default())
}

/// A cardholder as he is known.
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn load(shared: &Shared, id: u64) -> Result<Option<Cardholder>, Refused> {
    let keys = vec![keys::cardholder(id)];
    let loaded = shared.hub.load(&keys::cardholder_key(id), keys).await?;
    let record = loaded.into_iter().flatten().next();
    Ok(record.and_then(|record| serde_json::from_slice(&record.document).ok()))
}

/// A new grant on a cardholder: his id, so that no index is needed, and 16 random bytes.
pub(crate) fn new_grant(cardholder: u64, random: [u8; 16]) -> String {
    format!("{cardholder}.{}", secret(random))
}

/// Which cardholder a grant opens.
///
/// # Errors
/// When the log does not answer.
pub(crate) async fn granted(shared: &Shared, grant: &str) -> Result<Option<u64>, Refused> {
    let id = grant
        .split_once('.')
        .and_then(|(id, _)| crate::routes::number(id));
    let Some(id) = id else {
        return Ok(None);
    };
    let opened = load(shared, id).await?.filter(|one| {
        verify_slices_are_equal(hash(grant).as_bytes(), one.grant.as_bytes()).is_ok()
    });
    Ok(opened.map(|one| one.id))
}

/// Decides cardholders.
#[derive(Debug)]
pub(crate) struct Cardholders;

impl RecordKind for Cardholders {
    fn name(&self) -> &'static str {
        keys::CARDHOLDER
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let Ok(asked) = serde_json::from_slice::<Enrol>(body) else {
            return Decision::default();
        };
        let known: Option<Cardholder> = document.and_then(|text| serde_json::from_slice(text).ok());
        let is_new = known.is_none();
        let mut cardholder = match known {
            Some(known) => known,
            None if asked.make => Cardholder {
                id: asked.id,
                app: asked.app,
                cuid: asked.cuid,
                creator: asked.user,
                grant: asked.grant,
                jobs: Vec::new(),
            },
            None => return Decision::answer("null"),
        };
        cardholder
            .jobs
            .retain(|one| now_ms.saturating_sub(one.created) < LISTED_MS);
        cardholder.jobs.retain(|one| one.job != asked.job);
        cardholder.jobs.push(Held {
            job: asked.job,
            owner: asked.user,
            created: now_ms,
        });
        let over = cardholder.jobs.len().saturating_sub(JOBS_MAX);
        cardholder.jobs.drain(..over);
        let mut decision = Decision::answer(is_new.to_string());
        decision.put(key.clone(), to_json(&cardholder), Some(LIFETIME));
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(document: Option<&[u8]>, asked: &Enrol, now_ms: u64) -> (String, Option<Cardholder>) {
        let document = document.map(|text| text.to_vec().into());
        let state = [(keys::cardholder(asked.id), document)];
        let state = State::new(&state);
        let decision = Cardholders.decide(&state, Trigger::Command(&to_json(asked)), now_ms);
        let answer = String::from_utf8(decision.answer.to_vec()).expect("text");
        let put = decision.puts.first();
        (
            answer,
            put.map(|put| serde_json::from_slice(&put.document).expect("a cardholder")),
        )
    }

    #[test]
    fn the_first_one_makes_him_and_jobs_come_and_go() {
        let asked = |job, make| Enrol {
            id: 5,
            app: "acme".into(),
            cuid: Some("c1".into()),
            user: job,
            grant: hash("5.x"),
            job,
            make,
        };
        assert_eq!(decide(None, &asked(1, false), 0), ("null".to_owned(), None));
        let (answer, first) = decide(None, &asked(1, true), 0);
        let first = first.expect("made");
        assert_eq!((answer.as_str(), first.creator), ("true", 1));
        let (answer, second) = decide(Some(&to_json(&first)), &asked(2, true), 1);
        let second = second.expect("kept");
        assert_eq!(
            (answer.as_str(), second.creator, second.jobs.len()),
            ("false", 1, 2)
        );
        let (_, later) = decide(Some(&to_json(&second)), &asked(3, true), LISTED_MS);
        assert_eq!(
            later
                .expect("kept")
                .jobs
                .iter()
                .map(|one| one.job)
                .collect::<Vec<_>>(),
            [2, 3]
        );
        let mut many = second;
        for job in 10..300 {
            many = decide(Some(&to_json(&many)), &asked(job, true), 2)
                .1
                .expect("kept");
        }
        assert_eq!(many.jobs.len(), JOBS_MAX);
        assert!(to_json(&many).len() < 16 * 1024);
    }
}
