//! Leaving: every client is told to come back, and then the instance is gone.

use anyhow::{Result, ensure};
use tokio::net::TcpStream;

use super::room::Room;
use super::{Dialect, Place};

pub(super) async fn clients_are_told_to_come_back_and_then_it_is_gone(
    dialect: &dyn Dialect,
) -> Result<()> {
    const CLIENTS: usize = 5;
    let mut room = Room::new(dialect).await?;
    let mut leaving = Vec::new();
    for _ in 0..CLIENTS {
        leaving.push(room.follow(0, &["leaving"], Place::Newest).await?);
    }
    let mut staying = room.follow(1, &["leaving"], Place::Newest).await?;
    room.count("leaving", 0..4).await?;
    for reader in &mut leaving {
        reader.expect_numbers("leaving", 0..4).await?;
    }
    let in_words = dialect.features().farewell;
    let address = room.at(0);
    // Side by side: a connection ends when its client has heard the farewell.
    let told = async {
        for reader in &mut leaving {
            reader.expect_farewell(in_words).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(room.cluster.leave(0), told)?;
    ensure!(
        TcpStream::connect(address).await.is_err(),
        "the instance has left, and still accepts"
    );
    room.publish(1, "leaving", "4").await?;
    staying.expect_numbers("leaving", 0..5).await?;
    room.end()
}

pub(super) async fn nothing_is_lost_on_the_way_to_the_other_instance(
    dialect: &dyn Dialect,
) -> Result<()> {
    let mut room = Room::new(dialect).await?;
    let mut reader = room.follow(0, &["moving"], Place::Newest).await?;
    room.count("moving", 0..10).await?;
    reader.expect_numbers("moving", 0..3).await?;
    let place = reader.place()?;
    let farewell = reader.expect_farewell(dialect.features().farewell);
    tokio::try_join!(room.cluster.leave(0), farewell)?;
    for number in 10..15 {
        room.publish(1, "moving", &number.to_string()).await?;
    }
    // From what it had read for good: what it was sent while leaving comes again.
    let mut reader = room.connect(1, &["moving"], &place).await?;
    reader.expect_numbers("moving", 3..15).await?;
    room.end()
}
