//! One primary, one replica and three sentinels, with every link between them in our hand.
//!
//! Each of the two servers stands behind a [`TcpProxy`], and the proxy's address is the one that sentinels know and hand
//! out; they put a server right that replicates from any other. Replication comes from 127.0.0.2 and the sentinels from
//! 127.0.0.3, so one kind of link can be cut while clients (127.0.0.1) notice nothing: that is how a primary goes on
//! acknowledging writes that its successor never gets. Killing the replication client instead was rejected: the replica
//! is back within a second, and the write survives.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use redis::FromRedisValue;

use super::{READY_DEADLINE, RedisServer, RedisServerBuilder, wait_for};

/// The name that the sentinels watch the primary under.
const SERVICE: &str = "mymaster";

/// Where replication links come from.
const REPLICATION: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Where the sentinels' links come from.
const SENTINELS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A sentinel takes a primary for dead after this silence. Shorter, and a busy machine alone would cause failovers.
const DOWN_AFTER_MS: u32 = 1_500;

/// A failed election is tried again after twice this.
const FAILOVER_TIMEOUT_MS: u32 = 3_000;

/// Silence, an election delay of up to one second, two polls of a second: under five seconds. An election with a split
/// vote costs six more.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(20);

/// Options that both servers share.
#[derive(Clone, Debug, Default)]
pub struct SentinelBuilder {
    server: RedisServerBuilder,
}

impl SentinelBuilder {
    /// See [`RedisServerBuilder::append_only`].
    pub fn append_only(mut self) -> Self {
        self.server = self.server.append_only();
        self
    }

    /// Adds a line to both servers' configuration.
    pub fn config(mut self, line: &str) -> Self {
        self.server = self.server.config(line);
        self
    }

    /// Starts all five processes and waits until the replica is in step and the sentinels know each other and it.
    pub async fn start(self) -> Result<Sentinel> {
        let server = self
            .server
            .proxied()
            .config(&format!("bind-source-addr {REPLICATION}"));
        let primary = server.clone().start().await?;
        let replica = server.replica_of(primary.address()).start().await?;
        primary.wait_for_replica(&replica).await?;
        let sentinel = sentinel_of(primary.address());
        let sentinels = try_join_all((0..3).map(|_| sentinel.clone().start())).await?;
        let set = Sentinel {
            servers: [primary, replica],
            sentinels,
            primary: AtomicUsize::new(0),
        };
        set.wait_until_watched().await?;
        Ok(set)
    }
}

fn sentinel_of(primary: SocketAddr) -> RedisServerBuilder {
    let (ip, port) = (primary.ip(), primary.port());
    RedisServer::builder()
        .sentinel()
        .config(&format!("bind-source-addr {SENTINELS}"))
        // Otherwise it announces the address that its links come from, where it does not listen.
        .config("sentinel announce-ip 127.0.0.1")
        .config(&format!("sentinel monitor {SERVICE} {ip} {port} 2"))
        .config(&format!(
            "sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}"
        ))
        .config(&format!(
            "sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MS}"
        ))
}

/// The running set. Dropping it kills all five.
#[derive(Debug)]
pub struct Sentinel {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
    /// Which of the servers is the primary, as far as we waited for it.
    primary: AtomicUsize,
}

impl Sentinel {
    pub fn builder() -> SentinelBuilder {
        SentinelBuilder::default()
    }

