//! The `tidings-ntfy` binary: the Tidings server with ntfy's API beside its own.
use std::process::ExitCode;
use tidings_server::{App, AppError};

#[tokio::main]
async fn main() -> Result<ExitCode, AppError> {
    Ok(App::from_env()?.adapter(tidings_ntfy::Ntfy).run().await)
}
