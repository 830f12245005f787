//! `publish`: what it costs to take events in. They are read back afterwards and checked.

use std::rc::Rc;

use anyhow::{Context as _, Result, bail};

use crate::board::{Board, Seat};
use crate::cli::Publish;
use crate::http::{Exchange, get};
use crate::meter::Mark;
use crate::publishers::{Pace, Publishers};
use crate::redis::Commands;
use crate::report::Report;
use crate::site::Site;
use crate::stamp::Stamp;

pub(crate) async fn run(args: &Publish) -> Result<Report> {
    let site = Rc::new(Site::find(&args.hub)?);
    // With more publishers than topics several share one, each in a lane of its own.
    let lanes_per_topic = args.publishers.div_ceil(args.topics);
    let board = Rc::new(Board::new(args.topics, lanes_per_topic, 1));
    let pace = match args.load.rate {
        Some(per_second) => Pace::Fixed { per_second },
        None => Pace::Free { each: u32::MAX },
    };
    let publishers = Publishers::start(&site, &board, args.publishers, pace, args.batch);
    tokio::time::sleep(args.load.warmup).await;
    board.forget_times();
    let commands = commands(&site).await?;
    let mark = Mark::now(&site, &board)?;
    tokio::time::sleep(args.load.seconds).await;
    let span = mark.until_now(&site, &board)?;
    let commands = commands_since(&site, commands).await?;
    board.stop();
    publishers.ended().await;
    let seats: Vec<Seat> = (0..args.topics)
        .map(|topic| board.seat(topic, None, None))
        .collect();
    read_back(&site, &board, &seats).await?;

    let mut report = Report::new(format!(
        "publish: {} publishers, {} topics, {} events of {} B per request",
        args.publishers, args.topics, args.batch, site.payload,
    ));
    let published = span.counts.published as f64;
    report.figure("appends", published, "");
    report.figure("appends_per_second", published / span.seconds, "/s");
    if let Some(redis) = span.redis {
        report.figure("redis_cpu_per_append", redis / published * 1e6, "us");
    }
    if let Some(commands) = commands {
        let (scripts, tail) = (commands.scripts, commands.tail);
        let each = |microseconds: u64| microseconds as f64 / published;
        report.figure(
            "redis_script_time_per_append",
            each(scripts.microseconds),
            "us",
        );
        report.figure("redis_tail_time_per_append", each(tail.microseconds), "us");
        report.figure("appends_per_script", published / scripts.calls as f64, "");
    }
    report.figure("hub_cpu_per_append", span.hub / published * 1e6, "us");
    report.times(
        ["answer_p50", "answer_p99", "answer_p999", "answer_max"],
        &board.answers.borrow(),
    );
    span.load(&mut report);
    report.verdict(board.close(&seats), &board);
    Ok(report)
}

async fn commands(site: &Site) -> Result<Option<Commands>> {
    match site.redis_port {
        Some(port) => Ok(Some(Commands::of(port).await?)),
        None => Ok(None),
    }
}

async fn commands_since(site: &Site, earlier: Option<Commands>) -> Result<Option<Commands>> {
    let now = commands(site).await?;
    Ok(now.zip(earlier).map(|(now, earlier)| now.since(earlier)))
}

/// Reads every topic from its beginning to its end.
async fn read_back(site: &Site, board: &Board, seats: &[Seat]) -> Result<()> {
    let target = site.readers.first().context("no hub is given")?;
    let mut exchange = Exchange::open(target.address).await?;
    for seat in seats {
        let topic = site.topic(board.run, seat.topic);
        let mut offset = "-1".to_owned();
        loop {
            let path = format!(
                "{}/v1/topics/{topic}?offset={offset}&view=data",
                target.path
            );
            let answer = exchange.ask(&get(&path, &site.headers())).await?;
            if answer.head.status != 200 {
                let body = String::from_utf8_lossy(answer.body);
                bail!("the hub answered {}: {}", answer.head.status, body.trim());
            }
            let mut rest = answer.body;
            while let Some((stamp, after)) = Stamp::find(rest) {
                board.receive(seat, stamp, 0);
                rest = after;
            }
            if answer.head.header("stream-up-to-date") == Some(b"true") {
                break;
            }
            let next = answer
                .head
                .header("stream-next-offset")
                .context("an answer without a next offset")?;
            let next = std::str::from_utf8(next)?;
            if next == offset {
                bail!("the hub answers the same page again and again");
            }
            next.clone_into(&mut offset);
        }
    }
    Ok(())
}
