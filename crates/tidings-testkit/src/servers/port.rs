//! Loopback ports that stay ours while the server behind them is dead.
//!
//! A port from the kernel (`bind` to 0) is free for anybody as soon as the server is killed: an outgoing connection or
//! another test may take it before the restart. So ports come from below Linux' ephemeral range (32768), and each is held
//! by a locked file that other test processes respect and that the kernel unlocks when this process dies.

use std::{
    fs,
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};

/// Where ports are taken from. A Redis Cluster node listens a second time 10,000 above its port, and both must lie below
/// the ephemeral range.
const PORTS: Range<u16> = 11_000..22_000;

/// The distance between a Redis Cluster node's port and that of its cluster bus (Redis' own default).
const BUS_OFFSET: u16 = 10_000;

/// A loopback port that no other test on this machine is given until the lease is dropped. Nothing listens on it yet.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    /// Held for their locks.
    _locks: Vec<File>,
}

impl PortLease {
    /// Leases any free port.
    pub fn take() -> Result<Self> {
        Self::search(&[0])
    }

    /// Leases a port whose cluster bus port is free too.
    pub(super) fn take_with_bus() -> Result<Self> {
        Self::search(&[0, BUS_OFFSET])
    }

    /// Leases this very port, or says that it is taken.
    pub(super) fn take_this(port: u16) -> Result<Self> {
        Self::try_take(port, &[0])?.with_context(|| format!("port {port} is taken"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn search(offsets: &[u16]) -> Result<Self> {
        // A random start, so that test processes that begin together do not try the same ports in step.
        let start = rand::random_range(PORTS);
        for port in (start..PORTS.end).chain(PORTS.start..start) {
            if let Some(lease) = Self::try_take(port, offsets)? {
                return Ok(lease);
            }
        }
        bail!("no free loopback port in {PORTS:?}")
    }

    fn try_take(port: u16, offsets: &[u16]) -> Result<Option<Self>> {
        let mut locks = Vec::with_capacity(offsets.len());
        for port in offsets.iter().map(|offset| port + offset) {
            let Some(lock) = lock(port)? else {
                return Ok(None);
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                return Ok(None);
            }
            locks.push(lock);
        }
        Ok(Some(Self {
            port,
            _locks: locks,
        }))
    }
}

/// Locks the file of a port, or answers `None` if another lease holds it. The empty files are left behind: to remove one
/// that another process is about to lock would hand the port out twice.
fn lock(port: u16) -> Result<Option<File>> {
    let user = fs::metadata("/proc/self").context("/proc is needed")?.uid();
    // One directory per user: the next user may not open the files of the first.
    // Not TMPDIR: processes that set it differently still share the ports.
    let dir = PathBuf::from(format!("/tmp/tidings-test-ports-{user}"));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join(port.to_string());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
