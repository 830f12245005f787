//! Records with one flaw each, around ones that have none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::{
    Beat, BoxFuture, Commit, CommitId, CommitOutcome, Committed, Due, IncarnationId, Listed,
    Listing, LogError, Orphan, OutboxId, Outcome, Partition, Put, Rank, Record, RecordKey, Records,
    Relay, RelayId, Version,
};

use crate::flaws::flawed::Flaw::*;
use crate::flaws::flawed::FlawedLog;

/// Never the same, whichever instance asks.
fn next() -> u128 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).into()
}

impl FlawedLog {
    /// What is asked instead of what should be.
    async fn worsened(&self, partition: Partition, mut commit: Commit) -> Result<Commit, LogError> {
        match self.flaw {
            ForgetsCommits => commit.id = CommitId(commit.id.0.wrapping_add(next())),
            RemembersForever => commit.remember = Duration::MAX,
            IgnoresVersions => commit.expects.clear(),
            AbsentIsAny => commit.expects.retain(|(_, v)| *v != Version::ABSENT),
            ExpectsTheFirst => commit.expects.truncate(1),
            VersionsRestart => {
                // Whatever is there will do for whoever saw something.
                for (key, version) in &mut commit.expects {
                    let there = self.log.records().load(partition, vec![key.clone()]);
                    if let (Some(record), true) = (&there.await?[0], *version != Version::ABSENT) {
                        *version = record.version;
                    }
                }
            }
            FiresAnyway => commit.fires = None,
            FiresAndKeeps => {
                if let Some(fired) = commit.fires.clone() {
                    let kept = tidings_core::SetDeadline {
                        record: fired.record,
                        name: fired.name,
                        at_ms: Some(fired.at_ms),
                    };
                    commit.deadlines.insert(0, kept);
                }
            }
            RemovesByExpiry => {
                let ended = |key: RecordKey| Put {
                    key,
                    document: "".into(),
                    lifetime: Some(Duration::ZERO),
                    owner: None,
                };
                let removes = std::mem::take(&mut commit.removes);
                commit.puts.extend(removes.into_iter().map(ended));
            }
            LivesForever => {
                for put in &mut commit.puts {
                    put.lifetime = None;
                }
            }
            TrimsDocuments => {
                for put in &mut commit.puts {
                    put.document.truncate(60_000);
                }
            }
            MixesKinds => {
                for put in &mut commit.puts {
                    put.key.kind = "exam".into();
                }
            }
            NamesFold => {
                for put in &mut commit.puts {
                    put.key.id = put.key.id.to_lowercase().into();
                }
            }
            CommitsForgetKeys => commit.drafts.iter_mut().for_each(|d| d.dedup = None),
            CommitsDropAttributes => commit.drafts.iter_mut().for_each(|d| d.attributes = None),
            OutboxReversed => commit.outbox.reverse(),
            FlashComesFirst => {
                let flash = std::mem::take(&mut commit.flash);
                self.log.flash(partition, flash).await?;
            }
            NobodyIsFenced => {
                commit.incarnation = None;
                commit.puts.iter_mut().for_each(|put| put.owner = None);
            }
            ReapsOnCommit => {
                let records = self.log.records();
                records.orphans(partition, Vec::new(), 1).await?;
            }
            RanksComeBack => {
                let ranked = self.ranked.lock();
                let put = |key: &RecordKey| commit.puts.iter().any(|put| put.key == *key);
                let back = ranked
                    .iter()
                    .filter(|(at, set)| *at == partition && put(&set.record));
                let back: Vec<_> = back.map(|(_, set)| set.clone()).collect();
                commit.ranks.splice(..0, back);
            }
            RanksAreKeptByNobody => {
                // A rank makes a record where there is none.
                for set in &commit.ranks {
                    let there = self.log.records().load(partition, vec![set.record.clone()]);
                    if there.await?[0].is_none() {
                        commit.puts.push(Put {
                            key: set.record.clone(),
                            document: "".into(),
                            lifetime: None,
                            owner: None,
                        });
                    }
                }
            }
            PutsUnrank => {
                let unranked = commit.puts.iter().map(|put| tidings_core::SetRank {
                    record: put.key.clone(),
                    index: "waiting".into(),
                    rank: None,
                });
                let unranked: Vec<_> = unranked.collect();
                commit.ranks.splice(..0, unranked);
            }
            IndexesAreOne => {
                for set in &mut commit.ranks {
                    set.index = "waiting".into();
                }
            }
            OwnersStay if commit.incarnation.is_none() => commit.puts.clear(),
            _ => {}
        }
        Ok(commit)
    }
}

