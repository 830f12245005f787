//! Logs with one flaw each, around one that has none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::{
    Appended, BoxFuture, Draft, Durability, Event, EventId, EventLog, Filled, From, Head, LogError,
    Page, PageLimit, Partition, Partitions, Placed, Prev, Records, RelayId, SetRank, Settled, Tail,
    TailStep, Verdict,
};

use Flaw::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    // Appending.
    OneByOne,
    ForgetsKeys,
    MixesScopes,
    KeysForever,
    TakesAnyNumber,
    NeverFull,
    // What comes back.
    PrevUnknown,
    PrevNever,
    DropsAttributes,
    TidiesData,
    // Reading.
    ReadsLag,
    SinceExclusive,
    NoBounds,
    EmptyPages,
    EndTooEarly,
    OldestIsNewest,
    NewestIsOrigin,
    HeadsMissing,
    // Verdicts.
    AlwaysOk,
    DivergedIsExpired,
    AheadIsOk,
    QuietIsExpired,
    OtherTopicIsDiverged,
    ExpiredIsOk,
    Unordered,
    // Retention.
    TooLong,
    TooShort,
    // Filling and tailing.
    FillStartsAtOrigin,
    FillLevelTooEarly,
    FillUnbounded,
    TailRepeats,
    TailSkips,
    TailSwaps,
    TailForgetsWhenDropped,
    TailNeverLevel,
    TailHidesRewinding,
    // Committing.
    CommitsInSteps,
    CommitsForgetKeys,
    CommitsDropAttributes,
    ForgetsCommits,
    RemembersForever,
    AnswersAnew,
    NeverRetried,
    ConflictsHalfway,
    IgnoresVersions,
    AbsentIsAny,
    ExpectsTheFirst,
    VersionsRestart,
    // Documents.
    LeavesGapsOut,
    TrimsDocuments,
    MixesKinds,
    NamesFold,
    LivesForever,
    RemovesByExpiry,
    // Deadlines.
    FiresAnyway,
    FiresAndKeeps,
    DueUnbounded,
    DueUnordered,
    DueOfOneKind,
    // Indexes.
    RanksComeLater,
    RanksComeBack,
    RanksAreKeptByNobody,
    PutsUnrank,
    ListsWhatIsGone,
    ListsByRankOnly,
    ListsTiesBackwards,
    ListsUnbounded,
    PagesSkipTies,
    IndexesAreOne,
    // The outbox.
    OutboxReversed,
    IndexesFromOne,
    RelaysTogether,
    ForgetsNothing,
    DeliversAtMostOnce,
    KeepsTheLease,
    // Flash events.
    FlashIsStored,
    FlashRepeats,
    FlashIsLost,
    FlashComesFirst,
    FlashUnbounded,
    // Owners.
    LeasesForever,
    LeasesNever,
    OrphansAreTakenWhenRead,
    OrphansAreNobodys,
    OrphansOfAnyKind,
    NobodyIsFenced,
    ForgetsWhoWasReaped,
    ReapsOnCommit,
    LeavesLater,
    OwnersStay,
}

#[derive(Debug)]
pub(crate) struct FlawedLog {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) flaw: Flaw,
    /// What it says its retention is.
    pub(crate) retention: Duration,
    /// Leases that are not given back.
    pub(crate) held: parking_lot::Mutex<HashMap<Partition, RelayId>>,
    /// Every rank that was ever set.
    pub(crate) ranked: parking_lot::Mutex<Vec<(Partition, SetRank)>>,
}

impl FlawedLog {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn worsen(&self, events: &mut [Event]) {
        for event in events {
            match self.flaw {
                PrevUnknown => event.prev = Prev::Unknown,
                PrevNever => event.prev = Prev::NoneSince(EventId::ORIGIN),
                DropsAttributes => event.attributes = None,
                TidiesData => event.data = event.data.trim_ascii().to_vec().into(),
                _ => {}
            }
        }
    }

    async fn verdict(&self, topic: &Placed, place: EventId, said: Verdict) -> Verdict {
        match (self.flaw, said) {
            (AlwaysOk, _) | (AheadIsOk, Verdict::Ahead) | (ExpiredIsOk, Verdict::Expired) => {
                Verdict::Ok
            }
            (DivergedIsExpired, Verdict::Diverged) => Verdict::Expired,
            (QuietIsExpired, _) => match self.log.time_ms().await {
                Ok(now) if place.ms() + self.retention.as_millis() as u64 >= now => said,
                _ => Verdict::Expired,
            },
            (OtherTopicIsDiverged, Verdict::Ok) => {
                let before = EventId::from_integer(place.as_integer().saturating_sub(1));
                let from = From::After(before.unwrap_or_default());
                let limit = PageLimit::default();
                match self.log.read(topic, from, limit).await {
                    Ok(page) if page.events.iter().any(|e| e.id == place) => said,
                    _ => Verdict::Diverged,
                }
            }
            _ => said,
        }
    }
}

impl EventLog for FlawedLog {
    fn partitions(&self) -> Partitions {
        self.log.partitions()
    }

    fn retention(&self) -> Duration {
        self.retention
    }

