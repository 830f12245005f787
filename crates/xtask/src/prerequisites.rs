//! What a machine must have before anything can be checked: the tests start a real redis-server, a
//! real browser and real clients from npm and PyPI, and type in what the documents show.
//!
//! Root on a machine with apt-get gets what is missing installed, so that one command is enough on
//! a fresh Debian. Everyone else is told exactly what is missing and where it comes from: nothing
//! is ever installed with a password or outside the machine's own package manager and cargo.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Result, bail};

use crate::program::{answers, cargo, find, output_of, perform, program};

/// Whether this run may install what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    Allowed,
    Refused,
}

/// The oldest node that the npm packages of `tests/js` run on.
const NODE_MAJOR_MIN: u32 = 20;

/// What is started as it is, of whatever version, and the Debian package that brings it: the log's server, a browser,
/// what the documents type in, how the tests signal a process of theirs, and where their clients come from. Not listed
/// is what every Debian has (bash, util-linux).
const PROGRAMS: [(&str, &[&str]); 6] = [
    ("redis-server", &["redis-server"]),
    ("chromium", &["chromium"]),
    ("curl", &["curl"]),
    ("openssl", &["openssl"]),
    ("kill", &["procps"]),
    ("npm", &["npm"]),
];

/// Something that is not there, and how to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    what: String,
    /// Debian's packages that bring it; none where Debian's may be too old.
    packages: &'static [&'static str],
    remedy: String,
}

/// What was found on the machine.
#[derive(Debug, Clone, Default)]
struct Found {
    /// Of [`PROGRAMS`].
    programs: Vec<&'static str>,
    /// What `node --version` prints.
    node: Option<String>,
}

/// Makes sure that all of it is there.
pub(crate) fn ensure(root: &Path, install: Install) -> Result<()> {
    cargo_components(root)?;
    programs(root, install)?;
    cargo_deny(root, install)?;
    node_modules(root, install)?;
    python_clients(root, install)
}

fn cargo_components(root: &Path) -> Result<()> {
    for component in ["clippy", "fmt"] {
        if !answers(cargo(root, &[component, "--version"])) {
            let name = component.replace("fmt", "rustfmt");
            bail!("`cargo {component}` is missing: run `rustup component add {name}`");
        }
    }
    Ok(())
}

fn programs(root: &Path, install: Install) -> Result<()> {
    let missing = shortfall(&look(root));
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|m| m.packages).copied().collect();
    if install == Install::Refused || packages.is_empty() || !is_root_on_debian(root) {
        bail!("{}", complaint(&missing));
    }
    apt_get(root, &["update"])?;
    let mut words = vec!["install", "-y", "--no-install-recommends"];
    words.extend(&packages);
    apt_get(root, &words)?;
    if packages.contains(&"redis-server") {
        // The package may have started a server of its own; the tests start theirs.
        let _ = answers(program(root, "service", &["redis-server", "stop"]));
    }
    let still = shortfall(&look(root));
    if !still.is_empty() {
        bail!("{}", complaint(&still));
    }
    Ok(())
}

fn look(root: &Path) -> Found {
    let names = PROGRAMS.map(|(name, _)| name).into_iter();
    Found {
        programs: names.filter(|name| find(name).is_some()).collect(),
        node: output_of(program(root, "node", &["--version"])).ok(),
    }
}

fn shortfall(found: &Found) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut lack = |what: &str, packages: &'static [&'static str], remedy: &str| {
        missing.push(Missing {
            what: what.to_owned(),
            packages,
            remedy: remedy.to_owned(),
        });
    };
    for (name, packages) in PROGRAMS {
        if !found.programs.contains(&name) {
            lack(
                name,
                packages,
                &format!("apt-get install {}", packages.join(" ")),
            );
        }
    }
    match found.node.as_deref() {
        None => lack("node", &["nodejs"], "apt-get install nodejs"),
        Some(version) if node_major(version).is_none_or(|major| major < NODE_MAJOR_MIN) => lack(
            &format!("node {NODE_MAJOR_MIN} or newer (found {})", version.trim()),
            &[],
            "Debian 13 has it as nodejs; elsewhere take it from nodejs.org",
        ),
        Some(_) => {}
    }
    missing
}

fn complaint(missing: &[Missing]) -> String {
    let mut text = String::from("this machine lacks what the tests start:");
    for Missing { what, remedy, .. } in missing {
        text.push_str(&format!("\n  {what}: {remedy}"));
    }
    text
}

