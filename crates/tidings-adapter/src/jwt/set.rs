//! The keys of an issuer, kept fresh: from a file, an address, or once and for all.
//!
//! One task per set owns the looking: it looks when the keys get old, and when somebody met a token
//! of a key that is not here, but never more often than a floor, because anybody can send such
//! tokens. Those who wait for a look share it, and one who goes away does not end it. Checking a
//! token takes the present keys without a lock.
//!
//! When looking fails, the keys stay: an issuer that is away for an hour must not lock everybody
//! out. They stay for [`KeySetOptions::stale_max`] after the last look that succeeded; then a
//! withdrawn key could be in use for longer than anybody expects, and all of them go.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::StatusCode;
use http::header::{ACCEPT, HeaderValue};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::TokenError;
use super::keys::{KeyError, Keys};
use super::source::{KeySource, Place};
use crate::outside::{Call, Outside, OutsideOptions};

/// How fresh the keys are kept.
#[derive(Debug, Clone)]
pub struct KeySetOptions {
    /// Keys of an address are fetched again after this time at the latest, so a key that its issuer
    /// withdraws works no longer than this.
    pub max_age: Duration,
    /// Between two looks that tokens of unknown keys cause, at least. Anybody can send such tokens;
    /// a new key is known to issuers long before they sign with it.
    pub floor: Duration,
    /// How often a file is looked at for a change.
    pub file_every: Duration,
    /// How long keys stay when every look fails.
    pub stale_max: Duration,
    /// How long a token waits for a look. The look itself goes on.
    pub wait_max: Duration,
    /// After a failed look, the next one comes so soon, then in steps that double to a minute.
    pub retry_min: Duration,
    /// Whether a token that names no key, or none that is known, is tried against every key that
    /// fits. Some issuers' documentation asks for it.
    pub try_all_keys: bool,
    /// The bounds of a fetch.
    pub outside: OutsideOptions,
}

impl Default for KeySetOptions {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(3600),
            floor: Duration::from_secs(10),
            file_every: Duration::from_secs(2),
            stale_max: Duration::from_secs(24 * 3600),
            wait_max: Duration::from_secs(5),
            retry_min: Duration::from_secs(1),
            try_all_keys: false,
            outside: OutsideOptions {
                timeout: Duration::from_secs(10),
                // Sets are a few KiB; with certificate chains in them, tens.
                answer_bytes_max: 256 * 1024,
                roots_file: None,
            },
        }
    }
}

/// Failed looks are this far apart at most.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// An issuer's keys as a handle. Cheap to clone; the last clone to go ends the looking.
#[derive(Clone)]
pub struct KeySet {
    shared: Arc<Shared>,
    _ends: Option<Arc<DropGuard>>,
}

struct Shared {
    present: ArcSwap<Present>,
    wanted: Notify,
    looks: watch::Sender<Looks>,
    options: KeySetOptions,
    /// Whether there is anything to look at again.
    changes: bool,
}

/// The keys at one moment.
#[derive(Default)]
pub(super) struct Present {
    pub(super) keys: Keys,
    /// The look they came from.
    look: u64,
    /// Whether they ever came, and have not gone stale.
    had: bool,
}

/// Looks so far.
#[derive(Clone, Copy, Default)]
struct Looks {
    finished: u64,
    /// The last look that a token may have caused.
    last: Option<Instant>,
    running: bool,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet")
            .field(&self.shared.present.load().keys)
            .finish()
    }
}

impl KeySet {
    /// Reads the keys, or begins to fetch them, and keeps them fresh. An address that does not
    /// answer is no error: it is tried again, and until then tokens are refused with
    /// [`TokenError::KeysUnavailable`].
    ///
    /// # Errors
    /// [`KeyError`] when given keys, or those of a file, cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(source: KeySource, options: KeySetOptions) -> Result<Self, KeyError> {
        // The stamp first: a change between the two is seen the next time.
        let stamp = source.stamp();
        let keys = source.read()?;
        let changes = !matches!(source.0, Place::Here(..));
        let fetched = keys.is_none();
        let present = Present {
            keys: keys.unwrap_or_default().try_all(options.try_all_keys),
            look: 0,
            had: !fetched,
        };
        let looks = Looks {
            running: fetched,
            ..Looks::default()
        };
        let shared = Arc::new(Shared {
            present: ArcSwap::from_pointee(present),
            wanted: Notify::new(),
            looks: watch::Sender::new(looks),
            options,
            changes,
        });
        if !changes {
            return Ok(Self {
                shared,
                _ends: None,
            });
        }
        let end = CancellationToken::new();
        let task = Task {
            outside: Outside::new(shared.options.outside.clone()),
            shared: shared.clone(),
            source,
            stamp,
            failures: 0,
            good: Instant::now(),
        };
        tokio::spawn(end.clone().run_until_cancelled_owned(task.run(fetched)));
        Ok(Self {
            shared,
            _ends: Some(Arc::new(end.drop_guard())),
        })
    }

    /// How many keys there are at present.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.present.load().keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The present keys. Waits, bounded, while the first ones are on their way.
    pub(super) async fn present(&self) -> Result<Arc<Present>, TokenError> {
        let present = self.shared.present.load_full();
        if present.had {
            return Ok(present);
        }
        self.wait(|looks| !looks.running).await;
        let present = self.shared.present.load_full();
        if present.had {
            return Ok(present);
        }
        Err(TokenError::KeysUnavailable)
    }

    /// Newer keys than these, for a token that these do not fit. `None` when there are none: the
    /// last look was a moment ago, or found the same.
    pub(super) async fn newer(&self, than: &Present) -> Option<Arc<Present>> {
        let found = || {
            let present = self.shared.present.load_full();
            (present.look > than.look && present.had).then_some(present)
        };
        if !self.shared.changes {
            return None;
        }
        // Looked up between this token's first check and now.
        if let Some(present) = found() {
            return Some(present);
        }
        let before = *self.shared.looks.borrow();
        let resting = before
            .last
            .is_some_and(|last| last.elapsed() < self.shared.options.floor);
        if resting && !before.running {
            return None;
        }
        self.shared.wanted.notify_one();
        self.wait(|looks| looks.finished > before.finished).await;
        found()
    }

    async fn wait(&self, until: impl FnMut(&Looks) -> bool) {
        let mut looks = self.shared.looks.subscribe();
        let mut until = until;
        let until = looks.wait_for(move |looks| until(looks));
        // Whether it came or not, the present keys decide.
        let _ = tokio::time::timeout(self.shared.options.wait_max, until).await;
    }
}

