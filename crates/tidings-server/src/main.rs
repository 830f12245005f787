//! The `tidings` binary: the server without further adapters.

use std::process::ExitCode;

use tidings_server::{App, AppError};

/// Gives memory back after a burst of connections, and takes less for each.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> Result<ExitCode, AppError> {
    Ok(App::from_env()?.run().await)
}
