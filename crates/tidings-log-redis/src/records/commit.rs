//! Committing: one script call, asked again under the commit's id until its fate is known.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use redis::{Cmd, Value};
use tidings_core::record::OUTLIVES_DEADLINE;
use tidings_core::{
    Appended, Commit, CommitOutcome, Committed, Draft, EventId, LogError, Outcome, Partition,
    RecordKey, Version,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::owners::name;
use super::{Recording, index, item, member, millis};
use crate::entry::{bytes_of, integer_id, print_attributes};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::link::Node;
use crate::scripts::{self, COMMIT, FLASH, Script};
use crate::topology::jittered;

/// How often a call finds its script forgotten before that is taken for a failure.
const LOADS: u32 = 3;

/// A busy node is asked again after this, doubled each time up to 16 times as long.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

impl Recording {
    pub(crate) async fn commit(
        &self,
        partition: Partition,
        commit: Commit,
    ) -> Result<CommitOutcome, LogError> {
        let cmd = self.script_call(partition, &commit);
        let outcome = self.ask(partition, cmd, commit.remember).await;
        let word = match &outcome {
            Ok(Answer::Stored(..)) => "stored",
            Ok(Answer::Known(_)) => "known",
            Ok(Answer::Other(CommitOutcome::Gone)) => "gone",
            Ok(Answer::Other(CommitOutcome::Fenced)) => "fenced",
            Ok(Answer::Other(CommitOutcome::Duplicate { .. })) => "duplicate",
            Ok(Answer::Other(_)) => "conflict",
            Err(LogError::Full(_)) => "full",
            Err(LogError::FateUnknown(_)) => "unknown",
            Err(LogError::Unavailable(_)) => "unavailable",
            Err(_) => "refused",
        };
        let metrics = &self.topology.linking.metrics;
        metrics.commits.with_label_values(&[word]).inc();
        Ok(match outcome? {
            Answer::Stored(version, appended) => CommitOutcome::Committed(Committed {
                version,
                appended,
                answer: commit.answer,
                retried: false,
            }),
            Answer::Known(committed) => CommitOutcome::Committed(committed),
            Answer::Other(outcome) => outcome,
        })
    }

    /// Asks until there is an answer, or everyone's patience has ended.
    async fn ask(
        &self,
        partition: Partition,
        cmd: Cmd,
        remember: Duration,
    ) -> Result<Answer, LogError> {
        // When the node has been away for longer than anyone is asked to wait, one try is enough.
        let hopeless = self.away_for(partition) > self.patience;
        // Whatever is done twice must be known the second time: what is left of the time in which
        // it is remembered is for a try that Redis is slow to take.
        let patience = if hopeless {
            Duration::ZERO
        } else {
            self.patience.min(remember / 2)
        };
        let end = Instant::now() + patience;
        let (mut unknown, mut pause) = (false, BUSY_PAUSE);
        loop {
            let routes = self.topology.routes();
            let failure = match self.ask_once(routes.node(partition), &COMMIT, &cmd).await {
                Ok(answer) => {
                    self.is_back(partition);
                    return parse_answer(answer).ok_or_else(|| {
                        LogError::FateUnknown("the commit script answered in an unknown way".into())
                    });
                }
                Err(failure) => failure,
            };
            unknown |= matches!(failure, Failure::Lost(_));
            if failure.wants_resolving() {
                self.is_away(partition);
            }
            let over = matches!(failure, Failure::Full(_) | Failure::Refused(_));
            if over || Instant::now() >= end {
                if failure.wants_resolving() {
                    self.look_for_it(routes.generation);
                }
                let reason = failure.reason().to_owned();
                return Err(match failure {
                    _ if unknown => LogError::FateUnknown(reason),
                    Failure::Full(_) => LogError::Full(reason),
                    Failure::Refused(_) => LogError::Refused(reason),
                    _ => LogError::Unavailable(reason),
                });
            }
            tracing::debug!(
                partition = partition.0,
                reason = failure.reason(),
                "a commit is tried again"
            );
            self.topology.linking.metrics.commit_retries.inc();
            if failure.wants_resolving() {
                // If it is not found the next try says so.
                let _ = timeout_at(end, self.topology.renew(routes.generation)).await;
            } else {
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(BUSY_PAUSE * 16);
            }
        }
    }

    /// On the connection for appends: the pooled ones are asked whether they live each time that
    /// they are used, which costs Redis as much as a small script.
    pub(super) async fn ask_once(
        &self,
        node: &Node,
        script: &Script,
        cmd: &Cmd,
    ) -> Result<Value, Failure> {
        let linking = &self.topology.linking;
        let mut link = node.append_link().await?;
        for _ in 0..LOADS {
            let asked = scripts::ask(&mut link.link, cmd, linking.patience.response).await;
            match asked {
                Err(Failure::NoScript) => {}
                Err(failure) if failure.wants_resolving() => {
                    node.drop_append_link(&link).await;
                    return Err(failure);
                }
                other => return other,
            }
            let loaded = script.load(&mut link.link, linking.patience.response, &linking.metrics);
            if let Err(failure) = loaded.await {
                node.drop_append_link(&link).await;
                return Err(match failure {
                    // The call itself was answered: it was not executed.
                    Failure::Lost(reason) => Failure::Unreachable(reason),
                    other => other,
                });
            }
        }
        Err(Failure::NoScript)
    }

    /// Hands out flash events: one try.
    pub(crate) async fn flash(
        &self,
        partition: Partition,
        drafts: &[Draft],
    ) -> Result<(), LogError> {
        let mut cmd = FLASH.call(&[self.keys.flash(partition)]);
        for draft in drafts {
            print_flash(&mut cmd, draft);
        }
        let routes = self.topology.routes();
        let Err(failure) = self.ask_once(routes.node(partition), &FLASH, &cmd).await else {
            return Ok(());
        };
        if failure.wants_resolving() {
            self.look_for_it(routes.generation);
        }
        let reason = failure.reason().to_owned();
        Err(match failure {
            Failure::Lost(_) => LogError::FateUnknown(reason),
            Failure::Full(_) => LogError::Full(reason),
            Failure::Refused(_) => LogError::Refused(reason),
            _ => LogError::Unavailable(reason),
        })
    }

    fn script_call(&self, partition: Partition, commit: &Commit) -> Cmd {
        let names = Names::of(&self.keys, partition, commit);
        let mut cmd = COMMIT.call(&names.keys);
        cmd.arg(commit.id.to_string())
            .arg(millis(commit.remember).max(1))
            // The first half, so that a millisecond always has room for two thousand events.
            .arg(rand::rng().random_range(0..EventId::SEQ_END / 2))
            .arg(self.clock.unix_ms())
            .arg(self.retention_ms)
            .arg(self.cap)
            .arg(millis(OUTLIVES_DEADLINE))
            .arg(&commit.answer[..])
            .arg(names.drafts)
            .arg(
                commit
                    .incarnation
                    .map_or_else(String::new, |id| id.to_string()),
            );
        match &commit.adopts {
            Some(orphan) => cmd
                .arg(orphan.incarnation.to_string())
                .arg(name(&orphan.record)),
            None => cmd.arg("").arg(""),
        };
        cmd.arg(usize::from(commit.fires.is_some()))
            .arg(commit.expects.len())
            .arg(commit.puts.len())
            .arg(commit.removes.len())
            .arg(commit.deadlines.len())
            .arg(commit.ranks.len())
            .arg(commit.outbox.len())
            .arg(commit.flash.len());
        if let Some(fired) = &commit.fires {
            let (_, standing) = names.record(&fired.record);
            cmd.arg(standing)
                .arg(names.kind(&fired.record))
                .arg(member(&fired.record.id, &fired.name))
                .arg(&*fired.name)
                .arg(fired.at_ms);
        }
        for (key, version) in &commit.expects {
            cmd.arg(names.record(key).0).arg(version.0);
        }
        for put in &commit.puts {
            let (record, standing) = names.record(&put.key);
            cmd.arg(record).arg(standing).arg(&put.document[..]);
            match put.lifetime {
                Some(lifetime) => cmd.arg(millis(lifetime)),
                None => cmd.arg(""),
            };
            cmd.arg(name(&put.key));
            match put.owner {
                Some(owner) => cmd.arg(owner.to_string()),
                None => cmd.arg(""),
            };
        }
        for key in &commit.removes {
            let (record, standing) = names.record(key);
            cmd.arg(record)
                .arg(standing)
                .arg(names.kind(key))
                .arg(&*key.id)
                .arg(name(key));
        }
        for set in &commit.deadlines {
            let (record, standing) = names.record(&set.record);
            cmd.arg(record)
                .arg(standing)
                .arg(names.kind(&set.record))
                .arg(member(&set.record.id, &set.name))
                .arg(&*set.name);
            match set.at_ms {
                Some(at_ms) => cmd.arg(at_ms),
                None => cmd.arg(""),
            };
        }
        for set in &commit.ranks {
            cmd.arg(names.record(&set.record).0)
                .arg(names.kind(&set.record))
                .arg(&*set.record.id)
                .arg(&*set.index);
            match set.rank {
                Some(rank) => cmd.arg(index::rank(rank)),
                None => cmd.arg(""),
            };
        }
        for entry in &commit.outbox {
            cmd.arg(item::print(entry));
        }
        for draft in &commit.flash {
            print_flash(&mut cmd, draft);
        }
        for draft in &commit.drafts {
            cmd.arg(draft.topic.as_str())
                .arg(&*draft.kind)
                .arg(print_attributes(draft.attributes.as_deref()))
                .arg(&draft.data[..])
                // At least a millisecond: 0 says that there is no key.
                .arg(
                    draft
                        .dedup
                        .as_ref()
                        .map_or(0, |dedup| dedup.lifetime_ms.max(1)),
                );
        }
        cmd
    }
}

/// A flash event, as flashing.lua takes it.
fn print_flash(cmd: &mut Cmd, draft: &Draft) {
    cmd.arg(draft.topic.as_str())
        .arg(&*draft.kind)
        .arg(print_attributes(draft.attributes.as_deref()))
        .arg(&draft.data[..]);
}

/// The keys of a commit, and the numbers by which its arguments name them.
struct Names<'a> {
    keys: Vec<String>,
    records: HashMap<&'a RecordKey, usize>,
    kinds: HashMap<&'a str, usize>,
    /// The number of the drafts' first key.
    drafts: usize,
}

