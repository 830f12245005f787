//! The command line.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};

use crate::site::{Transport, View};
use crate::target::Target;

/// Loads a running hub on this machine and checks every delivery for loss, duplicates and order.
#[derive(Debug, Parser)]
#[command(
    name = "tidings-bench",
    version,
    after_help = "Exit codes: 0 every delivery was right, 1 some was not or the run failed, 2 wrong usage."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One topic, many readers.
    FanOut(FanOut),
    /// Many topics, a few readers each.
    Topics(Topics),
    /// Connections that get nothing: memory and processor time of each.
    Idle(Idle),
    /// Clients that come back with a cursor, all at once.
    Replay(Replay),
    /// Catch-up reads over keep-alive connections, as fast as they are answered.
    Poll(Poll),
    /// Publishes, as fast as they are answered; read back and checked afterwards.
    Publish(Publish),
    /// Starts Redis and a hub and holds every row of the table in docs/benchmarks.md to its bar.
    Suite(Suite),
    /// Starts Redis and a hub with a dialect and measures what that dialect's clients cost.
    Dialects(Dialects),
}

/// Which hub, how it is spoken to, what is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct HubArgs {
    /// The hub; given several times, readers and publishers are spread over them. Only addresses
    /// of this machine. For websockets with their path: ws://127.0.0.1:8081/cable
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: Vec<Target>,
    /// Where to publish, if that is another address
    #[arg(long)]
    pub(crate) publish_url: Vec<Target>,
    /// The route that takes publishes
    #[arg(long, default_value = "/v1/events")]
    pub(crate) publish_path: String,
    /// What is posted there; {topic} and {data} are filled in
    #[arg(
        long,
        default_value = r#"{"topic":"{topic}","type":"bench","data":{data}}"#
    )]
    pub(crate) publish_body: String,
    /// The key that opens the topics
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// A header for every request, as `name: value`
    #[arg(long)]
    pub(crate) header: Vec<String>,
    /// What brings the events
    #[arg(long, value_enum, default_value = "sse")]
    pub(crate) transport: Transport,
    /// What is brought of an event
    #[arg(long, value_enum, default_value = "data")]
    pub(crate) view: View,
    /// A text frame to send after a websocket's upgrade; {topic} is filled in
    #[arg(long)]
    pub(crate) subscribe: Vec<String>,
    /// What the message that confirms a websocket's subscription has in it; without it a
    /// subscription counts as standing when its frame was sent
    #[arg(long)]
    pub(crate) ready: Option<String>,
    /// Bytes of an event's data
    #[arg(long, default_value = "256", value_parser = within(64..=65_536))]
    pub(crate) payload: u32,
    /// Topics are `<this>/<run>/<number>`
    #[arg(long, default_value = "bench")]
    pub(crate) topics_under: String,
    /// The hub's processes; found from the URL's port when not given
    #[arg(long)]
    pub(crate) hub_pid: Vec<u32>,
    /// Redis' processes; their time counts as the server's
    #[arg(long)]
    pub(crate) redis_pid: Vec<u32>,
    /// Finds Redis' process by the port it listens on, and asks it there what its commands took
    #[arg(long)]
    pub(crate) redis_port: Option<u16>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How long and how fast.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// How long is measured, at most 120 s
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// How long before that it runs unmeasured
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Events a second over all topics; without it, a closed loop: the next one when readers have
    /// the ones before
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// In the closed loop: events of one publisher that are on their way to readers
    #[arg(long, default_value = "2", value_parser = within(1..=1024))]
    pub(crate) depth: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FanOut {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Readers of the topic
    #[arg(long, default_value = "1000", value_parser = within(1..=READERS_MAX as u64))]
    pub(crate) readers: u32,
    /// Publishers, each with its own run of numbers
    #[arg(long, default_value = "16", value_parser = within(1..=256))]
    pub(crate) publishers: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Topics {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Topics, each with a publisher
    #[arg(long, default_value = "100", value_parser = within(1..=10_000))]
    pub(crate) topics: u32,
    /// Readers of each topic
    #[arg(long, default_value = "10", value_parser = within(1..=READERS_MAX as u64))]
    pub(crate) readers: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Connections
    #[arg(long, default_value = "1000", value_parser = within(1..=READERS_MAX as u64))]
    pub(crate) connections: u32,
    /// Topics they are spread over
    #[arg(long, default_value = "1", value_parser = within(1..=10_000))]
    pub(crate) topics: u32,
    /// How long they are held
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) hold: Duration,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Clients that come back
    #[arg(long, default_value = "200", value_parser = within(1..=READERS_MAX as u64))]
    pub(crate) clients: u32,
    /// Events that each has missed
    #[arg(long, default_value = "500", value_parser = within(1..=100_000))]
    pub(crate) missed: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Poll {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Clients, each on a connection of its own
    #[arg(long, default_value = "100", value_parser = within(1..=READERS_MAX as u64))]
    pub(crate) clients: u32,
    /// Events that each answer brings
    #[arg(long, default_value = "1", value_parser = within(0..=100))]
    pub(crate) events: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Publishers, each on a connection of its own
    #[arg(long, default_value = "64", value_parser = within(1..=256))]
    pub(crate) publishers: u32,
    /// Topics they publish to
    #[arg(long, default_value = "100", value_parser = within(1..=10_000))]
    pub(crate) topics: u32,
    /// Events per request
    #[arg(long, default_value = "1", value_parser = within(1..=500))]
    pub(crate) batch: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Suite {
    /// The hub's binary
    #[arg(long)]
    pub(crate) tidings: PathBuf,
    /// Redis' binary
    #[arg(long, default_value = "redis-server")]
    pub(crate) redis_server: PathBuf,
    /// Measure with the hub's memory log, without Redis
    #[arg(long)]
    pub(crate) memory: bool,
    /// Only rows whose name contains this
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// How long each row is measured
    #[arg(long, default_value = "4", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// The processor core of the hub and Redis
    #[arg(long, default_value = "0")]
    pub(crate) server_core: u32,
    /// The processor core of this program
    #[arg(long, default_value = "1")]
    pub(crate) client_core: u32,
    /// A tenth of everything, without bars: for trying the suite itself
    #[arg(long)]
    pub(crate) small: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Dialects {
    /// The hub's binary
    #[arg(long)]
    pub(crate) tidings: PathBuf,
    /// Redis' binary
    #[arg(long, default_value = "redis-server")]
    pub(crate) redis_server: PathBuf,
    /// Only scenarios whose names begin with one of these, e.g. airsend,burokratt-idle
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// How long idle connections are watched and keys are polled
    #[arg(long, default_value = "120", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Of every count so many hundredths: for trying a scenario, or for a machine that cannot do all
    #[arg(long, default_value = "100", value_parser = within(1..=100))]
    pub(crate) percent: u32,
    /// The processor core of the hub and Redis
    #[arg(long, default_value = "0")]
    pub(crate) server_core: u32,
    /// The processor core of this program
    #[arg(long, default_value = "1")]
    pub(crate) client_core: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Connections from one address to another cannot be more than there are ephemeral ports (28,000 by
/// default on Linux), and publishers need some.
pub(crate) const READERS_MAX: u32 = 20_000;

fn within(range: RangeInclusive<u64>) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(range)
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.trim_end_matches('s').parse().context("not a number")?;
    if !(0.05..=120.0).contains(&seconds) {
        bail!("not between 0.05 and 120 seconds");
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64> {
    let rate: f64 = text.parse().context("not a number")?;
    if !(0.1..=100_000.0).contains(&rate) {
        bail!("not between 0.1 and 100,000 a second");
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_is_bounded() {
        for arguments in [
            &["fan-out", "--readers", "20001"][..],
            &["fan-out", "--seconds", "121"],
            &["fan-out", "--seconds", "inf"],
            &["fan-out", "--rate", "NaN"],
            &["topics", "--topics", "0"],
            &["publish", "--batch", "501"],
            &["idle", "--url", "http://192.0.2.1"],
            &["dialects", "--tidings", "t", "--percent", "101"],
            &["dialects", "--tidings", "t", "--seconds", "121"],
        ] {
            let line = ["tidings-bench"].iter().chain(arguments);
            assert!(Cli::try_parse_from(line).is_err(), "{arguments:?}");
        }
    }
}
