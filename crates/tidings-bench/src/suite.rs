//! The suite: every row of the table in `docs/benchmarks.md`, each against a fresh Redis and hub,
//! side by side with its bar.
//!
//! A row is a command line of this very program, so that each can be run by itself against any hub.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli::{Cli, Command, Suite};
use crate::report::{Report, amount};
use crate::scenario::{idle, load, poll, publish, replay};
use crate::servers::{Plan, Servers, pin_self};

/// One measurement and what is expected of it.
#[derive(Debug)]
struct Row {
    name: &'static str,
    /// The command line that measures it.
    command: &'static str,
    /// Says nothing without Redis.
    needs_redis: bool,
    goals: &'static [Goal],
}

/// A figure that must not be above its bar.
#[derive(Debug)]
struct Goal {
    figure: &'static str,
    unit: &'static str,
    /// `None` where a figure is only looked at.
    bar: Option<f64>,
    /// The best other server, measured in the same way.
    peer: &'static str,
}

/// Topics of the rows, open to everybody.
const TOPICS_UNDER: &str = "bench";

const CPU: &str = "server_cpu_seconds_per_million_deliveries";
const CPU_UNIT: &str = "CPU s/M";

// In the saturated rows of one topic, as many events are on their way at a time as went into one
// write of the fastest possible server when the bars were taken (11 and 6): more in flight would
// make larger writes and better figures, for any server that joins them.
const ROWS: [Row; 11] = [
    Row {
        name: "1 topic, 1,000 readers, saturated",
        command: "fan-out --readers 1000 --publishers 16 --depth 1",
        needs_redis: false,
        goals: &[Goal {
            figure: CPU,
            unit: CPU_UNIT,
            bar: Some(2.0),
            peer: "2.4 nchan ws, 3.8 nchan sse",
        }],
    },
    Row {
        name: "1 topic, 10,000 readers, saturated",
        command: "fan-out --readers 10000 --publishers 8 --depth 1",
        needs_redis: false,
        goals: &[Goal {
            figure: CPU,
            unit: CPU_UNIT,
            bar: Some(7.0),
            peer: "9.6 nchan ws, 11.1 node ws",
        }],
    },
    Row {
        name: "100 topics x 10 readers, saturated",
        command: "topics --topics 100 --readers 10",
        needs_redis: false,
        goals: &[Goal {
            figure: CPU,
            unit: CPU_UNIT,
            bar: Some(10.0),
            peer: "10.2 nchan in memory, 14.7 Socket.IO",
        }],
    },
    Row {
        name: "10,000 idle connections, sse",
        command: "idle --connections 10000",
        needs_redis: false,
        goals: &[Goal {
            figure: "kib_per_connection",
            unit: "KiB",
            bar: Some(10.0),
            peer: "10 nchan sse",
        }],
    },
    Row {
        name: "200 clients x 500 missed events",
        command: "replay --clients 200 --missed 500",
        needs_redis: false,
        goals: &[Goal {
            figure: "all_caught_up",
            unit: "s",
            bar: Some(0.5),
            peer: "0.55 nchan",
        }],
    },
    Row {
        name: "20,000 deliveries/s, 1 topic",
        command: "fan-out --readers 1000 --rate 20",
        needs_redis: false,
        goals: &[
            Goal {
                figure: "latency_p50",
                unit: "ms",
                bar: Some(5.0),
                peer: "5.4 nchan ws",
            },
            Goal {
                figure: "latency_p99",
                unit: "ms",
                bar: Some(14.0),
                peer: "14 nchan ws",
            },
        ],
    },
    Row {
        name: "20,000 deliveries/s, 100 topics",
        command: "topics --topics 100 --readers 10 --rate 2000",
        needs_redis: false,
        goals: &[
            Goal {
                figure: "latency_p50",
                unit: "ms",
                bar: Some(0.35),
                peer: "0.24 Socket.IO, 0.35 nchan",
            },
            Goal {
                figure: "latency_p99",
                unit: "ms",
                bar: Some(6.6),
                peer: "24.9 Socket.IO, 6.6 nchan",
            },
        ],
    },
    Row {
        name: "Redis per publish, 1 publisher",
        command: "publish --publishers 1",
        needs_redis: true,
        goals: &[Goal {
            figure: "redis_cpu_per_append",
            unit: "us",
            bar: None,
            peer: "unpipelined: plain XADD 11.7",
        }],
    },
    Row {
        name: "Redis per publish, 64 publishers",
        command: "publish --publishers 64",
        needs_redis: true,
        goals: &[Goal {
            figure: "redis_cpu_per_append",
            unit: "us",
            bar: Some(9.0),
            peer: "14.2 Centrifugo",
        }],
    },
    Row {
        name: "Redis per publish, 256 publishers",
        command: "publish --publishers 256",
        needs_redis: true,
        goals: &[Goal {
            figure: "redis_cpu_per_append",
            unit: "us",
            bar: Some(9.0),
            peer: "14.2 Centrifugo",
        }],
    },
    Row {
        name: "100 keep-alive pollers",
        command: "poll --clients 100",
        needs_redis: false,
        goals: &[Goal {
            figure: "server_cpu_seconds_per_million_requests",
            unit: "CPU s/M",
            bar: None,
            peer: "10.8 nchan",
        }],
    },
];

