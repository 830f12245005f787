//! `tidings-bench`: loads a running hub and checks every delivery.
//!
//! It answers one question per subcommand, always in two parts: what the servers spent (processor
//! seconds of hub and Redis, not wall-clock time, which a busy machine distorts), and whether every
//! event arrived once and in order. One thread, so that it leaves a small machine to the hub. It
//! speaks HTTP and websockets from scratch and knows no crate of this workspace: it can be pointed
//! at any hub that is running.

mod board;
mod check;
mod chunked;
mod cli;
mod dialects;
mod http;
mod intake;
mod meter;
mod process;
mod publishers;
mod readers;
mod redis;
mod report;
mod scenario;
mod servers;
mod site;
mod sse;
mod stamp;
mod suite;
mod target;
mod websocket;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::report::Report;
use crate::scenario::{idle, load, poll, publish, replay};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            let _ = writeln!(std::io::stderr(), "tidings-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether everything was right.
fn run(cli: &Cli) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        tokio::select! {
            result = perform(&cli.command) => result,
            // Left in order, so that servers started here are ended.
            () = stopped() => anyhow::bail!("stopped by a signal"),
        }
    })
}

async fn perform(command: &Command) -> Result<bool> {
    let (report, json) = match command {
        Command::FanOut(args) => (load::fan_out(args).await?, args.hub.json),
        Command::Topics(args) => (load::topics(args).await?, args.hub.json),
        Command::Idle(args) => (idle::run(args).await?, args.hub.json),
        Command::Replay(args) => (replay::run(args).await?, args.hub.json),
        Command::Poll(args) => (poll::run(args).await?, args.hub.json),
        Command::Publish(args) => (publish::run(args).await?, args.hub.json),
        Command::Suite(args) => return suite::run(args).await,
        Command::Dialects(args) => return dialects::run(args).await,
    };
    print(&report, json)?;
    Ok(report.is_clean())
}

fn print(report: &Report, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", report.json())?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without signals of our own the system's defaults stay.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
