//! What becomes of something that was handed out: it arrived with its answer, or it did not.

use std::time::Duration;

use tidings_adapter::{Command, CommandError, Hub};

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

/// Pauses between tries to say what became of it: all of them together are shorter than it takes to
/// come back by itself, so that a short absence of the log makes nothing come twice.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(5),
];

async fn say(hub: Hub, command: Command) {
    let mut pauses = PAUSES.into_iter();
    loop {
        // Said twice, it changes nothing.
        let error = match hub.command(command.clone()).await {
            Ok(_) | Err(CommandError::Draining) => return,
            Err(error) => error,
        };
        let Some(pause) = pauses.next() else {
            return tracing::debug!(%error, "what was handed out comes back by itself");
        };
        tokio::time::sleep(pause).await;
    }
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
        // Counted as a connection's, so that an instance that leaves waits for it.
        let said = say(self.hub.clone(), command);
        runtime.spawn(self.hub.connections().track_future(said));
    }
}
