//! `cargo xtask ci`: everything that must hold before a change lands, in one command.
//!
//! Cheap steps come first. The tests come last, the doctests before them, because whoever reads the
//! output looks for the runner's summary at its end. A step that fails ends the run and is named.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::prerequisites::{self, Install};
use crate::program::{answers, cargo, perform};
use crate::tidy;

/// All the steps.
pub(crate) fn run(root: &Path, install: Install) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("prerequisites", || prerequisites::ensure(root, install))?;
    steps.step("licences and duplicates", || {
        // `advisories` is left out: it fetches a database from the network at every run.
        perform(cargo(
            root,
            &["deny", "check", "bans", "licenses", "sources"],
        ))
    })?;
    steps.step("formatting", || {
        perform(cargo(root, &["fmt", "--all", "--check"]))
    })?;
    steps.step("tidy", || tidy::run(root))?;
    steps.step("clippy", || {
        perform(cargo(
            root,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
        ))
    })?;
    steps.step("doctests", || {
        perform(cargo(root, &["test", "--workspace", "--doc", "--locked"]))
    })?;
    steps.step("the example outside", || example(root))?;
    steps.step("tests", || test(root, &[]))?;
    steps.summary();
    Ok(())
}

/// Builds the `tidings` binary, which the tests start, and runs the tests.
pub(crate) fn test(root: &Path, arguments: &[String]) -> Result<()> {
    perform(cargo(
        root,
        &["build", "--locked", "--package", "tidings-server"],
    ))?;
    let mut command = if answers(cargo(root, &["nextest", "--version"])) {
        cargo(root, &["nextest", "run", "--locked", "--no-fail-fast"])
    } else {
        println!("cargo-nextest is not installed: `cargo test` instead, one package at a time");
        cargo(root, &["test", "--all-targets", "--locked"])
    };
    // cargo forgets about `-p` where it sees `--workspace`
    if !arguments
        .iter()
        .any(|word| word.starts_with("-p") || word.starts_with("--package"))
    {
        command.arg("--workspace");
    }
    command.args(arguments);
    perform(command)
}

/// Builds and tests the adapter in `examples/ntfy`, which is a workspace of its own, as one written
/// elsewhere is. The target directory is ours: what both need is built once.
fn example(root: &Path) -> Result<()> {
    let folder = root.join("examples/ntfy");
    let tests: &[&str] = if answers(cargo(root, &["nextest", "--version"])) {
        // It starts real instances, like the tests that `.config/nextest.toml` gives a second chance.
        &[
            "nextest",
            "run",
            "--locked",
            "--no-fail-fast",
            "--retries",
            "2",
        ]
    } else {
        &["test", "--locked"]
    };
    for arguments in [
        &["fmt", "--check"][..],
        // An author's library needs no server.
        &["check", "--locked", "--lib", "--no-default-features"],
        &[
            "clippy",
            "--locked",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        tests,
    ] {
        let mut command = cargo(&folder, arguments);
        if std::env::var_os("CARGO_TARGET_DIR").is_none() {
            command.env("CARGO_TARGET_DIR", root.join("target"));
        }
        perform(command).context(
            "if its Cargo.lock is behind the workspace's, `cargo update --workspace` in \
             examples/ntfy brings it level",
        )?;
    }
    Ok(())
}

/// The steps that are done, and how long each took.
#[derive(Debug, Default)]
struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn step(&mut self, name: &'static str, perform: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let began = Instant::now();
        let result = perform();
        let took = began.elapsed();
        result.with_context(|| format!("step '{name}' failed after {}", seconds(took)))?;
        println!("== {name}: ok, {}", seconds(took));
        self.done.push((name, took));
        Ok(())
    }

    fn summary(&self) {
        println!("\nall steps are through");
        for (name, took) in &self.done {
            println!("{:>9}  {name}", seconds(*took));
        }
        let total = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>9}  together", seconds(total));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_is_named() {
        let mut steps = Steps::default();
        steps.step("one", || Ok(())).unwrap();
        let error = steps.step("two", || bail!("no luck")).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.starts_with("step 'two' failed after 0.0 s: no luck"),
            "{text}"
        );
        assert_eq!(steps.done.len(), 1);
    }
}
