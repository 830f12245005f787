//! Opening: the adapter's topics, the greeting, and that texts survive the way.

use anyhow::{Result, ensure};

use super::room::Room;
use super::{Dialect, Place};

pub(super) async fn the_adapter_knows_its_topics(dialect: &dyn Dialect) -> Result<()> {
    let adapter = dialect.adapter();
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !adapter.name().is_empty() && adapter.name().chars().all(word),
        "{:?} is no name for configuration and metrics: small letters, digits and -",
        adapter.name()
    );
    let (one, two) = (dialect.topic("one"), dialect.topic("two"));
    ensure!(one != two, "two names have one topic: {one}");
    ensure!(one == dialect.topic("one"), "one name has two topics");
    ensure!(
        one.root() == two.root(),
        "an adapter's topics have one root"
    );
    for owned in adapter.ownership() {
        let key = (owned.placement_key)(&one);
        ensure!(!key.is_empty(), "a placement key is empty");
        ensure!(
            key == (owned.placement_key)(&one),
            "a placement key changes"
        );
    }
    let draft = dialect.draft("one", "text");
    draft.check()?;
    ensure!(
        draft.topic == one,
        "a draft for `one` goes to {}",
        draft.topic
    );
    Ok(())
}

pub(super) async fn clients_are_greeted_on_every_instance(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut readers = Vec::new();
    for instance in [0, 1, 0] {
        readers.push(room.follow(instance, &["greeted"], Place::Newest).await?);
    }
    // The first one's going away is none of the others' business.
    drop(readers.remove(0));
    room.publish(0, "greeted", "1").await?;
    for reader in &mut readers {
        reader.expect("greeted", &["1"]).await?;
    }
    room.end()
}

pub(super) async fn what_is_published_comes_back(dialect: &dyn Dialect) -> Result<()> {
    /// What trips up those who print by hand: quotes, escapes, markup, other scripts, a text that
    /// looks like the frame around it.
    const TEXTS: [&str; 8] = [
        "plain",
        r#"a "quoted" word"#,
        r"back\slash \n \u0041 \",
        "<b>&amp;</b> 'single'",
        "Grüße, 世界, Привет 🎉",
        r#"{"id":"1","data":[null]}"#,
        "data: x",
        "a text of two hundred characters: 0123456789 0123456789 0123456789 0123456789 0123456789 \
         0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123",
    ];
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(1, &["texts"], Place::Newest).await?;
    for text in TEXTS {
        room.publish(0, "texts", text).await?;
        reader.expect("texts", &[text]).await?;
        room.store(0, "texts", text).await?;
        reader.expect("texts", &[text]).await?;
    }
    room.end()
}
