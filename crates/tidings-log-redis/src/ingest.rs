//! Direct ingest: what backends write to `<prefix>:ingest` with a plain `XADD`, drained in order by
//! one instance at a time (LOG.md §7, DESIGN §4).
//!
//! The instance that holds the lease reads as the one consumer of a group, pending entries first.
//! It appends each entry under the entry's own id as dedup key, and only then takes it out. So an
//! instance that dies in between costs nothing: its successor reads the same entries again and the
//! log stores none of them twice. One that only slept is fenced: taking out checks the lease.
//! Reading the entries' fields is not done here: what they mean is the server's business.

mod entries;
mod lease;

pub use entries::RawEntry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng as _;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub(crate) use self::entries::raw_entries;
use self::lease::Lease;
use crate::failure::Failure;
use crate::keys::{Keys, slot_of_key};
use crate::link::Node;
use crate::scripts::{self, LEASE, SETTLE};
use crate::topology::{Topology, jittered};

const GROUP: &str = "tidings";
/// One name for every holder of the lease: what one left pending is its successor's.
const CONSUMER: &str = "drain";

/// How direct ingest is drained.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Entries handed out at a time. Default 100: one append takes 128 drafts.
    pub batch: usize,
    /// How long the lease outlives its holder. Default 5 s; renewed every third of it.
    pub lease: Duration,
    /// How long a read waits for entries. Default 2 s.
    pub block: Duration,
    /// Refused entries that are kept, about. Default 10,000.
    pub refused_max: usize,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            batch: 100,
            lease: Duration::from_secs(5),
            block: Duration::from_secs(2),
            refused_max: 10_000,
        }
    }
}

/// Why an entry could not be taken out. It comes again, here or at another instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Another instance drains now, or may soon: ask for the next entries, which waits for the lease.
    #[error("the lease on direct ingest is lost")]
    LeaseLost,
    /// Redis is out of reach, or has no room for a refused entry.
    #[error("direct ingest is out of reach: {0}")]
    Unavailable(String),
}

/// Drains direct ingest, when it is this instance's turn.
#[derive(Debug)]
pub struct IngestDrain {
    topology: Arc<Topology>,
    keys: Keys,
    options: IngestOptions,
    owner: String,
    /// Whether the lease was held when it was last asked about.
    held: Arc<AtomicBool>,
    renewal: Option<JoinHandle<()>>,
    link: Option<MultiplexedConnection>,
    /// Whether entries may be pending that were handed out before, or to a predecessor.
    look_back: bool,
    /// Entries handed out and not yet taken out.
    unsettled: usize,
    complained: bool,
}

impl Drop for IngestDrain {
    fn drop(&mut self) {
        self.stop_renewing();
    }
}

impl IngestDrain {
    pub(crate) fn new(topology: Arc<Topology>, keys: Keys, options: IngestOptions) -> Self {
        Self {
            topology,
            keys,
            options,
            owner: format!("{:016x}", rand::rng().random::<u64>()),
            held: Arc::default(),
            renewal: None,
            link: None,
            look_back: true,
            unsettled: 0,
            complained: false,
        }
    }

    /// The next entries in order, at least one: waits for the lease, for entries, and for Redis.
    ///
    /// Entries that were handed out and neither [`done`](Self::done) nor
    /// [`refused`](Self::refuse) come again first. Cancel-safe: nothing is lost by dropping the
    /// future.
    pub async fn next(&mut self) -> Vec<RawEntry> {
        loop {
            let routes = self.topology.routes();
            match self.try_next().await {
                Ok(Some(entries)) => {
                    self.complained = false;
                    self.unsettled = entries.len();
                    return entries;
                }
                Ok(None) => self.complained = false,
                Err(failure) => {
                    self.link = None;
                    self.look_back = true;
                    if !std::mem::replace(&mut self.complained, true) {
                        tracing::warn!(reason = failure.reason(), "direct ingest waits");
                    }
                    if failure.wants_resolving() {
                        let _ = self.topology.renew(routes.generation).await;
                    } else {
                        // A full Redis or a key of another type: it takes somebody's hand.
                        sleep(self.options.block).await;
                    }
                }
            }
        }
    }

