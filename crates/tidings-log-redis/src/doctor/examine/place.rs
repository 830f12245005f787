//! Whether this is the right place at all: the servers and their versions, the cluster, the
//! sentinels, the log that is in it, the user's rights, the clocks.

use std::collections::BTreeSet;

use super::Findings;
use crate::doctor::facts::{Facts, Kind, NodeFacts, SentinelFacts};

/// Slots of a cluster.
const SLOTS: u64 = crate::keys::SLOTS as u64;
/// Beyond this an instance is not ready (LOG.md §2).
const SKEW_MS_MAX: u64 = 5_000;
/// Clocks that are kept in step differ by less than this.
const SKEW_MS_USUAL: u64 = 1_000;

/// What concerns all of it.
pub(super) fn examine(facts: &Facts, findings: &mut Findings) {
    for (address, reason) in &facts.unreachable {
        findings.problem(
            "reachable",
            format!("{address} does not answer: {reason}"),
            "what it holds or decides is out of reach for the hub as well",
            "start it, or take it out of the URL",
        );
    }
    log(facts, findings);
    if let Some(cluster) = &facts.cluster {
        if cluster.ok && cluster.slots_assigned == SLOTS && cluster.slots_failing == 0 {
            findings.ok("cluster", "every slot is served");
        } else {
            let state = if cluster.ok { "ok" } else { "fail" };
            findings.problem(
                "cluster",
                format!(
                    "the cluster's state is {state}: {} of {SLOTS} slots have an owner, {} of them one that does not answer",
                    cluster.slots_assigned, cluster.slots_failing
                ),
                "publishes to partitions in these slots are refused, and so may be all others (cluster-require-full-coverage)",
                "redis-cli --cluster fix, or bring the owner back",
            );
        }
    }
    if facts.kind == Kind::Sentinel {
        sentinels(&facts.sentinels, findings);
    }
}

fn log(facts: &Facts, findings: &mut Findings) {
    let expected = &facts.expected;
    let stored = match &facts.log {
        None => {
            findings.note(
                "log",
                "the log's settings could not be read",
                "whether they fit this configuration shows only when an instance starts",
                "give the user the rights that are named below",
            );
            return;
        }
        Some(None) => {
            findings.ok("log", "there is no log yet");
            return;
        }
        Some(Some(stored)) => stored,
    };
    let differs = [
        ("layout", stored.layout, u64::from(expected.layout)),
        (
            "log.partitions",
            stored.partitions,
            u64::from(expected.partitions),
        ),
        (
            "log.retention in ms",
            stored.retention_ms,
            expected.retention_ms,
        ),
    ];
    let differing: Vec<String> = differs
        .iter()
        .filter(|(_, stored, expected)| stored != expected)
        .map(|(name, stored, expected)| format!("{name} is {stored} there and {expected} here"))
        .collect();
    if differing.is_empty() {
        findings.ok(
            "log",
            format!(
                "the log has {} partitions, as configured",
                stored.partitions
            ),
        );
    } else {
        findings.problem(
            "log",
            format!(
                "the log was made with other settings: {}",
                differing.join(", ")
            ),
            "an instance with this configuration refuses to start",
            "configure what is there, or another redis.prefix",
        );
    }
}

fn sentinels(sentinels: &[SentinelFacts], findings: &mut Findings) {
    let named: BTreeSet<&String> = sentinels
        .iter()
        .filter_map(|sentinel| sentinel.primary.as_ref().ok())
        .collect();
    if named.len() > 1 {
        let named: Vec<&str> = named.iter().map(|name| name.as_str()).collect();
        findings.problem(
            "sentinel-primary",
            format!("the sentinels name different primaries: {}", named.join(", ")),
            "instances may publish to two of them, and what one of them gets is lost",
            "wait for a failover under way to end, or reset the sentinel that is behind (SENTINEL RESET)",
        );
    }
    let broken = sentinels
        .iter()
        .find_map(|sentinel| Some((&sentinel.address, sentinel.quorum.clone()?.err()?)));
    if let Some((address, reason)) = broken {
        findings.problem(
            "sentinel-quorum",
            format!("{address} says: {reason}"),
            "when the primary dies no other is made: publishing stops",
            "bring the other sentinels back, or set a quorum that they can reach",
        );
    } else if sentinels.iter().any(|sentinel| sentinel.quorum.is_some()) {
        findings.ok("sentinel-quorum", "the sentinels can fail over");
    }
    let count = sentinels
        .iter()
        .filter_map(|sentinel| sentinel.others)
        .max();
    if let Some(others) = count.filter(|others| *others < 2) {
        findings.warning(
            "sentinel-count",
            format!("there are {} sentinels", others + 1),
            "when one of them dies with the primary, no majority is left to make another one",
            "run three, on machines that do not fail together",
        );
    }
}

