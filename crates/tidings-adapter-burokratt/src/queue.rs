//! The queue: who waits, at which place, and for how long by estimate.
//!
//! Places are not written, they are the ranks of an index. The last waits stand in one record, which a
//! claim tells through its outbox.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidings_adapter::{
    Command, Decision, Hub, Indexed, Listed, LogError, RecordKind, State, Trigger,
};

use crate::chat::changed;
use crate::keys::{self, Channel};
use crate::objects::{estimate, response};
use crate::options::{Settings, millis};

/// Places that are counted; who stands behind them is told that he has none.
const PLACES_MAX: usize = 10_000;

/// The queue as everybody sees it: who waits at which place, and how long the last ones waited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    places: HashMap<Arc<str>, u64>,
    waits: Waits,
}

impl Line {
    /// Of the entries of the index, in its order.
    pub(crate) fn of(entries: &[Listed], waits: Waits) -> Self {
        let ids = entries.iter().map(|one| one.key.id.clone());
        Self {
            places: ids.zip(1..).collect(),
            waits,
        }
    }

    /// The place of an id, from 1; 0: it does not wait.
    pub(crate) fn place(&self, id: &str) -> u64 {
        self.places.get(id).copied().unwrap_or_default()
    }

    /// What is answered to whoever asks how long this id waits; one that does not wait, as if it came
    /// now.
    pub(crate) fn answer(&self, id: &str, terms: &Terms, now_ms: u64) -> String {
        let place = self.place(id);
        let seconds = self.waits.estimate(place, terms, now_ms);
        response(&estimate(seconds, place))
    }
}

/// Reads the queue.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn load(hub: &Hub) -> Result<Line, LogError> {
    let listed = hub.list(keys::record::WAITING, keys::index::WAITING, PLACES_MAX);
    let waits = hub.load(keys::QUEUE, vec![keys::waits()]);
    let (listed, mut waits): (Indexed, _) = tokio::try_join!(listed, waits)?;
    if !listed.complete {
        tracing::warn!("more wait than places are counted");
    }
    let waits = waits.pop().flatten();
    let waits = Waits::parse(waits.as_ref().map(|one| &*one.document));
    Ok(Line::of(&listed.entries, waits))
}

/// How long those waited who were claimed last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waits(Vec<(u64, u64)>);

/// What waits are estimated from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How many waits are remembered.
    pub(crate) most: usize,
    /// For how long.
    pub(crate) window_ms: u64,
    /// While there are none.
    pub(crate) default_ms: u64,
}

impl Terms {
    pub(crate) fn of(settings: &Settings) -> Self {
        let options = &settings.options;
        Self {
            most: options.waits,
            window_ms: millis(options.waits_window),
            default_ms: millis(options.wait_default),
        }
    }
}

impl Waits {
    /// A stored one; whatever cannot be read is none.
    pub(crate) fn parse(document: Option<&[u8]>) -> Self {
        document
            .and_then(|text| serde_json::from_slice(text).ok())
            .unwrap_or_default()
    }

    /// Seconds until the one at this place is claimed, by estimate: the mean of the last waits times
    /// the place, rounded up; of one who does not wait, as if he were the first.
    pub(crate) fn estimate(&self, position: u64, terms: &Terms, now_ms: u64) -> u64 {
        let fresh = |at_ms: u64| now_ms.saturating_sub(at_ms) <= terms.window_ms;
        let counted = self.0.iter().filter(|(_, at_ms)| fresh(*at_ms));
        let (count, sum) = counted.fold((0_u128, 0_u128), |(count, sum), (wait_ms, _)| {
            (count + 1, sum + u128::from(*wait_ms))
        });
        let (count, sum) = match count {
            0 => (1, u128::from(terms.default_ms)),
            _ => (count, sum),
        };
        // In integers: ceil(sum / count × places / 1000).
        let places = u128::from(position.max(1));
        let seconds = (sum * places).div_ceil(count * 1000);
        u64::try_from(seconds).unwrap_or(u64::MAX)
    }
}

/// Tells that a chat was claimed at this time, after this wait.
pub(crate) fn waited(wait_ms: u64, at_ms: u64) -> Command {
    Command {
        kind: keys::record::WAITS.into(),
        placement_key: keys::QUEUE.into(),
        records: vec![keys::waits()],
        // Two numbers.
        body: serde_json::to_vec(&(wait_ms, at_ms))
            .unwrap_or_default()
            .into(),
    }
}

/// Keeps the last waits.
#[derive(Debug)]
pub(crate) struct LastWaits(pub(crate) Terms);

impl RecordKind for LastWaits {
    fn name(&self) -> &'static str {
        keys::record::WAITS
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let (Trigger::Command(body), Some((key, document))) = (trigger, state.first()) else {
            return Decision::default();
        };
        let Ok(wait) = serde_json::from_slice::<(u64, u64)>(body) else {
            return Decision::answer("the command cannot be read");
        };
        let terms = &self.0;
        let mut waits = Waits::parse(document.map(|text| &**text));
        waits
            .0
            .retain(|(_, at_ms)| now_ms.saturating_sub(*at_ms) <= terms.window_ms);
        waits.0.push(wait);
        // Claims of several partitions come in any order.
        waits.0.sort_by_key(|(_, at_ms)| *at_ms);
        let surplus = waits.0.len().saturating_sub(terms.most);
        waits.0.drain(..surplus);
        let mut decision = Decision::default();
        let document = serde_json::to_vec(&waits).unwrap_or_default();
        let lifetime = std::time::Duration::from_millis(terms.window_ms);
        decision.put(key.clone(), document, Some(lifetime));
        decision.flash(changed(keys::QUEUE));
        decision
    }
}

/// Whether an id waits or is a chat: what a question about the queue must be about.
///
/// # Errors
/// [`LogError::Unavailable`].
pub(crate) async fn is_known(hub: &Hub, channel: &Channel) -> Result<bool, LogError> {
    let keys = vec![keys::chat(channel), keys::waiting(channel)];
    let loaded = hub.load(channel.topic().as_str(), keys).await?;
    Ok(loaded.iter().any(Option::is_some))
}

#[cfg(test)]
mod tests;
