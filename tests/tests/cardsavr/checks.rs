//! The contract's checks with every SDK, at one pair of instances.

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;
use crate::sdk::ALL;
use crate::{jobs, messages, requests, sessions};

async fn with_each<F, R>(of: F) -> Result<()>
where
    F: Fn(&'static str, std::sync::Arc<Cluster>) -> R,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let cluster = std::sync::Arc::new(Cluster::start("origins = [\"*\"]").await?);
    let mut running = tokio::task::JoinSet::new();
    for which in ALL {
        let one = of(which, cluster.clone());
        running.spawn(async move { one.await.context(which) });
    }
    while let Some(done) = running.join_next().await {
        done?.with_context(|| cluster.printed())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_keys_and_signatures() -> Result<()> {
    with_each(|which, cluster| async move { sessions::all(&cluster, which).await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_lists_and_roles() -> Result<()> {
    with_each(|which, cluster| async move { jobs::all(&cluster, which).await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_keys_and_cardholders() -> Result<()> {
    with_each(|which, cluster| async move { messages::all(&cluster, which).await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_their_answers() -> Result<()> {
    with_each(|which, cluster| async move { requests::all(&cluster, which).await }).await
}
