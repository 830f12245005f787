//! `airsend-idle`: what 10,000 authenticated connections cost that get pings and nothing else.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::Scene;
use super::crowd::{Client, Crowd};
use crate::board::Board;
use crate::cli::Dialects;
use crate::dialects::share;
use crate::meter::per_connection;
use crate::report::Report;

/// Members of a channel. Everybody is in one, since a connection that follows nothing says little.
const MEMBERS: u32 = 10;

/// Ten thousand clients, each with two requests and a websocket, take a debug build minutes.
const ENTERED_WITHIN: Duration = Duration::from_secs(400);

/// The hub's ping; the default of its configuration.
const PING: Duration = Duration::from_secs(25);

pub(crate) async fn idle(args: &Dialects) -> Result<Report> {
    let connections = share(10_000, args).next_multiple_of(MEMBERS);
    let scene = Scene::set(args, "").await?;
    let stage = &scene.stage;
    scene.users(1..=connections).await?;
    let channels = (0..connections / MEMBERS).map(|channel| {
        let first = channel * MEMBERS + 1;
        (channel + 1, (first..first + MEMBERS).collect())
    });
    scene.channels(channels).await?;
    let quiet = stage.quiet().await?;

    let board = Rc::new(Board::new(1, 1, connections));
    let before = stage.hub.resident_kib()?;
    let mark = stage.mark().await?;
    let clients = (1..=connections).map(|user| Client { user, stuck: false });
    let crowd = Crowd::enter(stage.dialect, &board, clients.collect());
    board.all_ready(connections, ENTERED_WITHIN).await?;
    let entering = stage.since(&mark).await?;
    // What entering brought is done.
    stage.quiet().await?;
    let entered = stage.hub.resident_kib()?;
    let (mark, pings) = (stage.mark().await?, crowd.pings());
    tokio::time::sleep(args.seconds).await;
    let span = stage.since(&mark).await?;
    let pings = (crowd.pings() - pings) as f64;
    let after = stage.hub.resident_kib()?;

    let mut report = Report::new(format!(
        "airsend-idle: {connections} connections in channels of {MEMBERS}, a ping every 25 s"
    ));
    let each = f64::from(connections);
    report.figure(
        "bytes_per_connection",
        per_connection(before, after, each),
        "B",
    );
    report.figure(
        "bytes_per_connection_at_first",
        per_connection(before, entered, each),
        "B",
    );
    report.figure("pings_answered", pings, "");
    report.figure("hub_cpu_per_ping", span.hub_per(pings, &quiet) * 1e6, "us");
    span.load(&mut report);
    report.figure(
        "redis_calls_per_second_without_connections",
        quiet.calls_per_second(),
        "/s",
    );
    report.figure(
        "hub_cpu_without_connections",
        quiet.hub / quiet.seconds * 100.0,
        "%",
    );
    report.figure("connections_per_second", each / entering.seconds, "/s");
    report.figure("hub_cpu_per_connect", entering.hub / each * 1e3, "ms");
    report.figure(
        "redis_calls_per_connect",
        entering.calls_per(each, &quiet),
        "",
    );
    report.times(
        ["setup_p50", "setup_p99", "setup_p999", "setup_max"],
        &board.setup.borrow(),
    );
    report.note(format!(
        "commands a second: {}",
        span.commands(span.seconds)
    ));
    report.note(format!(
        "without connections: {}",
        quiet.commands(quiet.seconds)
    ));
    // Each whole interval has brought everybody a ping, but for those whose turn is at its ends.
    let rounds = (span.seconds / PING.as_secs_f64() - 1.0).max(0.0).floor();
    if pings < rounds * each {
        board.fail(&anyhow::anyhow!(
            "{pings} pings in {:.0} s for {connections} connections",
            span.seconds
        ));
    }
    report.verdict(board.close(crowd.seats.iter().map(|seat| &**seat)), &board);
    Ok(report)
}
