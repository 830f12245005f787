//! Direct ingest: events that backends write to Redis with a plain `XADD`, published by the same
//! rules as over HTTP.
//!
//! An entry's fields are an event's: `topic`, `type`, `data` (JSON as text), and whatever else an
//! event may have. Whoever can write to Redis is trusted with every topic. An entry without an `id`
//! is stored under its own place in the stream, so each entry is stored exactly once, whoever dies
//! in between. What cannot be taken is moved aside with the reason, and does not hold up the rest;
//! what the log cannot take at the moment stays where it is, and what comes after it waits.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use tidings_adapter::{Hub, PublishError};
use tidings_core::{Dedup, Draft, Ingested, LogError};
use tidings_log_redis::{IngestDrain, IngestError, RawEntry};
use tokio_util::sync::CancellationToken;

use crate::native::Refused;
use crate::problem::{Cause, Problem};
use crate::publish::answer;
use crate::wire::{Fields, Form};

/// Pauses while the log takes nothing: they double from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Drains direct ingest into a hub.
#[derive(Debug)]
pub struct Ingest {
    /// Where events go.
    pub hub: Hub,
    /// Where entries come from.
    pub drain: IngestDrain,
    /// Counts what is refused.
    pub refused: Refused,
}

/// What became of a batch.
enum Progress {
    /// Everything in it was taken or refused.
    Done,
    /// Some of it comes again.
    Stuck,
}

impl Ingest {
    /// Drains until told to stop, then gives the lease to another instance.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = PAUSE_MIN;
        loop {
            let entries = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                entries = self.drain.next() => entries,
            };
            match self.take(&entries).await {
                Progress::Done => pause = PAUSE_MIN,
                Progress::Stuck => {
                    let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                    pause = Duration::min(pause * 2, PAUSE_MAX);
                }
            }
        }
        self.drain.release().await;
    }

    async fn take(&mut self, entries: &[RawEntry]) -> Progress {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in entries {
            let judged = draft(entry).and_then(|draft| {
                let judged = self.hub.ingested(draft);
                judged.map_err(|error| answer::problem(&error))
            });
            match judged {
                Ok(judged) => good.push((entry, judged)),
                Err(problem) => bad.push((entry, problem)),
            }
        }
        let judged = good.iter().map(|(_, judged)| judged.clone()).collect();
        let results = self.hub.ingest(judged).await;
        let (mut done, mut stuck) = (Vec::new(), false);
        for ((entry, judged), result) in good.into_iter().zip(results) {
            match self.settled(judged, result).await {
                Settled::Stored => done.push(entry.id.clone()),
                Settled::Refused(problem) => bad.push((entry, problem)),
                Settled::Later => stuck = true,
            }
        }
        let mut settled = self.drain.done(&done).await;
        // Refused in the order in which they were written, so that they can be read in it.
        bad.sort_by_key(|(entry, _)| entries.iter().position(|one| one.id == entry.id));
        for (entry, problem) in bad {
            if settled.is_err() {
                break;
            }
            settled = self.refuse(entry, &problem).await;
        }
        match settled {
            Ok(()) if !stuck => Progress::Done,
            Ok(()) => Progress::Stuck,
            Err(error) => {
                tracing::debug!(%error, "entries come again");
                Progress::Stuck
            }
        }
    }

    /// What a publish means for its entry. The log refuses an append as a whole: which of its
    /// drafts it was shows when each is tried alone.
    async fn settled(
        &self,
        judged: Ingested,
        result: Result<tidings_core::Appended, PublishError>,
    ) -> Settled {
        match result {
            Ok(_) => Settled::Stored,
            Err(PublishError::Log(error)) if is_final(&error) => {
                let alone = self.hub.ingest(vec![judged]).await.pop();
                match alone {
                    Some(Ok(_)) => Settled::Stored,
                    Some(Err(PublishError::Log(error))) if !is_final(&error) => Settled::Later,
                    Some(Err(error)) => Settled::Refused(answer::problem(&error)),
                    None => Settled::Later,
                }
            }
            Err(PublishError::Log(_) | PublishError::Draining) => Settled::Later,
            Err(error) => Settled::Refused(answer::problem(&error)),
        }
    }

    async fn refuse(&mut self, entry: &RawEntry, problem: &Problem) -> Result<(), IngestError> {
        let reason = format!("{}: {}", problem.cause.slug(), problem.detail);
        self.drain.refuse(entry, &reason).await?;
        self.refused.count(problem.cause);
        tracing::warn!(entry = entry.id, reason, "an ingest entry is refused");
        Ok(())
    }
}

