//! What becomes of something that was handed out: it arrived with its answer, or it did not.

use tidings_adapter::{Command, Hub};

use crate::answer::Answer;

/// An answer that commits one command if the connection took it and another one if it did not. If
/// the instance ends before either, neither is committed: what was handed out comes back by itself
/// after a while.
pub(crate) fn with_fate(answer: Answer, hub: &Hub, arrived: Command, lost: Command) -> Answer {
    let fate = Fate {
        hub: hub.clone(),
        command: Some(arrived),
    };
    // Called when it was lost, and only dropped when it was taken.
    answer.if_lost(move || {
        let mut fate = fate;
        fate.command = Some(lost);
    })
}

struct Fate {
    hub: Hub,
    command: Option<Command>,
}

impl Drop for Fate {
    fn drop(&mut self) {
        let (Some(command), Ok(runtime)) =
            (self.command.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let hub = self.hub.clone();
        // Counted as a connection's, so that an instance that leaves waits for it.
        let tracked = self.hub.connections().track_future(async move {
            if let Err(error) = hub.command(command).await {
                tracing::debug!(%error, "what was handed out comes back by itself");
            }
        });
        runtime.spawn(tracked);
    }
}
