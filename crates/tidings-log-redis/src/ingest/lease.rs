//! The lease on direct ingest: a key with its owner's name and a lifetime, renewed while it is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;
use tokio::time::sleep;

use super::nowhere;
use crate::failure::Failure;
use crate::keys::slot_of_key;
use crate::scripts::LEASE;
use crate::topology::Topology;

/// The lease, as its renewal needs it.
pub(super) struct Lease {
    pub(super) topology: Arc<Topology>,
    pub(super) key: String,
    pub(super) owner: String,
    pub(super) lifetime: Duration,
}

impl Lease {
    /// Takes it if it is free, or only renews it; whether it is held.
    pub(super) async fn ask(&self, take: bool) -> Result<bool, Failure> {
        let routes = self.topology.routes();
        let node = routes
            .node_of_slot(slot_of_key(&self.key))
            .ok_or_else(nowhere)?;
        let mut call = LEASE.call(std::slice::from_ref(&self.key));
        call.arg(&self.owner)
            .arg(u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX))
            .arg(u8::from(take));
        let answers = node.ask_script(&LEASE, vec![call]).await?;
        Ok(answers.first() == Some(&Value::Int(1)))
    }

    pub(super) async fn renew(self, held: Arc<AtomicBool>) {
        loop {
            sleep(self.lifetime / 3).await;
            // Out of reach is not lost: Redis decides, when entries are taken out.
            if let Ok(false) = self.ask(false).await {
                held.store(false, Ordering::Release);
                return;
            }
        }
    }
}