    /// Takes entries out that were appended.
    ///
    /// # Errors
    /// [`IngestError`]: they come again, and appending them again under their ids stores nothing.
    pub async fn done(&mut self, ids: &[String]) -> Result<(), IngestError> {
        self.settle(ids).await?;
        self.count("taken", ids.len());
        Ok(())
    }

    /// Moves an entry that cannot be taken to `<prefix>:ingest:refused`, under the same id, with
    /// the reason before its fields. Entries are refused in their order.
    ///
    /// # Errors
    /// [`IngestError`]: the entry comes again; refusing it again does not double it.
    pub async fn refuse(&mut self, entry: &RawEntry, reason: &str) -> Result<(), IngestError> {
        let key = self.keys.ingest_refused();
        let node = self.node(&key)?;
        match node
            .ask(&self.refusal(&key, &entry.id, entry, reason))
            .await
        {
            Ok(_) => {}
            // Redis' own words for an id that is not above the stream's last one.
            Err(Failure::Refused(said)) if said.contains("equal or smaller") => {
                let mut look = redis::cmd("XRANGE");
                look.arg(&key).arg(&entry.id).arg(&entry.id);
                let there = node.ask(&look).await.map_err(out_of_reach)?;
                if there == Value::Array(Vec::new()) {
                    // Out of order, because the ingest stream was made anew: under an id of its own.
                    node.ask(&self.refusal(&key, "*", entry, reason))
                        .await
                        .map_err(out_of_reach)?;
                }
            }
            Err(failure) => return Err(out_of_reach(failure)),
        }
        self.settle(std::slice::from_ref(&entry.id)).await?;
        self.count("refused", 1);
        Ok(())
    }

    /// Gives the lease back, so that another instance need not wait until it runs out.
    pub async fn release(mut self) {
        self.stop_renewing();
        let lease = self.keys.ingest_lease();
        if let Ok(node) = self.node(&lease) {
            let mut call = LEASE.call(&[lease]);
            // No lifetime left: the key goes, if it is ours.
            call.arg(&self.owner).arg(0).arg(0);
            let _ = node.ask_script(&LEASE, vec![call]).await;
        }
    }

    async fn try_next(&mut self) -> Result<Option<Vec<RawEntry>>, Failure> {
        if !self.held.load(Ordering::Acquire) && !self.take_lease().await? {
            sleep(jittered(self.options.lease / 3)).await;
            return Ok(None);
        }
        let ingest = self.keys.ingest();
        if self.link.is_none() {
            self.link = Some(self.open(&ingest).await?);
        }
        if self.look_back || self.unsettled > 0 {
            let (entries, gone) = self.read(&ingest, "0").await?;
            if !gone.is_empty() && self.settle(&gone).await.is_err() {
                return Ok(None);
            }
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
            self.look_back = !gone.is_empty();
            self.unsettled = 0;
            return Ok(None);
        }
        // Until the answer is here it is not known what was handed out.
        self.look_back = true;
        let (entries, _) = self.read(&ingest, ">").await?;
        self.look_back = false;
        Ok((!entries.is_empty()).then_some(entries))
    }

    /// Entries, and the ids of pending ones that somebody has deleted.
    async fn read(
        &mut self,
        ingest: &str,
        from: &str,
    ) -> Result<(Vec<RawEntry>, Vec<String>), Failure> {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP")
            .arg(GROUP)
            .arg(CONSUMER)
            .arg("COUNT")
            .arg(self.options.batch);
        if from == ">" {
            cmd.arg("BLOCK")
                .arg(u64::try_from(self.options.block.as_millis()).unwrap_or(u64::MAX));
        }
        cmd.arg("STREAMS").arg(ingest).arg(from);
        let patience = self.options.block + self.topology.linking.patience.response;
        let Some(link) = &mut self.link else {
            return Ok(Default::default());
        };
        let answer = scripts::ask(link, &cmd, patience).await?;
        raw_entries(answer)
            .ok_or_else(|| Failure::Refused("Redis answered in an unknown way".to_owned()))
    }

