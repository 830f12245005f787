//! Resuming: a cursor is a place in the log, not a session; any instance takes it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::room::Room;
use super::{Dialect, Place};

pub(super) async fn a_client_resumes_on_the_other_instance(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &["resumed"], Place::Newest).await?;
    for round in 0..4 {
        let begin = round * 10;
        room.count("resumed", begin..begin + 5).await?;
        reader.expect_numbers("resumed", begin..begin + 5).await?;
        let place = reader.leave()?;
        room.count("resumed", begin + 5..begin + 10).await?;
        // It may find its way to either; greeted or not, it hears what it has missed.
        reader = room.connect((round + 1) % 2, &["resumed"], &place).await?;
        reader
            .expect_numbers("resumed", begin + 5..begin + 10)
            .await?;
    }
    room.end()
}

pub(super) async fn every_cursor_is_a_place_to_resume_from(dialect: &dyn Dialect) -> Result<()> {
    const EVENTS: usize = 12;
    let room = Room::new(dialect).await?;
    room.count("places", 0..EVENTS).await?;
    let mut reader = room.connect(0, &["places"], &Place::Oldest).await?;
    let mut places = Vec::new();
    for number in 0..EVENTS {
        reader.expect_numbers("places", number..number + 1).await?;
        places.push(reader.place()?);
    }
    for (number, place) in places.iter().enumerate() {
        let mut again = room.connect(number % 2, &["places"], place).await?;
        let mut end = (number + 3).min(EVENTS);
        if number + 1 == EVENTS {
            room.count("places", EVENTS..EVENTS + 1).await?;
            end = EVENTS + 1;
        }
        again.expect_numbers("places", number + 1..end).await?;
    }
    room.end()
}

pub(super) async fn a_crash_costs_no_event(dialect: &dyn Dialect) -> Result<()> {
    let mut room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &["crash"], Place::Newest).await?;
    room.count("crash", 0..20).await?;
    reader.expect_numbers("crash", 0..7).await?;
    room.cluster.kill(0);
    // What was on the way still counts: it goes on from what it has seen last.
    let place = reader.leave()?;
    for number in 20..30 {
        room.publish(1, "crash", &number.to_string()).await?;
    }
    let mut reader = room.connect(1, &["crash"], &place).await?;
    reader.expect_numbers("crash", 7..30).await?;
    room.end()
}

pub(super) async fn several_topics_resume_each_at_its_place(dialect: &dyn Dialect) -> Result<()> {
    const NAMES: [&str; 4] = ["north", "east", "south", "west"];
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &NAMES, Place::Newest).await?;
    let mut next = BTreeMap::<String, usize>::new();
    let mut heard = 0;
    for round in 0..6 {
        for number in round * 4..round * 4 + 4 {
            for name in NAMES {
                room.publish(number % 2, name, &number.to_string()).await?;
            }
        }
        // Not all of them: it leaves in the middle, ahead in some topics and behind in others.
        let until = (round + 1) * 16 - if round == 5 { 0 } else { 7 };
        while heard < until {
            let (name, text) = reader.event().await?;
            let expected = next.entry(name.clone()).or_default();
            ensure!(
                text == expected.to_string(),
                "of {name} number {expected} is next, not {text}, in round {round}"
            );
            *expected += 1;
            heard += 1;
        }
        let place = reader.leave()?;
        reader = room.connect((round + 1) % 2, &NAMES, &place).await?;
    }
    ensure!(
        next.values().all(|count| *count == 24),
        "all of all topics: {next:?}"
    );
    room.end()
}

pub(super) async fn a_quiet_topic_resumes_in_silence(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::with(dialect, super::verdicts::short(dialect)).await?;
    let mut reader = room.follow(0, &["quiet"], Place::Newest).await?;
    room.count("quiet", 0..2).await?;
    reader.expect_numbers("quiet", 0..2).await?;
    let place = reader.leave()?;
    // Everything that it has seen is gone, and nothing has happened since.
    room.cluster.pass(room.cluster.retention() * 2).await;
    let mut reader = room.connect(1, &["quiet"], &place).await?;
    room.count("quiet", 2..3).await?;
    reader.expect_numbers("quiet", 2..3).await?;
    room.end()
}
