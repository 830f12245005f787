//! What Redis says of its own work: how long which command took.
//!
//! Redis' processor time holds the reading and writing of sockets, too, which a busy Redis shares
//! between many commands and an idle one does not. The time inside commands is the part that only
//! another script can change, so both are told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::http::connect;

/// Statistics of a hundred commands are some ten kilobytes.
const ANSWER_MAX: usize = 256 * 1024;

/// A command's statistics since Redis started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) calls: u64,
    pub(crate) microseconds: u64,
}

/// The statistics of the commands that a hub calls most.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commands {
    /// Everything that scripts did, the commands they called included.
    pub(crate) scripts: Spent,
    /// The tail's reads.
    pub(crate) tail: Spent,
}

impl Commands {
    /// Asks the Redis on this port of this machine.
    ///
    /// # Errors
    /// When it does not answer, or wants a password.
    pub(crate) async fn of(port: u16) -> Result<Self> {
        Ok(Self::parse(&statistics(port).await?))
    }

    fn parse(text: &str) -> Self {
        let spent = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|fields| Spent {
                    calls: field(fields, "calls"),
                    microseconds: field(fields, "usec"),
                })
                .unwrap_or_default()
        };
        Self {
            scripts: spent("cmdstat_evalsha"),
            tail: spent("cmdstat_xread"),
        }
    }

    /// What was spent since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        let less = |now: Spent, then: Spent| Spent {
            calls: now.calls.saturating_sub(then.calls),
            microseconds: now.microseconds.saturating_sub(then.microseconds),
        };
        Self {
            scripts: less(self.scripts, earlier.scripts),
            tail: less(self.tail, earlier.tail),
        }
    }
}

/// All commands since Redis started, by name; those that scripts call are among them, and their time
/// is also the scripts'.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Calls(BTreeMap<String, Spent>);

impl Calls {
    /// Asks the Redis on this port of this machine.
    ///
    /// # Errors
    /// When it does not answer, or wants a password.
    pub(crate) async fn of(port: u16) -> Result<Self> {
        Ok(Self::parse(&statistics(port).await?))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let commands = text.lines().filter_map(|line| {
            let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let spent = Spent {
                calls: field(fields, "calls"),
                microseconds: field(fields, "usec"),
            };
            // What this very question costs is not the hub's.
            (name != "info").then(|| (name.to_owned(), spent))
        });
        Self(commands.collect())
    }

    /// What was spent since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let less = |(name, now): (&String, &Spent)| {
            let then = earlier.get(name);
            let spent = Spent {
                calls: now.calls.saturating_sub(then.calls),
                microseconds: now.microseconds.saturating_sub(then.microseconds),
            };
            (name.clone(), spent)
        };
        Self(self.0.iter().map(less).collect())
    }

    /// A command's; nothing when it was never called.
    pub(crate) fn get(&self, name: &str) -> Spent {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Calls of all commands.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().map(|spent| spent.calls).sum()
    }

    /// Names and calls, of those that were called.
    pub(crate) fn called(&self) -> impl Iterator<Item = (&str, u64)> {
        let called = self.0.iter().filter(|(_, spent)| spent.calls > 0);
        called.map(|(name, spent)| (name.as_str(), spent.calls))
    }
}

/// What Redis says of its commands.
async fn statistics(port: u16) -> Result<String> {
    let mut stream = connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).await?;
    stream.write_all(b"INFO commandstats\r\n").await?;
    let mut answer = Vec::new();
    loop {
        if let Some(text) = bulk(&answer)? {
            return Ok(text.to_owned());
        }
        if answer.len() > ANSWER_MAX || stream.read_buf(&mut answer).await? == 0 {
            bail!("Redis does not say what its commands took");
        }
    }
}

/// A bulk string's text; `None` while it has not arrived whole.
fn bulk(answer: &[u8]) -> Result<Option<&str>> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    let length = head
        .strip_prefix('$')
        .with_context(|| format!("Redis answers: {head}"))?;
    let length: usize = length.parse()?;
    let text = answer.get(end + 2..).and_then(|rest| rest.get(..length));
    Ok(text.map(std::str::from_utf8).transpose()?)
}

fn field(fields: &str, name: &str) -> u64 {
    fields
        .split(',')
        .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Commandstats\r\ncmdstat_evalsha:calls=7,usec=70,usec_per_call=10.00\r\n\
                        cmdstat_xreadgroup:calls=9,usec=9,usec_per_call=1.00\r\n";

    #[test]
    fn an_answer_counts_when_it_is_whole() -> Result<()> {
        let answer = format!("${}\r\n{TEXT}\r\n", TEXT.len());
        for cut in 0..answer.len() - 2 {
            assert_eq!(bulk(&answer.as_bytes()[..cut])?, None, "cut at {cut}");
        }
        assert_eq!(bulk(answer.as_bytes())?, Some(TEXT));
        let refused = bulk(b"-NOAUTH Authentication required.\r\n");
        assert!(refused.expect_err("refused").to_string().contains("NOAUTH"));
        Ok(())
    }

    #[test]
    fn commands_are_told_apart_and_compared() {
        let now = Commands::parse(TEXT);
        let scripts = Spent {
            calls: 7,
            microseconds: 70,
        };
        let tail = Spent::default();
        assert_eq!(now, Commands { scripts, tail });
        let earlier = Spent {
            calls: 5,
            microseconds: 40,
        };
        let since = now.since(Commands {
            scripts: earlier,
            tail,
        });
        assert_eq!((since.scripts.calls, since.scripts.microseconds), (2, 30));
    }

    #[test]
    fn every_command_counts_but_the_question() {
        let text = format!("{TEXT}cmdstat_info:calls=3,usec=3,usec_per_call=1.00\r\n");
        let now = Calls::parse(&text);
        assert_eq!(now.total(), 16);
        assert_eq!(now.get("evalsha").microseconds, 70);
        let since = now.since(&Calls::parse("cmdstat_evalsha:calls=7,usec=60\r\n"));
        assert_eq!(since.get("evalsha").microseconds, 10);
        assert_eq!(
            since.called().collect::<Vec<_>>(),
            [("xreadgroup", 9)],
            "what was not called is not named"
        );
    }
}
