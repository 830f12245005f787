//! What the doctor has seen. `None` everywhere means: it could not be seen.

/// Everything that was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// How the servers stand together.
    pub kind: Kind,
    /// What the hub is configured for.
    pub expected: Expected,
    /// The primaries (or whatever stands in their place).
    pub nodes: Vec<NodeFacts>,
    /// Servers that should have been there and did not answer: address, reason.
    pub unreachable: Vec<(String, String)>,
    /// What is written about the log; `Some(None)` when there is no log yet.
    pub log: Option<Option<StoredLog>>,
    /// The sentinels, if there are any.
    pub sentinels: Vec<SentinelFacts>,
    /// The cluster, if it is one.
    pub cluster: Option<Cluster>,
}

/// How the servers stand together, as the URL says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One server.
    Single,
    /// A primary that sentinels watch.
    Sentinel,
    /// A cluster.
    Cluster,
}

/// What the hub is configured for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The version of the keys and entries that this program writes.
    pub layout: u32,
    /// P.
    pub partitions: u16,
    /// How long an event is retained.
    pub retention_ms: u64,
    /// Replicas that make an event replicated.
    pub replicas: u32,
}

/// What the log is fixed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLog {
    /// The version of its keys and entries.
    pub layout: u64,
    /// P.
    pub partitions: u64,
    /// How long an event is retained.
    pub retention_ms: u64,
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Where it is.
    pub address: String,
    /// What it is.
    pub version: Version,
    /// It is a cluster's node.
    pub cluster_mode: bool,
    /// It is a primary.
    pub is_primary: bool,
    /// Its memory.
    pub memory: Memory,
    /// Its files.
    pub persistence: Persistence,
    /// Its replicas.
    pub replication: Replication,
    /// Its clients.
    pub clients: Clients,
    /// `stream-node-max-bytes`.
    pub stream_node_bytes: Option<u64>,
    /// `stream-node-max-entries`.
    pub stream_node_entries: Option<u64>,
    /// It knows `WAITAOF`.
    pub waitaof: Option<bool>,
    /// Its clock minus this machine's.
    pub clock_skew_ms: Option<i64>,
    /// The median of some PINGs, in microseconds.
    pub ping_us: Option<u64>,
    /// The median of some calls of one of the hub's scripts, in microseconds.
    pub script_us: Option<u64>,
    /// What the user may do.
    pub rights: Rights,
    /// What the hub keeps there.
    pub traffic: Traffic,
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `Redis`, or who else speaks its protocol.
    pub product: String,
    /// As it says.
    pub text: String,
    /// The compatible version of Redis.
    pub redis: (u32, u32),
}

/// Bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// In use.
    pub used: u64,
    /// In use for data.
    pub dataset: u64,
    /// `maxmemory`; 0 for none.
    pub max: u64,
    /// `maxmemory-policy`.
    pub policy: String,
    /// What the process has of the machine, by what it uses.
    pub fragmentation: f64,
    /// What the machine has.
    pub machine: u64,
}

/// What a restart finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistence {
    /// `appendonly`.
    pub append_only: bool,
    /// `appendfsync`.
    pub append_sync: Option<String>,
    /// `save`.
    pub save: Option<String>,
    /// The last write to the append-only file.
    pub append_ok: bool,
    /// The last rewrite of it.
    pub rewrite_ok: bool,
    /// The last snapshot.
    pub save_ok: bool,
    /// A snapshot or a rewrite is under way.
    pub writing: bool,
    /// It is reading its files.
    pub loading: bool,
}

/// Who has a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// Those that are connected.
    pub replicas: Vec<Replica>,
    /// `min-replicas-to-write`.
    pub min_to_write: Option<u64>,
}

/// One replica, as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Where it is.
    pub address: String,
    /// It has the whole and follows.
    pub online: bool,
    /// Seconds since it last spoke.
    pub lag_s: u64,
    /// Bytes of the stream of writes that it has not acknowledged.
    pub behind: u64,
}

/// Connections and their bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// There are so many.
    pub connected: u64,
    /// There may be so many.
    pub max: Option<u64>,
    /// `timeout`.
    pub timeout_s: Option<u64>,
    /// `tcp-keepalive`.
    pub keepalive_s: Option<u64>,
    /// `client-output-buffer-limit` of normal clients.
    pub normal: Option<OutputLimit>,
    /// `client-output-buffer-limit` of replicas.
    pub replica: Option<OutputLimit>,
}

/// At so many bytes a client is closed: at once, or when it stays there for so long. 0 for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimit {
    /// At once.
    pub hard: u64,
    /// After `soft_s`.
    pub soft: u64,
    /// Seconds.
    pub soft_s: u64,
}

/// What the user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Who it is.
    pub user: String,
    /// Commands, and groups of keys, that the hub needs and that are refused.
    pub missing: Vec<String>,
    /// The same for what it can do without.
    pub spared: Vec<String>,
}

/// What the hub keeps on a server, and what comes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Traffic {
    /// Partitions.
    pub partitions: u16,
    /// Events that are retained.
    pub events: u64,
    /// The time that these came in, up to now; at most the retention.
    pub span_ms: u64,
    /// Bytes of an event as it is published, as far as seen.
    pub event_bytes: u64,
    /// Events a second while the doctor was there.
    pub per_second: f64,
}

/// One sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelFacts {
    /// Where it is.
    pub address: String,
    /// The primary that it names, or why it names none.
    pub primary: Result<String, String>,
    /// Whether enough of them see each other to fail over; what it says when not.
    pub quorum: Option<Result<(), String>>,
    /// How many other sentinels it knows.
    pub others: Option<u64>,
}

/// A cluster, as one of its nodes sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `cluster_state` is `ok`.
    pub ok: bool,
    /// Slots that have an owner.
    pub slots_assigned: u64,
    /// Slots whose owner does not answer.
    pub slots_failing: u64,
}
