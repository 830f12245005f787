//! The parameters of a connection to any server of a target: address, TLS, user, socket options.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, RedisConnectionInfo, TlsCertificates,
};

use crate::options::RedisOptions;
use crate::target::{Address, Target};

/// Makes the connection parameters of any server of the target.
#[derive(Clone)]
pub(crate) struct Dial {
    /// `Some` with TLS.
    tls: Option<ConnectionAddr>,
    server: RedisConnectionInfo,
    sentinel: RedisConnectionInfo,
}

impl Dial {
    /// Reads the certificate files.
    pub(crate) fn new(target: &Target, options: &RedisOptions) -> Result<Self, String> {
        let pem = |path: &Option<PathBuf>| match path {
            Some(path) => std::fs::read(path)
                .map(Some)
                .map_err(|error| format!("cannot read {}: {error}", path.display())),
            None => Ok(None),
        };
        let ca = pem(&options.tls_ca_file)?;
        let client_tls = match (
            pem(&options.tls_certificate_file)?,
            pem(&options.tls_key_file)?,
        ) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig {
                client_cert,
                client_key,
            }),
            _ => None,
        };
        if !target.tls && (ca.is_some() || client_tls.is_some()) {
            return Err(
                "TLS files are given, but the Redis URL does not begin with rediss".to_owned(),
            );
        }
        let tls = if target.tls {
            // The library reads the certificates when a client is built; the host is put in later.
            let any = ConnectionAddr::TcpTls {
                host: String::new(),
                port: 0,
                insecure: false,
                tls_params: None,
            };
            let certificates = TlsCertificates {
                client_tls,
                root_cert: ca,
            };
            let client = Client::build_with_tls(any, certificates)
                .map_err(|error| format!("the TLS files are not usable: {error}"))?;
            Some(client.get_connection_info().addr().clone())
        } else {
            None
        };
        let info = |username: Option<&String>, password: Option<&String>, db| {
            // The library's name and version are of no use to an operator, and cost two commands.
            let mut info = RedisConnectionInfo::default()
                .set_skip_set_lib_name()
                .set_db(db);
            if let Some(username) = username {
                info = info.set_username(username);
            }
            if let Some(password) = password {
                info = info.set_password(password);
            }
            info
        };
        Ok(Self {
            tls,
            server: info(
                options.username.as_ref().or(target.username.as_ref()),
                options.password.as_ref().or(target.password.as_ref()),
                target.db,
            ),
            sentinel: info(
                options.sentinel_username.as_ref(),
                options.sentinel_password.as_ref(),
                0,
            ),
        })
    }

    /// Whom the servers take us for.
    pub(crate) fn user(&self) -> String {
        self.server.username().unwrap_or("default").to_owned()
    }

    pub(crate) fn server(&self, address: &Address) -> ConnectionInfo {
        self.info(address, self.server.clone())
    }

    /// RESP3: only then does the library tell when a connection ends.
    pub(crate) fn server_resp3(&self, address: &Address) -> ConnectionInfo {
        self.info(
            address,
            self.server.clone().set_protocol(ProtocolVersion::RESP3),
        )
    }

    pub(crate) fn sentinel(&self, address: &Address) -> ConnectionInfo {
        self.info(address, self.sentinel.clone())
    }

    fn info(&self, address: &Address, redis: RedisConnectionInfo) -> ConnectionInfo {
        let addr = match (address, &self.tls) {
            (Address::Unix(path), _) => ConnectionAddr::Unix(path.clone()),
            (Address::Tcp(host, port), None) => ConnectionAddr::Tcp(host.clone(), *port),
            (Address::Tcp(host, port), Some(tls)) => {
                let mut tls = tls.clone();
                if let ConnectionAddr::TcpTls {
                    host: h, port: p, ..
                } = &mut tls
                {
                    host.clone_into(h);
                    *p = *port;
                }
                tls
            }
        };
        // Finds a dead peer on links that only wait, where nothing is sent that could time out.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(15))
            .with_interval(Duration::from_secs(5));
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive);
        addr.into_connection_info()
            .expect("an address is connection information as it is")
            .set_redis_settings(redis)
            .set_tcp_settings(tcp)
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}
