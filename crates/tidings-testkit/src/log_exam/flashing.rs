//! Flash events: live, to every tail that is there, once; never from a read, and with their commit or
//! not at all.

use anyhow::{Result, ensure};
use tidings_core::limits::{DRAFTS_PER_APPEND_MAX, FLASH_BYTES_MAX};
use tidings_core::{
    Attributes, Commit, CommitOutcome, Draft, Event, EventId, EventLog, From, LogError, PageLimit,
    Partition, Placed, Prev, TailStep, Version,
};

use super::Subject;
use super::ledger::{commit, key, put, retried, stored};
use super::room::{Follower, Room, draft, patiently, placed};

/// A tail that is known to follow a topic's partition, and what flash events it was handed.
pub(super) struct Listener {
    tail: Follower,
    topic: Placed,
    seen: Vec<Event>,
}

impl Listener {
    pub(super) async fn new(room: &Room, log: &dyn EventLog, topic: &Placed) -> Result<Self> {
        let mut listener = Self {
            tail: Follower::from_origin(log),
            topic: topic.clone(),
            seen: Vec::new(),
        };
        listener.meet(room).await?;
        Ok(listener)
    }

    /// Waits until the tail follows: it has brought an event that was stored just now.
    pub(super) async fn meet(&mut self, room: &Room) -> Result<()> {
        let hello = || vec![draft(&self.topic, "are you there?")];
        let id = patiently(|| room.log.append(self.topic.partition, hello())).await?[0].id;
        loop {
            match self.tail.step().await? {
                TailStep::Events(_, events) if events.iter().any(|one| one.id == id) => {
                    return Ok(());
                }
                step => self.take(step),
            }
        }
    }

    fn take(&mut self, step: TailStep) {
        if let TailStep::Flash(partition, events) = step {
            assert!(!events.is_empty(), "a step without events");
            if partition == self.topic.partition {
                self.seen.extend(events);
            }
        }
    }

    /// Everything that was handed to the tail, up to the first one with this data.
    pub(super) async fn until(&mut self, data: &str) -> Result<Vec<Event>> {
        loop {
            let last = self.seen.iter().position(|event| event.data == data);
            if let Some(last) = last {
                return Ok(self.seen.drain(..=last).collect());
            }
            let step = self.tail.step().await?;
            self.take(step);
        }
    }

    /// Hands these out, and answers with all that came up to the last one.
    pub(super) async fn flash_until(&mut self, room: &Room, data: &[&str]) -> Result<Vec<String>> {
        let drafts = data.iter().map(|one| draft(&self.topic, one)).collect();
        room.log.flash(self.topic.partition, drafts).await?;
        let last = data.last().expect("something is flashed");
        Ok(texts(&self.until(last).await?))
    }
}

fn texts(events: &[Event]) -> Vec<String> {
    let data = events.iter().map(|event| &event.data);
    data.map(|data| String::from_utf8_lossy(data).into_owned())
        .collect()
}

pub(super) async fn flash_reaches_every_tail_once(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (topic, elsewhere) = (placed(0, "exam/flash"), placed(2, "exam/other"));
    let (one, other) = (room.another().await?, room.another().await?);
    let mut tails = [
        Listener::new(&room, &*one, &topic).await?,
        Listener::new(&room, &*other, &topic).await?,
    ];
    let mut third = Listener::new(&room, &*one, &elsewhere).await?;
    let whole = Draft {
        attributes: Some(Box::new(Attributes {
            source: Some("exam".into()),
            subject: Some("\u{fc}\"".into()),
            ..Attributes::default()
        })),
        ..Draft::new(topic.topic.clone(), "typing", &b"{ \"a\":1 }\r\n"[..])
    };
    for round in 0..3 {
        let mut drafts = vec![whole.clone()];
        let numbers: Vec<String> = (0..20).map(|n| format!("{round}-{n}")).collect();
        drafts.extend(numbers.iter().map(|n| draft(&topic, n)));
        let log = [&one, &other, &room.log][round];
        log.flash(topic.partition, drafts).await?;
        // Between them something is stored, which keeps its own order.
        room.publish(&topic, "stored").await?;
        for tail in &mut tails {
            let seen = tail.until(numbers.last().expect("twenty")).await?;
            assert_eq!(texts(&seen[1..]), numbers, "each once, in order");
            let first = &seen[0];
            assert_eq!((&first.topic, &*first.kind), (&whole.topic, "typing"));
            assert_eq!(
                (&first.data, &first.attributes),
                (&whole.data, &whole.attributes)
            );
            assert!(seen.iter().all(|event| event.prev == Prev::Unknown));
            assert!(seen.iter().all(|event| event.id != EventId::ORIGIN));
        }
    }
    // Another partition is none of theirs.
    assert_eq!(third.flash_until(&room, &["end"]).await?, ["end"]);
    Ok(())
}

