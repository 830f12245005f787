//! One change to a good deployment, and what is said of it.

use super::*;
use crate::doctor::facts::*;

fn good_node() -> NodeFacts {
    NodeFacts {
        address: "redis:6379".into(),
        version: Version {
            product: "Redis".into(),
            text: "7.4.1".into(),
            redis: (7, 4),
        },
        cluster_mode: false,
        is_primary: true,
        memory: Memory {
            used: 200 << 20,
            dataset: 150 << 20,
            max: 1 << 30,
            policy: "noeviction".into(),
            fragmentation: 1.1,
            machine: 8 << 30,
        },
        persistence: Persistence {
            append_only: true,
            append_sync: Some("always".into()),
            save: Some(String::new()),
            append_ok: true,
            rewrite_ok: true,
            save_ok: true,
            writing: false,
            loading: false,
        },
        replication: Replication {
            replicas: vec![replica("10.0.0.2:6379")],
            min_to_write: Some(1),
        },
        clients: Clients {
            connected: 30,
            max: Some(10_000),
            timeout_s: Some(0),
            keepalive_s: Some(300),
            normal: Some(OutputLimit {
                hard: 0,
                soft: 0,
                soft_s: 0,
            }),
            replica: Some(OutputLimit {
                hard: 256 << 20,
                soft: 64 << 20,
                soft_s: 60,
            }),
        },
        stream_node_bytes: Some(4096),
        stream_node_entries: Some(100),
        waitaof: Some(true),
        clock_skew_ms: Some(-3),
        ping_us: Some(150),
        script_us: Some(200),
        rights: Rights {
            user: "hub".into(),
            missing: vec![],
            spared: vec![],
        },
        traffic: Traffic {
            partitions: 16,
            events: 300_000,
            span_ms: 3_600_000,
            event_bytes: 256,
            per_second: 83.0,
        },
    }
}

fn replica(address: &str) -> Replica {
    Replica {
        address: address.into(),
        online: true,
        lag_s: 1,
        behind: 100,
    }
}

fn sentinel(address: &str) -> SentinelFacts {
    SentinelFacts {
        address: address.into(),
        primary: Ok("redis:6379".into()),
        quorum: Some(Ok(())),
        others: Some(2),
    }
}

fn good() -> Facts {
    Facts {
        kind: Kind::Sentinel,
        expected: Expected {
            layout: 1,
            partitions: 16,
            retention_ms: 3_600_000,
            replicas: 1,
        },
        nodes: vec![good_node()],
        unreachable: vec![],
        log: Some(Some(StoredLog {
            layout: 1,
            partitions: 16,
            retention_ms: 3_600_000,
        })),
        sentinels: vec![sentinel("s1"), sentinel("s2"), sentinel("s3")],
        cluster: None,
    }
}

/// What is said beyond `ok`.
fn said(facts: &Facts) -> Vec<(Level, &'static str)> {
    examine(facts)
        .iter()
        .filter(|finding| finding.level > Level::Ok)
        .map(|finding| (finding.level, finding.check))
        .collect()
}

#[test]
fn a_good_deployment_is_called_good_check_by_check() {
    let findings = examine(&good());
    assert_eq!(said(&good()), []);
    for check in [
        "eviction",
        "append-only",
        "replicas",
        "maxmemory",
        "rights",
        "log",
        "clock",
        "latency",
    ] {
        assert!(findings.iter().any(|one| one.check == check), "{check}");
    }
    assert!(findings.iter().all(|one| !one.found.is_empty()));
}

#[test]
fn everything_that_is_not_well_says_what_it_means_and_what_to_do() {
    let mut facts = bad();
    facts.nodes.push(good_node());
    let findings = examine(&facts);
    for finding in &findings {
        let explained = !finding.means.is_empty() && !finding.remedy.is_empty();
        assert_eq!(explained, finding.level > Level::Ok, "{finding:?}");
    }
    // The worst first, and each server by its name.
    assert!(findings.is_sorted_by(|a, b| a.level >= b.level));
    assert!(findings.iter().any(|one| one.node.is_none()));
}

/// As much wrong at once as can be.
fn bad() -> Facts {
    let mut facts = good();
    facts.unreachable = vec![("s4".into(), "refused".into())];
    facts.log = Some(Some(StoredLog {
        layout: 9,
        partitions: 4,
        retention_ms: 1,
    }));
    facts.cluster = Some(Cluster {
        ok: false,
        slots_assigned: 1,
        slots_failing: 1,
    });
    let node = &mut facts.nodes[0];
    node.memory.policy = "allkeys-lru".into();
    node.memory.used = node.memory.max + 1;
    node.memory.fragmentation = 2.0;
    node.persistence.append_ok = false;
    node.persistence.writing = true;
    node.replication.replicas.clear();
    node.clients.keepalive_s = Some(0);
    node.clients.timeout_s = Some(5);
    node.rights.missing = vec!["xadd".into()];
    node.clock_skew_ms = Some(60_000);
    facts
}

