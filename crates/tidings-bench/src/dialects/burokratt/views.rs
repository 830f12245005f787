//! `burokratt-views`: 1,000 streams of values, half of them the list of active chats and half a
//! place in the queue, while a hundred times a chat begins or is claimed: computations per change,
//! and what the hub spends on each.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::time::timeout;

use super::streams::{Streams, mark};
use super::{begin, claim, id_of, init_chat, stage};
use crate::board::{Board, histogram, nanoseconds};
use crate::cli::Dialects;
use crate::dialects::requests::ask;
use crate::dialects::share;
use crate::dialects::stage::Stage;
use crate::http::Exchange;
use crate::report::Report;

/// Chats that wait when it begins; as many streams of places are on each.
const CHATS: u32 = 50;

const OPEN_WITHIN: Duration = Duration::from_secs(180);

/// The contract's last value is out within 250 ms; a debug build on a busy machine takes longer to
/// write it a thousand times.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);

/// Between two changes: more than the 250 ms in which changes may be merged, so that each is
/// computed by itself.
const BETWEEN: Duration = Duration::from_millis(300);

/// A list is computed once per change, however many watch it, and a place once for each chat whose
/// place is watched; now and then once more, since they are looked at again by themselves.
const COMPUTED_AT_MOST: f64 = 2.5;

const COMPUTATIONS: &str = "tidings_view_computations_total";

/// The views of the dialect that are watched, or that these derive from.
const VIEWS: [(&str, &str); 3] = [
    (
        "computations_of_the_list_per_change",
        "\"burokratt.active\"",
    ),
    (
        "computations_of_the_queue_per_change",
        "\"burokratt.queue\"",
    ),
    ("computations_of_places_per_change", "\"burokratt.order\""),
];

pub(crate) async fn views(args: &Dialects) -> Result<Report> {
    let lists = share(500, args);
    let places = share(500, args);
    let changes = share(100, args).max(10);
    let stage = stage(args).await?;
    let mut waiting = begin(&stage, (0..CHATS).map(|_| "hello".to_owned())).await?;
    let board = Rc::new(Board::new(1, 1, lists + places));
    let paths = (0..lists)
        .map(|_| "/sse/cs-get-all-active-chats".to_owned())
        .chain((0..places).map(|index| {
            let chat = &waiting[(index % CHATS) as usize];
            format!("/sse/queue/{chat}")
        }))
        .collect::<Vec<_>>();
    let streams = Streams::open(stage.dialect, &board, paths.into_iter(), changes);
    board.all_ready(lists + places, OPEN_WITHIN).await?;
    let quiet = stage.quiet().await?;
    let computed_anyway = computations(&stage).await?;
    let pause = Instant::now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let computed = computations(&stage).await?;
    let anyway: Vec<f64> = rates(&computed_anyway, &computed, pause.elapsed().as_secs_f64());

    let (frames, bytes) = (streams.frames(), streams.bytes());
    let mut exchange = Exchange::open(stage.dialect).await?;
    let mut complete = histogram();
    let before = stage.mark().await?;
    for change in 0..changes {
        let text = mark(change);
        let begun = Instant::now();
        if change % 2 == 0 {
            let answer = ask(&mut exchange, &init_chat(&text)).await?;
            waiting.push(id_of(&answer)?);
        } else {
            // The first in the queue goes, and everybody behind it moves up.
            let chat = waiting.remove(0);
            ask(&mut exchange, &claim(&chat, &text)).await?;
        }
        timeout(SHOWN_WITHIN, streams.shown(change, lists))
            .await
            .with_context(|| format!("change {change} is not shown everywhere"))?;
        complete.saturating_record(nanoseconds(begun.elapsed()));
        tokio::time::sleep(BETWEEN.saturating_sub(begun.elapsed())).await;
        if let (1.., failures) = board.failures() {
            bail!("a stream failed: {}", failures.join("; "));
        }
    }
    let span = stage.since(&before).await?;
    let done = computations(&stage).await?;

    let mut report = Report::new(format!(
        "burokratt-views: {lists} streams of the active chats, {places} of places in the queue, {changes} changes"
    ));
    let each = f64::from(changes);
    let per_change: Vec<f64> = rates(&computed, &done, 1.0)
        .into_iter()
        .zip(&anyway)
        .map(|(count, anyway)| (count - anyway * span.seconds).max(0.0) / each)
        .collect();
    for ((name, _), count) in VIEWS.iter().zip(&per_change) {
        report.figure(name, *count, "");
    }
    report.figure("computations_per_change", per_change.iter().sum(), "");
    report.figure("chats_whose_place_is_watched", places.min(CHATS).into(), "");
    report.figure(
        "computations_per_second_without_changes",
        anyway.iter().sum(),
        "/s",
    );
    let frames = (streams.frames() - frames) as f64;
    report.figure("hub_cpu_per_change", span.hub_per(each, &quiet) * 1e3, "ms");
    report.figure(
        "hub_cpu_per_frame",
        span.hub_per(frames, &quiet) * 1e6,
        "us",
    );
    report.figure("frames_per_change", frames / each, "");
    report.figure(
        "bytes_per_frame",
        (streams.bytes() - bytes) as f64 / frames,
        "B",
    );
    report.figure("redis_calls_per_change", span.calls_per(each, &quiet), "");
    report.times(
        [
            "all_have_it_p50",
            "all_have_it_p99",
            "all_have_it_p999",
            "all_have_it_max",
        ],
        &complete,
    );
    span.load(&mut report);
    report.note(format!("commands of a change: {}", span.commands(each)));
    if per_change
        .first()
        .is_some_and(|count| *count > COMPUTED_AT_MOST)
    {
        board.fail(&anyhow::anyhow!(
            "the list is computed several times per change"
        ));
    }
    report.verdict(board.close([]), &board);
    Ok(report)
}

/// Computations so far, of each of the views.
async fn computations(stage: &Stage) -> Result<Vec<f64>> {
    let mut counts = Vec::new();
    for (_, label) in VIEWS {
        counts.push(stage.metric(COMPUTATIONS, label).await?);
    }
    Ok(counts)
}

fn rates(earlier: &[f64], now: &[f64], seconds: f64) -> Vec<f64> {
    let pairs = now.iter().zip(earlier);
    pairs.map(|(now, then)| (now - then) / seconds).collect()
}
