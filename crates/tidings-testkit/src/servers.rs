//! The real servers that tests run against: Redis alone, behind Sentinel, as a Cluster, and a TCP proxy to cut links with.
//!
//! What the logs promise is about failures, and a double of Redis has none of its own: only the real program loses the
//! writes of a cut-off primary, answers `LOADING` after a crash or sends `ASK` in the middle of a slot migration. So every
//! server here is Debian's `redis-server` (7.0 or newer; another binary is named by `TIDINGS_REDIS_SERVER`) in a
//! temporary directory on a loopback port, and every fault is the real one: signals, cut sockets, lost processes.
//!
//! Dropping a server kills it, and a small shell beside it does so when the test process itself is killed. Needs Linux:
//! `/proc`, and the whole of 127.0.0.0/8 as loopback. Knows nothing of topics or events.

mod certificates;
mod cluster;
mod port;
mod process;
mod proxy;
mod redis_server;
mod sentinel;

pub use certificates::Certificates;
pub use cluster::{Cluster, ClusterBuilder};
pub use port::PortLease;
pub use proxy::TcpProxy;
pub use redis_server::{RedisServer, RedisServerBuilder};
pub use sentinel::{Sentinel, SentinelBuilder};

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// How long a server may take to come up or a set of servers to agree. Alone on the machine the slowest of them needs
/// four seconds; five times that covers two busy cores.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(20);

/// Asks `probe` until it answers `Ok`, and gives up after `deadline` with the last thing it complained about. An `Err`
/// of the probe means "not yet".
pub async fn wait_for<T, Probe, Answer>(
    what: &str,
    deadline: Duration,
    mut probe: Probe,
) -> Result<T>
where
    Probe: FnMut() -> Answer,
    Answer: Future<Output = Result<T>>,
{
    // Short against what is waited for (a fork, an election), long against the cost of one question.
    const PAUSE: Duration = Duration::from_millis(20);
    let end = Instant::now() + deadline;
    let mut last = String::from("nothing was answered");
    loop {
        match timeout_at(end, probe()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => {}
        }
        if Instant::now() + PAUSE >= end {
            bail!("waited {deadline:?} in vain for {what}: {last}");
        }
        sleep(PAUSE).await;
    }
}
