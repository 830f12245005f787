//! Connections that end, taken off their users' records whatever the log is up to.
//!
//! A client that goes while the log is away would otherwise stay in its user's record, and the user
//! online, as long as the instance lives: a departure that came to nothing is nobody's any more.

use std::time::Duration;

use tidings_adapter::{Action, Actions, Command, CommandError, Hub, Input, Now, Session};

use crate::session::{Connection, DEPART};

/// Pauses between tries: the first is soon, since most absences are short; the last keeps thousands
/// of departures from being a load when the log is back.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// A connection whose departure is insisted on.
#[derive(Debug)]
pub(crate) struct Leaving {
    connection: Connection,
    hub: Hub,
    /// What it says, before its departure is taken out.
    said: Actions,
}

impl Leaving {
    pub(crate) fn new(connection: Connection, hub: Hub) -> Self {
        Self {
            connection,
            hub,
            said: Actions::default(),
        }
    }
}

impl Session for Leaving {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        self.connection.handle(now, input, &mut self.said);
        for action in self.said.drain() {
            match action {
                Action::Commit { tag, command } if tag == DEPART => insist(&self.hub, command),
                other => actions.push(other),
            }
        }
    }
}

/// Asks until it is done, or until the instance or its incarnation is over: then it is the business of
/// whoever handles what was lost with it.
fn insist(hub: &Hub, command: Command) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return; // the instance is gone
    };
    let hub = hub.clone();
    // The instance does not leave before this is done.
    let counted = hub.connections().token();
    runtime.spawn(async move {
        let _counted = counted;
        let mut pauses = PAUSES.iter().copied();
        let mut pause = Duration::ZERO;
        loop {
            match hub.command(command.clone()).await {
                Err(error @ (CommandError::Log(_) | CommandError::Contended))
                    if !hub.draining().is_cancelled() =>
                {
                    tracing::debug!(%error, "a departure is tried again");
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "a departure is left to the end of the lease");
                    return;
                }
            }
            pause = pauses.next().unwrap_or(pause);
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    });
}
