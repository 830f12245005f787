//! What it costs, and what there is room for: memory, stream nodes, connections, round trips.

use super::{Findings, size};
use crate::doctor::facts::{Facts, NodeFacts, OutputLimit, Traffic};

/// What an event costs beyond its bytes where a topic has no other: entry, index, head (measured on
/// Redis 7.0.15). In busy topics it is less; a forecast should err to this side.
const OVERHEAD: u64 = 450;
/// From so many events on, what they take is measured better than reckoned.
const EVENTS_MEASURED: u64 = 10_000;
/// A window that is filled takes pages of a few megabytes at a time; a limit below this ends them.
const OUTPUT_MIN: u64 = 64 * 1024 * 1024;
/// A server on the same network answers within this; the hub's publishes wait for it.
const PING_US_USUAL: u64 = 5_000;
const PING_US_MAX: u64 = 25_000;
/// What a script of a few reads may take beyond the round trip.
const SCRIPT_US_MAX: u64 = 10_000;
/// Where less is in use, the shares say nothing.
const MEMORY_TELLING: u64 = 128 * 1024 * 1024;

pub(super) fn node(facts: &Facts, node: &NodeFacts, findings: &mut Findings) {
    memory(facts, node, findings);
    fragmentation(node, findings);
    stream_nodes(node, findings);
    connections(node, findings);
    output_limits(node, findings);
    latency(node, findings);
}

/// Bytes that an event takes in Redis.
fn bytes_per_event(node: &NodeFacts) -> u64 {
    let traffic = &node.traffic;
    if traffic.events >= EVENTS_MEASURED {
        node.memory.dataset / traffic.events
    } else {
        traffic.event_bytes + OVERHEAD
    }
}

/// Events in a retention as it was, and as it will be if what comes now goes on.
fn events_per_retention(traffic: &Traffic, retention_ms: u64) -> (u64, u64) {
    // Less than a minute says nothing of an hour.
    const SPAN_MIN_MS: u64 = 60_000;
    let past = if traffic.span_ms >= SPAN_MIN_MS {
        let share = retention_ms as f64 / traffic.span_ms as f64;
        (traffic.events as f64 * share.max(1.0)) as u64
    } else {
        traffic.events
    };
    let present = (traffic.per_second * retention_ms as f64 / 1000.0) as u64;
    (past, present)
}

fn memory(facts: &Facts, node: &NodeFacts, findings: &mut Findings) {
    let (memory, traffic) = (&node.memory, &node.traffic);
    let each = bytes_per_event(node);
    let (past, present) = events_per_retention(traffic, facts.expected.retention_ms);
    let forecast = |events: u64| memory.used + events.saturating_sub(traffic.events) * each;
    let hour = format!(
        "{} are in use, {} events of about {} bytes are retained, {:.0} come each second",
        size(memory.used),
        traffic.events,
        each,
        traffic.per_second
    );
    if memory.max == 0 {
        findings.warning(
            "maxmemory",
            format!("there is no maxmemory; {hour}"),
            "a flood takes all memory of the machine, and the system ends Redis instead of Redis refusing publishes",
            format!(
                "maxmemory {} (half of the machine, the rest is for forks)",
                memory.machine / 2
            ),
        );
        return;
    }
    let room = format!("maxmemory is {}; {hour}", size(memory.max));
    let bigger = |needed: u64| format!("maxmemory {needed}, a shorter retention, or a Cluster");
    // The same again for what is not foreseen.
    let (past, present) = (forecast(past), forecast(present));
    if past > memory.max || memory.used > memory.max {
        findings.problem(
            "maxmemory",
            room,
            "an hour of this traffic does not fit: publishes will be refused (`log-full`) until events pass the retention",
            bigger(past.max(memory.used) * 2),
        );
    } else if present > memory.max || past > memory.max / 5 * 4 {
        findings.warning(
            "maxmemory",
            room,
            "if this goes on for an hour there is no room left: publishes are refused (`log-full`) until events pass the retention",
            bigger(present.max(past) * 2),
        );
    } else {
        findings.ok("maxmemory", room);
    }
    if memory.machine > 0 && memory.max > memory.machine / 4 * 3 {
        findings.warning(
            "machine-memory",
            format!("maxmemory is {} of {}", size(memory.max), size(memory.machine)),
            "a rewrite of the append-only file or a new replica forks, which may need as much again: the system ends Redis",
            format!("maxmemory {}", memory.machine / 2),
        );
    }
}

