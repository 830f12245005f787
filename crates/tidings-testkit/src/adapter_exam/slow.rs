//! A slow reader: it catches up or is dropped and comes back, and nobody else notices.

use anyhow::{Context as _, Result, bail, ensure};
use tidings_adapter::Limits;

use super::cluster::Setup;
use super::room::Room;
use super::{Dialect, Heard, Place};

pub(super) async fn a_slow_reader_costs_nobody_else(dialect: &dyn Dialect) -> Result<()> {
    /// Together four megabytes: far more than sockets and buffers take in on the way.
    const EVENTS: usize = 2_000;
    const BYTES: usize = 2_000;
    // A window that the slow reader falls behind: it must read from the log.
    let limits = Limits {
        window_bytes: 1024 * 1024,
        ..Setup::default().limits
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let room = Room::with(dialect, setup).await?;
    let mut slow = room.follow(0, &["slow"], Place::Newest).await?;
    let mut quick = room.follow(0, &["slow"], Place::Newest).await?;
    let text = |number: usize| format!("{number}:{}", "x".repeat(BYTES));
    let publish = async {
        for number in 0..EVENTS {
            room.store(1, "slow", &text(number)).await?;
        }
        anyhow::Ok(())
    };
    let read = async {
        for number in 0..EVENTS {
            quick.expect("slow", &[&text(number)]).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publish, read)?;

    let mut next = 0;
    let mut comebacks = 0;
    while next < EVENTS {
        match slow.hear().await? {
            Heard::Event { text: heard, .. } => {
                let number = heard.split(':').next().unwrap_or_default();
                ensure!(number == next.to_string(), "{next} is next, not {number}");
                ensure!(heard == text(next), "number {next} is cut");
                next += 1;
            }
            Heard::Open(_) | Heard::ComeBack => {}
            Heard::Refused(_) | Heard::Ended { .. } => {
                comebacks += 1;
                ensure!(comebacks < 10, "it is dropped again and again");
                if !dialect.features().resumes {
                    return room.end();
                }
                let place = slow.place().context("a slow reader comes back")?;
                slow = room.connect(1, &["slow"], &place).await?;
            }
            other => bail!("at {next} a slow reader hears {other:?}"),
        }
    }
    room.publish(1, "slow", "level").await?;
    quick.expect("slow", &["level"]).await?;
    slow.expect("slow", &["level"]).await?;
    room.end()
}
