//! Which views there are, and which of them live: whoever wants one finds it or begins it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tidings_core::ViewRefusal;
use tokio::time::Instant;

use super::View;
use super::live::{Hold, Live, Task};
use super::metrics::ViewMetrics;
use crate::hub::Hub;
use crate::limits::{VIEW_DEPTH_MAX, VIEW_LINGERS, VIEWS_MAX};
use crate::probe::is_own;
use crate::wake::Wake;

/// The hub's views.
pub(crate) struct Views {
    declared: BTreeMap<&'static str, Arc<dyn View>>,
    live: Mutex<HashMap<Name, Arc<Live>>>,
    /// Of holds and, from the other end, of live views in the window's lists, where connections
    /// count from 0.
    next: AtomicU64,
    pub(crate) metrics: ViewMetrics,
}

type Name = (&'static str, Arc<str>);

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views")
            .field("declared", &self.declared.keys())
            .finish_non_exhaustive()
    }
}

impl Views {
    pub(crate) fn new(
        views: &[Arc<dyn View>],
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let names = views.iter().map(|view| view.name());
        Ok(Self {
            metrics: ViewMetrics::register(names, registry)?,
            declared: views
                .iter()
                .map(|view| (view.name(), view.clone()))
                .collect(),
            live: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Holds a view that lives already.
    fn find(&self, name: &Name, wake: &Arc<Wake>) -> Option<Hold> {
        let live = self.live.lock();
        Some(live.get(name)?.hold(self.number(), wake))
    }

    /// Forgets a view that nobody has held for long enough; true when its task is to end.
    pub(super) fn forget(&self, one: &Arc<Live>) -> bool {
        let mut live = self.live.lock();
        let name = (one.name, one.key.clone());
        if !live.get(&name).is_some_and(|there| Arc::ptr_eq(there, one)) {
            return true; // made room for another
        }
        // Nobody comes to hold it meanwhile: that takes the lock, too.
        let forgotten = one
            .idle()
            .is_some_and(|since| since + VIEW_LINGERS <= Instant::now());
        if forgotten {
            live.remove(&name);
            self.metrics.lives(one.name, -1);
        }
        forgotten
    }

    /// Makes room for one more; false when all of them are held.
    fn make_room(&self, live: &mut HashMap<Name, Arc<Live>>) -> bool {
        if live.len() < VIEWS_MAX {
            return true;
        }
        live.retain(|_, one| {
            let idle = one.idle().is_some();
            if idle {
                self.metrics.lives(one.name, -1);
                one.end();
            }
            !idle
        });
        live.len() < VIEWS_MAX
    }
}

impl Hub {
    /// Holds a view: `wake` is rung when it has something new.
    pub(crate) fn hold(
        &self,
        name: &str,
        key: &str,
        wake: &Arc<Wake>,
    ) -> Result<Hold, ViewRefusal> {
        self.hold_at(name, key, wake, VIEW_DEPTH_MAX)
    }

    fn hold_at(
        &self,
        name: &str,
        key: &str,
        wake: &Arc<Wake>,
        depth: usize,
    ) -> Result<Hold, ViewRefusal> {
        let views = self.views();
        let Some((name, view)) = views.declared.get_key_value(name) else {
            return Err(ViewRefusal::Unknown);
        };
        let name: Name = (name, Arc::from(key));
        if let Some(hold) = views.find(&name, wake) {
            return Ok(hold);
        }
        let Some(depth) = depth.checked_sub(1) else {
            tracing::error!(
                view = name.0,
                "more than {VIEW_DEPTH_MAX} views stand on each other"
            );
            return Err(ViewRefusal::Unknown);
        };
        let depends = view.depends(key);
        // Numbers from the other end: no connection's.
        let fresh = Live::new(name.0, name.1.clone(), u64::MAX - views.number());
        let held = depends.views.iter();
        let held = held.map(|(name, key)| self.hold_at(name, key, fresh.wake(), depth));
        let inputs = held.collect::<Result<Vec<Hold>, ViewRefusal>>()?;
        let topics = depends.topics.into_iter().filter(|topic| !is_own(topic));
        let task = Task {
            hub: self.clone(),
            view: view.clone(),
            live: fresh.clone(),
            topics: topics.map(|topic| self.placed(topic)).collect(),
            inputs,
        };
        let hold = {
            let mut live = views.live.lock();
            if let Some(there) = live.get(&name) {
                return Ok(there.hold(views.number(), wake)); // somebody was faster
            }
            if !views.make_room(&mut live) {
                return Err(ViewRefusal::TooMany);
            }
            let hold = fresh.hold(views.number(), wake);
            views.metrics.lives(name.0, 1);
            live.insert(name, fresh);
            hold
        };
        task.register();
        let stop = self.stopping().clone();
        self.tasks()
            .spawn(stop.run_until_cancelled_owned(task.run()));
        Ok(hold)
    }
}
