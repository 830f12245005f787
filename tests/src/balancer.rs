//! A load balancer of the plainest kind: each connection goes to the next instance that answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http;

/// How often instances are asked whether they are ready.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A running balancer; it ends when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// One instance as the balancer sees it.
#[derive(Debug)]
struct Seen {
    address: SocketAddr,
    ready: AtomicBool,
}

impl Balancer {
    /// Stands in front of these instances, and takes all for ready that let it in.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(instances: Vec<SocketAddr>) -> Result<Self> {
        Self::listen(seen(instances), JoinSet::new()).await
    }

    /// Stands in front of these instances and asks them all the time whether they are ready, as
    /// balancers in earnest do; nobody is sent to one that is not.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn checking(instances: Vec<SocketAddr>) -> Result<Self> {
        let instances = seen(instances);
        let mut tasks = JoinSet::new();
        for at in 0..instances.len() {
            let instances = instances.clone();
            tasks.spawn(async move {
                let one = &instances[at];
                loop {
                    let answer = http::send(one.address, "GET", "/readyz", &[], "").await;
                    let ready = answer.is_ok_and(|answer| answer.status == 200);
                    one.ready.store(ready, Ordering::Relaxed);
                    tokio::time::sleep(CHECK_EVERY).await;
                }
            });
        }
        Self::listen(instances, tasks).await
    }

    async fn listen(instances: Arc<[Seen]>, mut tasks: JoinSet<()>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let turn = AtomicUsize::new(0);
        tasks.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(forward(client, instances.clone(), turn));
            }
        });
        Ok(Self {
            address,
            _tasks: tasks,
        })
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

fn seen(instances: Vec<SocketAddr>) -> Arc<[Seen]> {
    let seen = |address| Seen {
        address,
        ready: AtomicBool::new(true),
    };
    instances.into_iter().map(seen).collect()
}

async fn forward(mut client: TcpStream, instances: Arc<[Seen]>, turn: usize) {
    for step in 0..instances.len() {
        let one = &instances[(turn + step) % instances.len()];
        if !one.ready.load(Ordering::Relaxed) {
            continue;
        }
        if let Ok(mut instance) = TcpStream::connect(one.address).await {
            // Either side ending ends both.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut instance).await;
            return;
        }
    }
}
