//! Records in the hub: commands are decided and committed, deadlines fire, outboxes are relayed.
//!
//! In reading order: [`command`] loads, decides and commits; [`deadlines`] fires what has passed;
//! [`indexes`] lists what stands in an index; [`outbox`] delivers what a commit handed to somewhere else; [`owners`] holds this instance's lease
//! and handles what others lost with theirs. Every instance does all of it, none leads: the log's atomic steps decide who was first.

pub(crate) mod command;
pub(crate) mod deadlines;
pub(crate) mod indexes;
pub(crate) mod metrics;
pub(crate) mod outbox;
pub(crate) mod owners;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tidings_core::{Ingest, Outside, Partition, Partitions, RecordKey, RecordKind, RelayId};
use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::views::View;
use metrics::RecordMetrics;
use owners::Life;

/// Commands to one record queue up here instead of running into each other's conflicts. A stripe
/// is shared by records whose hash meets; that many stripes keep meetings rare at a thousand
/// commands under way.
const STRIPES: usize = 1024;

/// What adapters bring beside their routes.
#[derive(Clone, Default)]
pub struct Rules {
    /// Every record kind of this instance.
    pub kinds: Vec<Arc<dyn RecordKind>>,
    /// The rules for drafts under owned roots; a root without them takes no foreign events.
    pub ingest: Vec<(&'static str, Arc<dyn Ingest>)>,
    /// What calls servers outside.
    pub outside: Option<Arc<dyn Outside>>,
    /// Every view of this instance.
    pub views: Vec<Arc<dyn View>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        let ingest: Vec<_> = self.ingest.iter().map(|(root, _)| root).collect();
        let views: Vec<_> = self.views.iter().map(|view| view.name()).collect();
        f.debug_struct("Rules")
            .field("kinds", &kinds)
            .field("views", &views)
            .field("ingest", &ingest)
            .field("outside", &self.outside)
            .finish()
    }
}

/// The hub's part that keeps records.
pub(crate) struct Registrar {
    kinds: BTreeMap<&'static str, Arc<dyn RecordKind>>,
    pub(crate) outside: Option<Arc<dyn Outside>>,
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
    pub(crate) relay: RelayId,
    /// The names of the kinds with owners.
    pub(crate) owning: Vec<Arc<str>>,
    pub(crate) life: Life,
    pub(crate) metrics: RecordMetrics,
    /// Partitions whose outbox has something new.
    nudged: parking_lot::Mutex<BTreeSet<Partition>>,
    bell: Notify,
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar")
            .field("kinds", &self.kinds.keys())
            .finish_non_exhaustive()
    }
}

impl Registrar {
    pub(crate) fn new(
        rules: &Rules,
        partitions: Partitions,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let owning = rules.kinds.iter().filter(|kind| kind.has_owners());
        Ok(Self {
            owning: owning.map(|kind| Arc::from(kind.name())).collect(),
            life: Life::begin(partitions.count()),
            kinds: rules
                .kinds
                .iter()
                .map(|kind| (kind.name(), kind.clone()))
                .collect(),
            outside: rules.outside.clone(),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
            relay: RelayId(rand::random()),
            metrics: RecordMetrics::register(registry)?,
            nudged: parking_lot::Mutex::default(),
            bell: Notify::new(),
        })
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&Arc<dyn RecordKind>> {
        self.kinds.get(name)
    }

    /// Whether a kind has declared an index.
    pub(crate) fn is_index(&self, kind: &str, index: &str) -> bool {
        let kind = self.kinds.get(kind);
        kind.is_some_and(|kind| kind.indexes().contains(&index))
    }

    /// Every kind's indexes.
    pub(crate) fn indexes(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let kinds = self.kinds.values();
        let indexes = kinds.flat_map(|kind| {
            let indexes = kind.indexes().iter();
            indexes.map(|index| (Arc::from(kind.name()), Arc::from(*index)))
        });
        indexes.collect()
    }

    /// The names of the kinds that are hosted here.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.kinds.keys().map(|name| Arc::from(*name)).collect()
    }

    /// Waits for a record's turn within this instance.
    async fn turn(&self, partition: Partition, first: Option<&RecordKey>) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one((partition, first));
        // The remainder is below STRIPES.
        let stripe = (hash % STRIPES as u64) as usize;
        self.stripes[stripe].lock().await
    }

    /// Says that a partition's outbox has something new.
    pub(crate) fn nudge(&self, partition: Partition) {
        self.nudged.lock().insert(partition);
        self.bell.notify_one();
    }

    /// Waits until some outbox has something new; cancel-safe.
    pub(crate) async fn nudged(&self) -> BTreeSet<Partition> {
        loop {
            let nudged = std::mem::take(&mut *self.nudged.lock());
            if !nudged.is_empty() {
                return nudged;
            }
            self.bell.notified().await;
        }
    }
}