/// A check's name and level, for one change.
type Case = (fn(&mut Facts), &'static [(Level, &'static str)]);

#[test]
fn each_change_has_its_finding_and_no_other() {
    use Level::{Note, Problem, Warning};
    fn node(facts: &mut Facts) -> &mut NodeFacts {
        &mut facts.nodes[0]
    }
    let table: &[Case] = &[
        // Safety.
        (
            |f| node(f).memory.policy = "volatile-ttl".into(),
            &[(Problem, "eviction")],
        ),
        (
            |f| {
                node(f).memory.policy = "allkeys-lru".into();
                node(f).memory.max = 0;
            },
            &[(Warning, "eviction"), (Warning, "maxmemory")],
        ),
        (
            |f| node(f).persistence.append_sync = Some("everysec".into()),
            &[(Note, "append-only")],
        ),
        (
            |f| node(f).persistence.append_sync = Some("no".into()),
            &[(Warning, "append-only")],
        ),
        (|f| node(f).persistence.append_sync = None, &[]),
        (
            |f| node(f).persistence.append_only = false,
            &[(Warning, "append-only")],
        ),
        (
            |f| {
                f.kind = Kind::Single;
                node(f).persistence.append_only = false;
                node(f).replication.replicas.clear();
                node(f).replication.min_to_write = Some(0);
            },
            &[(Problem, "append-only"), (Note, "replicas")],
        ),
        (
            |f| {
                node(f).persistence.append_only = false;
                node(f).persistence.save = Some("3600 1".into());
            },
            &[(Warning, "append-only")],
        ),
        (
            |f| node(f).persistence.save = Some("3600 1".into()),
            &[(Note, "snapshots")],
        ),
        (
            |f| node(f).persistence.append_ok = false,
            &[(Problem, "append-errors")],
        ),
        (
            |f| node(f).persistence.rewrite_ok = false,
            &[(Warning, "rewrite-errors")],
        ),
        (|f| node(f).persistence.save_ok = false, &[]),
        (
            |f| {
                node(f).persistence.save_ok = false;
                node(f).persistence.save = Some("60 1".into());
            },
            &[(Problem, "save-errors"), (Note, "snapshots")],
        ),
        (|f| node(f).persistence.writing = true, &[(Note, "writing")]),
        (
            |f| node(f).persistence.loading = true,
            &[(Warning, "loading")],
        ),
        (
            |f| node(f).replication.replicas.clear(),
            &[(Problem, "replicas"), (Problem, "min-replicas")],
        ),
        (|f| f.expected.replicas = 2, &[(Warning, "replicas")]),
        (
            |f| node(f).replication.replicas[0].lag_s = 60,
            &[(Warning, "replica-lag")],
        ),
        (
            |f| node(f).replication.replicas[0].behind = 1 << 30,
            &[(Warning, "replica-lag")],
        ),
        (
            |f| {
                let mut joining = replica("10.0.0.3:6379");
                joining.online = false;
                node(f).replication.replicas.push(joining);
            },
            &[(Warning, "replica-lag")],
        ),
        (
            |f| node(f).replication.min_to_write = Some(0),
            &[(Warning, "min-replicas")],
        ),
        (
            |f| node(f).replication.min_to_write = Some(2),
            &[(Problem, "min-replicas")],
        ),
        (|f| node(f).replication.min_to_write = None, &[]),
        // Cost.
        (|f| node(f).memory.max = 0, &[(Warning, "maxmemory")]),
        (
            |f| node(f).memory.used = 900 << 20,
            &[(Warning, "maxmemory")],
        ),
        (|f| node(f).memory.used = 2 << 30, &[(Problem, "maxmemory")]),
        // Half an hour old and past half of the room; a young log says nothing of an hour.
        (
            |f| {
                node(f).traffic.span_ms = 600_000;
                node(f).traffic.events = 1_000_000;
                node(f).memory.used = 400 << 20;
                node(f).memory.dataset = 350 << 20;
            },
            &[(Problem, "maxmemory")],
        ),
        (|f| node(f).traffic.span_ms = 5_000, &[]),
        (
            |f| node(f).traffic.per_second = 50_000.0,
            &[(Warning, "maxmemory")],
        ),
        (
            |f| node(f).memory.machine = 1 << 30,
            &[(Warning, "machine-memory")],
        ),
        (|f| node(f).memory.machine = 0, &[]),
        (
            |f| node(f).memory.fragmentation = 0.5,
            &[(Warning, "fragmentation")],
        ),
        (
            |f| node(f).memory.fragmentation = 1.8,
            &[(Note, "fragmentation")],
        ),
        (
            |f| {
                node(f).memory.fragmentation = 9.0;
                node(f).memory.used = 1 << 20;
            },
            &[],
        ),
        (
            |f| node(f).stream_node_bytes = Some(1024),
            &[(Note, "stream-nodes")],
        ),
        (
            |f| node(f).stream_node_entries = Some(0),
            &[(Note, "stream-nodes")],
        ),
        (|f| node(f).stream_node_bytes = None, &[]),
        (
            |f| node(f).clients.connected = 9_000,
            &[(Warning, "connections")],
        ),
        (
            |f| node(f).clients.timeout_s = Some(60),
            &[(Note, "idle-timeout")],
        ),
        (
            |f| node(f).clients.keepalive_s = Some(0),
            &[(Note, "keepalive")],
        ),
        (
            |f| {
                node(f).clients.normal = Some(OutputLimit {
                    hard: 1 << 20,
                    soft: 0,
                    soft_s: 0,
                })
            },
            &[(Warning, "output-limit")],
        ),
        (
            |f| {
                node(f).clients.replica = Some(OutputLimit {
                    hard: 1 << 20,
                    soft: 0,
                    soft_s: 0,
                })
            },
            &[(Warning, "output-limit-replica")],
        ),
        (|f| node(f).ping_us = Some(8_000), &[(Note, "latency")]),
        (|f| node(f).ping_us = Some(80_000), &[(Warning, "latency")]),
        (
            |f| node(f).script_us = Some(20_000),
            &[(Warning, "script-time")],
        ),
        (|f| node(f).script_us = None, &[]),
        // Place.
        (|f| node(f).version.redis = (6, 0), &[(Problem, "version")]),
        (|f| node(f).waitaof = Some(false), &[]),
        (
            |f| {
                node(f).waitaof = Some(false);
                node(f).persistence.append_sync = Some("everysec".into());
            },
            &[(Note, "version"), (Note, "append-only")],
        ),
        (|f| node(f).is_primary = false, &[(Problem, "role")]),
        (
            |f| node(f).cluster_mode = true,
            &[(Problem, "cluster-mode")],
        ),
        (
            |f| node(f).rights.missing = vec!["xadd".into()],
            &[(Problem, "rights")],
        ),
        (
            |f| {
                node(f).rights.missing = vec!["info".into()];
                node(f).version.redis = (0, 0);
            },
            &[(Problem, "rights")],
        ),
        (
            |f| node(f).rights.spared = vec!["config|get".into(), "wait".into()],
            &[(Note, "config"), (Note, "wait")],
        ),
        (
            |f| node(f).clock_skew_ms = Some(2_000),
            &[(Warning, "clock")],
        ),
        (
            |f| node(f).clock_skew_ms = Some(-6_000),
            &[(Problem, "clock")],
        ),
        (|f| f.log = Some(None), &[]),
        (|f| f.log = None, &[(Note, "log")]),
        (|f| f.expected.partitions = 8, &[(Problem, "log")]),
        (|f| f.expected.retention_ms = 1, &[(Problem, "log")]),
        (
            |f| f.unreachable = vec![("s3".into(), "refused".into())],
            &[(Problem, "reachable")],
        ),
        (
            |f| f.sentinels[0].primary = Ok("other:1".into()),
            &[(Problem, "sentinel-primary")],
        ),
        (
            |f| f.sentinels[0].quorum = Some(Err("NOQUORUM".into())),
            &[(Problem, "sentinel-quorum")],
        ),
        (
            |f| f.sentinels.iter_mut().for_each(|one| one.others = Some(1)),
            &[(Warning, "sentinel-count")],
        ),
        (
            |f| {
                f.kind = Kind::Cluster;
                f.cluster = Some(Cluster {
                    ok: true,
                    slots_assigned: 16_384,
                    slots_failing: 0,
                });
            },
            &[],
        ),
        (
            |f| {
                f.kind = Kind::Cluster;
                f.cluster = Some(Cluster {
                    ok: false,
                    slots_assigned: 16_383,
                    slots_failing: 0,
                });
            },
            &[(Problem, "cluster")],
        ),
    ];
    for (index, (change, expected)) in table.iter().enumerate() {
        let mut facts = good();
        change(&mut facts);
        assert_eq!(said(&facts), *expected, "row {index}");
    }
}

#[test]
fn sizes_are_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (200 << 20, "200 MiB"),
        (1 << 30, "1.0 GiB"),
        (u64::MAX, "16777216 TiB"),
    ] {
        assert_eq!(size(bytes), text);
    }
}