pub(super) async fn flash_is_never_replayed(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(1, "exam/flash");
    let flashed = || vec![draft(&topic, "gone"), draft(&topic, "too")];
    room.log.flash(topic.partition, flashed()).await?;
    let page = room.read(&topic, From::Oldest).await?;
    assert_eq!((page.events, page.head), (Vec::new(), None));
    let filled = room.log.fill(topic.partition, PageLimit::default()).await?;
    assert_eq!((filled.events, filled.level), (Vec::new(), EventId::ORIGIN));
    // A tail that starts later has what is stored, and what is flashed from then on.
    let mut late = Listener::new(&room, &*room.another().await?, &topic).await?;
    room.log.flash(topic.partition, flashed()).await?;
    late.until("too").await?;
    let mut later = Listener::new(&room, &*room.another().await?, &topic).await?;
    assert_eq!(later.flash_until(&room, &["new"]).await?, ["new"]);
    assert_eq!(texts(&late.until("new").await?), ["new"]);
    let stored = room.read(&topic, From::Oldest).await?.events;
    assert!(stored.iter().all(|event| event.data == "are you there?"));
    Ok(())
}

pub(super) async fn flash_comes_with_its_commit_or_not_at_all(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (topic, typing) = (placed(0, "exam/typing"), key("typing"));
    let mut tail = Listener::new(&room, &*room.another().await?, &topic).await?;
    let flashing = |data: &str| Commit {
        expects: vec![(typing.clone(), Version::ABSENT)],
        puts: vec![put(&typing, data.to_owned())],
        flash: vec![draft(&topic, data), draft(&topic, "and")],
        ..commit()
    };
    let (first, second) = (flashing("1"), flashing("2"));
    stored(room.try_commit(first.clone()).await?);
    assert_eq!(room.try_commit(second).await?, CommitOutcome::Conflict);
    retried(room.try_commit(first).await?);
    // With events, and with nothing else at all.
    let both = Commit {
        drafts: vec![draft(&topic, "stored")],
        ..Commit {
            expects: Vec::new(),
            ..flashing("3")
        }
    };
    assert_eq!(room.commit(both).await?.appended.len(), 1);
    let bare = Commit {
        flash: vec![draft(&topic, "4")],
        ..commit()
    };
    room.commit(bare).await?;
    let seen = tail.flash_until(&room, &["end"]).await?;
    assert_eq!(seen, ["1", "and", "3", "and", "4", "end"]);
    Ok(())
}

pub(super) async fn flash_keeps_its_bounds(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/flash");
    let mut tail = Listener::new(&room, &*room.another().await?, &topic).await?;
    let large = "x".repeat(FLASH_BYTES_MAX);
    let larger = "x".repeat(FLASH_BYTES_MAX + 1);
    let refused = |outcome: Result<(), LogError>| match outcome {
        Err(LogError::Refused(_)) => Ok(()),
        other => Err(anyhow::anyhow!("{other:?}")),
    };
    let many = vec![draft(&topic, "x"); DRAFTS_PER_APPEND_MAX + 1];
    refused(room.log.flash(topic.partition, many).await)?;
    refused(
        room.log
            .flash(topic.partition, vec![draft(&topic, &larger)])
            .await,
    )?;
    refused(room.log.flash(Partition(9), vec![draft(&topic, "x")]).await)?;
    room.log.flash(topic.partition, Vec::new()).await?;
    let over = Commit {
        flash: vec![draft(&topic, &larger)],
        ..commit()
    };
    let over = room.try_commit(over).await;
    ensure!(over.is_err(), "{over:?}");
    // Far more than anybody keeps: whoever is there goes on with what comes.
    for _ in 0..20 {
        let many = vec![draft(&topic, "x"); DRAFTS_PER_APPEND_MAX];
        room.log.flash(topic.partition, many).await?;
    }
    let seen = tail.flash_until(&room, &[&large]).await?;
    ensure!(seen.iter().rev().skip(1).all(|data| data == "x"));
    Ok(())
}
