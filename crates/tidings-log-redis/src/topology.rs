//! Which node to ask for which partition, and finding out anew when that has changed.
//!
//! The client library's own cluster connection was seen to stop for good when all nodes drop their
//! connections at once, and its managed connection never follows a Sentinel failover. So the routes
//! are kept here: everyone works with the routes it has, and says when they failed; one of those
//! who say so looks them up anew, the others wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rand::Rng as _;
use tidings_core::{Partition, Partitions};
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;
use crate::keys::Keys;
use crate::link::{Linking, Node, require_primary};
use crate::options::RedisOptions;
use crate::resolve;
use crate::target::{Address, Place, Target};

/// The first look-up after a while is made at once, the next ones with growing distance.
const PACE_MIN: Duration = Duration::from_millis(50);
/// A failover takes seconds; asking more seldom would only add to it.
const PACE_MAX: Duration = Duration::from_secs(2);
/// After this long without a look-up the next one is made at once again.
const PACE_FORGETS: Duration = Duration::from_secs(10);

/// The nodes and who is asked for what, at one time.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Rises with every look-up.
    pub(crate) generation: u64,
    partitions: Vec<Arc<Node>>,
    /// In a Cluster, the owner of each run of slots (last slot, node); otherwise one run of all.
    slots: Vec<(u16, Arc<Node>)>,
}

impl Routes {
    /// The node of a partition (one of P).
    pub(crate) fn node(&self, partition: Partition) -> &Arc<Node> {
        &self.partitions[partition.index()]
    }

    /// The node of a key that is no partition's.
    pub(crate) fn node_of_slot(&self, slot: u16) -> Option<&Arc<Node>> {
        self.slots
            .iter()
            .find(|(last, _)| slot <= *last)
            .map(|(_, node)| node)
    }
}

/// The routes, and how to find them.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) linking: Linking,
    place: Place,
    keys: Keys,
    count: Partitions,
    routes: RwLock<Arc<Routes>>,
    pace: tokio::sync::Mutex<Pace>,
}

#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    step: u32,
    /// Whom to ask first next time: the one that answered last may be the one that is wrong.
    turn: usize,
}

impl Topology {
    /// Finds the nodes for the first time.
    pub(crate) async fn find(
        target: &Target,
        linking: Linking,
        keys: Keys,
        options: &RedisOptions,
    ) -> Result<Self, Failure> {
        let topology = Self {
            linking,
            place: target.place.clone(),
            keys,
            count: options.partitions,
            routes: RwLock::new(Arc::new(Routes {
                generation: 0,
                partitions: Vec::new(),
                slots: Vec::new(),
            })),
            pace: tokio::sync::Mutex::default(),
        };
        topology.renew(0).await?;
        Ok(topology)
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.routes.read().clone()
    }

    /// Whether blocking reads may name several partitions at once.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster { .. })
    }

    /// Looks the routes up anew, unless that was done since `seen`. Paced: may wait before it asks.
    pub(crate) async fn renew(&self, seen: u64) -> Result<(), Failure> {
        let mut pace = self.pace.lock().await;
        if self.routes.read().generation > seen {
            return Ok(());
        }
        if pace.last.is_none_or(|last| last.elapsed() > PACE_FORGETS) {
            pace.step = 0;
        } else if let Some(last) = pace.last {
            let distance = PACE_MAX.min(PACE_MIN * (1 << pace.step.min(8)));
            sleep_until(last + jittered(distance)).await;
        }
        pace.last = Some(Instant::now());
        pace.step += 1;
        pace.turn = pace.turn.wrapping_add(1);
        self.linking.metrics.resolutions.inc();
        let slots = self.look_up(pace.turn).await?;
        let partitions = self
            .count
            .all()
            .map(|partition| {
                let slot = self.keys.slot_of(partition);
                let owner = slots.iter().find(|(last, _)| slot <= *last);
                owner
                    .map(|(_, node)| node.clone())
                    .ok_or_else(|| Failure::Busy(format!("nobody serves slot {slot}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut routes = self.routes.write();
        let generation = routes.generation + 1;
        *routes = Arc::new(Routes {
            generation,
            partitions,
            slots,
        });
        Ok(())
    }

    /// Whether the sentinels name another primary than the one in use. Only they know of one that
    /// was cut off and has not noticed.
    pub(crate) async fn is_misplaced(&self) -> bool {
        let Place::Sentinel { sentinels, service } = &self.place else {
            return false;
        };
        let routes = self.routes();
        match resolve::by_sentinels(&self.linking, sentinels, service).await {
            Ok(address) => routes.slots.iter().any(|(_, node)| node.address != address),
            // No sentinel answers: no reason to leave a primary that does.
            Err(_) => false,
        }
    }

    async fn look_up(&self, turn: usize) -> Result<Vec<(u16, Arc<Node>)>, Failure> {
        const ALL: u16 = crate::keys::SLOTS - 1;
        let known = self.known();
        match &self.place {
            // Connections are checked one by one as they are made.
            Place::Single(address) => Ok(vec![(ALL, self.node(&known, address)?)]),
            Place::Sentinel { sentinels, service } => {
                let address = resolve::by_sentinels(&self.linking, sentinels, service).await?;
                let info = self.linking.dial.server(&address);
                let response = self.linking.patience.response;
                let mut link = self.linking.connect(info, "topology", response).await?;
                require_primary(&mut link, response).await?;
                Ok(vec![(ALL, self.node(&known, &address)?)])
            }
            Place::Cluster { seeds } => {
                let mut candidates: Vec<Address> = known.keys().cloned().collect();
                candidates.sort_by_key(ToString::to_string);
                candidates.extend(
                    seeds
                        .iter()
                        .filter(|seed| !known.contains_key(*seed))
                        .cloned(),
                );
                let first = turn % candidates.len();
                candidates.rotate_left(first);
                let runs = resolve::by_cluster(&self.linking, &candidates).await?;
                runs.into_iter()
                    .map(|(last, address)| Ok((last, self.node(&known, &address)?)))
                    .collect()
            }
        }
    }

    fn known(&self) -> HashMap<Address, Arc<Node>> {
        let routes = self.routes();
        routes
            .slots
            .iter()
            .map(|(_, node)| (node.address.clone(), node.clone()))
            .collect()
    }

    /// Keeps the links of a node that stays.
    fn node(
        &self,
        known: &HashMap<Address, Arc<Node>>,
        address: &Address,
    ) -> Result<Arc<Node>, Failure> {
        match known.get(address) {
            Some(node) => Ok(node.clone()),
            None => Ok(Arc::new(Node::new(address.clone(), self.linking.clone())?)),
        }
    }
}

/// Half to the whole of a pause, so that instances do not come all at once.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}
