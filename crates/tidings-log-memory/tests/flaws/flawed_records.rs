//! Records with one flaw each, around ones that have none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::{
    Beat, BoxFuture, Commit, CommitId, CommitOutcome, Committed, Due, IncarnationId, LogError,
    Orphan, OutboxId, Outcome, Partition, Put, Record, RecordKey, Records, Relay, RelayId, Version,
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
