//! `tidings cardsavr simulate`: finds jobs that nobody has begun and runs them, several at a time.
//!
//! What is done with a job is [`super::site`]'s decision; here it is carried out. A call whose answer
//! did not come is not simply made again: the job says whether its status has arrived.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::SimulateArgs;
use super::site::{Known, Patience, Run, Stage, Status, Step, next};
use super::user::from_file;
use super::wire::{Credentials, Hub, Trust};
use crate::app::AppError;
use crate::cli::client::ClientError;

/// The secrets of `config/tidings.dev.toml`.
const DEVELOPMENT: [&str; 4] = [
    "acme-app",
    "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ=",
    "browser1",
    "pw-browser1",
];

/// How long the goodbye may take: who is told to leave leaves.
const GOODBYE: Duration = Duration::from_secs(2);

/// Refusals of one step until a job is given up. A hub without its log refuses, too, and is there again
/// within seconds.
const REFUSALS_MAX: u32 = 30;

/// Runs jobs until it is told to leave, or has run as many as it should.
///
/// # Errors
/// [`AppError`] when it cannot begin.
pub(super) async fn run(args: &SimulateArgs) -> Result<(), AppError> {
    let credentials = credentials(args)?;
    let trust = match args.insecure || args.dev {
        true => Trust::All,
        false => Trust::Roots(args.ca.as_deref()),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hub = Arc::new(Hub::enter(&args.url, trust, credentials).await?);
    tell("logged in")?;
    tokio::select! {
        done = serve(args, &hub) => done?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Jobs that were being run stay as they are, and the hub ends them when their time is over.
    if let Ok(Err(error)) = tokio::time::timeout(GOODBYE, hub.leave()).await {
        complain(&error)?;
    }
    tell("left")?;
    Ok(())
}

fn credentials(args: &SimulateArgs) -> Result<Credentials, ClientError> {
    if args.dev {
        let [app, app_key, username, password] = DEVELOPMENT.map(str::to_owned);
        return Ok(Credentials {
            app,
            app_key,
            username,
            password,
        });
    }
    let needed = |what: &str| ClientError::Usage(format!("--{what} is needed"));
    let given = |value: &Option<String>, what| value.clone().ok_or_else(|| needed(what));
    let (key, password) = (&args.app_key_file, &args.password_file);
    Ok(Credentials {
        app: given(&args.app, "app")?,
        app_key: from_file(key.as_deref().ok_or_else(|| needed("app-key-file"))?)?,
        username: given(&args.username, "username")?,
        password: from_file(password.as_deref().ok_or_else(|| needed("password-file"))?)?,
    })
}

async fn serve(args: &SimulateArgs, hub: &Arc<Hub>) -> Result<(), AppError> {
    let mut jobs = JoinSet::new();
    let mut running = HashSet::new();
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        let room = usize::from(args.jobs).saturating_sub(running.len());
        let room = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        if room > 0 {
            match hub.requested().await {
                Ok(found) => {
                    let fresh: Vec<u64> = found
                        .into_iter()
                        .filter(|job| !running.contains(job))
                        .take(room)
                        .collect();
                    for job in fresh {
                        running.insert(job);
                        left -= 1;
                        let (hub, args) = (hub.clone(), args.clone());
                        jobs.spawn(async move { (job, play(&hub, job, &args).await) });
                    }
                }
                Err(error) => complain(&error)?,
            }
        } else if running.is_empty() {
            return Ok(());
        }
        tokio::select! {
            Some(ended) = jobs.join_next(), if !jobs.is_empty() => {
                let (job, ended) = ended.map_err(std::io::Error::other)?;
                running.remove(&job);
                ended?;
            }
            () = tokio::time::sleep(args.every) => {}
        }
    }
}

/// Runs one job to its end, whoever ends it.
async fn play(hub: &Hub, job: u64, args: &SimulateArgs) -> std::io::Result<()> {
    let patience = Patience {
        logins: args.logins,
        codes: args.codes,
    };
    let (mut run, mut known) = (Run::default(), Known::default());
    // A status that was sent, and nobody knows whether it has arrived; and what comes after it.
    let mut sent: Option<(&'static str, Run)> = None;
    let mut refusals = 0;
    loop {
        let seen = match hub.look(job).await {
            Ok(seen) => seen,
            Err(ClientError::Refused { status, text }) if status.is_client_error() => {
                return tell(&format!("job {job}: {status} {text}"));
            }
            Err(error) => {
                complain(&error)?;
                tokio::time::sleep(args.every).await;
                continue;
            }
        };
        if let Some((status, then)) = sent.take()
            && seen.status == status
        {
            (run, known.answer) = (then, None);
        }
        if let Some(termination) = seen.termination.filter(|_| run.stage != Stage::Ended) {
            return tell(&format!("job {job} {} {termination}", seen.status));
        }
        known.login = seen.login;
        known.cancelled = seen.status == "CANCEL_REQUESTED";
        if run.awaits() && known.answer.is_none() && !known.cancelled {
            match hub.answer(job).await {
                Ok(answer) => known.answer = answer,
                Err(error) => complain(&error)?,
            }
        }
        let (step, then) = next(run.clone(), &known, patience);
        let (request, status) = match &step {
            Step::Leave => return Ok(()),
            Step::Wait => {
                tokio::time::sleep(args.every).await;
                continue;
            }
            Step::Say(status) => (None, status),
            Step::Ask(request, status) => (Some(request), status),
        };
        let said = async {
            if let Some(request) = request {
                hub.ask(job, request).await?;
            }
            hub.say(job, status).await
        };
        match said.await {
            Ok(()) => {
                (run, known.answer, refusals) = (then, None, 0);
                report(job, status)?;
            }
            // Once it may have been ended by somebody else, which is then seen.
            Err(ClientError::Refused { status, text }) if refusals == REFUSALS_MAX => {
                return tell(&format!("job {job} is left alone: {status} {text}"));
            }
            // Whether the job is over, the next look says.
            Err(error) => {
                refusals += u32::from(matches!(error, ClientError::Refused { .. }));
                sent = Some((status.status, then));
                complain(&error)?;
            }
        }
        tokio::time::sleep(args.pace).await;
    }
}

fn report(job: u64, status: &Status) -> std::io::Result<()> {
    let end = status
        .termination_type
        .map_or(String::new(), |end| format!(" {end}"));
    tell(&format!("job {job} {}{end}", status.status))
}

fn tell(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

fn complain(error: &ClientError) -> std::io::Result<()> {
    writeln!(std::io::stderr(), "tidings: {error}")
}

#[cfg(test)]
mod tests {
    use super::DEVELOPMENT;
    use crate::config::layers;

    #[test]
    fn development_mode_knows_these_secrets() {
        let file: toml::Table = toml::from_str(layers::DEVELOPMENT).expect("TOML");
        let own = &file["adapters"]["cardsavr"];
        let [app, key, username, password] = DEVELOPMENT;
        assert_eq!(own["integrators"][app]["key"].as_str(), Some(key));
        let hashed = tidings_adapter_cardsavr::hash_password(username, password);
        let user = &own["users"][username];
        assert_eq!(user["password_key"].as_str(), Some(hashed.as_str()));
        assert_eq!(user["role"].as_str(), Some("virtual_browser"));
    }
}
