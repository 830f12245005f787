//! Other programs: how they are started, asked for their version, and what is said when they fail.
//!
//! All of them run in the workspace's folder, with nothing on standard input: a program that would
//! ask a question fails instead of waiting for an answer that nobody gives in CI.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program with its arguments, to be run in `folder`.
pub(crate) fn program(folder: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// The cargo that runs this xtask, so that a `+toolchain` on the command line holds for all.
/// In CI (`CI` is set) it and what it starts print no colours and no progress bars.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let name = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = program(root, &name, arguments);
    if env::var_os("CI").is_some() {
        command
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .env("NO_COLOR", "1");
    }
    command
}

/// Runs it to its end; its output goes where ours goes.
pub(crate) fn perform(mut command: Command) -> Result<()> {
    let line = line_of(&command);
    println!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("`{line}` did not start"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs it to its end and answers with what it printed on standard output.
pub(crate) fn output_of(mut command: Command) -> Result<String> {
    let line = line_of(&command);
    let output = command
        .output()
        .with_context(|| format!("`{line}` did not start"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}\n{}", output.status, complaint.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed no UTF-8"))
}

/// Whether it starts and ends well; what it prints is dropped.
pub(crate) fn answers(mut command: Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Where on the `PATH` the program is.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn line_of(command: &Command) -> String {
    // `cargo` reads better than the toolchain's full path to it.
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        program(Path::new("/"), "sh", &["-c", script])
    }

    #[test]
    fn a_failure_names_the_command_and_its_complaint() {
        let error = output_of(shell("echo out of luck >&2; exit 3")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c"), "{text}");
        assert!(text.contains("out of luck") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_program_that_asks_gets_no_answer() {
        assert_eq!(output_of(shell("read line; echo $?")).unwrap(), "1\n");
    }

    #[test]
    fn a_missing_program_is_a_no() {
        assert!(!answers(program(Path::new("/"), "no-such-program", &[])));
        assert!(answers(shell("true")));
        assert!(find("sh").is_some());
        assert!(find("no-such-program").is_none());
    }
}