/// The 20 of `v20.19.2`.
fn node_major(version: &str) -> Option<u32> {
    version
        .trim()
        .strip_prefix('v')?
        .split('.')
        .next()?
        .parse()
        .ok()
}

fn is_root_on_debian(root: &Path) -> bool {
    find("apt-get").is_some()
        && output_of(program(root, "id", &["-u"])).is_ok_and(|uid| uid.trim() == "0")
}

fn apt_get(root: &Path, words: &[&str]) -> Result<()> {
    let mut command = program(root, "apt-get", words);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    perform(command)
}

fn cargo_deny(root: &Path, install: Install) -> Result<()> {
    if answers(cargo(root, &["deny", "--version"])) {
        return Ok(());
    }
    if install == Install::Refused {
        bail!("cargo-deny is missing: run `cargo install cargo-deny --locked`");
    }
    println!("cargo-deny is missing; building it takes about three minutes, once per machine");
    perform(cargo(root, &["install", "cargo-deny", "--locked"]))
}

/// `npm ci`, unless the packages were installed after the lock file was last written.
fn node_modules(root: &Path, install: Install) -> Result<()> {
    let folder = root.join("tests/js");
    let wanted = modified(&folder.join("package-lock.json"));
    let installed = modified(&folder.join("node_modules/.package-lock.json"));
    if wanted.is_none() || installed >= wanted {
        return Ok(());
    }
    if install == Install::Refused {
        bail!("the npm packages of tests/js are missing or old: run `npm ci` there");
    }
    perform(program(
        &folder,
        "npm",
        &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    ))
}

/// The clients from PyPI in an environment of their own, unless they were installed after the list of them was last
/// written. Where there is no Python the tests with them are skipped, except in CI.
fn python_clients(root: &Path, install: Install) -> Result<()> {
    let list = root.join("tests/python/requirements.txt");
    let folder = root.join("target/python");
    let installed = folder.join("installed");
    let wanted = modified(&list);
    if wanted.is_none() || modified(&installed) >= wanted {
        return Ok(());
    }
    // Debian has `venv` without what it needs in one package, and that in another.
    let usable = || answers(program(root, "python3", &["-c", "import venv, ensurepip"]));
    if install == Install::Allowed && !usable() && is_root_on_debian(root) {
        apt_get(root, &["update"])?;
        apt_get(
            root,
            &["install", "-y", "--no-install-recommends", "python3-venv"],
        )?;
    }
    if install == Install::Refused || !usable() {
        let remedy = "the clients of tests/python are missing or old (apt-get install python3-venv, then without --skip-install)";
        if std::env::var_os("CI").is_some() {
            bail!("{remedy}");
        }
        println!("{remedy}: the tests with them are skipped");
        return Ok(());
    }
    let (folder, list) = (folder.display().to_string(), list.display().to_string());
    perform(program(
        root,
        "python3",
        &["-m", "venv", "--clear", &folder],
    ))?;
    perform(program(
        root,
        &format!("{folder}/bin/python"),
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            &list,
        ],
    ))?;
    fs::write(installed, "")?;
    Ok(())
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|meta| meta.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Found {
        Found {
            programs: PROGRAMS.map(|(name, _)| name).to_vec(),
            node: Some("v20.19.2\n".to_owned()),
        }
    }

    #[test]
    fn a_complete_machine_lacks_nothing() {
        assert_eq!(shortfall(&all()), []);
    }

    #[test]
    fn everything_that_is_missing_is_named_with_its_package() {
        let missing = shortfall(&Found::default());
        let packages: Vec<_> = missing.iter().flat_map(|m| m.packages).copied().collect();
        assert_eq!(
            packages,
            [
                "redis-server",
                "chromium",
                "curl",
                "openssl",
                "procps",
                "npm",
                "nodejs"
            ]
        );
        let text = complaint(&missing);
        assert!(text.contains("kill: apt-get install procps"), "{text}");
    }

    #[test]
    fn an_old_node_is_not_cured_by_installing_it_again() {
        for version in ["v18.20.4", "nonsense"] {
            let found = Found {
                node: Some(version.to_owned()),
                ..all()
            };
            let missing = shortfall(&found);
            assert_eq!(missing.len(), 1);
            assert!(missing[0].packages.is_empty());
            assert!(missing[0].what.contains(version), "{missing:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_older_than_any() {
        let here = modified(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(modified(Path::new("/no/such/file")) < here);
    }
}
