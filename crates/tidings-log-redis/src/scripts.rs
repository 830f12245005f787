//! The Lua scripts, called by their SHA and loaded again when the server has forgotten them.

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, Value};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::metrics::Metrics;

/// One script.
#[derive(Debug)]
pub(crate) struct Script {
    sha: String,
    source: String,
}

macro_rules! reading {
    ($file:literal) => {
        concat!(include_str!("scripts/common.lua"), include_str!($file))
    };
}

macro_rules! appending {
    ($file:literal) => {
        concat!(include_str!("scripts/appending.lua"), include_str!($file))
    };
}

macro_rules! flashing {
    ($file:literal) => {
        concat!(include_str!("scripts/flashing.lua"), include_str!($file))
    };
}

const COMMITTING: &str = concat!(
    include_str!("scripts/appending.lua"),
    include_str!("scripts/flashing.lua"),
    include_str!("scripts/commit.lua")
);

pub(crate) static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::new(appending!("scripts/append.lua")));
pub(crate) static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(COMMITTING));
pub(crate) static FLASH: LazyLock<Script> =
    LazyLock::new(|| Script::new(flashing!("scripts/flash.lua")));
pub(crate) static BEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/beat.lua")));
pub(crate) static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/leave.lua")));
pub(crate) static ORPHANS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/orphans.lua")));
pub(crate) static LOAD: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/load.lua")));
pub(crate) static LIST: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/list.lua")));
pub(crate) static DUE: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/due.lua")));
pub(crate) static DEPTH: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/depth.lua")));
pub(crate) static RELAY: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/relay.lua")));
pub(crate) static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/read.lua")));
pub(crate) static JUDGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/judge.lua")));
pub(crate) static HEADS: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/heads.lua")));
pub(crate) static PLACE: LazyLock<Script> =
    LazyLock::new(|| Script::new(reading!("scripts/place.lua")));
pub(crate) static META: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/meta.lua")));
pub(crate) static LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/lease.lua")));
pub(crate) static STAND: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/stand.lua")));
pub(crate) static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/settle.lua")));

impl Script {
    fn new(source: &str) -> Self {
        Self {
            sha: redis::Script::new(source).get_hash().to_owned(),
            source: source.to_owned(),
        }
    }

    /// `EVALSHA` with its keys; arguments follow by [`Cmd::arg`].
    pub(crate) fn call(&self, keys: &[String]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.sha).arg(keys.len()).arg(keys);
        cmd
    }

    /// `SCRIPT LOAD`.
    pub(crate) async fn load(
        &self,
        link: &mut impl ConnectionLike,
        patience: Duration,
        metrics: &Metrics,
    ) -> Result<(), Failure> {
        metrics.script_reloads.inc();
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(&self.source);
        ask(link, &cmd, patience).await.map(|_| ())
    }

    /// Sends calls of this script, which may be repeated without harm, in one round trip.
    pub(crate) async fn ask_all(
        &self,
        link: &mut impl ConnectionLike,
        calls: Vec<Cmd>,
        patience: Duration,
        metrics: &Metrics,
    ) -> Result<Vec<Value>, Failure> {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call);
        }
        match answers(link, &pipeline, patience).await {
            Err(Failure::NoScript) => {
                self.load(link, patience, metrics).await?;
                answers(link, &pipeline, patience).await
            }
            other => other,
        }
    }
}

/// Sends one command and waits for its answer, `patience` long.
pub(crate) async fn ask(
    link: &mut impl ConnectionLike,
    cmd: &Cmd,
    patience: Duration,
) -> Result<Value, Failure> {
    match timeout(patience, link.req_packed_command(cmd)).await {
        Ok(Ok(value)) => value.extract_error().map_err(|error| Failure::of(&error)),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_) => Err(late(patience)),
    }
}

/// Sends commands in one round trip; the first error among the answers is the result.
pub(crate) async fn answers(
    link: &mut impl ConnectionLike,
    pipeline: &Pipeline,
    patience: Duration,
) -> Result<Vec<Value>, Failure> {
    let values = raw_answers(link, pipeline, patience).await?;
    match values.iter().find_map(|value| match value {
        Value::ServerError(error) => Some(Failure::of_answer(error)),
        _ => None,
    }) {
        Some(failure) => Err(failure),
        None => Ok(values),
    }
}

/// Like [`answers`], with the errors left in place.
pub(crate) async fn raw_answers(
    link: &mut impl ConnectionLike,
    pipeline: &Pipeline,
    patience: Duration,
) -> Result<Vec<Value>, Failure> {
    match timeout(
        patience,
        link.req_packed_commands(pipeline, 0, pipeline.len()),
    )
    .await
    {
        Ok(Ok(values)) => Ok(values),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_) => Err(late(patience)),
    }
}

fn late(patience: Duration) -> Failure {
    Failure::Lost(format!("no answer within {patience:?}"))
}
