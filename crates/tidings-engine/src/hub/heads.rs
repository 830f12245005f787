//! How far topics have come, asked of the log for many at once.
//!
//! Every request/response read asks for its topic's head before it answers from the window, so that
//! it sees what was published on any instance before. A call that begins after all of them came
//! answers them all: so whoever comes while a call is under way shares the next one. Each partition
//! has its own, since one node that does not answer is no reason to wait at the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_core::{EventId, EventLog, Head, LogError, Partitions, Placed};
use tokio::sync::oneshot;

/// Topics of one call: it holds Redis up for less than a millisecond.
const TOPICS_PER_CALL: usize = 512;

/// Where reads ask.
#[derive(Debug)]
pub(crate) struct Heads(Vec<Arc<Mutex<Desk>>>);

/// Who waits for the next call of one partition.
#[derive(Debug, Default)]
struct Desk {
    waiting: Vec<(Placed, oneshot::Sender<Answer>)>,
    /// Whether a task asks for those who wait.
    asking: bool,
}

/// The head, or why the log could not say.
type Answer = Result<EventId, String>;

impl Heads {
    pub(crate) fn new(partitions: Partitions) -> Self {
        Self(partitions.all().map(|_| Arc::default()).collect())
    }

    /// The topic's last event, [`EventId::ORIGIN`] if the log remembers none.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub(crate) async fn of(
        &self,
        log: &Arc<dyn EventLog>,
        topic: &Placed,
    ) -> Result<EventId, LogError> {
        let desk = &self.0[topic.partition.index()];
        let (answer, head) = oneshot::channel();
        if desk.lock().join(topic.clone(), answer) {
            let (desk, log) = (desk.clone(), log.clone());
            // On a task of its own: others wait for it, too, when this reader goes.
            tokio::spawn(async move { ask(&desk, |topics| log.heads(topics)).await });
        }
        match head.await {
            Ok(head) => head.map_err(LogError::Unavailable),
            Err(_) => Err(LogError::Unavailable("the hub has ended".to_owned())),
        }
    }
}

impl Desk {
    /// Waits in line; true for the one who has to see to it that somebody asks.
    fn join(&mut self, topic: Placed, answer: oneshot::Sender<Answer>) -> bool {
        self.waiting.push((topic, answer));
        !std::mem::replace(&mut self.asking, true)
    }

    /// Who is answered by the next call; nobody, and then nobody asks any more.
    fn next(&mut self) -> Vec<(Placed, oneshot::Sender<Answer>)> {
        let count = self.waiting.len().min(TOPICS_PER_CALL);
        self.asking = count > 0;
        self.waiting.drain(..count).collect()
    }
}

/// Asks until nobody waits.
async fn ask<F>(desk: &Mutex<Desk>, mut heads: impl FnMut(Vec<Placed>) -> F)
where
    F: Future<Output = Result<Vec<Head>, LogError>>,
{
    loop {
        // Whoever is ready to read at this moment comes along.
        tokio::task::yield_now().await;
        let group = desk.lock().next();
        if group.is_empty() {
            return;
        }
        let topics: BTreeSet<&Placed> = group.iter().map(|(topic, _)| topic).collect();
        let topics: Vec<Placed> = topics.into_iter().cloned().collect();
        let answer = heads(topics.clone()).await;
        for (topic, waiting) in group {
            let head = match &answer {
                Ok(heads) => topics
                    .binary_search(&topic)
                    .ok()
                    .and_then(|position| heads.get(position))
                    .map(|head| head.topic.unwrap_or(EventId::ORIGIN))
                    .ok_or_else(|| "the log left a head out".to_owned()),
                Err(LogError::Unavailable(reason)) => Err(reason.clone()),
                Err(other) => Err(other.to_string()),
            };
            // A reader that has gone does not want to know.
            let _ = waiting.send(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::{Partition, Topic};

    fn placed(name: &str) -> Placed {
        Placed {
            partition: Partition(0),
            topic: Topic::parse(name).expect("valid"),
        }
    }

    fn head(ms: u64) -> Head {
        Head {
            topic: EventId::new(ms, 0),
            partition: EventId::ORIGIN,
        }
    }

    #[tokio::test]
    async fn those_who_come_during_a_call_share_the_next_one() {
        let desk = Mutex::new(Desk::default());
        let calls = Mutex::new(Vec::new());
        let join = |name| {
            let (answer, head) = oneshot::channel();
            (desk.lock().join(placed(name), answer), head)
        };
        let (first, a) = join("a");
        assert!(first, "somebody must begin");
        let late = Mutex::new(Vec::new());
        ask(&desk, |topics| {
            if calls.lock().is_empty() {
                for name in ["c", "b", "c"] {
                    let (begins, head) = join(name);
                    assert!(!begins, "a task asks already");
                    late.lock().push(head);
                }
            }
            calls.lock().push(topics.len());
            // Each topic's head is told by its name.
            let heads = topics
                .iter()
                .map(|placed| head(u64::from(placed.topic.as_str().as_bytes()[0])));
            std::future::ready(Ok(heads.collect()))
        })
        .await;
        assert_eq!(
            *calls.lock(),
            [1, 2],
            "one for the first, one for the others"
        );
        assert_eq!(
            a.await.expect("answered").map(|id| id.ms()),
            Ok(u64::from(b'a'))
        );
        for (waiting, name) in late.into_inner().into_iter().zip(*b"cbc") {
            let id = waiting.await.expect("answered");
            assert_eq!(id.map(|id| id.ms()), Ok(u64::from(name)));
        }
        assert!(join("a").0, "the next one begins anew");
    }

    #[tokio::test]
    async fn a_failure_is_everybodys_who_waited() {
        let desk = Mutex::new(Desk::default());
        let waiting: Vec<_> = ["a", "b"]
            .map(|name| {
                let (answer, head) = oneshot::channel();
                desk.lock().join(placed(name), answer);
                head
            })
            .into();
        let away = || LogError::Unavailable("away".to_owned());
        ask(&desk, |_| std::future::ready(Err(away()))).await;
        for head in waiting {
            assert_eq!(head.await.expect("answered"), Err("away".to_owned()));
        }
    }
}
