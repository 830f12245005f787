//! A reader's own places: does the log still have what was handed out, and if not, how far does it
//! agree (LOG.md §8)?

use redis::Value;
use redis::aio::MultiplexedConnection;
use tidings_core::{EventId, TailStep};

use crate::entry::{entries, integer_id, stream_text};
use crate::failure::Failure;
use crate::reader::{End, Reader, Signal, unknown_answer};
use crate::scripts::{self, PLACE};

/// The answer of place.lua.
pub(crate) enum Told {
    Ok,
    Skipped(EventId),
    Lost { first: EventId, least: EventId },
}

fn told(answer: &Value) -> Option<Told> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [Value::BulkString(word), one, other] = parts.as_slice() else {
        return None;
    };
    match &word[..] {
        b"ok" => Some(Told::Ok),
        b"skipped" => Some(Told::Skipped(integer_id(one)?)),
        b"lost" => Some(Told::Lost {
            first: integer_id(one)?,
            least: integer_id(other)?,
        }),
        _ => None,
    }
}

impl Reader {
    /// Asks whether the log still has what was handed out, and goes on from where it has.
    pub(crate) async fn check_places(
        &mut self,
        link: &mut MultiplexedConnection,
    ) -> Result<(), End> {
        let all: Vec<usize> = (0..self.followed.len()).collect();
        let answers = self.ask_places(link, &all).await?;
        let verdicts = self.topology.linking.metrics.tail_verdicts.clone();
        for (position, told) in answers.into_iter().enumerate() {
            match told {
                Told::Ok => verdicts.with_label_values(&["ok"]).inc(),
                Told::Skipped(to) => {
                    verdicts.with_label_values(&["skipped"]).inc();
                    self.skip(position, to).await?;
                }
                Told::Lost { first, least } => {
                    verdicts.with_label_values(&["rewound"]).inc();
                    let common = self.common(link, position, first, least).await?;
                    let followed = &mut self.followed[position];
                    followed.place = common;
                    followed.ring.rewind(common);
                    let partition = followed.partition;
                    tracing::warn!(partition = partition.0, %common, "the log lost its end; the tail goes back");
                    self.send(Signal::Step(TailStep::Rewound { partition, common }))
                        .await?;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn skip(&mut self, position: usize, to: EventId) -> Result<(), End> {
        let followed = &mut self.followed[position];
        followed.place = followed.place.max(to);
        let partition = followed.partition;
        self.send(Signal::Step(TailStep::Skipped { partition, to }))
            .await
    }

    pub(crate) async fn ask_places(
        &self,
        link: &mut MultiplexedConnection,
        positions: &[usize],
    ) -> Result<Vec<Told>, Failure> {
        let calls = positions.iter().map(|position| {
            let followed = &self.followed[*position];
            let mut call = PLACE.call(&[followed.state.clone(), followed.key.clone()]);
            call.arg(self.clock.unix_ms())
                .arg(self.retention_ms)
                .arg(followed.place.as_integer());
            call
        });
        let linking = &self.topology.linking;
        let answers = PLACE
            .ask_all(
                link,
                calls.collect(),
                linking.patience.response,
                &linking.metrics,
            )
            .await?;
        answers
            .iter()
            .map(|answer| told(answer).ok_or_else(unknown_answer))
            .collect()
    }

    /// The last place that the log shares with what was handed out. What lies below the log's first
    /// entry was shared and then trimmed, unless it is older than the log itself.
    async fn common(
        &self,
        link: &mut MultiplexedConnection,
        position: usize,
        first: EventId,
        least: EventId,
    ) -> Result<EventId, Failure> {
        let followed = &self.followed[position];
        let mut search = followed.ring.search();
        while let Some(place) = followed.ring.asked(&search) {
            let shared = if place < least {
                false
            } else if place < first {
                true
            } else {
                let text = stream_text(place);
                let mut cmd = redis::cmd("XRANGE");
                cmd.arg(&followed.key).arg(&text).arg(&text);
                let answer =
                    scripts::ask(link, &cmd, self.topology.linking.patience.response).await?;
                !entries(answer).ok_or_else(unknown_answer)?.is_empty()
            };
            search.answer(shared);
        }
        // With nothing shared the log is another one: everything it has is new.
        Ok(followed.ring.found(&search).unwrap_or(EventId::ORIGIN))
    }
}