impl Records for FlawedLog {
    fn load(
        &self,
        partition: Partition,
        keys: Vec<RecordKey>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, LogError>> {
        Box::pin(async move {
            let mut loaded = self.log.records().load(partition, keys).await?;
            if self.flaw == LeavesGapsOut {
                let asked = loaded.len();
                loaded.retain(Option::is_some);
                loaded.resize(asked, None);
            }
            Ok(loaded)
        })
    }

    fn commit(
        &self,
        partition: Partition,
        commit: Commit,
    ) -> BoxFuture<'_, Result<CommitOutcome, LogError>> {
        Box::pin(async move {
            let (records, answer) = (self.log.records(), commit.answer.clone());
            let mut commit = self.worsened(partition, commit).await?;
            let ranked = commit.ranks.iter().map(|set| (partition, set.clone()));
            self.ranked.lock().extend(ranked);
            let mut later = Vec::new();
            if self.flaw == RanksComeLater {
                later = std::mem::take(&mut commit.ranks);
            }
            let mut early = Vec::new();
            match self.flaw {
                CommitsInSteps => {
                    let drafts = std::mem::take(&mut commit.drafts);
                    early = self.log.append(partition, drafts).await?;
                    tokio::task::yield_now().await;
                }
                ConflictsHalfway => {
                    let puts = commit.puts.clone();
                    let half = Commit {
                        puts,
                        ..Commit::new(CommitId(next()))
                    };
                    records.commit(partition, half).await?;
                }
                _ => {}
            }
            let mut outcome = records.commit(partition, commit).await?;
            if !later.is_empty() {
                tokio::task::yield_now().await;
                let ranks = Commit {
                    ranks: later,
                    ..Commit::new(CommitId(next()))
                };
                records.commit(partition, ranks).await?;
            }
            if let CommitOutcome::Committed(Committed {
                appended,
                answer: first,
                retried,
                ..
            }) = &mut outcome
            {
                appended.extend(early);
                match self.flaw {
                    AnswersAnew => *first = answer,
                    NeverRetried => {
                        *retried = false;
                        appended.iter_mut().for_each(|a| a.outcome = Outcome::New);
                    }
                    _ => {}
                }
            }
            Ok(outcome)
        })
    }