enum Settled {
    Stored,
    Refused(Problem),
    Later,
}

/// Whether trying again changes nothing.
fn is_final(error: &LogError) -> bool {
    matches!(error, LogError::Refused(_) | LogError::Misconfigured(_))
}

/// The draft of an entry.
pub(crate) fn draft(entry: &RawEntry) -> Result<Draft, Problem> {
    let mut fields = Fields::default();
    for (name, value) in &entry.fields {
        let (name, value) = (
            text(name, "a field's name")?,
            text(value, "a field's value")?,
        );
        match name {
            "data" => fields.set_data_text(value)?,
            _ => fields.set(name, Cow::Borrowed(value))?,
        }
    }
    let mut draft = fields.into_draft(Form::Native)?;
    if draft.dedup.is_none() {
        draft.dedup = Some(Dedup {
            // A line feed stands in no source: no publisher's scope is the same.
            scope: format!("{}\n\ningest", draft.topic).into(),
            key: entry.id.as_str().into(),
            lifetime_ms: Dedup::LIFETIME_MS,
        });
    }
    Ok(draft)
}

fn text<'a>(bytes: &'a Bytes, what: &str) -> Result<&'a str, Problem> {
    std::str::from_utf8(bytes)
        .map_err(|_| Problem::new(Cause::InvalidField, format!("{what} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&'static str, &'static str)]) -> RawEntry {
        RawEntry {
            id: "5-0".to_owned(),
            fields: fields
                .iter()
                .map(|(name, value)| (Bytes::from(*name), Bytes::from(*value)))
                .collect(),
        }
    }

    #[test]
    fn an_entry_is_an_event() {
        let fields = [
            ("topic", "demo/a"),
            ("type", "greeting"),
            ("data", " {\"a\" : 1}\n"),
        ];
        let plain = draft(&entry(&fields)).expect("a good entry");
        assert_eq!(&plain.data[..], b"{\"a\" : 1}");
        let dedup = plain.dedup.expect("its place is its key");
        assert_eq!((&*dedup.scope, &*dedup.key), ("demo/a\n\ningest", "5-0"));
        let own = [&fields[..], &[("id", "7"), ("source", "/s")]].concat();
        let own = draft(&entry(&own)).expect("a good entry");
        assert_eq!(
            own.dedup,
            Some(Dedup::by_source(&own.topic, Some("/s"), "7"))
        );
    }

    #[test]
    fn what_cannot_be_taken_has_its_cause() {
        let table: &[(&[(&str, &str)], Cause)] = &[
            (&[("type", "t")], Cause::MissingField),
            (
                &[("topic", "a"), ("type", "t"), ("data", "hello")],
                Cause::MalformedJson,
            ),
            (
                &[("topic", "a"), ("type", "t"), ("data", "1"), ("data", "1")],
                Cause::InvalidField,
            ),
            (
                &[("topic", "a"), ("type", "t"), ("colour", "red")],
                Cause::UnknownField,
            ),
            (&[("topic", "a b"), ("type", "t")], Cause::InvalidTopic),
        ];
        for (fields, cause) in table {
            let fields: Vec<_> = fields.to_vec();
            let entry = RawEntry {
                id: "5-0".to_owned(),
                fields: fields
                    .iter()
                    .map(|(n, v)| {
                        (
                            Bytes::copy_from_slice(n.as_bytes()),
                            Bytes::copy_from_slice(v.as_bytes()),
                        )
                    })
                    .collect(),
            };
            let problem = draft(&entry).expect_err("refused");
            assert_eq!(problem.cause, *cause, "{fields:?}");
        }
        let mut bytes = entry(&[("topic", "a"), ("type", "t")]);
        bytes
            .fields
            .push((Bytes::from("subject"), Bytes::from_static(b"\xff")));
        assert_eq!(
            draft(&bytes).expect_err("refused").cause,
            Cause::InvalidField
        );
    }
}
