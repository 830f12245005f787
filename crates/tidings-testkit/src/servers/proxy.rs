//! A TCP proxy on loopback whose links can be cut and stalled.
//!
//! A killed server closes its sockets, and a client notices at once. What clients get wrong is the rest: a link that stays
//! open and delivers nothing, a network that parts two servers while both live. One task owns the listener and the links;
//! the handle sends it orders and returns when they hold, so that a test may count on them: after `cut` or `stall` not
//! one byte more goes through. The task runs in a runtime of its own: in the test's, a test that computes for a second
//! would look like a dead server to those who watch it through the proxy.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{self, Runtime},
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, Id, JoinHandle, JoinSet},
};

use super::PortLease;

/// One thread for all proxies of the process: they only copy bytes.
static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tcp-proxy")
        .enable_all()
        .build()
});

/// Forwards every connection to one upstream address, until it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    lease: PortLease,
    orders: mpsc::Sender<(Order, oneshot::Sender<io::Result<()>>)>,
    open: watch::Sender<bool>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    links: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

#[derive(Debug)]
enum Order {
    Cut,
    CutFrom(IpAddr),
    Heal,
}

impl TcpProxy {
    /// Listens on a free loopback port. The upstream need not be there yet.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let lease = PortLease::take()?;
        let (open, gate) = watch::channel(true);
        let counts = Arc::<Counts>::default();
        // One order is in flight per caller; more callers than this wait their turn.
        let (orders, inbox) = mpsc::channel(8);
        let exchange = Exchange {
            address: lease.address(),
            upstream,
            listener: None,
            barred: HashSet::new(),
            tasks: JoinSet::new(),
            links: HashMap::new(),
            gate,
            counts: counts.clone(),
        };
        let runtime = RUNTIME
            .as_ref()
            .map_err(|error| anyhow!("cannot start the proxies' runtime: {error}"))?;
        let task = runtime.spawn(exchange.run(inbox));
        let proxy = Self {
            lease,
            orders,
            open,
            counts,
            task,
        };
        // It begins cut.
        proxy.heal().await?;
        Ok(proxy)
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.lease.address()
    }

    /// Drops every connection and refuses new ones, until `heal`.
    pub async fn cut(&self) -> Result<()> {
        self.order(Order::Cut).await
    }

    /// Drops every connection that comes from `source` and closes new ones at once, until `heal`. Others live on. On
    /// loopback a client chooses its source address within 127.0.0.0/8 (Redis: `bind-source-addr`).
    pub async fn cut_from(&self, source: IpAddr) -> Result<()> {
        self.order(Order::CutFrom(source)).await
    }

    /// Keeps connections open, also new ones, and delivers nothing in either direction, until `heal`: neither bytes nor
    /// the end of a connection. What was sent meanwhile waits in the kernel's buffers and is delivered then.
    pub fn stall(&self) {
        self.open.send_replace(false);
    }

    /// Ends every `cut`, `cut_from` and `stall`.
    pub async fn heal(&self) -> Result<()> {
        self.order(Order::Heal).await?;
        self.open.send_replace(true);
        Ok(())
    }

    /// Connections accepted and not barred so far.
    pub fn connections(&self) -> u64 {
        self.counts.links.load(Relaxed)
    }

    /// Bytes delivered from clients to the upstream so far.
    pub fn bytes_up(&self) -> u64 {
        self.counts.up.load(Relaxed)
    }

    /// Bytes delivered from the upstream to clients so far.
    pub fn bytes_down(&self) -> u64 {
        self.counts.down.load(Relaxed)
    }

    async fn order(&self, order: Order) -> Result<()> {
        const GONE: &str = "the proxy's task has ended";
        let (done, answer) = oneshot::channel();
        self.orders.send((order, done)).await.context(GONE)?;
        answer
            .await
            .context(GONE)?
            .with_context(|| format!("cannot listen on {}", self.address()))
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the proxy's task owns.
struct Exchange {
    address: SocketAddr,
    upstream: SocketAddr,
    /// `None` while cut: a connection is refused by the kernel.
    listener: Option<TcpListener>,
    barred: HashSet<IpAddr>,
    tasks: JoinSet<io::Result<()>>,
    links: HashMap<Id, (IpAddr, AbortHandle)>,
    gate: watch::Receiver<bool>,
    counts: Arc<Counts>,
}

impl Exchange {
    async fn run(mut self, mut inbox: mpsc::Receiver<(Order, oneshot::Sender<io::Result<()>>)>) {
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let Some((order, done)) = order else { return };
                    // A caller that stopped waiting has no use for the answer.
                    let _ = done.send(self.perform(order).await);
                }
                (client, source) = accept(self.listener.as_ref()) => self.link(client, source.ip()),
                Some(ended) = self.tasks.join_next_with_id() => self.forget(ended),
            }
        }
    }

    async fn perform(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Cut => {
                self.listener = None;
                self.drop_links(|_| true).await;
            }
            Order::CutFrom(source) => {
                self.barred.insert(source);
                self.drop_links(|from| from == source).await;
            }
            Order::Heal => {
                self.barred.clear();
                if self.listener.is_none() {
                    self.listener = Some(TcpListener::bind(self.address).await?);
                }
            }
        }
        Ok(())
    }

    fn link(&mut self, client: TcpStream, source: IpAddr) {
        if self.barred.contains(&source) {
            return;
        }
        self.counts.links.fetch_add(1, Relaxed);
        let task = self.tasks.spawn(join(
            client,
            self.upstream,
            self.gate.clone(),
            self.counts.clone(),
        ));
        self.links.insert(task.id(), (source, task));
    }

    /// Ends links and waits until their sockets are closed.
    async fn drop_links(&mut self, ends: impl Fn(IpAddr) -> bool) {
        for (_, task) in self.links.values().filter(|(source, _)| ends(*source)) {
            task.abort();
        }
        while self.links.values().any(|(source, _)| ends(*source)) {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.forget(ended),
                None => self.links.clear(),
            }
        }
    }

    fn forget(&mut self, ended: Result<(Id, io::Result<()>), tokio::task::JoinError>) {
        let id = match ended {
            // How a link ended is its two ends' business.
            Ok((id, _)) => id,
            Err(error) => error.id(),
        };
        self.links.remove(&id);
    }
}

