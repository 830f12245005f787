//! A Zaikio client in a process of its own: what they all do, and what is expected of them.

use std::ops::{Deref, DerefMut};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// A client; dropping it kills it.
pub(crate) struct Driver(tidings_tests::Driver);

impl Driver {
    /// A client from npm: see `tests/js/cable.mjs`.
    pub(crate) fn node(options: &Value) -> Result<Self> {
        Ok(Self(tidings_tests::Driver::node("cable.mjs", options)?))
    }

    /// A client from PyPI; `None` where their packages are not installed.
    pub(crate) fn python(script: &str, options: &Value) -> Result<Option<Self>> {
        Ok(tidings_tests::Driver::python(script, options)?.map(Self))
    }

    /// Subscribes, by the name that its lines then have in `as`.
    pub(crate) async fn subscribe(&mut self, name: &str, params: Value) -> Result<()> {
        self.tell(json!({"do": "subscribe", "as": name, "params": params}))
            .await
    }

    /// Calls an action of a subscription.
    pub(crate) async fn perform(&mut self, name: &str, action: &str, data: Value) -> Result<()> {
        self.tell(json!({"do": "perform", "as": name, "action": action, "data": data}))
            .await
    }

    /// The next frame of a type.
    pub(crate) async fn frame(&mut self, of_type: &str) -> Result<Value> {
        let line = self.until("frame", |line| line["frame"]["type"] == of_type);
        Ok(line.await.with_context(|| of_type.to_owned())?["frame"].take())
    }

    /// The next event of a subscription must have this number; answers with the event.
    pub(crate) async fn receives(&mut self, name: &str, number: u64) -> Result<Value> {
        let line = self.about("received", name).await?;
        let fits = line["message"]["payload"]["n"] == number;
        ensure!(fits, "{}: {number} is next, and it got {line}", self.0.who);
        Ok(line)
    }

    /// The next event of a plain websocket must have this number; answers with its frame.
    pub(crate) async fn gets(&mut self, number: u64) -> Result<Value> {
        let mut line = self.until("event", |_| true).await?;
        let fits = line["frame"]["message"]["payload"]["n"] == number;
        ensure!(fits, "{}: {number} is next, and it got {line}", self.0.who);
        Ok(line["frame"].take())
    }

    /// The numbers of all events that a subscription got, in order.
    pub(crate) fn numbers(&self, name: &str) -> Vec<u64> {
        let lines = self.all("received").filter(|line| line["as"] == name);
        lines
            .filter_map(|line| line["message"]["payload"]["n"].as_u64())
            .collect()
    }

    /// One connection all the time, and a ping on it at least every six seconds, where clients give up.
    pub(crate) fn was_never_stale(&self) -> Result<()> {
        ensure!(
            self.count("open") == 1,
            "{}: {:?}",
            self.0.who,
            self.0.last()
        );
        ensure!(
            self.count("shut") == 0,
            "{}: {:?}",
            self.0.who,
            self.0.last()
        );
        let pings: Vec<u64> = self
            .all("ping")
            .filter_map(|line| line["at"].as_u64())
            .collect();
        let gap = pings.windows(2).map(|pair| pair[1] - pair[0]).max();
        ensure!(
            gap.is_some_and(|gap| gap < 6_000),
            "{}: {pings:?}",
            self.0.who
        );
        Ok(())
    }

    /// `kill -9`.
    pub(crate) async fn kill(self) -> Result<()> {
        self.0.kill().await
    }
}

impl Deref for Driver {
    type Target = tidings_tests::Driver;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Driver {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