/// What concerns one server.
pub(super) fn node(facts: &Facts, node: &NodeFacts, findings: &mut Findings) {
    version(node, findings);
    if node.is_primary {
        findings.ok("role", "it is a primary");
    } else {
        findings.problem(
            "role",
            "it is a replica",
            "it takes no publishes, and what it shows of the log may be old",
            "name the primary in the URL, or the sentinels, so that it is found after a failover",
        );
    }
    if node.cluster_mode && facts.kind != Kind::Cluster {
        findings.problem(
            "cluster-mode",
            "it is a cluster's node",
            "most partitions are elsewhere: an instance refuses to start",
            "say redis+cluster:// in the URL",
        );
    }
    let skew = node.clock_skew_ms.map(i64::unsigned_abs);
    let found = || {
        format!(
            "its clock and this machine's differ by {} ms",
            skew.unwrap_or(0)
        )
    };
    match skew {
        Some(ms) if ms > SKEW_MS_MAX => findings.problem(
            "clock",
            found(),
            "an instance on this machine does not become ready, since times and retention would be wrong",
            "keep both clocks in step (chrony, systemd-timesyncd)",
        ),
        Some(ms) if ms > SKEW_MS_USUAL => findings.warning(
            "clock",
            found(),
            "`since=` is off by as much, and beyond 5 s an instance is not ready",
            "keep both clocks in step (chrony, systemd-timesyncd)",
        ),
        Some(_) => findings.ok("clock", found()),
        None => {}
    }
}

fn version(node: &NodeFacts, findings: &mut Findings) {
    let version = &node.version;
    let found = format!("{} {}", version.product, version.text);
    if version.redis < (6, 2) {
        findings.problem(
            "version",
            found,
            "an instance refuses to start: it lacks commands that the log is made of",
            "update to 7.2 or newer (6.2 is the least)",
        );
        return;
    }
    match node.waitaof {
        Some(false) if node.persistence.append_sync.as_deref() != Some("always") => findings.note(
            "version",
            format!("{found}, without WAITAOF"),
            "a publish with `durability=fsynced` cannot reach it",
            "update to 7.2 or newer, or set appendfsync always, if that is wanted",
        ),
        _ => findings.ok("version", found),
    }
    if node.rights.spared.iter().any(|name| name == "wait") {
        findings.note(
            "wait",
            "the user may not use WAIT",
            "a publish with `durability=replicated` is never told that it was",
            format!("ACL SETUSER {} +wait", user(node)),
        );
    }
}

/// What the user may do there.
pub(super) fn rights(node: &NodeFacts, findings: &mut Findings) {
    let missing = &node.rights.missing;
    if missing.is_empty() {
        findings.ok(
            "rights",
            format!("the user {} may do what the hub needs", user(node)),
        );
    } else {
        let commands = missing.iter().filter(|name| !name.contains(' '));
        let rules: Vec<String> = commands.map(|name| format!("+{name}")).collect();
        findings.problem(
            "rights",
            format!("the user {} lacks: {}", user(node), missing.join(", ")),
            "the hub does not start, or fails in the middle of what needs them",
            if rules.is_empty() {
                "grant these keys (the README of tidings-log-redis has the whole rule)".to_owned()
            } else {
                format!("ACL SETUSER {} {}", user(node), rules.join(" "))
            },
        );
    }
    if node.rights.spared.iter().any(|name| name == "config|get") {
        findings.note(
            "config",
            "the user may not read the configuration",
            "append-only syncing, node sizes, time-outs and limits could not be looked at, nor can `durability=fsynced` be told before Redis 7.2",
            format!("ACL SETUSER {} +config|get, or run the doctor as another user", user(node)),
        );
    }
}

fn user(node: &NodeFacts) -> &str {
    &node.rights.user
}
