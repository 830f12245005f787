//! A load balancer of the plainest kind: each connection goes to the next instance that answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running balancer; it ends when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Balancer {
    /// Stands in front of these instances.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(instances: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let turn = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(
                    client,
                    instances.clone(),
                    turn.fetch_add(1, Ordering::Relaxed),
                ));
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(mut client: TcpStream, instances: Vec<SocketAddr>, turn: usize) {
    for step in 0..instances.len() {
        if let Ok(mut instance) =
            TcpStream::connect(instances[(turn + step) % instances.len()]).await
        {
            // Either side ending ends both.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut instance).await;
            return;
        }
    }
}
