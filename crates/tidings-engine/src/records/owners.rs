//! This instance's incarnation, and what others lost with theirs (LOG.md §7).
//!
//! An instance that hosts a kind with owners holds a lease in every partition. It beats; it sweeps,
//! which reaps whoever did not beat and fires what was lost, as an ordinary commit; and when it
//! finds itself reaped it begins a new life and tells every session so.
//!
//! That the log is away is no reason to begin a new life: nobody can be reaped then, and a lease that
//! nobody has reaped is renewed, however old it is. Only when this instance has not been heard for
//! so long that the log may have forgotten reaping it, it cannot trust the answer.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_core::record::{COMMIT_REMEMBERED, TOMBSTONE};
use tidings_core::{
    Beat, CommandError, CommitId, IncarnationId, LogError, Orphan, Partition, Trigger,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::limits::{LEAVING, ORPHAN_PAGE, RETRY_PAUSE_MIN};
use crate::records::command::Case;

/// A lease that was not renewed for so long may have been reaped, and that forgotten.
const TRUSTED: Duration = Duration::from_secs(TOMBSTONE.as_secs() / 2);

/// This instance's present life, and since when it is known to go on.
#[derive(Debug)]
pub(crate) struct Life(Mutex<Living>);

#[derive(Debug)]
struct Living {
    incarnation: IncarnationId,
    /// Cancelled when it is over.
    over: CancellationToken,
    /// When the last beats that were answered had been sent, by partition.
    heard: Vec<Instant>,
}

impl Life {
    pub(crate) fn begin(partitions: u16) -> Self {
        let living = Living::begin(usize::from(partitions));
        Self(Mutex::new(living))
    }

    pub(crate) fn incarnation(&self) -> IncarnationId {
        self.0.lock().incarnation
    }

    pub(crate) fn over(&self) -> CancellationToken {
        self.0.lock().over.clone()
    }

    /// Begins the next life, unless that has happened since `incarnation`.
    fn end(&self, incarnation: IncarnationId) -> bool {
        let mut living = self.0.lock();
        if living.incarnation != incarnation {
            return false;
        }
        let next = Living::begin(living.heard.len());
        let ended = std::mem::replace(&mut *living, next);
        drop(living);
        // After the new one is there: who hears of it finds it.
        ended.over.cancel();
        true
    }

    /// For how long no beat was answered.
    fn silence(&self, partition: Partition) -> Duration {
        self.0.lock().heard[partition.index()].elapsed()
    }

    fn is_heard(&self, incarnation: IncarnationId, partition: Partition, sent: Instant) {
        let mut living = self.0.lock();
        if living.incarnation == incarnation {
            living.heard[partition.index()] = sent;
        }
    }
}

impl Living {
    fn begin(partitions: usize) -> Self {
        Self {
            incarnation: IncarnationId(rand::random()),
            over: CancellationToken::new(),
            heard: vec![Instant::now(); partitions],
        }
    }
}

impl Hub {
    /// This instance's present incarnation: what records that are to be lost with it are owned by.
    /// After [`Input::Fenced`](tidings_core::Input::Fenced) it is another one.
    #[must_use]
    pub fn incarnation(&self) -> IncarnationId {
        self.registrar().life.incarnation()
    }

    /// Cancelled when the present incarnation is over; `None` where no kind has owners.
    #[must_use]
    pub fn fenced(&self) -> Option<CancellationToken> {
        let registrar = self.registrar();
        (!registrar.owning.is_empty()).then(|| registrar.life.over())
    }

    /// One beat; what a lease of the present life came to.
    async fn beat(&self, partition: Partition) -> Result<Beat, LogError> {
        let life = &self.registrar().life;
        let (incarnation, sent) = (life.incarnation(), Instant::now());
        if life.silence(partition) > TRUSTED {
            self.fence(incarnation);
            return Ok(Beat::Reaped);
        }
        let records = self.log().records();
        let lease = self.limits().lease;
        let beat = records.beat(partition, incarnation, lease).await?;
        match beat {
            Beat::Held => life.is_heard(incarnation, partition, sent),
            Beat::Reaped => self.fence(incarnation),
        }
        Ok(beat)
    }

    /// A commit in this incarnation's name was fenced: true when it holds a lease after all, which it
    /// had not taken yet or which the log has lost.
    pub(crate) async fn still_holds(
        &self,
        partition: Partition,
        incarnation: Option<IncarnationId>,
    ) -> Result<bool, LogError> {
        if incarnation != Some(self.incarnation()) || self.registrar().owning.is_empty() {
            return Ok(false); // somebody else's, or a life that is over
        }
        Ok(self.beat(partition).await? == Beat::Held)
    }

    /// This life is over: the next one begins, every session hears of it, and what was owned
    /// elsewhere need not wait for its lease to end.
    fn fence(&self, incarnation: IncarnationId) {
        if !self.registrar().life.end(incarnation) {
            return;
        }
        tracing::warn!(%incarnation, "this instance's lease was reaped; it begins anew");
        self.registrar().metrics.fenced.inc();
        let hub = self.clone();
        self.tasks()
            .spawn(async move { hub.give_up(incarnation).await });
    }

    /// Gives an incarnation's leases back, as far as that can be done soon.
    async fn give_up(&self, incarnation: IncarnationId) {
        let records = self.log().records();
        let partitions = self.log().partitions().all();
        let leaves = partitions.map(|partition| records.leave(partition, incarnation));
        let left = futures_util::future::join_all(leaves);
        match tokio::time::timeout(LEAVING, left).await {
            Ok(answers) if answers.iter().all(Result::is_ok) => {}
            // What it owned is lost when its lease ends.
            _ => tracing::debug!(%incarnation, "its leases could not all be given back"),
        }
    }

    /// Gives this instance's leases back, when nothing is done in its name any more.
    pub(crate) async fn leave(&self) {
        if !self.registrar().owning.is_empty() {
            self.give_up(self.incarnation()).await;
        }
    }
}

/// Beats until it is dropped.
pub(crate) async fn beat(hub: Hub) {
    if hub.registrar().owning.is_empty() {
        return;
    }
    let every = hub.limits().beat_every;
    loop {
        let begun = Instant::now();
        let incarnation = hub.incarnation();
        let beats = hub.log().partitions().all().map(|one| hub.beat(one));
        let answers = futures_util::future::join_all(beats).await;
        let fine = answers.iter().all(|one| matches!(one, Ok(Beat::Held)));
        if fine && incarnation == hub.incarnation() {
            tokio::time::sleep_until(begun + every).await;
        } else {
            if let Some(error) = answers.into_iter().find_map(Result::err) {
                tracing::debug!(%error, "a lease could not be renewed; trying again");
            }
            // A new life has no leases yet; and when the log comes back others look for them soon.
            tokio::time::sleep(RETRY_PAUSE_MIN).await;
        }
    }
}

/// Sweeps until it is dropped.
pub(crate) async fn sweep(hub: Hub) {
    let kinds = hub.registrar().owning.clone();
    if kinds.is_empty() {
        return;
    }
    let every = hub.limits().sweep_every;
    // Instances that started together must not look together.
    tokio::time::sleep(every.mul_f64(rand::random())).await;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The log may have been away until now.
    let mut away: Vec<Away> = hub
        .log()
        .partitions()
        .all()
        .map(|_| Away::until_now(&hub))
        .collect();
    loop {
        ticks.tick().await;
        let partitions = hub.log().partitions().all();
        let looks = partitions
            .zip(&mut away)
            .map(|(partition, away)| look(&hub, partition, &kinds, away));
        futures_util::future::join_all(looks).await;
    }
}

/// Whether a partition of the log was away: whoever could not beat meanwhile gets the time to.
enum Away {
    /// It is.
    Yes,
    /// It was; nobody is reaped before.
    Until(Instant),
}

impl Away {
    fn until_now(hub: &Hub) -> Self {
        let limits = hub.limits();
        Self::Until(Instant::now() + limits.beat_every + limits.sweep_every)
    }

    /// Whether others had the time to beat, as this instance had. One that missed a beat has most of
    /// its lease left; so whoever missed more of them does not reap.
    fn is_over(&mut self, hub: &Hub, partition: Partition) -> bool {
        let silence = hub.registrar().life.silence(partition);
        match self {
            _ if silence > hub.limits().beat_every * 2 => *self = Self::Yes,
            Self::Yes => *self = Self::until_now(hub),
            Self::Until(end) => return *end <= Instant::now(),
        }
        false
    }
}

/// Fires what was lost in one partition.
async fn look(hub: &Hub, partition: Partition, kinds: &[Arc<str>], away: &mut Away) {
    if !away.is_over(hub, partition) {
        return;
    }
    loop {
        let records = hub.log().records();
        let orphans = match records
            .orphans(partition, kinds.to_vec(), ORPHAN_PAGE)
            .await
        {
            Ok(orphans) => orphans,
            Err(error) => {
                tracing::debug!(%error, "orphans could not be read; trying again");
                return;
            }
        };
        let more = orphans.len() == ORPHAN_PAGE;
        let mut handled = false;
        for orphan in orphans {
            let kind = orphan.record.kind.clone();
            match fire(hub, partition, orphan).await {
                Ok(()) => handled = true,
                Err(error @ CommandError::Undecided(_)) => {
                    // The others do not wait for an adapter's mistake to be mended.
                    tracing::error!(%error, %kind, "an orphan cannot be handled");
                }
                Err(error) => {
                    tracing::debug!(%error, %kind, "an orphan is handled later");
                    return;
                }
            }
        }
        if !more || !handled {
            return;
        }
    }
}

async fn fire(hub: &Hub, partition: Partition, orphan: Orphan) -> Result<(), CommandError> {
    let Some(kind) = hub.registrar().kind(&orphan.record.kind).cloned() else {
        return Ok(());
    };
    let case = Case {
        id: CommitId(rand::random()),
        remember: COMMIT_REMEMBERED,
        partition,
        records: vec![orphan.record.clone()],
        trigger: Trigger::OwnerLost {
            incarnation: orphan.incarnation,
        },
        fires: None,
        adopts: Some(orphan),
        now_ms: hub.log_ms(),
    };
    hub.decide(kind, case).await.map(drop)
}
