//! Panics of instances: whatever a client sends, an instance must not panic, and a runtime hides
//! it well when one of its tasks does.
//!
//! Every instance's threads have a name of their own; a hook of this process notes who panicked.

use std::any::Any;
use std::sync::{Mutex, Once, PoisonError};

/// The thread and the words of each panic on an instance's thread.
static NOTED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// What the names of instances' threads begin with.
pub(super) const THREADS: &str = "exam-instance-";

/// Notes panics from here on. The hook that was there is still called.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if let Some(name) = thread.name().filter(|name| name.starts_with(THREADS)) {
                let noted = (name.to_owned(), panic.to_string());
                // Held for one push; a panic in between cannot happen.
                NOTED
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(noted);
            }
            before(panic);
        }));
    });
}

/// The panics on threads of this name.
pub(super) fn of(thread: &str) -> Vec<String> {
    let noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    noted
        .iter()
        .filter(|(name, _)| name == thread)
        .map(|(_, words)| words.clone())
        .collect()
}

/// What a caught panic said.
pub(super) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = || panic.downcast_ref::<String>().cloned();
    text.map(str::to_owned)
        .or_else(owned)
        .unwrap_or_else(|| "panicked".to_owned())
}
