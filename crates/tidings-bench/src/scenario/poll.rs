//! `poll`: catch-up reads over keep-alive connections. Every answer is checked.

use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;

use super::READY_WITHIN;
use crate::board::Board;
use crate::check::Tally;
use crate::cli::Poll;
use crate::http::{Exchange, get};
use crate::meter::Mark;
use crate::publishers::{Pace, Publishers};
use crate::readers::Readers;
use crate::report::Report;
use crate::site::Site;
use crate::stamp::Stamp;
use crate::target::Target;

pub(crate) async fn run(args: &Poll) -> Result<Report> {
    let site = Rc::new(Site::find(&args.hub)?);
    let board = Rc::new(Board::new(1, 1, 1));
    let cursor = {
        let first = Readers::start(&site, &board, vec![board.seat(0, None, None)]);
        board.all_ready(1, READY_WITHIN).await?;
        let placed = first.seats[0].placed.borrow().clone();
        String::from_utf8(placed).context("the cursor is not text")?
    };
    let each = args.events;
    Publishers::start(&site, &board, 1, Pace::Free { each }, 1)
        .ended()
        .await;
    if board.published(0) != each {
        bail!("{} of {each} events could be published", board.published(0));
    }

    let mut clients = JoinSet::new();
    for client in 0..args.clients {
        let (site, board, cursor) = (site.clone(), board.clone(), cursor.clone());
        clients.spawn_local(async move {
            let target = &site.readers[client as usize % site.readers.len()];
            poll(&site, &board, target, &cursor, each).await
        });
    }
    tokio::time::sleep(args.load.warmup).await;
    board.forget_times();
    let mark = Mark::now(&site, &board)?;
    tokio::time::sleep(args.load.seconds).await;
    let span = mark.until_now(&site, &board)?;
    board.stop();
    let mut tally = Tally::default();
    while let Some(ended) = clients.join_next().await {
        match ended? {
            Ok(own) => tally += own,
            Err(why) => board.fail(&why),
        }
    }

    let mut report = Report::new(format!(
        "poll: {} clients, {each} events of {} B per answer, closed loop",
        args.clients, site.payload,
    ));
    let answered = span.counts.answered as f64;
    report.figure("requests", answered, "");
    report.figure("requests_per_second", answered / span.seconds, "/s");
    report.figure(
        "server_cpu_seconds_per_million_requests",
        span.servers() / answered * 1e6,
        "s",
    );
    report.figure(
        "bytes_per_response",
        span.counts.bytes as f64 / answered,
        "B",
    );
    report.times(
        ["answer_p50", "answer_p99", "answer_p999", "answer_max"],
        &board.answers.borrow(),
    );
    span.load(&mut report);
    report.verdict(tally, &board);
    Ok(report)
}

async fn poll(
    site: &Site,
    board: &Board,
    target: &Target,
    cursor: &str,
    events: u32,
) -> Result<Tally> {
    let topic = site.topic(board.run, 0);
    let view = site.view.as_str();
    let path = format!(
        "{}/v1/topics/{topic}?offset={cursor}&view={view}",
        target.path
    );
    let request = get(&path, &site.headers());
    let mut exchange = Exchange::open(target.address).await?;
    let mut tally = Tally::default();
    while !board.is_stopped() {
        let (since, before) = (board.now(), exchange.received);
        let answer = exchange.ask(&request).await?;
        if answer.head.status != 200 {
            let body = String::from_utf8_lossy(answer.body);
            bail!("the hub answered {}: {}", answer.head.status, body.trim());
        }
        tally += checked(answer.body, board.run, events);
        board.answered(since);
        board.read(exchange.received - before);
    }
    Ok(tally)
}

/// Holds one answer to what it must bring: all events, each once, in order.
fn checked(body: &[u8], run: u32, events: u32) -> Tally {
    let mut ledger = crate::check::Ledger::new(0..1);
    let mut rest = body;
    while let Some((stamp, after)) = Stamp::find(rest) {
        let lane = if stamp.run == run {
            stamp.lane
        } else {
            u32::MAX
        };
        ledger.receive(lane, stamp.number, events);
        rest = after;
    }
    ledger.close(|_| events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::payload;

    #[test]
    fn an_answer_must_bring_everything_once_and_in_order() {
        let answer = |numbers: &[u32]| {
            let mut body = Vec::new();
            for number in numbers {
                let (mut data, at) = payload(0);
                let stamp = Stamp {
                    run: 7,
                    lane: 0,
                    number: *number,
                    at: 0,
                };
                stamp.print(&mut data[at..]);
                body.extend(data);
            }
            checked(&body, 7, 3)
        };
        assert!(answer(&[0, 1, 2]).is_clean());
        assert_eq!(answer(&[0, 1]).lost, 1);
        assert_eq!(answer(&[0, 1, 1, 2]).duplicated, 1);
        assert_eq!(answer(&[1, 0, 2]).reordered, 1);
        assert_eq!(checked(b"", 7, 0), Tally::default());
    }
}
