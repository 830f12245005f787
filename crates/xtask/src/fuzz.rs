//! `cargo xtask fuzz`: runs the fuzz targets for as long as one likes.
//!
//! libFuzzer and its sanitiser need flags that a stable compiler refuses, so `RUSTC_BOOTSTRAP` is set
//! for what is built here, and nowhere else. CI runs the same bodies without them
//! (`crates/tidings-fuzz/tests`).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::program::{answers, cargo, perform};

/// How long each target runs unless it is said otherwise.
const SECONDS: u32 = 60;
/// The largest input: a few lines more than any seed. What is bounded in bytes is tested elsewhere,
/// and longer inputs find the same slower.
const INPUT_BYTES_MAX: u32 = 4096;
/// What a target may hold: the sanitiser triples it.
const MEMORY_MB: u32 = 1024;
/// How long one input may take before it counts as found.
const INPUT_SECONDS: u32 = 10;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    /// `None`: all of them.
    target: Option<String>,
    seconds: u32,
}

/// Runs one target or all of them; `arguments` are what followed `fuzz`.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let order = parse(arguments)?;
    let targets = targets(&root.join("fuzz/Cargo.toml"))?;
    let chosen: Vec<&String> = match &order.target {
        None => targets.iter().collect(),
        Some(name) => targets.iter().filter(|target| *target == name).collect(),
    };
    ensure!(
        !chosen.is_empty(),
        "there is no such target; there are {}",
        targets.join(", ")
    );
    if !answers(cargo(root, &["fuzz", "--version"])) {
        bail!("cargo-fuzz is missing: run `cargo install cargo-fuzz --locked`");
    }
    let folder = root.join("fuzz");
    // The same versions as the workspace has; what the fuzzer needs besides is added by cargo.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    perform(unstable(&folder, &["build".to_owned()]))?;
    let mut failed = Vec::new();
    for target in chosen {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        println!("\n== {target}, {} s", order.seconds);
        if let Err(error) = perform(unstable(&folder, &words(target, order.seconds))) {
            println!("== {target}: {error}");
            failed.push(target.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "found something: {} (the inputs are in fuzz/artifacts; make a seed of each)",
        failed.join(", ")
    );
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Order> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (target, seconds) = match words[..] {
        [target] => (target, SECONDS),
        [target, "--seconds", seconds] | ["--seconds", seconds, target] => {
            (target, seconds.parse().context("--seconds is a number")?)
        }
        _ => bail!("cargo xtask fuzz <target|all> [--seconds N]"),
    };
    Ok(Order {
        target: (target != "all").then(|| target.to_owned()),
        seconds,
    })
}

/// The names of the binaries.
fn targets(manifest: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(manifest).with_context(|| manifest.display().to_string())?;
    let manifest: toml::Table = text.parse()?;
    let binaries = manifest.get("bin").and_then(toml::Value::as_array);
    let name = |binary: &toml::Value| Some(binary.get("name")?.as_str()?.to_owned());
    binaries
        .and_then(|binaries| binaries.iter().map(name).collect())
        .context("fuzz/Cargo.toml names no binaries")
}

/// New inputs go to the first folder, the second is only read.
fn words(target: &str, seconds: u32) -> Vec<String> {
    [
        "run".to_owned(),
        target.to_owned(),
        format!("corpus/{target}"),
        format!("seeds/{target}"),
        "--".to_owned(),
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-timeout={INPUT_SECONDS}"),
        "-print_final_stats=1".to_owned(),
    ]
    .into()
}

fn unstable(folder: &Path, words: &[String]) -> Command {
    let mut command = cargo(folder, &["fuzz"]);
    command.args(words).env("RUSTC_BOOTSTRAP", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(words: &[&str]) -> Option<(Option<String>, u32)> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words)
            .ok()
            .map(|order| (order.target, order.seconds))
    }

    #[test]
    fn a_target_or_all_for_so_long() {
        let topic = || Some("topic".to_owned());
        assert_eq!(order(&["topic"]), Some((topic(), SECONDS)));
        assert_eq!(order(&["all"]), Some((None, SECONDS)));
        assert_eq!(order(&["topic", "--seconds", "5"]), Some((topic(), 5)));
        assert_eq!(order(&["--seconds", "5", "all"]), Some((None, 5)));
        for wrong in [
            &[][..],
            &["topic", "--seconds"],
            &["topic", "--seconds", "x"],
            &["a", "b"],
        ] {
            assert_eq!(order(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_targets_are_the_binaries() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml");
        let targets = targets(&manifest).unwrap();
        assert!(targets.contains(&"publish".to_owned()), "{targets:?}");
    }
}
