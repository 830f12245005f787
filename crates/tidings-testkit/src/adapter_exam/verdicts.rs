//! Verdicts: a client whose cursor is not good is told so, and then gets all that is retained.

use std::time::Duration;

use anyhow::{Result, bail};
use tidings_core::Verdict;

use super::cluster::Setup;
use super::room::{Reader, Room};
use super::{Dialect, Heard, Logs, Place};

/// A retention that can be waited for where the clock cannot be put forward.
pub(super) fn short(dialect: &dyn Dialect) -> Setup {
    let retention = match dialect.logs() {
        Logs::Memory => Setup::default().retention,
        Logs::Redis(_) => Duration::from_secs(3),
    };
    Setup {
        retention,
        ..Setup::default()
    }
}

/// After a verdict: all that is retained, to a client that stays or to one that starts anew.
async fn reload(room: &Room<'_>, reader: Reader, name: &str, texts: &[&str]) -> Result<()> {
    let mut reader = reader;
    let mut rest = texts;
    while let [first, ..] = rest {
        match reader.hear().await? {
            Heard::Event { text, .. } if text == *first => rest = &rest[1..],
            Heard::Open(_) => {}
            Heard::Ended { .. } if rest.len() == texts.len() => {
                if !room.dialect.features().history {
                    return Ok(());
                }
                reader = room.connect(1, &[name], &Place::Oldest).await?;
            }
            other => bail!("reloading {texts:?}, at {first:?} a client hears {other:?}"),
        }
    }
    Ok(())
}

pub(super) async fn an_expired_cursor_is_told(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::with(dialect, short(dialect)).await?;
    let mut reader = room.follow(0, &["expired"], Place::Newest).await?;
    room.count("expired", 0..1).await?;
    reader.expect_numbers("expired", 0..1).await?;
    let place = reader.leave()?;
    // This one it never sees.
    room.count("expired", 1..2).await?;
    room.cluster.pass(room.cluster.retention() * 2).await;
    room.count("expired", 2..3).await?;
    let mut reader = room.connect(1, &["expired"], &place).await?;
    reader.expect_loss(&[Verdict::Expired]).await?;
    reload(&room, reader, "expired", &["2"]).await?;
    room.end()
}

pub(super) async fn a_diverged_cursor_is_told(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &["diverged"], Place::Newest).await?;
    room.count("diverged", 0..4).await?;
    reader.expect_numbers("diverged", 0..4).await?;
    let place = reader.leave()?;
    room.lose_all_but("diverged", 2).await?;
    room.publish(0, "diverged", "instead").await?;
    let mut reader = room.connect(1, &["diverged"], &place).await?;
    reader.expect_loss(&[Verdict::Diverged]).await?;
    reload(&room, reader, "diverged", &["0", "1", "instead"]).await?;
    room.end()
}

pub(super) async fn a_cursor_ahead_is_told(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &["ahead"], Place::Newest).await?;
    room.count("ahead", 0..4).await?;
    reader.expect_numbers("ahead", 0..4).await?;
    let place = reader.leave()?;
    room.lose_all_but("ahead", 2).await?;
    let mut reader = room.connect(1, &["ahead"], &place).await?;
    // Its instance may hear of the loss while it connects; then it is told as one that was there.
    reader
        .expect_loss(&[Verdict::Ahead, Verdict::Diverged])
        .await?;
    reload(&room, reader, "ahead", &["0", "1"]).await?;
    room.end()
}

pub(super) async fn a_live_reader_is_told_what_was_lost(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &["rewound"], Place::Newest).await?;
    room.count("rewound", 0..4).await?;
    reader.expect_numbers("rewound", 0..4).await?;
    room.lose_all_but("rewound", 2).await?;
    room.publish(1, "rewound", "instead").await?;
    // Whether the log has gone past the lost place again by the time it is asked is a matter of
    // moments.
    reader
        .expect_loss(&[Verdict::Ahead, Verdict::Diverged])
        .await?;
    reload(&room, reader, "rewound", &["0", "1", "instead"]).await?;
    room.end()
}
