//! `idle`: what a connection costs that gets nothing.

use std::rc::Rc;

use anyhow::Result;

use super::READY_WITHIN;
use crate::board::Board;
use crate::cli::Idle;
use crate::meter::Mark;
use crate::readers::Readers;
use crate::report::Report;
use crate::site::Site;

pub(crate) async fn run(args: &Idle) -> Result<Report> {
    let site = Rc::new(Site::find(&args.hub)?);
    let board = Rc::new(Board::new(args.topics, 1, args.connections));
    let seats: Vec<_> = (0..args.connections)
        .map(|reader| board.seat(reader % args.topics, None, None))
        .collect();
    let connections = f64::from(args.connections);
    let before = site.hub.resident_kib()?;
    let mark = Mark::now(&site, &board)?;
    let readers = Readers::start(&site, &board, seats);
    board.all_ready(args.connections, READY_WITHIN).await?;
    let connecting = mark.until_now(&site, &board)?;
    let mark = Mark::now(&site, &board)?;
    tokio::time::sleep(args.hold).await;
    let idle = mark.until_now(&site, &board)?;
    let after = site.hub.resident_kib()?;

    let mut report = Report::new(format!(
        "idle: {} connections, {}, {} topics",
        args.connections,
        site.transport.as_str(),
        args.topics,
    ));
    report.figure("kib_per_connection", (after - before) / connections, "KiB");
    report.figure("hub_before", before, "KiB");
    report.figure("hub_after", after, "KiB");
    report.figure(
        "connections_per_second",
        connections / connecting.seconds,
        "/s",
    );
    report.figure(
        "hub_cpu_per_connect",
        connecting.hub / connections * 1e6,
        "us",
    );
    report.times(
        ["setup_p50", "setup_p99", "setup_p999", "setup_max"],
        &board.setup.borrow(),
    );
    report.figure("idle_hub_cpu", idle.hub / idle.seconds * 100.0, "%");
    report.verdict(
        board.close(readers.seats.iter().map(|seat| &**seat)),
        &board,
    );
    Ok(report)
}
