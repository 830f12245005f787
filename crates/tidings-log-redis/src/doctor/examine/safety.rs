//! What can be lost: eviction, files, replicas.

use super::{Findings, online};
use crate::doctor::facts::{Facts, Kind, NodeFacts, Persistence};

/// A replica that has not been heard of for so long is not following. It speaks every second.
const LAG_S_MAX: u64 = 10;
/// More than this is not what is just on its way.
const BEHIND_MAX: u64 = 16 * 1024 * 1024;

pub(super) fn node(facts: &Facts, node: &NodeFacts, findings: &mut Findings) {
    eviction(node, findings);
    files(node, findings);
    if node.is_primary {
        replicas(facts, node, findings);
    }
}

fn eviction(node: &NodeFacts, findings: &mut Findings) {
    let policy = &node.memory.policy;
    let found = format!("maxmemory-policy is {policy}");
    let remedy = "maxmemory-policy noeviction";
    if policy == "noeviction" {
        findings.ok("eviction", found);
    } else if node.memory.max > 0 {
        findings.problem(
            "eviction",
            found,
            "when memory is short Redis throws events away without a word; an instance refuses to start",
            remedy,
        );
    } else {
        findings.warning(
            "eviction",
            found,
            "from the day that a maxmemory is set, Redis throws events away without a word",
            remedy,
        );
    }
}

fn files(node: &NodeFacts, findings: &mut Findings) {
    let files = &node.persistence;
    if files.loading {
        findings.warning(
            "loading",
            "it is reading its files",
            "it answers nothing before that has ended",
            "wait",
        );
    }
    append_only(node, files, findings);
    if files.append_only && !files.append_ok {
        findings.problem(
            "append-errors",
            "the last write to the append-only file failed",
            "Redis refuses writes until one succeeds: nothing is published",
            "free the disk, or repair it",
        );
    }
    if files.append_only && !files.rewrite_ok {
        findings.warning(
            "rewrite-errors",
            "the last rewrite of the append-only file failed",
            "the file grows until the disk is full; then writes are refused",
            "look into Redis' log: most often the disk or the memory for the fork is short",
        );
    }
    // Without a plan for snapshots none is made, and none that failed once stops writes.
    if !files.save_ok && files.save.as_deref() != Some("") {
        findings.problem(
            "save-errors",
            "the last snapshot failed",
            "with stop-writes-on-bgsave-error (the default) Redis refuses writes until one succeeds",
            "look into Redis' log; or save \"\", where the append-only file is the copy",
        );
    }
    if files.writing {
        findings.note(
            "writing",
            "a snapshot or a rewrite is under way",
            "answers are slower and memory is higher than usual, here and in what follows",
            "run the doctor again later",
        );
    }
}

fn append_only(node: &NodeFacts, files: &Persistence, findings: &mut Findings) {
    let remedy = "appendonly yes, appendfsync everysec";
    let copies = online(node) > 0;
    match (files.append_only, files.append_sync.as_deref()) {
        (true, Some("always")) => {
            findings.ok("append-only", "every write is on the disk before it is answered");
        }
        (true, Some("everysec")) => findings.note(
            "append-only",
            "the append-only file is synced every second",
            "a crash loses about the last second of acknowledged events; readers that saw them are told",
            "appendfsync always, if that is too much: it costs a sync for every batch of publishes",
        ),
        (true, Some(other)) => findings.warning(
            "append-only",
            format!("the append-only file is synced by the system (appendfsync {other})"),
            "a crash of the machine loses up to half a minute of acknowledged events",
            "appendfsync everysec",
        ),
        (true, None) => findings.ok("append-only", "there is an append-only file"),
        (false, _) if files.save.as_deref().is_some_and(|save| !save.is_empty()) => {
            findings.warning(
                "append-only",
                "there is no append-only file, only snapshots",
                "a restart after a crash loses everything since the last snapshot: minutes to an hour of acknowledged events",
                remedy,
            );
        }
        (false, _) if copies => findings.warning(
            "append-only",
            "nothing is kept on disk",
            "a primary that is restarted before a replica takes over is empty, and the replicas then copy that",
            remedy,
        ),
        (false, _) => findings.problem(
            "append-only",
            "nothing is kept on disk",
            "a restart of Redis loses every event of the hour",
            remedy,
        ),
    }
    if files.append_only && files.save.as_deref().is_some_and(|save| !save.is_empty()) {
        findings.note(
            "snapshots",
            "snapshots are made beside the append-only file",
            "each is one more fork, which may need as much memory again and stops Redis for a moment",
            "save \"\"",
        );
    }
}

fn replicas(facts: &Facts, node: &NodeFacts, findings: &mut Findings) {
    let online = online(node);
    let wanted = facts.expected.replicas as usize;
    let late: Vec<&str> = node
        .replication
        .replicas
        .iter()
        .filter(|one| !one.online || one.lag_s > LAG_S_MAX || one.behind > BEHIND_MAX)
        .map(|one| one.address.as_str())
        .collect();
    let found = format!("{online} replicas follow");
    if online == 0 {
        match facts.kind {
            Kind::Single => findings.note(
                "replicas",
                "no replica follows",
                "the loss of this machine is the loss of the hour, and `durability=replicated` is never reached",
                "a replica with Sentinel or a Cluster, if that is too much",
            ),
            Kind::Sentinel | Kind::Cluster => findings.problem(
                "replicas",
                "no replica follows",
                "when this primary dies there is nobody to take over: its events are out of reach, or lost",
                "start one, or look into its log",
            ),
        }
    } else if online < wanted {
        findings.warning(
            "replicas",
            found,
            "`durability=replicated` is never reached: redis.durability_replicas asks for more",
            format!("redis.durability_replicas = {online}, or more replicas"),
        );
    } else {
        findings.ok("replicas", found);
    }
    if !late.is_empty() {
        findings.warning(
            "replica-lag",
            format!("{} does not keep up", late.join(", ")),
            "a failover to it loses all that it has not got yet",
            "look at its link, its disk and its log; give it repl-backlog-size for what it missed",
        );
    }
    min_replicas(facts, node, online, findings);
}

fn min_replicas(facts: &Facts, node: &NodeFacts, online: usize, findings: &mut Findings) {
    let Some(least) = node.replication.min_to_write else {
        return;
    };
    let found = format!("min-replicas-to-write is {least}");
    if least > online as u64 {
        findings.problem(
            "min-replicas",
            format!("{found}, and {online} follow"),
            "every publish is refused",
            "bring the replicas back, or ask for fewer",
        );
    } else if least == 0 && facts.kind == Kind::Sentinel && online > 0 {
        findings.warning(
            "min-replicas",
            found,
            "a primary that is cut off goes on taking publishes, which are lost when it comes back as a replica",
            "min-replicas-to-write 1, min-replicas-max-lag 10, where there are two replicas or more",
        );
    } else {
        findings.ok("min-replicas", found);
    }
}
