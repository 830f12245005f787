//! Dialects: what the clients of each cost, every scenario against a fresh Redis and a hub that
//! speaks the dialect.
//!
//! The rows of the suite are held to bars that other servers set. Nobody else speaks these dialects,
//! so here are figures alone; what a figure must not be (a cost that grows with a channel's members,
//! a stuck client that is kept) makes the run fail. The wire is spoken from scratch here, too.

mod airsend;
mod burokratt;
mod cardsavr;
mod requests;
mod stage;

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::cli::Dialects;
use crate::report::{Report, amount};
use crate::servers::{pin_self, raise_open_files};

/// No scenario takes longer, whatever hangs: the longest connects 10,000 and watches them for the
/// two minutes that `--seconds` allows, and a debug build on a busy machine takes several times that.
const SCENARIO_MAX: Duration = Duration::from_secs(15 * 60);

/// One question.
struct Scenario {
    name: &'static str,
    /// The figures that answer it.
    answers: &'static [&'static str],
}

const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "airsend-members",
        answers: &[
            "redis_calls_per_post",
            "redis_calls_per_post_to_ten",
            "script_time_per_post",
            "script_time_per_post_to_ten",
            "hub_cpu_per_post",
            "hub_cpu_per_delivery",
            "all_have_it_p50",
            "all_have_it_max",
        ],
    },
    Scenario {
        name: "airsend-idle",
        answers: &[
            "bytes_per_connection",
            "hub_cpu",
            "hub_cpu_per_ping",
            "redis_calls_per_second",
        ],
    },
    Scenario {
        name: "airsend-stuck",
        answers: &[
            "hub_grew_at_most",
            "others_have_it_p50",
            "others_have_it_max",
            "closed_as_too_slow",
        ],
    },
    Scenario {
        name: "burokratt-idle",
        answers: &[
            "bytes_per_connection",
            "hub_cpu",
            "hub_cpu_without_connections",
            "hub_cpu_per_heartbeat",
        ],
    },
    Scenario {
        name: "burokratt-views",
        answers: &[
            "computations_of_the_list_per_change",
            "computations_per_change",
            "hub_cpu_per_change",
            "all_have_it_p50",
            "all_have_it_max",
        ],
    },
    Scenario {
        name: "cardsavr-polls",
        answers: &[
            "hub_cpu",
            "hub_cpu_per_poll",
            "redis_calls_per_poll",
            "log_reads_per_poll",
        ],
    },
    Scenario {
        name: "cardsavr-signed",
        answers: &[
            "hub_cpu",
            "hub_cpu_per_poll",
            "redis_calls_per_poll",
            "log_reads_per_poll",
        ],
    },
];

/// Runs them. Answers whether everything came once and in order, and nothing was as it must not be.
pub(crate) async fn run(args: &Dialects) -> Result<bool> {
    let chosen = |scenario: &&Scenario| {
        let begins = |part: &String| scenario.name.starts_with(part.as_str());
        args.only.is_empty() || args.only.iter().any(begins)
    };
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(chosen).collect();
    if scenarios.is_empty() {
        bail!("no scenario has such a name");
    }
    pin_self(args.client_core)?;
    raise_open_files()?;
    let (mut rows, mut found, mut clean) = (Vec::new(), Vec::new(), true);
    for scenario in scenarios {
        let load = load_average();
        let report = tokio::time::timeout(SCENARIO_MAX, measure(args, scenario.name))
            .await
            .with_context(|| format!("`{}` takes too long", scenario.name))?
            .with_context(|| format!("scenario `{}`", scenario.name))?;
        clean &= report.is_clean();
        if args.json {
            let (command, report) = (command(args, scenario), report.json());
            found.push(json!({"scenario": scenario.name, "command": command, "load": load, "report": report}));
        } else {
            let mut out = std::io::stdout().lock();
            write!(out, "{report}")?;
            writeln!(
                out,
                "  load average before {load}, after {}\n",
                load_average()
            )?;
            rows.extend(in_words(args, scenario, &report));
        }
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", Value::Array(found))?;
    } else {
        for row in rows {
            writeln!(out, "{row}")?;
        }
    }
    Ok(clean)
}

async fn measure(args: &Dialects, name: &str) -> Result<Report> {
    match name {
        "airsend-members" => airsend::members(args).await,
        "airsend-idle" => airsend::idle(args).await,
        "airsend-stuck" => airsend::stuck(args).await,
        "burokratt-idle" => burokratt::idle(args).await,
        "burokratt-views" => burokratt::views(args).await,
        "cardsavr-polls" => cardsavr::polls(args).await,
        "cardsavr-signed" => cardsavr::signed(args).await,
        _ => bail!("no such scenario"),
    }
}

/// So many hundredths of a count, but one at least.
fn share(count: u32, args: &Dialects) -> u32 {
    (count * args.percent / 100).max(1)
}

/// The command line that measures a scenario again.
fn command(args: &Dialects, scenario: &Scenario) -> String {
    let mut command = format!(
        "tidings-bench dialects --tidings {} --only {} --seconds {}",
        args.tidings.display(),
        scenario.name,
        args.seconds.as_secs_f64(),
    );
    if args.percent != 100 {
        command.push_str(&format!(" --percent {}", args.percent));
    }
    command
}

fn in_words(args: &Dialects, scenario: &Scenario, report: &Report) -> Vec<String> {
    let verdict = match report.is_clean() {
        true => "all was right".to_owned(),
        false => report.complaints(),
    };
    let mut rows = vec![format!(
        "{}: {verdict}\n  {}",
        scenario.name,
        command(args, scenario)
    )];
    rows.extend(scenario.answers.iter().map(|name| {
        let figure = match report.get_with_unit(name) {
            Some((value, unit)) => format!("{:>14} {unit}", amount(value)),
            None => format!("{:>14}", "not measured"),
        };
        format!("  {:<42} {figure}", name.replace('_', " "))
    }));
    rows
}

/// What else the machine does: the average of the last minute, as the system says it.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_command_measures_the_same_again() {
        let line = "tidings-bench dialects --tidings t --only airsend,cardsavr-polls --percent 7";
        let args = |line: &str| match Cli::try_parse_from(line.split(' '))
            .expect("a command")
            .command
        {
            Command::Dialects(args) => args,
            other => panic!("{other:?}"),
        };
        let given = args(line);
        assert_eq!(given.only, ["airsend", "cardsavr-polls"]);
        let again = args(&command(&given, &SCENARIOS[0]));
        assert_eq!((again.percent, again.seconds), (7, given.seconds));
        assert_eq!(again.only, ["airsend-members"]);
        assert_eq!((share(1_000, &given), share(3, &given)), (70, 1));
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let line = ["tidings-bench", "dialects", "--tidings", "t"];
        let Command::Dialects(args) = Cli::try_parse_from(line).expect("a command").command else {
            panic!("another command");
        };
        let mut report = Report::new("x".to_owned());
        report.figure("hub_cpu", 2.5, "%");
        let rows = in_words(&args, &SCENARIOS[1], &report).join("\n");
        assert!(rows.contains("2.50 %"), "{rows}");
        assert!(rows.contains("not measured"), "{rows}");
    }
}
