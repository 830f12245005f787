//! `replay`: clients come back with a cursor, all at once, and get what they have missed.

use std::rc::Rc;

use anyhow::{Context as _, Result, bail};

use super::READY_WITHIN;
use crate::board::Board;
use crate::cli::Replay;
use crate::meter::Mark;
use crate::publishers::{Pace, Publishers};
use crate::readers::Readers;
use crate::report::Report;
use crate::site::{Site, Transport};

/// Events per request while they are published: well below what a hub takes in one.
const BATCH_MAX: u32 = 100;

/// Deliveries of one run: a hundred times the usual one, and half a minute's work.
const DELIVERIES_MAX: u64 = 10_000_000;

pub(crate) async fn run(args: &Replay) -> Result<Report> {
    let site = Rc::new(Site::find(&args.hub)?);
    if site.transport == Transport::Ws {
        bail!("how a websocket resumes is its dialect's own: use sse or long-poll");
    }
    let deliveries = u64::from(args.clients) * u64::from(args.missed);
    if deliveries > DELIVERIES_MAX {
        bail!(
            "{deliveries} deliveries are more than {DELIVERIES_MAX}: fewer clients, or fewer events"
        );
    }
    let board = Rc::new(Board::new(1, 1, args.clients));
    let cursor = {
        // The one who learns where everybody was before the others left.
        let first = Readers::start(&site, &board, vec![board.seat(0, None, None)]);
        board.all_ready(1, READY_WITHIN).await?;
        let placed = first.seats[0].placed.borrow().clone();
        String::from_utf8(placed).context("the cursor is not text")?
    };
    let batch = (1..=BATCH_MAX.min(args.missed))
        .rev()
        .find(|batch| args.missed.is_multiple_of(*batch))
        .unwrap_or(1);
    let each = args.missed;
    Publishers::start(&site, &board, 1, Pace::Free { each }, batch)
        .ended()
        .await;
    if board.published(0) != each {
        bail!("{} of {each} events could be published", board.published(0));
    }

    let seats = (0..args.clients)
        .map(|_| board.seat(0, Some(cursor.clone()), Some(each)))
        .collect();
    let mark = Mark::now(&site, &board)?;
    let begun = board.now();
    let readers = Readers::start(&site, &board, seats);
    board.drained(deliveries).await;
    let span = mark.until_now(&site, &board)?;

    let mut report = Report::new(format!(
        "replay: {} clients x {each} missed events, {}, {} B",
        args.clients,
        site.transport.as_str(),
        site.payload,
    ));
    let done: Vec<_> = readers
        .seats
        .iter()
        .filter_map(|seat| seat.done.get())
        .collect();
    if done.len() == readers.seats.len()
        && let Some(last) = done.iter().max()
    {
        let seconds = (last - begun) as f64 / 1e9;
        report.figure("all_caught_up", seconds, "s");
        report.figure(
            "deliveries_per_second",
            span.counts.delivered as f64 / seconds,
            "/s",
        );
    }
    report.figure("clients_caught_up", done.len() as f64, "");
    let mut times = board.setup.borrow_mut();
    times.reset();
    for done in done {
        times.saturating_record(done - begun);
    }
    report.times(
        ["client_p50", "client_p99", "client_p999", "client_max"],
        &times,
    );
    report.figure(
        "server_cpu_seconds_per_million_deliveries",
        span.servers() / span.counts.delivered as f64 * 1e6,
        "s",
    );
    report.figure("hub_cpu_seconds", span.hub, "s");
    if let Some(redis) = span.redis {
        report.figure("redis_cpu_seconds", redis, "s");
    }
    report.verdict(
        board.close(readers.seats.iter().map(|seat| &**seat)),
        &board,
    );
    Ok(report)
}