    fn append(
        &self,
        partition: Partition,
        mut drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        for dedup in drafts.iter_mut().filter_map(|draft| draft.dedup.as_mut()) {
            match self.flaw {
                MixesScopes => dedup.scope = "".into(),
                KeysForever => dedup.lifetime_ms = u64::MAX,
                _ => {}
            }
        }
        if self.is(ForgetsKeys) {
            drafts.iter_mut().for_each(|draft| draft.dedup = None);
        }
        let at_once = match self.flaw {
            OneByOne => 1,
            TakesAnyNumber => 100,
            _ => return self.log.append(partition, drafts),
        };
        Box::pin(async move {
            let mut appended = Vec::new();
            for part in drafts.chunks(at_once) {
                appended.extend(self.log.append(partition, part.to_vec()).await?);
                tokio::task::yield_now().await;
            }
            Ok(appended)
        })
    }

    fn flash(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            match self.flaw {
                FlashIsStored => {
                    self.log.append(partition, drafts.clone()).await?;
                }
                FlashIsLost => return Ok(()),
                FlashUnbounded => {
                    for part in drafts.chunks(100) {
                        self.log.flash(partition, part.to_vec()).await?;
                    }
                    return Ok(());
                }
                _ => {}
            }
            self.log.flash(partition, drafts).await
        })
    }

    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        let topic = topic.clone();
        Box::pin(async move {
            let flawed_from = match (self.flaw, from) {
                (SinceExclusive, From::Since(ms)) => From::Since(ms.saturating_add(1)),
                (OldestIsNewest, From::Oldest) => From::Newest,
                _ => from,
            };
            let flawed_limit = if self.is(NoBounds) {
                PageLimit::default()
            } else {
                limit
            };
            let mut page = self.log.read(&topic, flawed_from, flawed_limit).await?;
            if let From::After(place) = from {
                page.verdict = self.verdict(&topic, place, page.verdict).await;
                if !page.verdict.is_ok() {
                    page.events.clear();
                }
            }
            match from {
                From::Newest if self.is(NewestIsOrigin) => page.next = EventId::ORIGIN,
                _ => {}
            }
            let bytes: usize = page.events.iter().map(|e| e.data.len()).sum();
            if self.is(EmptyPages) && bytes > limit.bytes {
                page.events.clear();
            }
            if self.is(ReadsLag) {
                // What is of this millisecond comes with the next.
                let now_ms = self.log.time_ms().await?;
                page.events.retain(|event| event.id.ms() < now_ms);
            }
            page.at_end |= self.is(EndTooEarly);
            self.worsen(&mut page.events);
            Ok(page)
        })
    }

    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>> {
        Box::pin(async move {
            let mut verdicts = self.log.judge(places.clone()).await?;
            for ((topic, place), verdict) in places.iter().zip(&mut verdicts) {
                *verdict = self.verdict(topic, *place, *verdict).await;
            }
            if self.is(Unordered) {
                verdicts.sort_by_key(|verdict| verdict.as_str());
            }
            Ok(verdicts)
        })
    }

    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>> {
        Box::pin(async move {
            let mut heads = self.log.heads(topics).await?;
            if self.is(HeadsMissing) {
                heads.iter_mut().for_each(|head| head.topic = None);
            }
            Ok(heads)
        })
    }

    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>> {
        Box::pin(async move {
            let limit = if self.is(FillUnbounded) {
                PageLimit {
                    events: usize::MAX,
                    bytes: usize::MAX,
                }
            } else {
                limit
            };
            let mut filled = self.log.fill(partition, limit).await?;
            match self.flaw {
                FillStartsAtOrigin => filled.start = EventId::ORIGIN,
                FillLevelTooEarly => filled.level = filled.start,
                _ => {}
            }
            self.worsen(&mut filled.events);
            Ok(filled)
        })
    }

    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail> {
        Box::new(FlawedTail {
            tail: self.log.tail(from),
            flaw: self.flaw,
            again: None,
            steps: 0,
        })
    }

    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.trim(partition)
    }

    fn settle(
        &self,
        events: Vec<(Partition, EventId)>,
        want: Durability,
        patience: Duration,
    ) -> BoxFuture<'_, Settled> {
        self.log.settle(events, want, patience)
    }

    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>> {
        self.log.time_ms()
    }

    fn records(&self) -> &dyn Records {
        self
    }
}

struct FlawedTail {
    tail: Box<dyn Tail>,
    flaw: Flaw,
    again: Option<TailStep>,
    steps: usize,
}

impl Tail for FlawedTail {
    fn next(&mut self) -> BoxFuture<'_, TailStep> {
        Box::pin(async move {
            loop {
                if let Some(step) = self.again.take() {
                    return step;
                }
                let mut step = self.tail.next().await;
                match (self.flaw, &mut step) {
                    (TailNeverLevel, TailStep::Level)
                    | (TailHidesRewinding, TailStep::Rewound { .. }) => continue,
                    (TailForgetsWhenDropped, _) => tokio::task::yield_now().await,
                    (TailRepeats, TailStep::Events(..)) | (FlashRepeats, TailStep::Flash(..)) => {
                        self.again = Some(step.clone())
                    }
                    (TailSwaps, TailStep::Events(_, events)) => events.reverse(),
                    (TailSkips, TailStep::Events(_, events)) => {
                        self.steps += 1;
                        if self.steps == 3 && events.len() > 1 {
                            events.remove(0);
                        } else if self.steps == 3 {
                            continue;
                        }
                    }
                    (PrevUnknown | PrevNever, TailStep::Events(_, events)) => {
                        for event in events {
                            event.prev = match self.flaw {
                                PrevUnknown => Prev::Unknown,
                                _ => Prev::NoneSince(EventId::ORIGIN),
                            };
                        }
                    }
                    _ => {}
                }
                return step;
            }
        })
    }
}
