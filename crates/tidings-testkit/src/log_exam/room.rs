//! Where a case sits: one fresh log, a first handle on it, and the few moves that all cases share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidings_core::{
    Appended, Draft, Event, EventId, EventLog, From, LogError, Outcome, Page, PageLimit, Partition,
    Placed, Prev, Tail, TailStep, Topic, Verdict,
};

use super::{Setup, Sitting, Subject};

/// How long a state is waited for before the case fails. A failover takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The retention of cases that see events expire: long enough that a slow machine does a few calls
/// within it, short enough to be waited for.
pub(super) const SHORT: Duration = Duration::from_secs(2);

pub(super) struct Room {
    pub(super) sitting: Arc<dyn Sitting>,
    pub(super) log: Arc<dyn EventLog>,
}

impl Room {
    /// A log for which nothing expires.
    pub(super) async fn new(subject: &dyn Subject) -> Result<Self> {
        Self::with(subject, Setup::default()).await
    }

    /// A log that retains for [`SHORT`].
    pub(super) async fn short(subject: &dyn Subject) -> Result<Self> {
        let setup = Setup {
            retention: SHORT,
            ..Setup::default()
        };
        Self::with(subject, setup).await
    }

    pub(super) async fn with(subject: &dyn Subject, setup: Setup) -> Result<Self> {
        let sitting = subject.fresh(setup).await.context("no fresh log")?;
        let log = sitting.instance().await.context("no first handle")?;
        assert_eq!(log.partitions().count(), setup.partitions);
        assert_eq!(log.retention(), setup.retention);
        Ok(Self { sitting, log })
    }

    /// A handle as another instance has it.
    pub(super) async fn another(&self) -> Result<Arc<dyn EventLog>> {
        self.sitting.instance().await.context("no further handle")
    }

    pub(super) fn retention_ms(&self) -> u64 {
        self.log.retention().as_millis() as u64
    }

    /// One event in a topic.
    pub(super) async fn publish(&self, topic: &Placed, data: &str) -> Result<EventId> {
        publish(&*self.log, topic, data).await
    }

    /// Waits until the log's clock has reached a time.
    pub(super) async fn wait_for_ms(&self, ms: u64) -> Result<()> {
        let started = Instant::now();
        loop {
            let now = patiently(|| self.log.time_ms()).await?;
            if now >= ms {
                return Ok(());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "the log's clock stands at {now}"
            );
            self.sitting.pass(Duration::from_millis(ms - now)).await;
        }
    }

    /// Waits until everything stored so far is past the retention.
    pub(super) async fn wait_for_expiry(&self, newest: EventId) -> Result<()> {
        self.wait_for_ms(newest.ms() + self.retention_ms() + 1)
            .await
    }

    /// Waits until a new event would get another millisecond.
    pub(super) async fn tick(&self) -> Result<()> {
        let now = self.log.time_ms().await?;
        self.wait_for_ms(now + 2).await
    }

    pub(super) async fn read(&self, topic: &Placed, from: From) -> Result<Page> {
        Ok(self.log.read(topic, from, PageLimit::default()).await?)
    }

    pub(super) async fn judge(&self, topic: &Placed, place: EventId) -> Result<Verdict> {
        judge(&*self.log, topic, place).await
    }
}

pub(super) fn placed(partition: u16, name: &str) -> Placed {
    Placed {
        partition: Partition(partition),
        topic: Topic::parse(name).expect("cases name valid topics"),
    }
}

pub(super) fn draft(topic: &Placed, data: &str) -> Draft {
    Draft::new(topic.topic.clone(), "exam", data.to_owned())
}

/// Drafts that count from `range` in their data.
pub(super) fn counted(topic: &Placed, range: std::ops::Range<usize>) -> Vec<Draft> {
    range.map(|n| draft(topic, &n.to_string())).collect()
}

pub(super) async fn publish(log: &dyn EventLog, topic: &Placed, data: &str) -> Result<EventId> {
    let appended = log
        .append(topic.partition, vec![draft(topic, data)])
        .await?;
    Ok(ids(&appended, Outcome::New)[0])
}

/// The ids of an append whose drafts all had the same outcome.
pub(super) fn ids(appended: &[Appended], outcome: Outcome) -> Vec<EventId> {
    assert!(
        appended.iter().all(|a| a.outcome == outcome),
        "all {outcome:?} was expected of {appended:?}"
    );
    appended.iter().map(|a| a.id).collect()
}