impl<'a> Names<'a> {
    fn of(keys: &Keys, partition: Partition, commit: &'a Commit) -> Self {
        let mut names = Self {
            keys: vec![
                keys.state(partition),
                keys.log(partition),
                keys.committed(partition, commit.id),
                keys.outbox(partition),
                keys.flash(partition),
                keys.leases(partition),
                keys.owned(partition),
                keys.owners(partition),
            ],
            records: HashMap::new(),
            kinds: HashMap::new(),
            drafts: 0,
        };
        let of_kinds = || {
            let fired = commit.fires.iter().map(|fired| &fired.record);
            let set = commit.deadlines.iter().map(|set| &set.record);
            let ranked = commit.ranks.iter().map(|set| &set.record);
            fired.chain(set).chain(&commit.removes).chain(ranked)
        };
        let expected = commit.expects.iter().map(|(key, _)| key);
        let put = commit.puts.iter().map(|put| &put.key);
        for record in expected.chain(put).chain(of_kinds()) {
            names.records.entry(record).or_insert_with(|| {
                names.keys.push(keys.record(partition, record));
                names.keys.push(keys.deadlines(partition, record));
                names.keys.len() - 1
            });
        }
        for record in of_kinds() {
            names.kinds.entry(&record.kind).or_insert_with(|| {
                names.keys.push(keys.due(partition, &record.kind));
                names.keys.push(keys.indexes(partition, &record.kind));
                names.keys.len() - 1
            });
        }
        names.drafts = names.keys.len() + 1;
        for draft in &commit.drafts {
            names.keys.push(keys.head(partition, &draft.topic));
            names.keys.push(keys.index(partition, &draft.topic));
            if let Some(dedup) = &draft.dedup {
                names.keys.push(keys.dedup(partition, dedup));
            }
        }
        names
    }

