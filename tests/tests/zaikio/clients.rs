//! What every client goes through, all at once: most of it is to be idle for as long as they take to notice.

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;
use crate::{anycable, pages, plain};

#[tokio::test(flavor = "multi_thread")]
async fn every_client_subscribes_receives_idles_and_is_refused() -> Result<()> {
    let cluster = Cluster::start("").await?;
    let done = tokio::try_join!(
        pages::all(&cluster),
        anycable::all(&cluster),
        plain::all(&cluster),
    );
    done.map(drop).with_context(|| cluster.printed())
}