    /// The set with the defaults: nothing kept on disk.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// `redis+sentinel://127.0.0.1:p1,127.0.0.1:p2,127.0.0.1:p3/mymaster`
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.address().to_string())
            .collect();
        format!("redis+sentinel://{}/{SERVICE}", addresses.join(","))
    }

    /// The primary: the first server, after [`Self::wait_for_failover`] the other one.
    pub fn primary(&self) -> &RedisServer {
        &self.servers[self.primary.load(SeqCst)]
    }

    /// The server that is not the primary. After a failover that is the old primary, be it dead or alive.
    pub fn replica(&self) -> &RedisServer {
        &self.servers[1 - self.primary.load(SeqCst)]
    }

    /// The three sentinels, which can be killed and paused like any server.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// Cuts replication between the two servers, and nothing else, until [`Self::heal`]: what the primary acknowledges
    /// from now on is lost in a failover. Kill the primary within ten seconds: sentinels promote no replica whose link
    /// was down for ten times the silence that they take for death (here 15 s).
    pub async fn cut_replication(&self) -> Result<()> {
        for server in &self.servers {
            server.cut_from(REPLICATION).await?;
        }
        Ok(())
    }

    /// Cuts the primary off from the replica and the sentinels, but not from clients, until [`Self::heal`]: a failover
    /// follows while it lives on, takes itself for the primary and acknowledges writes.
    pub async fn isolate_primary(&self) -> Result<()> {
        self.cut_replication().await?;
        self.primary().cut_from(SENTINELS).await
    }

    /// Mends every link.
    pub async fn heal(&self) -> Result<()> {
        for server in &self.servers {
            server.heal().await?;
        }
        Ok(())
    }

    /// SIGKILL to the primary.
    pub async fn kill_primary(&self) -> Result<()> {
        self.primary().kill().await
    }

    /// Waits until every living sentinel names the former replica and that says of itself that it is the primary. From
    /// then on [`Self::primary`] is that one.
    pub async fn wait_for_failover(&self) -> Result<()> {
        let successor = self.replica();
        wait_for("a failover", FAILOVER_DEADLINE, || async {
            for sentinel in self.living_sentinels().await? {
                let named = primary_named_by(sentinel).await?;
                ensure!(named == successor.address(), "a sentinel names {named}");
            }
            let role = successor.role().await?;
            ensure!(role == "master", "the successor's role is {role}");
            Ok(())
        })
        .await
        .with_context(|| self.logs())?;
        self.primary.fetch_xor(1, SeqCst);
        Ok(())
    }

    /// After a failover: starts the old primary again. It takes itself for a primary until the sentinels correct it.
    pub async fn restart_old_primary(&self) -> Result<()> {
        self.replica().restart().await
    }

    /// After [`Self::restart_old_primary`] or [`Self::heal`]: waits until the old primary is the new one's replica and
    /// in step. The sentinels correct it two or three seconds after they have seen it.
    pub async fn wait_for_rejoin(&self) -> Result<()> {
        let replica = self.replica();
        wait_for("the old primary to rejoin", FAILOVER_DEADLINE, || async {
            let role = replica.role().await?;
            ensure!(role == "slave", "its role is {role}");
            Ok(())
        })
        .await
        .with_context(|| self.logs())?;
        self.primary().wait_for_replica(replica).await
    }

    /// Waits until the replica has everything that was written to the primary before this call.
    pub async fn wait_for_replication(&self) -> Result<()> {
        self.primary().wait_for_replica(self.replica()).await
    }

    fn logs(&self) -> String {
        let logs: Vec<String> = self.sentinels.iter().map(RedisServer::log_tail).collect();
        format!("the sentinels' logs:\n{}", logs.join("\n--\n"))
    }

    async fn living_sentinels(&self) -> Result<Vec<&RedisServer>> {
        let mut living = Vec::new();
        for sentinel in &self.sentinels {
            if sentinel.is_running().await {
                living.push(sentinel);
            }
        }
        ensure!(!living.is_empty(), "no sentinel lives");
        Ok(living)
    }

    async fn wait_until_watched(&self) -> Result<()> {
        for sentinel in &self.sentinels {
            wait_for(
                "the sentinels to know each other and the replica",
                READY_DEADLINE,
                || async {
                    sentinel.command(&["SENTINEL", "CKQUORUM", SERVICE]).await?;
                    let others = listed(sentinel, "SENTINELS").await?;
                    ensure!(others == 2, "{others} other sentinels are known");
                    let replicas = listed(sentinel, "REPLICAS").await?;
                    ensure!(replicas == 1, "{replicas} replicas are known");
                    Ok(())
                },
            )
            .await?;
        }
        Ok(())
    }
}

/// How many entries a sentinel lists under `what`.
async fn listed(sentinel: &RedisServer, what: &str) -> Result<usize> {
    let entries = sentinel.command(&["SENTINEL", what, SERVICE]).await?;
    Ok(Vec::<redis::Value>::from_redis_value(entries)?.len())
}

async fn primary_named_by(sentinel: &RedisServer) -> Result<SocketAddr> {
    let answer = sentinel
        .command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])
        .await?;
    let (ip, port) = <(String, u16)>::from_redis_value(answer)?;
    Ok((ip.parse::<IpAddr>()?, port).into())
}
