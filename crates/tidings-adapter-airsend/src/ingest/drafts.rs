//! Drafts that come by another way than `rtm.publish` (`POST /v1/events`, `XADD`): the same
//! operations under the same rules.
//!
//! The topic says whose an operation is (`airsend/channel/<id>`, `airsend/user/<id>`), the draft's
//! `type` is the `op`, its `data` the operation's; `channel_id` or `user_id` may be left out there.
//! Its `id` is the idempotency key.
//!
//! A draft is answered with the id of its event, so it has to be one command whose event stands
//! where it was sent. Refused, each with its reason, are therefore:
//!
//! * `user.upsert`, `channel.create`, `channel.add_user`, `channel.remove_user`: they change records
//!   in several partitions, one after the other;
//! * `alert.notify` that names users by their ids: who they are stands elsewhere;
//! * `event.emit` to several users, or of what is not retained: there is no id to answer with.
//!
//! Of a message that is posted so, the way from its id to its channel is made right after it, not
//! before: who reacts to it within some milliseconds may be told that it is unknown.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidings_adapter::{Command, Decision, Dedup, Draft, Ingest, Ingested, Topic};

use super::single::Making;
use super::{BODY_BYTES_MAX, Fields, Ids};
use crate::answer::{Answer, to_json};
use crate::channel::Ask;
use crate::http::Problem;
use crate::options::Settings;
use crate::user::Ask as UserAsk;
use crate::{channel, index, keys, user};

/// The log knows a draft's key for longer than a record knows the result: so a draft that comes
/// again finds its event as long as it finds the result.
const KNOWN_LONGER: Duration = Duration::from_secs(3600);

/// The rules for drafts.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) settings: Arc<Settings>,
    pub(crate) ids: Arc<Ids>,
}

impl Ingest for Rules {
    fn ingest(&self, draft: Draft, now_ms: u64, random: u128) -> Ingested {
        match self.judge(&draft, now_ms, random) {
            Ok(command) => Ingested::Command(command),
            Err(problem) => Ingested::Refused(problem.words),
        }
    }
}

/// An ask that came as a draft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drafted<A> {
    // First: a command's body begins with it.
    drafted: A,
    mark: Mark,
}

/// What is different for a draft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Where its event stands.
    topic: String,
    /// Its key, and how long the log knows it.
    key: Option<(String, u64)>,
    /// The message that it makes, its channel, and how long it is known, in milliseconds.
    message: Option<(u64, u64, u64)>,
}

impl<A: DeserializeOwned> Drafted<A> {
    /// A command's body, whichever way it came.
    pub(crate) fn open(body: &[u8]) -> Option<(A, Option<Mark>)> {
        if body.starts_with(br#"{"drafted":"#) {
            let one: Self = serde_json::from_slice(body).ok()?;
            return Some((one.drafted, Some(one.mark)));
        }
        Some((serde_json::from_slice(body).ok()?, None))
    }
}

/// A decision on what came as a draft: its event has the draft's key, a refusal is said in words.
pub(crate) fn drafted(mark: &Mark, mut decision: Decision) -> Decision {
    let Ok(topic) = Topic::parse(&mark.topic) else {
        return decision;
    };
    if !decision.loads.is_empty() {
        return decision;
    }
    if let Some(Answer::Refused(refusal)) = Answer::parse(&decision.answer) {
        return Decision::answer(refusal.words());
    }
    // It was done before: the log knows the key, and answers with the first event's id.
    let again = decision.changes_nothing();
    if again {
        decision.publish(Draft::new(topic.clone(), user::NOTICE, "{}"));
    } else if let Some((message, channel, lifetime_ms)) = mark.message {
        let ask = index::Ask::point(channel, Duration::from_millis(lifetime_ms));
        decision.command(index::command(&keys::message_index(message), &ask));
    }
    match (&mark.key, decision.drafts.first_mut()) {
        (Some((key, lifetime_ms)), Some(first)) => {
            first.dedup = Some(Dedup {
                scope: format!("{topic}\nop").into(),
                key: key.as_str().into(),
                lifetime_ms: *lifetime_ms,
            });
            decision
        }
        _ if again => Decision::answer("there was nothing to do"),
        _ => decision,
    }
}

