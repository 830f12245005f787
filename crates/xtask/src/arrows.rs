//! Which crate may depend on which: the table of ARCHITECTURE.md, held against `cargo metadata`.
//!
//! A crate's row lists what it may name. What is not listed is refused, a crate without a row too,
//! so a new crate is a decision and not an accident. The rows are names and not layers by number,
//! because a refusal should say what would be lost, and that differs by crate.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::program::{cargo, output_of};

/// A crate's row. A name that ends in `*` stands for every crate that begins so.
struct Row {
    from: &'static str,
    /// What it may depend on.
    to: &'static [&'static str],
    /// What its tests may depend on besides.
    tests: &'static [&'static str],
    /// What would be lost.
    why: &'static str,
}

const ROWS: [Row; 11] = [
    Row {
        from: "tidings-core",
        to: &[],
        tests: &[],
        why: "core holds the nouns and the ports, and everything rests on it",
    },
    Row {
        from: "tidings-log-*",
        to: &["tidings-core"],
        tests: &["tidings-testkit"],
        why: "a log knows the port that it implements and nothing above it",
    },
    Row {
        from: "tidings-engine",
        to: &["tidings-core"],
        tests: &["tidings-testkit", "tidings-log-memory"],
        why: "the engine runs over any log and under any adapter, so it names none",
    },
    Row {
        from: "tidings-adapter",
        to: &["tidings-core", "tidings-engine"],
        tests: &["tidings-testkit", "tidings-log-memory"],
        why: "authors of adapters depend on it: what it names, they carry",
    },
    Row {
        from: "tidings-adapter-*",
        to: &["tidings-adapter"],
        tests: &["tidings-testkit"],
        why: "an adapter sees the adapter crate alone, like one written outside this repository: no log, no other adapter",
    },
    Row {
        from: "tidings-testkit",
        to: &[
            "tidings-core",
            "tidings-engine",
            "tidings-adapter",
            "tidings-log-memory",
            "tidings-log-redis",
        ],
        tests: &[],
        why: "the exams are written against the ports; the clusters of the adapter exam run on the logs, but on no adapter",
    },
    Row {
        from: "tidings-server",
        to: &[
            "tidings-core",
            "tidings-log-*",
            "tidings-engine",
            "tidings-adapter",
            "tidings-adapter-*",
        ],
        tests: &["tidings-testkit"],
        why: "the server puts everything together, but ships no test code",
    },
    Row {
        from: "tidings-tests",
        to: &["tidings-*"],
        tests: &["tidings-*"],
        why: "the tests look at anything but this crate",
    },
    Row {
        from: "tidings-fuzz",
        to: &[
            "tidings-core",
            "tidings-log-redis",
            "tidings-engine",
            "tidings-adapter",
            "tidings-adapter-cardsavr",
            "tidings-server",
        ],
        tests: &[],
        why: "it feeds parsers, wherever they are, and nothing is built on it",
    },
    Row {
        from: "tidings-bench",
        to: &[],
        tests: &[],
        why: "it measures any running hub from outside, an older one too, so it knows the wire alone",
    },
    Row {
        from: "xtask",
        to: &[],
        tests: &[],
        why: "it must build and run when everything else is broken",
    },
];

/// What else core may depend on: formats and hashes. No runtime, no sockets, no HTTP, no Redis.
const CORE_STRANGERS: [&str; 6] = [
    "base64",
    "bytes",
    "serde",
    "serde_json",
    "thiserror",
    "twox-hash",
];

/// A crate of the workspace and what it depends on.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    name: String,
    needs: Vec<Need>,
}

#[derive(Debug, PartialEq, Eq)]
struct Need {
    name: String,
    /// Lies in the workspace.
    ours: bool,
    /// Only for tests (a dev-dependency).
    tests: bool,
}

/// Asks cargo for the workspace's arrows and answers with those that the table refuses.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let text = output_of(cargo(
        root,
        &["metadata", "--no-deps", "--format-version", "1"],
    ))?;
    let metadata = serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    let members = members(&metadata).context("`cargo metadata` looks different than expected")?;
    Ok(refused(&members))
}

fn members(metadata: &Value) -> Option<Vec<Member>> {
    metadata["packages"]
        .as_array()?
        .iter()
        .map(|package| {
            let needs = package["dependencies"].as_array()?;
            Some(Member {
                name: package["name"].as_str()?.to_owned(),
                needs: needs.iter().map(need).collect::<Option<_>>()?,
            })
        })
        .collect()
}

fn need(dependency: &Value) -> Option<Need> {
    Some(Need {
        name: dependency["name"].as_str()?.to_owned(),
        ours: dependency["path"].is_string(),
        tests: dependency["kind"] == "dev",
    })
}

fn refused(members: &[Member]) -> Vec<String> {
    members.iter().flat_map(refused_of).collect()
}

fn refused_of(member: &Member) -> Vec<String> {
    let name = &member.name;
    let Some(row) = row(name) else {
        return vec![format!(
            "{name} has no row in crates/xtask/src/arrows.rs: decide what it may depend on"
        )];
    };
    let mut complaints = Vec::new();
    for need in &member.needs {
        let arrow = format!("{name} -> {}", need.name);
        if need.ours && !allowed(row, need) {
            let refusal = if need.tests {
                "refused even for tests"
            } else if row.tests.iter().any(|pattern| matches(pattern, &need.name)) {
                "refused except for tests"
            } else {
                "refused"
            };
            complaints.push(format!("{arrow}: {refusal}: {}", row.why));
        }
        if name == "tidings-core"
            && !need.ours
            && !need.tests
            && !CORE_STRANGERS.contains(&need.name.as_str())
        {
            complaints.push(format!(
                "{arrow}: refused: core knows no runtime, sockets, clock, HTTP or Redis; it may use {}",
                CORE_STRANGERS.join(", ")
            ));
        }
    }
    complaints
}

