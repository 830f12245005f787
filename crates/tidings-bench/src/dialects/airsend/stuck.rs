//! `airsend-stuck`: a channel of 1,000 connected members of whom 1 % never read, while messages of
//! 30 KB are posted: what the hub keeps for them, and what the others notice.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

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
/// defaults that is mostly noticed first (4011, after 50 s at most); here it is to be the other way
/// round, whatever the machine does beside.
const OPTIONS: &str = "write_stall = \"10s\"\nping = \"2m\"\n";

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
    let scene = Scene::set(args, OPTIONS).await?;
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
    let begun = Instant::now();
    let posted_all = Cell::new(false);
    let posting = async {
        let posted = post_in_turn(stage, &board, messages(TEXT), posts).await;
        posted_all.set(true);
        posted
    };
    // Whoever is closed can be told why for a moment only: so the stuck read on as soon as the last of
    // them is, whatever is still posted.
    let watching = async {
        let (mut most, mut closed, mut after) = (before, 0.0, None);
        let mut end = begun + CLOSED_WITHIN;
        loop {
            most = most.max(stage.hub.resident_kib()?);
            if after.is_none() {
                closed = stage.metric("tidings_slow_readers_total", "").await?;
                if closed >= f64::from(stuck) {
                    after = Some(begun.elapsed());
                    crowd.release();
                }
            }
            if !posted_all.get() {
                end = end.max(Instant::now() + CLOSED_WITHIN);
            } else if after.is_some() || Instant::now() >= end {
                return anyhow::Ok((most, closed, after));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let (posted, watched) = tokio::join!(posting, watching);
    let (posted, (most, closed, closed_after)) = (posted?, watched?);
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
    report.figure("hub_grew_at_most", (most - before) / 1024.0, "MiB");
    report.figure("hub_grew_in_the_end", (after - before) / 1024.0, "MiB");
    report.figure(
        "posted",
        f64::from(posts) * TEXT as f64 / 1024.0 / 1024.0,
        "MiB",
    );
    report.figure("stuck", f64::from(stuck), "");
    report.figure("closed_as_too_slow", closed, "");
    report.figure("of_them_heard_4010", with_code as f64, "");
    if let Some(after) = closed_after {
        report.figure("closed_after", after.as_secs_f64(), "s");
    }
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
