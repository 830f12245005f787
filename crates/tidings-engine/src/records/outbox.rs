//! Outboxes: what a commit handed to somewhere else is delivered, in order, by whoever holds the
//! partition's relay lease.
//!
//! The instance that committed takes a turn at once; if another relay is busy there, that one
//! finds the entry before it gives the lease back. A slow look over all partitions picks up what a
//! dead relay left. Delivery is at least once; its target knows it by a name derived from the
//! commit's.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, maybe_done, select};
use futures_util::stream::FuturesUnordered;
use tidings_core::record::RELAY_LEASE;
use tidings_core::{
    CallError, CommandError, Dedup, Draft, LogError, OutboxEntry, OutboxItem, Partition, Relay,
};

use crate::hub::{Hub, PublishError};
use crate::limits::{
    CALL_PATIENCE_MAX, CALL_TRIES, OUTBOX_PAGE, OUTBOX_SWEEP, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN,
};

/// How often a turn is taken while a delivery goes on.
const KEEP_EVERY: Duration = RELAY_LEASE.checked_div(3).expect("three is not nought");

/// How long a target remembers a delivery: an outbox whose relays were all away for longer may be
/// delivered twice.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What became of one delivery.
enum Delivered {
    Yes,
    /// Never: it is counted, logged and dropped, or it would hold up the rest for ever.
    Dropped(String),
    Later(String),
}

/// Relays until it is dropped.
pub(crate) async fn run(hub: Hub) {
    if hub.registrar().names().is_empty() {
        return;
    }
    // Side by side: a turn that is not asked while something else is awaited keeps the connection that
    // it was given, and all of them together would keep them all.
    tokio::join!(relay_all(&hub), count_all(&hub));
}

/// A slow look, and not in the same moment as other instances.
fn sweep() -> tokio::time::Interval {
    let mut sweep = tokio::time::interval(OUTBOX_SWEEP.mul_f64(0.75 + rand::random::<f64>() / 2.0));
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    sweep
}

async fn relay_all(hub: &Hub) {
    let mut sweep = sweep();
    let mut turns = FuturesUnordered::new();
    // Partitions under way, and whether they were nudged meanwhile: a turn that has just found its
    // outbox empty may not have seen what the nudge is about.
    let mut under_way: BTreeMap<Partition, bool> = BTreeMap::new();
    loop {
        let mut wanted = BTreeSet::new();
        tokio::select! {
            nudged = hub.registrar().nudged() => wanted = nudged,
            _ = sweep.tick() => wanted.extend(hub.log().partitions().all()),
            Some(partition) = turns.next(), if !turns.is_empty() => {
                if under_way.remove(&partition) == Some(true) {
                    wanted.insert(partition);
                }
            }
        }
        for partition in wanted {
            match under_way.entry(partition) {
                Entry::Occupied(mut again) => *again.get_mut() = true,
                Entry::Vacant(free) => {
                    free.insert(false);
                    turns.push(relay(hub, partition));
                }
            }
        }
    }
}

async fn count_all(hub: &Hub) {
    let mut sweep = sweep();
    loop {
        sweep.tick().await;
        count(hub).await;
    }
}

/// Reports how much waits.
async fn count(hub: &Hub) {
    let mut waiting = 0;
    for partition in hub.log().partitions().all() {
        match hub.log().records().outbox_depth(partition).await {
            Ok(depth) => waiting += depth,
            Err(_) => return, // the log's absence has its own metric
        }
    }
    let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
    hub.registrar().metrics.outbox.set(waiting);
}

/// Relays one partition's outbox until it is empty, or another's.
async fn relay(hub: &Hub, partition: Partition) -> Partition {
    let (mut delivered, mut pause) = (Vec::new(), RETRY_PAUSE_MIN);
    let me = hub.registrar().relay;
    loop {
        let done = std::mem::take(&mut delivered);
        let turn = hub.log().records().relay(partition, me, done, OUTBOX_PAGE);
        let entries = match turn.await {
            Ok(Relay::Entries(entries)) => entries,
            Ok(Relay::Empty | Relay::Busy) => return partition,
            Err(error) => {
                // What was delivered comes again and is known by its name.
                tracing::debug!(%error, "an outbox could not be read; trying again");
                return partition;
            }
        };
        for entry in entries {
            let id = entry.id;
            match delivering(hub, partition, entry).await {
                Delivered::Yes => {
                    hub.registrar().metrics.delivery("delivered");
                    pause = RETRY_PAUSE_MIN;
                }
                Delivered::Dropped(reason) => {
                    hub.registrar().metrics.delivery("dropped");
                    tracing::error!(reason, "an outbox entry cannot be delivered and is dropped");
                }
                Delivered::Later(reason) => {
                    hub.registrar().metrics.delivery("retried");
                    tracing::debug!(reason, "an outbox entry is delivered later");
                    tokio::time::sleep(pause).await;
                    pause = Duration::min(pause * 2, RETRY_PAUSE_MAX);
                    break; // the next turn keeps the lease and hands it out again
                }
            }
            delivered.push(id);
        }
    }
}