    async fn open(&self, ingest: &str) -> Result<MultiplexedConnection, Failure> {
        let routes = self.topology.routes();
        let node = routes
            .node_of_slot(slot_of_key(ingest))
            .ok_or_else(nowhere)?;
        let response = self.topology.linking.patience.response;
        let mut link = node
            .dedicated("ingest", self.options.block + response)
            .await?;
        let mut cmd = redis::cmd("XGROUP");
        // From the beginning: what was written before the first hub started counts as well.
        cmd.arg("CREATE")
            .arg(ingest)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM");
        match scripts::ask(&mut link, &cmd, response).await {
            Err(Failure::Refused(said)) if said.contains("BUSYGROUP") => Ok(link),
            Err(failure) => Err(failure),
            Ok(_) => Ok(link),
        }
    }

    async fn take_lease(&mut self) -> Result<bool, Failure> {
        self.stop_renewing();
        let lease = Lease {
            topology: self.topology.clone(),
            key: self.keys.ingest_lease(),
            owner: self.owner.clone(),
            lifetime: self.options.lease,
        };
        if !lease.ask(true).await? {
            return Ok(false);
        }
        self.held.store(true, Ordering::Release);
        // A predecessor may have left entries pending.
        self.look_back = true;
        self.renewal = Some(tokio::spawn(lease.renew(self.held.clone())));
        Ok(true)
    }

    fn stop_renewing(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.abort();
        }
        self.held.store(false, Ordering::Release);
    }

    async fn settle(&mut self, ids: &[String]) -> Result<(), IngestError> {
        let ingest = self.keys.ingest();
        let node = self.node(&ingest)?;
        let mut call = SETTLE.call(&[self.keys.ingest_lease(), ingest]);
        call.arg(&self.owner).arg(GROUP).arg(ids);
        let answers = node
            .ask_script(&SETTLE, vec![call])
            .await
            .map_err(out_of_reach)?;
        if answers.first() == Some(&Value::Int(1)) {
            self.unsettled = self.unsettled.saturating_sub(ids.len());
            return Ok(());
        }
        self.stop_renewing();
        Err(IngestError::LeaseLost)
    }

    fn refusal(&self, key: &str, id: &str, entry: &RawEntry, reason: &str) -> Cmd {
        let mut cmd = redis::cmd("XADD");
        cmd.arg(key)
            .arg("MAXLEN")
            .arg("~")
            .arg(self.options.refused_max)
            .arg(id);
        cmd.arg("reason").arg(reason);
        if id == "*" {
            cmd.arg("entry").arg(&entry.id);
        }
        for (name, value) in &entry.fields {
            cmd.arg(&name[..]).arg(&value[..]);
        }
        cmd
    }

    fn node(&self, key: &str) -> Result<Arc<Node>, IngestError> {
        let routes = self.topology.routes();
        routes
            .node_of_slot(slot_of_key(key))
            .cloned()
            .ok_or_else(|| out_of_reach(nowhere()))
    }

    fn count(&self, outcome: &str, entries: usize) {
        let ingested = &self.topology.linking.metrics.ingested;
        ingested
            .with_label_values(&[outcome])
            .inc_by(entries as u64);
    }
}

fn nowhere() -> Failure {
    Failure::Busy("no node serves direct ingest".to_owned())
}

fn out_of_reach(failure: Failure) -> IngestError {
    IngestError::Unavailable(failure.reason().to_owned())
}
