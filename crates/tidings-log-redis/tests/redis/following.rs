//! Following a log that is disturbed: steps with patience, appends and reads that try again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_core::{
    Event, EventId, EventLog as _, From, LogError, Page, PageLimit, Placed, Tail, TailStep,
};
use tidings_log_redis::RedisLog;

use crate::common::{self, draft};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn step(tail: &mut Box<dyn Tail>) -> Result<TailStep> {
    tokio::time::timeout(PATIENCE, tail.next())
        .await
        .context("the tail stands still")
}

/// Steps until one is wanted; what came before it.
pub(crate) async fn until(
    tail: &mut Box<dyn Tail>,
    wanted: impl Fn(&TailStep) -> bool,
) -> Result<Vec<TailStep>> {
    let mut steps = Vec::new();
    loop {
        let next = step(tail).await?;
        let done = wanted(&next);
        if next != TailStep::Level {
            steps.push(next);
        }
        if done {
            return Ok(steps);
        }
        ensure!(steps.len() < 10_000, "it does not come");
    }
}

pub(crate) fn events(steps: &[TailStep]) -> Vec<&Event> {
    let mut all = Vec::new();
    for step in steps {
        if let TailStep::Events(_, events) = step {
            all.extend(events);
        }
    }
    all
}

pub(crate) fn has(id: EventId) -> impl Fn(&TailStep) -> bool {
    move |step| matches!(step, TailStep::Events(_, events) if events.iter().any(|event| event.id == id))
}

pub(crate) async fn publish(log: &RedisLog, topic: &Placed, data: &str) -> Result<EventId> {
    common::wait_for("an append to be taken", PATIENCE, || async {
        match log
            .append(topic.partition, vec![draft(topic.topic.as_str(), data)])
            .await
        {
            Ok(appended) => Ok(Ok(appended[0].id)),
            Err(error @ (LogError::Unavailable(_) | LogError::FateUnknown(_))) => Err(error.into()),
            Err(other) => Ok(Err(other)),
        }
    })
    .await?
    .map_err(Into::into)
}

pub(crate) async fn read(log: &RedisLog, topic: &Placed, from: From) -> Result<Page> {
    common::wait_for("a read", PATIENCE, || async {
        Ok(log.read(topic, from, PageLimit::default()).await?)
    })
    .await
}

pub(crate) fn origin() -> Vec<EventId> {
    vec![EventId::ORIGIN; 4]
}