/// Accepts, or waits for ever while there is no listener.
async fn accept(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    // Out of file descriptors, `accept` fails at once and again: the pause keeps that from taking a whole core.
    const PAUSE: Duration = Duration::from_millis(10);
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One link: both directions until both have ended, or until one of them breaks.
async fn join(
    client: TcpStream,
    upstream: SocketAddr,
    gate: watch::Receiver<bool>,
    counts: Arc<Counts>,
) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::try_join!(
        pump(client_read, server_write, gate.clone(), &counts.up),
        pump(server_read, client_write, gate, &counts.down),
    )?;
    Ok(())
}

async fn pump(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: watch::Receiver<bool>,
    count: &AtomicU64,
) -> io::Result<()> {
    // As much as Redis reads in one go.
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = loop {
            wait_open(&mut gate).await?;
            from.readable().await?;
            match while_open(&gate, || from.try_read(&mut buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read?,
            }
        };
        if read == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            wait_open(&mut gate).await?;
            to.writable().await?;
            match while_open(&gate, || to.try_write(rest)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    let written = written?;
                    count.fetch_add(written as u64, Relaxed);
                    rest = &rest[written..];
                }
            }
        }
    }
}

async fn wait_open(gate: &mut watch::Receiver<bool>) -> io::Result<()> {
    match gate.wait_for(|open| *open).await {
        Ok(_) => Ok(()),
        Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Does one non-blocking step if the gate is open. The gate stays locked during the step, so that a `stall` that has
/// returned has no step still under way.
fn while_open<T>(
    gate: &watch::Receiver<bool>,
    step: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let open = gate.borrow();
    if *open {
        step()
    } else {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
