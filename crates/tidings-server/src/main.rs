//! The `tidings` binary: the server without further adapters.

use std::process::ExitCode;

use tidings_server::{App, AppError};

#[tokio::main]
async fn main() -> Result<ExitCode, AppError> {
    Ok(App::from_env()?.run().await)
}
