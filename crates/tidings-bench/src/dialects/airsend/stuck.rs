//! `airsend-stuck`: a channel of 1,000 connected members of whom 1 % never read, while messages of
//! 30 KB are posted: what the hub keeps for them, and what the others notice.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::Scene;
use super::crowd::{Client, Crowd};
use super::posts::{Posts, post_in_turn};
use crate::board::Board;
use crate::cli::Dialects;
use crate::dialects::share;
use crate::report::Report;

const CHANNEL: u32 = 1;

/// Bytes of a message's text.
const TEXT: usize = 30_000;

const ENTERED_WITHIN: Duration = Duration::from_secs(180);

/// How long a client may take nothing. Who reads nothing answers no pings either, and with the
/// defaults that is noticed first (4011, after 50 s at most); here it is to be the other way round.
const STALL: &str = "write_stall = \"10s\"\n";

/// A stuck client is closed when it has taken nothing for one to two times as long.
const CLOSED_WITHIN: Duration = Duration::from_secs(45);

/// Between two looks at the hub's memory, and at whether the stuck are closed.
const LOOK: Duration = Duration::from_millis(100);

/// The code for one that did not read what it was sent.
const TOO_SLOW: u16 = 4010;

pub(crate) async fn stuck(args: &Dialects) -> Result<Report> {
    let connections = share(1_000, args).max(10);
    let stuck = (connections / 100).max(1);
    let posts = share(200, args).max(50);
    let scene = Scene::set(args, STALL).await?;
    let stage = &scene.stage;
    scene.users(1..=connections).await?;
    scene
        .channels(std::iter::once((CHANNEL, (1..=connections).collect())))
        .await?;
    let board = Rc::new(Board::new(1, 1, connections - stuck));
    let clients = (1..=connections).map(|user| Client {
        user,
        stuck: user <= stuck,
    });
    let crowd = Crowd::enter(stage.dialect, &board, clients.collect());
    board.all_ready(connections, ENTERED_WITHIN).await?;
    let messages = |text| Posts {
        channel: CHANNEL,
        author: connections,
        text,
    };
    // Everybody has heard that he is a member.
    post_in_turn(stage, &board, messages(100), 1).await?;
    board.forget_times();

    let before = stage.hub.resident_kib()?;
    let most = Rc::new(Cell::new(before));
    let mut watching = JoinSet::new();
    let (hub, seen) = (stage.hub.clone(), most.clone());
    watching.spawn_local(async move {
        while let Ok(now) = hub.resident_kib() {
            seen.set(seen.get().max(now));
            tokio::time::sleep(LOOK).await;
        }
    });
    let begun = Instant::now();
    let posted = post_in_turn(stage, &board, messages(TEXT), posts).await?;
    let mut closed = stage.metric("tidings_slow_readers_total", "").await?;
    while closed < f64::from(stuck)
        && begun.elapsed() < CLOSED_WITHIN + Duration::from_secs_f64(posted.span.seconds)
    {
        tokio::time::sleep(LOOK).await;
        closed = stage.metric("tidings_slow_readers_total", "").await?;
    }
    let closed_after = begun.elapsed();
    watching.abort_all();
    crowd.release();
    let wanted = stuck as usize;
    let end = Instant::now() + Duration::from_secs(15);
    while crowd.closes().len() < wanted && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    let closes = crowd.closes();
    let with_code = closes
        .iter()
        .filter(|code| **code == Some(TOO_SLOW))
        .count();
    let after = stage.hub.resident_kib()?;

    let mut report = Report::new(format!(
        "airsend-stuck: {connections} connections, {stuck} of which never read, {posts} posts of {TEXT} B one by one"
    ));
    report.figure("hub_before", before / 1024.0, "MiB");
    report.figure("hub_grew_at_most", (most.get() - before) / 1024.0, "MiB");
    report.figure("hub_grew_in_the_end", (after - before) / 1024.0, "MiB");
    report.figure(
        "posted",
        f64::from(posts) * TEXT as f64 / 1024.0 / 1024.0,
        "MiB",
    );
    report.figure("stuck", f64::from(stuck), "");
    report.figure("closed_as_too_slow", closed, "");
    report.figure("of_them_heard_4010", with_code as f64, "");
    report.figure("closed_after", closed_after.as_secs_f64(), "s");
    report.times(
        [
            "others_have_it_p50",
            "others_have_it_p99",
            "others_have_it_p999",
            "others_have_it_max",
        ],
        &board.latency.borrow(),
    );
    report.times(
        [
            "all_others_have_it_p50",
            "all_others_have_it_p99",
            "all_others_have_it_p999",
            "all_others_have_it_max",
        ],
        &posted.complete,
    );
    let delivered = f64::from(posts) * f64::from(connections - stuck);
    report.figure(
        "hub_cpu_per_delivery",
        posted.span.hub / delivered * 1e6,
        "us",
    );
    posted.span.load(&mut report);
    report.note(format!("codes that the stuck heard in the end: {closes:?}"));
    if closed < f64::from(stuck) {
        board.fail(&anyhow::anyhow!(
            "{closed} of {stuck} stuck clients were closed"
        ));
    }
    report.verdict(board.close(crowd.seats.iter().map(|seat| &**seat)), &board);
    Ok(report)
}
