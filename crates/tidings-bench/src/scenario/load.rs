//! `fan-out` and `topics`: events to readers that stay connected.

use std::rc::Rc;

use anyhow::{Result, bail};

use super::READY_WITHIN;
use crate::board::Board;
use crate::cli::{FanOut, LoadArgs, READERS_MAX, Topics};
use crate::meter::Mark;
use crate::publishers::{Pace, Publishers};
use crate::readers::Readers;
use crate::report::Report;
use crate::site::Site;

/// How much of what.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    topics: u32,
    readers_per_topic: u32,
    publishers_per_topic: u32,
}

pub(crate) async fn fan_out(args: &FanOut) -> Result<Report> {
    let shape = Shape {
        name: "fan-out",
        topics: 1,
        readers_per_topic: args.readers,
        // At a fixed rate one publisher is enough, and events then come evenly.
        publishers_per_topic: if args.load.rate.is_some() {
            1
        } else {
            args.publishers
        },
    };
    run(Site::find(&args.hub)?, &args.load, &shape).await
}

pub(crate) async fn topics(args: &Topics) -> Result<Report> {
    let shape = Shape {
        name: "topics",
        topics: args.topics,
        readers_per_topic: args.readers,
        publishers_per_topic: 1,
    };
    run(Site::find(&args.hub)?, &args.load, &shape).await
}

async fn run(site: Site, load: &LoadArgs, shape: &Shape) -> Result<Report> {
    let readers = u64::from(shape.topics) * u64::from(shape.readers_per_topic);
    let Some(readers) = u32::try_from(readers)
        .ok()
        .filter(|count| *count <= READERS_MAX)
    else {
        bail!("{readers} readers are more than {READERS_MAX}");
    };
    let site = Rc::new(site);
    let board = Rc::new(Board::new(
        shape.topics,
        shape.publishers_per_topic,
        shape.readers_per_topic,
    ));
    let seats: Vec<_> = (0..readers)
        .map(|reader| board.seat(reader % shape.topics, None, None))
        .collect();
    let resident = site.hub.resident_kib()?;
    let readers_at_work = Readers::start(&site, &board, seats);
    board.all_ready(readers, READY_WITHIN).await?;
    let connected = site.hub.resident_kib()?;

    let pace = match load.rate {
        Some(per_second) => Pace::Fixed { per_second },
        None => Pace::Closed { depth: load.depth },
    };
    let publishers = Publishers::start(&site, &board, board.lanes().end, pace, 1);
    tokio::time::sleep(load.warmup).await;
    board.forget_times();
    let mark = Mark::now(&site, &board)?;
    tokio::time::sleep(load.seconds).await;
    let span = mark.until_now(&site, &board)?;
    board.stop();
    publishers.ended().await;
    let expected = board.counts().published * u64::from(shape.readers_per_topic);
    board.drained(expected).await;
    let loaded = site.hub.resident_kib()?;

    let pacing = match load.rate {
        Some(rate) => format!("{rate} events/s"),
        None => "closed loop".to_owned(),
    };
    let mut report = Report::new(format!(
        "{}: {} x {} readers, {}, {} B, {pacing}",
        shape.name,
        shape.topics,
        shape.readers_per_topic,
        site.transport.as_str(),
        site.payload,
    ));
    span.deliveries(&mut report);
    report.times(
        ["latency_p50", "latency_p99", "latency_p999", "latency_max"],
        &board.latency.borrow(),
    );
    report.times(
        ["publish_p50", "publish_p99", "publish_p999", "publish_max"],
        &board.answers.borrow(),
    );
    let each = (connected - resident) * 1024.0 / f64::from(readers);
    report.figure("bytes_per_connection", each, "B");
    report.figure("hub_resident_at_the_end", loaded, "KiB");
    report.verdict(
        board.close(readers_at_work.seats.iter().map(|seat| &**seat)),
        &board,
    );
    Ok(report)
}
