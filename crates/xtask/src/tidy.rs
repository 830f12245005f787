//! `cargo xtask tidy`: the rules that no compiler checks.
//!
//! Every rule is a pure function that answers with complaints; here they get their input and are
//! put together, so that one run tells all that is wrong. Files not yet known to git are looked at
//! too, unless git ignores them: a rule should speak before the commit.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::program::{output_of, program};
use crate::{arrows, fixtures, sources};

/// What the rules found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Must be mended.
    pub(crate) complaints: Vec<String>,
    /// Should be looked at.
    pub(crate) warnings: Vec<String>,
}

/// Checks all the rules.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = files(root)?;
    let mut findings = Findings::default();
    for file in &files {
        // A file that git knows and that is gone is a deletion not yet committed.
        let Ok(bytes) = fs::read(root.join(file)) else {
            continue;
        };
        // What is not text (a picture) has no lines to look at.
        if let Ok(text) = String::from_utf8(bytes) {
            sources::check(file, &text, &mut findings);
        }
    }
    findings.complaints.extend(arrows::check(root)?);
    let below_fixtures: Vec<&str> = files
        .iter()
        .filter_map(|file| file.strip_prefix("tests/fixtures/"))
        .collect();
    findings.complaints.extend(fixtures::check(
        &root.join("tests/fixtures"),
        &below_fixtures,
    ));

    for warning in &findings.warnings {
        println!("tidy: warning: {warning}");
    }
    for complaint in &findings.complaints {
        println!("tidy: {complaint}");
    }
    match findings.complaints.len() {
        0 => {
            println!("tidy: {} files are in order", files.len());
            Ok(())
        }
        count => bail!("tidy: {count} complaints in {} files", files.len()),
    }
}

/// The files of the checkout, as paths below `root`.
fn files(root: &Path) -> Result<Vec<String>> {
    let list = output_of(program(
        root,
        "git",
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    ))
    .context("tidy asks git which files there are")?;
    let mut files: Vec<String> = list
        .split('\0')
        .filter(|file| !file.is_empty())
        .map(str::to_owned)
        .collect();
    files.sort_unstable();
    files.dedup();
    Ok(files)
}
