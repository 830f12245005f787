//! Commands: load, decide, commit, and again when somebody else was faster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::limits::{
    EFFECTS_PER_COMMIT_MAX, FLASH_BYTES_MAX, RECORD_BYTES_MAX, RECORD_ID_BYTES_MAX,
    RECORDS_PER_COMMIT_MAX,
};
use tidings_core::record::{COMMIT_REMEMBERED, RANK_MAX};
use tidings_core::{
    Appended, Call, CallAnswer, CallError, Command, CommandError, Commit, CommitId, CommitOutcome,
    Deadline, Decided, Decision, Draft, Ingested, LogError, Orphan, Partition, Record, RecordKey,
    RecordKind, State, Trigger, Version,
};

use crate::hub::{Hub, PublishError};

/// Tries of one command. Within an instance commands to a record queue up, so a conflict means
/// another instance; each try is a fair race among them.
const TRIES_MAX: u32 = 20;

/// Pause after a conflict, times a random share: long enough for the other's commit to be over.
const PAUSE: Duration = Duration::from_millis(4);

/// How often one decision may ask for more records.
const LOADS_MAX: usize = 8;

/// What is decided, and under which name it is committed.
pub(crate) struct Case<'a> {
    pub(crate) id: CommitId,
    pub(crate) remember: Duration,
    pub(crate) partition: Partition,
    pub(crate) records: Vec<RecordKey>,
    pub(crate) trigger: Trigger<'a>,
    pub(crate) fires: Option<Deadline>,
    pub(crate) adopts: Option<Orphan>,
    /// The log's time, milliseconds since 1970.
    pub(crate) now_ms: u64,
}

impl Hub {
    /// Asks records to change, and answers when that is stored (or nothing had to change).
    ///
    /// # Errors
    /// [`CommandError`]; only after `Log(FateUnknown)` may it have happened all the same.
    pub async fn command(&self, command: Command) -> Result<Decided, CommandError> {
        let id = CommitId(rand::random());
        self.command_as(id, COMMIT_REMEMBERED, command).await
    }

    /// The same under a given commit id: asked twice, it happens once.
    pub(crate) async fn command_as(
        &self,
        id: CommitId,
        remember: Duration,
        command: Command,
    ) -> Result<Decided, CommandError> {
        if self.is_stopped() {
            return Err(CommandError::Draining);
        }
        let Some(kind) = self.registrar().kind(&command.kind) else {
            let unknown = format!("no record kind `{}` is hosted here", command.kind);
            return Err(CommandError::Undecided(unknown));
        };
        let case = Case {
            id,
            remember,
            partition: self.log().partitions().of(&command.placement_key),
            records: command.records,
            trigger: Trigger::Command(&command.body),
            fires: None,
            adopts: None,
            now_ms: self.log_ms(),
        };
        let decided = self.decide(kind.clone(), case).await?;
        // Only a deadline's firing and an orphan's handling can be gone.
        decided.ok_or_else(|| CommandError::Undecided("nothing stands".into()))
    }

