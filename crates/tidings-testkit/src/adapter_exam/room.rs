//! The room of one sitting: a cluster with the dialect's adapter, and readers with deadlines.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidings_adapter::{Delivery, PublishError};
use tidings_core::{EventId, From, PageLimit, Start, SubId, Verdict};

use super::cluster::{Cluster, Setup};
use super::{Client, Dialect, Heard, Place, Published, wire};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// One sitting.
pub(super) struct Room<'a> {
    pub(super) dialect: &'a dyn Dialect,
    pub(super) cluster: Cluster,
}

impl<'a> Room<'a> {
    /// Two instances, with everything as in production.
    pub(super) async fn new(dialect: &'a dyn Dialect) -> Result<Self> {
        Self::with(dialect, Setup::default()).await
    }

    /// A cluster like this, on the dialect's choice of logs.
    pub(super) async fn with(dialect: &'a dyn Dialect, setup: Setup) -> Result<Self> {
        let logs = dialect.logs();
        let cluster = Cluster::start(|| dialect.adapter(), Setup { logs, ..setup }).await?;
        Ok(Self { dialect, cluster })
    }

    pub(super) fn at(&self, instance: usize) -> SocketAddr {
        self.cluster.instance(instance).address()
    }

    /// Publishes as the dialect's clients do, or straight into the log if they do not.
    pub(super) async fn publish(&self, instance: usize, name: &str, text: &str) -> Result<()> {
        if !self.dialect.features().publishes {
            return self.store(instance, name, text).await;
        }
        let published = self.dialect.publish(self.at(instance), name, text);
        match soon("a publish to be answered", published).await?? {
            Published::Stored => Ok(()),
            Published::Refused { words, .. } => bail!("a good publish is refused: {words}"),
        }
    }

    /// Publishes straight into the log.
    pub(super) async fn store(&self, instance: usize, name: &str, text: &str) -> Result<()> {
        let draft = self.dialect.draft(name, text);
        let stored = self.cluster.instance(instance).hub().publish(vec![draft]);
        let stored: Result<Vec<_>, PublishError> = stored.await.into_iter().collect();
        stored.map(drop).context("a draft is not stored")
    }

    /// Publishes the numbers of a range, in turn on every instance.
    pub(super) async fn count(&self, name: &str, numbers: std::ops::Range<usize>) -> Result<()> {
        let instances = self.cluster.instances().len();
        for number in numbers {
            self.publish(number % instances, name, &number.to_string())
                .await?;
        }
        Ok(())
    }

    /// Waits until an instance has seen so many events of a topic: what was stored by way of the
    /// other one reaches it a moment later, and is what comes until then.
    pub(super) async fn seen(&self, instance: usize, name: &str, events: usize) -> Result<()> {
        let mut reader = self.cluster.instance(instance).hub().reader();
        let topic = self.dialect.topic(name);
        let oldest = Start::From(From::Oldest);
        let refused = reader.subscribe(SubId(0), vec![topic], &oldest);
        ensure!(refused.is_ok(), "{refused:?}");
        let mut seen = 0;
        let all = async {
            while seen < events {
                if let Delivery::Events(_, batch) = reader.next().await {
                    seen += batch.events.len();
                }
            }
        };
        soon("an instance to see what was published", all).await
    }

    /// The ids of what is retained of a topic.
    pub(super) async fn ids(&self, name: &str) -> Result<Vec<EventId>> {
        let topic = self.dialect.topic(name);
        let hub = self.cluster.instance(0).hub();
        let (mut ids, mut from) = (Vec::new(), From::Oldest);
        loop {
            let page = hub.read(&topic, from, PageLimit::default()).await?;
            ids.extend(page.events.iter().map(|printed| printed.event().id));
            if page.at_end {
                return Ok(ids);
            }
            from = From::After(page.next);
        }
    }

    /// The log forgets all of a topic but its first events, and what else came after them.
    pub(super) async fn lose_all_but(&self, name: &str, kept: usize) -> Result<()> {
        let ids = self.ids(name).await?;
        let last = *kept
            .checked_sub(1)
            .and_then(|last| ids.get(last))
            .context("so many events are there")?;
        let placed = self
            .cluster
            .instance(0)
            .hub()
            .placed(self.dialect.topic(name));
        self.cluster.lose_suffix(placed.partition, last)?;
        // Past the lost ids' time: what comes now lies behind them, not among them.
        self.cluster.pass(Duration::from_secs(1)).await;
        Ok(())
    }

    /// A client connects and waits until its subscription stands.
    pub(super) async fn follow(
        &self,
        instance: usize,
        names: &[&str],
        from: Place,
    ) -> Result<Reader> {
        let mut reader = self.connect(instance, names, &from).await?;
        if self.dialect.features().greets {
            reader.open().await?;
        }
        Ok(reader)
    }

