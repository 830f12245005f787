//! The links to one node: a pool for short commands, one connection for appends, and connections of
//! their own for whoever blocks.
//!
//! Every connection proves that its node is a primary before it is used, because a demoted one goes
//! on answering reads. The pool is never used for appends or blocking reads: an answer that is late
//! there holds up whoever gets the connection next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool_redis::{Connection, Hook, HookError, Manager, Pool, PoolError, Runtime};
use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, PushInfo, PushKind,
    RedisError, Value,
};
use tokio::time::{Instant, timeout};

use crate::dial::Dial;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::options::RedisOptions;
use crate::scripts::{self, Script};
use crate::target::Address;

/// How long the links of a node wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
}

/// What is needed to make links.
#[derive(Debug, Clone)]
pub(crate) struct Linking {
    pub(crate) dial: Dial,
    pub(crate) patience: Patience,
    pub(crate) pool_size: usize,
    pub(crate) metrics: Metrics,
}

impl Linking {
    pub(crate) fn new(dial: Dial, options: &RedisOptions, metrics: Metrics) -> Self {
        Self {
            dial,
            patience: Patience {
                connect: options.connect_timeout,
                response: options.response_timeout,
            },
            pool_size: options.pool_size,
            metrics,
        }
    }

    /// Opens a connection whose answers may take `response`.
    pub(crate) async fn connect(
        &self,
        info: ConnectionInfo,
        kind: &str,
        response: Duration,
    ) -> Result<MultiplexedConnection, Failure> {
        self.open(info, kind, config(self.patience.connect, response))
            .await
    }

    async fn open(
        &self,
        info: ConnectionInfo,
        kind: &str,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, Failure> {
        let client = Client::open(info).map_err(|error| Failure::of_connecting(&error))?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let link = match timeout(self.patience.connect, connecting).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return Err(Failure::of_connecting(&error)),
            Err(_) => {
                let patience = self.patience.connect;
                return Err(Failure::Unreachable(format!(
                    "no connection within {patience:?}"
                )));
            }
        };
        self.metrics.connected(kind);
        Ok(link)
    }
}

fn config(connect: Duration, response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect))
        .set_response_timeout(Some(response))
}

