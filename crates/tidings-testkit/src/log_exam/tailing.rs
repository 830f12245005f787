//! Tailing: everything after a place, once and in order, whoever appends and however often the
//! reader is interrupted.

use std::time::Duration;

use anyhow::Result;
use tidings_core::{EventId, Outcome, TailStep};

use super::Subject;
use super::room::{Chains, Follower, Room, counted, draft, ids, placed};

pub(super) async fn tail_goes_on_from_its_place(subject: &dyn Subject) -> Result<()> {
    const EVENTS: usize = 12;
    let room = Room::new(subject).await?;
    let topics = [placed(0, "exam/a"), placed(2, "exam/b")];
    let mut all = [Vec::new(), Vec::new()];
    for (topic, all) in topics.iter().zip(&mut all) {
        let drafts = counted(topic, 0..EVENTS);
        *all = ids(
            &room.log.append(topic.partition, drafts).await?,
            Outcome::New,
        );
    }
    for (a, b) in [(0, 0), (0, EVENTS), (5, 3), (EVENTS - 1, EVENTS)] {
        let place = |all: &[EventId], n: usize| match n {
            0 => EventId::ORIGIN,
            n => all[n - 1],
        };
        let places = vec![
            place(&all[0], a),
            EventId::ORIGIN,
            place(&all[1], b),
            EventId::ORIGIN,
        ];
        let log = room.another().await?;
        let mut tail = Follower::new(&*log, places);
        let events = tail.count(2 * EVENTS - a - b).await?;
        for (topic, rest) in topics.iter().zip([&all[0][a..], &all[1][b..]]) {
            let seen = events.iter().filter(|e| e.topic == topic.topic);
            assert!(seen.map(|e| e.id).eq(rest.iter().copied()), "{a}, {b}");
        }
    }
    Ok(())
}

pub(super) async fn tail_sees_everything_once_in_order(subject: &dyn Subject) -> Result<()> {
    const WRITERS: usize = 4;
    const APPENDS: usize = 150;
    let room = Room::new(subject).await?;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let log = room.another().await?;
        writers.push(tokio::spawn(async move {
            for n in 0..APPENDS {
                let partition = ((n + writer) % 4) as u16;
                let topic = placed(partition, &format!("exam/tail/{partition}/{}", n % 5));
                log.append(topic.partition, counted(&topic, 0..n % 3 + 1))
                    .await?;
            }
            anyhow::Ok(())
        }));
    }
    let mut readers = Vec::new();
    for _ in 0..3 {
        let log = room.another().await?;
        readers.push(tokio::spawn(async move {
            let mut tail = Follower::from_origin(&*log);
            let mut chains = Chains::default();
            let all = WRITERS * (0..APPENDS).map(|n| n % 3 + 1).sum::<usize>();
            for event in tail.count(all).await? {
                chains.take(&event);
            }
            anyhow::Ok(())
        }));
    }
    for task in writers.into_iter().chain(readers) {
        task.await??;
    }
    Ok(())
}

pub(super) async fn tail_says_level(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let mut tail = Follower::from_origin(&*room.log);
    let topic = placed(3, "exam/level");
    for _ in 0..2 {
        assert_eq!(tail.step().await?, TailStep::Level);
        let id = room.publish(&topic, "1").await?;
        assert_eq!(tail.events().await?[0].id, id);
    }
    Ok(())
}

pub(super) async fn tail_is_cancel_safe(subject: &dyn Subject) -> Result<()> {
    const EVENTS: usize = 600;
    let room = Room::new(subject).await?;
    let writer = {
        let log = room.another().await?;
        tokio::spawn(async move {
            for n in 0..EVENTS {
                let topic = placed((n % 4) as u16, &format!("exam/drop/{}", n % 8));
                log.append(topic.partition, vec![draft(&topic, "1")])
                    .await?;
                if n % 5 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            anyhow::Ok(())
        })
    };
    let reader = async {
        let mut tail = room.log.tail(vec![EventId::ORIGIN; 4]);
        let mut chains = Chains::default();
        let (mut asked, mut dropped) = (0usize, 0usize);
        while chains.seen < EVENTS {
            // From "asked once" to "nearly there".
            let patience = Duration::from_micros([0, 50, 300, 1500][asked % 4]);
            asked += 1;
            match tokio::time::timeout(patience, tail.next()).await {
                Err(_) => dropped += 1,
                Ok(TailStep::Events(_, events)) => {
                    events.iter().for_each(|event| chains.take(event));
                }
                Ok(TailStep::Level) => {}
                Ok(other) => panic!("an undisturbed tail says {other:?}"),
            }
        }
        assert!(dropped > 0, "nothing was interrupted");
        assert_eq!(chains.seen, EVENTS);
    };
    tokio::time::timeout(Duration::from_secs(60), reader).await?;
    writer.await??;
    Ok(())
}
