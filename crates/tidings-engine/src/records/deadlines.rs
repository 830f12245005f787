//! Deadlines: what has passed fires, as an ordinary commit that requires that it still stands.
//!
//! Every instance looks, with its own phase; the first commit wins and the others find it gone.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::record::COMMIT_REMEMBERED;
use tidings_core::{CommandError, CommitId, Deadline, Partition, Trigger};

use crate::hub::Hub;
use crate::limits::{DEADLINE_PAGE, DEADLINE_TICK};
use crate::records::command::Case;

/// Looks and fires until it is dropped.
pub(crate) async fn run(hub: Hub) {
    let kinds = hub.registrar().names();
    if kinds.is_empty() {
        return;
    }
    // Instances that started together must not look together.
    tokio::time::sleep(DEADLINE_TICK.mul_f64(rand::random())).await;
    let mut ticks = tokio::time::interval(DEADLINE_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let partitions = hub.log().partitions().all();
        let looks = partitions.map(|partition| look(&hub, partition, &kinds));
        futures_util::future::join_all(looks).await;
    }
}

/// Fires what has passed in one partition.
async fn look(hub: &Hub, partition: Partition, kinds: &[Arc<str>]) {
    loop {
        let records = hub.log().records();
        let due = match records.due(partition, kinds.to_vec(), DEADLINE_PAGE).await {
            Ok(due) => due,
            Err(error) => {
                tracing::debug!(%error, "deadlines could not be read; trying again");
                return;
            }
        };
        let more = due.deadlines.len() == DEADLINE_PAGE;
        for deadline in due.deadlines {
            if let Err(error) = fire(hub, partition, deadline.clone(), due.now_ms).await {
                let (kind, name) = (&deadline.record.kind, &deadline.name);
                match error {
                    CommandError::Undecided(_) => {
                        tracing::error!(%error, %kind, %name, "a deadline cannot fire");
                    }
                    _ => tracing::debug!(%error, %kind, %name, "a deadline fires later"),
                }
                // The log is away or the deadline is broken: neither gets better by insisting.
                return;
            }
        }
        if !more {
            return;
        }
    }
}

async fn fire(
    hub: &Hub,
    partition: Partition,
    deadline: Deadline,
    now_ms: u64,
) -> Result<(), CommandError> {
    let Some(kind) = hub.registrar().kind(&deadline.record.kind).cloned() else {
        return Ok(());
    };
    let case = Case {
        id: CommitId(rand::random()),
        remember: Duration::min(COMMIT_REMEMBERED, DEADLINE_TICK * 60),
        partition,
        records: vec![deadline.record.clone()],
        trigger: Trigger::Deadline {
            name: &deadline.name,
            at_ms: deadline.at_ms,
        },
        fires: Some(deadline.clone()),
        adopts: None,
        now_ms,
    };
    hub.decide(kind, case).await.map(drop)
}
