//! What the facts mean: every check, pure.
//!
//! A check that finds nothing says so: a list of what was looked at is worth as much as a list of
//! what is wrong.

mod cost;
mod place;
mod safety;

use super::facts::{Facts, NodeFacts};
use super::{Finding, Level};

/// Everything that is to be said, the worst first.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::default();
    place::examine(facts, &mut findings);
    for node in &facts.nodes {
        findings.node = Some(node.address.clone());
        place::rights(node, &mut findings);
        if node.rights.missing.iter().any(|name| name == "info") {
            // What a server does not say of itself cannot be judged.
            continue;
        }
        place::node(facts, node, &mut findings);
        safety::node(facts, node, &mut findings);
        cost::node(facts, node, &mut findings);
    }
    findings
        .list
        .sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings.list
}

/// The list, and where the next finding is.
#[derive(Default)]
struct Findings {
    node: Option<String>,
    list: Vec<Finding>,
}

impl Findings {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(Level::Ok, check, found, "", "");
    }

    fn add(
        &mut self,
        level: Level,
        check: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.list.push(Finding {
            level,
            check,
            node: self.node.clone(),
            found: found.into(),
            means: means.into(),
            remedy: remedy.into(),
        });
    }

    fn note(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        means: &str,
        remedy: impl Into<String>,
    ) {
        self.add(Level::Note, check, found, means, remedy);
    }

    fn warning(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        means: &str,
        remedy: impl Into<String>,
    ) {
        self.add(Level::Warning, check, found, means, remedy);
    }

    fn problem(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        means: &str,
        remedy: impl Into<String>,
    ) {
        self.add(Level::Problem, check, found, means, remedy);
    }
}

/// Replicas that have the whole and follow.
fn online(node: &NodeFacts) -> usize {
    let replicas = &node.replication.replicas;
    replicas.iter().filter(|replica| replica.online).count()
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 || number >= 100.0 {
        format!("{number:.0} {}", UNITS[unit])
    } else {
        format!("{number:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests;