fn fragmentation(node: &NodeFacts, findings: &mut Findings) {
    let ratio = node.memory.fragmentation;
    if node.memory.used < MEMORY_TELLING {
        return;
    }
    let found = format!("the process has {ratio:.2} times what it uses");
    if ratio < 0.9 {
        findings.warning(
            "fragmentation",
            found,
            "part of it is swapped out: publishes wait for the disk",
            "more memory, or a smaller maxmemory",
        );
    } else if ratio > 1.5 {
        findings.note(
            "fragmentation",
            found,
            "memory is lost between what is used; after a peak that is usual",
            "activedefrag yes, or a restart",
        );
    } else {
        findings.ok("fragmentation", found);
    }
}

fn stream_nodes(node: &NodeFacts, findings: &mut Findings) {
    let (Some(bytes), Some(entries)) = (node.stream_node_bytes, node.stream_node_entries) else {
        return;
    };
    let found = format!("stream-node-max-bytes is {bytes}, stream-node-max-entries {entries}");
    let remedy = "stream-node-max-bytes 4096, stream-node-max-entries 100";
    if (1..4096).contains(&bytes) || (1..16).contains(&entries) {
        findings.note(
            "stream-nodes",
            found,
            "small nodes suit many short streams; the hub has a few long ones, which take 12 % more memory with 1024 bytes than with 4096",
            remedy,
        );
    } else if bytes == 0 || bytes > 65_536 || entries == 0 || entries > 1_000 {
        findings.note(
            "stream-nodes",
            found,
            "every look for one event walks through a node: verdicts and reads by topic get slower with its size",
            remedy,
        );
    } else {
        findings.ok("stream-nodes", found);
    }
}

fn connections(node: &NodeFacts, findings: &mut Findings) {
    let clients = &node.clients;
    if let Some(max) = clients.max {
        let found = format!("{} of {max} connections are taken", clients.connected);
        if clients.connected.saturating_mul(5) > max.saturating_mul(4) {
            findings.warning(
                "connections",
                found,
                "an instance that starts or reconnects is turned away",
                "a higher maxclients, or a smaller redis.pool",
            );
        } else {
            findings.ok("connections", found);
        }
    }
    match clients.timeout_s {
        Some(0) | None => {}
        Some(seconds) => findings.note(
            "idle-timeout",
            format!("idle connections are closed after {seconds} s"),
            "the hub makes them anew, and a publish that meets one that is just closing takes a second try",
            "timeout 0: tcp-keepalive finds those that are dead",
        ),
    }
    if clients.keepalive_s == Some(0) {
        findings.note(
            "keepalive",
            "tcp-keepalive is off",
            "connections of instances that vanished without a word stay, and count",
            "tcp-keepalive 60",
        );
    }
}

fn output_limits(node: &NodeFacts, findings: &mut Findings) {
    let small = |limit: Option<OutputLimit>| {
        limit.is_some_and(|limit| {
            (1..OUTPUT_MIN).contains(&limit.hard) || (1..OUTPUT_MIN).contains(&limit.soft)
        })
    };
    if small(node.clients.normal) {
        findings.warning(
            "output-limit",
            "client-output-buffer-limit normal is below 64 MiB",
            "Redis closes an instance's connection in the middle of filling its window, again and again",
            "client-output-buffer-limit normal 0 0 0",
        );
    }
    let replica = node.clients.replica.filter(|limit| {
        // The soft limit is the one that a busy hour meets.
        (1..OUTPUT_MIN).contains(&limit.hard)
    });
    if replica.is_some() {
        findings.warning(
            "output-limit-replica",
            "client-output-buffer-limit replica is below 64 MiB",
            "a replica that falls behind is cut off and copies everything anew, which may never end under load",
            "client-output-buffer-limit replica 256mb 64mb 60",
        );
    }
}

fn latency(node: &NodeFacts, findings: &mut Findings) {
    if let Some(ping) = node.ping_us {
        let found = format!("a round trip takes {:.1} ms", ping as f64 / 1000.0);
        if ping > PING_US_MAX {
            findings.warning(
                "latency",
                found,
                "every publish and every read of history waits for that, some of them twice",
                "put instances and Redis next to each other",
            );
        } else if ping > PING_US_USUAL {
            findings.note(
                "latency",
                found,
                "every publish waits for that; batches and many topics at once hide it",
                "put instances and Redis next to each other",
            );
        } else {
            findings.ok("latency", found);
        }
    }
    let beyond = node
        .script_us
        .map(|script| script.saturating_sub(node.ping_us.unwrap_or(0)));
    if let Some(beyond) = beyond.filter(|beyond| *beyond > SCRIPT_US_MAX) {
        findings.warning(
            "script-time",
            format!("a small script takes {:.1} ms", beyond as f64 / 1000.0),
            "the server is busy: every publish is such a script",
            "look at SLOWLOG and at who else uses this Redis; or a Cluster",
        );
    }
}
