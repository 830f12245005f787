//! Following: history, live delivery, several topics, several instances, several clients.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::room::Room;
use super::{Dialect, Place};

pub(super) async fn from_the_newest_only_what_comes(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    room.count("newest", 0..4).await?;
    for (instance, number) in [(0, 4), (1, 5)] {
        room.seen(instance, "newest", number).await?;
        let mut reader = room.follow(instance, &["newest"], Place::Newest).await?;
        room.count("newest", number..number + 1).await?;
        reader.expect_numbers("newest", number..number + 1).await?;
    }
    room.end()
}

pub(super) async fn from_the_oldest_history_and_then_live(dialect: &dyn Dialect) -> Result<()> {
    // More than one batch, so that history and live delivery meet in the middle.
    const HISTORY: usize = 300;
    let room = Room::new(dialect).await?;
    for number in 0..HISTORY {
        room.store(number % 2, "oldest", &number.to_string())
            .await?;
    }
    let mut readers = Vec::new();
    for instance in [0, 1] {
        readers.push(room.connect(instance, &["oldest"], &Place::Oldest).await?);
    }
    room.count("oldest", HISTORY..HISTORY + 10).await?;
    for reader in &mut readers {
        reader.expect_numbers("oldest", 0..HISTORY + 10).await?;
    }
    room.end()
}

pub(super) async fn live_delivery_is_in_order(dialect: &dyn Dialect) -> Result<()> {
    const EVENTS: usize = 200;
    let room = Room::new(dialect).await?;
    let mut readers = [
        room.follow(0, &["live"], Place::Newest).await?,
        room.follow(1, &["live"], Place::Newest).await?,
    ];
    let publish = room.count("live", 0..EVENTS);
    let [one, two] = &mut readers;
    tokio::try_join!(
        publish,
        one.expect_numbers("live", 0..EVENTS),
        two.expect_numbers("live", 0..EVENTS)
    )?;
    room.end()
}

pub(super) async fn published_anywhere_read_everywhere_in_one_order(
    dialect: &dyn Dialect,
) -> Result<()> {
    const EACH: usize = 60;
    let room = Room::new(dialect).await?;
    let mut one = room.follow(0, &["anywhere"], Place::Newest).await?;
    let mut two = room.follow(1, &["anywhere"], Place::Newest).await?;
    // Two publishers at once, one on each instance: what they publish meets in some order, and
    // that order is the same for everybody.
    let publisher = async |instance: usize| {
        for number in 0..EACH {
            let text = format!("{instance}:{number}");
            room.publish(instance, "anywhere", &text).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publisher(0), publisher(1))?;
    let mut next = BTreeMap::from([("0".to_owned(), 0), ("1".to_owned(), 0)]);
    for _ in 0..2 * EACH {
        let (heard, too) = (one.event().await?, two.event().await?);
        ensure!(
            heard == too,
            "one client hears {heard:?}, the other {too:?}"
        );
        let (publisher, number) = heard.1.split_once(':').unwrap_or_default();
        let expected = next.entry(publisher.to_owned()).or_default();
        ensure!(
            number == expected.to_string(),
            "of publisher {publisher} number {expected} is next, not {number}"
        );
        *expected += 1;
    }
    room.end()
}

pub(super) async fn topics_stay_apart(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &["mine"], Place::Newest).await?;
    for number in 0..5 {
        room.publish(1, "other", "not for you").await?;
        room.publish(1, "mine-not", "nor this").await?;
        room.publish(1, "mine", &number.to_string()).await?;
    }
    reader.expect_numbers("mine", 0..5).await?;
    room.end()
}

pub(super) async fn several_topics_each_in_order(dialect: &dyn Dialect) -> Result<()> {
    const NAMES: [&str; 5] = ["red", "green", "blue", "white", "black"];
    const EACH: usize = 30;
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(1, &NAMES, Place::Newest).await?;
    for number in 0..EACH {
        for name in NAMES {
            room.publish(number % 2, name, &number.to_string()).await?;
        }
        room.publish(0, "grey", "not for you").await?;
    }
    let mut next = BTreeMap::<String, usize>::new();
    for _ in 0..NAMES.len() * EACH {
        let (name, text) = reader.event().await?;
        ensure!(NAMES.contains(&name.as_str()), "nobody follows {name}");
        let expected = next.entry(name.clone()).or_default();
        ensure!(
            text == expected.to_string(),
            "of {name} number {expected} is next, not {text}"
        );
        *expected += 1;
    }
    room.end()
}

pub(super) async fn many_clients_get_the_same(dialect: &dyn Dialect) -> Result<()> {
    const CLIENTS: usize = 40;
    let room = Room::new(dialect).await?;
    let mut readers = Vec::new();
    for client in 0..CLIENTS {
        readers.push(room.follow(client % 2, &["many"], Place::Newest).await?);
    }
    room.count("many", 0..20).await?;
    for reader in &mut readers {
        reader.expect_numbers("many", 0..20).await?;
    }
    room.end()
}
