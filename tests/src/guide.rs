//! One of the guides in `docs/`, followed from an empty folder: its commands in a shell, its files where they belong.
//!
//! What a reader would type is what runs. Only addresses are others: several tests run at a time on one machine.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, wait_for};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::instance::binary;
use crate::{SOON, http};

/// A guide, and the folder in which it is followed.
#[derive(Debug)]
pub struct Guide {
    document: String,
    folder: TempDir,
}

impl Guide {
    /// A document of `docs/`; where it prints the first of a pair, it means the second.
    ///
    /// # Errors
    /// When it is not there, or does not print what is to be replaced.
    pub fn open(name: &str, addresses: &[(&str, String)]) -> Result<Self> {
        let mut document = fs::read_to_string(root().join("docs").join(name))?;
        for (printed, meant) in addresses {
            ensure!(document.contains(printed), "{name} prints no {printed}");
            document = document.replace(printed, meant);
        }
        Ok(Self {
            document,
            folder: TempDir::new()?,
        })
    }

    /// Its blocks of this language, in order.
    #[must_use]
    pub fn blocks(&self, language: &str) -> Vec<&str> {
        let all = blocks(&self.document).into_iter();
        all.filter(|(name, _)| *name == language)
            .map(|(_, text)| text)
            .collect()
    }

    /// Saves its first block of this language as a file of the folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn save(&self, language: &str, file: &str) -> Result<()> {
        let blocks = self.blocks(language);
        let text = blocks.first().with_context(|| format!("no {language}"))?;
        let file = self.folder.path().join(file);
        fs::create_dir_all(file.parent().context("in the folder")?)?;
        Ok(fs::write(file, format!("{text}\n"))?)
    }

    /// What `npm install` would bring.
    ///
    /// # Errors
    /// When the tests' own packages are not installed.
    pub fn modules(&self) -> Result<()> {
        let modules = root().join("tests/js/node_modules").canonicalize();
        let modules = modules.context("`cargo xtask ci` installs the packages of tests/js")?;
        let link = self.folder.path().join("node_modules");
        Ok(std::os::unix::fs::symlink(modules, link)?)
    }

    /// A script, in the folder.
    ///
    /// # Errors
    /// As [`shell`].
    pub fn shell(&self, script: &str) -> Result<Command> {
        let mut command = shell(script)?;
        command.current_dir(self.folder.path());
        Ok(command)
    }

    /// Runs a script that succeeds; answers with what it printed.
    ///
    /// # Errors
    /// When it fails, or takes too long.
    pub async fn run(&self, script: &str) -> Result<String> {
        let output = timeout(SOON, self.shell(script)?.output()).await;
        let output = output.with_context(|| script.to_owned())??;
        ensure!(output.status.success(), "{script}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a program that talks: the last line of this script, which becomes the shell's own process and so ends with it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, script: &str) -> Result<Program> {
        let script = script.replace("\\\n", " ");
        let (before, line) = script.rsplit_once('\n').unwrap_or(("", &script));
        Program::start(self.shell(&format!("{before}\nexec {line}"))?)
    }

    /// Starts a hub and waits until it is ready. `settings` are variables that the guide does not set, for what it leaves
    /// at a default that may be somebody else's port here.
    ///
    /// # Errors
    /// When it does not become ready in time, or ends; with what it printed.
    pub async fn serve(
        &self,
        line: &str,
        native: &PortLease,
        settings: &[(&str, String)],
    ) -> Result<Child> {
        let file = self.folder.path().join(native.port().to_string());
        let log = OpenOptions::new().create(true).append(true).open(&file)?;
        let mut hub = self
            // A shell in between would outlive the hub's end.
            .shell(&format!("exec {line}"))?
            .env("TIDINGS_SERVER__LISTEN", native.address().to_string())
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let ready = wait_for("the hub to be ready", SOON, || async {
            let answer = http::send(native.address(), "GET", "/readyz", &[], "").await?;
            ensure!(answer.status == 200, "{:?}", answer.body);
            Ok(())
        });
        let printed = || fs::read_to_string(&file).unwrap_or_default();
        tokio::select! {
            ready = ready => ready.with_context(printed)?,
            status = hub.wait() => bail!("it ended with {status:?}: {}", printed()),
        }
        Ok(hub)
    }
}

/// A program of a guide, that says lines and may be told some; dropping it kills it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("piped")?;
        let output = child.stdout.take().context("piped")?;
        Ok(Self {
            child,
            input,
            lines: BufReader::new(output).lines(),
        })
    }

    /// The next line that it prints.
    ///
    /// # Errors
    /// When none comes in time, or it has ended.
    pub async fn line(&mut self) -> Result<String> {
        let line = timeout(SOON, self.lines.next_line()).await;
        line.context("it says nothing")??.context("it has ended")
    }

    /// Types a line.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn types(&mut self, text: &str) -> Result<()> {
        self.input.write_all(format!("{text}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    /// Ctrl-C; answers with the last line that it prints before it ends by itself.
    ///
    /// # Errors
    /// When it does not end in time, or not with status 0.
    pub async fn interrupt(mut self) -> Result<String> {
        let pid = self.child.id().context("it has ended already")?.to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status().await?;
        ensure!(told.success(), "kill -INT failed");
        let mut last = String::new();
        let ending = async {
            while let Some(line) = self.lines.next_line().await? {
                last = line;
            }
            anyhow::Ok(self.child.wait().await?)
        };
        let status = timeout(SOON, ending).await.context("it does not end")??;
        ensure!(status.success(), "{status}: {last}");
        Ok(last)
    }
}

/// A script, as a shell runs it that stops at the first failure; `tidings` is the binary that is tested.
///
/// # Errors
/// When that does not build.
pub fn shell(script: &str) -> Result<Command> {
    let program = binary()?;
    let folder = program.parent().context("the binary's folder")?;
    let path = std::env::var_os("PATH").context("a PATH")?;
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .env("PATH", std::env::join_paths(folders)?)
        .kill_on_drop(true);
    Ok(command)
}

/// The blocks of a document, each with its language.
#[must_use]
pub fn blocks(document: &str) -> Vec<(&str, &str)> {
    // Between two fences stands a block, between the next two what is none.
    let between = document.split("\n```").skip(1).step_by(2);
    between.filter_map(|block| block.split_once('\n')).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn blocks_stand_between_fences() {
        let document =
            "# A\n\n```sh\na\nb\n```\n```text\nc…\n```\nwords ```in``` a line\n\n```\nbare\n```\n";
        assert_eq!(
            blocks(document),
            [("sh", "a\nb"), ("text", "c…"), ("", "bare")]
        );
        assert!(blocks("no block").is_empty());
    }
}