pub(super) async fn judge(log: &dyn EventLog, topic: &Placed, place: EventId) -> Result<Verdict> {
    let verdicts = log.judge(vec![(topic.clone(), place)]).await?;
    assert_eq!(verdicts.len(), 1);
    // A read says the same of the same place, and brings nothing where it is not `ok`.
    let page = log
        .read(topic, From::After(place), PageLimit::default())
        .await?;
    assert_eq!(page.verdict, verdicts[0], "read and judge on {place}");
    assert!(page.verdict.is_ok() || page.events.is_empty(), "{page:?}");
    Ok(verdicts[0])
}

/// Reads a topic to its end, page by page.
pub(super) async fn read_to_end(
    log: &dyn EventLog,
    topic: &Placed,
    from: From,
    limit: PageLimit,
) -> Result<Vec<Event>> {
    let (mut events, mut from) = (Vec::new(), from);
    loop {
        let page = log.read(topic, from, limit).await?;
        assert_eq!(page.verdict, Verdict::Ok, "{from:?}");
        if let Some(last) = page.events.last() {
            assert_eq!(page.next, last.id);
        }
        assert!(
            page.at_end || !page.events.is_empty(),
            "a page that is not the last one is not empty"
        );
        events.extend(page.events);
        if page.at_end {
            return Ok(events);
        }
        from = From::After(page.next);
    }
}

/// Asks again while the log is out of reach, as it may be after a fault that the case injected.
pub(super) async fn patiently<'a, T>(
    mut ask: impl FnMut() -> tidings_core::BoxFuture<'a, Result<T, LogError>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match ask().await {
            Err(LogError::Unavailable(_)) if started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// What one reader has seen, topic by topic: every event must name the one before it.
#[derive(Debug, Default)]
pub(super) struct Chains {
    heads: HashMap<Topic, EventId>,
    pub(super) seen: usize,
}

impl Chains {
    /// Takes the next event. The first one of a topic must have nothing before it.
    pub(super) fn take(&mut self, event: &Event) {
        match self.heads.insert(event.topic.clone(), event.id) {
            Some(before) => {
                assert!(before < event.id, "{} came after {before}", event.id);
                assert_eq!(event.prev, Prev::Event(before), "of {}", event.id);
            }
            None => assert!(
                matches!(event.prev, Prev::NoneSince(since) if since < event.id),
                "the first event of {} has {:?} before it",
                event.topic,
                event.prev
            ),
        }
        self.seen += 1;
    }

    pub(super) fn topics(&self) -> usize {
        self.heads.len()
    }
}

/// A tail with patience: the case fails when nothing comes.
pub(super) struct Follower {
    tail: Box<dyn Tail>,
    /// The last id of each partition.
    last: HashMap<Partition, EventId>,
}

impl Follower {
    pub(super) fn new(log: &dyn EventLog, from: Vec<EventId>) -> Self {
        let last = log.partitions().all().zip(from.iter().copied()).collect();
        Self {
            tail: log.tail(from),
            last,
        }
    }

    /// Follows from before the first event.
    pub(super) fn from_origin(log: &dyn EventLog) -> Self {
        let partitions = usize::from(log.partitions().count());
        Self::new(log, vec![EventId::ORIGIN; partitions])
    }

    pub(super) async fn step(&mut self) -> Result<TailStep> {
        let step = tokio::time::timeout(PATIENCE, self.tail.next());
        let step = step.await.context("the tail stands still")?;
        match &step {
            TailStep::Events(partition, events) => {
                assert!(!events.is_empty(), "a step without events");
                let last = self.last.entry(*partition).or_default();
                for event in events {
                    assert!(*last < event.id, "{} handed out after {last}", event.id);
                    *last = event.id;
                }
            }
            TailStep::Rewound { partition, common } => {
                let last = self.last.entry(*partition).or_default();
                assert!(*common < *last, "rewound from {last} to {common}");
                *last = *common;
            }
            _ => {}
        }
        Ok(step)
    }

    /// The next events of any partition, past `Level`. Anything else fails the case.
    pub(super) async fn events(&mut self) -> Result<Vec<Event>> {
        let started = Instant::now();
        loop {
            match self.step().await? {
                TailStep::Events(_, events) => return Ok(events),
                TailStep::Level => {}
                other => panic!("an undisturbed tail says {other:?}"),
            }
            ensure!(started.elapsed() < PATIENCE, "no events, only level");
        }
    }

    /// So many events of any partition.
    pub(super) async fn count(&mut self, count: usize) -> Result<Vec<Event>> {
        let mut all = Vec::new();
        while all.len() < count {
            let missing = count - all.len();
            let events = self.events().await;
            all.extend(events.with_context(|| format!("{missing} events are missing"))?);
        }
        assert_eq!(all.len(), count, "more than were published");
        Ok(all)
    }
}