/// Runs it. Answers whether every delivery was right; a bar that is missed is said, and no error:
/// another machine has other figures.
pub(crate) async fn run(suite: &Suite) -> Result<bool> {
    pin_self(suite.client_core)?;
    let chosen = |row: &&Row| {
        let named = suite
            .only
            .as_ref()
            .is_none_or(|part| row.name.contains(part));
        named && !(row.needs_redis && suite.memory)
    };
    let rows: Vec<&Row> = ROWS.iter().filter(chosen).collect();
    if rows.is_empty() {
        bail!("no row has such a name");
    }
    let mut lines = Vec::new();
    let mut found = Vec::new();
    let mut clean = true;
    for row in rows {
        let report = measure(suite, row)
            .await
            .with_context(|| format!("row `{}`", row.name))?;
        clean &= report.is_clean();
        if suite.json {
            found.push(in_json(row, &report, suite.small));
        } else {
            writeln!(std::io::stdout(), "{report}")?;
            lines.extend(in_words(row, &report, suite.small));
        }
    }
    let mut out = std::io::stdout().lock();
    if suite.json {
        writeln!(out, "{}", Value::Array(found))?;
    } else {
        for line in lines {
            writeln!(out, "{line}")?;
        }
    }
    Ok(clean)
}

async fn measure(suite: &Suite, row: &Row) -> Result<Report> {
    let servers = Servers::start(&Plan {
        tidings: &suite.tidings,
        redis_server: (!suite.memory).then_some(&suite.redis_server),
        core: suite.server_core,
        config: None,
        open_topics: &format!("{TOPICS_UNDER}/**"),
    })
    .await?;
    let mut line = vec!["tidings-bench".to_owned()];
    line.extend(
        row.command
            .split(' ')
            .map(|word| match word.parse::<u32>() {
                Ok(number) if suite.small => number.div_ceil(10).to_string(),
                _ => word.to_owned(),
            }),
    );
    line.push(format!("--url=http://127.0.0.1:{}", servers.hub.port));
    line.push(format!("--topics-under={TOPICS_UNDER}"));
    line.push(format!("--hub-pid={}", servers.hub.pid()));
    if let Some(redis) = &servers.redis {
        line.push(format!("--redis-port={}", redis.port));
    }
    let mut cli = Cli::try_parse_from(line)?;
    match &mut cli.command {
        Command::FanOut(args) => args.load.seconds = suite.seconds,
        Command::Topics(args) => args.load.seconds = suite.seconds,
        Command::Poll(args) => args.load.seconds = suite.seconds,
        Command::Publish(args) => args.load.seconds = suite.seconds,
        Command::Idle(_) | Command::Replay(_) | Command::Suite(_) | Command::Dialects(_) => {}
    }
    match &cli.command {
        Command::FanOut(args) => load::fan_out(args).await,
        Command::Topics(args) => load::topics(args).await,
        Command::Idle(args) => idle::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Poll(args) => poll::run(args).await,
        Command::Publish(args) => publish::run(args).await,
        Command::Suite(_) | Command::Dialects(_) => bail!("a row is one measurement"),
    }
}

fn in_words(row: &Row, report: &Report, small: bool) -> Vec<String> {
    let line = |goal: &Goal| {
        let value = report.get(goal.figure);
        let figure = value.map_or("-".to_owned(), amount);
        let bar = goal.bar.filter(|_| !small);
        let verdict = match (report.is_clean(), value, bar) {
            (false, ..) => report.complaints(),
            (_, None, _) => "not measured".to_owned(),
            (.., None) => String::new(),
            (_, Some(value), Some(bar)) if value <= bar => "met".to_owned(),
            (_, Some(value), Some(bar)) => {
                format!("missed by {:.0} %", (value / bar - 1.0) * 100.0)
            }
        };
        let bar = bar.map_or("-".to_owned(), amount);
        format!(
            "{:<36} {figure:>8} {:<7} bar {bar:>5}  {verdict:<16} ({})",
            row.name, goal.unit, goal.peer
        )
    };
    row.goals.iter().map(line).collect()
}

fn in_json(row: &Row, report: &Report, small: bool) -> Value {
    let goals: Vec<Value> = row
        .goals
        .iter()
        .map(|goal| {
            let value = report.get(goal.figure);
            let bar = goal.bar.filter(|_| !small);
            let met = value.zip(bar).map(|(value, bar)| value <= bar);
            json!({"figure": goal.figure, "value": value, "bar": bar, "met": met})
        })
        .collect();
    json!({"row": row.name, "command": row.command, "goals": goals, "report": report.json()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_command_line() {
        for row in &ROWS {
            let line = ["tidings-bench"].into_iter().chain(row.command.split(' '));
            assert!(Cli::try_parse_from(line).is_ok(), "{}", row.command);
        }
    }

    #[test]
    fn a_figure_is_held_to_its_bar() {
        let line = |value: f64| {
            let mut report = Report::new("x".to_owned());
            report.figure(CPU, value, "s");
            in_words(&ROWS[0], &report, false).concat()
        };
        assert!(line(2.0).contains("bar     2  met"), "{}", line(2.0));
        assert!(line(3.0).contains("missed by 50 %"), "{}", line(3.0));
        assert!(line(f64::NAN).contains("not measured"));
    }
}
