//! A client that sends its requests itself.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tidings_adapter::http::uri::{Authority, PathAndQuery, Scheme};
use tidings_adapter::http::{Method, Uri};
use tidings_adapter::outside::{self, Outside};

use super::{Client, ClientError, Prepared, Reply};

/// A [`Client`] at one server.
#[derive(Clone)]
pub struct Remote {
    outside: Outside,
    scheme: Scheme,
    authority: Authority,
    client: Client,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("authority", &self.authority)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// A client at a server, by its origin, e.g. `https://127.0.0.1:8443`. A path is not looked at:
    /// the protocol's paths begin at the root.
    ///
    /// # Errors
    /// [`ClientError::Unfit`].
    pub fn new(outside: Outside, origin: &Uri, client: Client) -> Result<Self, ClientError> {
        let unfit = ClientError::Unfit("not an http:// or https:// address");
        let (scheme, authority) = (origin.scheme(), origin.authority());
        Ok(Self {
            outside,
            scheme: scheme.ok_or_else(|| unfit.clone())?.clone(),
            authority: authority.ok_or(unfit)?.clone(),
            client,
        })
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn login(&mut self, username: &str, password: &str) -> Result<Reply, ClientError> {
        let (prepared, login) = self.client.login(username, password, now_ms())?;
        let answer = self.send(prepared).await?;
        let (status, headers) = (answer.status, &answer.headers);
        self.client.logged_in(&login, status, headers, &answer.body)
    }

    /// One call. Never tried again: whether a request whose reply did not come was carried out is
    /// not known.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, ClientError> {
        let prepared = self
            .client
            .prepare(method, target, body, headers, now_ms())?;
        let answer = self.send(prepared).await?;
        let (status, headers) = (answer.status, &answer.headers);
        self.client.read(target, status, headers, &answer.body)
    }

    /// What it signs and encrypts with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn send(&self, prepared: Prepared) -> Result<outside::Answer, ClientError> {
        let unfit = |_| ClientError::Unfit("not a path that can be called");
        let path = PathAndQuery::try_from(prepared.target).map_err(unfit)?;
        let url = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build();
        let call = outside::Call {
            method: prepared.method,
            url: url.map_err(|_| ClientError::Unfit("not an address that can be called"))?,
            headers: prepared.headers,
            body: prepared.body,
        };
        Ok(self.outside.call(call).await?)
    }
}

/// What nonces are made of.
fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