    /// A client connects.
    pub(super) async fn connect(
        &self,
        instance: usize,
        names: &[&str],
        from: &Place,
    ) -> Result<Reader> {
        let client = self.dialect.follow(self.at(instance), names, from);
        let client = soon("a client to be connected", client).await?;
        Ok(Reader {
            client: client.with_context(|| format!("a client does not connect from {from:?}"))?,
            cursor: None,
        })
    }

    /// Ends the sitting: no instance has panicked.
    pub(super) fn end(self) -> Result<()> {
        for instance in self.cluster.instances() {
            let panics = instance.panics();
            ensure!(panics.is_empty(), "an instance panicked: {panics:?}");
        }
        Ok(())
    }
}

/// Waits for something, bounded.
pub(super) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(SOON, wait)
        .await
        .with_context(|| format!("waited {SOON:?} in vain for {what}"))
}

/// A client, and the cursor it would come back with.
pub(super) struct Reader {
    client: Box<dyn Client>,
    cursor: Option<String>,
}

impl Reader {
    /// What it hears next that is of any account.
    pub(super) async fn hear(&mut self) -> Result<Heard> {
        let next = async {
            loop {
                match self.client.next().await? {
                    Heard::Nothing => {}
                    heard => return anyhow::Ok(heard),
                }
            }
        };
        let heard = soon("a client to hear something", next).await??;
        match &heard {
            Heard::Open(Some(cursor)) => self.cursor = Some(cursor.clone()),
            Heard::Event { cursor, .. } => self.cursor = Some(cursor.clone()),
            _ => {}
        }
        Ok(heard)
    }

    /// Its subscription stands.
    pub(super) async fn open(&mut self) -> Result<()> {
        match self.hear().await? {
            Heard::Open(_) => Ok(()),
            other => bail!("instead of being greeted a client hears {other:?}"),
        }
    }

    /// The next event's name and text; greetings in between are fine.
    pub(super) async fn event(&mut self) -> Result<(String, String)> {
        loop {
            match self.hear().await? {
                Heard::Event { name, text, .. } => return Ok((name, text)),
                Heard::Open(_) => {}
                other => bail!("instead of an event a client hears {other:?}"),
            }
        }
    }

    /// Exactly these texts come next, all under this name.
    pub(super) async fn expect(&mut self, name: &str, texts: &[&str]) -> Result<()> {
        for (index, text) in texts.iter().enumerate() {
            let heard = self
                .event()
                .await
                .with_context(|| format!("expecting {texts:?} of {name}, number {index}"))?;
            ensure!(
                (heard.0.as_str(), heard.1.as_str()) == (name, *text),
                "expecting {text:?} of {name}, number {index} of {texts:?}, a client hears {heard:?}"
            );
        }
        Ok(())
    }

    /// Exactly these numbers come next, all under this name.
    pub(super) async fn expect_numbers(
        &mut self,
        name: &str,
        numbers: std::ops::Range<usize>,
    ) -> Result<()> {
        for number in numbers {
            self.expect(name, &[&number.to_string()]).await?;
        }
        Ok(())
    }

    /// Its cursor is not good: it is told so, with this verdict if its dialect tells them apart.
    pub(super) async fn expect_loss(&mut self, verdicts: &[Verdict]) -> Result<()> {
        loop {
            match self.hear().await? {
                Heard::Lost(None) => return Ok(()),
                Heard::Lost(Some(verdict)) if verdicts.contains(&verdict) => return Ok(()),
                Heard::Open(_) => {}
                other => bail!("instead of {verdicts:?} a client hears {other:?}"),
            }
        }
    }

    /// The end, in good order; or being told of it.
    pub(super) async fn expect_farewell(&mut self, in_words: bool) -> Result<()> {
        let mut told = false;
        loop {
            match self.hear().await? {
                Heard::ComeBack => told = true,
                Heard::Ended { clean } => {
                    ensure!(told || clean, "the connection is broken off");
                    ensure!(told || !in_words, "it ends without a word");
                    return Ok(());
                }
                Heard::Event { .. } | Heard::Open(_) => {}
                other => bail!("instead of being told to come back a client hears {other:?}"),
            }
        }
    }

    pub(super) async fn send(&mut self, frame: wire::Message) -> Result<()> {
        soon("a frame to be sent", self.client.send(frame)).await?
    }

    /// Goes away, with the place to come back to.
    pub(super) fn leave(self) -> Result<Place> {
        self.place()
    }

    /// The place to come back to.
    pub(super) fn place(&self) -> Result<Place> {
        let cursor = self.cursor.clone().filter(|cursor| !cursor.is_empty());
        Ok(Place::After(
            cursor.context("a client that resumes is given a cursor")?,
        ))
    }
}