    /// A record's number and that of its deadlines. Lua counts from 1.
    fn record(&self, key: &RecordKey) -> (usize, usize) {
        let number = self.records[key];
        (number, number + 1)
    }

    fn kind(&self, key: &RecordKey) -> usize {
        self.kinds[&*key.kind]
    }
}

/// What commit.lua answers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Stored(Version, Vec<Appended>),
    Known(Committed),
    Other(CommitOutcome),
}

fn parse_answer(answer: Value) -> Option<Answer> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let word = bytes_of(parts.next()?)?;
    Some(match &word[..] {
        b"stored" => {
            let (version, appended) = parse_ids(&bytes_of(parts.next()?)?, Outcome::New)?;
            Answer::Stored(version, appended)
        }
        b"known" => {
            let stored = Bytes::from(bytes_of(parts.next()?)?);
            let end = stored.iter().position(|byte| *byte == b'\n')?;
            let (version, appended) = parse_ids(&stored[..end], Outcome::Retried)?;
            Answer::Known(Committed {
                version,
                appended,
                answer: stored.slice(end + 1..),
                retried: true,
            })
        }
        b"duplicate" => {
            let Value::Int(draft) = parts.next()? else {
                return None;
            };
            Answer::Other(CommitOutcome::Duplicate {
                draft: usize::try_from(draft).ok()?,
                id: integer_id(&parts.next()?)?,
            })
        }
        b"fenced" => Answer::Other(CommitOutcome::Fenced),
        b"gone" => Answer::Other(CommitOutcome::Gone),
        b"conflict" => Answer::Other(CommitOutcome::Conflict),
        _ => return None,
    })
}

