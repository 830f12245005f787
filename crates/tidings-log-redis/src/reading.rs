//! Reads, verdicts, heads, filling and trimming: short commands through the nodes' pools.
//!
//! A call that meets a failed link or a node that is no longer the primary is tried once more on
//! routes looked up anew, and then says that the log is out of reach: readers come again, and none
//! of them should wait out a failover while holding a pool's connection.

use std::sync::Arc;

use futures_util::future::try_join_all;
use redis::{Cmd, Pipeline, Value};
use tidings_core::limits::PAGE_EVENTS_MAX;
use tidings_core::{
    Clock, Event, EventId, From, Head, LogError, Page, PageLimit, Partition, Placed, Verdict,
};

use crate::entry::{Entry, bytes_of, entries, integer_id};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::scripts::{HEADS, JUDGE, READ, Script};
use crate::topology::Topology;

/// Places per call of the judging script: it asks Redis three or four times for each.
const PLACES_PER_CALL: usize = 64;
/// Everything that is read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) topology: Arc<Topology>,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention_ms: u64,
}

impl Reading {
    pub(crate) async fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> Result<Page, LogError> {
        let (mode, place) = match from {
            From::Oldest => ("oldest", EventId::ORIGIN),
            From::Newest => ("newest", EventId::ORIGIN),
            From::After(place) => ("after", place),
            From::Since(ms) => ("since", EventId::before_ms(ms)),
        };
        let partition = topic.partition;
        let keys = [
            self.keys.state(partition),
            self.keys.log(partition),
            self.keys.head(partition, &topic.topic),
            self.keys.index(partition, &topic.topic),
        ];
        let mut call = READ.call(&keys);
        call.arg(self.clock.unix_ms())
            .arg(self.retention_ms)
            .arg(mode)
            .arg(place.as_integer())
            .arg(topic.topic.as_str())
            .arg(limit.events.clamp(1, PAGE_EVENTS_MAX))
            .arg(limit.bytes.min(i32::MAX as usize));
        let answer = self.ask_script(partition, &READ, vec![call]).await?;
        let read = answer
            .into_iter()
            .next()
            .and_then(read_answer)
            .ok_or_else(unknown_answer)?;
        let next = match (from, read.verdict, read.events.last()) {
            (_, Verdict::Ok, Some(event)) => event.id,
            (From::After(place), ..) => place,
            // Nothing in the topic after its head, nothing in the partition after its last id.
            _ => read.head.unwrap_or(read.last),
        };
        Ok(Page {
            verdict: read.verdict,
            events: read.events,
            next,
            head: read.head,
            at_end: read.at_end,
        })
    }

    pub(crate) async fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> Result<Vec<Verdict>, LogError> {
        let groups = by_partition(places.iter().map(|(placed, _)| placed.partition));
        let asked = try_join_all(groups.iter().map(|(partition, positions)| async {
            let calls = positions.chunks(PLACES_PER_CALL).map(|chunk| {
                let mut keys = vec![self.keys.state(*partition), self.keys.log(*partition)];
                for position in chunk {
                    let topic = &places[*position].0.topic;
                    keys.push(self.keys.head(*partition, topic));
                    keys.push(self.keys.index(*partition, topic));
                }
                let mut call = JUDGE.call(&keys);
                call.arg(self.clock.unix_ms()).arg(self.retention_ms);
                for position in chunk {
                    call.arg(places[*position].1.as_integer());
                }
                call
            });
            let answers = self.ask_script(*partition, &JUDGE, calls.collect()).await?;
            let mut verdicts = Vec::with_capacity(positions.len());
            for answer in answers {
                let Value::Array(words) = answer else {
                    return Err(unknown_answer());
                };
                for word in words {
                    verdicts.push(verdict(&word).ok_or_else(unknown_answer)?);
                }
            }
            Ok(verdicts)
        }))
        .await?;
        scatter(places.len(), &groups, asked)
    }

    pub(crate) async fn heads(&self, topics: Vec<Placed>) -> Result<Vec<Head>, LogError> {
        let groups = by_partition(topics.iter().map(|placed| placed.partition));
        let asked = try_join_all(groups.iter().map(|(partition, positions)| async {
            let mut keys = vec![self.keys.state(*partition)];
            keys.extend(
                positions
                    .iter()
                    .map(|position| self.keys.head(*partition, &topics[*position].topic)),
            );
            let answers = self
                .ask_script(*partition, &HEADS, vec![HEADS.call(&keys)])
                .await?;
            let Some(Value::Array(ids)) = answers.into_iter().next() else {
                return Err(unknown_answer());
            };
            let (last, heads) = ids.split_first().ok_or_else(unknown_answer)?;
            let partition = integer_id(last).ok_or_else(unknown_answer)?;
            Ok(heads
                .iter()
                .map(|head| Head {
                    topic: integer_id(head),
                    partition,
                })
                .collect())
        }))
        .await?;
        scatter(topics.len(), &groups, asked)
    }

    pub(crate) async fn trim(&self, partition: Partition) -> Result<(), LogError> {
        let now = self.time_of(partition).await?.min(self.clock.unix_ms());
        // Plain, not a script: when memory is full a script that writes is refused, this is not.
        let mut cmd = redis::cmd("XTRIM");
        cmd.arg(self.keys.log(partition))
            .arg("MINID")
            .arg("=")
            .arg(now.saturating_sub(self.retention_ms));
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(cmd);
        let answers = self.ask_plain(partition, &pipeline).await?;
        match answers.first() {
            Some(Value::Int(trimmed)) => {
                self.topology
                    .linking
                    .metrics
                    .trimmed
                    .inc_by(u64::try_from(*trimmed).unwrap_or(0));
                Ok(())
            }
            _ => Err(unknown_answer()),
        }
    }

