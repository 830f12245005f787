//! `burokratt-idle`: what 10,000 event streams cost on which nobody says anything: a comment every
//! 15 s.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::streams::Streams;
use super::{begin, stage};
use crate::board::Board;
use crate::cli::Dialects;
use crate::dialects::share;
use crate::meter::per_connection;
use crate::report::Report;

/// Streams of a chat. A tab of the widget has three.
const OF_A_CHAT: u32 = 10;

/// Ten thousand streams take a debug build minutes.
const OPEN_WITHIN: Duration = Duration::from_secs(400);

/// The hub's heartbeat; the default of its configuration.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(crate) async fn idle(args: &Dialects) -> Result<Report> {
    let connections = share(10_000, args).next_multiple_of(OF_A_CHAT);
    let stage = stage(args).await?;
    let chats = begin(
        &stage,
        (0..connections / OF_A_CHAT).map(|_| "hello".to_owned()),
    )
    .await?;
    let quiet = stage.quiet().await?;

    let board = Rc::new(Board::new(1, 1, connections));
    let before = stage.hub.resident_kib()?;
    let mark = stage.mark().await?;
    let paths = (0..connections).map(|index| {
        let chat = &chats[(index / OF_A_CHAT) as usize];
        format!("/sse/get-new-messages?chatId={chat}")
    });
    let streams = Streams::open(stage.dialect, &board, paths, 0);
    board.all_ready(connections, OPEN_WITHIN).await?;
    let opening = stage.since(&mark).await?;
    let opened = stage.hub.resident_kib()?;
    stage.quiet().await?;
    let (mark, heartbeats, frames) = (stage.mark().await?, streams.heartbeats(), streams.frames());
    tokio::time::sleep(args.seconds).await;
    let span = stage.since(&mark).await?;
    let heartbeats = (streams.heartbeats() - heartbeats) as f64;
    let frames = streams.frames() - frames;
    let after = stage.hub.resident_kib()?;

    let mut report = Report::new(format!(
        "burokratt-idle: {connections} event streams, {OF_A_CHAT} of each chat, a heartbeat every 15 s"
    ));
    let each = f64::from(connections);
    report.figure(
        "bytes_per_connection",
        per_connection(before, after, each),
        "B",
    );
    report.figure(
        "bytes_per_connection_at_first",
        per_connection(before, opened, each),
        "B",
    );
    report.figure("heartbeats", heartbeats, "");
    // What the hub does without connections is not the heartbeats'.
    let of_each = span.hub_per(heartbeats, &quiet);
    report.figure("hub_cpu_per_heartbeat", of_each * 1e6, "us");
    let without = quiet.hub / quiet.seconds;
    report.figure("hub_cpu_without_connections", without * 100.0, "%");
    span.load(&mut report);
    report.figure(
        "redis_calls_per_second_without_connections",
        quiet.calls_per_second(),
        "/s",
    );
    report.figure("connections_per_second", each / opening.seconds, "/s");
    report.figure("hub_cpu_per_connect", opening.hub / each * 1e3, "ms");
    report.times(
        ["setup_p50", "setup_p99", "setup_p999", "setup_max"],
        &board.setup.borrow(),
    );
    report.note(format!(
        "commands a second: {}",
        span.commands(span.seconds)
    ));
    let rounds = (span.seconds / HEARTBEAT.as_secs_f64() - 1.0)
        .max(0.0)
        .floor();
    if heartbeats < rounds * each {
        board.fail(&anyhow::anyhow!(
            "{heartbeats} heartbeats in {:.0} s on {connections} streams",
            span.seconds
        ));
    }
    if frames > 0 {
        board.fail(&anyhow::anyhow!(
            "{frames} frames although nobody said anything"
        ));
    }
    report.verdict(board.close([]), &board);
    Ok(report)
}
