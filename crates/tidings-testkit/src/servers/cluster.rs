//! A Redis Cluster of three masters, each with a replica if asked for, whose slots can be moved.
//!
//! Put together with Redis' own commands and not by `redis-cli --cluster create`: that is a second program whose output
//! would have to be read, and it returns before all nodes agree. Questions about the slots are put to every living node,
//! and only what all of them say counts.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use redis::FromRedisValue;

use super::{READY_DEADLINE, RedisServer, RedisServerBuilder, wait_for};

const MASTERS: usize = 3;
const SLOTS: u16 = 16_384;

/// A node takes another for dead after this silence. Shorter, and a busy machine alone would cause failovers.
const NODE_TIMEOUT_MS: u32 = 1_500;

/// Silence, the masters' agreement, and the replica's election delay of up to a second take under four seconds; a
/// split vote is tried again after six.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(20);

/// Options that all nodes share.
#[derive(Clone, Debug, Default)]
pub struct ClusterBuilder {
    server: RedisServerBuilder,
    replicas: bool,
}

impl ClusterBuilder {
    /// Gives each master one replica, which takes over when the master dies.
    pub fn replicas(mut self) -> Self {
        self.replicas = true;
        self
    }

    /// See [`RedisServerBuilder::append_only`]. Without replicas a killed master's data is gone otherwise.
    pub fn append_only(mut self) -> Self {
        self.server = self.server.append_only();
        self
    }

    /// Adds a line to every node's configuration.
    pub fn config(mut self, line: &str) -> Self {
        self.server = self.server.config(line);
        self
    }

    /// Starts the nodes, joins them and waits until every node says that all slots are served.
    pub async fn start(self) -> Result<Cluster> {
        let server = self
            .server
            .cluster_node()
            .config("cluster-enabled yes")
            .config("cluster-config-file nodes.conf")
            .config(&format!("cluster-node-timeout {NODE_TIMEOUT_MS}"))
            // A replica stands for election however long its link was down: on a busy machine it may be a while.
            .config("cluster-replica-validity-factor 0");
        let count = if self.replicas { 2 * MASTERS } else { MASTERS };
        let nodes = try_join_all((0..count).map(|_| server.clone().start())).await?;
        let ids = try_join_all(nodes.iter().map(|node| async {
            anyhow::Ok(String::from_redis_value(
                node.command(&["CLUSTER", "MYID"]).await?,
            )?)
        }))
        .await?;
        let cluster = Cluster { nodes, ids };
        cluster.join().await?;
        Ok(cluster)
    }
}

/// The running cluster: nodes 0 to 2 begin as masters, 3 to 5 as the replicas of 0 to 2. Dropping it kills all nodes.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
}

impl Cluster {
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Three masters without replicas.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// `redis+cluster://127.0.0.1:p1,127.0.0.1:p2,127.0.0.1:p3`: the three nodes that began as masters.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self
            .nodes
            .iter()
            .take(MASTERS)
            .map(|node| node.address().to_string())
            .collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// All nodes, dead ones too.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The slot of a key, as the cluster computes it (hash tags observed).
    pub async fn slot_of(&self, key: &str) -> Result<u16> {
        let node = *self.living().await?.first().context("no node lives")?;
        Ok(u16::from_redis_value(
            self.nodes[node]
                .command(&["CLUSTER", "KEYSLOT", key])
                .await?,
        )?)
    }

    /// The index in [`Self::nodes`] of the master that all living nodes hold to be the slot's.
    pub async fn node_for_slot(&self, slot: u16) -> Result<usize> {
        wait_for(
            "the nodes to agree on a slot's master",
            READY_DEADLINE,
            || self.agreed_owner(slot),
        )
        .await
    }

    /// SIGKILL to the slot's master; answers its index.
    pub async fn kill_master_of(&self, slot: u16) -> Result<usize> {
        let master = self.node_for_slot(slot).await?;
        self.nodes[master].kill().await?;
        Ok(master)
    }

