//! How to get into a server: user, password, authority, and the URL that says so.

use std::net::SocketAddr;

use anyhow::Result;
use redis::{Client, IntoConnectionInfo, TlsCertificates};

use crate::servers::Certificates;

#[derive(Debug)]
pub(super) struct Access {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) certificates: Option<Certificates>,
}

impl Access {
    pub(super) fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.certificates.is_some() {
            "rediss"
        } else {
            "redis"
        };
        let who = match (&self.user, &self.password) {
            (_, None) => String::new(),
            (user, Some(password)) => {
                let user = user.as_deref().unwrap_or_default();
                format!("{}:{}@", percent_encode(user), percent_encode(password))
            }
        };
        format!("{scheme}://{who}{address}")
    }

    /// A client that trusts the server's authority.
    pub(super) fn client(&self, address: SocketAddr) -> Result<Client> {
        let info = self.url(address).as_str().into_connection_info()?;
        // Without CLIENT SETINFO, which 7.0 does not know and counts among the commands.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let info = info.set_redis_settings(settings);
        Ok(match &self.certificates {
            Some(certificates) => {
                let root_cert = Some(certificates.ca.clone().into_bytes());
                Client::build_with_tls(
                    info,
                    TlsCertificates {
                        client_tls: None,
                        root_cert,
                    },
                )?
            }
            None => Client::open(info)?,
        })
    }
}

/// For the user part of a URL (RFC 3986 §3.2.1): everything but the unreserved characters is escaped.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