    fn list(
        &self,
        partition: Partition,
        kind: Arc<str>,
        index: Arc<str>,
        mut after: Option<Rank>,
        mut limit: usize,
    ) -> BoxFuture<'_, Result<Listing, LogError>> {
        Box::pin(async move {
            match self.flaw {
                ListsUnbounded => limit = 500,
                PagesSkipTies => {
                    let skipped = after.as_mut();
                    skipped
                        .into_iter()
                        .for_each(|place| place.id = "\u{10ffff}".into());
                }
                _ => {}
            }
            let first = after.is_none();
            let records = self.log.records();
            let listing = records.list(partition, kind.clone(), index.clone(), after, limit);
            let mut listing = listing.await?;
            let entries = &mut listing.entries;
            match self.flaw {
                ListsByRankOnly => entries.sort_by_key(|one| (one.rank, one.key.id.len())),
                ListsTiesBackwards => {
                    entries.sort_by(|a, b| a.rank.cmp(&b.rank).then(b.key.id.cmp(&a.key.id)));
                }
                ListsWhatIsGone if first => {
                    for (at, set) in &*self.ranked.lock() {
                        let same =
                            *at == partition && set.record.kind == kind && set.index == index;
                        let there = entries.iter().any(|one| one.key == set.record);
                        if let (true, false, Some(rank)) = (same, there, set.rank) {
                            entries.push(Listed {
                                rank,
                                key: set.record.clone(),
                                record: Record {
                                    version: Version(1),
                                    document: "".into(),
                                },
                            });
                        }
                    }
                    entries.sort_by_key(Listed::place);
                }
                _ => {}
            }
            Ok(listing)
        })
    }

    fn due(
        &self,
        partition: Partition,
        mut kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Due, LogError>> {
        Box::pin(async move {
            let limit = match self.flaw {
                DueUnbounded => 500,
                _ => limit,
            };
            if self.flaw == DueOfOneKind {
                kinds.truncate(1);
            }
            let mut due = self.log.records().due(partition, kinds, limit).await?;
            if self.flaw == DueUnordered {
                due.deadlines.sort_by(|a, b| a.record.cmp(&b.record));
            }
            Ok(due)
        })
    }

    fn relay(
        &self,
        partition: Partition,
        mut relay: RelayId,
        mut delivered: Vec<OutboxId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Relay, LogError>> {
        Box::pin(async move {
            let records = self.log.records();
            match self.flaw {
                RelaysTogether => relay = RelayId(0),
                ForgetsNothing => delivered.clear(),
                _ => {}
            }
            let turn = records.relay(partition, relay, delivered, limit).await?;
            match (self.flaw, turn) {
                (DeliversAtMostOnce, Relay::Entries(entries)) => {
                    let ids = entries.iter().map(|entry| entry.id).collect();
                    records.relay(partition, relay, ids, 1).await?;
                    Ok(Relay::Entries(entries))
                }
                (KeepsTheLease, Relay::Empty) => {
                    self.held.lock().insert(partition, relay);
                    Ok(Relay::Empty)
                }
                (KeepsTheLease, turn) => match self.held.lock().get(&partition) {
                    Some(holder) if *holder != relay => Ok(Relay::Busy),
                    _ => Ok(turn),
                },
                (IndexesFromOne, Relay::Entries(mut entries)) => {
                    entries.iter_mut().for_each(|entry| entry.index += 1);
                    Ok(Relay::Entries(entries))
                }
                (_, turn) => Ok(turn),
            }
        })
    }

    fn outbox_depth(&self, partition: Partition) -> BoxFuture<'_, Result<u64, LogError>> {
        self.log.records().outbox_depth(partition)
    }

    fn beat(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Beat, LogError>> {
        Box::pin(async move {
            let lease = match self.flaw {
                LeasesForever => Duration::from_secs(1 << 30),
                LeasesNever => Duration::ZERO,
                _ => lease,
            };
            let beat = self.log.records().beat(partition, incarnation, lease).await;
            match self.flaw {
                ForgetsWhoWasReaped => beat.map(|_| Beat::Held),
                _ => beat,
            }
        })
    }

    fn leave(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        if self.flaw == LeavesLater {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.log.records().leave(partition, incarnation)
    }

    fn orphans(
        &self,
        partition: Partition,
        mut kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, LogError>> {
        Box::pin(async move {
            let records = self.log.records();
            if self.flaw == OrphansOfAnyKind {
                kinds.push("exam.other".into());
            }
            let orphans = records.orphans(partition, kinds, limit).await?;
            if self.flaw == OrphansAreTakenWhenRead {
                for orphan in &orphans {
                    let commit = Commit {
                        adopts: Some(orphan.clone()),
                        ..Commit::new(CommitId(next()))
                    };
                    records.commit(partition, commit).await?;
                }
            }
            if self.flaw == OrphansAreNobodys {
                return Ok(Vec::new());
            }
            Ok(orphans)
        })
    }
}
