//! Where a hub is: a URL on this machine. Any other is refused, because this program is a flood.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

/// A hub's address, and a path on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// As it was given; empty, or begins with `/`.
    pub(crate) path: String,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = ["http://", "ws://"]
            .into_iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .context("the URL begins with neither http:// nor ws://")?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let path = if path == "/" { "" } else { path };
        let address = match authority.strip_prefix("localhost") {
            Some("") => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 80),
            Some(port) => {
                let port = port.strip_prefix(':').context("not a host and a port")?;
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.parse()?)
            }
            None => match authority.parse() {
                Ok(address) => address,
                Err(_) => {
                    let host: IpAddr = authority
                        .trim_start_matches('[')
                        .trim_end_matches(']')
                        .parse()
                        .context("the host is not an address of this machine")?;
                    SocketAddr::new(host, 80)
                }
            },
        };
        if !address.ip().is_loopback() {
            bail!(
                "{} is not on this machine: only loopback is loaded",
                address.ip()
            );
        }
        if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            bail!("the path has characters that a request line may not have");
        }
        Ok(Self {
            address,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine() {
        for (text, address, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
            ("http://localhost:8080/", "127.0.0.1:8080", ""),
            ("http://localhost", "127.0.0.1:80", ""),
            ("ws://127.0.0.2/cable?a=b", "127.0.0.2:80", "/cable?a=b"),
            ("http://[::1]:9/x", "[::1]:9", "/x"),
        ] {
            let target: Target = text.parse().expect(text);
            assert_eq!(
                (target.address.to_string().as_str(), target.path.as_str()),
                (address, path)
            );
        }
    }

    #[test]
    fn no_other_machine_is_loaded() {
        for text in [
            "http://192.0.2.1:8080",
            "http://example.org",
            "http://localhost.example.org:80",
            "http://0.0.0.0:80",
            "https://127.0.0.1",
            "127.0.0.1:8080",
            "http://127.0.0.1:8080/a b",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