/// `<version> +<id> +<id> …`
fn parse_ids(text: &[u8], outcome: Outcome) -> Option<(Version, Vec<Appended>)> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let version = Version(words.next()?.parse().ok()?);
    let appended = words.map(|word| {
        let id = EventId::from_integer(word.strip_prefix('+')?.parse().ok()?)?;
        Some(Appended { id, outcome })
    });
    Some((version, appended.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn answers_are_read() {
        let parse = |parts: Vec<Value>| parse_answer(Value::Array(parts));
        let id = |n| EventId::from_integer(n).expect("in range");
        let appended = |outcome| {
            let one = |n| Appended { id: id(n), outcome };
            vec![one(5), one(6)]
        };
        assert_eq!(
            parse(vec![text("stored"), text("9 +5 +6")]),
            Some(Answer::Stored(Version(9), appended(Outcome::New)))
        );
        assert_eq!(
            parse(vec![text("stored"), text("9")]),
            Some(Answer::Stored(Version(9), Vec::new()))
        );
        assert_eq!(
            parse(vec![text("known"), text("9 +5 +6\na\nb")]),
            Some(Answer::Known(Committed {
                version: Version(9),
                appended: appended(Outcome::Retried),
                answer: "a\nb".into(),
                retried: true,
            }))
        );
        assert_eq!(
            parse(vec![text("duplicate"), Value::Int(2), text("5")]),
            Some(Answer::Other(CommitOutcome::Duplicate {
                draft: 2,
                id: id(5)
            }))
        );
        for strange in ["stored", "known", "x", "duplicate"] {
            assert_eq!(parse(vec![text(strange)]), None);
        }
        assert_eq!(parse(vec![text("known"), text("9 +5")]), None);
        assert_eq!(parse(vec![text("stored"), text("9 =5")]), None);
        assert_eq!(parse_answer(Value::Nil), None);
    }
}
