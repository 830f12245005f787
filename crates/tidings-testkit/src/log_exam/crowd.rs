//! The crowd: eight readers against eight writers, twenty thousand events, each seen by each
//! reader exactly once and in order.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tidings_core::{Draft, Event, EventLog, From, Outcome, PageLimit, Placed};

use super::Subject;
use super::room::{Chains, Follower, Room, draft, ids, placed, read_to_end};

const WRITERS: usize = 8;
const READERS: usize = 8;
const EVENTS: usize = 20_000;
const TOPICS: usize = 40;

pub(super) async fn eight_readers_against_eight_writers(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let mut tasks = Vec::new();
    for _ in 0..READERS {
        tasks.push(tokio::spawn(read(room.another().await?)));
    }
    for writer in 0..WRITERS {
        tasks.push(tokio::spawn(write(room.another().await?, writer)));
    }
    for task in tasks {
        task.await??;
    }
    // What was tailed is what is kept.
    let mut crowd = Crowd::default();
    for n in 0..TOPICS {
        let limit = PageLimit::default();
        let events = read_to_end(&*room.log, &topic(n), From::Oldest, limit).await?;
        events.iter().for_each(|event| crowd.take(event));
    }
    crowd.complete();
    Ok(())
}

fn topic(n: usize) -> Placed {
    placed((n % 4) as u16, &format!("exam/crowd/{n}"))
}

/// Appends its share in batches of one to nine, each to topics of one partition.
async fn write(log: Arc<dyn EventLog>, writer: usize) -> Result<()> {
    let mut written = 0;
    for round in 0.. {
        let size = (round % 9 + 1).min(EVENTS / WRITERS - written);
        if size == 0 {
            break;
        }
        let drafts: Vec<Draft> = (written..written + size)
            .map(|n| {
                // Steps of four stay in the partition.
                let topic = topic((round + writer + 4 * n) % TOPICS);
                draft(&topic, &format!("[{writer},{n}]"))
            })
            .collect();
        let partition = topic((round + writer) % 4).partition;
        ids(&log.append(partition, drafts).await?, Outcome::New);
        written += size;
    }
    Ok(())
}

async fn read(log: Arc<dyn EventLog>) -> Result<()> {
    let mut tail = Follower::from_origin(&*log);
    let mut crowd = Crowd::default();
    while crowd.chains.seen < EVENTS {
        let events = tail.events().await;
        let events = events.with_context(|| format!("after {} events", crowd.chains.seen))?;
        events.iter().for_each(|event| crowd.take(event));
    }
    crowd.complete();
    Ok(())
}

/// What one reader has seen of whom.
struct Crowd {
    chains: Chains,
    /// For each writer, which of its events.
    seen: Vec<Vec<bool>>,
    /// For each writer and topic, the last of its events there.
    last: Vec<Vec<Option<usize>>>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            chains: Chains::default(),
            seen: vec![vec![false; EVENTS / WRITERS]; WRITERS],
            last: vec![vec![None; TOPICS]; WRITERS],
        }
    }
}

impl Crowd {
    fn take(&mut self, event: &Event) {
        self.chains.take(event);
        let (writer, n) = signature(event).expect("data as it was written");
        assert!(
            !std::mem::replace(&mut self.seen[writer][n], true),
            "{n} of writer {writer} came twice"
        );
        let topic = event.topic.as_str().rsplit('/').next();
        let topic: usize = topic.and_then(|n| n.parse().ok()).expect("as written");
        let before = self.last[writer][topic].replace(n);
        assert!(before < Some(n), "{before:?} before {n} of writer {writer}");
    }

    fn complete(&self) {
        assert!(self.seen.iter().flatten().all(|seen| *seen));
        assert_eq!((self.chains.seen, self.chains.topics()), (EVENTS, TOPICS));
    }
}

fn signature(event: &Event) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(&event.data).ok()?;
    let (writer, n) = text.strip_prefix('[')?.strip_suffix(']')?.split_once(',')?;
    Some((writer.parse().ok()?, n.parse().ok()?))
}
