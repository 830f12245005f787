//! Refusing: bad input gets a clear error in the dialect's own form, changes nothing, and is
//! nobody else's problem.

use anyhow::{Context as _, Result, bail, ensure};

use super::room::{Room, soon};
use super::{Bad, Dialect, Heard, Place, Sent, wire};

pub(super) async fn bad_requests_are_refused_and_disturb_nobody(
    dialect: &dyn Dialect,
) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut witness = room.follow(0, &["witness"], Place::Newest).await?;
    let stranger = |what, method, target| {
        let request = wire::Request::new(method, target);
        (what, request, None, String::new())
    };
    let strangers = [
        stranger("an unknown route", "GET", "/no/such/route/anywhere"),
        stranger("an unknown method", "BREW", "/"),
    ];
    let bad = dialect.bad().into_iter().filter_map(|bad| {
        let Bad { what, sent, says } = bad;
        match sent {
            Sent::Request(request, status) => Some((what, request, Some(status), says)),
            Sent::Frame(_) => None,
        }
    });
    for (number, (what, request, status, says)) in strangers.into_iter().chain(bad).enumerate() {
        let answer = soon("a refusal", wire::send(room.at(0), &request)).await?;
        let answer = answer.with_context(|| format!("{what}: no answer"))?;
        let body = answer.text();
        ensure!(
            (400..500).contains(&answer.status),
            "{what} is answered with {}: {body}",
            answer.status
        );
        if let Some(status) = status {
            ensure!(
                answer.status == status && body.contains(&says),
                "{what} is answered with {} and {body:?}, without {status} and {says:?}",
                answer.status
            );
        }
        room.publish(1, "witness", &number.to_string()).await?;
        witness.expect("witness", &[&number.to_string()]).await?;
    }
    room.end()
}

pub(super) async fn bad_frames_are_refused_and_disturb_nobody(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut witness = room.follow(0, &["witness"], Place::Newest).await?;
    for (number, bad) in dialect.bad().into_iter().enumerate() {
        let Bad { what, sent, says } = bad;
        let Sent::Frame(frame) = sent else { continue };
        let mut client = room.follow(0, &["bad"], Place::Newest).await?;
        client.send(frame).await?;
        match client.hear().await.with_context(|| what.to_owned())? {
            Heard::Refused(words) => ensure!(
                words.contains(&says),
                "{what} is refused with {words:?}, without {says:?}"
            ),
            other => bail!("{what}: instead of a refusal a client hears {other:?}"),
        }
        room.publish(1, "witness", &number.to_string()).await?;
        witness.expect("witness", &[&number.to_string()]).await?;
    }
    room.end()
}

/// What is no cursor must be refused, or be told as lost: a client that starts at the newest
/// instead would never know what it missed.
pub(super) async fn a_garbled_cursor_is_no_silent_start(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    room.count("garbled", 0..3).await?;
    for text in ["no-such-cursor!", "%00%ff", "-1-1", &"9".repeat(300)] {
        let place = Place::After(text.to_owned());
        let heard = match room.connect(0, &["garbled"], &place).await {
            // It was so garbled that the client could not even be made to send it.
            Err(_) => continue,
            Ok(mut reader) => loop {
                match reader.hear().await? {
                    Heard::Open(_) => {}
                    heard => break heard,
                }
            },
        };
        match heard {
            Heard::Refused(_) | Heard::Lost(_) => {}
            // Everything that is retained loses nothing either.
            Heard::Event { text: first, .. } if first == "0" => {}
            other => bail!("resuming from {text:?} a client hears {other:?}"),
        }
    }
    room.end()
}
