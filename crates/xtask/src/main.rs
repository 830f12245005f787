//! The house's own commands: `cargo xtask ci | test | tidy | fuzz`.
//!
//! They are Rust, not shell, so that they run wherever the code builds and are read, linted and
//! tested like the rest. This crate knows nothing of the crates it looks after but their names.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks through its standard output"
)]

mod arrows;
mod ci;
mod fixtures;
mod fuzz;
mod prerequisites;
mod program;
mod sources;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::prerequisites::Install;

const USAGE: &str = "\
cargo xtask ci [--skip-install]  every check and every test, on any machine: installs what is missing
                                 where it may (root on Debian), or says exactly what is missing
cargo xtask test [ARGS]          the tests alone; ARGS go to nextest, or to cargo test without it
cargo xtask tidy                 the rules that no compiler checks
cargo xtask fuzz <target|all> [--seconds N]
                                 the fuzz targets with libFuzzer (needs cargo-fuzz), 60 s each";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let root = workspace();
    let (command, rest) = match arguments {
        [command, rest @ ..] => (command.as_str(), rest),
        [] => bail!("no command given\n\n{USAGE}"),
    };
    match (command, rest) {
        ("ci", []) => ci::run(&root, Install::Allowed),
        ("ci", [flag]) if flag == "--skip-install" => ci::run(&root, Install::Refused),
        ("test", arguments) => ci::test(&root, arguments),
        ("tidy", []) => tidy::run(&root),
        ("fuzz", arguments) => fuzz::run(&root, arguments),
        ("help" | "--help" | "-h", _) => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("`{}` is not a command\n\n{USAGE}", arguments.join(" ")),
    }
}

/// The workspace's folder: two above this crate, by cargo's word at run time, so that a binary that
/// a shared target folder kept from another checkout does not look there.
fn workspace() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .ancestors()
        .nth(2)
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}