/// The one who looks.
struct Task {
    shared: Arc<Shared>,
    source: KeySource,
    outside: Outside,
    /// The file's time and size when it was read.
    stamp: Option<(SystemTime, u64)>,
    failures: u32,
    /// The last look that succeeded.
    good: Instant,
}

impl Task {
    async fn run(mut self, at_once: bool) {
        if at_once {
            self.look().await;
        }
        loop {
            let pause = self.pause();
            tokio::select! {
                () = tokio::time::sleep(pause) => {
                    if self.may_have_changed() {
                        self.look().await;
                    }
                }
                () = self.shared.wanted.notified() => {
                    let last = self.shared.looks.borrow().last;
                    let floor = self.shared.options.floor;
                    // Several asked for the look that just ended.
                    if last.is_none_or(|last| last.elapsed() >= floor) {
                        self.look().await;
                    }
                }
            }
        }
    }

    /// Until the next look that nobody asks for.
    fn pause(&self) -> Duration {
        let options = &self.shared.options;
        match (&self.source.0, self.failures) {
            (Place::Address(_), 0) => options.max_age,
            (_, 0) => options.file_every,
            (_, failures) => options
                .retry_min
                .saturating_mul(1 << (failures - 1).min(16))
                .min(RETRY_MAX),
        }
    }

    /// Files are read when they changed; an address only tells when it is asked.
    fn may_have_changed(&self) -> bool {
        match &self.source.0 {
            Place::File(..) => self.failures > 0 || self.source.stamp() != self.stamp,
            _ => true,
        }
    }

    async fn look(&mut self) {
        self.shared.looks.send_modify(|looks| {
            looks.running = true;
            looks.last = Some(Instant::now());
        });
        match self.fetch().await {
            Ok(keys) => {
                let look = self.shared.present.load().look + 1;
                tracing::debug!(source = ?self.source, ?keys, "keys were looked up");
                if keys.is_empty() {
                    tracing::warn!(source = ?self.source, "the issuer publishes no key that can be used");
                }
                self.failures = 0;
                self.good = Instant::now();
                self.put(keys, look, true);
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(source = ?self.source, %why, failures = self.failures, "keys could not be looked up");
                let present = self.shared.present.load();
                if present.had && self.good.elapsed() >= self.shared.options.stale_max {
                    tracing::error!(source = ?self.source, "keys were not confirmed for too long and are dropped");
                    self.put(Keys::default(), present.look + 1, false);
                }
            }
        }
        self.shared.looks.send_modify(|looks| {
            looks.running = false;
            looks.finished += 1;
        });
    }

    fn put(&self, keys: Keys, look: u64, had: bool) {
        let keys = keys.try_all(self.shared.options.try_all_keys);
        let present = Present { keys, look, had };
        self.shared.present.store(Arc::new(present));
    }

    async fn fetch(&mut self) -> Result<Keys, String> {
        let Place::Address(url) = &self.source.0 else {
            let stamp = self.source.stamp();
            let keys = self.source.read().map_err(|why| why.to_string())?;
            self.stamp = stamp;
            return Ok(keys.unwrap_or_default());
        };
        let mut call = Call::get(url.clone());
        let accept = "application/jwk-set+json, application/json";
        call.headers
            .insert(ACCEPT, HeaderValue::from_static(accept));
        let answer = self.outside.call(call).await;
        let answer = answer.map_err(|why| why.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(format!("answered with {}", answer.status));
        }
        Keys::jwks(&answer.body, false).map_err(|why| why.to_string())
    }
}
