//! The log away: publishers are told, readers stay, and all recovers by itself.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::faulty::Fault;
use super::room::{Room, SOON, soon};
use super::{Dialect, Heard, Place, Published};

/// Waits until every instance has noticed.
async fn noticed(room: &Room<'_>, up: bool) -> Result<()> {
    let all = async {
        while room
            .cluster
            .instances()
            .iter()
            .any(|one| one.hub().health().tail_up != up)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the instances to notice", all).await
}

pub(super) async fn while_the_log_is_away_readers_stay(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut readers = Vec::new();
    for instance in [0, 1] {
        readers.push(room.follow(instance, &["away"], Place::Newest).await?);
    }
    room.count("away", 0..3).await?;
    for outage in 0..2 {
        room.cluster.fault(Fault::Away);
        noticed(&room, false).await?;
        room.cluster.fault(Fault::None);
        noticed(&room, true).await?;
        room.count("away", 3 + outage..4 + outage).await?;
    }
    // The same connections, and neither a loss nor a repetition.
    for reader in &mut readers {
        reader.expect_numbers("away", 0..5).await?;
    }
    room.end()
}

pub(super) async fn while_the_log_is_away_publishers_are_told_when(
    dialect: &dyn Dialect,
) -> Result<()> {
    let room = Room::new(dialect).await?;
    room.publish(0, "told", "before").await?;
    for fault in [Fault::Away, Fault::Full] {
        room.cluster.fault(fault);
        let answer = dialect.publish(room.at(0), "told", "meanwhile");
        match soon("a publisher to be told", answer).await?? {
            Published::Stored => bail!("{fault:?}, and it is called stored"),
            Published::Refused { retry, words } => ensure!(
                retry && !words.is_empty(),
                "{fault:?}: nobody is told to try again later: {words:?}"
            ),
        }
        room.cluster.fault(Fault::None);
    }
    room.publish(0, "told", "after").await?;
    let stored = room.ids("told").await?.len();
    ensure!(stored == 2, "two were stored, {stored} are there");
    room.end()
}

pub(super) async fn what_was_not_stored_is_not_called_stored(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    for fault in [Fault::Unsure, Fault::Full, Fault::Away] {
        room.cluster.fault(fault);
        let answer = dialect.publish(room.at(1), "unsure", "meanwhile");
        let answer = soon("a publisher to be told", answer).await??;
        ensure!(
            matches!(answer, Published::Refused { .. }),
            "{fault:?}, and it is called stored"
        );
    }
    room.cluster.fault(Fault::None);
    room.end()
}

pub(super) async fn who_comes_while_the_log_is_away_is_served_after(
    dialect: &dyn Dialect,
) -> Result<()> {
    /// Long enough for a client to arrive; if it does not, it finds a log that is back.
    const OUTAGE: Duration = Duration::from_millis(500);
    let room = Room::new(dialect).await?;
    room.count("comes", 0..3).await?;
    room.cluster.fault(Fault::Away);
    noticed(&room, false).await?;
    // Turned away in clear words, or let in to wait: both are well. What is not is an empty history.
    let began = tokio::time::Instant::now();
    let mut reader = {
        let mut coming = std::pin::pin!(room.connect(0, &["comes"], &Place::Oldest));
        let early = tokio::time::timeout(OUTAGE, &mut coming).await;
        room.cluster.fault(Fault::None);
        match early {
            Ok(reader) => reader?,
            Err(_) => coming.await?,
        }
    };
    loop {
        ensure!(began.elapsed() < SOON, "never served");
        match reader.hear().await? {
            Heard::Event { text, .. } => {
                ensure!(text == "0", "the history begins with {text}");
                break;
            }
            Heard::Open(_) => {}
            Heard::Refused(_) | Heard::Ended { .. } => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                reader = room
                    .connect(0, &["comes"], &Place::Oldest)
                    .await
                    .context("it comes again")?;
            }
            other => bail!("instead of the history a client hears {other:?}"),
        }
    }
    reader.expect_numbers("comes", 1..3).await?;
    room.end()
}
