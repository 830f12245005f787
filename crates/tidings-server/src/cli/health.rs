//! `tidings health`: whether an instance is alive or ready, as an exit code, so that an image needs
//! no other program to ask.

use std::time::Duration;

use http::Request;

use super::client::{Client, ClientError, whole};
use super::{HealthArgs, ServerArgs};

/// Below the five seconds that container runtimes are usually told to give a check: then it is we
/// who say what was wrong.
const PATIENCE: Duration = Duration::from_secs(4);

/// The instance is not what was asked, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unwell(String);

/// Asks once.
///
/// # Errors
/// [`Unwell`]: whatever is wrong, it is not a healthy instance that answered.
pub async fn run(args: &HealthArgs) -> Result<(), Unwell> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    match tokio::time::timeout(PATIENCE, ask(args, path)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Unwell(error.to_string())),
        Err(_) => Err(Unwell(format!(
            "{}: no answer within {PATIENCE:?}",
            args.url
        ))),
    }
}

async fn ask(args: &HealthArgs, path: &str) -> Result<(), ClientError> {
    // No key: both routes are for everybody.
    let client = Client::new(&ServerArgs {
        url: args.url.clone(),
        key: None,
    })?;
    let request = Request::get("/");
    let answer = client.send(request, path, whole("")).await?;
    client.text(answer).await.map(drop)
}
