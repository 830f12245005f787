//! A real `EventSource`, in Node or in Chromium, and what it is expected to hear.

use std::ops::{Deref, DerefMut};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_testkit::servers::PortLease;
use tidings_tests::Driver;

/// A client; dropping it kills it.
pub(crate) struct Client {
    driver: Driver,
    /// Of the server of pages.
    _ports: Vec<PortLease>,
}

impl Client {
    /// npm's `eventsource`.
    pub(crate) fn node() -> Result<Self> {
        Self::with_cookie("")
    }

    /// The same, with a cookie.
    pub(crate) fn with_cookie(cookie: &str) -> Result<Self> {
        let options = json!({"client": "node", "cookie": cookie});
        Ok(Self {
            driver: Driver::node("burokratt.mjs", &options)?,
            _ports: Vec::new(),
        })
    }

    /// A page in Chromium, on an origin of its own: `origin` must be on the hub's list.
    pub(crate) async fn chromium(origin: PortLease) -> Result<Self> {
        let foreign = PortLease::take()?;
        let options =
            json!({"client": "chromium", "port": origin.port(), "foreign": foreign.port()});
        let mut client = Self {
            driver: Driver::node("burokratt.mjs", &options)?,
            _ports: vec![origin, foreign],
        };
        client.about("tab", "main").await?;
        Ok(client)
    }

    /// The port of the server of pages whose origin nobody has listed.
    pub(crate) fn foreign(&self) -> u16 {
        self._ports[1].port()
    }

    /// Opens a source.
    pub(crate) async fn open(&mut self, name: &str, url: &str) -> Result<()> {
        self.tell(json!({"do": "open", "as": name, "url": url}))
            .await
    }

    /// Opens a page in a tab.
    pub(crate) async fn tab(&mut self, name: &str, page: &str) -> Result<()> {
        self.tell(json!({"do": "tab", "tab": name, "page": page}))
            .await?;
        self.about("tab", name).await?;
        Ok(())
    }

    /// Carries out a command that has no line of its own.
    pub(crate) async fn perform(&mut self, mut command: Value, name: &str) -> Result<Value> {
        command["as"] = name.into();
        self.tell(command).await?;
        self.about("done", name).await
    }

    /// The next event of a source, which must be of this type; answers with the line.
    pub(crate) async fn event(&mut self, name: &str, kind: &str) -> Result<Value> {
        let line = self.about("event", name).await?;
        ensure!(line["type"] == kind, "{kind} is next, and it got {line}");
        Ok(line)
    }

    /// The next event of a source must be this message; answers with its id.
    pub(crate) async fn hears(&mut self, name: &str, content: &str) -> Result<String> {
        let line = self.event(name, "message").await?;
        let message = data(&line)?;
        ensure!(
            message["content"] == content,
            "{content:?} is next, and it got {line}"
        );
        Ok(line["id"].as_str().unwrap_or_default().to_owned())
    }

    /// The next event of a source must say that it is level; answers with what it says.
    pub(crate) async fn ready(&mut self, name: &str) -> Result<Value> {
        data(&self.event(name, "ready").await?)
    }

    /// The contents of all messages that a source got, in order.
    pub(crate) fn contents(&self, name: &str) -> Result<Vec<String>> {
        let lines = self
            .all("event")
            .filter(|line| line["as"] == name && line["type"] == "message");
        lines
            .map(|line| {
                Ok(data(line)?["content"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned())
            })
            .collect()
    }

    /// The whole page's text, once it has this in it.
    pub(crate) async fn see(&mut self, tab: &str, selector: &str, text: &str) -> Result<Value> {
        let command = json!({"do": "see", "tab": tab, "selector": selector, "text": text});
        self.perform(command, &format!("see {text}")).await
    }
}

impl Deref for Client {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

/// An event's data.
pub(crate) fn data(line: &Value) -> Result<Value> {
    Ok(serde_json::from_str(
        line["data"].as_str().unwrap_or_default(),
    )?)
}