/// Refuses a node that is no primary.
pub(crate) async fn require_primary(
    link: &mut impl ConnectionLike,
    patience: Duration,
) -> Result<(), Failure> {
    let role = match scripts::ask(link, &redis::cmd("ROLE"), patience).await {
        Ok(role) => role,
        // A user may lack the right to ask; then it is the scripts that refuse to run on a replica.
        Err(Failure::Refused(reason)) if reason.contains("NoPerm") || reason.contains("NOPERM") => {
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    match role {
        Value::Array(parts) => match parts.first() {
            Some(Value::BulkString(name)) if name == b"master" => Ok(()),
            Some(Value::BulkString(name)) => {
                let name = String::from_utf8_lossy(name);
                Err(Failure::Elsewhere(format!(
                    "the node's role is {name}, not master"
                )))
            }
            _ => Err(Failure::Refused(
                "ROLE is answered in an unknown way".to_owned(),
            )),
        },
        _ => Err(Failure::Refused(
            "ROLE is answered in an unknown way".to_owned(),
        )),
    }
}

/// One node that is, as far as we know, a primary.
pub(crate) struct Node {
    pub(crate) address: Address,
    linking: Linking,
    pool: Pool,
    append: tokio::sync::Mutex<AppendSlot>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The append connection, if there is one, and how the last attempt to make one ended.
#[derive(Default)]
struct AppendSlot {
    link: Option<AppendLink>,
    failed: Option<(Instant, Failure)>,
}

/// The connection that all partitions of a node share for appends.
#[derive(Debug, Clone)]
pub(crate) struct AppendLink {
    pub(crate) link: MultiplexedConnection,
    /// Whether its end has not been seen yet.
    alive: Arc<AtomicBool>,
    number: u64,
}

impl Node {
    pub(crate) fn new(address: Address, linking: Linking) -> Result<Self, Failure> {
        let Patience { connect, response } = linking.patience;
        let config = config(connect, response);
        let manager = Manager::new_with_config(linking.dial.server(&address), config)
            .map_err(|error| Failure::of_connecting(&error))?;
        let metrics = linking.metrics.clone();
        let primary_only = Hook::async_fn(move |link: &mut MultiplexedConnection, _| {
            metrics.connected("short");
            Box::pin(async move {
                require_primary(link, response)
                    .await
                    .map_err(|failure| HookError::Backend(as_error(&failure)))
            })
        });
        let pool = Pool::builder(manager)
            .max_size(linking.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(response))
            .create_timeout(Some(connect))
            .recycle_timeout(Some(response))
            .post_create(primary_only)
            .build()
            .expect("a runtime is named, which is all that the builder asks for");
        Ok(Self {
            address,
            linking,
            pool,
            append: tokio::sync::Mutex::default(),
        })
    }

    /// Asks a script that changes nothing, several calls in one round trip.
    pub(crate) async fn ask_script(
        &self,
        script: &Script,
        calls: Vec<Cmd>,
    ) -> Result<Vec<Value>, Failure> {
        let mut link = self.short().await?;
        let response = self.linking.patience.response;
        let asked = script
            .ask_all(&mut link, calls, response, &self.linking.metrics)
            .await;
        put_back(link, asked)
    }

    /// Asks plain commands in one round trip; their errors are left in place.
    pub(crate) async fn ask_plain(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Failure> {
        let mut link = self.short().await?;
        let asked = scripts::raw_answers(&mut link, pipeline, self.linking.patience.response).await;
        put_back(link, asked)
    }

    /// Asks one plain command.
    pub(crate) async fn ask(&self, cmd: &Cmd) -> Result<Value, Failure> {
        let mut link = self.short().await?;
        let asked = scripts::ask(&mut link, cmd, self.linking.patience.response).await;
        put_back(link, asked)
    }

    /// A connection of one's own to a primary, for commands that block: answers may take `response`.
    pub(crate) async fn dedicated(
        &self,
        kind: &str,
        response: Duration,
    ) -> Result<MultiplexedConnection, Failure> {
        let info = self.linking.dial.server(&self.address);
        let mut link = self.linking.connect(info, kind, response).await?;
        require_primary(&mut link, self.linking.patience.response)
            .await
            .map_err(unsent)?;
        Ok(link)
    }

    /// The append connection, made if there is none.
    pub(crate) async fn append_link(&self) -> Result<AppendLink, Failure> {
        let asked = Instant::now();
        let mut slot = self.append.lock().await;
        if let Some(link) = &slot.link
            && link.alive.load(Ordering::Acquire)
        {
            return Ok(link.clone());
        }
        slot.link = None;
        // All partitions of the node wait here together: one attempt speaks for all.
        if let Some((at, failure)) = &slot.failed
            && *at >= asked
        {
            return Err(failure.clone());
        }
        match self.connect_for_appends().await {
            Ok(link) => {
                slot.link = Some(link.clone());
                slot.failed = None;
                Ok(link)
            }
            Err(failure) => {
                slot.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn connect_for_appends(&self) -> Result<AppendLink, Failure> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let alive = Arc::new(AtomicBool::new(true));
        let seen = alive.clone();
        // With its end known, an append after it is known not to have been sent.
        let watch = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                seen.store(false, Ordering::Release);
            }
            Ok::<(), SendError>(())
        };
        let Patience { connect, response } = self.linking.patience;
        let config = config(connect, response).set_push_sender(watch);
        let info = self.linking.dial.server_resp3(&self.address);
        let mut link = self.linking.open(info, "append", config).await?;
        require_primary(&mut link, response).await.map_err(unsent)?;
        Ok(AppendLink {
            link,
            alive,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Lets go of an append connection that brought no answer.
    pub(crate) async fn drop_append_link(&self, dead: &AppendLink) {
        let mut slot = self.append.lock().await;
        if slot
            .link
            .as_ref()
            .is_some_and(|link| link.number == dead.number)
        {
            slot.link = None;
        }
    }

    async fn short(&self) -> Result<Connection, Failure> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Failure::of_connecting(&error)
            }
            other => Failure::Unreachable(other.to_string()),
        })
    }
}

/// Gives a connection back to its pool, unless something is still on its way on it.
fn put_back<T>(link: Connection, asked: Result<T, Failure>) -> Result<T, Failure> {
    if asked.as_ref().is_err_and(Failure::wants_resolving) {
        drop(Connection::take(link));
    }
    asked
}

/// A failure in the only form that a pool's hook can return, to be read again by [`Failure::of`].
fn as_error(failure: &Failure) -> RedisError {
    let reason = failure.reason().to_owned();
    let code = match failure {
        Failure::Unreachable(_) | Failure::Lost(_) => {
            return RedisError::from((
                ErrorKind::Io,
                "the connection could not be checked",
                reason,
            ));
        }
        Failure::Elsewhere(_) => "READONLY",
        Failure::Busy(_) => "TRYAGAIN",
        _ => "ERR",
    };
    redis::make_extension_error(code.to_owned(), Some(reason))
}

/// What went wrong while a connection was made ready: the caller's own command was not sent.
fn unsent(failure: Failure) -> Failure {
    match failure {
        Failure::Lost(reason) => Failure::Unreachable(reason),
        other => other,
    }
}