    /// After [`Self::kill_master_of`]: waits until all living nodes name a living master for the slot, that one agrees,
    /// and all slots are served. Answers its index.
    pub async fn wait_for_failover(&self, slot: u16) -> Result<usize> {
        wait_for("a failover", FAILOVER_DEADLINE, || async {
            let owner = self.agreed_owner(slot).await?;
            ensure!(
                self.nodes[owner].is_running().await,
                "the slot still belongs to the dead node {owner}"
            );
            let role = self.nodes[owner].role().await?;
            ensure!(role == "master", "the role of node {owner} is {role}");
            self.all_say_ok().await?;
            Ok(owner)
        })
        .await
    }

    /// Waits until every living node says `cluster_state:ok`, e.g. after a restart.
    pub async fn wait_until_ok(&self) -> Result<()> {
        wait_for("the cluster to be ok", READY_DEADLINE, || self.all_say_ok()).await
    }

    /// Moves a slot with its keys to another master while clients go on. See [`Self::begin_move`] for the middle of it.
    pub async fn move_slot(&self, slot: u16, to: usize) -> Result<()> {
        self.begin_move(slot, to).await?;
        self.finish_move(slot, to).await
    }

    /// The first half of a migration: from now on the slot's master answers `ASK` for keys that it does not have (or
    /// has no longer), and `TRYAGAIN` when it has some of a command's keys.
    pub async fn begin_move(&self, slot: u16, to: usize) -> Result<()> {
        let from = self.node_for_slot(slot).await?;
        ensure!(from != to, "slot {slot} is node {to}'s already");
        let slot = slot.to_string();
        // The target first: it must know when the first client comes with ASKING.
        self.nodes[to]
            .command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]])
            .await?;
        self.nodes[from]
            .command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]])
            .await?;
        Ok(())
    }

    /// The second half: moves the keys, then the slot, and waits until all living nodes know.
    pub async fn finish_move(&self, slot: u16, to: usize) -> Result<()> {
        let from = self.node_for_slot(slot).await?;
        self.move_keys(slot, from, to).await?;
        let text = slot.to_string();
        // The target first, then the source: so no moment has a slot without a master.
        let others = self
            .living()
            .await?
            .into_iter()
            .filter(|node| ![from, to].contains(node));
        for node in [to, from].into_iter().chain(others) {
            // Replicas refuse and learn it from their masters.
            if self.nodes[node].role().await? == "master" {
                self.nodes[node]
                    .command(&["CLUSTER", "SETSLOT", &text, "NODE", &self.ids[to]])
                    .await?;
            }
        }
        wait_for("the slot to have moved", READY_DEADLINE, || async {
            let owner = self.agreed_owner(slot).await?;
            ensure!(owner == to, "all nodes still name node {owner}");
            Ok(())
        })
        .await
    }

    /// Closes the connections of all ordinary clients of all living nodes, as near to one moment as can be.
    pub async fn kill_clients(&self) -> Result<u64> {
        let living = self.living().await?;
        let killed = try_join_all(
            living
                .into_iter()
                .map(|node| self.nodes[node].kill_clients()),
        )
        .await?;
        Ok(killed.into_iter().sum())
    }

    async fn move_keys(&self, slot: u16, from: usize, to: usize) -> Result<()> {
        // One MIGRATE blocks both nodes; a page of this size takes them some milliseconds.
        const PAGE: &str = "100";
        let slot = slot.to_string();
        let target = self.nodes[to].address();
        let (host, port) = (target.ip().to_string(), target.port().to_string());
        loop {
            let keys = self.nodes[from]
                .command(&["CLUSTER", "GETKEYSINSLOT", &slot, PAGE])
                .await?;
            let keys = Vec::<Vec<u8>>::from_redis_value(keys)?;
            if keys.is_empty() {
                return Ok(());
            }
            // No single key (the empty one), database 0, at most four seconds: below our own time-out.
            let mut words: Vec<&[u8]> = vec![
                b"MIGRATE",
                host.as_bytes(),
                port.as_bytes(),
                b"",
                b"0",
                b"4000",
                b"KEYS",
            ];
            words.extend(keys.iter().map(Vec::as_slice));
            self.nodes[from].command(&words).await?;
        }
    }

    async fn join(&self) -> Result<()> {
        for (master, slots) in slots_of_masters().enumerate() {
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            self.nodes[master]
                .command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])
                .await?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            // Nodes that meet with equal epochs have to sort that out first.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])
                .await?;
        }
        for node in &self.nodes[1..] {
            let port = node.port().to_string();
            self.nodes[0]
                .command(&["CLUSTER", "MEET", "127.0.0.1", &port])
                .await?;
        }
        wait_for("the nodes to meet", READY_DEADLINE, || async {
            for index in 0..self.nodes.len() {
                let view = self.view_of(index).await?;
                ensure!(
                    view.len() == self.nodes.len(),
                    "node {index} knows {} nodes",
                    view.len()
                );
            }
            Ok(())
        })
        .await?;
        for (index, replica) in self.nodes.iter().enumerate().skip(MASTERS) {
            replica
                .command(&["CLUSTER", "REPLICATE", &self.ids[index - MASTERS]])
                .await?;
        }
        for (master, replica) in self.nodes.iter().zip(&self.nodes[MASTERS..]) {
            master.wait_for_replica(replica).await?;
        }
        wait_for("the cluster to be ok", READY_DEADLINE, || async {
            self.all_say_ok().await?;
            // A master that does not yet know a replica would not vote for it.
            for index in 0..self.nodes.len() {
                let replicas = self
                    .view_of(index)
                    .await?
                    .values()
                    .filter(|seen| seen.is_replica)
                    .count();
                ensure!(
                    replicas == self.nodes.len() - MASTERS,
                    "node {index} knows {replicas} replicas"
                );
            }
            Ok(())
        })
        .await
    }

    async fn living(&self) -> Result<Vec<usize>> {
        let mut living = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.is_running().await {
                living.push(index);
            }
        }
        Ok(living)
    }

    async fn agreed_owner(&self, slot: u16) -> Result<usize> {
        ensure!(slot < SLOTS, "there is no slot {slot}");
        let mut agreed = None;
        for index in self.living().await? {
            let view = self.view_of(index).await?;
            let owner = view
                .iter()
                .find(|(_, seen)| seen.slots.iter().any(|range| range.contains(&slot)));
            let (owner, _) =
                owner.with_context(|| format!("node {index} knows no master of slot {slot}"))?;
            let agreed = *agreed.get_or_insert(*owner);
            ensure!(
                agreed == *owner,
                "node {index} names node {owner}, another one node {agreed}"
            );
        }
        agreed.context("no node lives")
    }

    async fn all_say_ok(&self) -> Result<()> {
        for index in self.living().await? {
            let answer = self.nodes[index].command(&["CLUSTER", "INFO"]).await?;
            let info = String::from_redis_value(answer)?;
            ensure!(
                info.lines().any(|line| line == "cluster_state:ok"),
                "node {index} says: {info}"
            );
        }
        Ok(())
    }

    /// What one node knows of all of them, by index.
    async fn view_of(&self, node: usize) -> Result<BTreeMap<usize, Seen>> {
        let text =
            String::from_redis_value(self.nodes[node].command(&["CLUSTER", "NODES"]).await?)?;
        let mut view = BTreeMap::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            // A node that is still in its handshake has a passing id, and is not known.
            let Some(index) = self
                .ids
                .iter()
                .position(|id| fields.first() == Some(&id.as_str()))
            else {
                continue;
            };
            let flags = fields
                .get(2)
                .context("a line of CLUSTER NODES is too short")?;
            let slots = fields
                .iter()
                .skip(8)
                .filter_map(|slots| parse_slots(slots))
                .collect();
            view.insert(
                index,
                Seen {
                    is_replica: flags.contains("slave"),
                    slots,
                },
            );
        }
        Ok(view)
    }
}

#[derive(Debug)]
struct Seen {
    is_replica: bool,
    slots: Vec<RangeInclusive<u16>>,
}

/// `0-5460` or `7`; a slot under way, `[93-<-…]`, stands in addition to its owner's entry and is left out.
fn parse_slots(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// All slots in equal parts, the last taking what is left over.
fn slots_of_masters() -> impl Iterator<Item = RangeInclusive<u16>> {
    let part = SLOTS / MASTERS as u16;
    (0..MASTERS as u16).map(move |master| {
        let first = master * part;
        let last = if usize::from(master) == MASTERS - 1 {
            SLOTS - 1
        } else {
            first + part - 1
        };
        first..=last
    })
}
