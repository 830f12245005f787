//! What the system says about a server's processes: processor time, memory, who listens on a port.

use std::fs;

use anyhow::{Context as _, Result, bail};

/// Ticks of `/proc/<pid>/stat` per second: USER_HZ, which is 100 on every architecture that Linux
/// runs on but Alpha and Itanium (proc_pid_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processes that are measured together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    /// These processes. That they exist is asked at once, so that a wrong number is not found out
    /// after the measurement.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub(crate) fn new(pids: Vec<u32>) -> Result<Self> {
        let processes = Self(pids);
        processes.cpu_seconds()?;
        Ok(processes)
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Self(vec![std::process::id()])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Processor time used since they started, of all threads, in user and kernel mode.
    ///
    /// # Errors
    /// When one of them does not exist any more.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.sum(|pid| {
            let stat = read(pid, "stat")?;
            let ticks = ticks(&stat).with_context(|| format!("stat of {pid} is unreadable"))?;
            Ok(ticks as f64 / TICKS_PER_SECOND)
        })
    }

    /// Resident memory, in KiB.
    ///
    /// # Errors
    /// When one of them does not exist any more.
    pub(crate) fn resident_kib(&self) -> Result<f64> {
        self.sum(|pid| {
            let status = read(pid, "status")?;
            let kib =
                resident(&status).with_context(|| format!("status of {pid} is unreadable"))?;
            Ok(kib as f64)
        })
    }

    fn sum(&self, of: impl Fn(u32) -> Result<f64>) -> Result<f64> {
        self.0.iter().map(|pid| of(*pid)).sum()
    }
}

/// The process that listens on a port of this machine.
///
/// # Errors
/// When there is none that we may see: other users' processes show their files only to them.
pub(crate) fn listening_on(port: u16) -> Result<u32> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(table) = fs::read_to_string(table) {
            sockets.extend(
                table
                    .lines()
                    .filter_map(|line| listening_socket(line, port)),
            );
        }
    }
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|link| {
                link.to_str()
                    .is_some_and(|link| sockets.iter().any(|one| one == link))
            });
        if holds {
            return Ok(pid);
        }
    }
    bail!("nobody whose files are visible here listens on port {port}; name the process by its id")
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("no process {pid}"))
}

/// utime and stime: fields 14 and 15, counted from behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The socket of a line of `/proc/net/tcp`, as links to it are written, if it listens on the port.
fn listening_socket(line: &str, port: u16) -> Option<String> {
    const LISTENING: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let listens = u16::from_str_radix(local, 16) == Ok(port) && fields.get(3) == Some(&LISTENING);
    listens.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_confuse() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t    1234 kB\nRssAnon: 1 kB\n"),
            Some(1234)
        );
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let own = Processes::own();
        assert!(own.resident_kib().expect("resident") > 100.0);
        assert!(own.cpu_seconds().expect("time") >= 0.0);
        assert!(
            Processes::new(vec![u32::MAX]).is_err(),
            "there is no such process"
        );
    }

    #[test]
    fn who_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(listening_on(port).expect("found"), std::process::id());
        drop(listener);
        assert!(listening_on(port).is_err());
    }
}