/// The row of the crate: the one with its very name, or else the one with the longest beginning.
fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter()
        .filter(|row| matches(row.from, name))
        .max_by_key(|row| (!row.from.ends_with('*'), row.from.len()))
}

fn allowed(row: &Row, need: &Need) -> bool {
    let for_tests: &[&str] = if need.tests { row.tests } else { &[] };
    need.name != row.from
        && row
            .to
            .iter()
            .chain(for_tests)
            .any(|pattern| matches(pattern, &need.name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arrow(from: &str, to: &str, tests: bool) -> Vec<String> {
        refused(&[Member {
            name: from.to_owned(),
            needs: vec![Need {
                name: to.to_owned(),
                ours: to.starts_with("tidings-") || to == "xtask",
                tests,
            }],
        }])
    }

    #[test]
    fn the_arrows_of_the_picture_are_allowed() {
        for (from, to) in [
            ("tidings-log-memory", "tidings-core"),
            ("tidings-log-redis", "tidings-core"),
            ("tidings-engine", "tidings-core"),
            ("tidings-adapter", "tidings-engine"),
            ("tidings-adapter-zaikio", "tidings-adapter"),
            ("tidings-testkit", "tidings-adapter"),
            ("tidings-testkit", "tidings-log-redis"),
            ("tidings-server", "tidings-log-redis"),
            ("tidings-server", "tidings-adapter-zaikio"),
            ("tidings-tests", "tidings-server"),
            ("tidings-engine", "tokio"),
            ("tidings-core", "bytes"),
        ] {
            assert_eq!(arrow(from, to, false), Vec::<String>::new());
            assert_eq!(arrow(from, to, true), Vec::<String>::new());
        }
    }

    #[test]
    fn every_other_arrow_is_refused_with_its_reason() {
        for (from, to) in [
            ("tidings-core", "tidings-engine"),
            ("tidings-log-memory", "tidings-engine"),
            ("tidings-log-memory", "tidings-log-redis"),
            ("tidings-engine", "tidings-log-redis"),
            ("tidings-engine", "tidings-adapter"),
            ("tidings-adapter", "tidings-log-redis"),
            ("tidings-adapter", "tidings-adapter-zaikio"),
            ("tidings-adapter", "tidings-server"),
            ("tidings-adapter-zaikio", "tidings-adapter-airsend"),
            ("tidings-adapter-zaikio", "tidings-log-memory"),
            ("tidings-adapter-zaikio", "tidings-engine"),
            ("tidings-testkit", "tidings-adapter-zaikio"),
            ("tidings-testkit", "tidings-server"),
            ("tidings-server", "tidings-tests"),
            ("tidings-server", "xtask"),
            ("xtask", "tidings-core"),
        ] {
            let refusal = format!("{from} -> {to}: refused: {}", row(from).unwrap().why);
            assert_eq!(arrow(from, to, false), [refusal]);
            let for_tests = arrow(from, to, true);
            assert!(for_tests[0].contains("even for tests"), "{for_tests:?}");
        }
    }

    #[test]
    fn the_kit_is_for_tests_only() {
        for from in [
            "tidings-log-redis",
            "tidings-engine",
            "tidings-adapter",
            "tidings-adapter-zaikio",
            "tidings-server",
        ] {
            assert_eq!(arrow(from, "tidings-testkit", true), Vec::<String>::new());
            let refusal = arrow(from, "tidings-testkit", false);
            assert!(
                refusal[0].contains("refused except for tests"),
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn core_has_few_strangers() {
        for stranger in ["tokio", "axum", "hyper", "http", "redis", "rand"] {
            let refusal = arrow("tidings-core", stranger, false);
            assert_eq!(refusal.len(), 1);
            assert!(refusal[0].contains("core knows no runtime"), "{refusal:?}");
            assert!(arrow("tidings-core", stranger, true).is_empty());
        }
    }

    #[test]
    fn a_crate_without_a_row_is_a_complaint() {
        let complaints = arrow("tidings-new", "serde", false);
        assert!(
            complaints[0].starts_with("tidings-new has no row"),
            "{complaints:?}"
        );
    }

    #[test]
    fn cargos_words_are_understood() {
        let metadata = json!({"packages": [{"name": "a", "dependencies": [
            {"name": "b", "kind": null, "path": "/somewhere/b"},
            {"name": "c", "kind": "dev"},
            {"name": "d", "kind": "build", "path": null},
        ]}]});
        let need = |name: &str, ours, tests| Need {
            name: name.to_owned(),
            ours,
            tests,
        };
        assert_eq!(
            members(&metadata),
            Some(vec![Member {
                name: "a".to_owned(),
                needs: vec![
                    need("b", true, false),
                    need("c", false, true),
                    need("d", false, false)
                ],
            }])
        );
        assert_eq!(members(&json!({"packages": [{"name": 1}]})), None);
    }
}
