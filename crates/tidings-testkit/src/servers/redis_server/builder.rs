//! What a test may ask of a `redis-server`, and the configuration file that says it.
//!
//! A file and not command-line options: ACL users and Sentinel need one, and Redis rewrites it itself.

use std::{fs, net::SocketAddr};

use anyhow::{Result, ensure};
use tokio::sync::Mutex;

use super::{Kind, RedisServer, access::Access};
use crate::servers::{Certificates, PortLease, TcpProxy};

/// What every server gets. Loopback only; nothing saved unless asked for; the rest makes failures come soon.
const COMMON: &str = "\
bind 127.0.0.1
daemonize no
save \"\"
enable-debug-command local
repl-diskless-sync-delay 0
repl-ping-replica-period 1
shutdown-timeout 2
";

/// What a server is to be. Nothing runs before [`RedisServerBuilder::start`].
#[derive(Clone, Debug, Default)]
pub struct RedisServerBuilder {
    port: Option<u16>,
    append_only: bool,
    maxmemory: Option<u64>,
    password: Option<String>,
    users: Vec<(String, String)>,
    tls: bool,
    proxied: bool,
    replica_of: Option<SocketAddr>,
    lines: Vec<String>,
    kind: Kind,
}

impl RedisServerBuilder {
    /// Listens on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps data through kill and restart: an append-only file, synced before each answer.
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// Refuses writes above this many bytes (`noeviction`).
    pub fn maxmemory(mut self, bytes: u64) -> Self {
        self.maxmemory = Some(bytes);
        self
    }

    /// Sets the default user's password (`requirepass`).
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds an ACL user who may do everything. Without [`Self::password`] the default user is then switched off, so
    /// that a client that forgets the name is refused.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Serves TLS only, with a certificate made on start ([`RedisServer::certificates`]).
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Puts a [`TcpProxy`] before the server: [`RedisServer::url`] then leads through it, and `cut`, `stall` and `heal`
    /// work. The server announces the proxy's address to its primary.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Replicates from a primary at this address.
    pub fn replica_of(mut self, primary: SocketAddr) -> Self {
        self.replica_of = Some(primary);
        self
    }

    /// Adds a line to the configuration file. It stands last and so overrides.
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    pub(crate) fn cluster_node(mut self) -> Self {
        self.kind = Kind::ClusterNode;
        self
    }

    pub(crate) fn sentinel(mut self) -> Self {
        self.kind = Kind::Sentinel;
        self
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> Result<RedisServer> {
        // Ports are leased, so only a program outside the tests can be in the way; it will not be there five times.
        const TRIES: u32 = 5;
        self.check_words()?;
        let certificates = if self.tls {
            Some(Certificates::generate()?)
        } else {
            None
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let lease = match (self.port, self.kind) {
                (Some(port), _) => PortLease::take_this(port)?,
                (None, Kind::ClusterNode) => PortLease::take_with_bus()?,
                (None, _) => PortLease::take()?,
            };
            let proxy = if self.proxied {
                Some(TcpProxy::start(lease.address()).await?)
            } else {
                None
            };
            let server = RedisServer {
                process: Mutex::new(None),
                access: self.access(certificates.clone()),
                kind: self.kind,
                proxy,
                lease,
                dir: tempfile::Builder::new()
                    .prefix("tidings-redis-")
                    .tempdir()?,
            };
            if let Some(certificates) = &certificates {
                certificates.write_to(server.dir.path())?;
            }
            fs::write(server.config_path(), self.config_text(&server))?;
            match server.restart().await {
                Ok(()) => return Ok(server),
                Err(_) if self.port.is_none() && tries < TRIES && server.could_not_bind() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The configuration file knows no way to quote that also holds in `user` lines.
    fn check_words(&self) -> Result<()> {
        let words = self
            .users
            .iter()
            .flat_map(|(name, password)| [name, password])
            .chain(&self.password);
        for word in words {
            let plain = !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\'));
            ensure!(
                plain,
                "names and passwords of test servers are printable ASCII without quotes or blanks"
            );
        }
        Ok(())
    }

    fn access(&self, certificates: Option<Certificates>) -> Access {
        let (user, password) = match (&self.password, self.users.first()) {
            (Some(password), _) => (None, Some(password.clone())),
            (None, Some((name, password))) => (Some(name.clone()), Some(password.clone())),
            (None, None) => (None, None),
        };
        Access {
            user,
            password,
            certificates,
        }
    }

    fn config_text(&self, server: &RedisServer) -> String {
        let port = server.port();
        let mut lines = vec![
            COMMON.to_owned(),
            format!("dir {}", server.dir.path().display()),
        ];
        if self.tls {
            let dir = server.dir.path().display();
            lines.push(format!("port 0\ntls-port {port}\ntls-auth-clients no"));
            lines.push(format!("tls-ca-cert-file {dir}/ca.pem"));
            lines.push(format!(
                "tls-cert-file {dir}/server.pem\ntls-key-file {dir}/server.key"
            ));
        } else {
            lines.push(format!("port {port}"));
        }
        if self.append_only {
            lines.push("appendonly yes\nappendfsync always".to_owned());
        }
        if let Some(bytes) = self.maxmemory {
            lines.push(format!("maxmemory {bytes}\nmaxmemory-policy noeviction"));
        }
        if let Some(password) = &self.password {
            lines.push(format!("requirepass {password}"));
        } else if !self.users.is_empty() {
            lines.push("user default off".to_owned());
        }
        for (name, password) in &self.users {
            lines.push(format!("user {name} on >{password} ~* &* +@all"));
        }
        if let Some(proxy) = &server.proxy {
            let announced = proxy.address();
            lines.push(format!(
                "replica-announce-ip {}\nreplica-announce-port {}",
                announced.ip(),
                announced.port()
            ));
        }
        if let Some(primary) = self.replica_of {
            lines.push(format!("replicaof {} {}", primary.ip(), primary.port()));
        }
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }
}