impl Rules {
    fn judge(&self, draft: &Draft, now_ms: u64, random: u128) -> Result<Command, Problem> {
        let elsewhere =
            || Problem::bad("the topic is neither `airsend/channel/<id>` nor `airsend/user/<id>`");
        let (whose, id) = whose(&draft.topic).ok_or_else(elsewhere)?;
        if draft.data.len() > BODY_BYTES_MAX {
            return Err(Problem::bad(format!(
                "`data` has more than {BODY_BYTES_MAX} bytes"
            )));
        }
        let data: Value =
            serde_json::from_slice(&draft.data).map_err(|_| Problem::bad("`data` is not JSON"))?;
        let data = Fields::of(&data, "`data`")?;
        let options = &self.settings.options;
        let key = draft.dedup.as_ref().map(hash);
        let known = options.idempotency.0 + KNOWN_LONGER;
        let mut mark = Mark {
            topic: draft.topic.as_str().to_owned(),
            key: key.clone().map(|key| (key, milliseconds(known))),
            message: None,
        };
        let making = Making {
            seed: self.ids.next(now_ms, random),
            op: key,
            home: Some(id),
        };
        let made = match whose {
            Whose::Channel => making.of_channel(&draft.kind, &data)?.map(|single| {
                if let Ask::Post { new, .. } = &single.ask {
                    let lifetime = milliseconds(options.message_lifetime.0);
                    mark.message = Some((new.id, id, lifetime));
                }
                let lost = matches!(
                    &single.ask,
                    Ask::Tell {
                        retained: false,
                        ..
                    }
                );
                (
                    channel::command(id, &single.ask),
                    body(single.ask, mark),
                    lost,
                )
            }),
            Whose::User => making.of_user(&draft.kind, &data)?.map(|(_, ask)| {
                let lost = matches!(
                    &ask,
                    UserAsk::Tell {
                        retained: false,
                        ..
                    }
                );
                (user::command(id, &ask), body(ask, mark), lost)
            }),
        };
        match made {
            Some((_, _, true)) => Err(Problem::bad(
                "what is not retained has no id to answer with: `rtm.publish` takes it",
            )),
            Some((command, body, false)) => Ok(Command {
                body: body.into(),
                ..command
            }),
            None => Err(Problem::bad(match &*draft.kind {
                "user.upsert"
                | "channel.create"
                | "channel.add_user"
                | "channel.remove_user"
                | "event.emit" => format!(
                    "`{}` takes more than one step: `rtm.publish` takes it",
                    draft.kind
                ),
                kind => format!("`{kind}` is no operation on this topic"),
            })),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Whose {
    Channel,
    User,
}

/// Whose a topic is; every id is written in one way only.
fn whose(topic: &Topic) -> Option<(Whose, u64)> {
    let rest = topic.as_str().strip_prefix("airsend/")?;
    let (whose, id) = rest.split_once('/')?;
    let number = crate::objects::id(&Value::from(id)).filter(|number| number.to_string() == id)?;
    match whose {
        "channel" => Some((Whose::Channel, number)),
        "user" => Some((Whose::User, number)),
        _ => None,
    }
}

fn body<A: Serialize>(ask: A, mark: Mark) -> Vec<u8> {
    to_json(&Drafted { drafted: ask, mark })
}

/// A publisher's key as a name of one length: it becomes part of records' ids.
fn hash(dedup: &Dedup) -> String {
    let text = format!("{}\n{}", dedup.scope, dedup.key);
    super::hexadecimal(&Sha256::digest(text))
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
