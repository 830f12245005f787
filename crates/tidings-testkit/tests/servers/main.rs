//! The test servers do what they say: above all, that every fault they offer is a real one.

mod cluster;
mod proxy;
mod sentinel;
mod single;

use std::{future::Future, time::Duration};

use anyhow::{Context, Result};
use redis::FromRedisValue;
use tidings_testkit::servers::RedisServer;
use tokio::time::timeout;

/// No test here may hold up a run longer.
const TEST_DEADLINE: Duration = Duration::from_secs(30);

/// Runs a test as a task (which shows that its futures may move between threads), within the deadline.
async fn bounded(test: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    timeout(TEST_DEADLINE, tokio::spawn(test))
        .await
        .context("the test took too long")??
}

async fn get(server: &RedisServer, key: &str) -> Result<Option<String>> {
    Ok(Option::<String>::from_redis_value(
        server.command(&["GET", key]).await?,
    )?)
}

/// The first word of the error that Redis answered.
fn code(error: &anyhow::Error) -> Option<String> {
    error
        .downcast_ref::<redis::RedisError>()?
        .code()
        .map(str::to_owned)
}
