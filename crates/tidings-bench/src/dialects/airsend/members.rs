//! `airsend-members`: what a post costs in a channel of 10,000 members, of whom 1,000 are
//! connected, and in one of ten.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::Scene;
use super::crowd::{Client, Crowd};
use super::posts::{Posts, post_in_turn};
use crate::board::Board;
use crate::cli::Dialects;
use crate::dialects::share;
use crate::report::Report;

/// The large channel and the small one.
const LARGE: u32 = 1;
const SMALL: u32 = 2;
/// Members of the small channel, all connected.
const TEN: u32 = 10;

/// Posts to the small channel for each one to the large: they take so much less, and what the hub
/// does by itself is to be as small a part of both.
const MORE_TO_TEN: u32 = 8;

/// A thousand clients get a token, a connection and everybody's presence: a million messages, which
/// take a debug build a minute.
const ENTERED_WITHIN: Duration = Duration::from_secs(180);

/// A post to the large channel may cost Redis so much more than one to the small: nothing in it
/// depends on the members, but the hub reads more often while it is busy with deliveries.
const MORE_AT_MOST: f64 = 1.5;

pub(crate) async fn members(args: &Dialects) -> Result<Report> {
    let (members, connected) = (share(10_000, args), share(1_000, args));
    let posts = share(300, args).max(20);
    let scene = Scene::set(args, "").await?;
    let stage = &scene.stage;
    let small = members + 1..=members + TEN;
    scene.users(1..=members + TEN).await?;
    scene
        .channels(
            [
                (SMALL, small.clone().collect()),
                (LARGE, (1..=members).collect()),
            ]
            .into_iter(),
        )
        .await?;

    let few = Rc::new(Board::new(1, 1, TEN));
    let many = Rc::new(Board::new(1, 1, connected));
    let client = |user| Client { user, stuck: false };
    let ten = Crowd::enter(stage.dialect, &few, small.map(client).collect());
    let thousand = Crowd::enter(stage.dialect, &many, (1..=connected).map(client).collect());
    few.all_ready(TEN, ENTERED_WITHIN).await?;
    many.all_ready(connected, ENTERED_WITHIN).await?;
    // When a first post has come to everybody, everybody has heard that he is a member, and nothing
    // of what entering brought is still under way.
    let posts_to = |channel, author| Posts {
        channel,
        author,
        text: 100,
    };
    let (to_small, to_large) = (posts_to(SMALL, members + 1), posts_to(LARGE, 1));
    post_in_turn(stage, &few, to_small, 1).await?;
    post_in_turn(stage, &many, to_large, 1).await?;
    let quiet = stage.quiet().await?;
    let to_few = post_in_turn(stage, &few, to_small, posts * MORE_TO_TEN).await?;
    let before = many.counts().delivered;
    many.forget_times();
    let to_many = post_in_turn(stage, &many, to_large, posts).await?;
    let delivered = (many.counts().delivered - before) as f64;

    let mut report = Report::new(format!(
        "airsend-members: {members} members, {connected} connected, {posts} posts one by one"
    ));
    let (each, each_to_ten) = (f64::from(posts), f64::from(posts * MORE_TO_TEN));
    let calls = to_many.span.calls_per(each, &quiet);
    let calls_of_ten = to_few.span.calls_per(each_to_ten, &quiet);
    report.figure("redis_calls_per_post", calls, "");
    report.figure("redis_calls_per_post_to_ten", calls_of_ten, "");
    let (scripts, took) = to_many.span.scripts_per(each, &quiet);
    let (scripts_of_ten, took_of_ten) = to_few.span.scripts_per(each_to_ten, &quiet);
    report.figure("script_calls_per_post", scripts, "");
    report.figure("script_calls_per_post_to_ten", scripts_of_ten, "");
    report.figure("script_time_per_post", took, "us");
    report.figure("script_time_per_post_to_ten", took_of_ten, "us");
    report.figure(
        "hub_cpu_per_post",
        to_many.span.hub_per(each, &quiet) * 1e3,
        "ms",
    );
    report.figure(
        "hub_cpu_per_post_to_ten",
        to_few.span.hub_per(each_to_ten, &quiet) * 1e3,
        "ms",
    );
    report.figure(
        "hub_cpu_per_delivery",
        to_many.span.hub_per(delivered, &quiet) * 1e6,
        "us",
    );
    let anyway = quiet.hub / quiet.seconds * 100.0;
    report.figure("hub_cpu_without_posts", anyway, "%");
    report.figure("deliveries", delivered, "");
    report.times(
        [
            "all_have_it_p50",
            "all_have_it_p99",
            "all_have_it_p999",
            "all_have_it_max",
        ],
        &to_many.complete,
    );
    report.times(
        [
            "one_has_it_p50",
            "one_has_it_p99",
            "one_has_it_p999",
            "one_has_it_max",
        ],
        &many.latency.borrow(),
    );
    to_many.span.load(&mut report);
    report.note(format!(
        "commands of a post: {}",
        to_many.span.commands(each)
    ));
    report.note(format!(
        "of one to ten: {}",
        to_few.span.commands(each_to_ten)
    ));
    if calls > calls_of_ten * MORE_AT_MOST {
        many.fail(&anyhow::anyhow!(
            "a post to {members} members costs Redis {calls:.1} calls, one to {TEN} {calls_of_ten:.1}"
        ));
    }
    report.verdict(few.close(ten.seats.iter().map(|seat| &**seat)), &few);
    report.verdict(many.close(thousand.seats.iter().map(|seat| &**seat)), &many);
    Ok(report)
}