/// Delivers, and keeps the lease if that takes long.
async fn delivering(hub: &Hub, partition: Partition, entry: OutboxEntry) -> Delivered {
    let me = hub.registrar().relay;
    let mut delivering = pin!(maybe_done(deliver(hub, entry)));
    loop {
        // What it came to is looked at below.
        let _ = tokio::time::timeout(KEEP_EVERY, &mut delivering).await;
        if let Some(delivered) = delivering.as_mut().take_output() {
            return delivered;
        }
        // Both go on meanwhile: either may hold what the other one waits for. And the turn is not given
        // up half-way, or it could take the lease again after it was given back.
        let turn = hub.log().records().relay(partition, me, Vec::new(), 1);
        if let Either::Right(((), turn)) = select(turn, &mut delivering).await {
            // A log that is away keeps no lease; that is found out by the next turn.
            let _ = turn.await;
        }
    }
}

async fn deliver(hub: &Hub, entry: OutboxEntry) -> Delivered {
    let id = entry.commit.derived(entry.index);
    match entry.item {
        OutboxItem::Draft(draft) => {
            let draft = known_as(draft, &id.to_string());
            match hub.publish(vec![draft]).await.pop() {
                Some(Ok(_)) => Delivered::Yes,
                Some(Err(PublishError::Log(error))) => after(&error),
                Some(Err(PublishError::Draining)) | None => Delivered::Later("leaving".into()),
                Some(Err(error)) => Delivered::Dropped(error.to_string()),
            }
        }
        OutboxItem::Flash(draft) => match hub.flash(vec![draft]).await {
            Ok(()) => Delivered::Yes,
            Err(PublishError::Log(error)) => match &*error {
                // At most once; and nothing waits behind what is worth so little while there is no room.
                LogError::FateUnknown(_) | LogError::Full(_) => Delivered::Yes,
                error => after(error),
            },
            Err(PublishError::Draining) => Delivered::Later("leaving".into()),
            Err(error) => Delivered::Dropped(error.to_string()),
        },
        OutboxItem::Command(command) => match hub.command_as(id, REMEMBERED, command).await {
            Ok(_) | Err(CommandError::Duplicate { .. }) => Delivered::Yes,
            Err(CommandError::Log(error)) => after(&error),
            // Whoever would have owned it is gone, and does not come back.
            Err(error @ (CommandError::Undecided(_) | CommandError::Fenced)) => {
                Delivered::Dropped(error.to_string())
            }
            Err(error) => Delivered::Later(error.to_string()),
        },
        OutboxItem::Call(mut call) => {
            call.patience = call.patience.min(CALL_PATIENCE_MAX);
            let Some(outside) = &hub.registrar().outside else {
                return Delivered::Dropped(CallError::NotSetUp.to_string());
            };
            let mut why = String::new();
            for attempt in 0..CALL_TRIES {
                if attempt > 0 {
                    tokio::time::sleep(RETRY_PAUSE_MIN * 2_u32.pow(attempt)).await;
                }
                match outside.call(call.clone()).await {
                    Ok(answer) if answer.status < 300 => return Delivered::Yes,
                    Ok(answer) => why = format!("answered {}", answer.status),
                    Err(error) => why = error.to_string(),
                }
            }
            Delivered::Dropped(format!("a call to a server outside: {why}"))
        }
    }
}

/// The log knows the draft by the name of its outbox entry, unless its publisher named it.
fn known_as(mut draft: Draft, name: &str) -> Draft {
    draft.dedup.get_or_insert_with(|| Dedup {
        // A line feed stands in no source: no publisher's scope is the same.
        scope: format!("{}\n\noutbox", draft.topic).into(),
        key: name.into(),
        lifetime_ms: Dedup::LIFETIME_MS,
    });
    draft
}

fn after(error: &LogError) -> Delivered {
    match error {
        LogError::Refused(_) | LogError::Misconfigured(_) => Delivered::Dropped(error.to_string()),
        _ => Delivered::Later(error.to_string()),
    }
}