    /// The time of the node that makes the first partition's ids.
    pub(crate) async fn time_ms(&self) -> Result<u64, LogError> {
        self.time_of(Partition(0)).await
    }

    async fn time_of(&self, partition: Partition) -> Result<u64, LogError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("TIME");
        let answers = self.ask_plain(partition, &pipeline).await?;
        let ms = answers
            .first()
            .and_then(time_ms)
            .ok_or_else(unknown_answer)?;
        let skew = i64::try_from(ms).unwrap_or(i64::MAX)
            - i64::try_from(self.clock.unix_ms()).unwrap_or(0);
        self.topology.linking.metrics.clock_skew_ms.set(skew);
        Ok(ms)
    }

    pub(crate) async fn ask_script(
        &self,
        partition: Partition,
        script: &Script,
        calls: Vec<Cmd>,
    ) -> Result<Vec<Value>, LogError> {
        let routes = self.topology.routes();
        match routes
            .node(partition)
            .ask_script(script, calls.clone())
            .await
        {
            Err(failure) if failure.wants_resolving() => {
                self.renew(routes.generation, failure).await?;
                let routes = self.topology.routes();
                routes
                    .node(partition)
                    .ask_script(script, calls)
                    .await
                    .map_err(Failure::of_read)
            }
            other => other.map_err(Failure::of_read),
        }
    }

    pub(crate) async fn ask_plain(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, LogError> {
        let routes = self.topology.routes();
        match usable(routes.node(partition).ask_plain(pipeline).await) {
            Err(failure) if failure.wants_resolving() => {
                self.renew(routes.generation, failure).await?;
                let routes = self.topology.routes();
                usable(routes.node(partition).ask_plain(pipeline).await).map_err(Failure::of_read)
            }
            other => other.map_err(Failure::of_read),
        }
    }

    async fn renew(&self, seen: u64, why: Failure) -> Result<(), LogError> {
        let patience = self.topology.linking.patience.response;
        match tokio::time::timeout(patience, self.topology.renew(seen)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(failure.of_read()),
            Err(_) => Err(why.of_read()),
        }
    }
}

/// Answers of plain commands: a refused write concerns a reader only when it tells of a replica.
fn usable(asked: Result<Vec<Value>, Failure>) -> Result<Vec<Value>, Failure> {
    let answers = asked?;
    for answer in &answers {
        if let Value::ServerError(error) = answer {
            match Failure::of_answer(error) {
                Failure::Busy(reason)
                    if reason.contains("NOREPLICAS") || reason.contains("MISCONF") => {}
                failure => return Err(failure),
            }
        }
    }
    Ok(answers)
}

struct ReadAnswer {
    verdict: Verdict,
    head: Option<EventId>,
    last: EventId,
    at_end: bool,
    events: Vec<Event>,
}

fn read_answer(answer: Value) -> Option<ReadAnswer> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [word, head, last, at_end, page] = <[Value; 5]>::try_from(parts).ok()?;
    let events = entries(page)?.into_iter().filter_map(|entry| match entry {
        Entry::Event(event) => Some(event),
        Entry::Strange(_) => None,
    });
    Some(ReadAnswer {
        verdict: verdict(&word)?,
        head: integer_id(&head),
        last: integer_id(&last)?,
        at_end: at_end == Value::Int(1),
        events: events.collect(),
    })
}

fn verdict(word: &Value) -> Option<Verdict> {
    match word {
        Value::BulkString(word) => match &word[..] {
            b"ok" => Some(Verdict::Ok),
            b"expired" => Some(Verdict::Expired),
            b"diverged" => Some(Verdict::Diverged),
            b"ahead" => Some(Verdict::Ahead),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn time_ms(time: &Value) -> Option<u64> {
    let Value::Array(parts) = time else {
        return None;
    };
    let mut numbers = parts.iter().map(|part| {
        let text = bytes_of(part.clone())?;
        std::str::from_utf8(&text).ok()?.parse::<u64>().ok()
    });
    let (seconds, micros) = (numbers.next()??, numbers.next()??);
    Some(seconds * 1000 + micros / 1000)
}

pub(crate) fn unknown_answer() -> LogError {
    LogError::Unavailable("Redis answered in an unknown way".to_owned())
}

/// The positions of each partition's places.
fn by_partition(partitions: impl Iterator<Item = Partition>) -> Vec<(Partition, Vec<usize>)> {
    let mut groups = std::collections::BTreeMap::<Partition, Vec<usize>>::new();
    for (position, partition) in partitions.enumerate() {
        groups.entry(partition).or_default().push(position);
    }
    groups.into_iter().collect()
}

/// Puts answers back into the order asked.
fn scatter<T>(
    count: usize,
    groups: &[(Partition, Vec<usize>)],
    answers: Vec<Vec<T>>,
) -> Result<Vec<T>, LogError> {
    let mut slots: Vec<Option<T>> = std::iter::repeat_with(|| None).take(count).collect();
    for ((_, positions), answers) in groups.iter().zip(answers) {
        for (position, answer) in positions.iter().zip(answers) {
            slots[*position] = Some(answer);
        }
    }
    slots
        .into_iter()
        .collect::<Option<Vec<T>>>()
        .ok_or_else(unknown_answer)
}
