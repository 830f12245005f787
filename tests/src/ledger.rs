//! What was acknowledged, and whether a reader got exactly that.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Events by topic, in the order in which they were acknowledged.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Per topic: the publisher's id, and the data.
    topics: BTreeMap<String, Vec<(String, String)>>,
}

/// What a reader got.
#[derive(Debug, Default)]
pub struct Received {
    topics: BTreeMap<String, Vec<(String, String)>>,
    count: usize,
}

/// The parts of an event in print that the ledger compares.
#[derive(Deserialize)]
struct Printed<'a> {
    id: String,
    topic: String,
    publisherid: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Ledger {
    /// Notes an acknowledged event.
    pub fn note(&mut self, topic: &str, publisher_id: &str, data: &str) {
        let events = self.topics.entry(topic.to_owned()).or_default();
        events.push((publisher_id.to_owned(), data.to_owned()));
    }

    /// How many were acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.values().map(Vec::len).sum()
    }

    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The topics, in order.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        self.topics.keys().map(String::as_str).collect()
    }

    /// How many were acknowledged in one topic.
    #[must_use]
    pub fn count(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(0, Vec::len)
    }

    /// Checks that a reader of these topics got every acknowledged event exactly once, in order,
    /// byte for byte.
    ///
    /// # Errors
    /// Says of which topic, and where it differs.
    pub fn check(&self, who: &str, received: &Received, topics: &[&str]) -> Result<()> {
        for topic in topics {
            let (expected, got) = (self.topics.get(*topic), received.topics.get(*topic));
            let (expected, got) = (
                expected.map_or(&[][..], Vec::as_slice),
                got.map_or(&[][..], Vec::as_slice),
            );
            if let Some(at) =
                (0..expected.len().max(got.len())).find(|at| expected.get(*at) != got.get(*at))
            {
                let ids: BTreeSet<&String> = got.iter().map(|(id, _)| id).collect();
                let doubled = got.len() - ids.len();
                bail!(
                    "{who}, {topic}: {} acknowledged, {} read, {doubled} doubled; the first difference is at {at}: {:?} instead of {:?}",
                    expected.len(),
                    got.len(),
                    got.get(at),
                    expected.get(at)
                );
            }
        }
        Ok(())
    }
}

impl Received {
    /// Takes an event in print, as a reader got it; answers with its id.
    ///
    /// # Errors
    /// When it is no event.
    pub fn take(&mut self, printed: &str) -> Result<String> {
        let event: Printed<'_> = serde_json::from_str(printed)?;
        self.count += 1;
        let events = self.topics.entry(event.topic).or_default();
        events.push((event.publisherid, event.data.get().to_owned()));
        Ok(event.id)
    }

    /// Takes a JSON array of events.
    ///
    /// # Errors
    /// When it is none.
    pub fn take_array(&mut self, array: &str) -> Result<()> {
        if array.trim().is_empty() {
            return Ok(());
        }
        let events: Vec<&RawValue> = serde_json::from_str(array)?;
        for event in events {
            self.take(event.get())?;
        }
        Ok(())
    }

    /// The data of the last event of a topic.
    #[must_use]
    pub fn last(&self, topic: &str) -> Option<&str> {
        let (_, data) = self.topics.get(topic)?.last()?;
        Some(data)
    }

    /// How many events were read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many of one topic.
    ///
    /// # Errors
    /// When more came than were acknowledged.
    pub fn has_all(&self, ledger: &Ledger, topics: &[&str]) -> Result<bool> {
        let count = |topic: &&str| self.topics.get(*topic).map_or(0, Vec::len);
        for topic in topics {
            ensure!(
                count(topic) <= ledger.count(topic),
                "{topic}: more than was acknowledged"
            );
        }
        Ok(topics
            .iter()
            .all(|topic| count(topic) == ledger.count(topic)))
    }
}
