//! One server process and the shell that keeps it.
//!
//! `Drop` does not run when a test process is killed (a time-out of the runner, a closed terminal), and Redis does not
//! watch its parent. So each server has a keeper: a `sh` that reads signal names from a pipe, sends them to the server,
//! and sends KILL when the pipe ends, which it does however this process dies. The kernel's parent-death signal was
//! rejected: it follows the *thread* that spawned, and a runtime's threads come and go. That the keeper also delivers
//! STOP, CONT and TERM spares a dependency for `kill(2)`. The last KILL goes to the server's process group: Redis forks
//! to write its files, and such a child would go on writing into a directory that is being removed.

use std::{
    ffi::{OsStr, OsString},
    fs,
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use super::wait_for;

/// Killing takes milliseconds; a graceful stop has to write the append-only file and wait for replicas.
const EXIT_DEADLINE: Duration = Duration::from_secs(10);

/// `$0` is the id of the server and of its process group. An interrupt from the terminal reaches the test and the keeper
/// but not that group: the keeper has to outlive it.
const KEEPER: &str = r#"trap "" HUP INT TERM; while read -r signal; do kill -s "$signal" "$0"; done; kill -s KILL -- "-$0""#;

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    keeper: Child,
}

impl Process {
    /// Starts `binary` in `dir`, with both output streams appended to `log`.
    pub(super) fn spawn(binary: &OsStr, args: &[OsString], dir: &Path, log: &Path) -> Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = Command::new(binary)
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => anyhow!(
                    "{} was not found: install it (Debian: apt-get install redis-server, 7.0 or newer) \
                     or name the binary in TIDINGS_REDIS_SERVER",
                    binary.display()
                ),
                _ => anyhow!(error).context(format!("cannot start {}", binary.display())),
            })?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match keeper {
            Ok(keeper) => Ok(Self { child, keeper }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error).context("cannot start sh to keep the server")
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended, by itself or through us.
    pub(super) fn has_exited(&self) -> bool {
        // A zombie is dead; it stays one until `Drop` reaps it, so the id cannot name another process.
        matches!(self.state(), Ok('Z' | 'X') | Err(_))
    }

    /// SIGKILL, and back when the process is gone.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.wait_for_exit().await
    }

    /// SIGTERM, and back when the process is gone.
    pub(super) async fn stop(mut self) -> Result<()> {
        // A stopped process does not act on TERM before it is continued.
        self.signal("CONT")?;
        self.signal("TERM")?;
        self.wait_for_exit().await
    }

    /// SIGSTOP, and back when no thread of the process runs.
    pub(super) async fn pause(&mut self) -> Result<()> {
        self.signal("STOP")?;
        self.wait_for_state("the server to stand still", |state| state == 'T')
            .await
    }

    /// SIGCONT, and back when the process runs again.
    pub(super) async fn resume(&mut self) -> Result<()> {
        self.signal("CONT")?;
        self.wait_for_state("the server to run on", |state| state != 'T')
            .await
    }

    /// Processor time used so far, user and system, in seconds.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        // Linux counts in USER_HZ, which is 100 on every architecture that Rust and Redis share.
        const TICKS_PER_SECOND: f64 = 100.0;
        let fields = self.stat()?;
        // proc(5): utime and stime are fields 14 and 15; the list starts at field 3.
        let ticks = |field: usize| -> Result<f64> {
            let text = fields
                .get(field - 3)
                .context("/proc/<pid>/stat is too short")?;
            Ok(text.parse::<f64>()?)
        };
        Ok((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
    }

    fn signal(&mut self, name: &str) -> Result<()> {
        let pipe = self
            .keeper
            .stdin
            .as_mut()
            .context("the keeper has no pipe")?;
        writeln!(pipe, "{name}").context("the server's keeper is gone")
    }

    async fn wait_for_exit(&self) -> Result<()> {
        wait_for("the server to exit", EXIT_DEADLINE, || async {
            ensure!(self.has_exited(), "it still runs");
            Ok(())
        })
        .await
    }

    async fn wait_for_state(&self, what: &str, wanted: fn(char) -> bool) -> Result<()> {
        wait_for(what, EXIT_DEADLINE, || async {
            let state = self.state()?;
            ensure!(wanted(state), "it is in state {state}");
            Ok(())
        })
        .await
    }

    fn state(&self) -> Result<char> {
        let fields = self.stat()?;
        fields
            .first()
            .and_then(|state| state.chars().next())
            .context("/proc/<pid>/stat names no state")
    }

    /// The fields of `/proc/<pid>/stat` after the command, from the state (field 3) on.
    fn stat(&self) -> Result<Vec<String>> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The command stands in parentheses and may itself contain some.
        let (_, fields) = stat
            .rsplit_once(')')
            .context("/proc/<pid>/stat names no command")?;
        Ok(fields.split_whitespace().map(str::to_owned).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it is dead already.
        let _ = self.child.kill();
        // At the end of its pipe the keeper kills what is left of the group. It does so before the server is reaped:
        // afterwards the id may name another process.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = self.child.wait();
    }
}

/// The last lines of a server's output, for error messages.
pub(super) fn tail(log: &Path) -> String {
    // What Redis prints between start and a refusal to start fits.
    const LINES: usize = 25;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
