//! What the tests share: two instances, and clients whose requests alternate between them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tidings_adapter::http::{Method, StatusCode};
use tidings_adapter_cardsavr::client::{Client, ClientError, Prepared, Reply};
use tidings_adapter_cardsavr::{Cardsavr, CardsavrOptions, hash_password};
use tidings_testkit::adapter_exam::wire::{Answer, Request, send};
use tidings_testkit::adapter_exam::{Cluster, Logs, Setup};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const APP: &str = "acme-app";
pub(crate) const KEY: &str = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ=";

/// Users, their numbers and roles; the password of each is `pw-` and his name.
const USERS: [(&str, u64, &str); 5] = [
    ("agent1", 11, "cardholder_agent"),
    ("agent2", 12, "cardholder_agent"),
    ("boss", 13, "customer_agent"),
    ("root", 14, "admin"),
    ("vbs", 15, "virtual_browser"),
];

pub(crate) fn options() -> CardsavrOptions {
    let mut users = serde_json::Map::new();
    for (name, id, role) in USERS {
        let key = hash_password(name, &format!("pw-{name}"));
        users.insert(
            name.to_owned(),
            json!({"id": id, "role": role, "password_key": key}),
        );
    }
    let said = json!({"integrators": {APP: {"key": KEY, "old_keys": ["YWJj"]}}, "users": users});
    serde_json::from_value(said).expect("good options")
}

/// Two instances.
pub(crate) async fn cluster(changes: impl Fn(&mut CardsavrOptions)) -> Result<Cluster> {
    let setup = Setup {
        logs: Logs::from_env(),
        ..Setup::default()
    };
    let adapter = || {
        let mut options = options();
        changes(&mut options);
        Cardsavr::new(&options).expect("a good adapter")
    };
    Cluster::start(|| Box::new(adapter()), setup).await
}

pub(crate) fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since_1970.expect("later than 1970").as_millis()).expect("fits")
}

/// The instances in turn.
#[derive(Debug)]
pub(crate) struct Turns {
    addresses: Vec<SocketAddr>,
    next: AtomicUsize,
}

impl Turns {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let addresses = cluster.instances().iter().map(|one| one.address());
        Self::at(addresses.collect())
    }

    pub(crate) fn at(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            next: AtomicUsize::new(0),
        }
    }

    /// The next one's address.
    pub(crate) fn next(&self) -> SocketAddr {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.addresses[turn % self.addresses.len()]
    }

    pub(crate) async fn send(&self, request: &Request) -> Result<Answer> {
        send(self.next(), request).await
    }
}

/// As it goes over the wire.
pub(crate) fn wired(prepared: &Prepared) -> Request {
    let mut request = Request::new(prepared.method.as_str(), prepared.target.clone());
    request.body = prepared.body.clone();
    for (name, value) in &prepared.headers {
        request = request.header(name.as_str(), value.to_str().expect("text"));
    }
    request
}

/// A client whose requests alternate between the instances.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) turns: &'a Turns,
    pub(crate) client: Client,
}

impl<'a> Caller<'a> {
    pub(crate) async fn new(turns: &'a Turns, username: &str) -> Result<Self> {
        let client = Client::new(APP, KEY)?;
        Self::with(turns, client, username).await
    }

    pub(crate) async fn with(turns: &'a Turns, client: Client, username: &str) -> Result<Self> {
        let mut caller = Self { turns, client };
        let password = format!("pw-{username}");
        caller.login(username, &password).await??;
        Ok(caller)
    }

    pub(crate) async fn login(
        &mut self,
        username: &str,
        password: &str,
    ) -> Result<Result<Reply, ClientError>> {
        let (prepared, login) = self.client.login(username, password, now_ms())?;
        let answer = self.turns.send(&wired(&prepared)).await?;
        let status = StatusCode::from_u16(answer.status)?;
        let read = self
            .client
            .logged_in(&login, status, &answer.headers, &answer.body);
        Ok(read)
    }

    pub(crate) fn prepare(&self, method: Method, target: &str, body: Option<&Value>) -> Prepared {
        let prepared = self.client.prepare(method, target, body, &[], now_ms());
        prepared.expect("a request")
    }

    /// What came back, as it is on the wire.
    pub(crate) async fn raw(&self, prepared: &Prepared) -> Result<Answer> {
        self.turns.send(&wired(prepared)).await
    }

    pub(crate) fn read(&self, target: &str, answer: &Answer) -> Result<Reply, ClientError> {
        let status = StatusCode::from_u16(answer.status).expect("a status");
        self.client
            .read(target, status, &answer.headers, &answer.body)
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Result<Reply, ClientError>> {
        let answer = self.raw(&self.prepare(method, target, body)).await?;
        Ok(self.read(target, &answer))
    }

    pub(crate) async fn get(&self, target: &str) -> Result<Result<Reply, ClientError>> {
        self.call(Method::GET, target, None).await
    }

    /// A call that every session may make.
    pub(crate) async fn refresh(&self) -> Result<Result<Reply, ClientError>> {
        let body = json!({});
        self.call(Method::PUT, "/session/refresh", Some(&body))
            .await
    }
}

/// The status and the body of a refusal.
pub(crate) fn refusal(result: Result<Reply, ClientError>) -> Result<(u16, Value)> {
    match result {
        Err(ClientError::Refused { status, body }) => Ok((status.as_u16(), body)),
        Err(other) => Err(other).context("not a refusal"),
        Ok(reply) => bail!("taken: {reply:?}"),
    }
}

/// Whether a refusal has the documented shape: every field is there, and a text.
pub(crate) fn is_documented(body: &Value) -> bool {
    let first = &body["_errors"][0];
    let fields = [
        "name",
        "message",
        "property",
        "entity_name",
        "property_name",
    ];
    body["message"].is_string() && fields.iter().all(|field| first[field].is_string())
}