    /// Calls a server outside, once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, call: Call) -> Result<CallAnswer, CallError> {
        match &self.registrar().outside {
            Some(outside) => outside.call(call).await,
            None => Err(CallError::NotSetUp),
        }
    }

    /// Reads records as they are; nothing keeps them so.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub async fn load(
        &self,
        placement_key: &str,
        keys: Vec<RecordKey>,
    ) -> Result<Vec<Option<Record>>, LogError> {
        let partition = self.log().partitions().of(placement_key);
        self.log().records().load(partition, keys).await
    }

    /// What becomes of a draft that is published by another way than an adapter's own routes:
    /// under an owned root it passes through the adapter's rules. Stores nothing.
    ///
    /// # Errors
    /// [`PublishError`], when it may not be published so.
    pub fn ingested(&self, draft: Draft) -> Result<Ingested, PublishError> {
        draft.check()?;
        if Self::is_own(&draft.topic) {
            return Err(PublishError::Owned(draft.topic.root().to_owned()));
        }
        if !self.is_owned(&draft) {
            return Ok(Ingested::Publish(draft));
        }
        let Some(rule) = self.ingest_rule(draft.topic.root()) else {
            return Err(PublishError::Owned(draft.topic.root().to_owned()));
        };
        match rule.ingest(draft, self.log_ms(), rand::random()) {
            Ingested::Refused(reason) => Err(PublishError::NotTaken(reason)),
            taken => Ok(taken),
        }
    }

    /// Stores what was judged by [`Hub::ingested`], in its order; answers for each.
    pub async fn ingest(&self, judged: Vec<Ingested>) -> Vec<Result<Appended, PublishError>> {
        let (mut results, mut run) = (Vec::with_capacity(judged.len()), Vec::new());
        for one in judged {
            let result = match one {
                Ingested::Publish(draft) => {
                    run.push(draft);
                    continue;
                }
                Ingested::Command(command) => {
                    // What comes later in the batch is stored after what comes before it.
                    results.extend(self.publish(std::mem::take(&mut run)).await);
                    self.ingest_command(command).await
                }
                Ingested::Refused(reason) => {
                    results.extend(self.publish(std::mem::take(&mut run)).await);
                    Err(PublishError::NotTaken(reason))
                }
            };
            results.push(result);
        }
        results.extend(self.publish(run).await);
        results
    }

    async fn ingest_command(&self, command: Command) -> Result<Appended, PublishError> {
        match self.command(command).await {
            Ok(decided) => decided.appended.first().copied().ok_or_else(|| {
                // The command was taken, and nothing had to be said about it.
                PublishError::NotTaken(String::from_utf8_lossy(&decided.answer).into_owned())
            }),
            Err(CommandError::Duplicate { id, .. }) => Ok(Appended {
                id,
                outcome: tidings_core::Outcome::Duplicate,
            }),
            Err(CommandError::Log(error)) => Err(PublishError::Log(error)),
            Err(CommandError::Draining) => Err(PublishError::Draining),
            Err(error @ (CommandError::Contended | CommandError::Fenced)) => Err(
                PublishError::Log(Arc::new(LogError::Unavailable(error.to_string()))),
            ),
            Err(error @ CommandError::Undecided(_)) => Err(PublishError::Log(Arc::new(
                LogError::Refused(error.to_string()),
            ))),
        }
    }

    /// Decides a case until it is committed. `None`: its deadline does not stand any more, or its
    /// orphan is none.
    pub(crate) async fn decide(
        &self,
        kind: Arc<dyn RecordKind>,
        case: Case<'_>,
    ) -> Result<Option<Decided>, CommandError> {
        let registrar = self.registrar();
        let _turn = registrar.turn(case.partition, case.records.first()).await;
        for _ in 0..TRIES_MAX {
            let (seen, decision) = self.consider(&*kind, &case).await?;
            if decision.changes_nothing() && case.fires.is_none() && case.adopts.is_none() {
                registrar.metrics.commit("unchanged");
                return Ok(Some(Decided {
                    answer: decision.answer,
                    appended: Vec::new(),
                }));
            }
            self.check(case.partition, &decision)?;
            let nudge = !decision.outbox.is_empty();
            let commit = commit(&case, seen, decision);
            let incarnation = commit.incarnation;
            match self.log().records().commit(case.partition, commit).await {
                Ok(CommitOutcome::Committed(committed)) => {
                    registrar.metrics.commit("committed");
                    for one in &committed.appended {
                        self.acknowledged(case.partition, *one);
                    }
                    if nudge {
                        registrar.nudge(case.partition);
                    }
                    return Ok(Some(Decided {
                        answer: committed.answer,
                        appended: committed.appended,
                    }));
                }
                Ok(CommitOutcome::Conflict) => registrar.metrics.commit("conflict"),
                Ok(CommitOutcome::Gone) => {
                    registrar.metrics.commit("gone");
                    return Ok(None);
                }
                Ok(CommitOutcome::Fenced) => {
                    registrar.metrics.commit("fenced");
                    match self.still_holds(case.partition, incarnation).await {
                        Ok(true) => continue,
                        Ok(false) => return Err(CommandError::Fenced),
                        Err(error) => return Err(Arc::new(error).into()),
                    }
                }
                Ok(CommitOutcome::Duplicate { draft, id }) => {
                    registrar.metrics.commit("duplicate");
                    return Err(CommandError::Duplicate { draft, id });
                }
                Err(error) => {
                    registrar.metrics.commit("failed");
                    return Err(Arc::new(error).into());
                }
            }
            tokio::time::sleep(PAUSE.mul_f64(rand::random())).await;
        }
        registrar.metrics.commit("contended");
        Err(CommandError::Contended)
    }

    /// Loads what the kind wants to see, and lets it decide.
    async fn consider(
        &self,
        kind: &dyn RecordKind,
        case: &Case<'_>,
    ) -> Result<(Vec<(RecordKey, Version)>, Decision), CommandError> {
        let (mut seen, mut state) = (Vec::new(), Vec::new());
        let mut wanted = case.records.clone();
        for _ in 0..=LOADS_MAX {
            if seen.len() + wanted.len() > RECORDS_PER_COMMIT_MAX {
                break;
            }
            if let Some(key) = wanted.iter().find(|key| key.id.len() > RECORD_ID_BYTES_MAX) {
                let long = format!("a record's id has {} bytes", key.id.len());
                return Err(CommandError::Undecided(long));
            }
            if !wanted.is_empty() {
                let records = self.log().records();
                let loaded = records.load(case.partition, wanted.clone()).await;
                for (key, record) in wanted.drain(..).zip(loaded.map_err(Arc::new)?) {
                    let version = record.as_ref().map_or(Version::ABSENT, |one| one.version);
                    seen.push((key.clone(), version));
                    state.push((key, record.map(|one| one.document)));
                }
            }
            let decision = kind.decide(&State::new(&state), case.trigger, case.now_ms);
            if decision.loads.is_empty() {
                return Ok((seen, decision));
            }
            wanted = decision.loads;
            wanted.retain(|key| !seen.iter().any(|(one, _)| one == key));
            wanted.dedup();
        }
        Err(CommandError::Undecided(
            "the decision asks for too many records".into(),
        ))
    }

    /// A decision that breaks a bound is its adapter's mistake; nothing of it reaches the log.
    fn check(&self, partition: Partition, decision: &Decision) -> Result<(), CommandError> {
        let undecided = |what: String| Err(CommandError::Undecided(what));
        let effects = [
            decision.drafts.len(),
            decision.flash.len(),
            decision.outbox.len(),
            decision.deadlines.len(),
            decision.ranks.len(),
        ];
        if effects.iter().any(|count| *count > EFFECTS_PER_COMMIT_MAX)
            || decision.puts.len() + decision.removes.len() > RECORDS_PER_COMMIT_MAX
        {
            return undecided("the decision has too many effects".into());
        }
        let mut owners = decision.puts.iter().filter_map(|put| put.owner);
        if let Some(owner) = owners.next()
            && owners.any(|other| other != owner)
        {
            return undecided("the decision has several owners".into());
        }
        for put in &decision.puts {
            if put.document.len() > RECORD_BYTES_MAX || put.key.id.len() > RECORD_ID_BYTES_MAX {
                return undecided(format!(
                    "a record of kind `{}` has {} bytes",
                    put.key.kind,
                    put.document.len()
                ));
            }
        }
        for set in &decision.ranks {
            if !self.registrar().is_index(&set.record.kind, &set.index) {
                let (kind, index) = (&set.record.kind, &set.index);
                return undecided(format!("`{kind}` has no index `{index}`"));
            }
            if set.rank.is_some_and(|rank| rank > RANK_MAX) {
                return undecided("a rank is not below 2^53".into());
            }
        }
        for draft in &decision.flash {
            if draft.data.len() > FLASH_BYTES_MAX {
                return undecided(format!("a flash event has {} bytes", draft.data.len()));
            }
        }
        for draft in decision.drafts.iter().chain(&decision.flash) {
            if let Err(error) = draft.check() {
                return undecided(error.to_string());
            }
            if self.placed(draft.topic.clone()).partition != partition {
                return undecided(format!("`{}` stands in another partition", draft.topic));
            }
        }
        Ok(())
    }
}

fn commit(case: &Case<'_>, seen: Vec<(RecordKey, Version)>, decision: Decision) -> Commit {
    Commit {
        id: case.id,
        remember: case.remember,
        expects: seen,
        fires: case.fires.clone(),
        adopts: case.adopts.clone(),
        incarnation: decision.puts.iter().find_map(|put| put.owner),
        puts: decision.puts,
        removes: decision.removes,
        deadlines: decision.deadlines,
        ranks: decision.ranks,
        drafts: decision.drafts,
        flash: decision.flash,
        outbox: decision.outbox,
        answer: Bytes::clone(&decision.answer),
    }
}
